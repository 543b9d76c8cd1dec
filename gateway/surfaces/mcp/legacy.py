"""Revisions 2025-03-26 to 2025-11-25: a handshake, a session, and a stream that is there to be listened to.

The gateway answers the handshake itself, so a session is the gateway's own and says nothing about the
upstream's: reconnecting, or never connecting, changes nothing about what is allowed.
"""

from __future__ import annotations

import asyncio
from typing import Any, Final

import orjson

from gateway.model import Principal
from gateway.ports import Parts
from gateway.surfaces.doors import Heads, Receive, Send
from gateway.surfaces.mcp import envelope, headers, protocol
from gateway.surfaces.mcp.envelope import Rejected, Reply
from gateway.surfaces.mcp.methods import METHODS, capabilities
from gateway.surfaces.mcp.modern import instructions, server_info
from gateway.surfaces.mcp.request import Request
from gateway.surfaces.mcp.sessions import Owner, Session, Sessions, owner_of

KEEP_ALIVE_S: Final = 15.0
"""How often a silent stream says that it is alive, in seconds."""

_EMPTY: Final = b"{}"


async def serve(request: Request, sessions: Sessions) -> Reply:
    """Find the session of a request and answer its method; ``initialize`` opens one."""
    request.modern = False
    owner = owner_of(request.principal, request.upstream)
    now = request.parts.clock.monotonic()
    headers.check(request.heads, request.method, request.params, required=False)
    if request.method == "initialize":
        return initialize(request, sessions, owner, now)
    session = sessions.find(request.heads.get(protocol.H_SESSION), owner, now)
    request.thread = session.thread
    request.exchange.log_level = session.log_level
    handler = METHODS.get(request.method)
    if handler is not None:
        return await handler(request)
    if request.method == "ping":
        return Reply(envelope.result(request.id_json, _EMPTY))
    if request.method == "logging/setLevel":
        return set_level(request, session)
    raise Rejected("unknown_method")


def initialize(request: Request, sessions: Sessions, owner: Owner, now: float) -> Reply:
    """Agree on a revision and open a session. An unknown revision is answered with the newest we speak."""
    asked = request.params.get("protocolVersion")
    version = asked if asked in protocol.LEGACY else protocol.LEGACY[0]
    result: dict[str, Any] = {
        "protocolVersion": version,
        "capabilities": capabilities(request),
        "serverInfo": server_info(request),
    }
    if text := instructions(request):
        result["instructions"] = text
    key = sessions.open(owner, now)
    body = envelope.result(request.id_json, orjson.dumps(result))
    return Reply(body, headers=((protocol.H_SESSION, key),))


def set_level(request: Request, session: Session) -> Reply:
    level = request.params.get("level")
    rank = protocol.LOG_LEVELS.get(level) if isinstance(level, str) else None
    if rank is None:
        raise Rejected("invalid_request", "Unknown log level.", status=200, rpc=protocol.INVALID_PARAMS)
    session.log_level = rank
    return Reply(envelope.result(request.id_json, _EMPTY))


class Listeners:
    """GET streams: open, silent but for keep-alive comments, one a session.

    Nothing is pushed on them yet. They are served because clients open one after every handshake, and some
    take a refusal for a broken server.
    """

    def __init__(self, sessions: Sessions, life_s: float) -> None:
        self._sessions = sessions
        self._life_s = life_s
        self._stopping = asyncio.Event()

    def stop(self) -> None:
        """End all streams, so that the process can."""
        self._stopping.set()

    async def listen(
        self,
        parts: Parts,
        principal: Principal,
        upstream: str | None,
        heads: Heads,
        receive: Receive,
        send: Send,
    ) -> None:
        """Hold one stream open until the client leaves, the session ends or its time is over."""
        owner = owner_of(principal, upstream)
        key = heads[protocol.H_SESSION]
        session = self._sessions.find(key, owner, parts.clock.monotonic())
        if session.listening:
            raise Rejected("invalid_request", "This session already has a stream.", status=409)
        session.listening = True
        gone = asyncio.ensure_future(_gone(receive))
        stopping = asyncio.ensure_future(self._stopping.wait())
        try:
            await send({
                "type": "http.response.start",
                "status": 200,
                "headers": [(b"content-type", b"text/event-stream"), (b"cache-control", b"no-store"),
                            (b"x-accel-buffering", b"no")],
            })  # fmt: skip
            await send({"type": "http.response.body", "body": b": listening\n\n", "more_body": True})
            end = parts.clock.monotonic() + self._life_s
            while parts.clock.monotonic() < end and session.live:
                done, _ = await asyncio.wait(
                    (gone, stopping), timeout=KEEP_ALIVE_S, return_when=asyncio.FIRST_COMPLETED
                )
                if done:
                    break
                self._sessions.touch(key, session, parts.clock.monotonic())
                await send({"type": "http.response.body", "body": b": alive\n\n", "more_body": True})
            await send({"type": "http.response.body", "body": b"", "more_body": False})
        finally:
            session.listening = False
            gone.cancel()
            stopping.cancel()


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
