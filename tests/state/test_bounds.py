"""What a session may take: memory when everything in it is full, and time however long it lasts."""

from __future__ import annotations

import gc
import random
import time
import tracemalloc
from pathlib import Path

import msgspec
import orjson
import pytest
from msgspec.structs import replace

from gateway.model import Outcome
from gateway.ports import Shown
from gateway.sessions.budgets import METRICS
from gateway.sessions.mandate import parse
from gateway.sessions.monitors import Monitors, read
from gateway.sessions.rules import SessionRules
from tests.state.world import AGENT, World, living, tool

CALLS = 400
"""Of one session, enough to fill each of its tables."""

MONITORS = {
    "preceded": {"must_precede": {"first": {"tools": ["u/*"]}, "then": {"tools": ["v/*"]}, "by": ["/key"]}},
    "few": {"at_most_n": {"match": {"tools": ["u/*"]}, "n": 10**6, "by": ["/key"]}},
    "total": {"at_most_total": {"match": {"tools": ["u/*"]}, "amount": "/amount", "limit": 10**12,
                                "within_s": 86_400, "by": ["/key"]}},
    "never": {"never_after": {"after": {"tools": ["u/*"]}, "match": {"tools": ["v/*"]}, "by": ["/key"]}},
    "unless": {"cannot_follow_without": {"after": {"tools": ["u/*"]}, "match": {"tools": ["v/*"]},
                                         "unless": {"tools": ["w/*"]}, "by": ["/key"]}},
    "either": {"mutually_exclusive": {"sets": [{"tools": ["u/*"]}, {"tools": ["v/*"]}], "by": ["/key"]}},
    "pace": {"rate_limit": {"match": {"tools": ["u/*"]}, "n": 10**6, "per_s": 3600, "by": ["/key"]}},
    "apart": {"separation_of_actors": {"first": {"tools": ["u/*"]}, "then": {"tools": ["v/*"]},
                                       "by": ["/key"]}},
    "soon": {"within": {"first": {"tools": ["u/*"]}, "then": {"tools": ["v/*"]}, "seconds": 3600,
                        "by": ["/key"]}},
}  # fmt: skip
REQUEST = "pay what is due to " + " ".join(f"person{n}@partner{n}.example" for n in range(400))
MANDATE = parse(
    {
        "objective": "everything at once", "tools": ["u/*"], "request": REQUEST[:7_900],
        "budgets": dict.fromkeys(METRICS, 10**9),
        "horizon": {"actions": 10**6}, "trusted_values": [f"value-{n}@x.example" for n in range(50)],
    },
    now_ns=0,
)  # fmt: skip
RULES = SessionRules(mandates={("t", "bot"): MANDATE})


def result(draw: random.Random) -> bytes:
    rows = [
        {"id": f"{draw.getrandbits(40):x}", "to": f"u{draw.getrandbits(40):x}@m.example"} for _ in range(8)
    ]
    return orjson.dumps({"structuredContent": {"rows": rows}})


async def filled(world: World, subject: str) -> None:
    """Fill the tables of the session of one subject: values, labels, monitors, tools, windows."""
    draw = random.Random(subject)
    who = replace(AGENT, subject=subject)
    for number in range(CALLS):
        world.clock.passes(70)
        of = tool(
            f"tool-{number % 130}", "irreversible", effects=("write", "egress"), confidentiality=2,
            integrity="trusted" if number % 2 else "untrusted",
        )  # fmt: skip
        args = {"key": f"key-{number % 100}", "amount": number + 0.25, "to": f"u{number}@m.example"}
        call, _ = await world.begin(of, args, principal=who)
        shown = result(draw)
        labels = (f"label-{number % 20}",)
        await world.state.settle(
            call, "allow", Outcome(status="ok", result_json=shown), Shown(shown, True, labels)
        )


async def test_a_session_in_which_everything_is_full_takes_64_kb(tmp_path: Path) -> None:
    async with living(tmp_path / "w.db", RULES, monitors=Monitors(read({"monitors": MONITORS}))) as world:
        await filled(world, "first")  # what is made once for all sessions
        gc.collect()
        tracemalloc.start()
        before = tracemalloc.get_traced_memory()[0]
        for number in range(4):
            await filled(world, f"user-{number}")
        gc.collect()
        used = (tracemalloc.get_traced_memory()[0] - before) / 4
        tracemalloc.stop()
        session = world.state.sessions.live()[-1]
        assert len(session.known) == 128 and len(session.labels.names) == 16
        assert all(monitors is not None for monitors in session.watched.cells)
        assert len(session.saved().prints) > 24 * 1024
        assert used <= 64 * 1024, f"{used / 1024:.1f} KB"
        assert len(world.state.sessions.stored(session).state) <= 64 * 1024


async def test_facts_of_a_full_session_fit(tmp_path: Path) -> None:
    async with living(tmp_path / "w.db", RULES, monitors=Monitors(read({"monitors": MONITORS}))) as world:
        await filled(world, "first")
        of = tool("tool-1", "irreversible", effects=("write", "egress"))
        _, facts = await world.begin(
            of, {"key": "key-1", "amount": 1, "to": [f"u{n}@m.example" for n in range(30)]},
            principal=replace(AGENT, subject="first"),
        )  # fmt: skip
        assert len(msgspec.json.encode([facts.slow, facts.fast, facts.provenance])) <= 4096


@pytest.mark.slow
@pytest.mark.timeout(600)
async def test_a_call_costs_the_same_however_many_came_before(tmp_path: Path) -> None:
    """CPU time of one thread, best of several rounds: the machine may have other things to do."""
    of = tool("tool-1", "irreversible", effects=("write", "egress"), integrity="untrusted")
    draw = random.Random(1)
    number = 0

    async def spent(world: World, rounds: int) -> float:
        nonlocal number
        began = time.thread_time()
        for _ in range(rounds):
            number += 1
            shown = Shown(result(draw), True)
            args = {"key": f"key-{number % 100}", "amount": 1, "to": f"u{number}@m.example"}
            call, _ = await world.begin(of, args)
            await world.state.settle(
                call, "allow", Outcome(status="ok", result_json=shown.content_json), shown
            )
        return (time.thread_time() - began) / rounds

    async with living(tmp_path / "w.db", RULES, monitors=Monitors(read({"monitors": MONITORS}))) as world:
        took = {}
        for upto in (1_000, 10_000, 100_000):
            while number < upto:
                await spent(world, 500)
            took[upto] = min([await spent(world, 200) for _ in range(10)])
        assert took[100_000] < 1.5 * took[1_000], took
