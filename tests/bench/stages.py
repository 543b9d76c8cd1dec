"""What each stage of a call costs, in CPU time of the process, on the objects that ``serve`` uses.

A gateway is built in this process by the composition root itself, from a configuration like that of the load
rounds. Each stage is then run alone, sixteen calls at a time as under load, and the process clock is read on
both sides: threads behind it (the journal's writer) are in the figure. The whole way, from the ASGI call to
its answer, is measured too; what it costs beyond its stages is the last line, ``surface and pipeline``. Only
``server`` is missing here, because a server needs a client: the load rounds measure one that does nothing.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from statistics import median
from typing import Any

import msgspec

from gateway import pipeline, strictjson
from gateway.app import Gateway
from gateway.digest import call_digest, new_id
from gateway.model import Call, Decision, Outcome
from gateway.pipeline import Ask
from tests.bench import servers, wardgate
from tests.bench.rounds import Spread
from tests.bench.servers import Server
from tests.bench.traffic import requests
from tests.bench.upstream import tool_name

# The promise, 1.6 times the bare relay for a read, divided among the stages (docs/explanation/speed.md).
SHARES = {
    "server": 0.20,
    "parse and digest": 0.06,
    "identity": 0.02,
    "facts": 0.03,
    "policy": 0.55,
    "journal": 0.28,
    "telemetry": 0.10,
    "relay": 0.18,
    "surface and pipeline": 0.18,
}
_TOGETHER = 16  # calls under way at once
_REPEATS = 5
_TRAILING_S = 0.06  # until the journal has written what a stage left it

Step = Callable[[int], Awaitable[object]]


class Task(msgspec.Struct, kw_only=True):
    """What the measuring process is told."""

    config: str
    port: int  # of the upstream
    key: str
    calls: int


class Budget(msgspec.Struct, frozen=True, kw_only=True):
    """CPU µs per call by stage, but for ``server``; and what one policy decision takes, in µs of time."""

    read_us: dict[str, float]
    write_us: dict[str, float]
    policy_hit_us: Spread
    policy_miss_us: Spread


def budget(upstream: Server, work: Path, calls: int) -> Budget:
    """Measure in a process of its own, on the core of the servers under test."""
    config = wardgate.prepare(wardgate.Setup(name="stages"), upstream, work)
    task = Task(config=str(config), port=upstream.port, key=wardgate.mint(config), calls=calls)
    done = subprocess.run(
        [sys.executable, "-m", "tests.bench.stages"],
        cwd=servers.ROOT,
        input=msgspec.json.encode(task),
        stdout=subprocess.PIPE,
        check=True,
        preexec_fn=lambda: os.sched_setaffinity(0, servers.TESTED),
    )
    return msgspec.json.decode(done.stdout, type=Budget)


async def measure(task: Task) -> Budget:
    async with Gateway(Path(task.config)) as gateway:
        read = await _Way(gateway, task, "lookup").stages()
        write = await _Way(gateway, task, "update").stages()
        hit, miss = await _Way(gateway, task, "lookup").decisions()
    return Budget(read_us=read, write_us=write, policy_hit_us=hit, policy_miss_us=miss)
