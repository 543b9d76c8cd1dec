"""Every metric there is, as a table.

``docs/reference/metrics.md`` is generated from ``SPECS``, and dashboards and alerts are tested against it.
No label ever carries an agent, a user, a session, a call id or any text of a call.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Literal, NamedTuple, get_args

from gateway.model import Kind
from gateway.reasons import REASONS, Party
from gateway.telemetry.cardinality import OTHER

FAST: Final = (50e-6, 100e-6, 250e-6, 500e-6, 1e-3, 2.5e-3, 5e-3, 10e-3, 50e-3, 250e-3)
CALL: Final = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0)

KINDS_WITHOUT_NAMES: Final = {kind: f"_{kind}" for kind in get_args(Kind) if kind != "tool"}
SURFACES: Final = ("mcp", "http", "extauthz", "hook", "verify", "admin")
ACTIONS: Final = ("allow", "modify", "hold", "block")
OUTCOMES: Final = (*ACTIONS, "error")
MODES: Final = ("observe", "warn", "enforce")
ENTRYPOINTS: Final = ("call", "result", "list", "trust")
ENGINES: Final = ("embedded", "opa")
BREAKER_STAGES: Final = ("throttled", "guarded", "half_open", "open", "forced_open")
BREAKER_SCOPES: Final = ("thread", "session", "agent", "tool", "upstream", "tree", "tenant")
KILL_SCOPES: Final = ("call", "session", "agent", "tool", "upstream", "tenant", "all")
STAGES: Final = ("list", "policy", "session", "approval", "result", "breaker", "trust")
NOT_ENFORCED: Final = ("fail_open", "disabled", "observe", "warn", "self_review", "envelope")
AUTH_REASONS: Final = (
    "no_credential",
    "bad_credential",
    "revoked_credential",
    "expired_credential",
    "not_yet_valid",
    "wrong_issuer",
    "wrong_audience",
    "unknown_agent",
    "insufficient_scope",
    "issuer_unavailable",
    "untrusted_proxy",
    "wrong_role",
)
UPSTREAM_RESULTS: Final = (
    "ok",
    "tool_error",
    "rpc_error",
    "input_required",
    "input_refused",
    "cancelled",
    "result_too_large",
    "credential_unavailable",
    "credential_refused",
    *(code for code, reason in REASONS.items() if reason.party is Party.UPSTREAM),
    OTHER,
)
UPSTREAM_WATCHED: Final = ("ok", "upstream_unavailable", "upstream_timeout", "upstream_lost")
SETTLED_AS: Final = ("ok", "tool_error", "failed", "not_sent", "in_doubt", "unobserved")
VERIFIED_AS: Final = ("verified", "refuted", "unknown")
RECONCILED_AS: Final = ("done", "not_done", "unknown")
POLICY_FAULTS: Final = (
    "policy_error",
    "policy_undefined",
    "policy_bad_shape",
    "policy_unavailable",
    "policy_timeout",
    "policy_mismatch",
    "undeclared_code",
    "obligation_conflict",
)
FAULTS: Final = frozenset(POLICY_FAULTS) | {
    code for code, reason in REASONS.items() if reason.party is Party.GATEWAY and reason.unavailable
}
"""Codes of refusals that are not a decision about the call but our failure to make one: outcome ``error``."""

SESSION_OPENERS: Final = ("agent", "operator", "token")
BUDGET_SCOPES: Final = ("session", "tree", "agent", "tenant")
BUDGET_METRICS: Final = (
    "calls", "writes", "irreversible", "cost_micro_usd", "bytes_out", "wall_s", "reservations",
)  # fmt: skip
PIN_STATES: Final = ("new", "changed", "returned", "rejected")
PIN_EVENT_NAMES: Final = (
    "first",
    "added",
    "changed",
    "restored",
    "removed",
    "returned",
    "renamed",
    "suspicious",
    "shadowing",
    "accepted",
    "rejected",
    "overflow",
)
APPROVAL_EVENTS: Final = (
    "opened",
    "approved",
    "rejected",
    "cancelled",
    "superseded",
    "expired",
    "recovering",
    "in_doubt",
    "executed",
    "failed",
    "reminded",
    "escalated",
    "discharged",
    "envelope_asked",
    "envelope_opened",
    "envelope_closed",
    "asked",
    "answered",
    "granted",
    "incident",
    "refused",
)
DELIVERY_RESULTS: Final = ("delivered", "failed", "retried", "dropped")
REVIEW_DECISIONS: Final = ("approve", "reject")
REVIEW_KINDS: Final = ("normal", "earning", "canary")
REVIEWER_STATES: Final = ("active", "alarm", "capped")
APPROVALS_WAITING: Final = ("pending", "approved", "executing", "recovering", "in_doubt")
BREAKER_DETECTORS: Final = (
    "errors", "denials", "rate", "surprise", "tools", "bytes", "cost", "places",
    "repeat", "no_progress", "cycle", "return", "denied", "cap", "canary", "health", "person",
    "score",
)  # fmt: skip
TRACED_BECAUSE: Final = ("caller", "ratio", "refused", "failed", "tripped", "approval")
NOT_TRACED: Final = "limited"
TRUST_OUTCOMES: Final = (
    "verified", "reconciled", "approved", "refuted", "edited", "rejected", "denied", "compensated", "tripped",
    "incident",
)  # fmt: skip
TRUST_LEFT: Final = ("known", "repeated", "enough")
TRUST_CAUSES: Final = (
    "promoted", "vouched", "pardoned", "incident", "trip", "failures", "faded", "expired", "elsewhere",
    "operator", "policy",
)  # fmt: skip
DROP_REASONS: Final = ("overflow", "oversize", "write_error")

BUNDLE_RESULTS: Final = ("unchanged", "activated", "waiting", "unreachable", "unverified", "refused")
SHADOW_RESULTS: Final = ("same", "tightened", "loosened", "changed", "error", "dropped")

CHAIN_CAP: Final = 100
RULE_CAP: Final = 500
CODE_CAP: Final = 500
UPSTREAM_CAP: Final = 1000


class Spec(NamedTuple):
    """One metric: ``labels`` maps each label to what bounds its values."""

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    help: str
    labels: Mapping[str, str] = {}
    buckets: tuple[float, ...] = ()
    exemplar: bool = False


_SURFACE: Final = "one of " + ", ".join(SURFACES)
REQUESTS: Final = Spec(
    "wardgate_requests_total",
    "counter",
    "Requests answered.",
    {"surface": _SURFACE, "outcome": "allow, modify, hold, block, or error when no decision could be made"},
    exemplar=True,
)
REQUEST_SECONDS: Final = Spec(
    "wardgate_request_duration_seconds",
    "histogram",
    "Time from the parsed request to its answer.",
    {"surface": _SURFACE},
    CALL,
    exemplar=True,
)
OVERHEAD_SECONDS: Final = Spec(
    "wardgate_overhead_seconds",
    "histogram",
    "The gateway's own share of that time, without waiting for the upstream.",
    {"surface": _SURFACE},
    FAST,
    exemplar=True,
)
IN_PROGRESS: Final = Spec("wardgate_requests_in_progress", "gauge", "Calls under way.", {"surface": _SURFACE})
REFUSALS: Final = Spec(
    "wardgate_refusals_total",
    "counter",
    "Requests refused, by reason code.",
    {"code": "reason codes of the gateway and those the policy bundle declares, up to 500"},
)
TOOL_CALLS: Final = Spec(
    "wardgate_tool_calls_total",
    "counter",
    "Calls decided, by tool and what was done.",
    {
        "server": "configured upstreams",
        "tool": "listed tools, up to telemetry.max_tool_labels; or "
        + ", ".join(KINDS_WITHOUT_NAMES.values()),
        "action": "allow, modify, hold or block",
    },
)
UPSTREAM_REQUESTS: Final = Spec(
    "wardgate_upstream_requests_total",
    "counter",
    "Calls sent to upstreams, by what came back.",
    {
        "upstream": "configured upstreams",
        "result": "ok, tool_error, rpc_error or the reason code of the failure",
    },
)
UPSTREAM_SECONDS: Final = Spec(
    "wardgate_upstream_duration_seconds",
    "histogram",
    "Time waited for an upstream.",
    {"upstream": "configured upstreams"},
    CALL,
    exemplar=True,
)
UPSTREAM_UP: Final = Spec(
    "wardgate_upstream_up",
    "gauge",
    "1 when the last exchange with the upstream, or the first contact, brought an answer and its lists are "
    "current, else 0.",
    {"upstream": "configured upstreams that calls are sent to"},
)
IN_DOUBT: Final = Spec(
    "wardgate_calls_in_doubt",
    "gauge",
    "Calls nobody knows the outcome of, of tools that are not idempotent; identical ones are refused until a "
    "person says what happened.",
)
CREDENTIALS: Final = Spec(
    "wardgate_upstream_credentials",
    "gauge",
    "Secrets for upstreams, by how they do: kept is the last good one of a source that fails.",
    {"upstream": "configured upstreams", "state": "ok, kept, unavailable"},
)
CREDENTIAL_SEEN: Final = Spec(
    "wardgate_upstream_credential_verified_timestamp_seconds",
    "gauge",
    "When the source of the stalest secret in use was last seen good; variables do not count.",
    {"upstream": "configured upstreams"},
)
CREDENTIAL_READS: Final = Spec(
    "wardgate_upstream_credential_refresh_total",
    "counter",
    "Readings of secrets, by what came of them. Starts again when upstreams are reloaded.",
    {"upstream": "configured upstreams", "result": "changed, unchanged, failed"},
)
UNAUTHORIZED: Final = Spec(
    "wardgate_upstream_unauthorized_total",
    "counter",
    "Answers 401 to a credential of the gateway. Starts again when upstreams are reloaded.",
    {"upstream": "configured upstreams", "sent_again": "yes (once, with another secret), no"},
)
SETTLED: Final = Spec(
    "wardgate_decisions_settled_total",
    "counter",
    "Decisions about tools that run elsewhere, by what became of the call.",
    {"upstream": "configured upstreams", "status": ", ".join(SETTLED_AS)},
)
OPEN: Final = Spec(
    "wardgate_decisions_open",
    "gauge",
    "Decisions about tools that run elsewhere whose outcome is still to come.",
)
SESSIONS_LIVE: Final = Spec(
    "wardgate_sessions_live",
    "gauge",
    "Sessions in memory; others are on disk.",
)
SESSIONS_OPENED: Final = Spec(
    "wardgate_sessions_opened_total",
    "counter",
    "Sessions opened on purpose, by whom: an agent, an operator, or whoever issued a token.",
    {"by": ", ".join(SESSION_OPENERS)},
)
BUDGET_REFUSALS: Final = Spec(
    "wardgate_budget_refusals_total",
    "counter",
    "Calls that a budget stood in the way of, also where policy is only observed.",
    {"scope": ", ".join(BUDGET_SCOPES), "metric": ", ".join(BUDGET_METRICS)},
)
VERIFICATIONS: Final = Spec(
    "wardgate_verifications_total",
    "counter",
    "Calls whose effect was to be verified by a read, by what the read said.",
    {"result": ", ".join(VERIFIED_AS)},
)
RECONCILIATIONS: Final = Spec(
    "wardgate_reconciliations_total",
    "counter",
    "Calls in doubt whose tool has a reconcile, by what its reads said in the end.",
    {"result": ", ".join(RECONCILED_AS)},
)
POLICY_DECISIONS: Final = Spec(
    "wardgate_policy_decisions_total",
    "counter",
    "Decisions of policy: the verdict is what it said, the action what was done.",
    {
        "entrypoint": "call, result, list, trust",
        "verdict": "allow, deny, escalate",
        "action": "allow, modify, hold, block",
        "mode": "observe, warn, enforce",
    },
    exemplar=True,
)
RULE_HITS: Final = Spec(
    "wardgate_policy_rule_hits_total",
    "counter",
    "Findings that rules contributed, also in observe and warn mode.",
    {"rule_id": "module ids of the loaded bundle, up to 500"},
)
POLICY_SECONDS: Final = Spec(
    "wardgate_policy_evaluation_seconds",
    "histogram",
    "Time of one policy evaluation.",
    {"engine": "embedded, opa"},
    FAST,
    exemplar=True,
)
POLICY_ERRORS: Final = Spec(
    "wardgate_policy_evaluation_errors_total",
    "counter",
    "Evaluations without a usable answer; each of them is a refusal.",
    {"engine": "embedded, opa", "reason": "the reason code, or observed for a module in observe mode"},
)
UNENFORCED: Final = Spec(
    "wardgate_unenforced_total",
    "counter",
    "Calls that went on although something would have stopped them. fail_open and disabled must stay 0.",
    {"stage": ", ".join(STAGES), "reason": ", ".join(NOT_ENFORCED)},
)
RECORDS: Final = Spec(
    "wardgate_decision_records_total",
    "counter",
    "Records written to the journal.",
    {"sink": "journals of this process"},
)
RECORDS_DROPPED: Final = Spec(
    "wardgate_decision_records_dropped_total",
    "counter",
    "Records lost; must stay 0.",
    {"sink": "journals of this process", "reason": ", ".join(DROP_REASONS)},
)
RECORD_QUEUE: Final = Spec(
    "wardgate_decision_records_queue_length",
    "gauge",
    "Records waiting for the disk.",
    {"sink": "journals of this process"},
)
RECORD_LAST: Final = Spec(
    "wardgate_decision_records_last_write_timestamp_seconds",
    "gauge",
    "When a record last reached the disk.",
    {"sink": "journals of this process"},
)
ACTIVATIONS: Final = Spec(
    "wardgate_bundle_activations_total", "counter", "Attempts to load policy.", {"result": "success, failure"}
)
ACTIVATED: Final = Spec(
    "wardgate_bundle_last_activation_timestamp_seconds", "gauge", "When policy was last loaded with success."
)
BUNDLE: Final = Spec(
    "wardgate_bundle_info",
    "gauge",
    "The active policy revision, as a label of a constant 1.",
    {"revision": "the active revision only"},
)
BUNDLE_CHECKS: Final = Spec(
    "wardgate_bundle_checks_total",
    "counter",
    "Questions to the source of a policy bundle, by what came of them.",
    {"result": ", ".join(BUNDLE_RESULTS)},
)
BUNDLE_VERIFIED: Final = Spec(
    "wardgate_bundle_source_verified_timestamp_seconds",
    "gauge",
    "When the url of the policy bundle was last verified to have what is in force; absent without a url.",
)
SHADOW: Final = Spec(
    "wardgate_policy_shadow_total",
    "counter",
    "Calls decided by a candidate policy too, by how they would have fared; dropped ones were not decided.",
    {"result": ", ".join(SHADOW_RESULTS)},
)
CANDIDATE: Final = Spec(
    "wardgate_policy_candidate_ratio",
    "gauge",
    "Share of calls that a candidate policy is tried on beside the one in force; 0 when there is none.",
)
MODULES: Final = Spec(
    "wardgate_policy_modules",
    "gauge",
    "Modules of the policy in force, by mode: what is only observed or warned about is visible here.",
    {"mode": "observe, warn, enforce"},
)
AUTH_FAILURES: Final = Spec(
    "wardgate_auth_failures_total",
    "counter",
    "Requests without a usable credential.",
    {"reason": ", ".join(AUTH_REASONS)},
)
QUARANTINED: Final = Spec(
    "wardgate_tools_quarantined",
    "gauge",
    "Tools, prompts and templates in quarantine: listed by an upstream, offered to nobody.",
    {"upstream": "configured upstreams", "state": ", ".join(PIN_STATES)},
)
PIN_EVENTS: Final = Spec(
    "wardgate_pin_events_total",
    "counter",
    "What happened to definitions of upstreams, once for each definition.",
    {"upstream": "configured upstreams", "event": ", ".join(PIN_EVENT_NAMES)},
)
APPROVAL_EVENT: Final = Spec(
    "wardgate_approval_events_total",
    "counter",
    "What happened to approvals; refused is a vote or another write that was not accepted.",
    {"event": ", ".join(APPROVAL_EVENTS)},
)
APPROVALS: Final = Spec(
    "wardgate_approvals",
    "gauge",
    "Approvals that are not over, by state; in_doubt ones wait for a person to say what happened.",
    {"state": ", ".join(APPROVALS_WAITING)},
)
ENVELOPES: Final = Spec(
    "wardgate_approval_envelopes_open",
    "gauge",
    "Break-glass envelopes that are open at this moment; each call they let through counts as unenforced.",
)
APPROVAL_SECONDS: Final = Spec(
    "wardgate_approval_decision_seconds",
    "histogram",
    "Time from the opening of an approval to the vote that decided it.",
    {"decision": "approved, rejected"},
    (1.0, 3.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1800.0, 3600.0, 14_400.0),
)
REVIEWS: Final = Spec(
    "wardgate_reviews_total",
    "counter",
    "Votes, by kind: earning is of agents that earn trust; who approves a canary did not look.",
    {"decision": ", ".join(REVIEW_DECISIONS), "kind": ", ".join(REVIEW_KINDS)},
)
REVIEW_SECONDS: Final = Spec(
    "wardgate_review_seconds",
    "histogram",
    "The most time a reviewer can have spent on a vote, canaries left out.",
    {"decision": ", ".join(REVIEW_DECISIONS)},
    (1.0, 3.0, 4.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1800.0, 3600.0),
)
REVIEW_INCIDENTS: Final = Spec(
    "wardgate_review_incidents_total", "counter", "Approved calls that were reported to be wrong afterwards."
)
REVIEWERS: Final = Spec(
    "wardgate_reviewers",
    "gauge",
    "People who reviewed within the window that is measured, and how many of them there is an alarm for.",
    {"state": ", ".join(REVIEWER_STATES)},
)
RULE_APPROVAL_RATIO: Final = Spec(
    "wardgate_rule_approval_ratio",
    "gauge",
    "Of decisions a rule asked people for, the part that was approved; the highest of all tenants.",
    {"rule_id": "module ids of the loaded bundle, up to 500"},
)
RULE_REVIEW_MEDIAN: Final = Spec(
    "wardgate_rule_review_median_seconds",
    "gauge",
    "Median time of the approvals a rule asked people for; the shortest of all tenants.",
    {"rule_id": "module ids of the loaded bundle, up to 500"},
)
RULE_REVIEW_ALARM: Final = Spec(
    "wardgate_rule_review_alarm",
    "gauge",
    "1 for a rule whose approvals look like nobody looks: review the rule.",
    {"rule_id": "module ids of the loaded bundle, up to 500"},
)
AUTONOMY: Final = Spec(
    "wardgate_autonomy_ratio",
    "gauge",
    "Of calls of the last day that may change something, the part that went on without a person or a grant.",
)
APPROVALS_PENDING: Final = Spec(
    "wardgate_approvals_pending",
    "gauge",
    "Approvals that wait for people, by chain; one that needs two chains counts in both.",
    {"chain": "configured chains, or _other for one that is no longer configured"},
)
APPROVALS_OLDEST: Final = Spec(
    "wardgate_approvals_oldest_pending_timestamp_seconds",
    "gauge",
    "When the oldest approval that waits for people was opened; absent while none waits.",
    {"chain": "configured chains, or _other for one that is no longer configured"},
)
NOTIFICATIONS: Final = Spec(
    "wardgate_notifications_total",
    "counter",
    "Messages about approvals to webhooks and channels; retried ones were tried once more.",
    {"channel": "configured webhooks and channels", "result": ", ".join(DELIVERY_RESULTS)},
)
NOTIFICATION_QUEUE: Final = Spec(
    "wardgate_notification_queue_length",
    "gauge",
    "Messages that wait for a webhook or channel.",
    {"channel": "configured webhooks and channels"},
)
NOTIFIED: Final = Spec(
    "wardgate_notification_last_success_timestamp_seconds",
    "gauge",
    "When a webhook or channel last took a message; 0 for never.",
    {"channel": "configured webhooks and channels"},
)
ISSUER_KEYS: Final = Spec(
    "wardgate_issuer_keys",
    "gauge",
    "Keys of a token issuer that are in use; 0 refuses every token of it.",
    {"issuer": "configured issuers"},
)
ISSUER_FETCHED: Final = Spec(
    "wardgate_issuer_keys_fetched_timestamp_seconds",
    "gauge",
    "When the keys of a token issuer were last fetched with success; 0 for never.",
    {"issuer": "configured issuers"},
)
TRIPS: Final = Spec(
    "wardgate_breaker_trips_total",
    "counter",
    "Moves of circuit breakers, by the detector and what followed; observed ones were only recorded.",
    {
        "detector": "detectors of the gateway, person, or _other for a user's own",
        "state": ", ".join(BREAKER_STAGES),
        "enforced": "yes, no",
    },
)
BREAKERS: Final = Spec(
    "wardgate_breakers",
    "gauge",
    "Circuit breakers that are not closed, by what they are about and how they stand.",
    {"scope": ", ".join(BREAKER_SCOPES), "state": ", ".join(BREAKER_STAGES)},
)
KILLS: Final = Spec(
    "wardgate_kills",
    "gauge",
    "What people have stopped with the kill switch and not let go again.",
    {"scope": ", ".join(KILL_SCOPES)},
)
TRUST_EVIDENCE: Final = Spec(
    "wardgate_trust_evidence_total",
    "counter",
    "Outcomes taken into account for trust, and good ones that did not count: told before, the same call "
    "again that day, more than a day counts.",
    {"outcome": ", ".join((*TRUST_OUTCOMES, *TRUST_LEFT))},
)
TRUST_MOVES: Final = Spec(
    "wardgate_trust_moves_total",
    "counter",
    "Tiers that changed, by what made them.",
    {"cause": ", ".join(TRUST_CAUSES)},
)
TRUST_TIERS: Final = Spec(
    "wardgate_trust_tiers",
    "gauge",
    "Agents by the tier they hold, each counted once in every domain where anything is known of it.",
    {"tier": "0 to 4"},
)
COLLAPSED: Final = Spec(
    "wardgate_label_values_collapsed_total",
    "counter",
    "How often a label value was shown as _other.",
    {"label": "labels of the metrics above"},
)
TRACES: Final = Spec(
    "wardgate_traces_total",
    "counter",
    "Calls whose spans were made, by why; limited ones should have been, and were too many in that second.",
    {"because": ", ".join((*TRACED_BECAUSE, NOT_TRACED))},
)
SPANS: Final = Spec(
    "wardgate_spans_total",
    "counter",
    "Spans handed to the exporter, by what became of them.",
    {"result": "exported, failed, dropped"},
)
BUILD: Final = Spec(
    "wardgate_build_info",
    "gauge",
    "The running version, as labels of a constant 1.",
    {"version": "one", "python": "one"},
)

SPECS: Final = (
    REQUESTS,
    REQUEST_SECONDS,
    OVERHEAD_SECONDS,
    IN_PROGRESS,
    REFUSALS,
    AUTH_FAILURES,
    TOOL_CALLS,
    UPSTREAM_REQUESTS,
    UPSTREAM_SECONDS,
    UPSTREAM_UP,
    IN_DOUBT,
    CREDENTIALS,
    CREDENTIAL_SEEN,
    CREDENTIAL_READS,
    UNAUTHORIZED,
    SETTLED,
    OPEN,
    SESSIONS_LIVE,
    SESSIONS_OPENED,
    BUDGET_REFUSALS,
    VERIFICATIONS,
    RECONCILIATIONS,
    POLICY_DECISIONS,
    RULE_HITS,
    POLICY_SECONDS,
    POLICY_ERRORS,
    UNENFORCED,
    RECORDS,
    RECORDS_DROPPED,
    RECORD_QUEUE,
    RECORD_LAST,
    ACTIVATIONS,
    ACTIVATED,
    BUNDLE,
    BUNDLE_CHECKS,
    BUNDLE_VERIFIED,
    SHADOW,
    CANDIDATE,
    MODULES,
    QUARANTINED,
    PIN_EVENTS,
    APPROVAL_EVENT,
    APPROVALS,
    ENVELOPES,
    APPROVAL_SECONDS,
    REVIEWS,
    REVIEW_SECONDS,
    REVIEW_INCIDENTS,
    REVIEWERS,
    RULE_APPROVAL_RATIO,
    RULE_REVIEW_MEDIAN,
    RULE_REVIEW_ALARM,
    AUTONOMY,
    APPROVALS_PENDING,
    APPROVALS_OLDEST,
    NOTIFICATIONS,
    NOTIFICATION_QUEUE,
    NOTIFIED,
    ISSUER_KEYS,
    ISSUER_FETCHED,
    TRIPS,
    BREAKERS,
    KILLS,
    TRUST_EVIDENCE,
    TRUST_MOVES,
    TRUST_TIERS,
    COLLAPSED,
    TRACES,
    SPANS,
    BUILD,
)
