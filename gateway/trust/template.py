"""The template of a call: what it has in common with its repetitions.

The tool, the names and kinds of its arguments, the sizes of numbers by the power of ten, the lengths of texts
by the power of two, and short words as they are: two refunds of other payments and similar amounts are one
template. What is exactly the same is seen by the digest of the arguments.
"""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import blake2b
from math import log10
from typing import Any, Final

_MOST: Final = 400  # values looked at


def template_of(target: str, args: Mapping[str, Any]) -> str:
    """16 hex digits."""
    shape: list[str] = [target]
    stack: list[tuple[str, Any]] = [("", args)]
    while stack and len(shape) < _MOST:
        at, value = stack.pop()
        if isinstance(value, dict):
            stack += [(f"{at}/{name}", value[name]) for name in sorted(value, reverse=True)]
        elif isinstance(value, list):
            shape.append(f"{at}[{len(value).bit_length()}]")
            stack += [(f"{at}/*", each) for each in value[:8]]
        else:
            shape.append(f"{at}={_kind(value)}")
    return blake2b("\n".join(shape).encode(), digest_size=8).hexdigest()


def _kind(value: Any) -> str:
    if isinstance(value, bool) or value is None:
        return str(value)
    if isinstance(value, int | float):
        return f"n{int(log10(abs(value))) if value else 0}{'-' if value < 0 else ''}"
    text = str(value)
    if len(text) <= 16 and text.isalpha():
        return f"w{text}"
    return f"t{len(text).bit_length()}"


def print_of(args_json: bytes) -> str:
    """16 hex digits of the exact arguments."""
    return blake2b(args_json, digest_size=8).hexdigest()
