"""After a crash a gateway knows what it knew: budgets, labels and sessions are made of the records again."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from gateway.journal.resolution import resolve
from gateway.model import Cost
from gateway.ports import Shown
from gateway.sessions.budgets import Limit
from gateway.sessions.mandate import parse
from gateway.sessions.rules import SessionRules
from gateway.storage.sessions import Act
from tests.state.world import AGENT, DOUBT, NOT_SENT, OK, SEEN, World, crashed, living, tool, written

LOOK = tool("look")
WEB = tool("web", integrity="untrusted")
FILES = tool("files", confidentiality=2)
NOTE = tool("note", "reversible")
PAY = tool("pay", "irreversible", cost=Cost(arguments="/amount"))
GIVEN = parse(
    {
        "objective": "x", "tools": ["u/*"], "horizon": {"actions": 5},
        "budgets": {"calls": 1000, "writes": 500, "cost_micro_usd": 10**12},
    },
    now_ns=0,
)  # fmt: skip
RULES = SessionRules(
    mandates={("t", "bot"): GIVEN},
    agent_limits={("t", "bot"): (Limit("calls", 10_000, 3600), Limit("cost_micro_usd", 10**12, 86_400))},
    tenant_limits={"t": (Limit("calls", 10_000, 3600),)},
)


async def known(world: World, session: str = "") -> Any:
    """Everything a rule is told, without what only time changes."""
    facts = await world.facts(session=session)
    seen = msgspec.to_builtins([facts.slow, facts.fast])
    return _timeless(seen)


def _timeless(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _timeless(item) for key, item in value.items() if key not in ("age_s", "minutes")}
    return [_timeless(item) for item in value] if isinstance(value, list) else value


async def test_a_crash_right_after_a_tainting_read_was_answered_forgets_no_taint(tmp_path: Path) -> None:
    async with living(tmp_path / "w.db", RULES) as world:
        call, facts = await world.begin(WEB)
        await world.end(call, facts, OK, SEEN)  # the agent has the answer now
        before = await known(world)
        image = crashed(tmp_path / "w.db", tmp_path / "after")
    async with living(image, RULES, world.clock) as again:
        assert await known(again) == before
        assert before[1]["session"]["integrity"] == "untrusted"


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    steps=st.lists(
        st.sampled_from(
            ["look", "web", "files", "note", "pay", "doubt", "refused", "unsent", "save", "label"]
        ),
        max_size=25,
    ),
)
def test_whatever_happened_before_the_crash_is_known_after_it(tmp_path: Path, steps) -> None:
    folder = tmp_path / f"{time.time_ns()}"
    asyncio.run(_lives(folder, steps))


async def _lives(folder: Path, steps: list[str]) -> None:
    folder.mkdir()
    async with living(folder / "w.db", RULES) as world:
        for number, step in enumerate(steps):
            world.clock.passes(7)
            await _step(world, step, number)
        await written(world)
        before = await known(world)
        image = crashed(folder / "w.db", folder / "after")
    async with living(image, RULES, world.clock) as again:
        assert await known(again) == before
        await again.remembered.keeper.save()
        second = crashed(image, folder / "later")
    async with living(second, RULES, world.clock) as last:
        assert await known(last) == before


async def _step(world: World, step: str, number: int) -> None:
    if step == "save":
        await world.remembered.keeper.save()
    elif step == "label":
        await world.call(LOOK, shown=Shown(OK.result_json, True, (f"l{number % 3}",), ("l0",)))
    elif step == "doubt":
        await world.call(PAY, {"amount": number + 1}, outcome=DOUBT)
    elif step == "refused":
        await world.call(NOTE, {"n": number}, outcome=None)
    elif step == "unsent":
        await world.call(NOTE, {"n": number}, outcome=NOT_SENT)
    elif step == "pay":
        await world.call(PAY, {"amount": number + 1})
    else:
        of = {"look": LOOK, "web": WEB, "files": FILES, "note": NOTE}[step]
        await world.call(of, {"n": number})


async def test_a_write_that_a_crash_cut_off_keeps_its_reservation_until_a_person_says(tmp_path: Path) -> None:
    async with living(tmp_path / "w.db", RULES) as world:
        call, facts = await world.begin(PAY, {"amount": 9})
        await world.journal.intent(call, facts, _allow(), "allow")
        image = crashed(tmp_path / "w.db", tmp_path / "after")
    async with living(image, RULES, world.clock) as again:
        cost = (await again.facts()).fast["budget"]["session"]["cost_micro_usd"]
        assert (cost["used"], cost["reserved"]) == (0, 9_000_000)
        resolve(again.database, call.id, "executed", by="ann")
        await again.remembered.caught_up()
        cost = (await again.facts()).fast["budget"]["session"]["cost_micro_usd"]
        assert (cost["used"], cost["reserved"]) == (9_000_000, 0)
        image = crashed(image, tmp_path / "later")
    async with living(image, RULES, world.clock) as last:
        cost = (await last.facts()).fast["budget"]["session"]["cost_micro_usd"]
        assert (cost["used"], cost["reserved"]) == (9_000_000, 0)


def _allow() -> Any:
    from tests.journal.support import ALLOW

    return ALLOW


async def test_a_read_that_a_crash_cut_off_gives_its_reservation_back(tmp_path: Path) -> None:
    async with living(tmp_path / "w.db", RULES) as world:
        await world.begin(LOOK)
        await world.call(NOTE, {"n": 1})
        await world.remembered.keeper.save()
        image = crashed(tmp_path / "w.db", tmp_path / "after")
    async with living(image, RULES, world.clock) as again:
        calls = (await again.facts()).fast["budget"]["session"]["calls"]
        assert (calls["used"], calls["reserved"]) == (1, 1), "and what asking now has reserved"


async def test_a_session_started_anew_just_before_the_crash_is_still_the_new_one(tmp_path: Path) -> None:
    async with living(tmp_path / "w.db", RULES) as world:
        await world.call(WEB)
        await world.remembered.keeper.save()
        session = await world.state.enter(world.ask())
        act = Act(session=session, tenant="t", at_ns=1, act="close", by="ann")
        world.state.acted(replace(act, seq=world.remembered.store.act(act)))
        await world.call(FILES)
        before = await known(world)
        assert before[1]["session"]["id"] != session
        image = crashed(tmp_path / "w.db", tmp_path / "after")
    async with living(image, RULES, world.clock) as again:
        assert await known(again) == before
        assert before[1]["budget"]["session"]["calls"]["used"] == 2


@pytest.mark.parametrize("lost", ["the old one", "the new one", "neither"])
async def test_a_crash_between_the_saves_of_two_sessions_loses_neither(tmp_path: Path, lost: str) -> None:
    async with living(tmp_path / "w.db", RULES) as world:
        await world.call(LOOK)
        await world.remembered.keeper.save()
        session = await world.state.enter(world.ask())
        act = Act(session=session, tenant="t", at_ns=1, act="close", by="ann")
        world.state.acted(replace(act, seq=world.remembered.store.act(act)))
        await world.call(WEB)
        sessions = world.state.sessions
        for each in sessions.changed():
            old = each.whose.id == session
            if lost == "neither" or old != (lost == "the old one"):
                world.remembered.store.save([sessions.stored(each)], [])
        await written(world)
        before = await known(world)
        image = crashed(tmp_path / "w.db", tmp_path / "after")
    async with living(image, RULES, world.clock) as again:
        assert await known(again) == before
        assert before[1]["session"]["integrity"] == "untrusted"


async def started_anew(world: World) -> str:
    session = await world.state.enter(world.ask())
    act = Act(session=session, tenant="t", at_ns=1, act="close", by="ann")
    world.state.acted(replace(act, seq=world.remembered.store.act(act)))
    return session


async def test_starting_anew_twice_during_a_call_refills_nothing_over_a_restart(tmp_path: Path) -> None:
    async with living(tmp_path / "w.db", RULES) as world:
        await world.call(LOOK)
        await world.remembered.keeper.save()
        call, facts = await world.begin(PAY, {"amount": 9})
        await started_anew(world)
        await world.remembered.keeper.save()
        await started_anew(world)
        await world.remembered.keeper.save()
        await world.end(call, facts, OK, SEEN)
        await world.remembered.keeper.save()
        assert (await world.facts()).fast["budget"]["session"]["cost_micro_usd"]["used"] == 9_000_000
        image = crashed(tmp_path / "w.db", tmp_path / "after")
    async with living(image, RULES, world.clock) as again:
        cost = (await again.facts()).fast["budget"]["session"]["cost_micro_usd"]
        assert (cost["used"], cost["reserved"]) == (9_000_000, 0)


async def test_a_crash_between_saving_a_session_and_the_one_after_it_locks_nobody_out(tmp_path: Path) -> None:
    async with living(tmp_path / "w.db", RULES) as world:
        await world.call(NOTE)
        await world.remembered.keeper.save()
        before = await started_anew(world)
        await world.state.sessions.keep(world.state.sessions.of(before))
        await world.call(NOTE, {"n": 2})
        known_before = await known(world)
        image = crashed(tmp_path / "w.db", tmp_path / "after")
    async with living(image, RULES, world.clock) as again:
        assert await known(again) == known_before
        assert known_before[1]["budget"]["session"]["writes"]["used"] == 2


async def test_what_a_person_finds_out_while_a_session_is_written_is_written_next(tmp_path: Path) -> None:
    async with living(tmp_path / "w.db", RULES) as world:
        await world.call(PAY, {"amount": 9}, outcome=DOUBT)
        await written(world)
        session = world.state.sessions.of(await world.state.enter(world.ask()))
        (doubtful,) = session.account.reservations()
        writing = asyncio.create_task(world.state.sessions.keep(session))
        await asyncio.sleep(0)  # now it is encoded, and on its way to the disk
        resolve(world.database, doubtful, "executed", by="ann")
        world.state.resolved(session, doubtful, done=True)
        await writing
        assert session.dirty, "what is on disk is the session before that"


async def test_an_opened_session_is_there_after_a_crash_with_its_mandate(tmp_path: Path) -> None:
    async with living(tmp_path / "w.db") as world:
        opened = await world.state.sessions.open(
            tenant="t", agent="bot", subject=None, mandate={"objective": "x", "tools": ["u/look"]}, by="ann"
        )
        image = crashed(tmp_path / "w.db", tmp_path / "after")
    async with living(image, clock=world.clock) as again:
        facts = await again.facts(LOOK, session=opened.whose.id)
        assert facts.slow["mandate"]["tools"] == ["u/look"]


async def test_time_does_not_go_back_over_a_restart(tmp_path: Path) -> None:
    limits = SessionRules(agent_limits={("t", "bot"): (Limit("calls", 1, 3600),)})
    async with living(tmp_path / "w.db", limits) as world:
        world.clock.passes(86_400)
        await world.call(LOOK)
        await world.remembered.keeper.save()
    world.clock.wall_ns -= 86_400 * 10**9
    async with living(tmp_path / "w.db", limits, world.clock) as again:
        assert (await again.call(LOOK)).refusal.code == "budget_exceeded"


async def test_a_session_pushed_out_of_memory_comes_back_as_it_was(tmp_path: Path) -> None:
    small = replace(RULES, live=10)
    async with living(tmp_path / "w.db", small) as world:
        await world.call(WEB)
        before = await known(world)
        for number in range(30):
            await world.call(LOOK, principal=replace(AGENT, subject=f"user-{number}"))
            if number % 4 == 3:
                await world.remembered.keeper.save()
        assert len(world.state.sessions) <= 15
        after = await known(world)
        assert after[1]["session"] == before[1]["session"]
        assert after[1]["budget"]["session"] == before[1]["budget"]["session"]


async def crowded(world: World) -> None:
    """More sessions in memory than it is meant for, all of them stored."""
    for number in range(12):
        await world.call(LOOK, principal=replace(AGENT, subject=f"user-{number}"))
    for session in world.state.sessions.changed():
        await world.state.sessions.keep(session)


async def test_a_parent_pushed_out_of_memory_meanwhile_is_not_there_twice(tmp_path: Path) -> None:
    async with living(tmp_path / "w.db", replace(RULES, live=10)) as world:
        sessions = world.state.sessions
        mandate = {"objective": "x", "tools": ["u/*"], "budgets": {"calls": 5}}
        parent = await sessions.open(tenant="t", agent="bot", subject=None, mandate=mandate, by="operator")
        await crowded(world)
        opening = asyncio.create_task(
            sessions.open(
                tenant="t", agent="bot", subject=None, mandate=None, by="bot", parent=parent.whose.id
            )
        )
        while not opening.done():
            await asyncio.sleep(0)
            sessions.evict()
        child = await opening
        assert child.ancestors[0] is await sessions.find(parent.whose.id)
        assert child is await sessions.find(child.whose.id)


async def test_what_is_done_to_a_session_while_it_is_read_is_done_to_it(tmp_path: Path) -> None:
    async with living(tmp_path / "w.db", replace(RULES, live=10)) as world:
        sessions = world.state.sessions
        mandate = {"objective": "x", "tools": ["u/*"]}
        opened = await sessions.open(tenant="t", agent="bot", subject=None, mandate=mandate, by="operator")
        await crowded(world)
        sessions.evict()
        assert sessions.held(opened.whose.id) is None
        reading = asyncio.create_task(sessions.find(opened.whose.id))
        await asyncio.sleep(0)
        world.state.acted(Act(seq=999, session=opened.whose.id, tenant="t", at_ns=1, act="close", by="ann"))
        found = await reading
        assert found is not None and found.status == "closed"


@pytest.mark.slow
async def test_ten_thousand_sessions_are_there_again_in_five_seconds(tmp_path: Path) -> None:
    async with living(tmp_path / "w.db", RULES) as world:
        for number in range(10_000):
            await world.call(WEB, principal=replace(AGENT, subject=f"user-{number}"))
            if number % 1000 == 999:
                await world.remembered.keeper.save()
        for number in range(0, 10_000, 3):  # and these since they were saved
            await world.call(FILES, principal=replace(AGENT, subject=f"user-{number}"))
        await written(world)
        image = crashed(tmp_path / "w.db", tmp_path / "after")
    began = time.monotonic()
    async with living(image, RULES, world.clock) as again:
        took = time.monotonic() - began
        for number in (0, 1, 9_999):
            facts = await again.facts(principal=replace(AGENT, subject=f"user-{number}"))
            assert facts.fast["session"]["integrity"] == "untrusted"
    assert took < 5, f"{took:.1f} s"
