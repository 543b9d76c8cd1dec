"""From an upstream's list to ``Tool`` values, and what is wrong with the rest of the list."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from hashlib import sha256
from typing import Any, Final, Literal

import msgspec
import orjson
import re2

from gateway import strictjson
from gateway.catalog import names
from gateway.catalog.manifests import Manifests
from gateway.model import Json, Kind, Mode, Tool
from gateway.output_schema import declared

ListKind = Literal["tool", "prompt", "resource", "template"]

MAX_DEFINITION_BYTES: Final = 256 * 1024
_KEYS: Final[dict[ListKind, tuple[Kind, str, int]]] = {
    "tool": ("tool", "name", names.MAX_CHARS),
    "prompt": ("prompt", "name", names.MAX_CHARS),
    "resource": ("resource", "uri", names.MAX_URI_CHARS),
    "template": ("resource", "uriTemplate", names.MAX_URI_CHARS),
}


class Problem(msgspec.Struct, frozen=True, kw_only=True):
    """Something of an upstream's lists that an operator should know of."""

    upstream: str
    subject: str  # the name concerned, escaped; "" when it is the whole upstream
    detail: str


class Template(msgspec.Struct, frozen=True):
    """A family of resources; ``tool`` is its entry in the list."""

    pattern: Any  # compiled by RE2, whose time is linear in the URI
    tool: Tool


def build(
    upstream: str, kind: ListKind, definitions: Sequence[Mapping[str, Json]], manifests: Manifests, mode: Mode
) -> tuple[list[Tool], list[Problem]]:
    """The usable entries of one list, in the upstream's order."""
    tool_kind, key, max_chars = _KEYS[kind]
    counted = Counter(name for each in definitions if isinstance(name := each.get(key), str))
    tools: list[Tool] = []
    problems: list[Problem] = []
    reported: set[str] = set()
    for definition in definitions:
        name = definition.get(key)
        fault = names.fault(name, max_chars)
        encoded = b"" if fault else orjson.dumps(definition)
        if not fault and counted[str(name)] > 1:
            # Which of them a call would reach is the upstream's secret, so none is offered.
            fault = "is listed more than once"
        if not fault and len(encoded) > MAX_DEFINITION_BYTES:
            fault = f"has a definition of more than {MAX_DEFINITION_BYTES} bytes"
        if fault:
            subject = names.shown(name)
            if subject not in reported:
                reported.add(subject)
                problems.append(
                    Problem(upstream=upstream, subject=subject, detail=f"{kind} {fault}; refused")
                )
            continue
        assert isinstance(name, str)  # or it had been at fault
        made = Tool(
            kind=tool_kind,
            upstream=upstream,
            name=name,
            target=f"{upstream}/{name}",
            manifest=manifests.of(tool_kind, name, definition.get("annotations")),
            schema_hash=schema_hash(definition, kind),
            definition_json=encoded,
            mode=mode,
        )
        tools.append(made)
        schema = declared(made)
        if schema is not None and schema.fault:
            detail = f"its outputSchema cannot be used, so no result fits it: {names.shown(schema.fault)}"
            problems.append(Problem(upstream=upstream, subject=names.shown(name), detail=detail))
    return tools, problems


def unverifiable(upstream: str, tools: Sequence[Tool]) -> list[Problem]:
    """What stands in the way of looking back at calls, which are made all the same."""
    listed = {tool.name: tool for tool in tools}
    problems: list[Problem] = []
    for tool in tools:
        verify, reconcile = tool.manifest.verify, tool.manifest.reconcile
        for named, stay in (
            (verify.tool if verify is not None else None, "unverified"),
            (reconcile.tool if reconcile is not None else None, "in doubt when they are"),
        ):
            reader = listed.get(named) if named is not None else None
            if named is None or (reader is not None and not reader.writes):
                continue
            why = (
                "is not listed by the upstream"
                if reader is None
                else f"is {reader.manifest.risk}, not a read"
            )
            detail = f"its calls stay {stay}: {names.shown(named)} {why}"
            problems.append(Problem(upstream=upstream, subject=names.shown(tool.name), detail=detail))
    return problems


def schema_hash(definition: Mapping[str, Json], kind: ListKind = "tool") -> str:
    """SHA-256 of the canonical JSON of a definition; any change of what an agent could read shows.

    Everything counts, because everything is passed on: also icons, ``_meta``, arguments of prompts and
    members that no revision of the protocol knows yet. Only the size of a resource and the time it was last
    changed do not: they are about the data, which an agent reads anew anyway.
    """
    if kind == "resource":
        definition = {key: value for key, value in definition.items() if key != "size"}
        annotations = definition.get("annotations")
        if isinstance(annotations, dict) and "lastModified" in annotations:
            kept = {key: value for key, value in annotations.items() if key != "lastModified"}
            definition = {**definition, "annotations": kept}
    return sha256(strictjson.canonical(definition)).hexdigest()


def template(tool: Tool) -> Template | None:
    """The matcher of a URI template (RFC 6570); ``None`` when it is none."""
    pattern = ["(?s)"]
    rest = tool.name
    while rest:
        literal, opened, rest = rest.partition("{")
        pattern.append(re2.escape(literal))
        if not opened:
            break
        expression, closed, rest = rest.partition("}")
        if not closed or not expression:
            return None
        # Simple expansion escapes what is reserved; the operators of levels 2 and 3 may produce it.
        pattern.append("[^/?#]*" if expression[0].isalnum() or expression[0] == "_" else ".*")
    return Template(re2.compile("".join(pattern)), tool)
