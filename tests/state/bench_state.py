"""What facts cost: ``python -m tests.state.bench_state`` prints CPU µs of begin + settle, and bytes."""

from __future__ import annotations

import asyncio
import gc
import tempfile
import time
import tracemalloc
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
import orjson
from msgspec.structs import replace

from gateway.model import Call, Outcome, Tool
from gateway.ports import Shown
from gateway.sessions.budgets import Limit
from gateway.sessions.mandate import parse
from gateway.sessions.monitors import Monitors, read
from gateway.sessions.rules import SessionRules
from tests.state.world import AGENT, World, living, tool

ROUNDS = 2000
ROWS = [{"id": f"row-{n}", "from": f"user{n}@mail.example", "subject": f"about item {n}"} for n in range(6)]
RESULT = orjson.dumps({"content": [{"type": "text", "text": orjson.dumps(ROWS).decode()}]})
OK = Outcome(status="ok", result_json=RESULT)
LOOK = tool("look")
WEB = tool("web", integrity="untrusted")
SEND = tool("send", "irreversible", effects=("write", "egress"), integrity="untrusted")
ARGS = {"to": ["user1@mail.example", "ann@corp.example"], "subject": "hello", "body": "see row-3, thanks"}
WATCHED = Monitors(
    read({"monitors": {
        "sends": {"at_most_n": {"match": {"tools": ["u/send"]}, "n": 10**6}},
        "pace": {"rate_limit": {"match": {"risks": ["irreversible"]}, "n": 10**5, "per_s": 3600}},
        "secret": {"never_after": {"after": {"labels": ["secret"]}, "match": {"effects": ["egress"]}}},
    }})
)  # fmt: skip
MANDATE = parse(
    {
        "objective": "bench", "tools": ["u/*"], "request": "write to ann@corp.example",
        "budgets": {"calls": 10**9, "writes": 10**9, "cost_micro_usd": 10**12}, "horizon": {"actions": 10**6},
    },
    now_ns=0,
)  # fmt: skip
FULL = SessionRules(
    mandates={("t", "bot"): MANDATE},
    agent_limits={("t", "bot"): (Limit("calls", 10**9, 3600),)},
    tenant_limits={"t": (Limit("calls", 10**9, 3600),)},
)


async def timed(world: World, of: Tool, args: Mapping[str, Any], rounds: int = ROUNDS) -> float:
    """CPU µs of enter, begin and settle, without journal and policy."""
    made: list[Call] = []
    for number in range(rounds):
        call, _ = await world.begin(of, {**args, "n": number})
        await world.state.settle(call, "block", None)
        made.append(replace(call, id=f"{call.id}+"))
    shown = Shown(RESULT, True)
    ask = world.ask()
    gc.collect()
    gc.disable()
    began = time.process_time()
    for call in made:
        await world.state.enter(ask)
        await world.state.begin(call)
        await world.state.settle(call, "allow", OK, shown)
    took = time.process_time() - began
    gc.enable()
    return took / rounds * 1e6


async def main() -> None:
    for name, rules, monitors in (
        ("bare", SessionRules(), None),
        ("mandate, budgets, monitors", FULL, WATCHED),
    ):
        with tempfile.TemporaryDirectory() as folder:
            more = {"monitors": monitors} if monitors is not None else {}
            async with living(Path(folder) / "w.db", rules, **more) as world:
                for of, args in ((LOOK, {}), (WEB, {}), (SEND, ARGS)):
                    print(f"{name:28} {of.name:6} {await timed(world, of, args):6.1f} µs")
                world.state.tracing = False
                print(f"{name:28} look   {await timed(world, LOOK, {}):6.1f} µs without provenance")
                world.state.tracing = True
                for calls in (10, 1_000, 100_000):
                    session = world.state.sessions.of(await world.state.enter(world.ask()))
                    while session.calls < calls:
                        await timed(world, SEND, ARGS, min(500, calls))
                    took = await timed(world, SEND, ARGS, 500)
                    print(f"{name:28} send   {took:6.1f} µs after {session.calls} calls")
                facts = (await world.begin(SEND, ARGS))[1]
                size = len(msgspec.json.encode([facts.slow, facts.fast, facts.provenance]))
                saved = len(world.state.sessions.stored(session).state)
                print(f"{name:28} facts {size} bytes, saved state {saved} bytes")
                await memory(world)


async def memory(world: World) -> None:
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    for number in range(200):
        who = replace(AGENT, subject=f"user-{number}")
        for of, args in ((WEB, {}), (LOOK, {}), (SEND, ARGS)):
            call, _ = await world.begin(of, args, principal=who)
            await world.state.settle(call, "allow", OK, Shown(RESULT, True))
    used = (tracemalloc.get_traced_memory()[0] - before) / 200
    tracemalloc.stop()
    print(f"{'':28} {used / 1024:.1f} KB a session after three calls")


if __name__ == "__main__":
    asyncio.run(main())
