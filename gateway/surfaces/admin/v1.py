"""The operator's view: decisions, tools, upstreams, status, reasons and reload."""

from __future__ import annotations

import logging
import time
from datetime import UTC, datetime
from typing import Annotated, Any, Final, Literal

from fastapi import APIRouter, Depends, Query, Request
from fastapi.security import HTTPBearer
from starlette.concurrency import run_in_threadpool

from gateway.errors import ConfigError, PolicyError, Refused, Unauthenticated
from gateway.model import Operator, Tool
from gateway.reasons import REASONS
from gateway.surfaces.admin import models
from gateway.surfaces.admin.deps import Accepted, DecisionFilter, Deps
from gateway.surfaces.problems import Problem

logger = logging.getLogger("wardgate.admin")

Limit = Annotated[int, Query(ge=1, le=500, description="Items on a page.")]
Cursor = Annotated[str | None, Query(max_length=500, description="From the page before.")]
Name = Annotated[str | None, Query(max_length=500)]

PROBLEMS: Final[dict[int | str, dict[str, Any]]] = {
    401: {"model": Problem, "description": "No operator."},
    421: {"model": Problem, "description": "The Host header names somebody else."},
    422: {"model": Problem, "description": "A parameter is not valid."},
}


async def authenticated(request: Request, deps: Deps) -> Operator:
    """The operator who asks; raises ``Unauthenticated``."""
    header = request.headers.get("authorization")
    try:
        return deps.authenticate(header.encode("latin-1") if header is not None else None)
    except Unauthenticated as unknown:
        deps.refused(unknown.code, "admin")
        raise


Viewer = Annotated[Operator, Depends(authenticated)]

# Only describes the scheme; ``authenticated`` is what checks.
DESCRIBED: Final = [Depends(HTTPBearer(auto_error=False, scheme_name="operator key"))]

routes = APIRouter(prefix="/v1", dependencies=DESCRIBED, responses=PROBLEMS)


@routes.get("/status", tags=["status"], summary="What is in force")
async def status(operator: Viewer, deps: Deps) -> models.StatusAnswer:
    now = deps.status()
    return models.StatusAnswer(
        version=deps.version,
        mode=now.mode,
        started=_time(now.started_ns),
        uptime_s=round((time.time_ns() - now.started_ns) / 1e9, 1),
        in_flight=now.in_flight,
        revisions=dict(now.revisions),
        controls=list(now.controls),
        parts={
            name: models.Part(state=part.state, essential=part.essential, detail=part.detail)
            for name, part in deps.ready().items()
        },
    )


@routes.get("/decisions", tags=["decisions"], summary="Calls and what became of them, newest first")
async def decisions(
    operator: Viewer,
    deps: Deps,
    agent: Name = None,
    tool: Annotated[
        str | None, Query(max_length=500, description="upstream/name, or upstream/ for all of one.")
    ] = None,
    verdict: Literal["allow", "deny", "escalate"] | None = None,
    action: Literal["allow", "block", "hold", "modify"] | None = None,
    code: Name = None,
    session: Name = None,
    since: datetime | None = None,
    until: datetime | None = None,
    in_doubt: Annotated[bool, Query(description="Only calls whose outcome nobody knows.")] = False,
    limit: Limit = 50,
    cursor: Cursor = None,
) -> models.DecisionList:
    which = DecisionFilter(
        tenant=operator.tenant,
        agent=agent,
        tool=tool,
        verdict=verdict,
        action=action,
        code=code,
        session=session,
        since_ns=_ns(since),
        until_ns=_ns(until),
        in_doubt=in_doubt,
    )
    try:
        found = await run_in_threadpool(deps.decisions.list, which, limit, cursor)
    except ValueError as foreign:
        raise Refused("invalid_request", "cursor") from foreign
    return models.DecisionList(
        items=[models.Decision.model_validate(item) for item in found.items], cursor=found.cursor
    )


@routes.get(
    "/decisions/{call_id}",
    tags=["decisions"],
    summary="One call with everything its record says",
    responses={404: {"model": Problem, "description": "No such call of this tenant."}},
)
async def decision(operator: Viewer, deps: Deps, call_id: str) -> models.DecisionDetail:
    found = await run_in_threadpool(deps.decisions.show, operator.tenant, call_id)
    if found is None:
        raise Refused("not_found", call_id)
    return models.DecisionDetail.model_validate(found)


@routes.get("/tools", tags=["catalog"], summary="Tools and their manifests")
async def tools(
    operator: Viewer, deps: Deps, upstream: Name = None, limit: Limit = 500, cursor: Cursor = None
) -> models.ToolList:
    wanted = sorted(
        (tool for tool in deps.tools() if upstream is None or tool.upstream == upstream), key=_cursor
    )
    if cursor is not None:
        wanted = [tool for tool in wanted if _cursor(tool) > cursor]
    page = wanted[:limit]
    return models.ToolList(
        revision=deps.status().revisions.get("catalog", ""),
        items=[tool_view(tool) for tool in page],
        cursor=_cursor(page[-1]) if len(wanted) > limit else None,
    )


@routes.post(
    "/tools/accept",
    tags=["catalog"],
    summary="Accept one definition that is in quarantine",
    responses={
        403: {"model": Problem, "description": "The role is neither operator nor policy-admin."},
        404: {"model": Problem, "description": "Nothing of that name is listed."},
        409: {"model": Problem, "description": "Another definition is listed by now."},
        503: {"model": Problem, "description": "It cannot be stored."},
    },
)
async def accept(operator: Viewer, deps: Deps, wanted: models.AcceptTool) -> models.AcceptedTool:
    """In force when this answers. Look at the definition first: `wardgate tools diff`."""
    if operator.role not in ("operator", "policy-admin"):
        deps.refused("wrong_role", "admin")
        raise Refused("wrong_role", operator.name)
    await deps.accept(
        Accepted(
            upstream=wanted.upstream, kind=wanted.kind, name=wanted.name, hash=wanted.hash, by=operator.name
        )
    )
    logger.info("definition accepted on request", extra={"operator": operator.name, "revision": wanted.hash})
    return models.AcceptedTool(
        target=f"{wanted.upstream}/{wanted.name}", hash=wanted.hash, accepted_by=operator.name
    )


@routes.get("/policy/shadow", tags=["policy"], summary="The candidate policy and where it differs")
async def shadow(operator: Viewer, deps: Deps) -> models.ShadowView:
    """Differences are those of the operator's own tenant; counts are of all calls that were tried."""
    found = await run_in_threadpool(deps.shadow, operator.tenant)
    return models.ShadowView.model_validate(found, from_attributes=True)


@routes.get("/upstreams", tags=["catalog"], summary="Upstreams and how they do")
async def upstreams(operator: Viewer, deps: Deps) -> models.UpstreamList:
    return models.UpstreamList(
        items=[models.UpstreamView.model_validate(each, from_attributes=True) for each in deps.upstreams()]
    )


@routes.get("/issuers", tags=["identity"], summary="Issuers of tokens and how their keys do")
async def issuers(operator: Viewer, deps: Deps) -> models.IssuerList:
    found = deps.issuers(operator.tenant)
    return models.IssuerList(
        items=[models.IssuerView.model_validate(each, from_attributes=True) for each in found]
    )


@routes.get("/tokens/revocations", tags=["identity"], summary="Revoked tokens, oldest first")
async def revocations(operator: Viewer, deps: Deps) -> models.RevocationList:
    found = await run_in_threadpool(deps.revocations, operator.tenant)
    return models.RevocationList(items=[models.RevocationView.model_validate(each) for each in found])


@routes.get("/policy/schema", tags=["policy"], summary="JSON Schema of what policy is given")
async def policy_schema(operator: Viewer, deps: Deps) -> dict[str, Any]:
    """For editors and `opa check --schema`: all phases in one, and each alone under `$defs`."""
    return dict(deps.policy_schema())


@routes.get("/reasons", tags=["status"], summary="What each reason code means")
async def reasons(operator: Viewer) -> models.ReasonList:
    return models.ReasonList(
        items=[models.ReasonView.model_validate(each, from_attributes=True) for each in REASONS.values()]
    )


@routes.post(
    "/reload",
    tags=["status"],
    summary="Read configuration, policy and keys again",
    responses={
        403: {"model": Problem, "description": "The role is not operator."},
        409: {"model": Problem, "description": "Not valid; what was in force stays."},
    },
)
async def reload(operator: Viewer, deps: Deps) -> models.Reloaded:
    if operator.role != "operator":
        deps.refused("wrong_role", "admin")
        raise Refused("wrong_role", operator.name)
    try:
        revisions = await deps.reload()
    except PolicyError as broken:
        raise ConfigError(broken.detail) from broken
    logger.info("reloaded on request", extra={"operator": operator.name})
    return models.Reloaded(revisions=dict(revisions))


def tool_view(tool: Tool) -> models.ToolView:
    manifest = tool.manifest
    return models.ToolView(
        target=tool.target,
        kind=tool.kind,
        upstream=tool.upstream,
        name=tool.name,
        risk=manifest.risk,
        effects=list(manifest.effects),
        domain=manifest.domain,
        source=manifest.source,
        mode=tool.mode,
        deadline_s=manifest.deadline_s,
        schema_hash=tool.schema_hash,
        pin=tool.pin.state,
        flags=list(tool.pin.flags),
        quarantined=tool.pin.quarantined,
    )


def _cursor(tool: Tool) -> str:
    return f"{tool.kind} {tool.target}"


def _time(ns: int) -> datetime:
    return datetime.fromtimestamp(ns / 1e9, UTC)


def _ns(moment: datetime | None) -> int | None:
    """A time without a zone is UTC."""
    if moment is None:
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return round(moment.timestamp() * 1e9)
