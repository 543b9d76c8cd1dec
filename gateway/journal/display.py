"""Payloads as people may see them: what must not be shown is taken out unless somebody insists.

Arguments lose what the manifest of their time called sensitive. A result has no such list, so one that the
result policy redacted, withheld or did not allow is not shown at all.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

from gateway.model import Json

REDACTED: Final = "[redacted]"


def redact(value: Json, pointers: Iterable[str]) -> Json:
    """A copy without what the JSON pointers (RFC 6901) name; one that names nothing changes nothing."""
    for pointer in pointers:
        value = _without(
            value, [part.replace("~1", "/").replace("~0", "~") for part in pointer.split("/")[1:]]
        )
    return value


def presentable(payload: Mapping[str, Json], *, result_restricted: bool) -> dict[str, Json]:
    """The ``arguments``, ``result`` and ``error`` of a call, redacted."""
    shown: dict[str, Json] = {}
    if "arguments" in payload:
        shown["arguments"] = redact(payload["arguments"], payload.get("sensitive", ()))
    for which in ("result", "error"):
        if which in payload:
            shown[which] = REDACTED if result_restricted else payload[which]
    return shown


def restricts(end: Mapping[str, Any]) -> bool:
    """Whether the result policy kept any part of the result from the agent."""
    said = end.get("result") or {}
    return (
        end.get("status") == "withheld"
        or said.get("verdict", "allow") != "allow"
        or any(obligation["kind"] == "redact" for obligation in said.get("obligations", ()))
    )


def _without(value: Json, path: list[str]) -> Json:
    if not path:
        return REDACTED
    head, rest = path[0], path[1:]
    if isinstance(value, dict) and head in value:
        return {**value, head: _without(value[head], rest)}
    if isinstance(value, list) and head.isdecimal() and int(head) < len(value):
        index = int(head)
        return [*value[:index], _without(value[index], rest), *value[index + 1 :]]
    return value
