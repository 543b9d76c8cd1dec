"""The metrics of one gateway and the registry that holds them; ``specs`` lists them.

``prometheus_client`` directly rather than the OpenTelemetry exporter, because that one has no exemplars.
"""

from __future__ import annotations

import platform
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Protocol

import msgspec
from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector
from prometheus_client.core import Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from gateway.reasons import REASONS
from gateway.telemetry import specs
from gateway.telemetry.cardinality import OTHER, Guard
from gateway.telemetry.series import Counters, Gauges, Histograms, Key


class RecordStats(msgspec.Struct, frozen=True, kw_only=True):
    """What a journal says of itself when metrics are scraped."""

    written: int = 0
    dropped: Mapping[str, int] = {}  # by reason
    queue_length: int = 0
    last_write_s: float = 0.0  # seconds since the epoch, 0 when nothing was written yet


class CredentialStats(msgspec.Struct, frozen=True, kw_only=True):
    """What an upstream's secrets say of themselves when metrics are scraped."""

    upstream: str
    states: Mapping[str, int]
    verified_s: float  # since the epoch, of the stalest; 0 when none is in use
    results: Mapping[str, int]
    refused: int  # answers 401 after which nothing more was sent
    sent_again: int


class SessionStats(msgspec.Struct, frozen=True, kw_only=True):
    """What the state says of sessions when metrics are scraped."""

    live: int = 0
    opened: Mapping[str, int] = {}  # by whom
    exceeded: Mapping[tuple[str, str], int] = {}  # by scope and metric


class Delivered(Protocol):
    """How one webhook or channel does."""

    @property
    def name(self) -> str: ...

    @property
    def results(self) -> Mapping[str, int]: ...

    @property
    def waiting(self) -> int: ...

    @property
    def last_s(self) -> float: ...


class RuleReviews(msgspec.Struct, frozen=True, kw_only=True):
    """How people decide what one rule asks them."""

    rule: str
    ratio: float | None  # approved of decided
    median_s: float | None  # of approvals
    alarm: bool


class Metrics(Collector):
    """The series of one gateway, in a registry of their own: two gateways in a process do not mix."""

    def __init__(self, *, version: str, max_tool_labels: int = 200) -> None:
        collapsed = Counters(
            specs.COLLAPSED, ((label,) for label in ("server", "tool", "rule_id", "code", "surface", "chain"))
        )
        self.surface: Guard[str] = Guard(len(specs.SURFACES), OTHER, collapsed[("surface",)])
        self.surface.declare(specs.SURFACES)
        self.server: Guard[str] = Guard(specs.UPSTREAM_CAP, OTHER, collapsed[("server",)])
        self.tool: Guard[tuple[str, str]] = Guard(max_tool_labels, (OTHER, OTHER), collapsed[("tool",)])
        self.rule: Guard[str] = Guard(specs.RULE_CAP, OTHER, collapsed[("rule_id",)])
        self.code: Guard[str] = Guard(specs.CODE_CAP, OTHER, collapsed[("code",)])
        self.code.declare(REASONS)

        # Series known ahead start at zero: an alert on the first increase needs something to rise from.
        self.requests = Counters(specs.REQUESTS, (("mcp", outcome) for outcome in specs.OUTCOMES))
        self.request_seconds = Histograms(specs.REQUEST_SECONDS, [("mcp",)])
        self.overhead_seconds = Histograms(specs.OVERHEAD_SECONDS, [("mcp",)])
        self.in_progress = Gauges(specs.IN_PROGRESS, [("mcp",)])
        self.refusals = Counters(specs.REFUSALS, ((code,) for code in REASONS))
        self.auth_failures = Counters(specs.AUTH_FAILURES, ((reason,) for reason in specs.AUTH_REASONS))
        self.tool_calls = Counters(specs.TOOL_CALLS)
        self.upstream_requests = Counters(specs.UPSTREAM_REQUESTS)
        self.upstream_seconds = Histograms(specs.UPSTREAM_SECONDS)
        self.settled = Counters(specs.SETTLED)
        self.open_decisions = Gauges(specs.OPEN, [()])
        self._sessions_live = Gauges(specs.SESSIONS_LIVE, [()])
        self._sessions_opened = Counters(specs.SESSIONS_OPENED, ((by,) for by in specs.SESSION_OPENERS))
        self._budget_refusals = Counters(
            specs.BUDGET_REFUSALS,
            ((scope, metric) for scope in specs.BUDGET_SCOPES for metric in specs.BUDGET_METRICS),
        )
        self._sessions: Callable[[], SessionStats] = SessionStats
        self.verifications = Counters(specs.VERIFICATIONS, ((result,) for result in specs.VERIFIED_AS))
        self.reconciliations = Counters(specs.RECONCILIATIONS, ((each,) for each in specs.RECONCILED_AS))
        self.policy_decisions = Counters(specs.POLICY_DECISIONS)
        self.rule_hits = Counters(specs.RULE_HITS)
        self.policy_seconds = Histograms(specs.POLICY_SECONDS)
        self.policy_errors = Counters(
            specs.POLICY_ERRORS, (("embedded", code) for code in (*specs.POLICY_FAULTS, "observed"))
        )
        self.unenforced = Counters(
            specs.UNENFORCED, ((stage, reason) for stage in specs.STAGES for reason in specs.NOT_ENFORCED)
        )
        self.spans = Counters(specs.SPANS, ((result,) for result in ("exported", "failed", "dropped")))
        self._records = Counters(specs.RECORDS)
        self._dropped = Counters(specs.RECORDS_DROPPED)
        self._queue = Gauges(specs.RECORD_QUEUE)
        self._last_write = Gauges(specs.RECORD_LAST)
        self._activations = Counters(specs.ACTIVATIONS, [("success",), ("failure",)])
        self._activated = Gauges(specs.ACTIVATED)
        self._bundle = Gauges(specs.BUNDLE)
        self.bundle_checks = Counters(specs.BUNDLE_CHECKS, ((result,) for result in specs.BUNDLE_RESULTS))
        self._bundle_verified = Gauges(specs.BUNDLE_VERIFIED)
        self._shadow = Counters(specs.SHADOW, ((result,) for result in specs.SHADOW_RESULTS))
        self._rollout: Callable[[], tuple[Mapping[str, int], float | None]] = lambda: ({}, None)
        self._quarantined = Gauges(specs.QUARANTINED)
        self.pin_events = Counters(specs.PIN_EVENTS)
        self._approval_events = Counters(specs.APPROVAL_EVENT, ((event,) for event in specs.APPROVAL_EVENTS))
        self._approvals = Gauges(specs.APPROVALS, ((state,) for state in specs.APPROVALS_WAITING))
        self._envelopes = Gauges(specs.ENVELOPES, [()])
        self._approval_seconds = Histograms(specs.APPROVAL_SECONDS, [("approved",), ("rejected",)])
        self._reviews = Counters(
            specs.REVIEWS,
            ((said, kind) for said in specs.REVIEW_DECISIONS for kind in specs.REVIEW_KINDS),
        )
        self._review_seconds = Histograms(specs.REVIEW_SECONDS, [(said,) for said in specs.REVIEW_DECISIONS])
        self._incidents = Counters(specs.REVIEW_INCIDENTS, [()])
        self._reviewers = Gauges(specs.REVIEWERS, ((state,) for state in specs.REVIEWER_STATES))
        self._rule_ratio = Gauges(specs.RULE_APPROVAL_RATIO)
        self._rule_median = Gauges(specs.RULE_REVIEW_MEDIAN)
        self._rule_alarm = Gauges(specs.RULE_REVIEW_ALARM)
        self._autonomy = Gauges(specs.AUTONOMY)
        self.chain: Guard[str] = Guard(specs.CHAIN_CAP, OTHER, collapsed[("chain",)])
        self._pending = Gauges(specs.APPROVALS_PENDING)
        self._oldest = Gauges(specs.APPROVALS_OLDEST)
        self._notifications = Counters(specs.NOTIFICATIONS)
        self._notification_queue = Gauges(specs.NOTIFICATION_QUEUE)
        self._notified = Gauges(specs.NOTIFIED)
        self._deliveries: Callable[[], Iterable[Delivered]] = tuple
        self.trips = Counters(
            specs.TRIPS,
            (
                (detector, stage, "yes")
                for detector in specs.BREAKER_DETECTORS
                for stage in ("open", "guarded")
                if detector != "person"
            ),
        )
        self.breakers = Gauges(
            specs.BREAKERS,
            ((scope, stage) for scope in specs.BREAKER_SCOPES for stage in specs.BREAKER_STAGES),
        )
        self.kills = Gauges(specs.KILLS, ((scope,) for scope in specs.KILL_SCOPES))
        self.upstream_up = Gauges(specs.UPSTREAM_UP)
        self.in_doubt = Gauges(specs.IN_DOUBT, [()])
        self.candidate = Gauges(specs.CANDIDATE, [()])
        self.modules = Gauges(specs.MODULES, ((mode,) for mode in specs.MODES))
        self.traces = Counters(
            specs.TRACES, ((because,) for because in (*specs.TRACED_BECAUSE, specs.NOT_TRACED))
        )
        self._trust_evidence = Counters(
            specs.TRUST_EVIDENCE, ((each,) for each in (*specs.TRUST_OUTCOMES, *specs.TRUST_LEFT))
        )
        self._trust_moves = Counters(specs.TRUST_MOVES, ((cause,) for cause in specs.TRUST_CAUSES))
        self._trust_tiers = Gauges(specs.TRUST_TIERS)
        self._trust: Callable[[], Mapping[int, int]] = dict
        self._issuer_keys = Gauges(specs.ISSUER_KEYS)
        self._issuer_fetched = Gauges(specs.ISSUER_FETCHED)
        build = Gauges(specs.BUILD)
        build[(version, platform.python_version())] = 1
        self._credentials = Gauges(specs.CREDENTIALS)
        self._credential_seen = Gauges(specs.CREDENTIAL_SEEN)
        self._credential_reads = Counters(specs.CREDENTIAL_READS)
        self._unauthorized = Counters(specs.UNAUTHORIZED)
        self._credential_source: Callable[[], Iterable[CredentialStats]] = tuple
        self._watched: list[tuple[Gauges, Callable[[], Mapping[Key, float]]]] = []
        self._sources: dict[str, Callable[[], RecordStats]] = {}
        self._held: Callable[[], Mapping[tuple[str, str], int]] | None = None
        self._issuers: Callable[[], Iterable[tuple[str, int, float]]] = tuple
        self._families = (
            self.requests,
            self.request_seconds,
            self.overhead_seconds,
            self.in_progress,
            self.refusals,
            self.auth_failures,
            self.tool_calls,
            self.upstream_requests,
            self.upstream_seconds,
            self.upstream_up,
            self.in_doubt,
            self._credentials,
            self._credential_seen,
            self._credential_reads,
            self._unauthorized,
            self.settled,
            self.open_decisions,
            self._sessions_live,
            self._sessions_opened,
            self._budget_refusals,
            self.verifications,
            self.reconciliations,
            self.policy_decisions,
            self.rule_hits,
            self.policy_seconds,
            self.policy_errors,
            self.unenforced,
            self._records,
            self._dropped,
            self._queue,
            self._last_write,
            self._activations,
            self._activated,
            self._bundle,
            self.bundle_checks,
            self._bundle_verified,
            self._shadow,
            self.candidate,
            self.modules,
            self._quarantined,
            self.pin_events,
            self._approval_events,
            self._approvals,
            self._envelopes,
            self._approval_seconds,
            self._reviews,
            self._review_seconds,
            self._incidents,
            self._reviewers,
            self._rule_ratio,
            self._rule_median,
            self._rule_alarm,
            self._autonomy,
            self._pending,
            self._oldest,
            self._notifications,
            self._notification_queue,
            self._notified,
            self._issuer_keys,
            self._issuer_fetched,
            self.trips,
            self.breakers,
            self.kills,
            self._trust_evidence,
            self._trust_moves,
            self._trust_tiers,
            collapsed,
            self.traces,
            self.spans,
            build,
        )
        self.registry = CollectorRegistry(auto_describe=False)
        self.registry.register(self)
        ProcessCollector(registry=self.registry)
        PlatformCollector(registry=self.registry)
        GCCollector(registry=self.registry)

    def collect(self) -> Iterator[Metric]:
        """All families, for the registry; asks the journals first."""
        for sink, source in self._sources.items():
            stats = source()
            self._records[(sink,)].value = stats.written
            for reason in specs.DROP_REASONS:
                self._dropped[(sink, reason)].value = stats.dropped.get(reason, 0)
            self._queue[(sink,)] = stats.queue_length
            self._last_write[(sink,)] = stats.last_write_s
        self._collect_credentials()
        self._collect_deliveries()
        sessions = self._sessions()
        self._sessions_live[()] = sessions.live
        for by, number in sessions.opened.items():
            self._sessions_opened[(by,)].value = number
        for where, number in sessions.exceeded.items():
            if where in self._budget_refusals:  # the labels stay those that were declared
                self._budget_refusals[where].value = number
        for tier, agents in self._trust().items():
            self._trust_tiers[(str(tier),)] = agents
        tried, verified_s = self._rollout()
        for result, calls in tried.items():
            self._shadow[(result,)].value = calls
        self._bundle_verified.clear()
        if verified_s is not None:
            self._bundle_verified[()] = verified_s
        if self._held is not None:
            held = self._held()
            for key in list(self._quarantined):
                self._quarantined[key] = 0
            for (upstream, state), entries in held.items():
                self._quarantined[(upstream, state)] = entries
        self._issuer_keys.clear()
        self._issuer_fetched.clear()
        for issuer, keys, fetched_s in self._issuers():
            self._issuer_keys[(issuer,)] = keys
            self._issuer_fetched[(issuer,)] = fetched_s
        for gauges, found in self._watched:
            gauges.replace(found())
        for family in self._families:
            yield family.collect()

    def _collect_credentials(self) -> None:
        """Values are set, not added to: two scrapes at once would count twice."""
        states: dict[Key, float] = defaultdict(float)
        seen: dict[Key, float] = {}
        reads: dict[Key, float] = defaultdict(float)
        unauthorized: dict[Key, float] = defaultdict(float)
        for found in self._credential_source():
            upstream = self.server[found.upstream]
            for state, secrets in found.states.items():
                states[(upstream, state)] += secrets
            if found.verified_s:
                seen[(upstream,)] = min(seen.get((upstream,), found.verified_s), found.verified_s)
            for result, readings in found.results.items():
                reads[(upstream, result)] += readings
            unauthorized[(upstream, "yes")] += found.sent_again
            unauthorized[(upstream, "no")] += found.refused
        self._credentials.replace(states)  # what a reload took away must not be shown as it was
        self._credential_seen.replace(seen)
        for counters, values in ((self._credential_reads, reads), (self._unauthorized, unauthorized)):
            counters.drop(set(counters) - set(values))
            for key, value in values.items():
                counters[key].value = value

    def _collect_deliveries(self) -> None:
        """What a reload took away is not shown any more; what it changed begins again."""
        for family in (self._notifications, self._notification_queue, self._notified):
            family.clear()
        for found in self._deliveries():
            for result in specs.DELIVERY_RESULTS:
                self._notifications[(found.name, result)].value += found.results.get(result, 0)
            self._notification_queue[(found.name,)] += found.waiting
            self._notified[(found.name,)] = max(self._notified[(found.name,)], found.last_s)

    # -- what may be named --------------------------------------------------------------------------------

    def declare_upstreams(self, names: Iterable[str]) -> None:
        """The configured upstreams; series of those that went are dropped."""
        gone = set(self.server.declare(names))
        for name in self.server:
            for result in specs.UPSTREAM_WATCHED:  # alerts need a zero to rise from
                self.upstream_requests[(name, result)]
        if gone:
            counted = (
                self.upstream_requests, self.upstream_seconds, self.tool_calls, self.settled, self.pin_events,
            )  # fmt: skip
            for family in (*counted, self._quarantined):
                family.drop([key for key in family if key[0] in gone])

    def declare_tools(self, names: Iterable[tuple[str, str]]) -> None:
        """``(upstream, tool)`` of the loaded catalog, in its order; up to ``max_tool_labels`` are named."""
        for server, tool in self.tool.declare(names):
            self.tool_calls.drop((server, tool, action) for action in specs.ACTIONS)

    def declare_rules(self, ids: Iterable[str]) -> None:
        """Module ids of the active bundle."""
        self.rule_hits.drop((rule,) for rule in self.rule.declare(ids))
        for rule in self.rule:
            self.rule_hits[(rule,)]  # a rule that never hits is worth seeing

    def declare_codes(self, codes: Iterable[str]) -> None:
        """Reason codes the active bundle declares, beside the gateway's own."""
        self.refusals.drop((code,) for code in self.code.declare((*REASONS, *codes)))

    def declare_chains(self, names: Iterable[str]) -> None:
        """The configured chains of approvals; those nobody waits in are shown with zero."""
        self.chain.declare(names)

    # -- what happens rarely ------------------------------------------------------------------------------

    def bundle_activated(self, revision: str, at_s: float) -> None:
        """A policy revision became the active one; the series of the one before is removed."""
        self._activations[("success",)].value += 1
        self._activated[()] = at_s
        self._bundle.clear()
        self._bundle[(revision,)] = 1

    def verified(self, result: str) -> None:
        """A verification is over."""
        self.verifications[(result,)].value += 1

    def reconciled(self, result: str) -> None:
        """Reads have said, or could not say, what became of a call in doubt."""
        self.reconciliations[(result,)].value += 1

    def bundle_failed(self) -> None:
        """Policy could not be loaded; the last good revision stays active."""
        self._activations[("failure",)].value += 1

    def bundle_checked(self, result: str) -> None:
        """The source of the policy was asked, and this came of it."""
        self.bundle_checks[(result,)].value += 1

    def watch_rollout(self, source: Callable[[], tuple[Mapping[str, int], float | None]]) -> None:
        """Ask ``source`` at each scrape: calls tried by result, and when the url was last verified."""
        self._rollout = source

    def spans_counted(self, result: str, spans: int) -> None:
        """What became of spans: ``exported``, ``failed`` (by the exporter's thread) or ``dropped``."""
        self.spans[(result,)].value += spans

    def traced(self, because: str) -> None:
        """A call is traced, or should have been."""
        self.traces[(because,)].value += 1

    def watch_records(self, sink: str, stats: Callable[[], RecordStats]) -> None:
        """Ask ``stats`` at each scrape, so that counting records costs a call nothing."""
        self._sources[sink] = stats

    def watch_deliveries(self, source: Callable[[], Iterable[Delivered]]) -> None:
        """Ask ``source`` at each scrape how the webhooks and channels do."""
        self._deliveries = source

    def watch_credentials(self, source: Callable[[], Iterable[CredentialStats]]) -> None:
        """Ask ``source`` at each scrape how the secrets for upstreams do."""
        self._credential_source = source

    def watch_pins(self, held: Callable[[], Mapping[tuple[str, str], int]]) -> None:
        """Ask ``held`` at each scrape how many entries are in quarantine, by upstream and state."""
        self._held = held

    def pin_event(self, upstream: str, event: str, times: int) -> None:
        """Something happened to definitions of an upstream."""
        known = event if event in specs.PIN_EVENT_NAMES else OTHER
        self.pin_events[(self.server[upstream], known)].value += times

    def approval_event(self, event: str) -> None:
        """Something happened to an approval."""
        self._approval_events[(event if event in specs.APPROVAL_EVENTS else OTHER,)].value += 1

    def approval_decided(self, decision: str, seconds: float) -> None:
        """A vote decided an approval, so long after it was opened."""
        if (decision,) in self._approval_seconds:
            self._approval_seconds[(decision,)].observe(seconds)

    def envelopes_open(self, number: int) -> None:
        """How many break-glass envelopes are open."""
        self._envelopes[()] = number

    def approvals_waiting(
        self, counted: Mapping[str, int], pending: Iterable[tuple[str, int, float]] = ()
    ) -> None:
        """How many approvals are in each state that is not over.

        ``pending`` are those that wait for people: chain, how many, and when the oldest was opened (seconds
        since the epoch).
        """
        for state in specs.APPROVALS_WAITING:
            self._approvals[(state,)] = counted.get(state, 0)
        waiting: dict[Key, float] = {(name,): 0.0 for name in self.chain}
        oldest: dict[Key, float] = {}
        for chain, number, opened_s in pending:
            key = (self.chain[chain],)
            waiting[key] = waiting.get(key, 0.0) + number
            oldest[key] = min(oldest.get(key, opened_s), opened_s)
        self._pending.replace(waiting)
        self._oldest.replace(oldest)

    def watch(self, gauges: Gauges, source: Callable[[], Mapping[Key, float]]) -> None:
        """Ask ``source`` at each scrape for every series of one gauge. It runs in a thread of its own."""
        self._watched.append((gauges, source))

    def reviewed(self, decision: str, kind: str, seconds: float) -> None:
        """A person voted; ``seconds`` is the most they can have spent on it."""
        if (decision, kind) in self._reviews:
            self._reviews[(decision, kind)].value += 1
            if kind != "canary":
                self._review_seconds[(decision,)].observe(seconds)

    def incident(self) -> None:
        """An approved call was reported to be wrong."""
        self._incidents[()].value += 1

    def reviewing(
        self, people: Mapping[str, int], rules: Iterable[RuleReviews], autonomy: float | None
    ) -> None:
        """How people review at the moment, of all tenants; names of people are not for metrics."""
        for state in specs.REVIEWER_STATES:
            self._reviewers[(state,)] = people.get(state, 0)
        for family in (self._rule_ratio, self._rule_median, self._rule_alarm, self._autonomy):
            family.clear()
        for each in rules:
            key = (self.rule[each.rule],)
            self._rule_alarm[key] = max(self._rule_alarm.get(key, 0), float(each.alarm))
            if each.ratio is not None:
                self._rule_ratio[key] = max(self._rule_ratio.get(key, 0), each.ratio)
            if each.median_s is not None:
                self._rule_median[key] = min(self._rule_median.get(key, each.median_s), each.median_s)
        if autonomy is not None:
            self._autonomy[()] = autonomy

    def tripped(self, detector: str, after: str, observed: bool) -> None:
        """A breaker moved, or would have."""
        kind = detector.partition(":")[0]  # "score:<who posted it>"
        known = kind if kind in specs.BREAKER_DETECTORS else OTHER
        self.trips[(known, after, "no" if observed else "yes")].value += 1

    def trust_evidence(self, outcome: str, number: int) -> None:
        """Outcomes were taken into account, or left out for a reason."""
        self._trust_evidence[(outcome,)].value += number

    def trust_moved(self, cause: str) -> None:
        """A tier changed."""
        self._trust_moves[(cause,)].value += 1

    def watch_trust(self, holding: Callable[[], Mapping[int, int]]) -> None:
        """Ask ``holding`` at each scrape how many hold which tier."""
        self._trust = holding

    def watch_issuers(self, stats: Callable[[], Iterable[tuple[str, int, float]]]) -> None:
        """Ask ``stats`` at each scrape: name, usable keys and time of the last good fetch of each issuer."""
        self._issuers = stats

    def watch_sessions(self, stats: Callable[[], SessionStats]) -> None:
        """Ask ``stats`` at each scrape."""
        self._sessions = stats

    def render(self, accept: str) -> tuple[str, bytes]:
        """The scrape as ``(content type, body)``: OpenMetrics with exemplars when asked for, else text."""
        encode, content_type = choose_encoder(accept)
        return content_type, encode(self.registry)
