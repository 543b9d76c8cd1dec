"""Breakers and the kill switch for people: what is stopped and why, and how to stop or let go."""

from __future__ import annotations

import logging
from typing import Annotated, Any, Final, Literal, Protocol

from fastapi import APIRouter, Body, Path, Request
from pydantic import BaseModel, ConfigDict, Field

from gateway.errors import Refused, Unauthenticated
from gateway.model import Operator
from gateway.surfaces.admin.deps import AdminDeps, Deps
from gateway.surfaces.admin.v1 import DESCRIBED, PROBLEMS, Limit, Name, Viewer
from gateway.surfaces.problems import Problem

logger = logging.getLogger("wardgate.admin")

routes = APIRouter(prefix="/v1", dependencies=DESCRIBED, responses=PROBLEMS, tags=["breakers"])

scores = APIRouter(prefix="/v1", tags=["breakers"], responses=PROBLEMS)

_MAX_SCORE: Final = 4096

Text = Annotated[str, Field(min_length=1, max_length=1000, pattern=r"\S")]
ScopeName = Literal["thread", "session", "agent", "tool", "upstream", "tree", "tenant"]
KillName = Literal["call", "session", "agent", "tool", "upstream", "tenant", "all"]
Id = Annotated[str, Path(max_length=64)]

_ACTED: Final[dict[int | str, dict[str, Any]]] = {
    403: {"model": Problem, "description": "The role is not sufficient."},
    404: {"model": Problem, "description": "Nothing of that name in this tenant."},
}


class Model(BaseModel):
    model_config = ConfigDict(extra="ignore")


class BreakerView(Model):
    scope: str
    name: str
    part: str = Field(description="Session, thread or domain, of an agent's.")
    stage: str
    detector: str
    reason: str = Field(description="One sentence: what was wrong.")
    since_ns: int
    until_ns: int = Field(description="When it may be tried again; 0 when that is not a matter of time.")
    person: bool = Field(description="Only a person resets it.")
    trip: str


class BreakerList(Model):
    items: list[BreakerView]


class TripView(Model):
    id: str
    at_ns: int
    scope: str
    name: str
    part: str
    agent: str
    session: str
    detector: str
    statistic: float
    threshold: float
    before: str
    after: str
    sentence: str
    calls: list[str] = Field(description="At most ten calls that contributed, oldest first.")
    since_ns: int = Field(description="What is suspect begins here.")
    until_ns: int
    person: bool
    observed: bool = Field(description="Only recorded: the detector is not enforced for this agent.")
    spared: bool = Field(description="Guarded instead of open, because too many agents are open.")
    by: str
    label: str | None = Field(None, description="What a reviewer said: true or false.")
    label_by: str | None = None


class TripList(Model):
    items: list[TripView]


class WhichBreaker(Model):
    scope: ScopeName
    name: str = Field("", max_length=500, description="Agent, tool, upstream or root of a delegation.")
    part: str = Field("", max_length=500, description="Session, thread or domain, of an agent's.")
    reason: Text


class LabelTrip(Model):
    label: Literal["true", "false"] = Field(description="Whether something was wrong.")


class KillView(Model):
    id: str
    scope: str
    name: str
    reason: str
    by: str
    at_ns: int


class KillList(Model):
    items: list[KillView]


class KillWanted(Model):
    scope: KillName
    name: str = Field("", max_length=500, description="Id or name; none of a tenant or all.")
    reason: Text


class LiftWanted(Model):
    reason: Text


class Done(Model):
    done: bool = True


class BreakerDesk(Protocol):
    """What the routes ask for. All of it is of one tenant, and in force when it returns."""

    async def breakers(self, tenant: str) -> list[dict[str, Any]]: ...

    async def trips(self, tenant: str, agent: str | None, limit: int) -> list[dict[str, Any]]: ...

    async def trip(self, tenant: str, trip: str) -> dict[str, Any] | None: ...

    async def act(
        self,
        act: Literal["trip", "reset"],
        scope: str,
        tenant: str,
        name: str,
        part: str,
        reason: str,
        by: str,
    ) -> None: ...

    async def label(self, tenant: str, trip: str, label: str, by: str) -> bool: ...

    async def kills(self, tenant: str) -> list[dict[str, Any]]: ...

    async def kill(self, scope: str, tenant: str, name: str, reason: str, by: str) -> dict[str, Any]: ...

    async def lift(self, tenant: str, kill: str, reason: str, by: str) -> bool: ...


@routes.get("/breakers", summary="Breakers that are not closed")
async def breakers(operator: Viewer, deps: Deps) -> BreakerList:
    found = await _desk(deps).breakers(operator.tenant)
    return BreakerList(items=[BreakerView.model_validate(each) for each in found])


@routes.get("/breakers/trips", summary="Moves of breakers, newest first")
async def trips(operator: Viewer, deps: Deps, agent: Name = None, limit: Limit = 50) -> TripList:
    found = await _desk(deps).trips(operator.tenant, agent, limit)
    return TripList(items=[TripView.model_validate(each) for each in found])


@routes.get("/breakers/trips/{trip}", summary="One move and what led to it", responses=_ACTED)
async def trip(operator: Viewer, deps: Deps, trip: Id) -> TripView:
    found = await _desk(deps).trip(operator.tenant, trip)
    if found is None:
        raise Refused("not_found", trip)
    return TripView.model_validate(found)


@routes.post("/breakers/trips/{trip}/label", summary="Say whether a trip was right", responses=_ACTED)
async def label(operator: Viewer, deps: Deps, trip: Id, wanted: Annotated[LabelTrip, Body()]) -> Done:
    """A false one is reset, and what is usual for the agent is learned anew."""
    _may(operator, deps, "operator", "approver")
    if not await _desk(deps).label(operator.tenant, trip, wanted.label, operator.name):
        raise Refused("not_found", trip)
    return Done()


@routes.post("/breakers/trip", summary="Open a breaker until it is reset", responses=_ACTED)
async def force(operator: Viewer, deps: Deps, wanted: Annotated[WhichBreaker, Body()]) -> Done:
    return await _act(operator, deps, "trip", wanted)


@routes.post("/breakers/reset", summary="Close a breaker", responses=_ACTED)
async def reset(operator: Viewer, deps: Deps, wanted: Annotated[WhichBreaker, Body()]) -> Done:
    return await _act(operator, deps, "reset", wanted)


@routes.get("/kills", summary="What is stopped by the kill switch")
async def kills(operator: Viewer, deps: Deps) -> KillList:
    found = await _desk(deps).kills(operator.tenant)
    return KillList(items=[KillView.model_validate(each) for each in found])


@routes.post(
    "/kills", summary="Stop something, from one call to everything", status_code=201, responses=_ACTED
)
async def kill(operator: Viewer, deps: Deps, wanted: Annotated[KillWanted, Body()]) -> KillView:
    """In force when this answers, until it is lifted."""
    _may(operator, deps, "operator")
    # One tenant's operator must not stop another's agents.
    if wanted.scope == "all" and operator.tenant != "default":
        deps.refused("wrong_role", "admin")
        raise Refused("wrong_role", operator.name)
    if not wanted.name and wanted.scope not in ("tenant", "all"):
        raise Refused("invalid_request", "name")
    made = await _desk(deps).kill(wanted.scope, operator.tenant, wanted.name, wanted.reason, operator.name)
    logger.warning(
        "killed", extra={"operator": operator.name, "scope": wanted.scope, "reason": wanted.reason}
    )
    return KillView.model_validate(made)


@routes.post("/kills/{kill}/lift", summary="Let go what was stopped", responses=_ACTED)
async def lift(operator: Viewer, deps: Deps, kill: Id, wanted: Annotated[LiftWanted, Body()]) -> Done:
    _may(operator, deps, "operator")
    if not await _desk(deps).lift(operator.tenant, kill, wanted.reason, operator.name):
        raise Refused("not_found", kill)
    logger.warning("kill lifted", extra={"operator": operator.name, "reason": wanted.reason})
    return Done()


class ScoreTaken(Model):
    id: str
    repeated: bool = Field(
        description="Whether a score with this id was taken before; then nothing was done."
    )
    trips: list[str] = Field(description="Ids of the moves of breakers it made, recorded ones too.")


@scores.post("/scores/{name}", summary="A score of a detector elsewhere, signed")
async def score(request: Request, deps: Deps, name: Id) -> ScoreTaken:
    """From a configured party: `s1=` and the hex HMAC-SHA256 over `s1:<seconds>:` and the body.

    The body: `id` (of this score, taken once), `agent`, `score` (0 to 1), and `domain` or `session`, and
    `sentence`. Headers as in a callback: `wardgate-key-id`, `wardgate-timestamp`, `wardgate-signature`.
    """
    if deps.scores is None:
        raise Refused("not_found", "scores")
    body = b""
    async for chunk in request.stream():
        body += chunk
        # Nobody is known yet, so nobody may make the gateway remember much.
        if len(body) > _MAX_SCORE:
            raise Refused("too_large")
    heads = request.headers
    key_id, at = heads.get("wardgate-key-id", ""), heads.get("wardgate-timestamp", "")
    try:
        found = await deps.scores(name, key_id, at, heads.get("wardgate-signature", ""), body)
    except Unauthenticated as unknown:
        deps.refused(unknown.code, "admin")
        raise
    return ScoreTaken.model_validate(found)


async def _act(
    operator: Operator, deps: AdminDeps, act: Literal["trip", "reset"], wanted: WhichBreaker
) -> Done:
    _may(operator, deps, "operator")
    if not wanted.name and wanted.scope != "tenant":
        raise Refused("invalid_request", "name")
    await _desk(deps).act(
        act, wanted.scope, operator.tenant, wanted.name, wanted.part, wanted.reason, operator.name
    )
    return Done()


def _desk(deps: AdminDeps) -> BreakerDesk:
    if deps.breakers is None:
        raise Refused("not_found", "breakers")
    found: BreakerDesk = deps.breakers
    return found


def _may(operator: Operator, deps: AdminDeps, *roles: str) -> None:
    if operator.role not in roles:
        deps.refused("wrong_role", "admin")
        raise Refused("wrong_role", operator.name)
