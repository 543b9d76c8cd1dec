"""Sessions for people: what each agent is at, and how to end, check or declassify it."""

from __future__ import annotations

import logging
from typing import Annotated, Any, Final

from fastapi import APIRouter, Body, Path, Query
from pydantic import Field

from gateway.errors import Refused
from gateway.model import Operator
from gateway.surfaces.admin.deps import AdminDeps, Deps
from gateway.surfaces.admin.v1 import DESCRIBED, PROBLEMS, Limit, Name, Viewer
from gateway.surfaces.problems import MandateProblem, Problem
from gateway.surfaces.sessions import (
    MAX_NOTE,
    SESSION_ID,
    Label,
    Noted,
    OpenSession,
    Plain,
    SessionDetail,
    SessionList,
    unknown_agent,
)

logger = logging.getLogger("wardgate.admin")

routes = APIRouter(prefix="/v1", dependencies=DESCRIBED, responses=PROBLEMS, tags=["sessions"])

Id = Annotated[str, Path(max_length=128, examples=[SESSION_ID])]

_NONE: Final[dict[int | str, dict[str, Any]]] = {
    404: {"model": Problem, "description": "No such session of this tenant."}
}
_ACTED: Final[dict[int | str, dict[str, Any]]] = {
    **_NONE,
    403: {"model": Problem, "description": "The role is not sufficient."},
    409: {"model": Problem, "description": "It has ended."},
}


class OpenForAgent(OpenSession):
    """A piece of work that a person hands out."""

    agent: str = Field(min_length=1, max_length=63, description="The agent it is for.", examples=["worker"])
    broad: bool = Field(False, description="It is meant to cover every tool of an upstream, or of all.")


class Declassify(Noted):
    """Labels that a person takes off, and why."""

    note: Plain = Field(min_length=1, max_length=MAX_NOTE, description="Why it is safe; on record.")
    labels: list[Label] = Field(min_length=1, max_length=32, examples=[["untrusted"]])


@routes.get("/sessions", summary="Sessions, those used last first")
async def sessions(
    operator: Viewer,
    deps: Deps,
    agent: Name = None,
    open: Annotated[bool | None, Query(description="Only those that have not been ended.")] = None,  # noqa: A002
    limit: Limit = 50,
    cursor: Annotated[str | None, Query(pattern=r"^s-[0-9a-f]{32}$")] = None,
) -> SessionList:
    found, following = await deps.sessions.listed(
        operator.tenant, agent, closed=not open, limit=limit, after=cursor or ""
    )
    return SessionList(items=[SessionDetail.model_validate(each) for each in found], cursor=following)


@routes.get("/sessions/{session}", summary="One session with everything known of it", responses=_NONE)
async def session(operator: Viewer, deps: Deps, session: Id) -> SessionDetail:
    return SessionDetail.model_validate(await deps.sessions.shown(operator.tenant, session))


@routes.post(
    "/sessions",
    summary="Open a session for an agent",
    status_code=201,
    responses={**_ACTED, 422: {"model": MandateProblem, "description": "The mandate is not valid."}},
)
async def open_session(
    operator: Viewer, deps: Deps, wanted: Annotated[OpenForAgent, Body()]
) -> SessionDetail:
    """The agent names it in the header `Wardgate-Session`, or in `_meta` under `dev.wardgate/session`."""
    _may(operator, deps, "operator")
    if not deps.sessions.knows(operator.tenant, wanted.agent):
        raise unknown_agent()
    seen = await deps.sessions.open_by(
        operator.name, tenant=operator.tenant, agent=wanted.agent, subject=wanted.subject,
        mandate=wanted.mandate, parent=wanted.parent, note=wanted.note, broad=wanted.broad,
    )  # fmt: skip
    logger.info("session opened", extra={"operator": operator.name, "session": seen["id"]})
    return SessionDetail.model_validate(seen)


@routes.post("/sessions/{session}/close", summary="End a session", responses=_ACTED)
async def close(operator: Viewer, deps: Deps, session: Id, wanted: Annotated[Noted, Body()]) -> SessionDetail:
    """No call goes on in it, nor in what was opened under it.

    One that an agent has without asking is started anew: without labels, and with everything it has used of
    its budgets.
    """
    _may(operator, deps, "operator")
    return await _acted(operator, deps, session, "close", wanted.note)


@routes.post("/sessions/{session}/checkpoint", summary="Say that a session is on its way", responses=_ACTED)
async def checkpoint(
    operator: Viewer, deps: Deps, session: Id, wanted: Annotated[Noted, Body()]
) -> SessionDetail:
    """Its horizon begins anew."""
    _may(operator, deps, "operator", "approver")
    return await _acted(operator, deps, session, "checkpoint", wanted.note)


@routes.post("/sessions/{session}/declassify", summary="Take labels off a session", responses=_ACTED)
async def declassify(
    operator: Viewer, deps: Deps, session: Id, wanted: Annotated[Declassify, Body()]
) -> SessionDetail:
    """What the agent read stays read: look at it before saying that it was harmless."""
    _may(operator, deps, "operator")
    return await _acted(operator, deps, session, "declassify", wanted.note, wanted.labels)


def _may(operator: Operator, deps: AdminDeps, *roles: str) -> None:
    if operator.role not in roles:
        deps.refused("wrong_role", "admin")
        raise Refused("wrong_role", operator.name)


async def _acted(
    operator: Operator, deps: AdminDeps, session: str, act: Any, note: str, labels: list[str] | None = None
) -> SessionDetail:
    await deps.sessions.act(
        operator.name, tenant=operator.tenant, session=session, act=act, note=note, labels=labels or ()
    )
    logger.info("session: %s", act, extra={"operator": operator.name, "session": session})
    return SessionDetail.model_validate(await deps.sessions.shown(operator.tenant, session))
