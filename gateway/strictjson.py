"""JSON that means the same to every reader.

An attacker who finds two readers that disagree on a body gets one meaning past the policy and another to
the tool. So what orjson accepts is narrowed: duplicate keys, numbers beyond 64 bits, NaN, lone surrogates
and deep nesting are refused, and what goes on is always our own encoding of what was decided.

The check is cheap because of one observation: *if encoding the parsed value gives back the same bytes,
nothing was lost in parsing*. Clients that send compact JSON take that path (about 1 µs for 2 KB); bodies
with other spacing or escapes are read a second time by the standard library with hooks.
"""

from __future__ import annotations

import json
import re
from typing import Any, Final

import orjson

from gateway.errors import Refused

_INT_MIN: Final = -(2**63)
_INT_MAX: Final = 2**64 - 1
_ASTRAL: Final = re.compile(rb"[\xf0-\xf7]")  # lead byte of a character beyond the basic plane


def parse(raw: bytes, max_depth: int = 64) -> Any:
    """Parse one JSON value or raise ``Refused`` with the code that says what is wrong."""
    try:
        value = orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        if "depth limit" in str(error):
            raise Refused("too_deep") from None
        if "infinity" in str(error):
            raise Refused("number_out_of_range") from None
        raise Refused("malformed_json", str(error)) from None
    try:
        same = orjson.dumps(value) == raw
    except orjson.JSONEncodeError:  # it parses 1024 levels and encodes 254
        raise Refused("too_deep") from None
    if not same:
        _reread(raw)
    # Every level needs a bracket, so few brackets prove shallow nesting without a walk.
    if raw.count(b"[") + raw.count(b"{") > max_depth and depth(value) > max_depth:
        raise Refused("too_deep")
    return value


def canonical(value: Any) -> bytes:
    """Encode with keys in RFC 8785 order (UTF-16 code units), without white space.

    Numbers keep orjson's shortest form, which differs from RFC 8785 for floats only in spelling (``1.0``,
    ``1e21``): a digest needs one fixed form, not that one. orjson sorts by code point, which is the same
    order unless a key has a character beyond the basic plane.
    """
    encoded = orjson.dumps(value, option=orjson.OPT_SORT_KEYS)
    if not encoded.isascii() and _ASTRAL.search(encoded):
        return orjson.dumps(_sorted_utf16(value))
    return encoded


def depth(value: Any) -> int:
    """Nesting of a parsed value, without recursion."""
    deepest = 0
    stack = [(value, 1)]
    while stack:
        item, level = stack.pop()
        if isinstance(item, dict):
            deepest = max(deepest, level)
            stack.extend((child, level + 1) for child in item.values())
        elif isinstance(item, list):
            deepest = max(deepest, level)
            stack.extend((child, level + 1) for child in item)
    return deepest


def nodes(encoded: bytes) -> int:
    """An upper bound of the number of values in an encoded document, from its punctuation alone.

    Punctuation inside strings counts too, so a bound that is too high proves nothing: see ``count``.
    """
    return encoded.count(b",") + encoded.count(b"[") + encoded.count(b"{") + 1


def count(value: Any) -> int:
    """The number of values in a parsed document, without recursion."""
    found = 0
    stack = [value]
    while stack:
        item = stack.pop()
        found += 1
        if isinstance(item, dict):
            stack.extend(item.values())
        elif isinstance(item, list):
            stack.extend(item)
    return found


def _reread(raw: bytes) -> None:
    """Find what a second reader could see differently."""
    try:
        json.loads(
            raw, object_pairs_hook=_unique, parse_int=_integer, parse_float=_finite, parse_constant=_constant
        )
    except RecursionError:
        raise Refused("too_deep") from None
    except ValueError as error:  # the standard library refuses what orjson accepted: they disagree
        raise Refused("malformed_json", str(error)) from None


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        raise Refused("duplicate_key")
    return result


def _integer(text: str) -> int:
    if len(text) > 21 or not _INT_MIN <= int(text) <= _INT_MAX:
        raise Refused("number_out_of_range")
    return int(text)


def _finite(text: str) -> float:
    value = float(text)
    if value in (float("inf"), float("-inf")):
        raise Refused("number_out_of_range")
    return value


def _constant(text: str) -> float:
    raise Refused("number_out_of_range", text)


def _sorted_utf16(value: Any) -> Any:
    if isinstance(value, dict):
        keys = sorted(value, key=lambda key: key.encode("utf-16-be"))
        return {key: _sorted_utf16(value[key]) for key in keys}
    if isinstance(value, list):
        return [_sorted_utf16(item) for item in value]
    return value
