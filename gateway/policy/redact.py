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

from gateway.model import Json
from gateway.policy.regex import compiled

MARK: Final = "[redacted]"
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


def redact(value: Json, wanted: Redaction) -> Json:
    """The value without what is wanted out; the same object when there was nothing.

    ``CannotRedact`` where that would take another type, or the name of a field.
    """
    for pointer in wanted.pointers:
        value = replace_at(value, pointer, _blank)
    if (wanted.keys or wanted.patterns) and not spotless(value, wanted):
        value = _clean(value, wanted)
    return value


def spotless(value: Json, wanted: Redaction) -> bool:
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
    return _replace(value, pointer_parts(pointer), by)


def pointer_parts(pointer: str) -> list[str]:
    return [part.replace("~1", "/").replace("~0", "~") for part in pointer.split("/")[1:]]


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


def _clean(value: Json, wanted: Redaction) -> Json:
    if isinstance(value, str):
        return cleaned_text(value, wanted)
    if isinstance(value, Mapping):
        done = {}
        for key, item in value.items():
            if wanted.any_pattern is not None and wanted.any_pattern.search(key) is not None:
                raise CannotRedact("the name of a field holds what must not be shown")
            done[key] = _blank(item) if key.lower() in wanted.keys else _clean(item, wanted)
        return _rebuilt(value, done)
    if isinstance(value, list):
        items = [_clean(item, wanted) for item in value]
        return items if any(new is not old for new, old in zip(items, value, strict=True)) else value
    return value


def _rebuilt(old: Mapping[str, Json], new: dict[str, Json]) -> Mapping[str, Json]:
    return new if any(new[key] is not old[key] for key in new) else old


def cleaned_text(value: str, wanted: Redaction) -> str:
    """A string without what keys and patterns name in it; the same object when there was nothing."""
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
