"""Revision 2026-07-28: stateless, one POST a request, everything it needs to be understood in ``_meta``."""

from __future__ import annotations

from typing import Any, Final

import orjson

from gateway import __version__
from gateway.surfaces.mcp import capabilities, envelope, headers, protocol
from gateway.surfaces.mcp.envelope import Rejected, Reply
from gateway.surfaces.mcp.lists import TTL_MS
from gateway.surfaces.mcp.methods import METHODS, MODERN_METHODS
from gateway.surfaces.mcp.request import Request

SUPPORTED: Final = (protocol.MODERN,)
_VERSION_HEADER: Final = protocol.MODERN.encode()


async def serve(request: Request) -> Reply:
    """Validate the envelope, in the order the specification's own SDKs do, and answer the method."""
    check_envelope(request)
    if (level := request.meta.get(protocol.META_LOG_LEVEL)) is not None:
        rank = protocol.LOG_LEVELS.get(level) if isinstance(level, str) else None
        if rank is None:
            raise Rejected("invalid_request", "Unknown log level.", status=200, rpc=protocol.INVALID_PARAMS)
        request.exchange.log_level, request.exchange.log_name = rank, level
    handler = METHODS.get(request.method) or MODERN_METHODS.get(request.method)
    if handler is not None:
        request.thread = request.named_thread()
        return await handler(request)
    if request.method == "server/discover":
        return discover(request)
    raise Rejected("unknown_method", status=404)


def check_envelope(request: Request) -> None:
    meta = request.meta
    version = meta.get(protocol.META_VERSION)
    if version is None or not isinstance(meta.get(protocol.META_CAPABILITIES), dict):
        missing = protocol.META_VERSION if version is None else protocol.META_CAPABILITIES
        raise Rejected(
            "invalid_request", f"params._meta must carry '{missing}'.", rpc=protocol.INVALID_PARAMS
        )
    said = request.heads.get(protocol.H_VERSION)
    if said != _VERSION_HEADER or version != protocol.MODERN:
        if not isinstance(version, str):
            raise Rejected(
                "invalid_request", "The protocol version must be a string.", rpc=protocol.INVALID_PARAMS
            )
        if said is None or headers.decode(said) != version:
            raise Rejected(
                "header_mismatch", "The MCP-Protocol-Version header does not match the body's version."
            )
        raise Rejected("unsupported_version", data={"supported": SUPPORTED, "requested": version[:64]})
    headers.check(request.heads, request.method, request.params, required=True)


def discover(request: Request) -> Reply:
    """Who answers here and what it offers; per principal, since the endpoint may be."""
    result: dict[str, Any] = {
        "resultType": "complete",
        "supportedVersions": SUPPORTED,
        "capabilities": capabilities.of_server(request),
        "_meta": {protocol.META_SERVER_INFO: server_info(request)},
        "ttlMs": TTL_MS,
        "cacheScope": "private",
    }
    if text := instructions(request):
        result["instructions"] = text
    return Reply(envelope.result(request.id_json, orjson.dumps(result)))


def server_info(request: Request) -> dict[str, str]:
    """The upstream's own name on its own endpoint, the gateway's on the aggregate."""
    info = request.front.info(request.upstream) if request.upstream is not None else None
    if info is None:
        return {"name": "wardgate", "version": __version__}
    named = {"name": info.name or request.upstream or "", "version": info.server_version or "unknown"}
    if info.title:
        named["title"] = info.title
    return named


def instructions(request: Request) -> str:
    info = request.front.info(request.upstream) if request.upstream is not None else None
    return info.instructions if info is not None else ""
