"""For the lead of the reviewers: what waits, for how long, and what becomes of it."""

from __future__ import annotations

from observability.boards.panels import Board, Query, lines, number, of, quantile, rate, within

_PENDING = 'state="pending"'
_IN_DOUBT = 'state="in_doubt"'
_REJECTED = 'event="rejected"'
_DECIDED = within("wardgate_approval_decision_seconds_bucket", "24h", by="le")
_EVENTS = "wardgate_approval_events_total"
_ENDS = 'event=~"approved|rejected|expired|cancelled"'

BOARD = Board(
    uid="wardgate-approvals",
    title="wardgate / Approvals",
    words="Held calls: what waits, for how long, and what becomes of it.",
    numbers=[
        number(
            "Waiting",
            f"sum({of('wardgate_approvals', _PENDING)})",
            "Approvals that nobody has decided yet.",
            decimals=0,
        ),
        number(
            "Oldest has waited",
            f"time() - min({of('wardgate_approvals_oldest_pending_timestamp_seconds')}) or vector(0)",
            "Since the oldest of them was opened.",
            "s",
            bad_from=900,
            width=4,
        ),
        number(
            "In doubt",
            f"sum({of('wardgate_approvals', _IN_DOUBT)})",
            "Carried out, and nobody knows with which outcome: a person has to say.",
            bad_from=1,
            decimals=0,
        ),
        number(
            "Decided in, p50, 24 h",
            f"histogram_quantile(0.5, {_DECIDED})",
            "From opening to the deciding vote.",
            "s",
            width=4,
        ),
        number(
            "Expired, 24 h",
            within(_EVENTS, "24h", 'event="expired"'),
            "Refused because nobody decided in time.",
            bad_from=1,
            decimals=0,
        ),
        number(
            "Rejected, 24 h",
            f"({within(_EVENTS, '24h', _REJECTED)}) / ({within(_EVENTS, '24h', _ENDS)} > 0) or vector(0)",
            "Share of those that ended. Near zero: policy asks people too often.",
            "percentunit",
            decimals=1,
            width=3,
        ),
        number(
            "Notices not delivered, 24 h",
            within("wardgate_approval_notices_total", "24h", 'result!="delivered"'),
            "Webhooks that did not take what they were told.",
            bad_from=1,
            decimals=0,
            width=4,
        ),
    ],
    open=[
        lines(
            "Waiting, by chain",
            Query(f"sum by (chain) ({of('wardgate_approvals_pending')})", "{{chain}}"),
            "One that needs two chains counts in both.",
            stacked=True,
        ),
        lines(
            "The oldest has waited, by chain",
            Query(
                f"time() - min by (chain) ({of('wardgate_approvals_oldest_pending_timestamp_seconds')})",
                "{{chain}}",
            ),
            "Empty while nothing waits.",
            "s",
        ),
        lines(
            "Time to a decision",
            [
                Query(quantile(0.5, "wardgate_approval_decision_seconds", by="decision"), "{{decision}} p50"),
                Query(
                    quantile(0.95, "wardgate_approval_decision_seconds", by="decision"), "{{decision}} p95"
                ),
            ],
            "From opening to the deciding vote.",
            "s",
        ),
        lines(
            "What becomes of them",
            Query(within(_EVENTS, "1h", _ENDS, by="event"), "{{event}}"),
            "In the last hour.",
            stacked=True,
        ),
    ],
    rows=[
        (
            "Everything that happens",
            [
                lines(
                    "Events",
                    Query(within(_EVENTS, "1h", by="event"), "{{event}}"),
                    "'refused' is a vote or another write that was not accepted.",
                    width=8,
                ),
                lines(
                    "Not over, by state",
                    Query(f"sum by (state) ({of('wardgate_approvals')})", "{{state}}"),
                    "Where approvals stand.",
                    width=8,
                ),
                lines(
                    "Notices to webhooks",
                    Query(rate("wardgate_approval_notices_total", by="result"), "{{result}}"),
                    "Deliveries a second, by what came of them.",
                    "ops",
                    width=8,
                ),
            ],
        ),
    ],
)
