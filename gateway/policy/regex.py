"""``regex.*`` with OPA's semantics: Google RE2 in place of the engine's own regular expressions.

The engine's ``\\d``, ``\\w``, ``\\s`` and ``\\b`` are Unicode (``^\\d+$`` matches Arabic digits), ``&&`` and
``--`` in classes are operators, and patterns above a size limit raise at evaluation. OPA uses Go's RE2, so a
rule would mean something else there. RE2 is linear in time, whatever the pattern.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any, Final

import re2

_OPTIONS: Final = re2.Options()
_OPTIONS.log_errors = False
_OPTIONS.max_mem = 8 << 20


@lru_cache(maxsize=4096)
def compiled(pattern: str) -> Any:
    """The compiled pattern; ``ValueError`` when it is not RE2 syntax."""
    try:
        return re2.compile(pattern, _OPTIONS)
    except re2.error as error:
        raise ValueError(f"regular expression {pattern!r}: {_reason(error)}") from error


def _reason(error: Exception) -> str:
    said = error.args[0] if error.args else "invalid"
    return said.decode(errors="replace") if isinstance(said, bytes) else str(said)


def _match(pattern: str, value: str) -> bool:
    return compiled(pattern).search(_text(value)) is not None


def _is_valid(pattern: object) -> bool:
    try:
        compiled(_text(pattern))
    except (ValueError, TypeError):
        return False
    return True


def _find_n(pattern: str, value: str, limit: int) -> list[str]:
    return [match.group(0) for match in _matches(pattern, value, limit)]


def _find_all(pattern: str, value: str, limit: int) -> list[list[str]]:
    return [
        [match.group(0), *(group or "" for group in match.groups())]
        for match in _matches(pattern, value, limit)
    ]


def _matches(pattern: str, value: str, limit: int) -> list[Any]:
    found: list[Any] = []
    end = -1
    for match in compiled(pattern).finditer(_text(value)):
        if 0 <= limit <= len(found):
            break
        # As in Go, nothing is no match right after a match.
        if match.end() > match.start() or match.start() != end:
            found.append(match)
        end = match.end()
    return found


def _split(pattern: str, value: str) -> list[str]:
    compiled(pattern)  # refused even where there is nothing to split
    if pattern and not value:
        return [""]
    pieces, start, end = [], 0, 0
    for match in _matches(pattern, value, -1):
        end = match.start()
        if match.end() != 0:
            pieces.append(value[start:end])
        start = match.end()
    return pieces if end == len(value) else [*pieces, value[start:]]


def _replace(value: str, pattern: str, by: str) -> str:
    """``by`` is taken as it is: Go's ``$1`` is refused rather than guessed at."""
    if "$" in by:
        raise ValueError("regex.replace: '$' in the replacement is not supported")
    pieces, start = [], 0
    for match in _matches(pattern, value, -1):
        pieces += [value[start : match.start()], by]
        start = match.end()
    return "".join((*pieces, value[start:]))


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(f"expected a string, got {type(value).__name__}")
    return value


EXTENSIONS: Final[tuple[tuple[str, int, Callable[..., Any]], ...]] = (
    ("regex.match", 2, _match),
    ("regex.is_valid", 1, _is_valid),
    ("regex.find_n", 3, _find_n),
    ("regex.find_all_string_submatch_n", 3, _find_all),
    ("regex.split", 2, _split),
    ("regex.replace", 3, _replace),
)
