"""Bounds of one argument, whether they hold, and whether one set of them implies another.

An argument that is absent or null is within every bound but ``required``. Elements of a list are held one by
one. A number written as text is within no ``min`` or ``max``, and a number within no ``pattern``.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from typing import Any, Final

import msgspec
import re2

from gateway.model import Json
from gateway.sessions.charges import MISSING, at

WORDS: Final = ("min", "max", "one_of", "max_length", "pattern", "forbidden", "required")
_QUIET: Final = re2.Options()
_QUIET.log_errors = False
_QUIET.max_mem = 1 << 20


class Bounds(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """``pattern`` is RE2 and is held against the whole value. ``forbidden`` lets pass ``false``, which is the
    same as nothing for a flag."""

    min: int | float | None = None
    max: int | float | None = None
    one_of: tuple[str | int | float | bool, ...] | None = None
    max_length: int | None = None
    pattern: str | None = None
    forbidden: bool = False
    required: bool = False


def words(bounds: Bounds) -> Iterable[str]:
    """The words that this set of bounds uses."""
    return (word for word in WORDS if getattr(bounds, word) not in (None, False))


def broken(bounds: Bounds, args: Json, pointer: str) -> tuple[str, ...]:
    """The words of the bounds that the argument at the pointer does not hold."""
    value = at(args, pointer)
    if value is MISSING or value is None:
        return ("required",) if bounds.required else ()
    items = value if isinstance(value, list) else (value,)
    found = [
        word
        for word in words(bounds)
        if word not in ("required", "forbidden") and not all(_holds(bounds, word, item) for item in items)
    ]
    if bounds.forbidden and value is not False:
        found.append("forbidden")
    return tuple(found)


def implies(inner: Bounds, word: str, outer: Bounds) -> bool:
    """Whether whatever is within ``inner`` holds this word of ``outer``.

    ``False`` where it cannot be told: of two patterns, only the same one is known to imply the other.
    """
    if word == "required":
        return inner.required
    if word == "forbidden":
        return inner.forbidden
    values = _values(inner)
    if values is not None:
        return all(_holds(outer, word, value) for value in values)
    if word == "min":
        return inner.min is not None and outer.min is not None and inner.min >= outer.min
    if word == "max":
        return inner.max is not None and outer.max is not None and inner.max <= outer.max
    if word == "max_length":
        return (
            inner.max_length is not None
            and outer.max_length is not None
            and inner.max_length <= outer.max_length
        )
    return word == "pattern" and inner.pattern == outer.pattern


def joined(one: Bounds, other: Bounds) -> Bounds:
    """Bounds that hold only where both hold; two patterns cannot be said at once and leave nothing."""
    choices = one.one_of if other.one_of is None else other.one_of
    if one.one_of is not None and other.one_of is not None:
        choices = tuple(value for value in one.one_of if _among(value, other.one_of))
    clash = None not in (one.pattern, other.pattern) and one.pattern != other.pattern
    return Bounds(
        min=_pick(max, one.min, other.min),
        max=_pick(min, one.max, other.max),
        one_of=choices,
        max_length=_pick(min, one.max_length, other.max_length),
        pattern=other.pattern if one.pattern is None else one.pattern,
        forbidden=one.forbidden or other.forbidden or clash,
        required=one.required or other.required,
    )


@lru_cache(maxsize=4096)
def compiled(pattern: str) -> Any:
    """The pattern over a whole value; ``ValueError`` when it is not RE2."""
    try:
        re2.compile(pattern, _QUIET)  # by itself first: "a)|(b" must not break out of the group
        return re2.compile(rf"^(?:{pattern})$", _QUIET)
    except re2.error as error:
        said = error.args[0] if error.args else "invalid"
        raise ValueError(said.decode(errors="replace") if isinstance(said, bytes) else str(said)) from error


def _values(bounds: Bounds) -> tuple[Json, ...] | None:
    """The values that are within the bounds, when they are few; absent and null are not among them."""
    if bounds.forbidden:
        choices: tuple[Json, ...] = (False,)
    elif bounds.one_of is not None:
        choices = bounds.one_of
    else:
        return None
    held = [word for word in words(bounds) if word not in ("required", "forbidden")]
    return tuple(value for value in choices if all(_holds(bounds, word, value) for word in held))


def _holds(bounds: Bounds, word: str, value: Json) -> bool:
    if word in ("min", "max"):
        if isinstance(value, bool) or not isinstance(value, int | float):
            return False
        if word == "min":
            return bounds.min is not None and value >= bounds.min
        return bounds.max is not None and value <= bounds.max
    if word == "one_of":
        return _among(value, bounds.one_of or ())
    if not isinstance(value, str):
        return False
    if word == "max_length":
        return len(value) <= (bounds.max_length or 0)
    return compiled(bounds.pattern or "").search(value) is not None


def _among(value: Json, choices: Iterable[Json]) -> bool:
    # JSON tells true from 1, Python does not.
    return any(value == item and isinstance(value, bool) == isinstance(item, bool) for item in choices)


def _pick(which: Any, one: Any, other: Any) -> Any:
    given = [value for value in (one, other) if value is not None]
    return which(given) if given else None
