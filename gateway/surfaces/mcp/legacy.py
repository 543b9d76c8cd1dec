"""Revisions 2025-03-26 to 2025-11-25: a handshake, a session, and a stream that is there to be listened to.

The gateway answers the handshake itself, so a session is the gateway's own and says nothing about the
upstream's: reconnecting, or never connecting, changes nothing about what is allowed.
"""

from __future__ import annotations

from typing import Any, Final

import orjson

from gateway.surfaces.mcp import capabilities, envelope, headers, protocol
from gateway.surfaces.mcp.envelope import Rejected, Reply
from gateway.surfaces.mcp.methods import LEGACY_METHODS, METHODS
from gateway.surfaces.mcp.modern import instructions, server_info
from gateway.surfaces.mcp.request import Request
from gateway.surfaces.mcp.sessions import Session, owner_of

_EMPTY: Final = b"{}"


async def serve(request: Request) -> Reply:
    """Find the session of a request and answer its method; ``initialize`` opens one."""
    request.modern = False
    headers.check(request.heads, request.method, request.params, required=False)
    if request.method == "initialize":
        return initialize(request)
    session = request.session = find(request)
    request.thread = session.thread
    request.exchange.log_level, request.exchange.log_name = session.log_level, session.level
    handler = METHODS.get(request.method) or LEGACY_METHODS.get(request.method)
    if handler is not None:
        return await handler(request)
    if request.method == "ping":
        return Reply(envelope.result(request.id_json, _EMPTY))
    if request.method == "logging/setLevel":
        return set_level(request, session)
    raise Rejected("unknown_method")


def find(request: Request) -> Session:
    """The session a request belongs to; raises ``Rejected`` when it is not the caller's own."""
    owner = owner_of(request.principal, request.upstream)
    now = request.parts.clock.monotonic()
    return request.front.sessions.find(request.heads.get(protocol.H_SESSION), owner, now)


def notified(request: Request) -> None:
    """Take a notification of a session's client."""
    session = find(request)
    if request.method == "notifications/cancelled":
        # The call goes on until its outcome is known; only the upstream is told that nobody wants it.
        session.conversation.cancelled(request.params.get("requestId"))


def initialize(request: Request) -> Reply:
    """Agree on a revision and open a session. An unknown revision is answered with the newest we speak."""
    asked = request.params.get("protocolVersion")
    version = asked if asked in protocol.LEGACY else protocol.LEGACY[0]
    result: dict[str, Any] = {
        "protocolVersion": version,
        "capabilities": capabilities.of_server(request),
        "serverInfo": server_info(request),
    }
    if text := instructions(request):
        result["instructions"] = text
    declared = request.params.get("capabilities")
    declared = declared if isinstance(declared, dict) else {}
    if len(orjson.dumps(declared)) > capabilities.MAX_DECLARED:
        raise Rejected("too_large", "The capabilities are too large.")
    now = request.parts.clock.monotonic()
    key = request.front.sessions.open(request.principal, request.upstream, declared, now)
    body = envelope.result(request.id_json, orjson.dumps(result))
    return Reply(body, headers=((protocol.H_SESSION, key),))


def set_level(request: Request, session: Session) -> Reply:
    level = request.params.get("level")
    rank = protocol.LOG_LEVELS.get(level) if isinstance(level, str) else None
    if rank is None or not isinstance(level, str):
        raise Rejected("invalid_request", "Unknown log level.", status=200, rpc=protocol.INVALID_PARAMS)
    session.log_level, session.level = rank, level
    return Reply(envelope.result(request.id_json, _EMPTY))
