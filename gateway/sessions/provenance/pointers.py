"""Pointer patterns: JSON pointers in which ``*`` is any member of an object or any element of a list."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import Any, Final

from gateway.model import Json

MAX_MATCHES: Final = 5_000

Steps = tuple[str, ...]


@lru_cache(maxsize=4096)
def steps(pattern: str) -> Steps:
    """``"/to/*"`` → ``("to", "*")``; the empty pattern is the whole value."""
    return tuple(step.replace("~1", "/").replace("~0", "~") for step in pattern.split("/")[1:])


def escaped(key: str) -> str:
    if "~" in key or "/" in key:
        return key.replace("~", "~0").replace("/", "~1")
    return key


def find(value: Json, wanted: Steps) -> Iterator[tuple[Any, Any, Json]]:
    """Container, key and value of each match; at most ``MAX_MATCHES``, deepest level by level."""
    level: list[tuple[Any, Any, Json]] = [(None, None, value)]
    for step in wanted:
        below: list[tuple[Any, Any, Json]] = []
        for _, _, item in level:
            kind = type(item)
            if kind is dict:
                if step == "*":
                    below.extend((item, key, child) for key, child in item.items())
                elif step in item:
                    below.append((item, step, item[step]))
            elif kind is list:
                if step == "*":
                    below.extend((item, index, child) for index, child in enumerate(item))
                elif step.isdecimal() and step.isascii() and len(step) < 7 and int(step) < len(item):
                    below.append((item, int(step), item[int(step)]))
            if len(below) > MAX_MATCHES:
                break
        level = below[:MAX_MATCHES]
    yield from level


def take(value: Json, wanted: Steps) -> list[Json]:
    """Cut every match out of a value that is ours to change, leaving ``None``."""
    taken = []
    for container, key, item in find(value, wanted):
        if container is not None:
            container[key] = None
            taken.append(item)
    return taken
