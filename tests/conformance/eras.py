"""A server of one era only.

The SDK serves both. What stands here answers the other era as a server does that never heard of it, so that a
gateway in front can be held to all four pairs of client and server.
"""

from __future__ import annotations

import json
from typing import Any, Final, Literal

import mcp_types as types
from mcp.server import ServerRequestContext
from mcp.server.context import CallNext
from mcp.shared.exceptions import MCPError
from mcp_types.version import HANDSHAKE_PROTOCOL_VERSIONS, MODERN_PROTOCOL_VERSIONS
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

Era = Literal["both", "legacy", "modern"]
ERAS: Final[tuple[Era, ...]] = ("both", "legacy", "modern")

_HEADER: Final = "mcp-protocol-version"


class OneEra:
    """Refuses the other era at the door of the HTTP endpoint."""

    def __init__(self, app: ASGIApp, era: Era) -> None:
        self._app = app
        self._era = era

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        app = self._app
        if scope["type"] == "http":
            request = Request(scope, receive)
            version = request.headers.get(_HEADER)
            if self._era == "legacy" and version not in (None, *HANDSHAKE_PROTOCOL_VERSIONS):
                text = f"Bad Request: Unsupported protocol version: {version}"
                app = _refusal("server-error", types.INVALID_REQUEST, text)
            elif self._era == "modern" and version in (None, *HANDSHAKE_PROTOCOL_VERSIONS):
                app = await _not_modern(request, version)
        await app(scope, receive, send)


async def _not_modern(request: Request, version: str | None) -> Response:
    if request.method != "POST":
        return Response(status_code=405)  # no sessions, so nothing to listen to and nothing to end
    try:
        body = json.loads(await request.body())
    except ValueError:
        return _refusal(None, types.PARSE_ERROR, "Parse error")
    body = body if isinstance(body, dict) else {}
    params = body.get("params") if isinstance(body.get("params"), dict) else {}
    if types.PROTOCOL_VERSION_META_KEY in (params.get("_meta") or {}):
        return _refusal(body.get("id"), types.HEADER_MISMATCH, f"{_HEADER} does not repeat the body")
    asked = version or params.get("protocolVersion") or ""
    return _refusal(
        body.get("id"), types.UNSUPPORTED_PROTOCOL_VERSION, "Unsupported protocol version", _supported(asked)
    )


def _refusal(number: Any, code: int, message: str, data: Any = None) -> JSONResponse:
    error = {"code": code, "message": message, **({} if data is None else {"data": data})}
    return JSONResponse({"jsonrpc": "2.0", "id": number, "error": error}, status_code=400)


def _supported(asked: str) -> dict[str, Any]:
    return {"supported": list(MODERN_PROTOCOL_VERSIONS), "requested": asked}


async def modern_only(ctx: ServerRequestContext[Any], call_next: CallNext) -> Any:
    """Refuses the other era where there is no door: for stdio, as a middleware of the server."""
    if ctx.protocol_version not in MODERN_PROTOCOL_VERSIONS:
        asked = str((ctx.params or {}).get("protocolVersion", ""))
        raise MCPError(types.UNSUPPORTED_PROTOCOL_VERSION, "Unsupported protocol version", _supported(asked))
    return await call_next(ctx)
