"""The schemas of an OpenAPI document as JSON Schema 2020-12, the dialect of MCP.

A keyword that is not in the tables below is dropped, so what a tool's schema can say is a closed list.
Local references become ``$defs`` of the tool, each converted once, so cycles end and the work is bounded.
A reference to anywhere else is refused: nothing is fetched.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping
from typing import Any, Final, Literal
from urllib.parse import unquote

import msgspec
import orjson

from gateway.model import Json

Direction = Literal["input", "output"]

MAX_REFS: Final = 16  # from one reference to the next, before something is reached
MAX_SCHEMAS: Final = 2_000_000  # converted of one document
MAX_TEXT: Final = 4000  # characters of a description

# What cannot be seen, changes direction or breaks lines: control, format, surrogate, private use, separators.
_UNSEEN: Final = frozenset(("Cc", "Cf", "Cs", "Co", "Zl", "Zp"))

_SCHEMA: Final = frozenset(
    (
        "additionalProperties", "contains", "else", "if", "items", "not", "propertyNames", "then",
        "unevaluatedItems", "unevaluatedProperties",
    )
)  # fmt: skip
_SCHEMA_LIST: Final = frozenset(("allOf", "anyOf", "oneOf", "prefixItems"))
_SCHEMA_MAP: Final = frozenset(("dependentSchemas", "patternProperties", "properties"))
_VALUE: Final = frozenset(
    (
        "const", "default", "dependentRequired", "enum", "exclusiveMaximum", "exclusiveMinimum", "format",
        "maxContains", "maxItems", "maxLength", "maxProperties", "maximum", "minContains", "minItems",
        "minLength", "minProperties", "minimum", "multipleOf", "pattern", "required", "type", "uniqueItems",
    )
)  # fmt: skip
_TEXT: Final = ("title", "description")
# They change what the references around them mean.
_REFUSED: Final = ("$anchor", "$dynamicAnchor", "$dynamicRef", "$id", "$recursiveAnchor", "$recursiveRef")


class Unsupported(Exception):
    """Something that cannot be offered faithfully; the message says what."""


class Converted(msgspec.Struct, frozen=True):
    schema: Json
    refs: frozenset[str]  # pointers into the document
    size: int  # of the JSON


class Schemas:
    """The schemas of one document."""

    def __init__(self, document: Mapping[str, Json]) -> None:
        self._document = document
        self._old = str(document.get("openapi", "")).startswith("3.0")
        self._known: dict[tuple[str, Direction], Converted] = {}
        self._names: dict[str, str] = {}
        self._taken: set[str] = set()
        self._count = 0

    # -------------------------------------------------------------------------------- references

    def resolved(self, value: Json) -> Mapping[str, Json]:
        """An object of the document, behind however many references."""
        for _ in range(MAX_REFS):
            if not isinstance(value, Mapping):
                raise Unsupported("something that must be an object is none")
            ref = value.get("$ref")
            if not isinstance(ref, str):
                return value
            value = self._at(ref)
        raise Unsupported(f"references that lead to references more than {MAX_REFS} times, or in a circle")

    def _at(self, ref: str) -> Json:
        if not ref.startswith("#/"):
            raise Unsupported(f"the reference {shown(ref)}, which is not into this document")
        value: Json = self._document
        for part in ref[2:].split("/"):
            key = unquote(part).replace("~1", "/").replace("~0", "~")
            if isinstance(value, Mapping) and key in value:
                value = value[key]
            elif isinstance(value, list) and key.isdigit() and len(key) < 8 and int(key) < len(value):
                value = value[int(key)]
            else:
                raise Unsupported(f"the reference {shown(ref)}, which leads nowhere")
        return value

    # -------------------------------------------------------------------------------- conversion

    def convert(self, schema: Json, direction: Direction) -> Converted:
        """One schema; what it refers to stays a reference to ``$defs``."""
        refs: set[str] = set()
        made = self._convert(schema, direction, refs)
        return Converted(made, frozenset(refs), len(orjson.dumps(made)))

    def defs(self, parts: list[Converted], direction: Direction, max_bytes: int) -> dict[str, Json]:
        """``$defs`` with all that ``parts`` refer to, directly or not."""
        found: dict[str, Json] = {}
        size = sum(part.size for part in parts)
        waiting = sorted({ref for part in parts for ref in part.refs}, reverse=True)
        seen = set(waiting)
        while waiting:
            ref = waiting.pop()
            made = self._definition(ref, direction)
            size += made.size
            if size > max_bytes:
                raise Unsupported(f"schemas of more than {max_bytes // 1024} KiB")
            found[self._name(ref)] = made.schema
            more = sorted(made.refs - seen, reverse=True)
            seen.update(more)
            waiting += more
        return found

    def is_object(self, schema: Json, depth: int = 8) -> bool:
        """Whether only an object can fit."""
        if not depth or not isinstance(schema, Mapping):
            return False
        schema = self.resolved(schema)
        kind = schema.get("type")
        if kind is not None:
            return (kind == "object" or kind == ["object"]) and schema.get("nullable") is not True
        parts = schema.get("allOf")
        return isinstance(parts, list) and any(self.is_object(part, depth - 1) for part in parts)

    def types(self, schema: Json, depth: int = 8) -> frozenset[str]:
        """The types a value may have; empty when the schema does not say."""
        if not depth or not isinstance(schema, Mapping):
            return frozenset()
        schema = self.resolved(schema)
        kind = schema.get("type")
        if isinstance(kind, str):
            return frozenset((kind,))
        if isinstance(kind, list):
            return frozenset(each for each in kind if isinstance(each, str))
        for key in ("anyOf", "oneOf", "allOf"):
            parts = schema.get(key)
            if isinstance(parts, list) and parts:
                each = [self.types(part, depth - 1) for part in parts]
                if key == "allOf":
                    return next((types for types in each if types), frozenset())
                return frozenset().union(*each) if all(each) else frozenset()
        return frozenset()

    def _definition(self, ref: str, direction: Direction) -> Converted:
        known = self._known.get((ref, direction))
        if known is None:
            known = self._known[ref, direction] = self.convert(self._at(ref), direction)
        return known

    def _name(self, ref: str) -> str:
        name = self._names.get(ref)
        if name is None:
            base = re.sub(r"[^A-Za-z0-9_.-]+", "_", unquote(ref.rpartition("/")[2]))[:60] or "schema"
            name, number = base, 1
            while name in self._taken:
                number += 1
                name = f"{base}_{number}"
            self._taken.add(name)
            self._names[ref] = name
        return name

    def _convert(self, schema: Json, direction: Direction, refs: set[str]) -> Json:
        if isinstance(schema, bool):
            return schema
        if not isinstance(schema, Mapping):
            raise Unsupported("a schema that is no object")
        self._count += 1
        if self._count > MAX_SCHEMAS:  # a parameter that all operations share is converted for each
            raise Unsupported(f"more than the {MAX_SCHEMAS} schemas a document may have")
        refused = next((key for key in _REFUSED if key in schema), None)
        if refused is not None:
            raise Unsupported(f"a schema with '{refused}'")
        made: dict[str, Json] = {}
        ref = schema.get("$ref")
        if isinstance(ref, str):
            self._at(ref)
            refs.add(ref)
            made["$ref"] = f"#/$defs/{self._name(ref)}"
            if self._old:  # what stands beside a reference does not count there
                return made
        hidden = self._hidden(schema, direction)
        for key, value in schema.items():
            if key in _VALUE:
                made[key] = value
            elif key in _SCHEMA:
                made[key] = self._convert(value, direction, refs)
            elif key in _SCHEMA_LIST and isinstance(value, list):
                made[key] = [self._convert(each, direction, refs) for each in value]
            elif key in _SCHEMA_MAP and isinstance(value, Mapping):
                made[key] = {
                    checked(name): self._convert(each, direction, refs)
                    for name, each in value.items()
                    if key != "properties" or name not in hidden
                }
            elif key in _TEXT and isinstance(value, str) and (text := clean(value)):
                made[key] = text
        required = made.get("required")
        if hidden and isinstance(required, list):
            made["required"] = [name for name in required if name not in hidden]
        if self._old:
            _modernised(made, schema)
        return made

    def _hidden(self, schema: Mapping[str, Json], direction: Direction) -> frozenset[str]:
        """Properties that are only for the other direction."""
        properties = schema.get("properties")
        if not isinstance(properties, Mapping):
            return frozenset()
        mark = "readOnly" if direction == "input" else "writeOnly"
        return frozenset(
            name for name, each in properties.items() if isinstance(each, Mapping) and each.get(mark) is True
        )


def _modernised(made: dict[str, Any], schema: Mapping[str, Json]) -> None:
    """What OpenAPI 3.0 says in words of its own."""
    for bound, exclusive in (("minimum", "exclusiveMinimum"), ("maximum", "exclusiveMaximum")):
        said = made.get(exclusive)
        if isinstance(said, bool):
            del made[exclusive]
            if said and bound in made:
                made[exclusive] = made.pop(bound)
    if schema.get("nullable") is True and isinstance(made.get("type"), str):
        made["type"] = [made["type"], "null"]


# ------------------------------------------------------------------------------------------------- text


def unseen(text: str) -> bool:
    """Whether ``text`` has characters that a reader cannot see."""
    if text.isascii():
        return not text.isprintable()
    return any(unicodedata.category(char) in _UNSEEN for char in text)


def checked(name: object) -> str:
    """The name of an argument; one that cannot be read as it is could pass for another."""
    if not isinstance(name, str) or not name or len(name) > 256:
        raise Unsupported("a property without a name, or with one of more than 256 characters")
    if unseen(name):
        raise Unsupported(f"the property {shown(name)}, whose name has characters that cannot be seen")
    return name


def clean(text: str, limit: int = MAX_TEXT) -> str:
    """A description without what a reader cannot see, and of bounded length."""
    text = text[: limit * 2]
    if not (text.isascii() and text.isprintable()):
        text = "".join(char for char in text if char in "\n\t" or unicodedata.category(char) not in _UNSEEN)
    text = text.strip()
    return text if len(text) <= limit else text[: limit - 1] + "…"


def shown(text: object) -> str:
    """``text`` for a report, escaped and short."""
    return ascii(text)[:120]
