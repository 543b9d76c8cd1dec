"""A trivial MCP upstream: answers at once, does nothing. Every answer is another one, as those of real tools.

It has ``BENCH_TOOLS`` tools in pairs: ``lookup_0000`` (reads) and ``update_0000`` (writes). Both eras are
answered, so that a gateway may ask either way, and ``/v1/traces`` takes spans and forgets them.
"""

from __future__ import annotations

import os
from typing import Any

import orjson

from tests.bench.traffic import PROTOCOL

COUNT = int(os.environ.get("BENCH_TOOLS", "10"))


def tool_name(kind: str, number: int) -> str:
    return f"{kind}_{number:04}"


def _definition(name: str, *, reads: bool) -> dict[str, Any]:
    properties = {
        "reference": {"type": "string", "description": "The case this belongs to.", "maxLength": 64},
        "customer": {"type": "object", "description": "Who it is about.", "additionalProperties": True},
        "amount_micro_usd": {"type": "integer", "description": "Amount in micro-USD.", "minimum": 0},
        "lines": {"type": "array", "description": "What was ordered.", "items": {"type": "object"}},
        "note": {"type": "string", "description": "What the customer said, in their words."},
    }
    return {
        "name": name,
        "title": name.replace("_", " ").title(),
        "description": f"{name}: one of many tools of an order system, in as many words as usual.",
        "inputSchema": {"type": "object", "properties": properties, "required": ["reference"]},
        "annotations": {"readOnlyHint": reads, "destructiveHint": False, "openWorldHint": False},
    }


_TOOLS = [
    _definition(tool_name(kind, number), reads=kind == "lookup")
    for number in range((COUNT + 1) // 2)
    for kind in ("lookup", "update")
][:COUNT]
_NAMES = frozenset(tool["name"] for tool in _TOOLS)
_SERVER = {"name": "bench-upstream", "version": "1.0"}
_META = {"io.modelcontextprotocol/serverInfo": _SERVER}
_RECORD = {
    "orders": [
        {
            "id": f"o-{n:06}",
            "status": "shipped",
            "total_micro_usd": 1_250_000 + n,
            "carrier": "CTT",
            "parcels": 2,
        }
        for n in range(10)
    ],
    "next": None,
}
_CALL = orjson.dumps(
    {
        "content": [{"type": "text", "text": orjson.dumps(_RECORD).decode()}],
        "isError": False,
        "resultType": "complete",
        "_meta": _META,
    }
)
_LIST = orjson.dumps(
    {"tools": _TOOLS, "resultType": "complete", "ttlMs": 3_600_000, "cacheScope": "public", "_meta": _META}
)
_BEFORE, _AFTER = _CALL.split(b"o-000000")
_RESULTS = {
    "tools/call": _CALL,
    "tools/list": _LIST,
    "server/discover": orjson.dumps(
        {
            "supportedVersions": [PROTOCOL],
            "capabilities": {"tools": {}},
            "serverInfo": _SERVER,
            "resultType": "complete",
            "ttlMs": 3_600_000,
            "cacheScope": "public",
            "_meta": _META,
        }
    ),
    "initialize": orjson.dumps(
        {"protocolVersion": "2025-11-25", "capabilities": {"tools": {}}, "serverInfo": _SERVER}
    ),
    "ping": b"{}",
}


async def app(scope: Any, receive: Any, send: Any) -> None:
    """The ASGI application."""
    if scope["type"] != "http":
        return
    body = b""
    more = True
    while more:
        message = await receive()
        body += message.get("body", b"")
        more = message.get("more_body", False)
    if scope["path"] == "/v1/traces":
        await _answer(send, 200, b"")
        return
    if scope["method"] != "POST":
        await _answer(send, 405, b"")
        return
    request = orjson.loads(body)
    if "id" not in request:
        await _answer(send, 202, b"")
        return
    result = _RESULTS.get(request["method"])
    if result is None:
        await _refuse(send, 404, request["id"], -32601, f"Unknown method: {request['method']}")
        return
    if result is _CALL and request["params"]["name"] not in _NAMES:
        await _refuse(send, 200, request["id"], -32602, f"Unknown tool: {request['params']['name']}")
        return
    if result is _CALL:
        result = _BEFORE + str(request["id"])[-8:].rjust(8, "0").encode() + _AFTER
    await _answer(send, 200, b'{"jsonrpc":"2.0","id":%b,"result":%b}' % (orjson.dumps(request["id"]), result))


async def _refuse(send: Any, status: int, request_id: Any, code: int, message: str) -> None:
    error = {"code": code, "message": message}
    await _answer(send, status, orjson.dumps({"jsonrpc": "2.0", "id": request_id, "error": error}))


async def _answer(send: Any, status: int, body: bytes) -> None:
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
