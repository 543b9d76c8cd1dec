"""``GET /v1/tools`` and ``GET /v1/decisions``: what this agent may see, and what it did."""

from __future__ import annotations

from typing import Annotated, Any

import orjson
from fastapi import APIRouter, Path, Query, Response
from starlette.concurrency import run_in_threadpool

from gateway import visible
from gateway.errors import Refused
from gateway.surfaces.http.calls import PROBLEMS
from gateway.surfaces.http.front import Admitted, Deps, GuardedRoute, turn
from gateway.surfaces.http.models import CALL_ID, Decision, DecisionList, ToolList

_USUAL: dict[int | str, dict[str, Any]] = {
    status: PROBLEMS[status] for status in (400, 401, 421, 422, 500, 503)
}

routes = APIRouter(prefix="/v1", route_class=GuardedRoute, responses=_USUAL)


@routes.get("/tools", tags=["calls"], summary="Tools this agent may see", response_model=ToolList)
async def tools(
    caller: Admitted,
    deps: Deps,
    upstream: Annotated[str | None, Query(max_length=63, description="Only of this upstream.")] = None,
) -> Response:
    """Hidden tools are left out. To see a tool is not to be allowed to use it: each call is decided."""
    here = visible.listed(caller.parts, caller.principal, "tool")
    found = [*here, *visible.shown(caller.parts, caller.principal, tuple(deps.elsewhere()))]
    items = [
        {
            "tool": tool.target,
            "upstream": tool.upstream,
            "name": tool.name,
            "elsewhere": tool.elsewhere,
            "risk": tool.manifest.risk,
            "definition": orjson.Fragment(tool.definition_json) if tool.definition_json else None,
        }
        for tool in found
        if upstream is None or tool.upstream == upstream
    ]
    return Response(orjson.dumps({"items": items}), media_type="application/json")


@routes.get("/decisions", tags=["decisions"], summary="This agent's own calls, newest first")
async def decisions(
    caller: Admitted,
    deps: Deps,
    limit: Annotated[int, Query(ge=1, le=200, description="Items on a page.")] = 50,
    cursor: Annotated[
        str | None, Query(pattern=r"^[1-9][0-9]{0,17}$", description="From the page before.")
    ] = None,
) -> DecisionList:
    """A call of a moment ago may take until the journal is written to appear."""
    try:
        with turn(caller):
            found, following = await run_in_threadpool(deps.ledger.list, caller.principal, limit, cursor)
    except ValueError as foreign:
        raise Refused("invalid_request", "cursor") from foreign
    return DecisionList(items=[Decision.model_validate(item) for item in found], cursor=following)


@routes.get(
    "/decisions/{decision_id}", tags=["decisions"], summary="One of them", responses={404: PROBLEMS[404]}
)
async def decision(
    caller: Admitted, deps: Deps, decision_id: Annotated[str, Path(max_length=64, examples=[CALL_ID])]
) -> Decision:
    """Somebody else's decision is answered like one that does not exist."""
    with turn(caller):
        past = await run_in_threadpool(deps.ledger.find, decision_id)
    if past is None or not past.is_of(caller.principal):
        raise Refused("unknown_decision", decision_id)
    return Decision.model_validate(past.item)
