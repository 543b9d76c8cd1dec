"""Lists: what the policy lets this principal see, in pages, with definitions as the upstream wrote them."""

from __future__ import annotations

import base64
import binascii
from collections import Counter
from collections.abc import Sequence
from hashlib import sha256
from typing import Final, Literal

from gateway import visible
from gateway.model import Kind, Principal, Tool
from gateway.ports import Parts
from gateway.surfaces.mcp import envelope, protocol
from gateway.surfaces.mcp.envelope import Rejected, Reply
from gateway.surfaces.mcp.view import View, is_template

PAGE: Final = 500
"""Entries a page; the specification leaves the size to the server."""

TTL_MS: Final = 60_000
"""How long a client may keep a list. A stale one is harmless: calls are decided when they are made."""

Key = Literal["tools", "prompts", "resources", "resourceTemplates"]

# Filtered by principal, so no cache may hand it to another one.
_MODERN_TAIL: Final = b',"resultType":"complete","ttlMs":%d,"cacheScope":"private"}' % TTL_MS


def listing(
    parts: Parts,
    view: View,
    principal: Principal,
    upstream: str | None,
    key: Key,
    session: str,
    cursor: object,
    id_json: bytes,
    *,
    modern: bool,
) -> Reply:
    """One page of a list as a whole reply; raises ``Rejected`` for a cursor that is not ours."""
    kind: Kind = "tool" if key == "tools" else "prompt" if key == "prompts" else "resource"
    tools = visible.listed(parts, principal, kind, upstream, session)
    if kind == "resource":
        tools = [tool for tool in tools if is_template(tool) == (key == "resourceTemplates")]
        if upstream is None:
            tools = _unambiguous(tools)
    stamp = _stamp(view.revision, parts.policy.revision, len(tools))
    start = _start(cursor, stamp)
    page = tools[start : start + PAGE]
    renamed = upstream is None and kind != "resource"
    items = b",".join(view.renamed(tool) if renamed else tool.definition_json for tool in page)
    after = start + PAGE
    following = b',"nextCursor":"%b"' % _cursor(after, stamp) if after < len(tools) else b""
    tail = _MODERN_TAIL if modern else b"}"
    body = b"".join((b'{"', key.encode(), b'":[', items, b"]", following, tail))
    return Reply(envelope.result(id_json, body))


def _unambiguous(tools: Sequence[Tool]) -> list[Tool]:
    """Without URIs that several upstreams offer: to read one, a client asks that upstream's own endpoint."""
    offered = Counter(tool.name for tool in tools)
    return [tool for tool in tools if offered[tool.name] == 1]


def _stamp(catalog: str, policy: str, length: int) -> bytes:
    """What a cursor is good for: an offset means nothing in another list."""
    return sha256(f"{catalog}\0{policy}\0{length}".encode()).hexdigest()[:12].encode()


def _cursor(start: int, stamp: bytes) -> bytes:
    return base64.urlsafe_b64encode(b"%d.%b" % (start, stamp))


def _start(cursor: object, stamp: bytes) -> int:
    if cursor is None:
        return 0
    try:
        decoded = base64.b64decode(cursor, altchars=b"-_", validate=True) if isinstance(cursor, str) else b""
    except (binascii.Error, ValueError):
        decoded = b""
    start, _, given = decoded.partition(b".")
    if given != stamp or not start.isdigit() or len(start) > 9:
        raise Rejected(
            "invalid_request", "The cursor is not of this list; start again without one.",
            status=200, rpc=protocol.INVALID_PARAMS,
        )  # fmt: skip
    return int(start)
