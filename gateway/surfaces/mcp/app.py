"""``/mcp`` and ``/mcp/{upstream}`` as one raw ASGI application.

The order of checks is the order of cost and of trust: where it came from, who sent it, how large it is,
what it says. Nothing is read from the body of a caller who is not authenticated, and nothing is decided
by a header that the body does not repeat.

Raw ASGI because this is the hot path: one walk over the headers, one parse, two sends.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, Final, NamedTuple

import orjson

from gateway import strictjson
from gateway.config import ServerConfig
from gateway.errors import Refused
from gateway.model import Presented, Principal
from gateway.ports import HeldCalls, Parts
from gateway.surfaces.doors import (
    ClientGone,
    Doors,
    Heads,
    Receive,
    Scope,
    Send,
    check_content,
    gather,
    read_body,
)
from gateway.surfaces.mcp import envelope, legacy, modern, protocol
from gateway.surfaces.mcp.callers import Watch
from gateway.surfaces.mcp.changes import Changes
from gateway.surfaces.mcp.envelope import Rejected, Reply
from gateway.surfaces.mcp.listeners import Listeners
from gateway.surfaces.mcp.pages import Pages
from gateway.surfaces.mcp.parked import Parked
from gateway.surfaces.mcp.ports import Authenticate, UpstreamInfo
from gateway.surfaces.mcp.request import Front, Request
from gateway.surfaces.mcp.rounds import Rounds
from gateway.surfaces.mcp.seal import Seal
from gateway.surfaces.mcp.sessions import Session, Sessions, owner_of
from gateway.surfaces.mcp.stream import Exchange, send_reply
from gateway.surfaces.mcp.tasks import Tasks
from gateway.surfaces.mcp.transport import READ, accepts
from gateway.surfaces.mcp.view import Views

logger = logging.getLogger("wardgate.mcp")

_ACCEPTED: Final = Reply(b"", 202)
_NOTIFICATIONS: Final = frozenset({
    "notifications/initialized", "notifications/cancelled", "notifications/progress",
    "notifications/roots/list_changed",
})  # fmt: skip


class Visit(NamedTuple):
    """One HTTP request of an authenticated caller."""

    parts: Parts
    presented: Presented
    principal: Principal
    upstream: str | None
    heads: Heads
    scope: Scope
    receive: Receive
    send: Send


class McpSurface:
    """The MCP front of the gateway."""

    def __init__(
        self,
        parts: Callable[[], Parts],
        authenticate: Authenticate,
        config: ServerConfig,
        upstream_info: UpstreamInfo,
        seal_key: bytes,
        held: HeldCalls | None = None,
    ) -> None:
        """``seal_key`` are 32 bytes that only this gateway (and its replicas) has."""
        self._parts = parts
        self._authenticate = authenticate
        self._doors = Doors(config)
        self._max_bytes = config.max_body_bytes
        self._max_depth = config.max_depth
        self._body_timeout_s = config.body_timeout_s
        self._views = Views()
        self.changes = Changes(parts)
        self.sessions = Sessions(config.max_sessions, config.session_idle_s, self._session_ended)
        seal = Seal(seal_key)
        self._front = Front(
            info=upstream_info,
            sessions=self.sessions,
            seal=seal,
            rounds=Rounds(seal),
            parked=Parked(seal, lambda: parts().clock.now_ns(), config.ask_timeout_s),
            changes=self.changes,
            listeners=Listeners(self.sessions, self.changes, config.session_idle_s),
            tasks=Tasks(held, parts),
            pages=Pages(held),
            watch=Watch(),
            still=self._still,
            ask_timeout_s=config.ask_timeout_s,
        )

    def close(self) -> None:
        """End the streams that would keep the process from stopping; calls in flight go on."""
        self._front.listeners.stop()
        self._front.parked.close()

    def _session_ended(self, session: Session) -> None:
        self.changes.remove(session.outbox)
        self._parts().upstreams.ended(session.thread)

    async def _still(self, presented: Presented, principal: Principal) -> Principal | None:
        try:
            now = await self._authenticate(presented)
        except Refused:
            return None
        return now if now.credential == principal.credential else None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            raise RuntimeError(f"the MCP front serves HTTP only, not {scope['type']}")
        parts = self._parts()
        principal: Principal | None = None
        try:
            heads = gather(scope["headers"], READ)
            self._doors.check(heads)
            upstream = _endpoint(scope["path"])
            presented = Presented(
                heads.get(b"authorization"), scope["headers"], scope.get("client"), scope["path"]
            )
            principal = await self._authenticate(presented)
            visit = Visit(parts, presented, principal, upstream, heads, scope, receive, send)
            if scope["method"] == "POST":
                accepts_json, accepts_stream = accepts(heads)
                if not (accepts_json or accepts_stream):
                    raise Rejected(
                        "invalid_request", "Accept application/json and text/event-stream.", status=406
                    )
                check_content(heads, self._max_bytes)
                body = await read_body(receive, self._max_bytes, self._body_timeout_s)
                exchange = Exchange(send, accepts_json, accepts_stream)
                await self._post(visit, body, exchange)
            else:
                await self._other(visit)
        except ClientGone:
            return
        except Refused as refused:
            await send_reply(send, self._refuse(parts, refused, principal, b"null"))

    async def _post(self, visit: Visit, body: bytes, exchange: Exchange) -> None:
        """Read one message and answer it; whatever goes wrong from here on is answered under its id."""
        parts, principal, heads = visit.parts, visit.principal, visit.heads
        id_json = b"null"
        try:
            message = strictjson.parse(body, self._max_depth)
            if _is_answer(message):
                self._answered(visit, message)
                await exchange.finish(_ACCEPTED)
                return
            method, params, meta, is_request = _envelope(message)
            if is_request:
                id_json = orjson.dumps(message["id"])
            request = Request(
                front=self._front,
                parts=parts,
                view=self._views.of(parts.catalog),
                presented=visit.presented,
                principal=principal,
                upstream=visit.upstream,
                heads=heads,
                headers=visit.scope["headers"],
                exchange=exchange,
                receive=visit.receive,
                method=method,
                params=params,
                meta=meta,
                id_json=id_json,
            )
            if not is_request:
                reply = self._notified(request)
            elif _is_modern(method, meta, heads):
                reply = await modern.serve(request)
            else:
                reply = await legacy.serve(request)
        except Refused as refused:
            reply = self._refuse(parts, refused, principal, id_json)
        except Exception:  # a fault of our own must reach the client as an answer, and say nothing else
            logger.exception("a request failed inside the MCP front")
            reply = self._refuse(parts, Rejected("gateway_error", status=200), principal, id_json)
        await exchange.finish(reply)

    def _notified(self, request: Request) -> Reply:
        """Notifications are accepted, and of those known only a session's can have a consequence."""
        if request.method not in _NOTIFICATIONS:
            # Real clients end their session when a notification is refused, so it is only counted.
            self._note(request.parts, "unknown_method", request.principal, "notification")
        if not _is_modern(request.method, request.meta, request.heads):
            legacy.notified(request)
        return _ACCEPTED

    def _answered(self, visit: Visit, message: dict[str, Any]) -> None:
        """A legacy client answers a question; raises ``Rejected`` when the session is not its own."""
        if protocol.H_SESSION not in visit.heads:
            # Only in a session is anybody asked; a modern client answers with its next call.
            raise Rejected("invalid_request", "The body must be one JSON-RPC 2.0 request or notification.")
        if not self._session(visit).conversation.answered(message):
            # Too late, answered twice, or made up: it reaches nobody, and a trace of it is kept.
            self._note(visit.parts, "invalid_request", visit.principal, "an answer nobody waits for")

    def _session(self, visit: Visit) -> Session:
        owner = owner_of(visit.principal, visit.upstream)
        return self.sessions.find(visit.heads[protocol.H_SESSION], owner, visit.parts.clock.monotonic())

    async def _other(self, visit: Visit) -> None:
        """GET and DELETE, which only sessions have."""
        heads, method = visit.heads, visit.scope["method"]
        if protocol.H_SESSION in heads:
            if method == "GET" and accepts(heads)[1]:
                await self._listen(visit)
                return
            if method == "DELETE":
                owner = owner_of(visit.principal, visit.upstream)
                self.sessions.close(heads[protocol.H_SESSION], owner, visit.parts.clock.monotonic())
                await send_reply(visit.send, Reply(b"", 204))
                return
        raise Rejected(
            "invalid_request", "This endpoint takes POST.", status=405, headers=((b"allow", b"POST"),)
        )

    async def _listen(self, visit: Visit) -> None:
        session = self._session(visit)

        async def holds() -> Principal | None:
            return await self._still(visit.presented, visit.principal)

        exchange = Exchange(visit.send, accepts_json=False, accepts_stream=True)
        key = visit.heads[protocol.H_SESSION]
        await self._front.listeners.session(visit.parts, key, session, exchange, visit.receive, holds)

    def _refuse(self, parts: Parts, refused: Refused, principal: Principal | None, id_json: bytes) -> Reply:
        self._note(parts, refused.code, principal, refused.detail)
        return envelope.rejection(envelope.from_refused(refused), id_json)

    @staticmethod
    def _note(parts: Parts, code: str, principal: Principal | None, detail: str) -> None:
        parts.journal.refused(code, "mcp", principal, detail)
        parts.telemetry.refused(code, "mcp")


def _endpoint(path: str) -> str | None:
    """The upstream a path names; ``None`` for the aggregate."""
    if path in ("/mcp", "/mcp/"):
        return None
    upstream = path[5:]
    if not path.startswith("/mcp/") or "/" in upstream:
        raise Rejected("unknown_upstream")
    return upstream


def _is_answer(message: Any) -> bool:
    """Whether a message answers a question of ours; ``_envelope`` says what is wrong with anything else."""
    return (
        isinstance(message, dict)
        and "method" not in message
        and "id" in message
        and ("result" in message or "error" in message)
        and message.get("jsonrpc") == "2.0"
    )


def _envelope(message: Any) -> tuple[str, dict[str, Any], dict[str, Any], bool]:
    """``(method, params, _meta, is a request)`` of a JSON-RPC message, or ``Rejected``."""
    if not isinstance(message, dict):
        # Two messages in one body would need two decisions and could have one answer.
        raise Rejected("batch_refused" if isinstance(message, list) else "invalid_request")
    method = message.get("method")
    if message.get("jsonrpc") != "2.0" or not isinstance(method, str):
        raise Rejected("invalid_request", "The body must be one JSON-RPC 2.0 request or notification.")
    is_request = "id" in message
    if is_request and (isinstance(message["id"], bool) or not isinstance(message["id"], str | int)):
        raise Rejected("invalid_request", "The id must be a string or an integer.")
    params = message.get("params")
    if params is None:
        return method, {}, {}, is_request
    if not isinstance(params, dict):
        raise Rejected("invalid_request", "'params' must be an object.")
    meta = params.get("_meta")
    if meta is None:
        return method, params, {}, is_request
    if not isinstance(meta, dict):
        raise Rejected("invalid_request", "'params._meta' must be an object.", rpc=protocol.INVALID_PARAMS)
    return method, params, meta, is_request


def _is_modern(method: str, meta: dict[str, Any], heads: Heads) -> bool:
    """The body decides the era; a version header that is no legacy one must at least be held to it."""
    if protocol.META_VERSION in meta or method == "server/discover":
        return True
    version = heads.get(protocol.H_VERSION)
    return version is not None and version not in protocol.LEGACY_HEADERS
