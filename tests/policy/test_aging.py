"""The degradation table, cell by cell; age only ever tightens."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.model import Decision, Facts, Finding
from gateway.policy.aging import CODE, AgingPolicy, AgingState, Freshness, degraded, klass
from tests.policy.helpers import call, tool

RANK = {"allow": 0, "escalate": 1, "deny": 2}
CELLS = [
    # age, risk, effects: what an allowed call becomes
    ("fresh", "read", (), "allow"),
    ("fresh", "irreversible", ("egress",), "allow"),
    ("soft", "read", (), "allow"),
    ("soft", "reversible", (), "allow"),
    ("soft", "compensable", (), "escalate"),
    ("soft", "irreversible", (), "escalate"),
    ("soft", "read", ("egress",), "escalate"),
    ("soft", "reversible", ("egress",), "escalate"),
    ("hard", "read", (), "deny"),
    ("hard", "reversible", (), "escalate"),
    ("hard", "compensable", (), "deny"),
    ("hard", "irreversible", (), "deny"),
    ("hard", "read", ("egress",), "deny"),
    ("hard", "reversible", ("egress",), "deny"),
]
AFTER_S = {"fresh": 59, "soft": 61, "hard": 601}


class Clock:
    def __init__(self) -> None:
        self.ns = 10**18

    def now_ns(self) -> int:
        return self.ns

    def monotonic(self) -> float:
        return self.ns / 1e9


class Inner:
    """A policy that says one thing and a state that knows nothing."""

    revision = "r1"

    def __init__(self, verdict: str = "allow") -> None:
        self.said = Decision(verdict=verdict, findings=(Finding(code="fine", message="m", rule="x"),))

    async def call(self, call, facts):
        return self.said

    async def begin(self, call):
        return Facts(stale=("other",))

    wants_result = result = visible = sees = modify = settle = slow = None


@pytest.mark.parametrize(("age", "risk", "effects", "becomes"), CELLS)
async def test_each_cell(age, risk, effects, becomes):
    clock, inner = Clock(), Inner()
    freshness = Freshness(clock, clock.ns, 60, 600)
    policy, state = AgingPolicy(inner, freshness), AgingState(inner, freshness)
    clock.ns += AFTER_S[age] * 10**9
    asked = call({}, on=tool(risk=risk, effects=effects))
    decision = await policy.call(asked, Facts())
    assert decision.verdict == becomes
    assert (decision.code == CODE) == (becomes != "allow")
    assert (CODE in [note.code for note in decision.notes]) == (age != "fresh" and becomes == "allow")
    assert (await state.begin(asked)).stale == (("other",) if age == "fresh" else ("other", "policy"))
    freshness.seen_ns = clock.ns
    assert await policy.call(asked, Facts()) is inner.said, "as soon as it is verified again"


async def test_a_clock_that_was_set_back_makes_nothing_young():
    clock, inner = Clock(), Inner()
    policy = AgingPolicy(inner, Freshness(clock, clock.ns, 60, 600))
    clock.ns -= 10_000 * 10**9
    assert (await policy.call(call({}, on=tool(risk="read")), Facts())).verdict == "deny"


@given(
    st.sampled_from(["allow", "escalate", "deny"]),
    st.sampled_from(["soft", "hard"]),
    st.sampled_from(["read", "reversible", "compensable", "irreversible"]),
    st.booleans(),
)
def test_age_never_loosens(verdict, age, risk, egress):
    said = Inner(verdict).said
    of = klass(tool(risk=risk, effects=("egress",) if egress else ()))
    now = degraded(said, age, of)
    assert RANK[now.verdict] >= RANK[verdict]
    if verdict == "deny":
        assert now.findings == said.findings, "the rule that refused is still the one that is named"
