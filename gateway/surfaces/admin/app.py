"""The admin API as a FastAPI app."""

from __future__ import annotations

from functools import cache
from typing import Any

from fastapi import FastAPI
from fastapi.responses import HTMLResponse, JSONResponse, RedirectResponse
from starlette.types import ASGIApp

from gateway.surfaces import problems
from gateway.surfaces.admin import approvals, breakers, envelopes, health, page, sessions, trust, v1
from gateway.surfaces.admin.deps import AdminDeps
from gateway.surfaces.admin.hosts import Hosts

_DESCRIPTION = """\
Health, metrics and the operator's view of a wardgate gateway.

Everything under `/v1` needs an operator key, `Authorization: Bearer wgo_…`. Any role reads;
`POST /v1/reload` needs the role *operator*, `POST /v1/tools/accept` that or *policy-admin*, and deciding
about held calls *approver* or *operator* and a place in the chain. Operators see their own tenant's calls
only. Errors are problem details (RFC 9457) with a reason code."""


def create_admin(deps: AdminDeps, console: ASGIApp | None = None) -> FastAPI:
    """Build the app for the admin port; ``deps`` is asked on every request, so answers follow reloads.

    ``console`` is served below ``/console``.
    """
    app = FastAPI(
        title="wardgate admin API",
        version=deps.version,
        description=_DESCRIPTION,
        # FastAPI's own pages load scripts from a CDN, which an admin port must not.
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
        redirect_slashes=False,
    )
    app.state.deps = deps
    problems.install(app)
    app.include_router(health.routes)
    app.include_router(v1.routes)
    app.include_router(sessions.routes)
    app.include_router(approvals.routes)
    app.include_router(approvals.callbacks)
    app.include_router(envelopes.routes)
    app.include_router(breakers.routes)
    app.include_router(trust.routes)
    app.include_router(breakers.scores)

    @cache  # describing takes a tenth of a second, so not before somebody asks
    def described() -> dict[str, Any]:
        return problems.described(app.openapi())

    @app.get("/openapi.json", include_in_schema=False)
    async def openapi() -> JSONResponse:
        return JSONResponse(described())

    @app.get("/docs", include_in_schema=False)
    async def docs() -> HTMLResponse:
        return HTMLResponse(page.render(described()), headers={"content-security-policy": page.CSP})

    if console is not None:

        @app.get("/console", include_in_schema=False)
        async def to_console() -> RedirectResponse:
            return RedirectResponse("/console/", 303)

        app.mount("/console", console)
    app.add_middleware(Hosts, allowed=deps.allowed_hosts)
    return app
