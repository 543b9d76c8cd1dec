"""Which arguments of a call decide where something goes, or what is done: its sinks.

A manifest may say (``sinks``: pointer pattern → kind). Otherwise they are found by the name of the argument
and by the shape of its value, for every tool that is not ``read`` or has the effect ``egress``. In free text
the addresses, URLs, IBANs and hosts are sinks: a link in a message is followed by whoever reads it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from itertools import islice
from typing import Final, NamedTuple

import orjson

from gateway.model import Json
from gateway.sessions.provenance import forms, lists, pointers

MAX_SINKS: Final = 32
MAX_NODES: Final = 2_000
MAX_SEARCHED: Final = 32_768  # characters of one text
MAX_FOUND: Final = 64  # values in one text
_SHORT_LIST: Final = 8  # elements that are shown one by one


class Sink(NamedTuple):
    """A place in the arguments, what it is, and what stands there."""

    pointer: str
    kind: lists.Kind
    value: Json
    complete: bool = True  # whether ``value`` is all that there is at this place


_WORDS: Final = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])")
_SQL: Final = re.compile(
    r"\s*(?:--.*\n\s*|/\*.*?\*/\s*)*\(*\s*"
    r"(?:select|insert|update|delete|drop|alter|create|truncate|merge|replace|with|grant|exec|call|pragma|attach|copy)\b",
    re.IGNORECASE,
)
_TLD: Final = (
    "com|org|net|edu|gov|mil|int|info|biz|name|io|co|ai|app|dev|xyz|site|online|store|shop|club|top|live|tech|cloud|"
    "link|click|page|pages|web|website|space|icu|vip|work|works|world|news|blog|email|network|agency|support|zone|"
    "example|test|local|internal|onion|xn--[a-z0-9-]+|(?!(?:py|rs|md|sh|cc|cs|ps|so|ts|pl|js|db|tf|hs|ml|vb|gz|am|pm)\\b)[a-z]{2}"
)
_DESTINATIONS: Final = frozenset(("recipient", "iban", "url", "host"))
_PLAIN: Final = frozenset(("recipient", "iban", "url", "host", "path", "command"))
"""Kinds that a name settles, unless it is a vague one."""
_IN_TEXT: Final = re.compile(
    r"(?P<url>(?:(?<![A-Za-z0-9+.-])[A-Za-z][A-Za-z0-9+.-]{1,15}|https?|ftp|wss?)://[^\s\"'`<>]+)"
    r"|(?P<recipient>(?<![A-Za-z0-9!#$%&*+/=?^_~.-])[A-Za-z0-9!#$%&*+/=?^_~.-]{1,64}@[A-Za-z0-9.-]{1,255})"
    rf"|(?P<host>(?<![\w.@/-])(?:[A-Za-z0-9](?:[A-Za-z0-9-]{{0,62}})\.){{1,6}}(?:{_TLD})(?![\w@-])(?:/[^\s\"'`<>]*)?)"
)
_IBAN: Final = re.compile(r"\b[A-Z]{2}[0-9]{2}(?:[ -]?[A-Z0-9]{4}){2,7}(?:[ -]?[A-Z0-9]{1,4})?\b")
_INNER_DOT: Final = re.compile(r"\.[A-Za-z]")
_IBAN_START: Final = re.compile(r"[A-Z]{2}[0-9]{2}")
_SUSPECT: Final = re.compile(r"[@.:+/]|[A-Z]{2}[0-9]{2}")


def sinks(
    args: Mapping[str, Json],
    *,
    risk: str = "irreversible",
    effects: Sequence[str] = (),
    declared: Mapping[str, lists.Kind] | None = None,
) -> list[Sink]:
    """At most 32. What does not fit is one sink at the pointer ``""`` that is not ``complete``."""
    if declared is not None:
        found = list(islice(_declared(args, declared), MAX_SINKS + 1))
    elif risk != "read" or "egress" in effects:
        found = list(islice(_inferred(args), MAX_SINKS + 1))
    else:
        found = []
    if len(found) > MAX_SINKS:
        found = [*found[: MAX_SINKS - 1], Sink("", "text", None, complete=False)]
    return found


def takes_destination(definition_json: bytes) -> bool:
    """Whether an argument in a tool's schema, by its name, says where something goes."""
    try:
        definition = orjson.loads(definition_json or b"{}")
        properties = definition["inputSchema"]["properties"]
        return any(named(name[:64]) in _DESTINATIONS for name in properties)
    except (orjson.JSONDecodeError, KeyError, TypeError):
        return False  # nothing is known, so nothing can be told from what is not there


def _declared(args: Mapping[str, Json], declared: Mapping[str, lists.Kind]) -> Iterator[Sink]:
    for pattern, kind in declared.items():
        yield from _matches(args, pointers.steps(pattern), kind)


def _matches(args: Json, wanted: pointers.Steps, kind: lists.Kind) -> Iterator[Sink]:
    level: list[tuple[str, Json]] = [("", args)]
    for step in wanted:
        below: list[tuple[str, Json]] = []
        for pointer, item in level:
            if type(item) is dict:
                names = list(item) if step == "*" else [step] if step in item else []
                below += [(f"{pointer}/{pointers.escaped(name)}", item[name]) for name in names]
            elif type(item) is list:
                indexes = range(len(item)) if step == "*" else [int(step)] if _index(step, item) else []
                below += [(f"{pointer}/{index}", item[index]) for index in indexes]
            elif step == "*" and type(item) is str:
                below.append((pointer, item))  # one recipient where a list of them was described
        level = below
    if wanted and wanted[-1] == "*" and len(level) > _SHORT_LIST:
        yield Sink(level[0][0].rpartition("/")[0], kind, [item for _, item in level])
        return
    for pointer, item in level:
        if item is not None and item != [] and item != "":
            yield from _each(pointer, kind, item)


def _index(step: str, item: list[Json]) -> bool:
    return step.isascii() and step.isdecimal() and len(step) < 7 and int(step) < len(item)


def _each(pointer: str, kind: lists.Kind, item: Json) -> Iterator[Sink]:
    if type(item) is list and 0 < len(item) <= _SHORT_LIST:
        for index, one in enumerate(item):
            yield Sink(f"{pointer}/{index}", kind, one)
    else:
        yield Sink(pointer, kind, item)


def _inferred(args: Mapping[str, Json]) -> Iterator[Sink]:
    stack: list[tuple[str, str, lists.Kind | None, Json]] = [("", "", None, args)]
    left = MAX_NODES
    while stack:
        left -= 1
        if not left:
            yield Sink("", "text", None, complete=False)  # padding must not push a sink out of sight
            return
        pointer, name, above, item = stack.pop()
        kind = type(item)
        by_name = named(name[:64]) if name else None
        if by_name is None and above is not None:
            by_name = above
        if kind is dict:
            stack += [
                (f"{pointer}/{pointers.escaped(key)}", key, by_name, value)
                for key, value in reversed(item.items())
            ]
            continue
        if kind is list:
            if by_name is not None and len(item) > _SHORT_LIST and all(type(one) is not dict for one in item):
                yield Sink(pointer, _settled(by_name, name, item[0]) or by_name, item)
            else:
                stack += [
                    (f"{pointer}/{index}", name, by_name, item[index]) for index in reversed(range(len(item)))
                ]
            continue
        if kind is bool or item is None or item == "":
            continue
        if kind is not str:
            if by_name in ("id", "iban", "recipient", "path"):
                yield Sink(pointer, by_name, item)
            continue
        if by_name is None and not _SUSPECT.search(item, 0, MAX_SEARCHED) and len(item) <= MAX_SEARCHED:
            continue
        settled = by_name if by_name in _PLAIN and name not in lists.VAGUE else _settled(by_name, name, item)
        if settled is not None:
            yield Sink(pointer, settled, item)
        else:
            yield from _in_text(pointer, item)


def _settled(kind: lists.Kind | None, name: str, value: Json) -> lists.Kind | None:
    """What an argument is by its name, unless its value shows that it is something else."""
    if type(value) is not str:
        return kind
    if kind == "sql" and not _SQL.match(value[:400]) and name.lower() != "sql":
        return None  # the query of a search is text
    if kind is None or kind == "id" or name.lower() in lists.VAGUE:
        shape = forms.shape(value) if len(value) <= forms.MAX_VALUE else None
        if shape is None and _SQL.match(value[:400]) and len(value) > 12 and kind is not None:
            return "sql"
        if kind == "path" and shape is None and not any(mark in value for mark in "./\\"):
            return None  # a city is a destination too
        return shape or (None if name.lower() in lists.VAGUE and kind != "path" else kind)
    return kind


@lru_cache(maxsize=8192)
def named(name: str) -> lists.Kind | None:
    """The kind that the name of an argument says: ``to``, ``recipientEmail``, ``file_path``, ``event_id``."""
    low = name.lower()
    if low in lists.BY_NAME:
        return lists.BY_NAME[low]
    parts = [part.lower() for part in _WORDS.findall(name)]
    if not parts:
        return None
    last, above = parts[-1], parts[-2] if len(parts) > 1 else ""
    if last in ("to", "with"):
        if above == "reply" and "in" in parts:
            return "id"  # in_reply_to
        return "recipient" if above in lists.TO else None
    if last in ("id", "ids") and lists.BY_NAME.get(above) == "recipient":
        return "recipient"
    if last in lists.BY_NAME and last not in ("mail", "target", "output"):
        return lists.BY_NAME[last]
    if last in lists.MODIFIERS and above in lists.BY_NAME:
        return lists.BY_NAME[above]
    return None


def _in_text(pointer: str, text: str) -> Iterator[Sink]:
    """What in a text can be followed or written to; one sink a text, as weak as its weakest."""
    head = text[:MAX_SEARCHED]
    found: dict[str, lists.Kind] = {}
    if "@" in head or "://" in head or _INNER_DOT.search(head):
        # Only tokens that could be one: the pattern tries each letter of what it is given.
        likely = " ".join([token for token in head.split() if "." in token or "@" in token or ":" in token])
        for match in _IN_TEXT.finditer(likely):
            kind: lists.Kind = match.lastgroup  # type: ignore[assignment]
            value = match[0].rstrip(".,:;!?)]}'*")
            if kind == "host":
                name = value.partition("/")[0]
                if name.rpartition(".")[2].lower() in lists.FILES and "/" not in value:
                    continue
                if "/" in value:
                    kind, value = "url", "https://" + value
            found[value] = kind
            if len(found) > MAX_FOUND:
                break
    if _IBAN_START.search(head):
        for match in _IBAN.finditer(head):
            found[match[0]] = "iban"
            if len(found) > MAX_FOUND:
                break
    complete = len(text) <= MAX_SEARCHED and len(found) <= MAX_FOUND
    for kind in ("url", "recipient", "iban", "host"):
        values = [value for value, its in found.items() if its == kind]
        if values:
            yield Sink(pointer, kind, values if len(values) > 1 else values[0], complete)
            complete = True
    if not complete:
        yield Sink(pointer, "text", None, complete=False)
