"""Post-conditions: a read that says whether a call had the effect it was made for.

A ``Verify`` names a read tool, the arguments of the read, and what its result must hold. Arguments and
expected values may be taken from the call that is verified::

    {"tool": "get_record", "arguments": {"id": "{arguments.id}"},
     "match": {"/value": "{arguments.value}", "/version": {"exists": true}}}

A text that is one template as a whole stands for the value itself, whatever its type; templates inside a
longer text are put in as text. ``{arguments…}`` and ``{result…}`` are followed by a path: ``.name`` for
members of objects and places of lists, or a JSON pointer (RFC 6901) as in ``{result/items/0/a.b}``.

Everything here is a function of its arguments: it reads no clock and asks nobody.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Final

import msgspec
import re2

from gateway import strictjson
from gateway.errors import Refused
from gateway.model import Json, Verify

MAX_MATCHES: Final = 32
MAX_PATTERN: Final = 1000  # characters
_DEPTH: Final = 16

_TEMPLATE: Final = re.compile(r"\{(arguments|result)([./][^{}]*)\}")
_LIKE_ONE: Final = re.compile(r"\{[A-Za-z_]\w*(?:[./][^{}]*)?\}")
_OPERATORS: Final = frozenset({"equals", "exists", "one_of", "min", "max", "pattern"})


class BadVerify(ValueError):
    """A post-condition that cannot be meant; the message says what to write instead."""


class Unfillable(Exception):
    """A template names something the call has not got, or that cannot stand in a text."""


class _Nothing:
    """There is no value; null is one."""


_NOTHING: Final = _Nothing()


def parse(raw: Mapping[str, Json], *, templates: bool = True) -> Verify:
    """A checked ``Verify``; ``BadVerify`` for anything else.

    ``templates=False`` where no call stands behind it: a milestone of a mandate, whose ``tool`` is
    ``upstream/name``.
    """
    try:
        made = msgspec.convert(raw, Verify, strict=True)
    except msgspec.ValidationError as error:
        raise BadVerify(str(error)) from error
    if unknown := set(raw) - set(Verify.__struct_fields__):
        raise BadVerify(f"unknown: {', '.join(sorted(map(repr, unknown)))}")
    if not made.tool:
        raise BadVerify("'tool' names the tool that reads what became of the call")
    if not made.match:
        raise BadVerify("'match' says what the read must return; without it nothing is verified")
    if len(made.match) > MAX_MATCHES:
        raise BadVerify(f"'match' has more than {MAX_MATCHES} conditions")
    for name, low, high in (("after_s", 0, 300), ("attempts", 1, 10), ("within_s", 1, 600)):
        if not low <= getattr(made, name) <= high:
            raise BadVerify(f"'{name}' must be from {low} to {high}")
    if made.after_s >= made.within_s:
        raise BadVerify("'after_s' must be less than 'within_s', or no read would be made")
    for pointer, expected in made.match.items():
        if pointer and not pointer.startswith("/"):
            raise BadVerify(f"'match': {pointer!r} is no JSON pointer: it must be empty or start with '/'")
        _check_expected(pointer, expected)
    for text in _texts([*made.arguments.values(), *made.match.values()], 0):
        known = {found.span() for found in _TEMPLATE.finditer(text)}
        for like in _LIKE_ONE.finditer(text):
            if like.span() not in known:
                raise BadVerify(f"'{like[0]}': templates are {{arguments.…}} and {{result.…}}")
        if known and not templates:
            raise BadVerify(f"'{text}': there is no call here that a template could be filled from")
    return made


def _check_expected(pointer: str, expected: Json) -> None:
    if not isinstance(expected, Mapping):
        return
    if not expected or set(expected) - _OPERATORS:
        known = ", ".join(sorted(_OPERATORS))
        raise BadVerify(
            f"'match' of '{pointer}': an object holds some of {known}; {{equals: …}} means it as it is"
        )
    if not isinstance(expected.get("exists", True), bool):
        raise BadVerify(f"'match' of '{pointer}': 'exists' is true or false")
    if expected.get("exists") is False and len(expected) > 1:
        raise BadVerify(f"'match' of '{pointer}': what must not exist cannot be anything else")
    if not isinstance(expected.get("one_of", []), list):
        raise BadVerify(f"'match' of '{pointer}': 'one_of' is a list")
    for name in ("min", "max"):
        bound = expected.get(name, 0)
        template = isinstance(bound, str) and _TEMPLATE.fullmatch(bound) is not None
        if not template and not _number(bound):
            raise BadVerify(f"'match' of '{pointer}': '{name}' is a number")
    pattern = expected.get("pattern", "")
    if not isinstance(pattern, str) or len(pattern) > MAX_PATTERN:
        raise BadVerify(
            f"'match' of '{pointer}': 'pattern' is an expression of at most {MAX_PATTERN} characters"
        )
    if _TEMPLATE.search(pattern):
        raise BadVerify(
            f"'match' of '{pointer}': a pattern takes no templates: what a caller sends would be read as one"
        )
    try:
        re2.compile(pattern)
    except re2.error as error:
        raise BadVerify(f"'match' of '{pointer}': not RE2: {error}") from error


def _texts(value: Json, depth: int) -> Iterator[str]:
    if depth > _DEPTH:
        raise BadVerify("nested too deeply")
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for key, item in value.items():
            if key != "pattern":  # braces mean something else there
                yield from _texts(item, depth + 1)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _texts(item, depth + 1)


def of_results(verify: Verify) -> bool:
    """Whether anything in it is taken from the result of the call."""
    texts = _texts([*verify.arguments.values(), *verify.match.values()], 0)
    return any(found[1] == "result" for text in texts for found in _TEMPLATE.finditer(text))


# ------------------------------------------------------------------------------------------- filling


def fill(verify: Verify, arguments: Mapping[str, Json], result_json: bytes) -> Verify:
    """The post-condition of one call, without templates. ``Unfillable`` says which one has no value."""
    content: list[Json] = []

    def value_at(root: str, path: str) -> Json:
        if root == "result" and not content:
            content.append(_content(result_json))
        found: Json = arguments if root == "arguments" else content[0]
        for part in _parts(path):
            found = _member(found, part)
        if isinstance(found, _Nothing):
            raise Unfillable(f"{root}{path} is not there")
        return found

    def filled(value: Json) -> Json:
        if isinstance(value, str):
            whole = _TEMPLATE.fullmatch(value)
            if whole is not None:
                return value_at(whole[1], whole[2])
            return _TEMPLATE.sub(lambda each: _as_text(each, value_at(each[1], each[2])), value)
        if isinstance(value, Mapping):
            return {key: item if key == "pattern" else filled(item) for key, item in value.items()}
        return [filled(item) for item in value] if isinstance(value, list | tuple) else value

    def expected(value: Json) -> Json:
        if isinstance(value, Mapping):
            wanted = filled(value)
            if not all(_number(wanted[name]) for name in ("min", "max") if name in wanted):
                raise Unfillable("what is to be a bound is no number")
            return wanted
        # As an operator: what a caller sends must not be read as one.
        return {"equals": filled(value)}

    return msgspec.structs.replace(
        verify,
        arguments=filled(verify.arguments),
        match={pointer: expected(value) for pointer, value in verify.match.items()},
    )


def _as_text(template: re.Match[str], value: Json) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, bool) or not isinstance(value, int):
        raise Unfillable(f"{template[1]}{template[2]} is no text and no whole number")
    return str(value)


def _parts(path: str) -> list[str]:
    if path.startswith("/"):
        return [part.replace("~1", "/").replace("~0", "~") for part in path[1:].split("/")]
    return path[1:].split(".")


def _member(value: Json, part: str) -> Json:
    if isinstance(value, Mapping):
        return value.get(part, _NOTHING)
    if isinstance(value, list) and part.isdecimal() and len(part) < 9 and int(part) < len(value):
        return value[int(part)]
    return _NOTHING


# ------------------------------------------------------------------------------------------ matching


def matches(verify: Verify, result_json: bytes) -> bool | None:
    """Whether a result holds all that is expected; ``None`` when there is nothing in it that can be read.

    ``verify`` has no templates: it is ``fill``'s, or a milestone. ``result_json`` is the ``result`` of a tool
    call. What is looked at is its ``structuredContent``, else the first text that is JSON, else its only
    text, of which ``""`` is the only pointer.
    """
    content = _content(result_json)
    # That a sentence has no member of some name says nothing about the record it may be about.
    if isinstance(content, _Nothing) or (isinstance(content, str) and set(verify.match) != {""}):
        return None
    return all(_holds(content, pointer, expected) for pointer, expected in verify.match.items())


def differs(verify: Verify, result_json: bytes) -> list[str]:
    """The pointers whose expectation a result does not meet, without any value."""
    content = _content(result_json)
    return [pointer for pointer, expected in verify.match.items() if not _holds(content, pointer, expected)]


def _holds(content: Json, pointer: str, expected: Json) -> bool:
    value = content
    for part in _parts(pointer) if pointer else ():
        value = _member(value, part)
    if not isinstance(expected, Mapping):
        expected = {"equals": expected}
    if isinstance(value, _Nothing):
        return expected.get("exists") is False
    return all(_meets(value, name, wanted) for name, wanted in expected.items())


def _meets(value: Json, name: str, wanted: Json) -> bool:
    if name == "exists":
        return wanted is True
    if name == "equals":
        return _same(value, wanted)
    if name == "one_of":
        return any(_same(value, each) for each in wanted)
    if name == "pattern":
        return isinstance(value, str) and re2.search(wanted, value) is not None
    if not _number(value) or not _number(wanted):
        return False
    return bool(value >= wanted if name == "min" else value <= wanted)


def _same(one: Json, other: Json) -> bool:
    """Equality of JSON: true is not 1, and 1 is 1.0."""
    if isinstance(one, bool) or isinstance(other, bool):
        return one is other
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        return one.keys() == other.keys() and all(_same(one[key], other[key]) for key in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(_same, one, other))
    if _number(one) and _number(other):
        return bool(one == other)
    return type(one) is type(other) and bool(one == other)


def _number(value: Json) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _content(result_json: bytes) -> Json:
    """What a result says, as JSON; ``_NOTHING`` when that cannot be told."""
    if not result_json:
        return _NOTHING
    try:
        result = strictjson.parse(result_json)
    except Refused:
        return _NOTHING
    if not isinstance(result, Mapping):
        return _NOTHING
    if isinstance(result.get("structuredContent"), Mapping):
        return result["structuredContent"]
    blocks = result.get("content")
    blocks = blocks if isinstance(blocks, list) else []
    texts = [
        text for each in blocks if isinstance(each, Mapping) and isinstance(text := each.get("text"), str)
    ]
    for text in texts:
        if text.lstrip()[:1] in ("{", "["):
            try:
                return strictjson.parse(text.encode())
            except Refused as error:
                if error.code != "malformed_json":
                    return _NOTHING  # two readers would read two things: neither is evidence
    return texts[0] if len(texts) == 1 else _NOTHING
