"""What monitors cost: ``python -m tests.sessions.monitors.bench_monitors``. Prints µs of CPU per call."""

from __future__ import annotations

import sys
import time
from typing import Any

import msgspec

from gateway.sessions.monitors import Event, Monitors, State, read

DEFINITIONS: dict[str, Any] = {
    "read-before-write": {
        "must_precede": {
            "first": {"tools": ["shop/get_order"]},
            "then": {"tools": ["shop/update_order"]},
            "by": ["/order_id"],
        }
    },
    "updates": {
        "rate_limit": {"match": {"tools": ["shop/*"], "risks": ["reversible"]}, "n": 1_000_000, "per_s": 60}
    },
    "payments": {"at_most_n": {"match": {"effects": ["money"]}, "n": 2, "within_s": 3600}},
    "paid": {
        "at_most_total": {
            "match": {"tools": ["bank/pay"]},
            "amount": "/amount",
            "limit": 1000,
            "by": ["/iban"],
        }
    },
    "secret": {"never_after": {"after": {"labels": ["secret"]}, "match": {"effects": ["egress"]}}},
    "review": {
        "cannot_follow_without": {
            "after": {"tools": ["git/push"]},
            "match": {"tools": ["git/merge"]},
            "unless": {"tools": ["git/review"]},
        }
    },
    "either": {
        "mutually_exclusive": {"sets": [{"tools": ["hr/hire"]}, {"tools": ["hr/fire"]}], "by": ["/person"]}
    },
    "soon": {
        "within": {"first": {"tools": ["bank/quote"]}, "then": {"tools": ["bank/trade"]}, "seconds": 60}
    },
}


def event(number: int, status: str = "") -> Event:
    """Of the eight, two are about it: one by key, one by window."""
    return Event(
        at_ns=1_700_000_000_000_000_000 + number * 10_000_000,
        target="shop/update_order",
        risk="reversible",
        effects=("write",),
        args={"order_id": f"order-{number % 50}", "note": "x" * 200},
        status=status,
        actor="agent-1",
    )


def per_call(monitors: Monitors, state: State, first: int, calls: int) -> float:
    events = [(event(n), event(n, "ok")) for n in range(first, first + calls)]
    begun = time.process_time_ns()
    for before, after in events:
        monitors.facts(state, before)
        monitors.step(state, after)
    return (time.process_time_ns() - begun) / calls / 1000


def main() -> None:
    monitors = Monitors(read({"monitors": DEFINITIONS}))
    state = monitors.initial()
    done = 0
    for upto in (10, 1_000, 10_000, 100_000):
        while done + 2_000 < upto:
            per_call(monitors, state, done, 2_000)
            done += 2_000
        best = min(per_call(monitors, state, done + n * 1_000, 1_000) for n in range(5))
        done += 5_000
        size = len(msgspec.msgpack.encode(monitors.encode(state)))
        sys.stdout.write(f"after {upto:>7} calls: facts + step {best:5.2f} µs, state {size} bytes\n")
    full = sum(monitor.automaton.size() + 96 for monitor in monitors.monitors)
    sys.stdout.write(f"the state may take at most {full} bytes\n")


if __name__ == "__main__":
    main()
