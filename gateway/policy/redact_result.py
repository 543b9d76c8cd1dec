"""Taking what must not be shown out of a result, so that what is left still fits what the tool declares.

The structured part of a result is bound by the ``outputSchema`` of its tool (MCP 2026-07-28, server/tools:
clients may refuse what does not fit). So each thing taken out of it is replaced by the first of these with
which the whole still fits: the mark; what a format's own standard keeps for examples (``.invalid``, the nil
UUID); null; nothing, where the member may be absent; the mark cut or filled to the length; the old text with
every letter and digit masked. A number is never invented and an ``enum`` never answered with another of its
members, because an agent would act on it: where only that would fit, ``CannotRedact``, and nothing is shown.

What is taken out of the structure is taken out of the texts beside it too: text that repeats the structure as
JSON is written anew from what is left of it, and in any other text the values themselves are searched for.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

import msgspec
import orjson

from gateway import strictjson
from gateway.errors import Refused
from gateway.model import Json, Outcome, Tool
from gateway.output_schema import OutputSchema, declared
from gateway.policy.redact import MARK, CannotRedact, Redaction, cleaned_text, pointer_parts, redact, spotless
from gateway.policy.regex import compiled

Path = tuple[str | int, ...]

_STRUCTURE: Final = "structuredContent"
_FORMATS: Final[Mapping[str, str]] = {
    "email": "redacted@redacted.invalid", "idn-email": "redacted@redacted.invalid",
    "hostname": "redacted.invalid", "idn-hostname": "redacted.invalid",
    "uri": "https://redacted.invalid/", "uri-reference": "https://redacted.invalid/",
    "iri": "https://redacted.invalid/", "iri-reference": "https://redacted.invalid/",
    "uuid": "00000000-0000-0000-0000-000000000000", "date-time": "0001-01-01T00:00:00Z", "date": "0001-01-01",
    "time": "00:00:00Z", "duration": "P0D", "ipv4": "192.0.2.0", "ipv6": "2001:db8::",
    "json-pointer": "/redacted",
}  # fmt: skip
_MASKED: Final = ((re.compile(r"[^\W\d_]"), "x"), (re.compile(r"\d"), "0"))
_MAX_GROUPS: Final = 64
_MAX_STEPS: Final = 10_000_000  # of all checks of one result together, about half a second at the worst
_SHORTEST: Final = 4  # characters of a value that is searched for in texts: a shorter one is in many words
_AT_ONCE: Final = 500  # values in one expression
_GONE: Final = object()


class _Find(msgspec.Struct, frozen=True):
    """One value to take out. ``owner`` is the place that was named, at or above it."""

    owner: Path
    path: Path
    old: Json
    new: str  # what stands there when nothing binds it


def redacted(tool: Tool, outcome: Outcome, wanted: Redaction | None) -> tuple[bytes, bytes]:
    """Result and error that may be shown: the same bytes when nothing had to go.

    The result is read strictly (``Refused``): where two readers could see different text (a key given twice),
    what is shown might not be what was searched. ``CannotRedact``: what must go cannot be taken out.
    """
    if wanted is None:
        return outcome.result_json, outcome.error_json
    if outcome.error_json:
        error = strictjson.parse(outcome.error_json)
        cleaned = redact(error, wanted)
        return b"", outcome.error_json if cleaned is error else orjson.dumps(cleaned)
    result = strictjson.parse(outcome.result_json)
    if not wanted.pointers and spotless(result, wanted):
        return outcome.result_json, b""
    # Only a result that says that the tool did its work has to fit.
    schema = declared(tool) if outcome.status == "ok" else None
    cleaned = _cleaned(result, wanted, schema)
    return outcome.result_json if cleaned is result else orjson.dumps(cleaned), b""


def _cleaned(result: Json, wanted: Redaction, schema: OutputSchema | None) -> Json:
    if not isinstance(result, Mapping) or _STRUCTURE not in result:
        return redact(result, wanted)
    structure = result[_STRUCTURE]
    found = list(_found(structure, wanted))
    shown = _fitting(structure, found, schema) if found else structure
    rest = {name: value for name, value in result.items() if name != _STRUCTURE}
    cleaned = _rest(rest, wanted, structure, shown, found)
    if shown is structure and cleaned is rest:
        return result
    return {name: shown if name == _STRUCTURE else cleaned[name] for name in result}


# ------------------------------------------------------------------------------------------- finding


def _found(structure: Json, wanted: Redaction) -> Iterator[_Find]:
    seen: set[Path] = set()
    for pointer in wanted.pointers:
        head, *parts = pointer_parts(pointer)
        if head in (_STRUCTURE, "*"):
            for owner, value in _places(structure, (), parts):
                for find in _all_below(owner, owner, value):
                    if find.path not in seen:
                        seen.add(find.path)
                        yield find
    if wanted.keys or wanted.patterns:
        for find in _searched((), structure, wanted):
            if find.path not in seen:
                yield find


def _places(value: Json, path: Path, parts: list[str]) -> Iterator[tuple[Path, Json]]:
    """What a pointer (RFC 6901) names; ``*`` stands for every element."""
    if not parts:
        yield path, value
        return
    head, rest = parts[0], parts[1:]
    if isinstance(value, Mapping):
        for key in list(value) if head == "*" else [head] if head in value else []:
            yield from _places(value[key], (*path, key), rest)
    elif isinstance(value, list):
        named = range(len(value)) if head == "*" else [int(head)] if re.fullmatch(r"\d{1,9}", head) else []
        for place in named:
            if place < len(value):
                yield from _places(value[place], (*path, place), rest)


def _all_below(owner: Path, path: Path, value: Json) -> Iterator[_Find]:
    """Every text and number; true and false are no secrets, and neither is nothing."""
    if isinstance(value, Mapping):
        for key, item in value.items():
            yield from _all_below(owner, (*path, key), item)
    elif isinstance(value, list):
        for place, item in enumerate(value):
            yield from _all_below(owner, (*path, place), item)
    elif value is not None and not isinstance(value, bool) and value != MARK:
        yield _Find(owner, path, value, MARK)


def _searched(path: Path, value: Json, wanted: Redaction) -> Iterator[_Find]:
    """What keys and patterns find."""
    if isinstance(value, str):
        cleaned = cleaned_text(value, wanted)
        if cleaned is not value:
            yield _Find(path, path, value, cleaned)
    elif isinstance(value, Mapping):
        for key, item in value.items():
            if wanted.any_pattern is not None and wanted.any_pattern.search(key) is not None:
                raise CannotRedact("the name of a field holds what must not be shown")
            below = (*path, key)
            if key.lower() in wanted.keys:
                yield from _all_below(below, below, item)
            else:
                yield from _searched(below, item, wanted)
    elif isinstance(value, list):
        for place, item in enumerate(value):
            yield from _searched((*path, place), item, wanted)


# ------------------------------------------------------------------------------------------ replacing


def _fitting(structure: Json, found: list[_Find], schema: OutputSchema | None) -> Json:
    """The structure without what was found, and no further from its schema than it was."""
    plain = {find.path: find.new for find in found}
    shown = _with(structure, plain)
    if schema is None:
        return shown
    # As strictly as the result stood before: some clients check formats, and some servers do not keep them.
    formats = next((strict for strict in (True, False) if schema.conforms(structure, formats=strict)), None)
    if formats is None or schema.conforms(shown, formats=formats):
        return shown
    groups: dict[Path, list[_Find]] = {}
    for find in found:
        alike = tuple("*" if isinstance(part, int) else part for part in find.owner)
        groups.setdefault(alike, []).append(find)
    attempts = _MAX_STEPS // schema.steps(structure)
    chosen: dict[Path, Any] = {}
    if len(groups) > _MAX_GROUPS:
        raise CannotRedact("too many different places to find replacements that fit the output schema")
    for group in groups.values():
        for offered in _offers(group, schema.formats):
            attempts -= 1
            if attempts < 0:
                raise CannotRedact("too large to find replacements that fit the output schema")
            shown = _with(structure, chosen | offered)
            if schema.conforms(shown, formats=formats):
                chosen |= offered
                break
        else:
            raise CannotRedact("nothing that may be shown instead fits the output schema of the tool")
    return shown


def _offers(group: list[_Find], formats: frozenset[str]) -> Iterator[dict[Path, Any]]:
    """What may stand in the places of alike values, the best first. All get the same kind of replacement."""
    yield {find.path: find.new for find in group}
    texts = [find for find in group if isinstance(find.old, str)]
    if len(texts) == len(group):
        for example in dict.fromkeys(_FORMATS[name] for name in sorted(formats & set(_FORMATS))):
            yield {find.path: example for find in texts}
    yield {find.path: find.new if isinstance(find.old, str) else None for find in group}
    yield {find.owner: None for find in group}
    # An element is never left out: how many there were is part of the answer.
    if all(find.owner and isinstance(find.owner[-1], str) for find in group):
        yield {find.owner: _GONE for find in group}
    yield {find.path: _sized(find.old) for find in group}
    yield {find.path: _masked(find) for find in group}


def _sized(old: Json) -> Json:
    """The mark in the length of the old text, because that one fits."""
    return MARK[: len(old)].ljust(len(old), "*") if isinstance(old, str) else None


def _masked(find: _Find) -> Json:
    if not isinstance(find.old, str):
        return None
    masked = find.old
    for letters, by in _MASKED:
        masked = letters.sub(by, masked)
    return find.new if masked == find.old else masked


def _with(value: Json, changes: Mapping[Path, Any]) -> Json:
    """A copy with other values at some paths; what is below another changed path is not looked at."""
    root: dict[str | int, Any] = {}
    for path, new in sorted(changes.items(), key=lambda change: len(change[0])):
        if not path:
            return new
        node: Any = root
        for part in path[:-1]:
            node = node.setdefault(part, {})
            if not isinstance(node, dict):
                break
        else:
            node.setdefault(path[-1], _Leaf(new))
    return _changed(value, root)


class _Leaf(msgspec.Struct, frozen=True):
    value: Any


def _changed(value: Json, changes: Mapping[str | int, Any]) -> Json:
    copy: Any = dict(value) if isinstance(value, Mapping) else list(value)
    for part, change in changes.items():
        if not isinstance(change, _Leaf):
            copy[part] = _changed(copy[part], change)
        elif change.value is _GONE:
            del copy[part]
        else:
            copy[part] = change.value
    return copy


# --------------------------------------------------------------------------------------------- texts


def _rest(
    rest: dict[str, Json], wanted: Redaction, structure: Json, shown: Json, found: list[_Find]
) -> dict[str, Json]:
    """Everything beside the structure."""
    cleaned: Any = rest
    blocks = rest.get("content")
    same: list[int] = []  # blocks that repeat the structure
    if found and isinstance(blocks, list):
        parts = list(blocks)
        for place, block in enumerate(blocks):
            value = _json_in(block)
            if value is not _GONE and value == structure:
                same.append(place)
                parts[place] = {**block, "text": ""}  # written anew below, so not searched
            elif value is not _GONE and (new := _without(value, wanted)) is not value:
                parts[place] = {**block, "text": orjson.dumps(new).decode()}
        cleaned = {**rest, "content": parts}
    cleaned = redact(cleaned, wanted)
    for pattern in _values(found):
        cleaned = _scrubbed(cleaned, pattern)
    if same:
        parts = list(cleaned["content"])
        for place in same:
            parts[place] = {**parts[place], "text": orjson.dumps(shown).decode()}
        cleaned = {**cleaned, "content": parts}
    return cleaned  # type: ignore[no-any-return]  # what goes in as an object comes out as one


def _json_in(block: Json) -> Json:
    """The JSON that is a text's whole content; ``_GONE`` for any other text."""
    text = block.get("text") if isinstance(block, Mapping) else None
    if not isinstance(text, str) or text.lstrip()[:1] not in ("{", "["):
        return _GONE
    try:
        return strictjson.parse(text.encode())
    except Refused as error:
        if error.code == "malformed_json":
            return _GONE  # text like any other, and searched as such
        raise  # JSON that two readers read differently: nobody can say what a pointer means in it


def _without(value: Json, wanted: Redaction) -> Json:
    """Part of the structure, or one like it, as JSON in a text: the same pointers, and nothing binds it."""
    changes: dict[Path, Any] = {}
    for pointer in wanted.pointers:
        head, *parts = pointer_parts(pointer)
        if head in (_STRUCTURE, "*"):
            for owner, below in _places(value, (), parts):
                changes |= {find.path: find.new for find in _all_below(owner, owner, below)}
    return _with(value, changes) if changes else value


def _values(found: Iterable[_Find]) -> Iterator[Any]:
    """Expressions for the values that were taken out whole, as they may stand in a text."""
    spelt: set[str] = set()
    for find in found:
        if find.new == MARK:
            text = find.old if isinstance(find.old, str) else orjson.dumps(find.old).decode()
            if len(text.strip()) >= _SHORTEST:
                spelt |= {text, orjson.dumps(text).decode()[1:-1]}
    longest_first = sorted(spelt, key=lambda text: (-len(text), text))
    for start in range(0, len(longest_first), _AT_ONCE):
        some = longest_first[start : start + _AT_ONCE]
        yield compiled("|".join(f"{_edge(text[0])}{re.escape(text)}{_edge(text[-1])}" for text in some))


def _edge(character: str) -> str:
    """``12345`` is not to be found in ``9123456``."""
    return r"\b" if character.isascii() and (character.isalnum() or character == "_") else ""


def _scrubbed(value: Json, pattern: Any) -> Json:
    if isinstance(value, str):
        return value if pattern.search(value) is None else pattern.sub(MARK, value)
    if isinstance(value, Mapping):
        done = {key: _scrubbed(item, pattern) for key, item in value.items()}
        return done if any(done[key] is not value[key] for key in done) else value
    if isinstance(value, list):
        items = [_scrubbed(item, pattern) for item in value]
        return items if any(new is not old for new, old in zip(items, value, strict=True)) else value
    return value
