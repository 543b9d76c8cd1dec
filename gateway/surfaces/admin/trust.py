"""Trust for people: where agents stand, what happened, signatures, demotions and reports of incidents."""

from __future__ import annotations

import logging
from typing import Annotated, Any, Final, Literal, Protocol

from fastapi import APIRouter, Body, Path, Query
from pydantic import BaseModel, ConfigDict, Field

from gateway.errors import NotSigned, Refused
from gateway.model import Operator
from gateway.storage.trust import Where
from gateway.surfaces.admin.deps import AdminDeps, Deps
from gateway.surfaces.admin.v1 import DESCRIBED, PROBLEMS, Name, Viewer
from gateway.surfaces.problems import Problem

logger = logging.getLogger("wardgate.admin")

routes = APIRouter(prefix="/v1", dependencies=DESCRIBED, responses=PROBLEMS, tags=["trust"])

Text = Annotated[str, Field(min_length=1, max_length=500, pattern=r"\S")]
Agent = Annotated[str, Path(max_length=200)]
Domain = Annotated[str, Path(max_length=200)]
TierNumber = Annotated[int, Field(ge=0, le=4)]

_ACTED: Final[dict[int | str, dict[str, Any]]] = {
    403: {"model": Problem, "description": "The role is not sufficient."},
    404: {
        "model": Problem,
        "description": "No such agent, domain or call here, or no trust is kept.",
    },
    409: {"model": Problem, "description": "Not enough for this tier; the detail lists what is missing."},
}


class Model(BaseModel):
    model_config = ConfigDict(extra="ignore")


class TrustLine(Model):
    agent: str
    domain: str
    tier: int = Field(description="What it may do now.")
    held: int = Field(description="What it has earned; a cap may hold it down.")
    bound: float
    debt: float
    until_ns: int


class TrustList(Model):
    kept: bool = Field(True, description="Whether any trust is kept: 'trust.enabled'.")
    items: list[TrustLine]


class EvidenceView(Model):
    """Sums of outcomes, decayed."""

    read: float
    reversible: float
    compensable: float
    irreversible: float
    against: float


class BuysView(Model):
    budget_share: float = Field(description="Of the agent's own budget.")
    horizon_calls: int = Field(description="Calls that may change something before a person looks.")
    horizon_s: int = Field(description="Seconds from the first of them.")
    unattended: list[str] = Field(description="Classes of tools that need no person.")


class NextView(Model):
    tier: int
    eligible: bool
    missing: list[str] = Field(description="What is still needed, in words.")
    outcomes: int
    bound: float
    wanted: float
    more: int = Field(description="Verified outcomes without a failure that would reach the bound.")
    days: int
    sessions: int
    share: float = Field(description="Of the most frequent template.")
    people: int = Field(description="Signatures it takes.")
    signed: list[str] = Field([], description="Who has signed it already.")
    digest: str = Field(description="Of the evidence a signature would be about.")


class TrustEvent(Model):
    seq: int
    kind: str = Field(description="signed, promoted, vouched, fell, pardoned or changed.")
    before: int
    after: int
    cause: str
    by: str
    reason: str
    digest: str
    ref: str = Field(description="What made it: trip:ID, incident:CALL, refuted:CALL.")
    at_ns: int
    hash: str


class TrustView(Model):
    agent: str
    domain: str
    sentence: str = Field(description="Where it stands, in one sentence.")
    tier: int
    held: int
    score: int = Field(description="0 to 1,000, for display only.")
    cap: str
    cap_reason: str
    bound: float
    evidence: EvidenceView
    debt: float
    since_ns: int
    until_ns: int
    vouched: bool
    falls: int
    calm_ns: int = Field(description="No promotion before; 0 when there is no cool-down.")
    reprove: int = Field(description="Good outcomes until a changed agent is no longer capped.")
    unattended: int = Field(description="Calls that may change something since a person looked.")
    buys: BuysView
    next: NextView
    events: list[TrustEvent] = Field(description="The newest ten.")


class CurvePoint(Model):
    at_ns: int
    bound: float


class TrustHistory(Model):
    events: list[TrustEvent]
    curve: list[CurvePoint] = Field(description="The bound at the end of each day, for a chart.")


class Sign(Model):
    tier: TierNumber | None = Field(
        None, description="The tier that is meant, so that nothing else is signed."
    )
    renew: bool = Field(False, description="Sign the tier it holds once more, before it ends.")
    reason: Text


class Vouch(Model):
    tier: TierNumber
    days: float = Field(30.0, gt=0, le=90)
    reason: Text


class Demote(Model):
    tier: TierNumber
    reason: Text


class Pardon(Model):
    ref: str = Field(min_length=1, max_length=200, description="Of the last fall: such as trip:ID.")
    reason: Text


class Report(Model):
    call: str = Field(min_length=1, max_length=64, description="Id of the call that did it.")
    kind: Literal["incident", "compensated"] = Field(
        "incident", description="It did harm, or it had to be undone."
    )
    reason: Text


class Signed(Model):
    tier: int = Field(description="That it holds now.")
    signed: list[str]
    missing: str = Field(description="Who else must sign; empty when it is in force.")


class Reported(Model):
    agent: str
    domain: str
    tier: int
    known: bool = Field(description="Whether it had been reported before, and changed nothing.")


class TrustDesk(Protocol):
    """What the routes ask for; changes are in force and on disk when they return. Raises ``Refused``."""

    async def listed(self, tenant: str, agent: str | None = None) -> list[dict[str, Any]]: ...

    async def show(self, where: Where) -> dict[str, Any]: ...

    async def history(self, where: Where) -> dict[str, Any]: ...

    async def promote(
        self, where: Where, by: Operator, *, to: int | None, reason: str, renew: bool = False
    ) -> dict[str, Any]: ...

    async def vouch(
        self, where: Where, by: Operator, *, to: int, days: float, reason: str
    ) -> dict[str, Any]: ...

    async def demote(self, where: Where, by: Operator, *, to: int, reason: str) -> dict[str, Any]: ...

    async def pardon(self, where: Where, by: Operator, *, ref: str, reason: str) -> dict[str, Any]: ...

    async def report(
        self, tenant: str, call_id: str, by: Operator, *, kind: Literal["incident", "compensated"],
        reason: str,
    ) -> dict[str, Any]: ...  # fmt: skip


@routes.get("/trust", summary="Tiers of agents, by domain")
async def trust(operator: Viewer, deps: Deps, agent: Name = None) -> TrustList:
    """Agents of which nothing is known are not listed; they hold the initial tier."""
    if deps.trust() is None:
        return TrustList(kept=False, items=[])
    found = await _desk(deps).listed(operator.tenant, agent)
    return TrustList(items=[TrustLine.model_validate(each) for each in found])


@routes.get("/trust/{agent}", summary="Where an agent stands in a domain, and why", responses=_ACTED)
async def show(
    operator: Viewer, deps: Deps, agent: Agent, domain: Annotated[str, Query(max_length=200)] = "general"
) -> TrustView:
    found = await _desk(deps).show(Where(operator.tenant, agent, domain))
    return TrustView.model_validate(found)


@routes.get("/trust/{agent}/{domain}/history", summary="What happened to a tier", responses=_ACTED)
async def history(operator: Viewer, deps: Deps, agent: Agent, domain: Domain) -> TrustHistory:
    found = await _desk(deps).history(Where(operator.tenant, agent, domain))
    return TrustHistory.model_validate(found)


@routes.post("/trust/{agent}/{domain}/promote", summary="Sign the next tier", responses=_ACTED)
async def promote(
    operator: Viewer, deps: Deps, agent: Agent, domain: Domain, wanted: Annotated[Sign, Body()]
) -> Signed:
    """In force with the last signature it takes; refused while the evidence is not enough."""
    _may(operator, deps)
    where = Where(operator.tenant, agent, domain)
    said = await _desk(deps).promote(
        where, operator, to=wanted.tier, reason=wanted.reason, renew=wanted.renew
    )
    return Signed.model_validate(said)


@routes.post("/trust/{agent}/{domain}/vouch", summary="Sign what was proven elsewhere", responses=_ACTED)
async def vouch(
    operator: Viewer, deps: Deps, agent: Agent, domain: Domain, wanted: Annotated[Vouch, Body()]
) -> Signed:
    """Only of an agent that has never fallen here, and only for some days."""
    _may(operator, deps, "operator")
    where = Where(operator.tenant, agent, domain)
    said = await _desk(deps).vouch(where, operator, to=wanted.tier, days=wanted.days, reason=wanted.reason)
    return Signed.model_validate(said)


@routes.post("/trust/{agent}/{domain}/demote", summary="Take a tier back", responses=_ACTED)
async def demote(
    operator: Viewer, deps: Deps, agent: Agent, domain: Domain, wanted: Annotated[Demote, Body()]
) -> Signed:
    _may(operator, deps)
    where = Where(operator.tenant, agent, domain)
    return Signed.model_validate(
        await _desk(deps).demote(where, operator, to=wanted.tier, reason=wanted.reason)
    )


@routes.post("/trust/{agent}/{domain}/pardon", summary="Say that a fall was for nothing", responses=_ACTED)
async def pardon(
    operator: Viewer, deps: Deps, agent: Agent, domain: Domain, wanted: Annotated[Pardon, Body()]
) -> Signed:
    """What was earned before the last fall counts again, and its cool-down ends; tiers are signed anew."""
    _may(operator, deps, "operator")
    where = Where(operator.tenant, agent, domain)
    return Signed.model_validate(
        await _desk(deps).pardon(where, operator, ref=wanted.ref, reason=wanted.reason)
    )


@routes.post("/trust/reports", summary="Report what a call did", status_code=201, responses=_ACTED)
async def report(operator: Viewer, deps: Deps, wanted: Annotated[Report, Body()]) -> Reported:
    """An incident takes the agent's tier in the call's domain at once."""
    _may(operator, deps)
    said = await _desk(deps).report(
        operator.tenant, wanted.call, operator, kind=wanted.kind, reason=wanted.reason
    )
    logger.warning(
        "reported", extra={"operator": operator.name, "call_id": wanted.call, "reason": wanted.reason}
    )
    return Reported.model_validate(said)


def _desk(deps: AdminDeps) -> TrustDesk:
    found: TrustDesk | None = deps.trust()
    if found is None:
        raise NotSigned("not_found", "no trust is kept: set 'trust.enabled' in the configuration")
    return found


def _may(operator: Operator, deps: AdminDeps, *roles: str) -> None:
    if operator.role not in (roles or ("approver", "operator")):
        deps.refused("wrong_role", "admin")
        raise Refused("wrong_role", operator.name)
