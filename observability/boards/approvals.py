"""For the lead of the reviewers: what waits, for how long, and what becomes of it."""

from __future__ import annotations

from observability.boards.panels import Board, Query, lines, number, of, quantile, rate, rows, within

_PENDING = 'state="pending"'
_IN_DOUBT = 'state="in_doubt"'
_REJECTED = 'event="rejected"'
_DECIDED = within("wardgate_approval_decision_seconds_bucket", "24h", by="le")
_TAKEN = "wardgate_notification_last_success_timestamp_seconds"
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
            "Messages lost, 24 h",
            within("wardgate_notifications_total", "24h", 'result=~"failed|dropped"'),
            "Messages about approvals that no webhook or channel took.",
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
                    "Messages by channel",
                    Query(
                        rate("wardgate_notifications_total", by="channel, result"), "{{channel}}: {{result}}"
                    ),
                    "To webhooks and channels, a second; retried ones were tried once more.",
                    "ops",
                    width=8,
                ),
                lines(
                    "Messages waiting",
                    Query(
                        f"sum by (channel) ({of('wardgate_notification_queue_length')})",
                        "{{channel}}",
                    ),
                    "A channel that takes nothing fills its queue.",
                    width=8,
                ),
                lines(
                    "Since a channel last took a message",
                    Query(
                        f"time() - (max by (channel) ({of(_TAKEN)}) > 0)",
                        "{{channel}}",
                    ),
                    "Normal where nothing happens; empty for one that never took any.",
                    "s",
                    width=8,
                ),
                lines(
                    "Envelopes open",
                    Query(f"sum by (instance) ({of('wardgate_approval_envelopes_open')})", "{{instance}}"),
                    "Break-glass envelopes open now; each call they let through counts as unenforced.",
                    width=8,
                ),
                lines(
                    "Carried out without a person",
                    Query(f"max by (instance) ({of('wardgate_autonomy_ratio')})", "{{instance}}"),
                    "Of calls of the last day that may change something.",
                    "percentunit",
                    width=8,
                    share=True,
                ),
            ],
        ),
        (
            "How people review",
            [
                lines(
                    "Votes",
                    Query(
                        within("wardgate_reviews_total", "1h", by="decision, kind"), "{{decision}} ({{kind}})"
                    ),
                    "In the last hour. Who approves a canary did not look.",
                    width=8,
                ),
                lines(
                    "Time spent on a vote",
                    Query(quantile(0.5, "wardgate_review_seconds", by="decision"), "{{decision}} p50"),
                    "The most a reviewer can have spent. Seconds for what takes minutes are a sign.",
                    "s",
                    width=8,
                ),
                lines(
                    "Reviewers",
                    Query(f"sum by (state) ({of('wardgate_reviewers')})", "{{state}}"),
                    "Who reviewed lately, who votes as if nobody looked, and whose votes are capped.",
                    width=8,
                ),
                rows(
                    "Rules that look rubber-stamped",
                    Query(f"max by (rule_id) ({of('wardgate_rule_review_alarm')})"),
                    "1: review the rule, not the people.",
                    width=8,
                ),
                lines(
                    "Approved, by rule",
                    Query(f"topk(8, max by (rule_id) ({of('wardgate_rule_approval_ratio')}))", "{{rule_id}}"),
                    "A rule whose questions are always approved asks too much.",
                    "percentunit",
                    width=8,
                    share=True,
                ),
                lines(
                    "Median time to approve, by rule",
                    Query(
                        f"bottomk(8, min by (rule_id) ({of('wardgate_rule_review_median_seconds')}))",
                        "{{rule_id}}",
                    ),
                    "The quickest first.",
                    "s",
                    width=8,
                ),
                lines(
                    "Approved and wrong",
                    Query(within("wardgate_review_incidents_total", "1h"), "reported in 1 h"),
                    "Approved calls that were reported to be wrong afterwards.",
                    width=8,
                ),
                lines(
                    "Break-glass envelopes open",
                    Query(f"max({of('wardgate_approval_envelopes_open')})", "open"),
                    "Two people let calls through instead of a chain, for an hour at most.",
                    width=8,
                ),
            ],
        ),
    ],
)
