"""For whoever is on call: is it well, and if not, where to look."""

from __future__ import annotations

from observability.boards.panels import Board, Query, lines, number, of, quantile, rate, rows, within

_STOPPED = 'state=~"open|forced_open"'
_REFUSED = 'outcome=~"block|hold"'
_LAST = "wardgate_decision_records_last_write_timestamp_seconds"
_PENDING = 'state="pending"'

BOARD = Board(
    uid="wardgate-overview",
    title="wardgate / Overview",
    words="Whether the gateway decides, how fast, and what stands in the way of calls.",
    numbers=[
        number("Requests", rate("wardgate_requests_total"), "Requests answered a second.", "reqps"),
        number(
            "Refused",
            f"{rate('wardgate_requests_total', _REFUSED)} / {rate('wardgate_requests_total')}",
            "Share of requests that were refused or held. Not an error: it is what the gateway is for.",
            "percentunit",
            decimals=1,
        ),
        number(
            "Error budget left",
            'min(job:wardgate_error_budget_remaining:ratio{job=~"$job"})',
            "What is left of the 0.1 % of requests that may fail to get a decision in 30 days.",
            "percentunit",
            good_from=0.25,
            decimals=1,
        ),
        number(
            "Not enforced, 24 h",
            within("wardgate_unenforced_total", "24h", 'reason=~"fail_open|disabled"'),
            "Calls that went on because a control failed open or was off. Must be 0.",
            bad_from=1,
            decimals=0,
        ),
        number(
            "Records lost, 24 h",
            within("wardgate_decision_records_dropped_total", "24h"),
            "Records that never reached the disk. Must be 0.",
            bad_from=1,
            decimals=0,
        ),
        number(
            "Waiting for people",
            f"sum({of('wardgate_approvals', _PENDING)})",
            "Approvals that nobody has decided yet.",
        ),
        number(
            "Stopped",
            f"sum({of('wardgate_breakers', _STOPPED)}) + sum({of('wardgate_kills')})",
            "Breakers that are open, and kills in force.",
            bad_from=1,
        ),
        number(
            "Upstreams down",
            f"count({of('wardgate_upstream_up')} == 0) or vector(0)",
            "Upstreams that gave no answer last time.",
            bad_from=1,
        ),
    ],
    open=[
        lines(
            "Requests by outcome",
            Query(rate("wardgate_requests_total", by="outcome"), "{{outcome}}", exemplar=True),
            "Answers a second. 'error' is no decision about the call, but the failure to make one.",
            "reqps",
            stacked=True,
        ),
        lines(
            "The gateway's own time",
            [
                Query(quantile(0.5, "wardgate_overhead_seconds"), "p50", exemplar=True),
                Query(quantile(0.99, "wardgate_overhead_seconds"), "p99", exemplar=True),
            ],
            "Time in the gateway, without upstreams and without people. The objective is 99 % below 50 ms.",
            "s",
        ),
        lines(
            "Why requests were refused",
            Query(f"topk(8, {rate('wardgate_refusals_total', by='code')})", "{{code}}"),
            "The reason codes refused most, a second.",
            "reqps",
        ),
        lines(
            "Failures at upstreams",
            Query(
                rate(
                    "wardgate_upstream_requests_total",
                    'result!~"ok|tool_error|input_required"',
                    by="upstream, result",
                ),
                "{{upstream}}: {{result}}",
            ),
            "Calls a second that went out and came back with nothing to show.",
            "reqps",
        ),
    ],
    rows=[
        (
            "In force",
            [
                rows(
                    "Versions",
                    Query(f"sum by (instance, version, python) ({of('wardgate_build_info')})"),
                    "What runs where.",
                    width=8,
                ),
                rows(
                    "Policy revisions",
                    Query(f"sum by (instance, revision) ({of('wardgate_bundle_info')})"),
                    "Replicas should agree, save for the minutes of a roll-out.",
                    width=8,
                ),
                lines(
                    "Time since policy was put in force",
                    Query(
                        f"time() - {of('wardgate_bundle_last_activation_timestamp_seconds')}", "{{instance}}"
                    ),
                    "Falls to zero when policy is loaded.",
                    "s",
                    width=8,
                ),
            ],
        ),
        (
            "Journal and process",
            [
                lines(
                    "Records waiting for the disk",
                    Query(
                        f"sum by (instance) ({of('wardgate_decision_records_queue_length')})", "{{instance}}"
                    ),
                    "A queue that does not empty ends in refusals.",
                    width=8,
                ),
                lines(
                    "Records written",
                    Query(rate("wardgate_decision_records_total", by="instance"), "{{instance}}"),
                    "Records a second.",
                    "wps",
                    width=8,
                ),
                lines(
                    "Time since the last record",
                    Query(
                        f"time() - max by (instance) ({of(_LAST)})",
                        "{{instance}}",
                    ),
                    "Normal when there are no calls.",
                    "s",
                    width=8,
                ),
                lines(
                    "Calls under way",
                    Query(f"sum by (surface) ({of('wardgate_requests_in_progress')})", "{{surface}}"),
                    "Held calls count while their caller waits.",
                    width=8,
                ),
                lines(
                    "CPU",
                    Query(rate("process_cpu_seconds_total", by="instance"), "{{instance}}"),
                    "Cores in use. One gateway uses little more than one.",
                    "short",
                    width=8,
                ),
                lines(
                    "Memory",
                    Query(f"sum by (instance) ({of('process_resident_memory_bytes')})", "{{instance}}"),
                    "Resident memory.",
                    "bytes",
                    width=8,
                ),
            ],
        ),
        (
            "Telemetry itself",
            [
                lines(
                    "Answer time by surface",
                    Query(
                        quantile(0.95, "wardgate_request_duration_seconds", by="surface"),
                        "{{surface}} p95",
                        exemplar=True,
                    ),
                    "From the parsed request to its answer, upstreams included.",
                    "s",
                    width=6,
                ),
                lines(
                    "Traces by reason",
                    Query(rate("wardgate_traces_total", by="because"), "{{because}}"),
                    "Calls traced a second; 'limited' should have been and were too many.",
                    "ops",
                    width=6,
                ),
                lines(
                    "Spans by result",
                    Query(rate("wardgate_spans_total", by="result"), "{{result}}"),
                    "Anything but 'exported' is a collector that cannot be reached or is too slow.",
                    "ops",
                    width=6,
                ),
                lines(
                    "Label values shown as _other",
                    Query(rate("wardgate_label_values_collapsed_total", by="label"), "{{label}}"),
                    "Names that nobody declared or that did not fit under the cap.",
                    "ops",
                    width=6,
                ),
            ],
        ),
    ],
)
