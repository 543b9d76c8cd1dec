"""The policy input as a JSON Schema, made from the table of paths, for editors, OPA and tests.

One schema holds for every phase: what a phase lacks is simply absent. ``of`` gives that of one phase, in
which absent is not enough and unknown is refused.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any, Final

from gateway.policy.contract import CONTRACT, VERSION, Field, Path
from gateway.policy.metadata import PHASES, Phase

DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"
ID: Final = f"urn:wardgate:policy-input:{VERSION}"

Schema = dict[str, Any]


def published() -> Schema:
    """What ``GET /v1/policy/schema`` answers: every phase in one, and each alone under ``$defs``."""
    return {
        "$schema": DIALECT,
        "$id": ID,
        "title": f"wardgate policy input, version {VERSION}",
        "description": "Times are nanoseconds since the epoch, money is integer micro-USD.",
        **_object(CONTRACT.items(), lambda field: all(phase in field.phases for phase in PHASES)),
        "$defs": {phase: of(phase) for phase in PHASES},
    }


def of(phase: Phase) -> Schema:
    """The input of one phase."""
    fields = [(path, field) for path, field in CONTRACT.items() if phase in field.phases]
    return {"title": f"input of phase '{phase}'", **_object(fields, lambda _: True)}


def at(path: Path) -> Mapping[str, Any] | None:
    """The schema of one path; ``None`` where anything may stand."""
    field = CONTRACT.get(path)
    if field is None:
        return None
    return field.schema or None


def never(wanted: Mapping[str, Any], value: Any, *, ordered: bool) -> str | None:
    """Why a value of this schema is never equal to the literal (or, ``ordered``, of its type)."""
    allowed = wanted.get("enum") or ([wanted["const"]] if "const" in wanted else None)
    if allowed is not None:
        if ordered:
            return None if type(value) is type(allowed[0]) else f"is no {_TYPE[type(value)]}"
        said = ", ".join(map(str, allowed))
        return None if value in allowed else f"is never {json.dumps(value)}; it is one of {said}"
    kind = wanted.get("type")
    if kind == "integer" and isinstance(value, int | float) and not isinstance(value, bool):
        low, high = wanted.get("minimum", value), wanted.get("maximum", value)
        return None if ordered or low <= value <= high else f"is never {value}; it is {low} to {high}"
    if kind is None or kind == _TYPE[type(value)]:
        return None
    return f"is never {json.dumps(value)}; it is of type {kind}"


_TYPE: Final = {str: "string", bool: "boolean", int: "integer", float: "number"}


def _object(fields: Iterable[tuple[Path, Field]], required: Any, depth: int = 0) -> Schema:
    properties: dict[str, Any] = {}
    needed: list[str] = []
    below: dict[str, list[tuple[Path, Field]]] = {}
    for path, field in fields:
        name = path[depth]
        if len(path) > depth + 1:
            below.setdefault(name, []).append((path, field))
            properties.setdefault(name, None)  # keeps its place
            continue
        about = field.about + ("" if not field.phases or len(field.phases) == len(PHASES) else _phases(field))
        properties[name] = {**field.schema, "description": about}
        if required(field) and not field.optional:
            needed.append(name)
    for name, inner in below.items():
        properties[name] = _object(inner, required, depth + 1)
        if any(required(field) for _, field in inner):
            needed.append(name)
    return {"type": "object", "properties": properties, "required": needed, "additionalProperties": False}


def _phases(field: Field) -> str:
    return f" (phases: {', '.join(field.phases)})"
