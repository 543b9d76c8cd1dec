"""What each stage of a call costs, in CPU time of the process, on the objects that ``serve`` uses.

A gateway is built in this process by the composition root itself, from a configuration like that of the load
rounds. Each stage is then run alone, sixteen calls at a time as under load, and the process clock is read on
both sides: threads behind it (the journal's writer) are in the figure. The whole way, from the ASGI call to
its answer, is measured too; what it costs beyond its stages is the last line, ``surface and pipeline``. Only
``server`` is missing here, because a server needs a client: the load rounds measure one that does nothing.
"""

from __future__ import annotations

import asyncio
import gc
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
from gateway.model import Answer, Ask, Call, Decision, Facts, Outcome, Presented, Settled
from gateway.policy.policy import EmbeddedPolicy
from gateway.ports import Policy, Shown
from tests.bench import servers, wardgate
from tests.bench.rounds import Spread, Wrong
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
        way = _Way(gateway, task, "lookup")
        hit = await way.decisions(gateway.parts.policy)
        miss = await way.decisions(EmbeddedPolicy(gateway.policy.bundle, memoise=False))
    return Budget(read_us=read, write_us=write, policy_hit_us=hit, policy_miss_us=miss)


class _Way:
    """One tool's way through the gateway, stage by stage."""

    def __init__(self, gateway: Gateway, task: Task, kind: str) -> None:
        self._gateway = gateway
        self._parts = gateway.parts
        self._calls = task.calls
        self._authorization = f"Bearer {task.key}".encode()
        host, self._path = f"127.0.0.1:{gateway.config.server.port}", f"/mcp/{wardgate.UPSTREAM}"
        self._request = requests(host, self._path, task.key, (tool_name(kind, 0),))
        self._tool = self._parts.catalog.resolve("tool", wardgate.UPSTREAM, tool_name(kind, 0))
        self._settled: dict[str, Settled] = {}  # by call: what the journal writes of it
        self._principal = gateway.directory.authenticate(self._authorization)

    async def stages(self) -> dict[str, float]:
        """CPU µs per call of each stage but ``server``."""
        found: dict[str, list[float]] = {}
        for _ in range(_REPEATS):
            for name, step in (await self._steps()).items():
                found.setdefault(name, []).append(await self._cpu_us(step))
        medians = {name: median(values) for name, values in found.items()}
        whole = medians.pop("whole")
        return {**medians, "surface and pipeline": whole - sum(medians.values())}

    async def _steps(self) -> dict[str, Step]:
        """The stages as functions of the number of the call; each number is used once."""
        parts = self._parts
        calls = [await self._call(n) for n in range(self._calls)]
        bodies = [self._body(n) for n in range(self._calls)]
        gc.freeze()  # a server does not hold thousands of calls, so their traversal is not its cost
        facts = await parts.state.begin(calls[0])
        decision = await parts.policy.call(calls[0], facts)
        outcome = await parts.upstreams.execute(calls[0], None)
        if decision.verdict != "allow" or outcome.status != "ok":
            raise Wrong(f"{self._tool.target} is answered with {decision.verdict}, {outcome.status}")
        return {
            "parse and digest": lambda n: self._parse(bodies[n]),
            "identity": lambda n: self._authenticate(),
            "facts": lambda n: self._facts(calls[n], outcome),
            "policy": lambda n: self._decide(calls[n], facts, outcome),
            "journal": lambda n: self._record(calls[n], facts, decision, outcome),
            "telemetry": lambda n: self._watch(calls[n], decision, outcome),
            "relay": lambda n: parts.upstreams.execute(calls[n], None),
            "whole": self._whole,
        }

    async def _cpu_us(self, step: Step) -> float:
        """CPU time of this process per call, with what the journal does afterwards."""

        async def some(first: int) -> None:
            for n in range(first, self._calls, _TOGETHER):
                await step(n)

        before = time.process_time()
        await asyncio.gather(*(some(first) for first in range(_TOGETHER)))
        while self._gateway.journal.depth:
            await asyncio.sleep(0.005)
        return (time.process_time() - before) / self._calls * 1e6

    async def decisions(self, policy: Policy) -> Spread:
        """What one decision takes, in µs of time: the p50 of each repeat."""
        medians = []
        for _ in range(_REPEATS):
            calls = [await self._call(n) for n in range(self._calls)]
            facts = await self._parts.state.begin(calls[0])
            taken = []
            for call in calls:
                started = time.perf_counter()
                await policy.call(call, facts)
                taken.append((time.perf_counter() - started) * 1e6)
            medians.append(median(taken))
        return Spread.of(medians)

    async def _parse(self, body: bytes) -> None:
        params = strictjson.parse(body)["params"]
        call_digest(self._principal, "session", self._tool, strictjson.canonical(params["arguments"]))
        new_id()

    async def _authenticate(self) -> None:
        await self._gateway.authenticator.agent(Presented(self._authorization, (), None, self._path))

    async def _facts(self, call: Call, outcome: Outcome) -> None:
        await self._parts.state.begin(call)
        shown = Shown(outcome.result_json, seen=True)
        self._settled[call.id] = await self._parts.state.settle(call, "allow", outcome, shown)

    async def _decide(self, call: Call, facts: Facts, outcome: Outcome) -> None:
        await self._parts.policy.call(call, facts)
        if self._parts.policy.wants_result(call):
            await self._parts.policy.result(call, facts, outcome)

    async def _record(self, call: Call, facts: Facts, decision: Decision, outcome: Outcome) -> None:
        await self._parts.journal.intent(call, facts, decision, "allow")
        settled = self._settled.pop(call.id)
        await self._parts.journal.settle(call, decision, "allow", outcome, None, settled)

    async def _watch(self, call: Call, decision: Decision, outcome: Outcome) -> None:
        telemetry = self._parts.telemetry
        token = telemetry.call_started(call)
        telemetry.traceparent(token)
        telemetry.decided(call, decision, "allow")
        answer = Answer(call_id=call.id, action="allow", decision=decision, outcome=outcome)
        telemetry.call_ended(token, call, answer)

    async def _whole(self, n: int) -> None:
        """As the HTTP server would call it."""
        head, _, body = self._request(n).partition(b"\r\n\r\n")
        lines = [line.partition(b": ") for line in head.split(b"\r\n")[1:]]
        scope = {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "http_version": "1.1",
            "method": "POST",
            "scheme": "http",
            "path": self._path,
            "raw_path": self._path.encode(),
            "root_path": "",
            "query_string": b"",
            "client": ("127.0.0.1", 1),
            "server": ("127.0.0.1", 2),
            "headers": [(name.lower(), value) for name, _, value in lines],
        }
        messages: list[Any] = []

        async def receive() -> dict[str, Any]:
            return {"type": "http.request", "body": body, "more_body": False}

        async def send(message: Any) -> None:
            messages.append(message)

        await self._gateway.mcp(scope, receive, send)
        if messages[0]["status"] != 200:
            raise Wrong(f"{self._tool.target} is answered with {messages!r}")

    def _body(self, n: int) -> bytes:
        return self._request(n).partition(b"\r\n\r\n")[2]

    async def _call(self, n: int) -> Call:
        args = strictjson.parse(self._body(n))["params"]["arguments"]
        ask = Ask(
            principal=self._principal,
            surface="mcp",
            kind="tool",
            upstream=wardgate.UPSTREAM,
            name=self._tool.name,
            args=args,
        )
        session = await self._parts.state.enter(ask)
        return pipeline._make(self._parts, ask, session, self._tool)


def main() -> None:
    import uvloop

    task = msgspec.json.decode(Path("/dev/stdin").read_bytes(), type=Task)
    sys.stdout.buffer.write(msgspec.json.encode(uvloop.run(measure(task))))


if __name__ == "__main__":
    main()
