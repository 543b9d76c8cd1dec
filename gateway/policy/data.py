"""Policy data: ``data.json`` and ``data.yaml`` files, mounted where they lie, as OPA does.

Limits and lists live here, so a reader that guesses is dangerous: duplicate keys, dates and NaN are refused.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import yaml

from gateway import strictjson
from gateway.errors import Refused

NAMES: Final = ("data.json", "data.yaml", "data.yml")


class DataError(ValueError):
    """Says what is wrong with a data file; the caller adds its name."""


class _Loader(yaml.SafeLoader):
    """YAML whose mappings must not name a key twice: the second limit would silently win."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if key in seen:
                raise DataError(f"line {key_node.start_mark.line + 1}: the key '{key}' is given twice")
            seen.add(key)
        return super().construct_mapping(node, deep)


def parse(name: str, raw: bytes) -> dict[str, Any]:
    """The object in a data file."""
    try:
        value = strictjson.parse(raw) if name.endswith(".json") else yaml.load(raw, _Loader)  # noqa: S506 (a SafeLoader)
    except Refused as error:
        raise DataError(f"{error.reason.message} {error.detail}".strip()) from error
    except yaml.YAMLError as error:
        raise DataError(f"not valid YAML: {' '.join(str(error).split())}") from error
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise DataError("must be a mapping")
    _plain(value, "")
    return value


def line_said(message: str) -> int:
    """The line that a message of ``parse`` names, 0 when it names none."""
    found = re.search(r"line (\d+)", message)
    return int(found[1]) if found is not None else 0


def line_of(raw: bytes, path: Sequence[str]) -> int:
    """The line of the value that a path leads to, 0 when the file does not give it. YAML reads JSON too."""
    try:
        node = yaml.compose(raw, Loader=yaml.SafeLoader)
    except yaml.YAMLError:
        return 0
    line, rest = 0, list(path)
    while rest and isinstance(node, yaml.MappingNode | yaml.SequenceNode):
        if isinstance(node, yaml.SequenceNode):
            number = int(rest.pop(0)) if rest[0].isdecimal() else len(node.value)
            if number >= len(node.value):
                return 0
            node = node.value[number]
            line = node.start_mark.line + 1
            continue
        # A key may itself contain dots, so the longest that fits is taken.
        for length in range(len(rest), 0, -1):
            name = ".".join(rest[:length])
            found = next((pair for pair in node.value if pair[0].value == name), None)
            if found is not None:
                line, node, rest = found[0].start_mark.line + 1, found[1], rest[length:]
                break
        else:
            return 0
    return 0 if rest else line


def mount(folder: Path, value: dict[str, Any]) -> dict[str, Any]:
    """Nest a file's object under the folders it lies in."""
    for part in reversed(folder.parts):
        value = {part: value}
    return value


def merge(
    base: Mapping[str, Any], over: Mapping[str, Any], *, override: bool, at: str = ""
) -> dict[str, Any]:
    """Objects merged key by key. Without ``override`` a value given twice is an error."""
    result = dict(base)
    for key, value in over.items():
        here = f"{at}.{key}" if at else key
        if key in result and isinstance(result[key], dict) and isinstance(value, dict):
            result[key] = merge(result[key], value, override=override, at=here)
        elif key in result and not override:
            raise DataError(f"'{here}' is given in two data files of the same folder")
        else:
            result[key] = value
    return result


def patterns(value: Any, at: str = "data") -> Iterator[tuple[str, str]]:
    """Regular expressions in data: every string below a key named ``pattern`` or ``patterns``."""
    if isinstance(value, dict):
        for key, item in value.items():
            if key in ("pattern", "patterns", "any_pattern"):
                yield from _strings(item, f"{at}.{key}")
            else:
                yield from patterns(item, f"{at}.{key}")


def with_unions(value: Mapping[str, Any], at: str = "data") -> dict[str, Any]:
    """The data with ``any_pattern`` beside each ``patterns``: one expression for what any of them matches.

    A search for one union costs what a search for one pattern costs, and most texts match none.
    """
    done: dict[str, Any] = {
        key: with_unions(item, f"{at}.{key}") if isinstance(item, dict) and key != "patterns" else item
        for key, item in value.items()
    }
    listed = value.get("patterns")
    union = None
    if isinstance(listed, dict) and listed and all(isinstance(item, str) for item in listed.values()):
        union = "|".join(f"(?:{pattern})" for _, pattern in sorted(listed.items()))
    if value.get("any_pattern", union) != union:
        # A union of other patterns would hide what these find. The right one is in a built bundle.
        raise DataError(f"'{at}.any_pattern' is made when the policy is loaded; leave it out")
    if union is not None:
        done["any_pattern"] = union
    return done


def _strings(value: Any, at: str) -> Iterator[tuple[str, str]]:
    if isinstance(value, str):
        yield at, value
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from _strings(item, f"{at}.{key}")
    elif isinstance(value, list):
        for number, item in enumerate(value):
            yield from _strings(item, f"{at}[{number}]")


def _plain(value: Any, at: str) -> None:
    if isinstance(value, dict):
        for key, item in value.items():
            if not isinstance(key, str):
                raise DataError(f"the key {key!r} at '{at or 'the top'}' must be a string: quote it")
            _plain(item, f"{at}.{key}" if at else key)
    elif isinstance(value, list):
        for number, item in enumerate(value):
            _plain(item, f"{at}[{number}]")
    elif isinstance(value, float) and not math.isfinite(value):
        raise DataError(f"'{at}' is not a finite number")
    elif isinstance(value, int) and not -(2**63) <= value < 2**64:
        raise DataError(f"'{at}' is beyond 64 bits: quote it")
    elif not isinstance(value, str | int | float | bool | None):
        raise DataError(f"'{at}' is a {type(value).__name__}, which JSON does not have: quote it")
