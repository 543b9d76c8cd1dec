"""Recorded inputs come back as policy was given them, fast and in bounded memory."""

from __future__ import annotations

import asyncio
import gc
import time
from pathlib import Path

import pytest

from gateway.journal import resolution
from gateway.journal.query import Filter
from gateway.journal.recorded import Inputs
from gateway.model import Call, Outcome
from gateway.policy import EmbeddedPolicy, load
from gateway.policy.replay import Tally, replay
from gateway.storage.crypto import StorageKey
from tests.journal import support
from tests.storage.at import at


async def test_a_call_comes_back_equal_to_what_was_decided(tmp_path: Path) -> None:
    made = [support.call(support.LOOK), support.call(support.PAY)]
    async with support.running(tmp_path / "w.db") as (journal, database):
        for each in made:
            await support.carry_out(journal, each)
        await support.until(lambda: journal.depth == 0)
        found = {each.call_id: each for each in Inputs(database, support.KEY).read(Filter())}
    for each in made:
        again = found[each.id].call
        assert again is not None
        for name in Call.__struct_fields__:
            if name not in ("tool", "traceparent", "mode"):
                assert getattr(again, name) == getattr(each, name), name
        assert again.tool.manifest == each.tool.manifest and again.mode == each.mode
        assert found[each.id].facts == support.FACTS
        assert found[each.id].said.findings == support.ALLOW.findings
        assert found[each.id].outcome is not None


async def test_every_reason_why_a_call_cannot_be_decided_again_has_a_name(tmp_path: Path) -> None:
    async with support.running(tmp_path / "w.db") as (journal, database):
        erased, asked, whole = support.call(), support.call(), support.call(support.LOOK)
        await support.carry_out(journal, erased)
        await support.carry_out(journal, whole)
        await journal.intent(asked, support.FACTS, support.DENY, "block", "amount_over_limit")
        open_read = support.call(support.LOOK)
        await journal.intent(open_read, support.FACTS, support.ALLOW, "allow")
        await support.until(lambda: journal.depth == 0)
        resolution.erase(database, resolution.Erase(call=erased.id), by="me", note="")
        reasons = {each.call_id: each.missing for each in Inputs(database, support.KEY).read(Filter())}
        other = Inputs(database, StorageKey(bytes(range(1, 33))))
        sealed = {each.call_id: each.missing for each in other.read(Filter())}
    # The decision in ``DENY`` names no engine, as one does that the gateway made without asking policy.
    assert reasons == {
        erased.id: "no_payload",
        asked.id: "not_asked",
        open_read.id: "unfinished",
        whole.id: None,
    }
    assert sealed[whole.id] == "unreadable"


async def test_a_limit_takes_the_newest_oldest_first(tmp_path: Path) -> None:
    made = [support.call(support.LOOK) for _ in range(7)]
    async with support.running(tmp_path / "w.db") as (journal, database):
        for each in made:
            await support.carry_out(journal, each)
        await support.until(lambda: journal.depth == 0)
        inputs = Inputs(database, support.KEY)
        assert [each.call_id for each in inputs.read(Filter(), 3)] == [each.id for each in made[-3:]]
        assert len(list(inputs.read(Filter(), 100))) == inputs.count(Filter()) == 7
        assert inputs.one(made[2].id).call_id == made[2].id  # type: ignore[union-attr]
        assert inputs.one("nobody") is None
        assert inputs.spoken(Filter()) == {"payments.limit": 7}


async def recorded_by(policy: EmbeddedPolicy, path: Path, count: int) -> None:
    """A journal of ``count`` decisions of the policy, about forty tools."""
    tools = [
        support.tool(risk, f"{risk}{n}", effects=("write",))
        for risk in ("read", "reversible")
        for n in range(20)
    ]
    async with support.running(path) as (journal, _):
        for number in range(count):
            args = {"to": "bob", "note": "x" * (number % 700), "lines": [{"sku": n} for n in range(8)]}
            made = support.call(tools[number % len(tools)], args)
            decision = await policy.call(made, support.FACTS)
            outcome = Outcome(status="ok", result_json=b'{"content":[{"type":"text","text":"all is well"}]}')
            inspected = (await policy.result(made, support.FACTS, outcome)).decision
            intent = asyncio.ensure_future(journal.intent(made, support.FACTS, decision, "allow"))
            await asyncio.sleep(0)
            end = asyncio.ensure_future(journal.settle(made, decision, "allow", outcome, inspected))
            if number % 200 == 199:
                await asyncio.gather(intent, end)
                await support.until(lambda: journal.depth < 400, 60)


@pytest.mark.slow
async def test_replay_is_fast_and_its_memory_does_not_grow_with_the_journal(tmp_path: Path) -> None:
    policy = load(None, "starter")
    await recorded_by(policy, tmp_path / "w.db", 20_000)
    with at(tmp_path / "w.db").open(read_only=True) as database:
        inputs, tally = Inputs(database, support.KEY), Tally()
        sizes = []
        started = time.process_time()
        for number, found in enumerate(replay(policy, inputs.read(Filter()))):
            tally.add(found)
            if number in (5_000, 19_000):
                sizes.append(resident_mb())
        took = time.process_time() - started
    report = tally.report(policy.revision)
    assert report.counts["unchanged"] == report.total == 20_000
    assert sizes[1] - sizes[0] < 10, sizes
    assert 20_000 / took >= 2_000, f"{20_000 / took:.0f} decisions a second of one core"


def resident_mb() -> float:
    gc.collect()
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    raise AssertionError("no VmRSS")
