"""Break-glass envelopes on the admin port: what is declared, and two people opening one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Final, Protocol

from fastapi import APIRouter, Body, Path
from pydantic import BaseModel, ConfigDict, Field

from gateway.errors import Refused
from gateway.model import Operator
from gateway.surfaces.admin.deps import AdminDeps, Deps
from gateway.surfaces.admin.models import Moment
from gateway.surfaces.admin.models_approvals import MaybeMoment
from gateway.surfaces.admin.v1 import DESCRIBED, PROBLEMS, Viewer
from gateway.surfaces.problems import Problem

routes = APIRouter(prefix="/v1", dependencies=DESCRIBED, responses=PROBLEMS, tags=["envelopes"])

_WRITERS: Final = ("approver", "operator")
Id = Annotated[str, Path(max_length=64)]
_ACTED: Final[dict[int | str, dict[str, Any]]] = {
    403: {"model": Problem, "description": "Not one of its openers, or the same person twice."},
    404: {"model": Problem, "description": "No such envelope, or opening of this tenant."},
    409: {"model": Problem, "description": "Not in this state; the detail says which it is in."},
}


class Opening(BaseModel):
    """One time an envelope was asked for."""

    model_config = ConfigDict(extra="ignore")

    id: str
    name: str
    state: str = Field(description="asked, open, lapsed (nobody seconded it), over or closed.")
    reason: str
    minutes: int
    asked_by: str
    asked: Moment
    second_by: Moment = Field(description="Until then another person has to agree.")
    seconded_by: str | None = None
    opened: MaybeMoment = None
    expires: MaybeMoment = None
    closed: MaybeMoment = None
    closed_by: str | None = None
    uses: int = Field(description="Calls it has let through.")
    max_uses: int


class Envelope(BaseModel):
    """What two people may let through for a while; as it is declared."""

    model_config = ConfigDict(extra="ignore")

    name: str
    title: str
    openers: str
    agents: list[str]
    owners: list[str] = Field(description="Who is behind these agents.")
    tools: list[str]
    chains: list[str] = Field(description="The chains it stands in for.")
    max_s: int
    max_uses: int
    opening: Opening | None = Field(None, description="The one that is asked for or open.")


class EnvelopeList(BaseModel):
    items: list[Envelope]


class OpeningList(BaseModel):
    items: list[Opening]


class Ask(BaseModel):
    model_config = ConfigDict(extra="forbid")

    reason: Annotated[str, Field(min_length=1, max_length=2000, pattern=r"\S")]
    minutes: Annotated[int, Field(ge=1, le=60)]


class Glass(Protocol):
    """What people do with envelopes; writes raise ``ApprovalError`` or ``Refused``."""

    async def declared(self, operator: Operator) -> Sequence[Mapping[str, Any]]: ...
    async def opened(self, operator: Operator) -> Sequence[Mapping[str, Any]]: ...
    async def ask(self, operator: Operator, name: str, reason: str, minutes: int) -> Mapping[str, Any]: ...
    async def second(self, operator: Operator, opening_id: str) -> Mapping[str, Any]: ...
    async def close(self, operator: Operator, opening_id: str) -> Mapping[str, Any]: ...


@routes.get("/envelopes", summary="Break-glass envelopes that are declared")
async def envelopes(operator: Viewer, deps: Deps) -> EnvelopeList:
    found = await _glass(deps).declared(operator)
    return EnvelopeList(items=[Envelope.model_validate(each) for each in found])


@routes.get("/openings", summary="Openings of envelopes, newest first")
async def openings(operator: Viewer, deps: Deps) -> OpeningList:
    found = await _glass(deps).opened(operator)
    return OpeningList(items=[Opening.model_validate(each) for each in found])


@routes.post("/envelopes/{name}/ask", summary="Ask for one to be opened", responses=_ACTED)
async def ask(operator: Viewer, deps: Deps, name: Id, said: Annotated[Ask, Body()]) -> Opening:
    """The first of two people. Nothing is open until another one seconds it."""
    _may_write(deps, operator)
    return Opening.model_validate(await _glass(deps).ask(operator, name, said.reason, said.minutes))


@routes.post("/openings/{opening_id}/second", summary="Agree, which opens it", responses=_ACTED)
async def second(operator: Viewer, deps: Deps, opening_id: Id) -> Opening:
    """The second of two people. Calls inside the envelope go through until it expires or is closed."""
    _may_write(deps, operator)
    return Opening.model_validate(await _glass(deps).second(operator, opening_id))


@routes.post("/openings/{opening_id}/close", summary="Close it, or take the request back", responses=_ACTED)
async def close(operator: Viewer, deps: Deps, opening_id: Id) -> Opening:
    """Any approver or operator may. What it let through and was not sent is for people to decide again."""
    _may_write(deps, operator)
    return Opening.model_validate(await _glass(deps).close(operator, opening_id))


def _glass(deps: AdminDeps) -> Glass:
    if deps.envelopes is None:
        raise Refused("not_found")
    glass: Glass = deps.envelopes
    return glass


def _may_write(deps: AdminDeps, operator: Operator) -> None:
    if operator.role not in _WRITERS:
        deps.refused("wrong_role", "admin")
        raise Refused("wrong_role", operator.name)
