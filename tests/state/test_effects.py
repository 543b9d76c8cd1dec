"""An effect is reserved before it is tried, and freed only when it is proven not to have happened."""

from __future__ import annotations

from itertools import count

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from msgspec.structs import replace

from gateway.model import Call, Manifest, Outcome, Principal, Tool
from gateway.state.effects import Effects, LiveEffect

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


def begin(effects, call):
    return effects.begin(call)


def settle(effects, call, outcome):
    effects.settle(call, outcome)


OK = Outcome(status="ok")
DOUBT = Outcome(status="in_doubt", code="upstream_lost")
NOT_SENT = Outcome(status="not_sent", code="upstream_unavailable")


def test_one_effect_key_is_never_in_flight_twice():
    effects = Effects()
    assert begin(effects, make("refund:1")) == "free"
    assert begin(effects, make("refund:1")) == "in_flight"
    assert begin(effects, make("refund:2")) == "free"


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
    effects = Effects()
    first = make("refund:1", digest="one")
    begin(effects, first)
    settle(effects, first, outcome)
    assert begin(effects, make("refund:1", digest="two")) == after


def test_an_identical_call_is_not_sent_again_while_the_first_is_in_doubt():
    effects = Effects()
    first = make(digest="same")
    begin(effects, first)
    settle(effects, first, DOUBT)
    assert begin(effects, make(digest="same")) == "in_doubt"
    assert begin(effects, make(digest="other")) == "free"


def test_a_call_changed_by_policy_is_in_doubt_under_what_the_agent_sends_again():
    effects = Effects()
    first = make(digest="asked")
    begin(effects, first)
    settle(effects, replace(first, digest="sent", modified_from="asked"), DOUBT)
    assert begin(effects, make(digest="asked")) == "in_doubt"


def test_an_idempotent_tool_may_be_repeated():
    effects = Effects()
    first = make("k", idempotent=True)
    begin(effects, first)
    settle(effects, first, DOUBT)
    assert begin(effects, make("k", idempotent=True)) == "free"


def test_reads_hold_no_effect():
    effects = Effects()
    assert begin(effects, make("k", risk="read")) == "free"
    assert begin(effects, make("k", risk="read")) == "free"


def test_what_the_journal_knows_at_start_is_respected():
    effects = Effects([LiveEffect("t", "a", "d1", "in_doubt"), LiveEffect("t", "b", "d2", "done")])
    assert begin(effects, make("a", digest="x")) == "in_doubt"
    assert begin(effects, make("b", digest="x")) == "done"
    assert begin(effects, make(digest="d1")) == "in_doubt"


@pytest.mark.parametrize(("done", "then"), [(True, "done"), (False, "free")])
def test_a_resolved_doubt_is_done_or_free_again_and_nothing_else_changes(done, then):
    doubt = LiveEffect("t", "a", "d1", "in_doubt")
    effects = Effects([doubt, LiveEffect("t", "b", "d2", "in_doubt")])
    just_done = make("refund:1", digest="one")
    begin(effects, just_done)
    settle(effects, just_done, OK)
    effects.resolve(doubt, done=done)
    assert begin(effects, make("a", digest="x")) == then
    assert begin(effects, make(digest="d1")) == "free"
    assert begin(effects, make("b", digest="x")) == "in_doubt"
    assert begin(effects, make(digest="d2")) == "in_doubt"
    assert begin(effects, make("refund:1", digest="two")) == "done"


def test_settling_twice_changes_nothing():
    effects = Effects()
    first = make("k", digest="one")
    begin(effects, first)
    settle(effects, first, NOT_SENT)
    second = make("k", digest="two")
    assert begin(effects, second) == "free"
    settle(effects, first, OK)
    assert begin(effects, make("k", digest="three")) == "in_flight"


class EffectsHappenOnce(RuleBasedStateMachine):
    """Whatever the order of attempts and outcomes, no key is carried out while it is held."""

    def __init__(self):
        super().__init__()
        self.effects = Effects()
        self.running: dict[str, Call] = {}
        self.done: list[str] = []
        self.doubt: set[str] = set()

    @rule(key=st.sampled_from("abc"))
    def attempt(self, key):
        call = make(key, digest=f"{key}-{next(numbers)}")
        if begin(self.effects, call) == "free":
            assert key not in self.running and key not in self.doubt and key not in self.done
            self.running[key] = call
        else:
            settle(self.effects, call, None)

    @rule(key=st.sampled_from("abc"), outcome=st.sampled_from([OK, DOUBT, NOT_SENT]))
    def finish(self, key, outcome):
        call = self.running.pop(key, None)
        if call is None:
            return
        settle(self.effects, call, outcome)
        if outcome is OK:
            self.done.append(key)
        elif outcome is DOUBT:
            self.doubt.add(key)

    @invariant()
    def no_key_is_done_twice(self):
        assert len(self.done) == len(set(self.done))


TestEffectsHappenOnce = EffectsHappenOnce.TestCase
TestEffectsHappenOnce.settings = settings(max_examples=50, deadline=None)
