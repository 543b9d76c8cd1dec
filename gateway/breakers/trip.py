"""Keys, what is said to a call, and the record of a trip."""

from __future__ import annotations

from typing import Final, Literal, NamedTuple

import msgspec

from gateway.breakers.machine import Stage

Scope = Literal["thread", "session", "agent", "tool", "upstream", "tree", "tenant"]
SCOPES: Final[tuple[Scope, ...]] = ("thread", "session", "agent", "tool", "upstream", "tree", "tenant")


class Key(NamedTuple):
    """What a breaker is about. Every key begins with its tenant: nobody's trip is another tenant's."""

    scope: Scope
    tenant: str
    name: str = ""  # agent, tool, upstream or root of the tree
    part: str = ""  # session or domain, of an agent's

    def __str__(self) -> str:
        return "/".join(part for part in (self.tenant, self.name, self.part) if part)

    @property
    def words(self) -> str:
        """For a sentence."""
        match self.scope:
            case "thread" | "session":
                return "this piece of work"
            case "agent":
                return f"agent {self.name}" + ("" if self.part in ("", "general") else f" in {self.part}")
            case "tree":
                return f"the work {self.name} delegated"
            case "tenant":
                return f"all agents of {self.tenant}"
        return f"{self.scope} {self.name}"


class Trip(msgspec.Struct, frozen=True, kw_only=True):
    """One move of a breaker, with everything needed to judge whether it was right."""

    id: str
    at_ns: int
    key: Key
    agent: str  # whose event it was; "" of a person's
    session: str
    domain: str = ""
    detector: str
    statistic: float
    threshold: float
    before: Stage
    after: Stage
    sentence: str  # one plain sentence: what was wrong
    calls: tuple[str, ...] = ()  # ids of at most ten contributing calls, oldest first
    since_ns: int = 0  # of the first of them: what is suspect begins here
    until_ns: int = 0  # when it may be tried again; 0 when only a person says
    person: bool = False
    observed: bool = False  # only recorded: the detector is not enforced for this key
    spared: bool = False  # guarded instead of open: too many agents of the tenant are open already
    by: str = ""  # the person, when it was one


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """What the breakers say of one call: the strictest of all keys it belongs to."""

    stage: Stage = "closed"
    go: bool = True
    wait_ns: int = 0  # of a refusal, when the same call may come again; 0 when nobody knows
    why: str = ""  # "throttled", "open", "person", "not_reversible", "probing"
    key: Key | None = None
    detector: str = ""
    sentence: str = ""
    trip: str = ""

    @property
    def message(self) -> str:
        """A refusal as the model is told of it: what was wrong."""
        whom = self.key.words if self.key is not None else "this agent"
        about = f": {self.sentence}" if self.sentence else ""
        if self.why == "throttled":
            return f"A circuit breaker slowed {whom} down{about}."
        if self.why in ("not_reversible", "probing"):
            return f"A circuit breaker that stopped {whom} is trying whether things are well again{about}."
        return f"A circuit breaker stopped {whom}{about}."

    @property
    def remedy(self) -> str:
        """… what would be accepted, and when to try again."""
        wait = f"{max(1, -(-self.wait_ns // 1_000_000_000))} s"
        match self.why:
            case "throttled":
                return (
                    f"Call again in {wait}, and no faster than that. {_ADVICE.get(self.detector, '')}".strip()
                )
            case "person":
                return (
                    "Stop, and tell your user: only an operator can reset it, with 'wardgate breaker reset'."
                )
            case "not_reversible":
                return "Until it is, only calls that read or can be undone are accepted."
            case "probing":
                return f"A few calls are being tried. Call again in {wait}."
        return f"Do not repeat it. {_ADVICE.get(self.detector, '')} Try again in {wait}.".replace("  ", " ")


PASSES: Final = Verdict()

_ADVICE: Final = {
    "repeat": "Use the result you have, or do something else.",
    "no_progress": "More questions of this kind will have the same answer; use another tool.",
    "cycle": "The same steps had the same results; change the plan or ask your user.",
    "return": "Settle with the other agent which state is wanted.",
    "denied": "Do what the refusals name as acceptable, or ask your user.",
    "denials": "Do what the refusals name as acceptable, or ask your user.",
    "errors": "Find out why the calls fail before making more of them.",
    "rate": "Make fewer calls.",
    "bytes": "Send less.",
    "cost": "Use cheaper calls.",
    "health": "Do something that does not need this tool server.",
}
