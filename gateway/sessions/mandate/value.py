"""A mandate: what was delegated, and its bounds. What it covers, and what policy sees of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from hashlib import sha256
from typing import Any, Final, Literal, get_args

import msgspec

from gateway import strictjson
from gateway.model import Json, Risk
from gateway.sessions.mandate.bounds import Bounds, broken
from gateway.sessions.mandate.globs import matches

RISKS: Final[tuple[Risk, ...]] = get_args(Risk)
SHOWN_OBJECTIVE: Final = 256


class Horizon(msgspec.Struct, frozen=True, omit_defaults=True):
    """How far the agent goes before somebody looks: actions, minutes, whichever comes first."""

    actions: int | None = None
    minutes: int | None = None


class Proof(msgspec.Struct, frozen=True, omit_defaults=True):
    """A read whose result shows that a milestone was reached: JSON pointers and what must stand there."""

    tool: str
    match: dict[str, Json]
    arguments: dict[str, Json] = {}


class Milestone(msgspec.Struct, frozen=True):
    name: str
    verify: Proof


class Mandate(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Only ``parse`` and ``narrowed`` make one. Left out means: no such bound."""

    id: str = ""  # of the content
    objective: str = ""
    request: str = ""  # the user's own words; never a fact of policy
    tools: tuple[str, ...] = ()
    reads: Literal["listed", "any"] = "listed"
    risks: tuple[Risk, ...] = RISKS
    arguments: dict[str, dict[str, Bounds]] = {}  # tool pattern → JSON pointer → bounds
    budgets: dict[str, int] = {}
    horizon: Horizon = Horizon()
    trusted_values: tuple[str, ...] = ()
    milestones: tuple[Milestone, ...] = ()
    expires_ns: int | None = None


class Outside(msgspec.Struct, frozen=True):
    """One bound of the arguments that does not hold: where, and the word of the bound."""

    pointer: str
    word: str


def covers(mandate: Mandate, target: str, risk: str, effects: Sequence[str] = ()) -> bool:
    """Whether a tool of this risk may be used under the mandate, whatever its arguments."""
    if risk not in mandate.risks:
        return False
    # What is read with an address of the agent's making tells its host something.
    if risk == "read" and mandate.reads == "any" and "egress" not in effects:
        return True
    return any(matches(pattern, target) for pattern in mandate.tools)


def outside(mandate: Mandate, target: str, args: Mapping[str, Json]) -> tuple[Outside, ...]:
    """Every bound that the arguments of a call are not within."""
    return tuple(
        Outside(pointer, word)
        for pattern, pointers in mandate.arguments.items()
        if matches(pattern, target)
        for pointer, bounds in pointers.items()
        for word in broken(bounds, args, pointer)
    )


def facts(mandate: Mandate, target: str | None = None) -> dict[str, Json]:
    """``input.mandate``. With a target, only the patterns and bounds about it, so that it stays small.

    The request is left out: it may be long, and is for tracing values, not for rules.
    """

    def about(pattern: str) -> bool:
        return target is None or matches(pattern, target)

    found: dict[str, Json] = {
        "id": mandate.id,
        "objective": mandate.objective[:SHOWN_OBJECTIVE],
        "tools": [pattern for pattern in mandate.tools if about(pattern)],
        "reads": mandate.reads,
        "risks": list(mandate.risks),
        "arguments": {
            pattern: msgspec.to_builtins(pointers)
            for pattern, pointers in mandate.arguments.items()
            if about(pattern)
        },
    }
    if mandate.expires_ns is not None:
        found["expires"] = mandate.expires_ns
    return found


def identified(mandate: Mandate) -> Mandate:
    """The mandate with the id that its content has."""
    content = msgspec.to_builtins(msgspec.structs.replace(mandate, id=""))
    digest = sha256(strictjson.canonical(content)).hexdigest()
    return msgspec.structs.replace(mandate, id=f"m-{digest[:24]}")


def encode(mandate: Mandate) -> dict[str, Any]:
    plain: dict[str, Any] = msgspec.to_builtins(mandate)
    return plain


def decode(value: object) -> Mandate:
    """``msgspec.ValidationError`` for anything that ``encode`` did not make."""
    return msgspec.convert(value, Mandate)
