"""Probes, metrics and public keys: open, because who reads them carries no credential."""

from __future__ import annotations

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response
from starlette.concurrency import run_in_threadpool

from gateway.surfaces.admin import models
from gateway.surfaces.admin.deps import Deps

routes = APIRouter(tags=["health"])


@routes.get("/livez", summary="Is the process alive?")
async def livez() -> models.Alive:
    """Depends on nothing else, so that a restart is never asked for when it would not help."""
    return models.Alive()


@routes.get(
    "/readyz",
    summary="Can calls be decided and recorded?",
    response_model=models.Readiness,
    responses={503: {"model": models.Readiness, "description": "No policy or no journal."}},
)
async def readyz(deps: Deps) -> Response:
    """503 only when an essential part is down: without policy or journal every call is refused."""
    parts = deps.ready()
    ready = not any(part.essential and part.state == "down" for part in parts.values())
    # States only: why a part is degraded is for operators, at /v1/status.
    body = models.Readiness(ready=ready, parts={name: part.state for name, part in parts.items()})
    return JSONResponse(body.model_dump(), 200 if ready else 503)


@routes.get(
    "/metrics",
    summary="Metrics for Prometheus",
    response_class=Response,
    responses={200: {"content": {"text/plain": {}, "application/openmetrics-text": {}}}},
)
async def metrics(request: Request, deps: Deps) -> Response:
    """Text format, or OpenMetrics with exemplars when the Accept header asks for it."""
    # In a thread: writing out thousands of series takes longer than a call may wait.
    content_type, body = await run_in_threadpool(deps.metrics, request.headers.get("accept", ""))
    return Response(body, headers={"content-type": content_type})


@routes.get("/.well-known/wardgate/jwks.json", summary="Keys that assertions are verified with")
async def jwks(deps: Deps) -> models.KeySet:
    """The public keys, also of the one that signs next; empty when nothing is signed."""
    return models.KeySet.model_validate(deps.jwks())
