"""Taking secrets out of JSON without changing its shape.

Only text inside strings is replaced, so numbers stay numbers and lists keep their length. A value is
returned as the same object when nothing had to change, which is how callers know to relay the original bytes.

MCP servers give a structured result twice, as a value and as JSON in a block of text. So a key names its
members in both.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any, Final

import msgspec
import orjson

from gateway import strictjson
from gateway.errors import Refused
from gateway.model import Json
from gateway.policy.regex import compiled

MARK: Final = "[redacted]"
_CONSTRAINTS: Final = ("enum", "const", "pattern", "format", "minLength", "maxLength")
_MAX_REFS: Final = 32
# The pieces of an RE2 expression in which ``^`` and ``$`` are told from ``\\^`` and ``[^a]``.
_TOKEN: Final = re.compile(r"\\.|\[\^?\]?(?:\\.|\[:\^?\w+:\]|[^\]\\])*\]|[\^$]", re.DOTALL)
_NUMBER: Final = re.compile(r"-?\d[-+.\deE]*")
_MARKS: Final = re.compile(r'\\*"|[\[\]{}]')
_ANCHORS: Final = frozenset(("^", "$", r"\A", r"\z", r"\Q"))  # \Q: a literal that is not taken apart here


class CannotRedact(ValueError):
    """What must not be shown cannot be taken out without making the value invalid."""


class Redaction(msgspec.Struct, frozen=True):
    """What to take out: values at pointers, values of keys (any case), matches of patterns."""

    pointers: tuple[str, ...]
    keys: frozenset[str]
    patterns: tuple[tuple[str, Any], ...]  # name and compiled expression
    any_pattern: Any  # all of them as one, to pass clean strings quickly
    written: Any  # the keys as names of members in JSON that stands in a text, compiled; ``None`` for no keys
    anchored: bool  # whether some pattern asks where its text begins or ends

    @classmethod
    def of(cls, pointers: Sequence[str], keys: Sequence[str], patterns: Mapping[str, str]) -> Redaction:
        return _redaction(tuple(pointers), tuple(keys), tuple(sorted(patterns.items())))


@lru_cache(maxsize=256)
def _redaction(
    pointers: tuple[str, ...], keys: tuple[str, ...], patterns: tuple[tuple[str, str], ...]
) -> Redaction:
    try:
        parts = tuple((name, compiled(pattern)) for name, pattern in patterns)
        union = compiled("|".join(f"(?:{pattern})" for _, pattern in patterns)) if parts else None
        written = _written(keys)
    except ValueError as error:
        raise CannotRedact(str(error)) from error
    anchored = any(token in _ANCHORS for _, pattern in patterns for token in _TOKEN.findall(pattern))
    return Redaction(pointers, frozenset(key.lower() for key in keys), parts, union, written, anchored)


def _written(keys: tuple[str, ...]) -> Any:
    if not keys:
        return None
    # Also as spelt by writers that escape what is not ASCII; RE2 is fast at finding the quote in front.
    spelt = "|".join(sorted({re.escape(word) for key in keys for word in (key, json.dumps(key)[1:-1])}))
    return compiled(rf'"(?i:{spelt})(\\*)"\s*:\s*')


def redact(value: Json, wanted: Redaction, schema: Any = None, root: Any = None) -> Json:
    """The value without what is wanted out; the same object when there was nothing.

    ``schema`` is the JSON Schema the value must go on to satisfy, ``root`` the document its references are
    relative to. A string that is constrained there (``enum``, ``format`` …) cannot be replaced by the search
    for keys and patterns: ``CannotRedact``. Pointers name exact places and are taken at their word.
    """
    for pointer in wanted.pointers:
        value = replace_at(value, pointer, _blank)
    if (wanted.keys or wanted.patterns) and not _spotless(value, wanted):
        value = _clean(value, wanted, schema, root)
    return value


def redact_texts(result: Json, wanted: Redaction) -> Json:
    """Follow pointers into ``structuredContent`` into text that repeats it as JSON.

    Keys and patterns are searched in any text; a pointer needs the text to be read.
    """
    into = "/structuredContent/"
    pointers = [each[len(into) - 1 :] for each in wanted.pointers if each.startswith(into)]
    content = result.get("content") if pointers and isinstance(result, Mapping) else None
    if not isinstance(content, list):
        return result
    within = Redaction.of(pointers, (), {})
    cleaned = [_json_text(block, within) for block in content]
    if all(new is old for new, old in zip(cleaned, content, strict=True)):
        return result
    return {**result, "content": cleaned}


def _json_text(block: Json, wanted: Redaction) -> Json:
    text = block.get("text") if isinstance(block, Mapping) else None
    if not isinstance(text, str) or text.lstrip()[:1] not in ("{", "["):
        return block
    try:
        value = strictjson.parse(text.encode())
    except Refused as error:
        if error.code == "malformed_json":
            return block  # text like any other, and searched as such
        raise  # JSON that two readers read differently: nobody can say what a pointer means in it
    cleaned = redact(value, wanted)
    return block if cleaned is value else {**block, "text": orjson.dumps(cleaned).decode()}


def _spotless(value: Json, wanted: Redaction) -> bool:
    """Whether there is certainly nothing to take out: one search over all strings instead of one each.

    Joined by a line end, each string still matches whatever it matches alone, unless the pattern is anchored
    to the ends of its text.
    """
    if wanted.anchored:
        return False
    texts: list[str] = []
    stack = [value]
    while stack:
        item = stack.pop()
        if isinstance(item, str):
            texts.append(item)
        elif isinstance(item, dict):
            if not wanted.keys.isdisjoint(key.lower() for key in item):
                return False
            texts += item
            stack += item.values()
        elif isinstance(item, list):
            stack += item
        elif item is not None and not isinstance(item, int | float):
            return False
    together = "\n".join(texts)
    if wanted.written is not None and wanted.written.search(together) is not None:
        return False
    return wanted.any_pattern is None or wanted.any_pattern.search(together) is None


def replace_at(value: Json, pointer: str, by: Callable[[Json], Json]) -> Json:
    """RFC 6901 pointer; ``*`` stands for every element. What is not there is left alone."""
    return _replace(
        value, [part.replace("~1", "/").replace("~0", "~") for part in pointer.split("/")[1:]], by
    )


def _replace(value: Json, parts: list[str], by: Callable[[Json], Json]) -> Json:
    if not parts:
        return by(value)
    head, rest = parts[0], parts[1:]
    if isinstance(value, Mapping):
        keys = list(value) if head == "*" else [head] if head in value else []
        done = {key: _replace(value[key], rest, by) for key in keys}
        changed = any(done[key] is not value[key] for key in keys)
        return {**value, **done} if changed else value
    if isinstance(value, list):
        places = range(len(value)) if head == "*" else [int(head)] if re.fullmatch(r"\d{1,9}", head) else []
        items = list(value)
        for place in places:
            if place < len(items):
                items[place] = _replace(items[place], rest, by)
        return items if any(new is not old for new, old in zip(items, value, strict=True)) else value
    return value


def _blank(value: Json) -> Json:
    """Everything below, blanked. A number has no blank of its own type; true and false are no secrets."""
    if isinstance(value, str):
        return value if value == MARK else MARK
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, Mapping):
        return _rebuilt(value, {key: _blank(item) for key, item in value.items()})
    if isinstance(value, list):
        items = [_blank(item) for item in value]
        return items if any(new is not old for new, old in zip(items, value, strict=True)) else value
    raise CannotRedact(f"a {type(value).__name__} cannot be redacted without changing its type")


def _clean(value: Json, wanted: Redaction, schema: Any, root: Any) -> Json:
    if isinstance(value, str):
        cleaned = _text(value, wanted)
        if cleaned is not value:
            _must_be_free(schema, root)
        return cleaned
    if isinstance(value, Mapping):
        done = {}
        for key, item in value.items():
            if wanted.any_pattern is not None and wanted.any_pattern.search(key) is not None:
                raise CannotRedact("the name of a field holds what must not be shown")
            below = _below(schema, key, root)
            if key.lower() in wanted.keys:
                done[key] = _blank(item)
                if done[key] is not item:
                    _must_be_free(below, root)
            else:
                done[key] = _clean(item, wanted, below, root)
        return _rebuilt(value, done)
    if isinstance(value, list):
        items = [_clean(item, wanted, _below(schema, None, root), root) for item in value]
        return items if any(new is not old for new, old in zip(items, value, strict=True)) else value
    return value


def _rebuilt(old: Mapping[str, Json], new: dict[str, Json]) -> Mapping[str, Json]:
    return new if any(new[key] is not old[key] for key in new) else old


def _text(value: str, wanted: Redaction) -> str:
    cleaned = value if wanted.written is None else _without_members(value, wanted.written)
    if wanted.any_pattern is None or wanted.any_pattern.search(cleaned) is None:
        return value if cleaned == value else cleaned
    for name, pattern in wanted.patterns:
        cleaned = pattern.sub(lambda _, name=name: f"[redacted:{name}]", cleaned)
    return value if cleaned == value else cleaned


def _without_members(text: str, named: Any) -> str:
    """The text with what the keys hold in it replaced, whether it is JSON as a whole, in parts or cut short.

    It is not parsed, so nothing else in it changes, and there is no text that is too deep or too wrong.
    """
    kept: list[str] = []
    at = 0
    for member in named.finditer(text):
        if member.start() < at:  # inside what was replaced
            continue
        escapes = len(member[1])
        end = _value_end(text, member.end(), escapes)
        if end > member.end():
            quote = "\\" * escapes + '"'
            kept += (text[at : member.end()], quote, MARK, quote)
            at = end
    return "".join((*kept, text[at:])) if kept else text


def _value_end(text: str, start: int, escapes: int) -> int:
    """Where a string, number, list or object ends that begins at ``start``; ``start`` for anything else.

    ``escapes`` is the number of backslashes before its quotes: one in JSON inside JSON, three a level deeper.
    """
    if (number := _NUMBER.match(text, start)) is not None:
        return number.end()
    if not text.startswith(("\\" * escapes + '"', "[", "{"), start):
        return start
    depth, inside = 0, False
    for mark in _MARKS.finditer(text, start):
        if mark[0][-1] == '"':
            # A backslash of the value itself is two more of each, so a whole number of pairs is none of ours.
            inside ^= (len(mark[0]) - 1 - escapes) % (2 * (escapes + 1)) == 0
        elif not inside:
            depth += 1 if mark[0] in "[{" else -1
        if depth <= 0 and not inside:
            return mark.end()
    return len(text)


def _must_be_free(schema: Any, root: Any) -> None:
    if any(name in part for part in _parts(schema, root) for name in _CONSTRAINTS):
        raise CannotRedact("the output schema of the tool does not let this string be replaced")


def _below(schema: Any, key: str | None, root: Any) -> Any:
    """Everything a schema says of a member (or of elements, for ``None``), as one ``allOf``."""
    if schema is None:
        return None
    found = []
    for part in _parts(schema, root):
        if key is None:
            found += [part.get("items"), *part.get("prefixItems", ())]
        elif key in part.get("properties", {}):
            found.append(part["properties"][key])
        else:
            found += [part.get("additionalProperties"), *part.get("patternProperties", {}).values()]
    return {"allOf": [item for item in found if isinstance(item, Mapping)]}


def _parts(schema: Any, root: Any) -> list[Mapping[str, Any]]:
    """A schema with the schemas it refers to and combines; local references only."""
    found: list[Mapping[str, Any]] = []
    todo = [schema]
    while todo and len(found) < _MAX_REFS:
        part = todo.pop()
        if not isinstance(part, Mapping) or part in found:
            continue
        found.append(part)
        for name in ("allOf", "anyOf", "oneOf"):
            todo.extend(part.get(name, ()))
        todo.extend(part.get(name) for name in ("then", "else") if name in part)
        if isinstance(part.get("$ref"), str):
            todo.append(_resolve(part["$ref"], root))
    return found


def _resolve(reference: str, root: Any) -> Any:
    if not reference.startswith("#"):
        return {"const": None}  # an outside reference may constrain anything
    node = root
    for part in reference[1:].split("/")[1:]:
        node = node.get(part.replace("~1", "/").replace("~0", "~")) if isinstance(node, Mapping) else None
    return node
