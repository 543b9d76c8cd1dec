"""What accounts cost: ``python -m tests.sessions.bench_budgets``."""

from __future__ import annotations

import time
import tracemalloc
from collections.abc import Callable

import msgspec

from gateway.sessions.budgets import Account, Accounts, Limit

S = 1_000_000_000
T0 = 1_800_000_000 * S
LIMITS = (Limit("calls", 2**40, 60), Limit("writes", 2**40), Limit("cost_micro_usd", 2**50, 86_400))
ALL = (*LIMITS, Limit("irreversible", 9), Limit("bytes_out", 2**40, 3600), Limit("wall_s", 86_400))
CHARGES = {"calls": 1, "writes": 1, "cost_micro_usd": 12_345}


def per_call(step: Callable[[int], object], rounds: int = 50_000) -> float:
    best = float("inf")
    for _ in range(3):
        started = time.process_time()
        for number in range(rounds):
            step(number)
        best = min(best, (time.process_time() - started) / rounds)
    return best * 1e6


def main() -> None:
    scopes = ("session", "tree", "agent", "tenant")
    accounts = Accounts([(scope, Account(LIMITS, opened_ns=T0)) for scope in scopes])
    clock = [T0]

    def one(_: int) -> None:
        clock[0] += S // 100
        accounts.reserve("call", CHARGES, clock[0])
        accounts.settle("call", {"cost_micro_usd": 77}, clock[0])

    said = {"reserve + settle, 4 accounts of 3 metrics": f"{per_call(one):.1f} µs"}
    said["facts, 4 accounts of 3 metrics"] = f"{per_call(lambda _: accounts.facts(clock[0])):.1f} µs"

    tracemalloc.start()
    idle = [Account(ALL, opened_ns=T0) for _ in range(10_000)]
    said["memory of an idle account of 6 metrics"] = f"{tracemalloc.get_traced_memory()[0] / 10_000:.0f} B"
    busy = idle[0]
    for second in range(0, 200_000, 7):
        busy.charge({**CHARGES, "bytes_out": 1000}, T0 + second * S)
    before = tracemalloc.get_traced_memory()[0]
    copies = [busy.carried() for _ in range(1_000)]
    size = (tracemalloc.get_traced_memory()[0] - before) / len(copies)
    said["of one that was busy for two days"] = f"{size:.0f} B"
    tracemalloc.stop()
    said["that one encoded"] = f"{len(msgspec.msgpack.encode(busy.encode()))} B"
    said["encode + decode it"] = f"{per_call(lambda _: Account.decode(busy.encode()), 500):.1f} µs"
    for what, figure in said.items():
        print(f"{what:45}{figure:>12}")


if __name__ == "__main__":
    main()
