"""What a real OPA adds to a decision: ``python -m tests.policy.bench_opa``; ``measure`` for others to call.

Both engines are asked in turn, in one process and the same minute, about the same calls, memory off and on;
times are wall clock, because the other side of the socket is another process.
"""

from __future__ import annotations

import asyncio
import json
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from gateway.policy import EmbeddedPolicy, load
from gateway.policy.opa import OpaPolicy
from tests.policy.bench_policy import FACTS, cases
from tests.policy.opa_server import opa

PACKS = ("starter", "strict")


def measure(rounds: int = 1000, packs: Sequence[str] = PACKS) -> dict[str, Any]:
    """Microseconds per decision: p50 and p99 of each engine over a Unix socket, and what OPA adds at p50."""
    with tempfile.TemporaryDirectory(prefix="bench-opa") as folder, opa(Path(folder)) as server:

        async def all_packs() -> dict[str, Any]:
            return {pack: await _pack(pack, server.target(), rounds) for pack in packs}

        return asyncio.run(all_packs())


async def _pack(pack: str, target: Any, rounds: int) -> dict[str, Any]:
    bundle = load(None, pack).bundle
    measured: dict[str, Any] = {}
    for memory in (True, False):
        embedded = EmbeddedPolicy(bundle, memoise=memory)
        other = OpaPolicy(bundle, target, memoise=memory)
        await other.open(must=True)
        try:
            taken: dict[str, list[int]] = {"embedded": [], "opa": []}
            for at in range(-50, rounds):  # the first ones build engines and connections
                for call in cases().values():
                    for name, policy in (("embedded", embedded), ("opa", other)):
                        started = time.perf_counter_ns()
                        await policy.call(call, FACTS)
                        if at >= 0:
                            taken[name].append(time.perf_counter_ns() - started)
        finally:
            await other.close(remove=False)
        row: dict[str, Any] = {name: _spread(found) for name, found in taken.items()}
        row["added_p50_us"] = round(row["opa"]["p50_us"] - row["embedded"]["p50_us"], 1)
        measured["remembered" if memory else "fresh"] = row
    return measured


def _spread(taken: list[int]) -> dict[str, float]:
    taken.sort()
    return {
        "p50_us": round(taken[len(taken) // 2] / 1000, 1),
        "p99_us": round(taken[len(taken) * 99 // 100] / 1000, 1),
    }


if __name__ == "__main__":
    print(json.dumps(measure(), indent=1))
