"""The state machine: waits, probes, guards, and that nobody trips anybody else."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from gateway.breakers.machine import RANK, STAGES, Machine, wait_ns
from gateway.breakers.settings import SECOND, Settings
from gateway.breakers.trip import Key
from tests.breakers.support import START, Life

SAME = {"args": 7, "result": 9}
SESSION = Key("session", "t", "bot", "s")


def opened() -> Life:
    life = Life()
    life.does(times=5, **SAME)
    return life


def test_a_refusal_says_what_was_wrong_what_to_do_and_when_to_come_back():
    verdict = opened().ask()
    assert "the same call 5 times in a row" in verdict.message
    assert "Use the result you have" in verdict.remedy
    assert 48 * SECOND <= verdict.wait_ns <= 72 * SECOND


def test_after_the_wait_three_reversible_calls_are_tried_and_no_more():
    life = opened()
    life.waits(80)
    assert life.ask(harmless=False).why == "not_reversible"
    went = [life.ask().go for _ in range(6)]
    assert went == [True, True, True, False, False, False]


def test_good_probes_lead_through_guarded_to_closed():
    life = opened()
    life.waits(80)
    for _ in range(3):
        assert life.tries().stage == "half_open"
    assert life.tries().stage == "guarded"
    for _ in range(60):
        life.tries()
    assert life.ask().stage == "closed"


def test_one_bad_probe_opens_again_for_twice_as_long():
    life = opened()
    life.waits(80)
    life.tries(good=False)
    verdict = life.ask()
    assert not verdict.go
    assert 96 * SECOND <= verdict.wait_ns <= 144 * SECOND


def test_a_probe_that_says_nothing_gives_its_permit_back():
    life = opened()
    life.waits(80)
    for _ in range(10):
        assert life.tries(good=None).go


def test_a_probe_whose_end_never_comes_has_failed():
    life = opened()
    life.waits(80)
    assert life.ask().go
    life.waits(301)
    assert life.ask().stage == "open"


def test_an_alarm_while_recovering_opens_again():
    life = opened()
    life.waits(80)
    for _ in range(3):
        life.tries()
    assert life.ask().stage == "guarded"
    assert [t.after for t in life.does(times=5, what="denied", result=0) if t.detector == "denied"] == [
        "open"
    ]


def test_waits_double_up_to_an_hour_and_differ_by_key():
    settings = Settings()
    waits = [wait_ns(n, "key", settings) / SECOND for n in range(12)]
    assert all(48 * 2**n <= wait <= 72 * 2**n for n, wait in enumerate(waits[:6]))
    assert all(wait <= 3600 * 1.2 for wait in waits)
    assert len({wait_ns(3, f"key{n}", settings) for n in range(50)}) > 40


def test_throttled_slows_down_and_ends_by_itself():
    life = Life()
    life.does(times=15, args=7)
    went = []
    for _ in range(40):
        life.waits(0.25)
        went.append(life.tries().go)
    assert 8 <= sum(went) <= 11
    life.waits(61)
    assert life.ask().stage == "closed"


def test_nobody_is_stopped_for_somebody_else():
    life = opened()
    for other in ({"agent": "other"}, {"session": "another"}, {"tenant": "else"}):
        assert life.ask(**other).stage == "closed"


def test_the_strictest_key_holds():
    life = Life()
    life.breakers.force(Key("agent", "t", "bot", "general"), "stop it", "ann", life.now)
    life.breakers.force(Key("tool", "t", "u/look"), "stop that", "ann", life.now)
    life.breakers.reset(Key("tool", "t", "u/look"), life.now)
    assert life.ask().stage == "forced_open"
    assert life.ask("other").go


def test_no_more_than_a_tenth_of_a_tenants_agents_is_stopped_by_detectors():
    life = Life()
    for n in range(40):
        life.does(f"bot{n}")
    found = [trip for n in range(40) for trip in life.does(f"bot{n}", times=5, **SAME)]
    assert sum(trip.after == "open" for trip in found) == 4
    assert all(trip.after == "guarded" and trip.spared for trip in found[4:])


def test_a_detector_that_is_only_observed_moves_nothing_and_is_on_record():
    life = Life(enforce_percent={"repeat": 0})
    (trip,) = life.does(times=5, **SAME)
    assert trip.observed
    assert life.ask().stage == "closed"


def test_half_of_the_agents_means_the_same_half_each_time():
    def stopped() -> set[int]:
        life = Life(enforce_percent={"repeat": 50}, max_open_percent=100)
        return {n for n in range(100) if not life.does(f"bot{n}", times=5, **SAME)[0].observed}

    assert stopped() == stopped()
    assert 30 <= len(stopped()) <= 70


def test_what_is_encoded_is_what_is_decoded():
    life = opened()
    life.does("other", times=300)
    again = Life()
    for tenant, agent in life.breakers.agents():
        again.breakers.decode(tenant, agent, life.breakers.encode(tenant, agent))
    again.breakers.put(
        (key, msgspec.msgpack.decode(msgspec.msgpack.encode(machine), type=Machine))
        for key, machine in life.breakers.machines.items()
    )
    again.now = life.now
    for which in (life, again):
        which._ids = iter(range(10_000, 20_000))  # type: ignore[assignment]
    for changes in ({}, SAME, SAME, {"what": "denied", "result": 0}, SAME, SAME, SAME):
        assert life.does("other", **changes) == again.does("other", **changes)
    assert life.ask().message == again.ask().message


class Machines(RuleBasedStateMachine):
    """Whatever happens in whatever order, with clocks that jump."""

    def __init__(self) -> None:
        super().__init__()
        self.life = Life()
        self.open: list = []
        self.granted = 0

    @rule(seconds=st.sampled_from([0, 1, 5, 61, 80, 400, 4000, -50, 100_000]))
    def time(self, seconds: float) -> None:
        self.life.waits(seconds)

    @rule(agent=st.sampled_from(["ann", "bob"]), harmless=st.booleans(), thread=st.sampled_from(["", "x"]))
    def ask(self, agent: str, harmless: bool, thread: str) -> None:
        asking = self.life.asking(agent, harmless=harmless, thread=thread)
        verdict, _ = self.life.breakers.ask(asking)
        assert verdict.wait_ns >= 0
        if verdict.go:
            assert verdict.stage not in ("open", "forced_open")
            # Only what can be undone is tried.
            assert verdict.stage != "half_open" or harmless
            self.open.append(asking)
        else:
            assert verdict.message
            assert verdict.remedy

    @precondition(lambda self: self.open)
    @rule(good=st.sampled_from([True, False, None]), data=st.data())
    def end(self, good: bool | None, data) -> None:
        asking = self.open.pop(data.draw(st.integers(0, len(self.open) - 1)))
        self.life.breakers.ended(asking, good, self.life.now)

    @rule(
        agent=st.sampled_from(["ann", "bob"]), what=st.sampled_from(["ok", "error", "denied"]),
        args=st.integers(1, 2), thread=st.sampled_from(["", "x"]), writes=st.booleans(),
        amount=st.sampled_from([0, 10, -5, 1 << 70]),
    )  # fmt: skip
    def event(self, agent: str, what: str, args: int, thread: str, writes: bool, amount: int) -> None:
        """Absurd amounts too: they are the agent's word."""
        before = {key: machine.stage for key, machine in self.life.breakers.machines.items()}
        trips = self.life.breakers.observe(
            self.life.event(
                agent, what=what, args=args, result=args, thread=thread, writes=writes, cost=max(amount, 0)
            )
        )
        for trip in trips:
            assert trip.key.name == agent
            assert trip.after in STAGES
            assert len(trip.calls) <= 10
            assert trip.observed or self.life.breakers.machines[trip.key].trip
        for key, machine in self.life.breakers.machines.items():
            # An event never makes anything less strict, and never touches another agent.
            assert RANK[machine.stage] >= RANK[before.get(key, "closed")] or key.name == agent
            assert key.name == agent or before.get(key) == machine.stage

    @rule(agent=st.sampled_from(["ann", "bob"]))
    def force(self, agent: str) -> None:
        self.life.breakers.force(Key("agent", "t", agent, "general"), "because", "eve", self.life.now)
        assert not self.life.ask(agent).go

    @rule(agent=st.sampled_from(["ann", "bob"]), part=st.sampled_from(["general", "s", "x"]))
    def reset(self, agent: str, part: str) -> None:
        scope = {"general": "agent", "s": "session", "x": "thread"}[part]
        self.life.breakers.reset(Key(scope, "t", agent, part), self.life.now)

    @invariant()
    def permits_are_never_more_than_given(self) -> None:
        for machine in self.life.breakers.machines.values():
            assert 0 <= machine.permits <= 3
            assert len(machine.probes) + machine.passed + machine.permits <= 3 or machine.stage != "half_open"

    @invariant()
    def what_needs_a_person_goes_nowhere(self) -> None:
        for machine in self.life.breakers.machines.values():
            if machine.stage == "forced_open":
                assert not machine.look(self.life.now + 10**18, True, self.life.breakers.settings).go


Machines.TestCase.settings = hypothesis_settings(max_examples=60, stateful_step_count=60, deadline=None)
TestMachines = Machines.TestCase


@pytest.mark.parametrize("scope", ["session", "agent", "tool", "upstream", "tenant", "tree", "thread"])
def test_every_scope_can_be_opened_by_a_person(scope):
    life = Life()
    asking = life.asking(thread="x", tree="root")
    key = next(key for key in asking.keys if key.scope == scope)
    life.breakers.force(key, "incident 7", "ann", life.now)
    verdict, _ = life.breakers.ask(asking)
    assert not verdict.go
    assert "incident 7" in verdict.message
    assert life.now + 1 > START
