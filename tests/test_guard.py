"""The breakers as the pipeline asks them, over a real storage: what is an event, what outlives a crash."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from gateway.breakers.event import Event
from gateway.breakers.settings import SECOND, Caps, Settings
from gateway.breakers.trip import Key
from gateway.guard import Guard
from gateway.model import Call, Facts, Outcome
from gateway.reasons import REASONS
from gateway.storage.breakers import BreakerStore
from tests.play import AGENT, Stage, tool
from tests.storage.at import at

OK = Outcome(status="ok", result_json=b'{"content":[]}')
LOOK = tool("read")


@pytest.fixture
def store(tmp_path: Path) -> Iterator[BreakerStore]:
    with at(tmp_path / "wardgate.db").open() as opened:
        yield BreakerStore(opened)


class World:
    def __init__(self, store: BreakerStore, recorded=lambda since_ns: (), **settings) -> None:
        self.now = 1_800_000_000 * SECOND
        self.guard = Guard(store, Settings(**settings), lambda: self.now, recorded=recorded)
        self.number = 0

    def call(self, what=LOOK, args_json: bytes = b"{}", principal=AGENT) -> Call:
        self.number += 1
        return Call(
            id=f"c{self.number}", principal=principal, tool=what, args={}, args_json=args_json, digest="d",
            session="s", thread="", surface="test", effect_key=f"c{self.number}", received_ns=self.now,
        )  # fmt: skip

    def goes(self, outcome: Outcome | None = OK, code: str = "", action: str = "allow", **which) -> str:
        """One call; the code it was refused with, or ""."""
        self.now += SECOND
        call = self.call(**which)
        stand = self.guard.ask(call, Facts())
        if stand.refusal is not None:
            self.guard.ended(call, Facts(), "block", stand.refusal.code, None)
            return stand.refusal.code
        self.guard.ended(call, Facts(), action, code, outcome)  # type: ignore[arg-type]
        return ""


QUIET = [
    code for code, reason in REASONS.items() if reason.unavailable or reason.retryable
] + ["duplicate_effect", "in_doubt", "killed", "breaker_guarded"]  # fmt: skip


@pytest.mark.parametrize("code", QUIET)
def test_answers_that_say_nothing_of_the_agent_are_no_events(store, code):
    world = World(store)
    for _ in range(60):
        assert world.goes(None, code, "block") == ""
    assert world.guard.breakers.behaviours == {}


@pytest.mark.parametrize("code", ["trust_budget", "trust_observe_only", "budget_exceeded"])
def test_refusals_for_what_was_not_earned_or_not_given_stop_nobody(store, code):
    """They would open a breaker, and a breaker that opens takes a tier."""
    world = World(store)
    assert {world.goes(None, code, "block") for _ in range(60)} == {""}
    assert world.guard.breakers.behaviours == {}


def test_calls_that_wait_for_a_person_are_no_events(store):
    world = World(store)
    for _ in range(60):
        assert world.goes(None, "over_the_limit", "hold") == ""
    assert world.guard.breakers.behaviours == {}


@pytest.mark.parametrize("status", ["not_sent", "in_doubt", "failed"])
def test_an_upstream_that_is_down_is_no_error_of_the_agent(store, status):
    world = World(store)
    codes = {world.goes(Outcome(status=status, code="upstream_unavailable")) for _ in range(40)}
    assert world.guard.breakers.behaviours == {}
    # What it stops is the upstream.
    assert codes <= {"", "breaker_open", "breaker_throttled"}
    assert {key.scope for key in world.guard.breakers.machines} <= {"upstream"}


def test_errors_of_a_tool_are_no_fault_of_its_upstream(store):
    world = World(store)
    for n in range(60):
        world.goes(Outcome(status="tool_error", result_json=b"%d" % n), args_json=b"%d" % n)
    assert not [key for key in world.guard.breakers.machines if key.scope == "upstream"]


def test_a_loop_that_asks_again_while_it_is_open_does_not_prolong_it(store):
    world = World(store)
    assert [world.goes() for _ in range(6)][-1] == "breaker_open"
    (machine,) = world.guard.breakers.machines.values()
    until = machine.until_ns
    for _ in range(30):
        assert world.goes() == "breaker_open"
    assert machine.until_ns == until


def test_policy_is_told_and_only_while_something_is_not_closed(store):
    world = World(store)
    assert world.guard.ask(world.call(), Facts()).facts == {}
    world.guard.breakers.force(Key("tool", "t", "up/act"), "x", "ann", world.now)
    stand = world.guard.ask(world.call(), Facts())
    assert stand.facts == {"stage": "forced_open", "scope": "tool", "detector": "person"}


def test_what_is_stopped_and_what_was_counted_outlive_the_process(store):
    async def life() -> None:
        world = World(store)
        await world.guard.open()
        for _ in range(5):
            world.goes()
        for n in range(3):
            world.goes(None, "closed", "block", args_json=b"%d" % n)
        await world.guard.save(full=True)
        again = World(store)
        again.now, again.number = world.now, world.number
        await again.guard.open()
        assert again.guard.breakers.machines == world.guard.breakers.machines
        assert again.guard.breakers.encode("t", "bot") == world.guard.breakers.encode("t", "bot")
        assert again.goes() == "breaker_open"
        trips = store.trips()
        assert [told.trip.detector for told in trips][-1] == "repeat"

    asyncio.run(life())


CHILD = msgspec.structs.replace(AGENT, chain=("boss", "bot"))


def test_what_a_delegation_used_of_its_caps_outlives_a_crash(store):
    """What was saved is known again, and what came after is counted again from the journal."""
    settings = {"tree_caps": Caps(calls=10)}

    def delegated(world: World, times: int) -> list[str]:
        return [world.goes(principal=CHILD, args_json=b"%d" % world.number) for _ in range(times)]

    async def life() -> None:
        world = World(store, **settings)
        await world.guard.open()
        delegated(world, 6)
        await world.guard.save(full=True)
        # Three more, of which nothing is saved; then the process is gone.
        asked = []

        def recorded(since_ns):
            asked.append(since_ns)
            return [
                Event(call_id=f"r{n}", at_ns=world.now, tenant="t", agent="bot", session="s", tool="up/act",
                      what="ok", tree="boss", depth=2)
                for n in range(3)
            ]  # fmt: skip

        again = World(store, recorded, **settings)
        again.now, again.number = world.now, 100
        await again.guard.open()
        assert asked[0] is not None
        assert delegated(again, 2) == ["", ""]
        assert delegated(again, 1) == ["breaker_open"]
        await again.guard.save()
        assert [told.trip.detector for told in store.trips()] == ["cap"]

    asyncio.run(life())


def test_nobody_is_tried_again_beside_those_a_crashed_gateway_tried(store):
    """One set of probes: it is on disk as soon as it is given, and a second gateway has no other."""

    async def life() -> None:
        world = World(store)
        for _ in range(5):
            world.goes()
        await world.guard.save()
        world.now += 80 * SECOND
        saving = asyncio.create_task(world.guard.run())
        await asyncio.sleep(0)
        tried = [world.call(args_json=b"%d" % n) for n in range(3)]
        assert all(world.guard.ask(call, Facts()).refusal is None for call in tried)
        async with asyncio.timeout(2):  # far sooner than it is saved now and then
            while store.machines()[0][1].stage != "half_open":
                await asyncio.sleep(0.01)
        saving.cancel()
        again = World(store)
        again.now, again.number = world.now, 100
        await again.guard.open()
        assert again.goes() == "breaker_throttled"
        # Nobody will ever say what became of the three: they have failed.
        again.now += 301 * SECOND
        assert again.goes() == "breaker_open"

    asyncio.run(life())


def test_calls_that_are_refused_while_others_are_tried_write_nothing_to_disk(store):
    async def life() -> None:
        world = World(store)
        for _ in range(5):
            world.goes()
        await world.guard.save()
        world.now += 80 * SECOND
        for n in range(3):
            assert world.guard.ask(world.call(args_json=b"%d" % n), Facts()).refusal is None
        await world.guard.save()
        world.guard._wake.clear()
        for _ in range(20):
            assert world.goes() == "breaker_throttled"
        assert not world.guard._wake.is_set()

    asyncio.run(life())


def test_a_state_of_another_version_is_forgotten_and_what_is_stopped_stays(store):
    async def life() -> None:
        world = World(store)
        for _ in range(5):
            world.goes()
        await world.guard.save(full=True)
        store.save([], states=[("t", "bot", b"\x93nonsense")])
        again = World(store)
        again.now = world.now
        await again.guard.open()
        assert again.goes() == "breaker_open"

    asyncio.run(life())


def test_a_kill_that_comes_while_a_call_is_under_way_cuts_it_off(store):
    async def life() -> None:
        world = World(store)
        call = world.call()
        cut: list[str] = []
        assert world.guard.ask(call, Facts()).refusal is None
        assert world.guard.killed(call, lambda: cut.append(call.id)) is None
        store.kill("call", "t", call.id, "wrong", "ann")
        await world.guard.changed()
        assert cut == [call.id]
        store.kill("tenant", "other", "", "not ours", "eve")
        await world.guard.changed()
        assert world.goes() == ""

    asyncio.run(life())


def test_a_detector_that_fails_does_not_fail_the_call(store, caplog):
    world = World(store)
    world.guard.breakers.observe = None  # type: ignore[assignment,method-assign]
    assert world.goes() == ""
    assert "could not be shown" in caplog.text


def test_listeners_hear_of_every_enforced_trip(store):
    world = World(store)
    heard = []
    world.guard.heard.append(heard.append)
    for _ in range(5):
        world.goes()
    assert [(trip.detector, trip.after) for trip in heard] == [("repeat", "open")]


def test_turned_off_only_the_kill_switch_holds(store):
    world = World(store)
    world.guard.configured(Settings(), enabled=False)
    assert {world.goes() for _ in range(20)} == {""}
    store.kill("all", "", "", "stop", "ann")
    asyncio.run(world.guard.changed())
    assert world.goes() == "killed"


class _Breakers:
    """Answers as it is told, and notes what it hears."""

    def __init__(self, **answers) -> None:
        self.answers = answers
        self.heard: list[tuple[str, str]] = []

    def ask(self, call, facts):
        from gateway.ports import Stand

        return self.answers.get("ask", Stand())

    def killed(self, call, cut=None):
        return self.answers.get("killed")

    def ended(self, call, facts, action, code, outcome, cost=0):
        self.heard.append((action, outcome.status if outcome else code))


def ran(breakers: _Breakers, mode: str = "enforce", **script) -> tuple[Stage, object]:
    from gateway import pipeline

    stage = Stage(**script)
    parts = msgspec.structs.replace(stage.parts(), breakers=breakers)
    principal = msgspec.structs.replace(AGENT, mode=mode)
    return stage, asyncio.run(pipeline.call(parts, stage.asked(None, principal)))


def stopped(**changes):
    from gateway.model import Refusal
    from gateway.ports import Stand

    return Stand(refusal=Refusal(code="breaker_open", message="looped", remedy="stop"), **changes)


def test_a_stopped_call_is_neither_decided_nor_sent_and_is_on_record():
    stage, answer = ran(_Breakers(ask=stopped()))
    assert answer.refusal.code == "breaker_open"
    assert answer.refusal.message == "looped"
    assert "decide" not in stage.told and "execute" not in stage.told
    assert any(code == "breaker_open" for *_, code in stage.recorded)


def test_observed_only_a_kill_stops():
    stage, answer = ran(_Breakers(ask=stopped()), mode="observe")
    assert answer.refusal is None
    assert ("breaker", "observe") in stage.counted
    stage, answer = ran(_Breakers(ask=stopped(killed=True)), mode="observe")
    assert answer.refusal is not None and "execute" not in stage.told


def test_a_kill_that_comes_while_deciding_holds_before_the_wire():
    from gateway.model import Refusal

    breakers = _Breakers(killed=Refusal(code="killed", message="stop"))
    stage, answer = ran(breakers)
    assert "execute" not in stage.told
    assert answer.refusal.code == "killed"
    assert breakers.heard == [("allow", "not_sent")]


def test_a_guarded_write_needs_a_person_whatever_policy_says():
    from gateway.model import Finding
    from gateway.ports import Stand

    guarded = Finding(code="breaker_guarded", message="wary")
    breakers = _Breakers(ask=Stand(guarded=guarded, facts={"stage": "guarded"}))
    stage, answer = ran(breakers, tool=tool("reversible"))
    assert "hold" in stage.told and "execute" not in stage.told
    stage, answer = ran(breakers, tool=tool("reversible"), held=None)
    assert answer.refusal is None and "execute" in stage.told


@pytest.mark.parametrize("fail", ["decide", "execute"])
def test_a_call_that_fails_inside_the_gateway_is_not_under_way_any_more(store, fail):
    world = World(store)
    _, answer = ran(world.guard, fail=fail)
    assert answer.refusal.code == ("gateway_error" if fail == "decide" else "outcome_unrecorded")
    assert world.guard._under_way == {}
    assert world.guard.breakers.behaviours == {}


def test_a_probe_that_fails_inside_the_gateway_gives_its_permit_back(store):
    world = World(store)
    for _ in range(5):
        world.goes(principal=AGENT)
    world.now += 80 * SECOND
    for _ in range(4):  # of three permits
        assert ran(world.guard, fail="decide")[1].refusal.code == "gateway_error"
    assert world.goes(args_json=b"1") == ""


def test_every_call_that_was_let_go_is_told_of_once():
    for script, heard in (({}, ("allow", "ok")), ({"fail": "intent"}, ("block", "journal_unavailable"))):
        breakers = _Breakers()
        ran(breakers, **script)
        assert breakers.heard == [heard]
