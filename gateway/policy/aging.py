"""What may still be done while the source of the policy has not answered for a while.

A remote source that is cut off could be hiding a stricter policy, so the older the last verified answer, the
less may happen by the old one. This is data, and it holds whatever the rules say; it only ever tightens.
Rules see it too, as ``policy`` in ``input.stale``. A folder or file on this machine never ages.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Literal

from msgspec.structs import replace

from gateway.model import (
    Action,
    Ask,
    Call,
    Decision,
    Facts,
    Finding,
    Outcome,
    Principal,
    Settled,
    Tool,
    Verdict,
)
from gateway.ports import NOTHING_SHOWN, Clock, Policy, Shown, State
from gateway.reasons import REASONS

Age = Literal["fresh", "soft", "hard"]
Class = Literal["read", "reversible", "irreversible"]

DEGRADED: Final[Mapping[tuple[Age, Class], Verdict]] = {
    ("soft", "read"): "allow",
    ("soft", "reversible"): "allow",
    ("soft", "irreversible"): "escalate",
    ("hard", "read"): "deny",
    ("hard", "reversible"): "escalate",
    ("hard", "irreversible"): "deny",
}
"""The most that is done, by age of the policy and class of the call; fresh limits nothing."""

_RANK: Final[Mapping[Verdict, int]] = {"allow": 0, "escalate": 1, "deny": 2}
STALE: Final = "policy"
CODE: Final = "policy_stale"


def klass(tool: Tool) -> Class:
    """The row of a call: what leaves the house is as final as what cannot be undone."""
    if "egress" in tool.manifest.effects:
        return "irreversible"
    if tool.manifest.risk in ("read", "reversible"):
        return tool.manifest.risk
    return "irreversible"


class Freshness:
    """How old the policy is. ``seen_ns`` is when its source was last verified."""

    def __init__(self, clock: Clock, seen_ns: int, soft_s: float, hard_s: float) -> None:
        self._clock = clock
        self._soft_ns = int(soft_s * 1e9)
        self._hard_ns = int(hard_s * 1e9)
        self.seen_ns = seen_ns

    @property
    def age(self) -> Age:
        # A clock that was set back must not make an old policy young.
        elapsed = abs(self._clock.now_ns() - self.seen_ns)
        if elapsed < self._soft_ns:
            return "fresh"
        return "soft" if elapsed < self._hard_ns else "hard"


class AgingPolicy:
    """Implements ``ports.Policy`` over another one whose source may fall silent."""

    def __init__(self, policy: Policy, freshness: Freshness) -> None:
        self._call = policy.call
        self._freshness = freshness
        self.revision = policy.revision
        self.wants_result = policy.wants_result
        self.result = policy.result
        self.visible = policy.visible
        self.sees = policy.sees
        self.modify = policy.modify

    async def call(self, call: Call, facts: Facts) -> Decision:
        decision = await self._call(call, facts)
        age = self._freshness.age
        return decision if age == "fresh" else degraded(decision, age, klass(call.tool))


def degraded(decision: Decision, age: Age, of: Class) -> Decision:
    """The decision as far as it may go at this age."""
    most = DEGRADED[(age, of)]
    reason = REASONS[CODE]
    said = Finding(code=CODE, message=reason.message, remedy=reason.remedy)
    if _RANK[most] <= _RANK[decision.verdict]:
        return replace(decision, notes=(*decision.notes, said))
    if most == "deny":
        return replace(decision, verdict="deny", findings=(said,), obligations=())
    return replace(decision, verdict=most, findings=(replace(said, chain="default"),))


class AgingState:
    """Implements ``ports.State`` over another one: rules and records see that the policy is old."""

    def __init__(self, state: State, freshness: Freshness) -> None:
        self._state = state
        self._freshness = freshness

    async def enter(self, ask: Ask) -> str:
        return await self._state.enter(ask)

    async def begin(self, call: Call) -> Facts:
        facts = await self._state.begin(call)
        return facts if self._freshness.age == "fresh" else replace(facts, stale=(*facts.stale, STALE))

    async def settle(
        self, call: Call, action: Action, outcome: Outcome | None, shown: Shown = NOTHING_SHOWN
    ) -> Settled:
        return await self._state.settle(call, action, outcome, shown)

    def slow(self, principal: Principal, session: str = "") -> Facts:
        return self._state.slow(principal, session)
