"""W3C Trace Context, level 1: the ``traceparent`` header, read and written.

https://www.w3.org/TR/trace-context/#traceparent-header — ids are kept as the hexadecimal text they travel as,
because most calls only pass them on.
"""

from __future__ import annotations

import random
import re
from typing import Final

import msgspec

_TRACEPARENT: Final = re.compile(
    r"(?!ff)([0-9a-f]{2})-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-([0-9a-f]{2})(-.*)?", re.DOTALL
)


class Remote(msgspec.Struct, frozen=True):
    """The caller's span, as its ``traceparent`` names it."""

    trace_id: str
    span_id: str
    sampled: bool


def parse(header: str) -> Remote | None:
    """Read a ``traceparent``; ``None`` for anything malformed, which then counts as not sent at all.

    A version above 00 may carry more fields after a dash, which are ignored as the specification says.
    """
    match = _TRACEPARENT.fullmatch(header)
    if match is None:
        return None
    version, trace_id, span_id, flags, rest = match.groups()
    if rest is not None and version == "00":
        return None
    return Remote(trace_id, span_id, bool(int(flags, 16) & 1))


def render(trace_id: str, span_id: str, sampled: bool) -> str:
    """Write a version 00 ``traceparent``. Unknown flags are cleared, as level 1 asks for."""
    return f"00-{trace_id}-{span_id}-{'01' if sampled else '00'}"


def new_trace_id() -> str:
    return f"{random.getrandbits(128) or 1:032x}"


def new_span_id() -> str:
    return f"{random.getrandbits(64) or 1:016x}"
