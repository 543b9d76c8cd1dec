"""What the MCP front reads from the head of a request."""

from __future__ import annotations

from functools import lru_cache
from typing import Final

from gateway.surfaces.doors import Heads
from gateway.surfaces.mcp import protocol

READ: Final = frozenset({
    b"host", b"origin", b"authorization", b"content-type", b"content-length", b"content-encoding", b"accept",
    b"traceparent", protocol.H_VERSION, protocol.H_METHOD, protocol.H_NAME, protocol.H_SESSION,
    protocol.H_WORK,
})  # fmt: skip


def accepts(heads: Heads) -> tuple[bool, bool]:
    """Whether JSON and whether an event stream may be answered.

    The specification asks clients to list both. Real ones list one, ``*/*`` or nothing, and are served
    what they can read.
    """
    accept = heads.get(b"accept")
    return (True, False) if accept is None else _accepts(accept)


@lru_cache(maxsize=64)
def _accepts(accept: bytes) -> tuple[bool, bool]:
    json = stream = False
    for part in accept.lower().split(b","):
        media, *parameters = (piece.strip() for piece in part.split(b";"))
        if any(parameter.replace(b" ", b"") in (b"q=0", b"q=0.0") for parameter in parameters):
            continue
        json = json or media in (b"application/json", b"application/*", b"*/*")
        stream = stream or media == b"text/event-stream"
    return json, stream
