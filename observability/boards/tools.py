"""For the developers of agents and tool servers: what is called, how it answers, and what is kept back."""

from __future__ import annotations

from observability.boards.panels import Board, Query, lines, number, of, quantile, rate, rows, within

_HELD = 'state=~"new|changed|returned"'
_FAILING = 'state=~"kept|unavailable"'
_REFUSED = 'action=~"block|hold"'
_SENT = "wardgate_upstream_requests_total"
_LOST = 'result!~"ok|tool_error|input_required"'

BOARD = Board(
    uid="wardgate-tools",
    title="wardgate / Tools and upstreams",
    words="What is called, how upstreams answer, and which definitions are kept back.",
    numbers=[
        number("Calls sent", rate(_SENT), "Calls that went out, a second.", "reqps"),
        number(
            "Failed at upstreams",
            f"{rate(_SENT, _LOST)} / {rate(_SENT)}",
            "Share that came back with nothing to show.",
            "percentunit",
            bad_from=0.05,
            decimals=1,
            width=4,
        ),
        number(
            "Upstreams down",
            f"count({of('wardgate_upstream_up')} == 0) or vector(0)",
            "Upstreams that gave no answer last time.",
            bad_from=1,
            width=4,
        ),
        number(
            "In quarantine",
            f"sum({of('wardgate_tools_quarantined', _HELD)})",
            "Definitions that wait for somebody to accept them.",
            bad_from=1,
            decimals=0,
            width=4,
        ),
        number(
            "Calls in doubt",
            f"sum({of('wardgate_calls_in_doubt')})",
            "Nobody knows whether they happened; identical ones are refused.",
            bad_from=1,
            decimals=0,
            width=4,
        ),
        number(
            "Secrets that fail",
            f"sum({of('wardgate_upstream_credentials', _FAILING)}) or vector(0)",
            "Credentials for upstreams whose source does not answer.",
            bad_from=1,
            decimals=0,
            width=5,
        ),
    ],
    open=[
        lines(
            "Calls by tool",
            Query(f"topk(10, {rate('wardgate_tool_calls_total', by='server, tool')})", "{{server}}/{{tool}}"),
            "The ten tools called most, a second.",
            "reqps",
        ),
        lines(
            "Refused by tool",
            Query(
                f"topk(10, {rate('wardgate_tool_calls_total', _REFUSED, by='server, tool, action')})",
                "{{server}}/{{tool}}: {{action}}",
            ),
            "The tools refused or held most, a second.",
            "reqps",
        ),
        lines(
            "Upstream time",
            [
                Query(
                    quantile(0.5, "wardgate_upstream_duration_seconds", by="upstream"),
                    "{{upstream}} p50",
                    exemplar=True,
                ),
                Query(
                    quantile(0.95, "wardgate_upstream_duration_seconds", by="upstream"),
                    "{{upstream}} p95",
                    exemplar=True,
                ),
            ],
            "Time waited for upstreams.",
            "s",
        ),
        lines(
            "What came back",
            Query(rate(_SENT, by="upstream, result"), "{{upstream}}: {{result}}"),
            "Calls sent a second, by result.",
            "reqps",
            stacked=True,
        ),
        lines(
            "Up",
            Query(f"min by (upstream) ({of('wardgate_upstream_up')})", "{{upstream}}"),
            "1 while an upstream answers and its lists are current.",
            "short",
        ),
        rows(
            "In quarantine",
            Query(f"sum by (upstream, state) ({of('wardgate_tools_quarantined')}) > 0"),
            "Listed by an upstream, offered to nobody. See 'wardgate tools diff'.",
        ),
    ],
    rows=[
        (
            "Definitions and credentials",
            [
                lines(
                    "Pin events",
                    Query(
                        within("wardgate_pin_events_total", "1h", by="upstream, event"),
                        "{{upstream}}: {{event}}",
                    ),
                    "What happened to definitions in the last hour.",
                    width=6,
                ),
                lines(
                    "Secrets by state",
                    Query(
                        f"sum by (upstream, state) ({of('wardgate_upstream_credentials')})",
                        "{{upstream}}: {{state}}",
                    ),
                    "'kept' is the last good one of a source that fails.",
                    width=6,
                ),
                lines(
                    "Since a secret's source was seen good",
                    Query(
                        f"time() - {of('wardgate_upstream_credential_verified_timestamp_seconds')}",
                        "{{upstream}}",
                    ),
                    "Of the stalest one; variables of the environment do not count.",
                    "s",
                    width=6,
                ),
                lines(
                    "Secret readings and answers 401",
                    [
                        Query(
                            within("wardgate_upstream_credential_refresh_total", "1h", by="upstream, result"),
                            "{{upstream}}: {{result}}",
                        ),
                        Query(
                            within("wardgate_upstream_unauthorized_total", "1h", by="upstream, sent_again"),
                            "{{upstream}}: 401, sent again: {{sent_again}}",
                        ),
                    ],
                    "In the last hour.",
                    width=6,
                ),
            ],
        ),
        (
            "Tools that run elsewhere, and what calls did",
            [
                lines(
                    "Decisions still open",
                    Query(f"sum by (instance) ({of('wardgate_decisions_open')})", "{{instance}}"),
                    "Decided here, carried out elsewhere, not reported yet.",
                    width=8,
                ),
                lines(
                    "Decisions settled",
                    Query(
                        rate("wardgate_decisions_settled_total", by="upstream, status"),
                        "{{upstream}}: {{status}}",
                    ),
                    "'unobserved' ones were never reported.",
                    "reqps",
                    width=8,
                ),
                lines(
                    "Calls in doubt, reconciled",
                    Query(within("wardgate_reconciliations_total", "1h", by="result"), "{{result}}"),
                    "What became of calls in doubt that the gateway asked about by itself, in the last hour.",
                    width=8,
                ),
                lines(
                    "Verifications",
                    Query(within("wardgate_verifications_total", "1h", by="result"), "{{result}}"),
                    "What reading back said of calls, in the last hour.",
                    width=8,
                ),
                lines(
                    "Doubts ended by a read",
                    Query(within("wardgate_reconciliations_total", "1h", by="result"), "{{result}}"),
                    "Calls in doubt that a read told about, in the last hour; 'unknown' stays for a person.",
                    width=8,
                ),
            ],
        ),
    ],
)
