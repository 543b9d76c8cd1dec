"""The reference: a bare relay on the same server, without any check.

``app`` is what most people would write when asked for a fast proxy in Python: raw ASGI and aiohttp, one
kept connection pool. ``empty`` answers from memory and so costs what the HTTP server itself costs.
"""

from __future__ import annotations

import os
from typing import Any

import aiohttp

_UPSTREAM = os.environ.get("BENCH_UPSTREAM", "")
_PASSED_ON = frozenset((b"content-type", b"accept", b"mcp-protocol-version", b"mcp-method", b"mcp-name"))
_EMPTY = b'{"jsonrpc":"2.0","id":1,"result":{"content":[{"type":"text","text":"%b"}]}}' % (b"x" * 1600)

_session: aiohttp.ClientSession | None = None


def _client() -> aiohttp.ClientSession:
    global _session
    if _session is None:
        connector = aiohttp.TCPConnector(limit=0, keepalive_timeout=60)
        _session = aiohttp.ClientSession(connector=connector, auto_decompress=False)
    return _session


async def app(scope: Any, receive: Any, send: Any) -> None:
    """Pass the request on and the answer back."""
    if scope["type"] != "http":
        return
    body = await _body(receive)
    headers = {name.decode(): value.decode() for name, value in scope["headers"] if name in _PASSED_ON}
    async with _client().post(_UPSTREAM, data=body, headers=headers) as response:
        answer = await response.read()
        await _answer(send, response.status, response.headers["content-type"].encode(), answer)


async def empty(scope: Any, receive: Any, send: Any) -> None:
    """Answer at once: what is left is the server."""
    if scope["type"] != "http":
        return
    await _body(receive)
    await _answer(send, 200, b"application/json", _EMPTY)


async def _body(receive: Any) -> bytes:
    message = await receive()
    body: bytes = message.get("body", b"")
    while message.get("more_body", False):
        message = await receive()
        body += message.get("body", b"")
    return body


async def _answer(send: Any, status: int, content_type: bytes, body: bytes) -> None:
    headers = [(b"content-type", content_type), (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
