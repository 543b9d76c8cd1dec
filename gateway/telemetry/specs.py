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
ENTRYPOINTS: Final = ("call", "result", "list", "trust")
ENGINES: Final = ("embedded", "opa")
BREAKER_STAGES: Final = ("throttled", "guarded", "open", "forced_open")
STAGES: Final = ("list", "policy", "approval", "result", "breaker")
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
    "refused",
)
APPROVALS_WAITING: Final = ("pending", "approved", "executing", "recovering", "in_doubt")
BREAKER_DETECTORS: Final = (
    "errors", "denials", "rate", "surprise", "tools", "bytes", "cost", "places",
    "repeat", "no_progress", "cycle", "return", "denied", "cap", "canary", "health", "person",
)  # fmt: skip
DROP_REASONS: Final = ("overflow", "oversize", "write_error")

BUNDLE_RESULTS: Final = ("unchanged", "activated", "waiting", "unreachable", "unverified", "refused")
SHADOW_RESULTS: Final = ("same", "tightened", "loosened", "changed", "error", "dropped")

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
CREDENTIALS: Final = Spec(
    "wardgate_upstream_credentials",
    "gauge",
    "Secrets for upstreams, by how they do: kept is the last good one of a source that fails.",
    {"upstream": "configured upstreams", "state": "ok, kept, unavailable"},
)
CREDENTIAL_AGE: Final = Spec(
    "wardgate_upstream_credential_age_seconds",
    "gauge",
    "Time since the source of the stalest secret in use was last seen good; variables do not count.",
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
COLLAPSED: Final = Spec(
    "wardgate_label_values_collapsed_total",
    "counter",
    "How often a label value was shown as _other.",
    {"label": "labels of the metrics above"},
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
    CREDENTIALS,
    CREDENTIAL_AGE,
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
    QUARANTINED,
    PIN_EVENTS,
    APPROVAL_EVENT,
    APPROVALS,
    ENVELOPES,
    APPROVAL_SECONDS,
    ISSUER_KEYS,
    ISSUER_FETCHED,
    TRIPS,
    COLLAPSED,
    SPANS,
    BUILD,
)
