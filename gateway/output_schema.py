"""Whether a result fits the ``outputSchema`` its tool declares (MCP 2026-07-28, server/tools).

A schema comes from the party that is being judged, so checking by it must not be a way in: nothing is
fetched, references stay inside the schema, and the steps of one check are bounded before it is made, because
the checker itself cannot be interrupted and visits what is referred to twice, twice (a chain of forty such
references is a day's work). A schema that cannot be used is reported once and stays declared: nothing
can be shown to fit it, so every result violates it.
"""

from __future__ import annotations

import logging
import threading
from collections import OrderedDict
from collections.abc import Collection, Iterator, Mapping
from functools import cached_property
from typing import Any, Final, Literal
from urllib.parse import unquote

import jsonschema_rs
import orjson

from gateway import strictjson
from gateway.model import Json, Outcome, Tool

logger = logging.getLogger("wardgate.output_schema")

Fit = Literal["conforms", "violates", "missing", "none"]

MAX_STEPS: Final = 2_000_000
"""Of one check, counted without looking at the value: about 100 ms of the checker at the worst."""

MAX_WALKED: Final = 100_000
"""Of one check, counted along the value, which costs half a microsecond each."""

MAX_DEPTH: Final = 200
_KEPT: Final = 1024
_REGEX_STEPS: Final = 100  # a pattern with a look-around may go back and forth
_BACKTRACKS: Final = 10_000
_MARK: Final = b'"outputSchema"'

# Keywords whose schemas look at the same value, and those whose schemas look at what is below it.
_HERE: Final = ("not", "if", "then", "else")
_HERE_LISTS: Final = ("allOf", "anyOf", "oneOf")
_HERE_MAPS: Final = ("dependentSchemas", "dependencies")
_BELOW: Final = (
    "items", "additionalItems", "additionalProperties", "contains", "propertyNames", "unevaluatedItems",
    "unevaluatedProperties",
)  # fmt: skip
_ELEMENTS: Final = ("items", "additionalItems", "contains", "prefixItems", "unevaluatedItems")
_BELOW_LISTS: Final = ("prefixItems", "items")
_BELOW_MAPS: Final = ("properties", "patternProperties")
# They give references another meaning than "from the root of this schema".
_REFUSED: Final = ("$anchor", "$dynamicAnchor", "$dynamicRef", "$recursiveAnchor", "$recursiveRef")


class _Unusable(Exception):
    """Why results cannot be checked by a schema."""


class _TooMuch(Exception):
    """More steps than a check may take."""


class OutputSchema:
    """The declared schema of one definition. ``fault`` says why it cannot be used, ``""`` when it can."""

    def __init__(self, schema: Json) -> None:
        self.schema = schema
        self.fault = ""
        self._size = 0  # of the schema with all references written out; 0 for one that refers to itself
        self._check: Any = None
        self._strict: Any = None
        try:
            self._size = _Size(schema).written_out()
            self._check = _compiled(schema)
        except _Unusable as error:
            self.fault = str(error)
        except (jsonschema_rs.ValidationError, jsonschema_rs.ReferencingError, ValueError) as error:
            said = " ".join(str(getattr(error, "message", "") or error).split())[:200]
            # Words of the schema may be in it, and it goes to logs and terminals.
            self.fault = "".join(each if each.isprintable() else "?" for each in said) or "it is not valid"

    @cached_property
    def formats(self) -> frozenset[str]:
        """Every ``format`` that is named somewhere in it."""
        named: set[str] = set()
        stack = [self.schema]
        while stack:
            part = stack.pop()
            if isinstance(part, Mapping):
                if isinstance(part.get("format"), str):
                    named.add(part["format"])
                stack += part.values()
            elif isinstance(part, list):
                stack += part
        return frozenset(named)

    def conforms(self, value: Json, *, formats: bool = False) -> bool:
        """Whether a value fits, in bounded time; what would take longer does not.

        ``format`` is an annotation (JSON Schema 2020-12, Validation, 7.2.1); ``formats`` asks for it too, as
        some clients do.
        """
        if self.fault or not self._affordable(value):
            return False
        check = self._check
        if formats:
            if self._strict is None:
                self._strict = _compiled(self.schema, validate_formats=True)
            check = self._strict
        try:
            return bool(check.is_valid(value))
        except (ValueError, TypeError, OverflowError):  # a value or a pattern the checker gives up on
            return False

    def steps(self, value: Json) -> int:
        """At most how many steps a check of this value takes."""
        return min(self._size * strictjson.count(value), MAX_STEPS) or MAX_WALKED

    def _affordable(self, value: Json) -> bool:
        if self._size and self._size * strictjson.count(value) <= MAX_STEPS:
            return True
        try:
            _walk(self.schema, value)
        except _TooMuch:
            return False
        return True


def named(tool: Tool) -> bool:
    """Whether a tool's definition may declare an output schema; ``declared`` says whether it does."""
    return tool.kind == "tool" and _MARK in tool.definition_json


def declared(tool: Tool) -> OutputSchema | None:
    """The output schema of a tool, ``None`` when it declares none. Compiled once for each definition."""
    definition = tool.definition_json
    if not named(tool):
        return None
    with _lock:
        if definition in _known:
            _known.move_to_end(definition)
            return _known[definition]
    made = _read(definition)
    if made is not None and made.fault:
        logger.warning("tool %s: its outputSchema cannot be used: %s", tool.target, made.fault)
    with _lock:
        _known[definition] = made
        if len(_known) > _KEPT:
            _known.popitem(last=False)
    return made


def fit(tool: Tool, outcome: Outcome, result: Json) -> Fit:
    """How a result stands to what its tool declares; ``result`` is the parsed ``outcome.result_json``.

    Only a result that says that the tool did its work must have a ``structuredContent``.
    """
    if outcome.status != "ok" or tool.kind != "tool":
        return "none"
    schema = declared(tool)
    if schema is None:
        return "none"
    if not isinstance(result, Mapping) or "structuredContent" not in result:
        return "missing"
    return "conforms" if schema.conforms(result["structuredContent"]) else "violates"


_known: OrderedDict[bytes, OutputSchema | None] = OrderedDict()
_lock: Final = threading.Lock()  # the catalog may build in another thread than policy asks in


def _read(definition: bytes) -> OutputSchema | None:
    try:
        parsed = orjson.loads(definition)
    except orjson.JSONDecodeError:
        return None
    if not isinstance(parsed, Mapping) or parsed.get("outputSchema") is None:
        return None
    return OutputSchema(parsed["outputSchema"])


def _compiled(schema: Json, **more: Any) -> Any:
    return jsonschema_rs.validator_for(
        schema,
        mask="a value",  # or an error would repeat what the tool returned
        offline=True,
        pattern_options=jsonschema_rs.FancyRegexOptions(backtrack_limit=_BACKTRACKS, size_limit=1 << 20),
        **more,
    )


# ------------------------------------------------------------------------------------------- bounds


class _Size:
    """How large a schema is with its references written out, and that it holds nothing unusable."""

    def __init__(self, root: Json) -> None:
        self._root = root
        self._known: dict[int, tuple[int, int]] = {}  # size and height of parts of ``root``, by identity
        self._open: set[int] = set()
        self._recursive = False

    def written_out(self) -> int:
        """At least the steps that one value costs; 0 when the schema refers to itself."""
        if not isinstance(self._root, Mapping):
            raise _Unusable("it is no object")  # MCP: the root is an object
        if "draft-04" in str(self._root.get("$schema", "")):
            raise _Unusable("it is written for draft 4 of JSON Schema")  # whose ``id`` moves references
        stack: list[Json] = list(self._root.values())
        while stack:
            part = stack.pop()
            if isinstance(part, Mapping):
                if isinstance(part.get("$id"), str):
                    raise _Unusable("a part of it has an $id of its own")
                stack += part.values()
            elif isinstance(part, list):
                stack += part
        size, _ = self._of(self._root, 0)
        return 0 if self._recursive else size

    def _of(self, schema: Json, depth: int) -> tuple[int, int]:
        if not isinstance(schema, Mapping):
            return 1, 0
        known = self._known.get(id(schema))
        if known is not None:
            return known
        if id(schema) in self._open:
            self._recursive = True
            return 1, 0
        if wrong := next((name for name in _REFUSED if name in schema), None):
            raise _Unusable(f"it uses {wrong}")
        self._open.add(id(schema))
        size, height = _cost(schema), 0
        for _, below in _children(schema, self._root):
            # The checker recurses, and its stack is not ours to spend.
            if depth + height >= MAX_DEPTH:
                raise _Unusable(f"it is nested more than {MAX_DEPTH} levels deep")
            more, higher = self._of(below, depth + 1)
            size, height = size + more, max(height, higher + 1)
        self._open.discard(id(schema))
        self._known[id(schema)] = size, height
        return size, height


def _walk(root: Mapping[str, Any], value: Json) -> None:
    """Count the steps of a check along the value, without leaving early; raises ``_TooMuch``."""
    left = MAX_WALKED
    stack: list[tuple[Mapping[str, Any], Json, int]] = [(root, value, 0)]
    while stack:
        schema, item, depth = stack.pop()
        left -= _cost(schema)
        for name, below in _children(schema, root):
            if name is None:
                found: Collection[Json] = (item,)
            else:
                found = _at(name, item, schema)
                left -= len(found)
            # A schema that refers to itself at the same value has no end.
            if left < 0 or depth > MAX_DEPTH:
                raise _TooMuch
            if isinstance(below, Mapping):
                stack += ((below, each, depth + 1) for each in found)


def _at(name: str, item: Json, schema: Mapping[str, Any]) -> Collection[Json]:
    """Values below a value that a keyword looks at, or more."""
    if isinstance(item, list):
        return item if name in _ELEMENTS else ()
    if not isinstance(item, Mapping) or name in _ELEMENTS:
        return ()
    if name.startswith("/"):
        return (item[name[1:]],) if name[1:] in item else ()
    if name == "additionalProperties" and isinstance(known := schema.get("properties"), Mapping):
        return [each for key, each in item.items() if key not in known]
    return item.values()


def _cost(schema: Mapping[str, Any]) -> int:
    """Steps of one schema at one value, without what is below it."""
    patterns = [schema.get("pattern"), *_keys(schema.get("patternProperties"))]
    enum = schema.get("enum")
    more = len(enum) if isinstance(enum, list) else 0
    return 1 + more + sum(_REGEX_STEPS for each in patterns if isinstance(each, str) and "(?" in each)


def _keys(value: Json) -> list[str]:
    return list(value) if isinstance(value, Mapping) else []


def _children(schema: Mapping[str, Any], root: Mapping[str, Any]) -> Iterator[tuple[str | None, Json]]:
    """The schemas a schema applies: with ``None`` to the same value, else with the keyword to what is below.

    A member that is named stands as ``/name``. What ``unevaluated…`` must know of the same value is found out
    by applying its schemas once more.
    """
    here: list[Json] = [schema[name] for name in _HERE if name in schema]
    for name in _HERE_LISTS:
        here += schema[name] if isinstance(schema.get(name), list) else ()
    for name in _HERE_MAPS:
        here += schema[name].values() if isinstance(schema.get(name), Mapping) else ()
    if "$ref" in schema:
        here.append(_resolved(schema["$ref"], root))
    again = 2 if "unevaluatedItems" in schema or "unevaluatedProperties" in schema else 1
    for below in here * again:
        yield None, below
    for name in _BELOW:
        if name in schema and not isinstance(schema[name], list):
            yield name, schema[name]
    for name in _BELOW_LISTS:
        if isinstance(schema.get(name), list):
            for each in schema[name]:
                yield "prefixItems", each
    for name in _BELOW_MAPS:
        if isinstance(schema.get(name), Mapping):
            for key, each in schema[name].items():
                yield (f"/{key}" if name == "properties" else name), each


def _resolved(reference: Json, root: Mapping[str, Any]) -> Json:
    """What a reference means; one that leaves the schema is refused, whoever would answer it."""
    if not isinstance(reference, str) or not (reference == "#" or reference.startswith("#/")):
        raise _Unusable(f"it refers to something outside itself: {str(reference)[:100]!r}")
    node: Json = root
    for part in reference[2:].split("/") if reference != "#" else ():
        key = unquote(part).replace("~1", "/").replace("~0", "~")
        if isinstance(node, Mapping) and key in node:
            node = node[key]
        elif isinstance(node, list) and key.isdecimal() and len(key) < 6 and int(key) < len(node):
            node = node[int(key)]
        else:
            raise _Unusable(f"a reference leads nowhere: {reference[:100]!r}")
    return node
