"""The metrics of one gateway and the registry that holds them; ``specs`` lists them.

``prometheus_client`` directly rather than the OpenTelemetry exporter, because that one has no exemplars.
"""

from __future__ import annotations

import platform
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping

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
    age_s: float
    results: Mapping[str, int]
    refused: int  # answers 401 after which nothing more was sent
    sent_again: int


class SessionStats(msgspec.Struct, frozen=True, kw_only=True):
    """What the state says of sessions when metrics are scraped."""

    live: int = 0
    opened: Mapping[str, int] = {}  # by whom
    exceeded: Mapping[tuple[str, str], int] = {}  # by scope and metric


class Metrics(Collector):
    """The series of one gateway, in a registry of their own: two gateways in a process do not mix."""

    def __init__(self, *, version: str, max_tool_labels: int = 200) -> None:
        collapsed = Counters(
            specs.COLLAPSED, ((label,) for label in ("server", "tool", "rule_id", "code", "surface"))
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
        self.trips = Counters(
            specs.TRIPS,
            (
                (detector, stage, "yes")
                for detector in specs.BREAKER_DETECTORS
                for stage in ("open", "guarded")
                if detector != "person"
            ),
        )
        self._issuer_keys = Gauges(specs.ISSUER_KEYS)
        self._issuer_fetched = Gauges(specs.ISSUER_FETCHED)
        build = Gauges(specs.BUILD)
        build[(version, platform.python_version())] = 1
        self._credentials = Gauges(specs.CREDENTIALS)
        self._credential_age = Gauges(specs.CREDENTIAL_AGE)
        self._credential_reads = Counters(specs.CREDENTIAL_READS)
        self._unauthorized = Counters(specs.UNAUTHORIZED)
        self._credential_source: Callable[[], Iterable[CredentialStats]] = tuple
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
            self._credentials,
            self._credential_age,
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
            self._quarantined,
            self.pin_events,
            self._approval_events,
            self._approvals,
            self._envelopes,
            self._approval_seconds,
            self._issuer_keys,
            self._issuer_fetched,
            self.trips,
            collapsed,
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
        sessions = self._sessions()
        self._sessions_live[()] = sessions.live
        for by, number in sessions.opened.items():
            self._sessions_opened[(by,)].value = number
        for where, number in sessions.exceeded.items():
            if where in self._budget_refusals:  # the labels stay those that were declared
                self._budget_refusals[where].value = number
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
        for family in self._families:
            yield family.collect()

    def _collect_credentials(self) -> None:
        """Values are set, not added to: two scrapes at once would count twice."""
        states: dict[Key, float] = defaultdict(float)
        ages: dict[Key, float] = defaultdict(float)
        reads: dict[Key, float] = defaultdict(float)
        unauthorized: dict[Key, float] = defaultdict(float)
        for found in self._credential_source():
            upstream = self.server[found.upstream]
            for state, secrets in found.states.items():
                states[(upstream, state)] += secrets
            ages[(upstream,)] = max(ages[(upstream,)], found.age_s)
            for result, readings in found.results.items():
                reads[(upstream, result)] += readings
            unauthorized[(upstream, "yes")] += found.sent_again
            unauthorized[(upstream, "no")] += found.refused
        for gauges, values in ((self._credentials, states), (self._credential_age, ages)):
            gauges.drop(set(gauges) - set(values))  # what a reload took away must not be shown as it was
            gauges.update(values)
        for counters, values in ((self._credential_reads, reads), (self._unauthorized, unauthorized)):
            counters.drop(set(counters) - set(values))
            for key, value in values.items():
                counters[key].value = value

    # -- what may be named --------------------------------------------------------------------------------

    def declare_upstreams(self, names: Iterable[str]) -> None:
        """The configured upstreams; series of those that went are dropped."""
        gone = set(self.server.declare(names))
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

    def declare_codes(self, codes: Iterable[str]) -> None:
        """Reason codes the active bundle declares, beside the gateway's own."""
        self.refusals.drop((code,) for code in self.code.declare((*REASONS, *codes)))

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

    def watch_records(self, sink: str, stats: Callable[[], RecordStats]) -> None:
        """Ask ``stats`` at each scrape, so that counting records costs a call nothing."""
        self._sources[sink] = stats

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

    def approvals_waiting(self, counted: Mapping[str, int]) -> None:
        """How many approvals are in each state that is not over."""
        for state in specs.APPROVALS_WAITING:
            self._approvals[(state,)] = counted.get(state, 0)

    def tripped(self, detector: str, after: str, observed: bool) -> None:
        """A breaker moved, or would have."""
        known = detector if detector in specs.BREAKER_DETECTORS else OTHER
        self.trips[(known, after, "no" if observed else "yes")].value += 1

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
