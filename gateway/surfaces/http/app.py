"""The HTTP front as one ASGI application: a FastAPI app behind its doors."""

from __future__ import annotations

from functools import cache
from typing import Any, Final

from fastapi import Depends, FastAPI, Request, Response
from fastapi.responses import JSONResponse
from fastapi.security import HTTPBearer

from gateway.errors import WardgateError
from gateway.surfaces import problems
from gateway.surfaces.doors import ClientGone, Receive, Scope, Send
from gateway.surfaces.http import calls, decisions, extauthz, reads, replies, sessions
from gateway.surfaces.http.deps import HttpDeps
from gateway.surfaces.http.front import Caller, Front
from gateway.surfaces.http.opened import OpenDecisions

_DESCRIPTION: Final = """\
Run tools through wardgate, or ask it for decisions about tools that run elsewhere.

Everything under `/v1` needs an agent key, `Authorization: Bearer wga_…`. Every call goes the same way as one
over MCP: decided by policy, recorded before it happens, its result judged. Errors are problem details (RFC
9457) with a reason code; `effect` says whether a call may have had its effect. Bodies are read strictly:
unknown fields, duplicate keys, numbers beyond 64 bits and lone surrogates are refused.

`/v1/ext_authz/{upstream}/…` speaks Envoy's contract and is described in the documentation, not here."""


class HttpSurface:
    """The front for agents that speak plain HTTP, and for those who ask in their place."""

    def __init__(self, deps: HttpDeps) -> None:
        self.opened = OpenDecisions(deps.parts, deps.limits, deps.open_decisions)
        self.app = create_app(deps, self.opened)
        self._front = Front(
            self.app, extauthz.edge(deps), deps, lambda scope, error: _refused(deps, None, error)
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await self._front(scope, receive, send)
        except ClientGone:
            return

    def close(self) -> None:
        """No deadline of an open decision fires any more."""
        self.opened.close()


def create_app(deps: HttpDeps, opened: OpenDecisions) -> FastAPI:
    """Build the app; ``deps`` is asked on every request, so answers follow reloads."""
    app = FastAPI(
        title="wardgate API for agents",
        version=deps.version,
        description=_DESCRIPTION,
        # FastAPI's own pages load scripts from a CDN.
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
        redirect_slashes=False,
    )
    app.state.deps = deps
    app.state.opened = opened
    problems.install(app, reply=_reply)
    # Only describes the scheme; the guard of each route is what checks.
    scheme = [Depends(HTTPBearer(auto_error=False, scheme_name="agent key"))]
    for routes in (calls.routes, decisions.routes, reads.routes, sessions.routes):
        app.include_router(routes, dependencies=scheme)

    @cache  # describing takes a tenth of a second, so not before somebody asks
    def described() -> dict[str, Any]:
        return describe(app)

    @app.get("/openapi.json", include_in_schema=False)
    async def openapi() -> JSONResponse:
        return JSONResponse(described())

    return app


def describe(app: FastAPI) -> dict[str, Any]:
    """The OpenAPI document; FastAPI's own 422 is not among the answers given here."""
    document = problems.described(app.openapi())
    for name in ("HTTPValidationError", "ValidationError"):
        document["components"]["schemas"].pop(name, None)
    return document


def _reply(request: Request, error: WardgateError, detail: str) -> Response:
    deps: HttpDeps = request.app.state.deps
    caller: Caller | None = getattr(request.state, "caller", None)
    return _refused(deps, caller, error, detail)


def _refused(deps: HttpDeps, caller: Caller | None, error: WardgateError, detail: str = "") -> Response:
    parts = caller.parts if caller is not None else deps.parts()
    principal = caller.principal if caller is not None else None
    parts.journal.refused(error.code, "http", principal, error.detail or detail)
    parts.telemetry.refused(error.code, "http")
    return replies.of_error(error, detail)
