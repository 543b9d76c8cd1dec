"""What a request goes through before a route sees it.

The order is that of cost and of trust: where it came from, who sent it, how large it is, what it says. The
body is parsed strictly and once, because what is decided must be what is sent.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import Annotated, Any, Final, NamedTuple

from fastapi import Depends, Request, Response
from fastapi.routing import APIRoute

from gateway import strictjson
from gateway.errors import Unauthenticated
from gateway.model import Presented, Principal
from gateway.ports import Parts
from gateway.surfaces.doors import (
    Doors,
    Heads,
    NotAdmitted,
    Receive,
    Scope,
    Send,
    check_content,
    gather,
    read_body,
)
from gateway.surfaces.http.deps import HttpDeps

WORK: Final = b"wardgate-session"
"""The header that names the piece of work a call belongs to."""

READ: Final = frozenset({
    b"host", b"origin", b"authorization", b"content-type", b"content-length", b"content-encoding",
    b"traceparent", b"idempotency-key", b"x-wardgate-authorization", b"x-envoy-auth-partial-body",
    b"transfer-encoding", WORK,
})  # fmt: skip
EDGE: Final = "/v1/ext_authz/"
_HEADERS: Final = ((b"x-content-type-options", b"nosniff"), (b"cache-control", b"no-store"))


class Caller(NamedTuple):
    """An admitted request: who sends it, and the parts it is decided with from beginning to end."""

    principal: Principal
    parts: Parts
    heads: Heads

    @property
    def session(self) -> str:
        """The piece of work this belongs to, as the client names it; "" when it does not."""
        return self.heads.get(WORK, b"").decode("latin-1")


class Front:
    """Raw ASGI around the app: the doors, and the headers every answer carries."""

    def __init__(
        self, app: Any, edge: Any, deps: HttpDeps, refuse: Callable[[Scope, NotAdmitted], Response]
    ) -> None:
        self._app = app
        self._edge = edge
        self._doors = Doors(deps.server)
        self._refuse = refuse

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            raise RuntimeError(f"the HTTP front serves HTTP only, not {scope['type']}")

        async def send_with_headers(message: Any) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", ()), *_HEADERS]
            await send(message)

        try:
            heads = gather(scope["headers"], READ)
            # Envoy asks with the Host and Origin of the request it asks about, which are names of somebody
            # else. A page that reached this path by rebinding would still need a key.
            asked = scope["path"].startswith(EDGE)
            if not asked:
                self._doors.check(heads)
        except NotAdmitted as refused:
            await self._refuse(scope, refused)(scope, receive, send_with_headers)
            return
        scope["wardgate.heads"] = heads
        await (self._edge if asked else self._app)(scope, receive, send_with_headers)


async def admit(deps: HttpDeps, scope: Scope, authorization: bytes | None) -> Caller:
    """The one place of this surface where a caller becomes a principal."""
    presented = Presented(authorization, scope["headers"], scope.get("client"), scope["path"])
    return Caller(await deps.authenticate(presented), deps.parts(), scope["wardgate.heads"])


@contextmanager
def turn(caller: Caller) -> Iterator[None]:
    """A place among the work in flight, for what reads the journal; raises ``Overloaded``.

    Calls and decisions take theirs in the pipeline.
    """
    caller.parts.limits.enter(caller.principal)
    try:
        yield
    finally:
        caller.parts.limits.leave(caller.principal)


class _Parsed(Request):
    """A request whose body has been read and parsed by us."""

    parsed: Any = None
    raw: bytes = b""

    async def body(self) -> bytes:
        return self.raw

    async def json(self) -> Any:
        return self.parsed


class GuardedRoute(APIRoute):
    """A route whose caller is authenticated and whose body is read strictly, in that order."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        original = super().get_route_handler()
        takes_body = self.body_field is not None

        async def handle(request: Request) -> Response:
            deps: HttpDeps = request.app.state.deps
            heads: Heads = request.scope["wardgate.heads"]
            # Nothing is read from the body of a caller who is not authenticated.
            caller = await admit(deps, request.scope, heads.get(b"authorization"))
            request.state.caller = caller
            if not takes_body:
                return await original(request)
            server = deps.server
            check_content(heads, server.max_body_bytes)
            inner = _Parsed(request.scope, request.receive)
            inner.raw = await read_body(request.receive, server.max_body_bytes, server.body_timeout_s)
            inner.parsed = strictjson.parse(inner.raw, server.max_depth)
            inner.state.caller = caller
            return await original(inner)

        return handle


async def _caller(request: Request) -> Caller:
    caller = request.state.caller
    if not isinstance(caller, Caller):  # a route that forgot its guard must not run as nobody
        raise Unauthenticated("no_credential")
    return caller


async def _deps(request: Request) -> HttpDeps:
    deps: HttpDeps = request.app.state.deps
    return deps


Admitted = Annotated[Caller, Depends(_caller)]
Deps = Annotated[HttpDeps, Depends(_deps)]
