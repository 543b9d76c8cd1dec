"""For whoever answers for agents: who was stopped and by what, budgets, sessions and credentials.

No metric names an agent: which one it was is in the records (``wardgate decisions``, ``wardgate breaker
trips``), where it is no time series that lives for ever.
"""

from __future__ import annotations

from observability.boards.panels import Board, Query, lines, number, of, rate, rows, within

_ENFORCED = 'enforced="yes"'

BOARD = Board(
    uid="wardgate-agents",
    title="wardgate / Agents",
    words="Breakers and kills, budgets and sessions, credentials. Which agent it was is in the records.",
    numbers=[
        number(
            "Breakers not closed",
            f"sum({of('wardgate_breakers')})",
            "Throttled, guarded, half open or open.",
            bad_from=1,
            decimals=0,
            width=4,
        ),
        number(
            "Kills in force",
            f"sum({of('wardgate_kills')})",
            "What people have stopped.",
            bad_from=1,
            decimals=0,
        ),
        number(
            "Trips, 24 h",
            within("wardgate_breaker_trips_total", "24h", _ENFORCED),
            "Moves of breakers that were enforced.",
            decimals=0,
        ),
        number(
            "Budget refusals, 24 h",
            within("wardgate_budget_refusals_total", "24h"),
            "Calls that a budget stood in the way of.",
            decimals=0,
            width=4,
        ),
        number(
            "Sessions in memory",
            f"sum({of('wardgate_sessions_live')})",
            "Pieces of work; others are on disk.",
            decimals=0,
            width=4,
        ),
        number(
            "Bad credentials, 24 h",
            within("wardgate_auth_failures_total", "24h"),
            "Requests without a usable credential.",
            decimals=0,
            width=3,
        ),
        number(
            "Issuers without keys",
            f"count({of('wardgate_issuer_keys')} == 0) or vector(0)",
            "Every token of such an issuer is refused.",
            bad_from=1,
            decimals=0,
        ),
    ],
    open=[
        lines(
            "Breakers by state",
            Query(f"sum by (scope, state) ({of('wardgate_breakers')}) > 0", "{{scope}} {{state}}"),
            "Those that are not closed.",
            stacked=True,
        ),
        lines(
            "Trips by detector",
            Query(
                within("wardgate_breaker_trips_total", "1h", by="detector, enforced"),
                "{{detector}}, enforced: {{enforced}}",
            ),
            "In the last hour. Those not enforced were only recorded.",
            stacked=True,
        ),
        lines(
            "Stopped by breakers and people",
            Query(rate("wardgate_refusals_total", 'code=~"breaker_.*|killed"', by="code"), "{{code}}"),
            "Refusals a second.",
            "reqps",
        ),
        lines(
            "Budgets in the way",
            Query(
                f"{within('wardgate_budget_refusals_total', '1h', by='scope, metric')} > 0",
                "{{scope}}: {{metric}}",
            ),
            "In the last hour, by the nearest scope that was exhausted.",
            stacked=True,
        ),
        lines(
            "Sessions",
            [
                Query(f"sum by (instance) ({of('wardgate_sessions_live')})", "{{instance}}: in memory"),
                Query(within("wardgate_sessions_opened_total", "1h", by="by"), "opened by {{by}} in 1 h"),
            ],
            "Pieces of work of agents.",
        ),
        lines(
            "Requests without a usable credential",
            Query(rate("wardgate_auth_failures_total", by="reason"), "{{reason}}"),
            "By what was wrong with it.",
            "reqps",
        ),
    ],
    rows=[
        (
            "Trust",
            [
                lines(
                    "Agents by tier",
                    Query(f"sum by (tier) ({of('wardgate_trust_tiers')})", "T{{tier}}"),
                    "Each agent once in every domain where anything is known of it.",
                    width=8,
                    stacked=True,
                ),
                lines(
                    "Tiers that changed",
                    Query(within("wardgate_trust_moves_total", "1h", by="cause"), "{{cause}}"),
                    "In the last hour, by what made them.",
                    width=8,
                    stacked=True,
                ),
                lines(
                    "Evidence",
                    Query(within("wardgate_trust_evidence_total", "1h", by="outcome"), "{{outcome}}"),
                    "Outcomes taken into account in the last hour.",
                    width=8,
                    stacked=True,
                ),
            ],
        ),
        (
            "Kills and issuers of tokens",
            [
                rows(
                    "Kills in force",
                    Query(f"sum by (scope) ({of('wardgate_kills')}) > 0"),
                    "By how wide they are. See 'wardgate kill'.",
                    width=8,
                ),
                lines(
                    "Keys in use",
                    Query(f"min by (issuer) ({of('wardgate_issuer_keys')})", "{{issuer}}"),
                    "0 refuses every token of the issuer.",
                    width=8,
                ),
                lines(
                    "Since keys were fetched",
                    Query(f"time() - {of('wardgate_issuer_keys_fetched_timestamp_seconds')}", "{{issuer}}"),
                    "The last fetch that succeeded.",
                    "s",
                    width=8,
                ),
            ],
        ),
    ],
)
