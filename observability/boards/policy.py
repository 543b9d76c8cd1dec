"""For the people who write policy: what it says, what would be if it were enforced, and how it does."""

from __future__ import annotations

from observability.boards.panels import Board, Query, lines, number, of, quantile, rate, rows, within

_DECISIONS = "wardgate_policy_decisions_total"
_CALL = 'entrypoint="call"'
_DENY = 'verdict="deny"'
_ENFORCED = 'mode="enforce"'

BOARD = Board(
    uid="wardgate-policy",
    title="wardgate / Policy",
    words="Verdicts and actions, rules, evaluation, and the life of bundles.",
    numbers=[
        number(
            "Decisions", rate("wardgate_policy_decisions_total", _CALL), "Calls decided a second.", "reqps"
        ),
        number(
            "Denied",
            f"{rate(_DECISIONS, _CALL, _DENY)} / {rate(_DECISIONS, _CALL)}",
            "Share of calls that policy denies, whatever is then done.",
            "percentunit",
            decimals=1,
        ),
        number(
            "Would have been stopped, 24 h",
            within("wardgate_unenforced_total", "24h", 'reason=~"observe|warn"'),
            "Calls that went on only because a mode is observe or warn.",
            decimals=0,
            width=4,
        ),
        number(
            "Evaluation p99",
            quantile(0.99, "wardgate_policy_evaluation_seconds"),
            "Time of one evaluation.",
            "s",
            bad_from=0.05,
        ),
        number(
            "Errors, 24 h",
            within("wardgate_policy_evaluation_errors_total", "24h"),
            "Evaluations without a usable answer; each is a refusal, unless its module is only observed.",
            bad_from=1,
            decimals=0,
        ),
        number(
            "Modules enforced",
            f"sum({of('wardgate_policy_modules', _ENFORCED)})",
            "Modules of the policy in force that can stop a call.",
            decimals=0,
        ),
        number(
            "Loads failed, 24 h",
            within("wardgate_bundle_activations_total", "24h", 'result="failure"'),
            "Attempts to put a policy in force that were refused. The last good one stays.",
            bad_from=1,
            decimals=0,
            width=5,
        ),
    ],
    open=[
        lines(
            "Verdicts",
            Query(rate("wardgate_policy_decisions_total", _CALL, by="verdict"), "{{verdict}}", exemplar=True),
            "What policy says of calls.",
            "reqps",
            stacked=True,
        ),
        lines(
            "Actions by mode",
            Query(rate("wardgate_policy_decisions_total", _CALL, by="action, mode"), "{{action}} ({{mode}})"),
            "What was done. It differs from the verdict where a mode is observe or warn.",
            "reqps",
            stacked=True,
        ),
        lines(
            "Rules that spoke most",
            Query(f"topk(10, {rate('wardgate_policy_rule_hits_total', by='rule_id')})", "{{rule_id}}"),
            "Findings a second, also in observe and warn mode.",
            "ops",
        ),
        rows(
            "Rules that said nothing in 7 days",
            Query(f"sum by (rule_id) (increase({of('wardgate_policy_rule_hits_total')}[7d])) == 0"),
            "Dead rules, or rules whose scope is not what their author thinks.",
        ),
        lines(
            "Evaluation time",
            [
                Query(
                    quantile(0.5, "wardgate_policy_evaluation_seconds", by="engine"),
                    "{{engine}} p50",
                    exemplar=True,
                ),
                Query(
                    quantile(0.99, "wardgate_policy_evaluation_seconds", by="engine"),
                    "{{engine}} p99",
                    exemplar=True,
                ),
            ],
            "Time of one evaluation, by engine.",
            "s",
        ),
        lines(
            "Not enforced",
            Query(rate("wardgate_unenforced_total", by="stage, reason"), "{{stage}}: {{reason}}"),
            "Calls a second that something would have stopped.",
            "reqps",
        ),
    ],
    rows=[
        (
            "Errors and results",
            [
                lines(
                    "Evaluation errors",
                    Query(
                        rate("wardgate_policy_evaluation_errors_total", by="engine, reason"),
                        "{{engine}}: {{reason}}",
                    ),
                    "By reason code; 'observed' is an error of a module that decides nothing.",
                    "ops",
                    width=8,
                ),
                lines(
                    "Results judged",
                    Query(
                        rate("wardgate_policy_decisions_total", 'entrypoint="result"', by="verdict, action"),
                        "{{verdict}}: {{action}}",
                    ),
                    "What policy says of results of tools.",
                    "reqps",
                    width=8,
                ),
                lines(
                    "Refusals by code",
                    Query(f"topk(10, {rate('wardgate_refusals_total', by='code')})", "{{code}}"),
                    "Everything that was refused, by policy or by the gateway.",
                    "reqps",
                    width=8,
                ),
            ],
        ),
        (
            "Bundles and roll-outs",
            [
                lines(
                    "Loads",
                    Query(within("wardgate_bundle_activations_total", "1h", by="result"), "{{result}}"),
                    "Attempts to put policy in force in the last hour.",
                    width=8,
                ),
                lines(
                    "Questions to the source",
                    Query(within("wardgate_bundle_checks_total", "1h", by="result"), "{{result}}"),
                    "What came of asking the url of the bundle, in the last hour.",
                    width=8,
                ),
                lines(
                    "Since the source was verified",
                    Query(
                        f"time() - {of('wardgate_bundle_source_verified_timestamp_seconds')}", "{{instance}}"
                    ),
                    "Empty where policy has no url.",
                    "s",
                    width=8,
                ),
                lines(
                    "Modules by mode",
                    Query(f"sum by (mode) ({of('wardgate_policy_modules')})", "{{mode}}"),
                    "How far a roll-out has come.",
                    width=8,
                ),
                lines(
                    "Share tried on the candidate",
                    Query(f"max by (instance) ({of('wardgate_policy_candidate_ratio')})", "{{instance}}"),
                    "0 when no candidate is tried.",
                    "percentunit",
                    width=8,
                    share=True,
                ),
                lines(
                    "Candidate against what is in force",
                    Query(rate("wardgate_policy_shadow_total", by="result"), "{{result}}"),
                    "Calls decided by both, by how they would have fared.",
                    "reqps",
                    width=8,
                ),
            ],
        ),
    ],
)
