"""``/v1/approvals/{id}``: what an agent may know of its own held call, and its answer to a reviewer."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Body, Path

from gateway.errors import Refused
from gateway.surfaces.http.calls import PROBLEMS
from gateway.surfaces.http.deps import Waiting
from gateway.surfaces.http.front import Admitted, Deps, GuardedRoute, turn
from gateway.surfaces.http.models import ReviewAnswer, Waits

_USUAL: dict[int | str, dict[str, Any]] = {
    status: PROBLEMS[status] for status in (400, 401, 404, 409, 415, 421, 422, 500, 503)
}

routes = APIRouter(prefix="/v1", route_class=GuardedRoute, responses=_USUAL, tags=["approvals"])

Id = Annotated[str, Path(max_length=64)]


@routes.get("/approvals/{approval_id}", summary="One of this agent's own held calls")
async def look(caller: Admitted, deps: Deps, approval_id: Id) -> Waits:
    """Somebody else's is answered like one that does not exist. Make the call again to have it done."""
    with turn(caller):
        found = await _desk(deps.waiting).agent_looks(caller.principal, approval_id)
    return Waits.model_validate(found)


@routes.post("/approvals/{approval_id}/answer", summary="Answer the reviewer's question")
async def answer(
    caller: Admitted, deps: Deps, approval_id: Id, said: Annotated[ReviewAnswer, Body()]
) -> Waits:
    with turn(caller):
        found = await _desk(deps.waiting).agent_answers(caller.principal, approval_id, said.answer)
    return Waits.model_validate(found)


def _desk(desk: Waiting | None) -> Waiting:
    if desk is None:
        raise Refused("not_found")
    return desk
