"""Built-ins over text as OPA has them: its letters are Go's runes, one by one.

The engine's own lower case follows words (``İ`` becomes two characters, a Σ at the end of a word another
letter than elsewhere), it counts a character beyond the basic plane as two, and it finds the empty text
everywhere.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping
from functools import lru_cache
from typing import Any, Final

from gateway.policy.regex import compiled

_NUMBER: Final = re.compile(r"[+-]?(?P<whole>\d+)(?P<rest>(?:\.\d+)?(?:[eE][+-]?\d+)?)", re.ASCII)


def lower(text: str) -> str:
    return text.lower() if text.isascii() else "".join(char.lower()[0] for char in text)


def upper(text: str) -> str:
    return text.upper() if text.isascii() else "".join(map(_upper, text))


def _upper(char: str) -> str:
    for changed in (char.upper(), char.title()):
        if len(changed) == 1:
            return changed
    return char  # such as ß, whose capital is two letters


def indexof(text: str, part: str) -> int:
    if not part:
        raise ValueError("indexof: the text to find is empty")
    return text.find(part)


def replace_n(by: Mapping[str, str], text: str) -> str:
    """All at once: what was put in is not looked at again; of two that fit the first in order is taken."""
    if not by:
        return text
    if "" in by:
        raise ValueError("strings.replace_n: a text to replace is empty")
    return _any_of(tuple(sorted(by))).sub(lambda found: by[found[0]], text)


@lru_cache(maxsize=256)
def _any_of(texts: tuple[str, ...]) -> re.Pattern[str]:
    return re.compile("|".join(map(re.escape, texts)))


def count(value: Collection[Any]) -> int:
    return len(value)


def to_number(value: Any) -> Any:
    if value is None or isinstance(value, bool | int | float):
        return int(value or 0) if not isinstance(value, float) else value
    found = _NUMBER.fullmatch(value) if isinstance(value, str) else None
    if found is None:
        raise ValueError("to_number: not a number")
    return float(value) if found["rest"] else int(value)


def glob_match(pattern: str, delimiters: Any, text: str) -> bool:
    return compiled(_expression(pattern, tuple(delimiters or (".",)))).fullmatch(text) is not None


@lru_cache(maxsize=4096)
def _expression(pattern: str, delimiters: tuple[str, ...]) -> str:
    """A glob as a regular expression: ``*`` and ``?`` stop at delimiters, ``**`` does not."""
    one = f"[^{re.escape(''.join(delimiters))}]"
    parts: list[str] = []
    at = depth = 0
    while at < len(pattern):
        char = pattern[at]
        at += 1
        if char == "*":
            both = pattern.startswith("*", at)
            at += both
            parts.append("(?s:.*)" if both else f"{one}*")
        elif char == "?":
            parts.append(one)
        elif char == "[":
            end = pattern.find("]", at)
            inside = pattern[at:end]
            plain = inside.removeprefix("!")
            # What else a list may hold, engines read differently.
            if end < 0 or not plain or not all(c.isalnum() or c == "-" for c in plain):
                raise ValueError(f"glob.match: {pattern!r} has a list that is not plain letters and digits")
            parts.append(f"[{'^' if inside != plain else ''}{plain}]")
            at = end + 1
        elif char == "{":
            depth += 1
            parts.append("(?:")
        elif char == "}" and depth:
            depth -= 1
            parts.append(")")
        elif char == "," and depth:
            parts.append("|")
        else:
            if char == "\\":
                if at == len(pattern):
                    raise ValueError(f"glob.match: {pattern!r} ends in a backslash")
                char, at = pattern[at], at + 1
            parts.append(re.escape(char))
    if depth:
        raise ValueError(f"glob.match: {pattern!r} does not close a brace")
    return "".join(parts)


EXTENSIONS: Final[tuple[tuple[str, int, Callable[..., Any]], ...]] = (
    ("lower", 1, lower),
    ("upper", 1, upper),
    ("indexof", 2, indexof),
    ("strings.replace_n", 2, replace_n),
    ("to_number", 1, to_number),
    ("glob.match", 3, glob_match),
)
