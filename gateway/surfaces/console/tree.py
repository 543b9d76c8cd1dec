"""Arguments as rows of a tree, and what differs from the arguments of another call."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final, Literal, NamedTuple

from gateway.surfaces.console.inert import Piece, pieces, warnings

MAX_ROWS: Final = 600
_MISSING: Final = object()

Change = Literal["", "added", "removed", "changed"]


class Row(NamedTuple):
    """One member. ``value`` is ``None`` for an object or list, whose members follow one step deeper."""

    depth: int
    pointer: str
    key: list[Piece]
    kind: str  # object, list, text, number, true/false, null
    value: list[Piece] | None
    change: Change = ""
    before: list[Piece] | None = None
    hint: str = ""  # a number as people read it
    careful: tuple[str, ...] = ()


def rows(value: Any, before: Any = _MISSING) -> list[Row]:
    """The tree of ``value``; with ``before``, each row says how it differs. At most ``MAX_ROWS``."""
    found: list[Row] = []
    for row in _members(value, before, 0, ""):
        if len(found) == MAX_ROWS:
            found.append(Row(0, "", [Piece("…")], "text", [Piece("more than is shown", "not shown")]))
            break
        found.append(row)
    return found


def differences(value: Any, before: Any) -> int:
    """How many members differ, also of those beyond what is shown."""
    return sum(1 for row in _members(value, before, 0, "") if row.change)


def line(value: Any, longest: int = 140) -> list[Piece]:
    """Arguments on one line."""
    parts = [f"{key}: {_flat(each)}" for key, each in value.items()] if isinstance(value, dict) else []
    # The short ones first: an amount or an address tells more than the beginning of a letter.
    text = " · ".join(sorted(parts, key=lambda part: len(part) > 40))
    return pieces(text if len(text) <= longest else text[: longest - 1] + "…")


def _members(value: Any, before: Any, depth: int, pointer: str) -> Iterator[Row]:
    now = dict(_pairs(value))
    then = dict(_pairs(before)) if before is not _MISSING else {}
    for key in [*now, *(key for key in then if key not in now)]:
        here = f"{pointer}/{str(key).replace('~', '~0').replace('/', '~1')}"
        yield from _one(
            key, now.get(key, _MISSING), then.get(key, _MISSING), before is not _MISSING, depth, here
        )


def _one(key: str, value: Any, before: Any, compare: bool, depth: int, pointer: str) -> Iterator[Row]:
    name = pieces(key)
    careful = tuple(f"name: {each}" for each in warnings(key))
    if value is _MISSING:
        gone = pieces(_flat(before, 2_000))
        yield Row(depth, pointer, name, _kind(before), None, "removed", gone, careful=careful)
        return
    change: Change = ""
    if compare:
        change = "added" if before is _MISSING else "" if _same(value, before) else "changed"
    if isinstance(value, dict | list) and value:
        nested = compare and isinstance(before, type(value))
        was = pieces(_flat(before, 2_000)) if change == "changed" and not nested else None
        shown: Change = "" if nested else change
        yield Row(depth, pointer, name, _kind(value), None, shown, was, careful=careful)
        yield from _members(value, before if nested else _MISSING, depth + 1, pointer)
        return
    careful += tuple(warnings(value)) if isinstance(value, str) else ()
    was = pieces(_flat(before, 2_000)) if change == "changed" else None
    yield Row(
        depth, pointer, name, _kind(value), pieces(_text(value)), change, was, _hint(key, value), careful
    )


def _hint(key: str, value: Any) -> str:
    if isinstance(value, bool) or not isinstance(value, int):
        return ""
    if key.endswith("micro_usd"):
        return f"${value / 1e6:,.2f}"
    return f"{value:,}" if abs(value) >= 100_000 else ""


def _same(value: Any, before: Any) -> bool:
    return type(value) is type(before) and bool(value == before)


def _pairs(value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict):
        yield from value.items()
    elif isinstance(value, list):
        yield from ((str(number), each) for number, each in enumerate(value))


def _text(value: Any) -> str:
    if isinstance(value, str):
        return value
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, dict):
        return "{ }"
    if isinstance(value, list):
        return "[ ]"
    return str(value)


def _flat(value: Any, longest: int = 60) -> str:
    if isinstance(value, dict):
        text = "{" + ", ".join(f"{key}: {_flat(each, longest)}" for key, each in value.items()) + "}"
    elif isinstance(value, list):
        text = "[" + ", ".join(_flat(each, longest) for each in value) + "]"
    else:
        text = _text(value)
    return text if len(text) <= longest else text[: longest - 1] + "…"


def _kind(value: Any) -> str:
    if isinstance(value, dict):
        return "object"
    if isinstance(value, list):
        return "list"
    if isinstance(value, bool):
        return "true/false"
    if isinstance(value, int | float):
        return "number"
    return "null" if value is None else "text"
