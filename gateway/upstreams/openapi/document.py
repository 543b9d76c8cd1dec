"""An OpenAPI document from a local file into plain values, within bounds of size, time, depth and count.

YAML is read event by event, for three reasons. The composing loader of libyaml holds the interpreter for the
whole of a large document, and the event loop with it; it takes ``no`` for a boolean and ``2024-01-01`` for a
date, which no JSON reader of the same document would; and it multiplies aliases without a bound.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import yaml

from gateway import strictjson
from gateway.errors import Refused
from gateway.model import Json

MAX_BYTES: Final = 10 * 1024 * 1024
MAX_NODES: Final = 2_000_000
MAX_DEPTH: Final = 100
MAX_S: Final = 60.0
_CHECKED_EVERY: Final = 4096  # events between two looks at the clock

_INT: Final = re.compile(r"[-+]?[0-9]{1,18}")
_FLOAT: Final = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_TAGS: Final = (None, "!", "tag:yaml.org,2002:str", "tag:yaml.org,2002:map", "tag:yaml.org,2002:seq")
_WORDS: Final[dict[str, Json]] = {
    "": None, "~": None, "null": None, "Null": None, "NULL": None,
    "true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False,
}  # fmt: skip


class BadDocument(Exception):
    """The document cannot be used; the message says where and why."""


def read(path: Path) -> dict[str, Any]:
    """The whole document, known to be OpenAPI 3.0 or 3.1. Blocks: call it in a thread."""
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise BadDocument(f"{path}: {error.strerror}") from None
    if len(raw) > MAX_BYTES:
        raise BadDocument(f"{path}: larger than {MAX_BYTES // 1024 // 1024} MB")
    try:
        document = parse(raw)
    except BadDocument as error:
        raise BadDocument(f"{path}: {error}") from None
    return _checked(document, path)


def parse(raw: bytes) -> Json:
    """JSON when it begins like an object, YAML otherwise."""
    if raw.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"{"):
        try:
            value = strictjson.parse(raw.removeprefix(b"\xef\xbb\xbf"), MAX_DEPTH)
        except Refused as error:
            if error.code != "malformed_json":  # YAML may begin with a brace too
                raise BadDocument(f"{error.reason.title}: {error.detail}".rstrip(": ")) from None
        else:
            if strictjson.count(value) > MAX_NODES:
                raise BadDocument(f"more than {MAX_NODES} values")
            return value
    return _yaml(raw)


def _checked(document: Json, path: Path) -> dict[str, Any]:
    if not isinstance(document, dict):
        raise BadDocument(f"{path}: not an OpenAPI document: no mapping at the top")
    if "swagger" in document:
        raise BadDocument(
            f"{path}: OpenAPI 2.0 (Swagger) is not read here; convert it to 3.0 or 3.1, "
            "with swagger2openapi or the Swagger Editor"
        )
    version = document.get("openapi")
    if not isinstance(version, str) or not re.fullmatch(r"3\.[01]\.[0-9]{1,3}(-.{1,20})?", version):
        raise BadDocument(f"{path}: 'openapi' must be a version 3.0.x or 3.1.x, not {ascii(version)[:40]}")
    if not isinstance(document.get("paths", {}), dict):
        raise BadDocument(f"{path}: 'paths' is no mapping")
    return document


# ------------------------------------------------------------------------------------------------- YAML


def _yaml(raw: bytes) -> Json:
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        return _Builder(yaml.parse(raw, Loader=loader)).document()
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"line {mark.line + 1}: " if mark is not None else ""
        raise BadDocument(f"not valid YAML: {where}{getattr(error, 'problem', None) or error}") from None


class _Builder:
    """Values from events. Keys are text, as JSON's are; scalars follow the JSON types of YAML 1.2's core."""

    def __init__(self, events: Iterator[yaml.Event]) -> None:
        self._events = events
        self._seen = 0
        self._until = time.monotonic() + MAX_S

    def document(self) -> Json:
        # (container, key that waits for its value); a list has no key
        stack: list[tuple[dict[str, Json] | list[Json], str | None]] = []
        top: Json = None
        documents = 0
        for event in self._events:
            self._count(event)
            if isinstance(event, yaml.DocumentStartEvent):
                documents += 1
                if documents > 1:
                    raise BadDocument("more than one YAML document in the file")
                continue
            if isinstance(event, yaml.StreamStartEvent | yaml.StreamEndEvent | yaml.DocumentEndEvent):
                continue
            if isinstance(event, yaml.MappingEndEvent | yaml.SequenceEndEvent):
                stack.pop()
                continue
            if stack and isinstance(stack[-1][0], dict) and stack[-1][1] is None:
                stack[-1] = (stack[-1][0], self._key(event, stack[-1][0]))
                continue
            value = self._value(event)
            if stack:
                container, key = stack[-1]
                if isinstance(container, list):
                    container.append(value)
                else:
                    assert key is not None
                    container[key] = value
                    stack[-1] = (container, None)
            else:
                top = value
            if isinstance(value, dict | list):
                if len(stack) >= MAX_DEPTH:
                    raise BadDocument(f"line {_line(event)}: nested deeper than {MAX_DEPTH}")
                stack.append((value, None))
        return top

    def _count(self, event: yaml.Event) -> None:
        self._seen += 1
        if self._seen > MAX_NODES:
            raise BadDocument(f"more than {MAX_NODES} values")
        if self._seen % _CHECKED_EVERY == 0 and time.monotonic() > self._until:
            raise BadDocument(f"takes more than {MAX_S:.0f} s to read")
        # A document of a few lines can stand for more values than there are atoms.
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None):
            raise BadDocument(f"line {_line(event)}: YAML anchors and aliases are not read here; use $ref")
        tag = getattr(event, "tag", None)
        if tag not in _TAGS:
            raise BadDocument(f"line {_line(event)}: the YAML tag {ascii(tag)[:60]} is not read here")

    def _key(self, event: yaml.Event, container: Any) -> str:
        line = _line(event)
        if not isinstance(event, yaml.ScalarEvent):
            raise BadDocument(f"line {line}: a key must be text")
        key: str = event.value
        if key == "<<" and event.implicit[0]:
            raise BadDocument(f"line {line}: YAML merge keys are not read here; use allOf")
        if key in container:
            raise BadDocument(f"line {line}: the key {ascii(key)[:60]} is there twice")
        return key

    def _value(self, event: yaml.Event) -> Json:
        line = _line(event)
        if isinstance(event, yaml.MappingStartEvent):
            return {}
        if isinstance(event, yaml.SequenceStartEvent):
            return []
        assert isinstance(event, yaml.ScalarEvent)
        text: str = event.value
        if not event.implicit[0]:  # quoted, or said to be text
            return text
        if text in _WORDS:
            return _WORDS[text]
        if _INT.fullmatch(text):
            return int(text)
        if _FLOAT.fullmatch(text):
            number = float(text)
            if number in (float("inf"), float("-inf")):
                raise BadDocument(f"line {line}: a number that is not finite")
            return number
        return text


def _line(event: yaml.Event) -> int:
    return event.start_mark.line + 1 if event.start_mark is not None else 0
