"""An effect is reserved before it is tried, and freed only when it is proven not to have happened."""

from __future__ import annotations

import asyncio
from itertools import count

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from msgspec.structs import replace

from gateway.model import Call, Manifest, Outcome, Principal, Tool
from gateway.state.memory import LiveEffect, MemoryState

AGENT = Principal(tenant="t", agent="a", owner="o", credential="c")
numbers = count()


def make(key: str | None = None, digest: str = "d", **manifest) -> Call:
    template = None if key is None else key
    tool = Tool(
        kind="tool",
        upstream="u",
        name="n",
        target="u/n",
        schema_hash="",
        manifest=Manifest(effect_key=template, **manifest),
    )
    call_id = f"call-{next(numbers)}"
    return Call(
        id=call_id,
        principal=AGENT,
        tool=tool,
        args={},
        args_json=b"{}",
        digest=digest,
        session="s",
        thread="",
        surface="mcp",
        effect_key=key or call_id,
        received_ns=0,
    )


def begin(state, call):
    return asyncio.run(state.begin(call))


def settle(state, call, outcome, action="allow"):
    asyncio.run(state.settle(call, action, outcome))


OK = Outcome(status="ok")
DOUBT = Outcome(status="in_doubt", code="upstream_lost")
NOT_SENT = Outcome(status="not_sent", code="upstream_unavailable")


def test_one_effect_key_is_never_in_flight_twice():
    state = MemoryState()
    assert begin(state, make("refund:1")).effect == "free"
    assert begin(state, make("refund:1")).effect == "in_flight"
    assert begin(state, make("refund:2")).effect == "free"


@pytest.mark.parametrize(
    ("outcome", "after"),
    [
        (OK, "done"),
        (DOUBT, "in_doubt"),
        (NOT_SENT, "free"),
        (None, "free"),
        (Outcome(status="tool_error"), "free"),
    ],
)
def test_what_an_effect_key_is_after_each_outcome(outcome, after):
    state = MemoryState()
    first = make("refund:1", digest="one")
    begin(state, first)
    settle(state, first, outcome)
    assert begin(state, make("refund:1", digest="two")).effect == after


def test_an_identical_call_is_not_sent_again_while_the_first_is_in_doubt():
    state = MemoryState()
    first = make(digest="same")
    begin(state, first)
    settle(state, first, DOUBT)
    assert begin(state, make(digest="same")).effect == "in_doubt"
    assert begin(state, make(digest="other")).effect == "free"


def test_a_call_changed_by_policy_is_in_doubt_under_what_the_agent_sends_again():
    state = MemoryState()
    first = make(digest="asked")
    begin(state, first)
    settle(state, replace(first, digest="sent", modified_from="asked"), DOUBT)
    assert begin(state, make(digest="asked")).effect == "in_doubt"


def test_an_idempotent_tool_may_be_repeated():
    state = MemoryState()
    first = make("k", idempotent=True)
    begin(state, first)
    settle(state, first, DOUBT)
    assert begin(state, make("k", idempotent=True)).effect == "free"


def test_reads_hold_no_effect():
    state = MemoryState()
    assert begin(state, make("k", risk="read")).effect == "free"
    assert begin(state, make("k", risk="read")).effect == "free"


def test_what_the_journal_knows_at_start_is_respected():
    state = MemoryState([LiveEffect("t", "a", "d1", "in_doubt"), LiveEffect("t", "b", "d2", "done")])
    assert begin(state, make("a", digest="x")).effect == "in_doubt"
    assert begin(state, make("b", digest="x")).effect == "done"
    assert begin(state, make(digest="d1")).effect == "in_doubt"


@pytest.mark.parametrize(("done", "then"), [(True, "done"), (False, "free")])
def test_a_resolved_doubt_is_done_or_free_again_and_nothing_else_changes(done, then):
    doubt = LiveEffect("t", "a", "d1", "in_doubt")
    state = MemoryState([doubt, LiveEffect("t", "b", "d2", "in_doubt")])
    just_done = make("refund:1", digest="one")
    begin(state, just_done)
    settle(state, just_done, OK)
    state.resolve(doubt, done=done)
    assert begin(state, make("a", digest="x")).effect == then
    assert begin(state, make(digest="d1")).effect == "free"
    assert begin(state, make("b", digest="x")).effect == "in_doubt"
    assert begin(state, make(digest="d2")).effect == "in_doubt"
    assert begin(state, make("refund:1", digest="two")).effect == "done"


def test_settling_twice_changes_nothing():
    state = MemoryState()
    first = make("k", digest="one")
    begin(state, first)
    settle(state, first, NOT_SENT)
    second = make("k", digest="two")
    assert begin(state, second).effect == "free"
    settle(state, first, OK)
    assert begin(state, make("k", digest="three")).effect == "in_flight"


def test_counters_are_of_what_really_happened():
    state = MemoryState()
    for outcome, action in ((OK, "allow"), (None, "block"), (Outcome(status="tool_error"), "allow")):
        call = make(digest=str(outcome))
        begin(state, call)
        settle(state, call, outcome, action)
    session = begin(state, make(digest="z")).fast["session"]
    assert (session["calls"], session["denials"], session["errors"], session["irreversible"]) == (2, 1, 1, 2)


class EffectsHappenOnce(RuleBasedStateMachine):
    """Whatever the order of attempts and outcomes, no key is carried out while it is held."""

    def __init__(self):
        super().__init__()
        self.state = MemoryState()
        self.running: dict[str, Call] = {}
        self.done: list[str] = []
        self.doubt: set[str] = set()

    @rule(key=st.sampled_from("abc"))
    def attempt(self, key):
        call = make(key, digest=f"{key}-{next(numbers)}")
        if begin(self.state, call).effect == "free":
            assert key not in self.running and key not in self.doubt and key not in self.done
            self.running[key] = call
        else:
            settle(self.state, call, None, "block")

    @rule(key=st.sampled_from("abc"), outcome=st.sampled_from([OK, DOUBT, NOT_SENT]))
    def finish(self, key, outcome):
        call = self.running.pop(key, None)
        if call is None:
            return
        settle(self.state, call, outcome)
        if outcome is OK:
            self.done.append(key)
        elif outcome is DOUBT:
            self.doubt.add(key)

    @invariant()
    def no_key_is_done_twice(self):
        assert len(self.done) == len(set(self.done))


TestEffectsHappenOnce = EffectsHappenOnce.TestCase
TestEffectsHappenOnce.settings = settings(max_examples=50, deadline=None)
