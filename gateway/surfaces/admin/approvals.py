"""Held calls on the admin port: look at them, and decide.

Every write names what was looked at: the version in ``If-Match``, the digest in the body. If either is not
what is there any more, nothing is done and the answer shows what is.
"""

from __future__ import annotations

import re
from typing import Annotated, Any, Final, Literal

from fastapi import APIRouter, Body, Depends, Header, Query, Request, Response
from fastapi.security import HTTPBearer

from gateway.errors import Refused, Unauthenticated
from gateway.model import Operator
from gateway.surfaces.admin import models_approvals as models
from gateway.surfaces.admin.deps import Deps, Reviewing
from gateway.surfaces.admin.v1 import Viewer
from gateway.surfaces.problems import ApprovalProblem, Problem

_WRITERS: Final = ("approver", "operator")
_MAX_CALLBACK: Final = 16_384

PROBLEMS: Final[dict[int | str, dict[str, Any]]] = {
    401: {"model": Problem, "description": "No operator."},
    404: {"model": Problem, "description": "No such approval of this tenant."},
    421: {"model": Problem, "description": "The Host header names somebody else."},
    422: {"model": Problem, "description": "A parameter is not valid."},
}
_WRITES: Final[dict[int | str, dict[str, Any]]] = {
    403: {"model": ApprovalProblem, "description": "Not by this person: role, chain, or their own call."},
    409: {"model": ApprovalProblem, "description": "Not in this state; `approval` is the state now."},
    429: {"model": ApprovalProblem, "description": "This person has approved enough for this hour."},
    412: {"model": ApprovalProblem, "description": "Not what was looked at; `approval` is what is there."},
}

routes = APIRouter(
    prefix="/v1",
    tags=["approvals"],
    # Only describes the scheme; ``Viewer`` is what checks.
    dependencies=[Depends(HTTPBearer(auto_error=False, scheme_name="operator key"))],
    responses=PROBLEMS,
)

Id = str
IfMatch = Annotated[
    str | None,
    Header(
        alias="If-Match",
        description="The version that was looked at, as in `ETag`.",
        examples=['"3"'],
    ),
]
Limit = Annotated[int, Query(ge=1, le=500, description="Items on a page.")]
Cursor = Annotated[str | None, Query(max_length=64, description="From the page before.")]
Name = Annotated[str | None, Query(max_length=500)]
Waiting = Literal[
    "pending", "approved", "executing", "recovering", "in_doubt", "executed", "failed", "rejected", "expired",
    "cancelled", "superseded",
]  # fmt: skip


@routes.get("/approvals", summary="Held calls, newest first")
async def approvals(
    operator: Viewer,
    deps: Deps,
    state: Annotated[list[Waiting] | None, Query(description="All that are not over by default.")] = None,
    agent: Name = None,
    tool: Annotated[str | None, Query(max_length=500, description="upstream/name.")] = None,
    limit: Limit = 50,
    cursor: Cursor = None,
) -> models.ApprovalList:
    found = await _desk(deps.approvals).listed(operator, state or (), agent, tool, limit, cursor)
    items = [models.Approval.model_validate(each) for each in found]
    return models.ApprovalList(items=items, cursor=items[-1].id if len(items) == limit else None)


@routes.get("/approvals/changes", summary="What happens to approvals, as it happens")
async def changes(
    operator: Viewer,
    deps: Deps,
    after: Annotated[
        int | None, Query(ge=0, lt=2**63, description="`cursor` of the answer before; without it, from now.")
    ] = None,
    wait: Annotated[float, Query(ge=0, le=30, description="Seconds to wait for something.")] = 20,
) -> models.ChangeList:
    """Waits until something happens and answers within a second of it. Ask again with `cursor`; none is
    missed in between."""
    found, reached = await _desk(deps.approvals).changes(operator, after, wait)
    return models.ChangeList(items=[models.Change.model_validate(each) for each in found], cursor=reached)


@routes.get("/approvals/{approval_id}", summary="One held call, with everything a reviewer needs")
async def approval(
    operator: Viewer, deps: Deps, approval_id: Id, response: Response
) -> models.ApprovalDetail:
    """Arguments are shown to approvers and operators; what the manifest calls sensitive is not shown."""
    found = await _desk(deps.approvals).show(operator, approval_id)
    if found is None:
        raise Refused("not_found", approval_id[:64])
    response.headers["etag"] = f'"{found["version"]}"'
    return models.ApprovalDetail.model_validate(found)


@routes.post("/approvals/bulk", summary="Decide several calls in one step", responses=_WRITES)
async def bulk(operator: Viewer, deps: Deps, said: Annotated[models.Bulk, Body()]) -> models.BulkAnswer:
    """Reject any; approve only low-risk calls of one tool. What is refused does not stop the others."""
    _may_write(deps, operator)
    found = await _desk(deps.approvals).bulk(
        operator,
        said.decision,
        [(each.id, each.version, each.digest) for each in said.items],
        reason_code=said.reason_code,
        reason=said.reason,
    )
    return models.BulkAnswer(items=[models.BulkItem.model_validate(each) for each in found])


@routes.post("/approvals/{approval_id}/approve", summary="Approve once", responses=_WRITES)
async def approve(
    operator: Viewer,
    deps: Deps,
    approval_id: Id,
    said: Annotated[models.Approve, Body()],
    match: IfMatch = None,
) -> models.Approval:
    _may_write(deps, operator)
    found = await _desk(deps.approvals).vote(
        operator, approval_id, "approve", _version(match), said.digest, reason=said.reason
    )
    return models.Approval.model_validate(found)


@routes.post("/approvals/{approval_id}/reject", summary="Reject", responses=_WRITES)
async def reject(
    operator: Viewer,
    deps: Deps,
    approval_id: Id,
    said: Annotated[models.Reject, Body()],
    match: IfMatch = None,
) -> models.Approval:
    """The agent is told the reason code and the reason."""
    _may_write(deps, operator)
    found = await _desk(deps.approvals).vote(
        operator, approval_id, "reject", _version(match), said.digest, reason_code=said.reason_code,
        reason=said.reason,
    )  # fmt: skip
    return models.Approval.model_validate(found)


@routes.post("/approvals/{approval_id}/edit", summary="Put other arguments in its place", responses=_WRITES)
async def edit(
    operator: Viewer, deps: Deps, approval_id: Id, said: Annotated[models.Edit, Body()], match: IfMatch = None
) -> models.Approval:
    """Policy decides about them; the answer is the new approval, which nobody has voted on."""
    _may_write(deps, operator)
    found = await _desk(deps.approvals).edit(
        operator, approval_id, _version(match), said.digest, said.arguments
    )
    return models.Approval.model_validate(found)


@routes.post("/approvals/{approval_id}/ask", summary="Ask the agent a question", responses=_WRITES)
async def ask(
    operator: Viewer,
    deps: Deps,
    approval_id: Id,
    said: Annotated[models.Question, Body()],
    match: IfMatch = None,
) -> models.Approval:
    _may_write(deps, operator)
    found = await _desk(deps.approvals).ask(
        operator, approval_id, _version(match), said.digest, said.question
    )
    return models.Approval.model_validate(found)


@routes.post("/approvals/{approval_id}/cancel", summary="Cancel what was not carried out", responses=_WRITES)
async def cancel(
    operator: Viewer,
    deps: Deps,
    approval_id: Id,
    said: Annotated[models.Approve, Body()],
    match: IfMatch = None,
) -> models.Approval:
    _may_write(deps, operator)
    found = await _desk(deps.approvals).cancel(
        operator, approval_id, _version(match), said.digest, said.reason
    )
    return models.Approval.model_validate(found)


@routes.post(
    "/approvals/{approval_id}/resolve", summary="Say what became of a call in doubt", responses=_WRITES
)
async def resolve(
    operator: Viewer,
    deps: Deps,
    approval_id: Id,
    said: Annotated[models.Resolve, Body()],
    match: IfMatch = None,
) -> models.Approval:
    """Look at the tool's own books first. Needs the role operator."""
    _may_write(deps, operator, ("operator",))
    found = await _desk(deps.approvals).resolve(
        operator,
        approval_id,
        _version(match),
        said.digest,
        executed=said.became == "executed",
        note=said.note,
    )
    return models.Approval.model_validate(found)


@routes.post("/approvals/{approval_id}/grant", summary="Permit similar calls for a while", responses=_WRITES)
async def grant(
    operator: Viewer,
    deps: Deps,
    approval_id: Id,
    said: Annotated[models.MakeGrant, Body()],
    match: IfMatch = None,
) -> models.Grant:
    """Of a call that you have approved. Only the named fields may vary."""
    _may_write(deps, operator)
    found = await _desk(deps.approvals).grant(
        operator, approval_id, _version(match), said.digest, fields=said.fields, minutes=said.minutes,
        uses=said.uses, budget_micro_usd=said.budget_micro_usd, any_session=said.any_session,
    )  # fmt: skip
    return models.Grant.model_validate(found)


@routes.post(
    "/approvals/{approval_id}/incident", summary="Report that an approved call was wrong", responses=_WRITES
)
async def incident(
    operator: Viewer, deps: Deps, approval_id: Id, said: Annotated[models.Incident, Body()]
) -> models.Approval:
    """Counts for those who approved it and for the rules that asked. Changes nothing about the call."""
    _may_write(deps, operator)
    found = await _desk(deps.approvals).incident(operator, approval_id, said.digest, said.note)
    return models.Approval.model_validate(found)


@routes.post("/approvals/{approval_id}/canary", summary="Put a canary into the queue", responses=_WRITES)
async def canary(
    operator: Viewer, deps: Deps, approval_id: Id, said: Annotated[models.PlantCanary, Body()]
) -> models.Approval:
    """A copy of this approval with arguments that must be rejected. It is never carried out, and it looks
    like any other until it is decided; whoever approves it is counted. Needs the role operator."""
    _may_write(deps, operator, ("operator",))
    found = await _desk(deps.approvals).plant(operator, approval_id, said.digest, said.arguments, said.note)
    return models.Approval.model_validate(found)


@routes.get("/reviewers", summary="How people review, by person and by rule")
async def reviewers(operator: Viewer, deps: Deps) -> models.Reviewers:
    """Measured from the stored votes. Operators and policy-admins see everybody, others only themselves."""
    return models.Reviewers.model_validate(await _desk(deps.approvals).measures(operator))


@routes.get("/grants", summary="Standing permissions, newest first")
async def granted(operator: Viewer, deps: Deps) -> models.GrantList:
    found = await _desk(deps.approvals).granted(operator)
    return models.GrantList(items=[models.Grant.model_validate(each) for each in found])


@routes.post("/grants/{grant_id}/revoke", summary="End a standing permission", responses=_WRITES)
async def revoke(operator: Viewer, deps: Deps, grant_id: str) -> models.Grant:
    _may_write(deps, operator)
    return models.Grant.model_validate(await _desk(deps.approvals).revoke(operator, grant_id))


callbacks = APIRouter(prefix="/v1", tags=["approvals"], responses=PROBLEMS)


@callbacks.post("/callbacks/{name}", summary="A person's decision, passed on and signed", responses=_WRITES)
async def called_back(request: Request, deps: Deps, name: str) -> models.Approval:
    """From a configured webhook: `c1=` and the hex HMAC-SHA256 over `c1:<seconds>:` and the body.

    The body names the approval, the version and digest the person was shown, the actor and the decision. The
    actor's own rights decide. The same decision signed anew is answered as the first was; the same delivery
    again is refused. Of a webhook of style `slack`: a click on one of our buttons, as Slack signs it.
    """
    body = b""
    async for chunk in request.stream():
        body += chunk
        # Nobody is known yet, so nobody may make the gateway remember much.
        if len(body) > _MAX_CALLBACK:
            raise Refused("too_large")
    heads = request.headers
    key_id, at = heads.get("wardgate-key-id", ""), heads.get("wardgate-timestamp", "")
    signature = heads.get("wardgate-signature", "")
    if not signature:  # Slack's own names
        at, signature = heads.get("x-slack-request-timestamp", ""), heads.get("x-slack-signature", "")
    try:
        found = await _desk(deps.approvals).called_back(name, key_id, at, signature, body)
    except (Refused, Unauthenticated) as refused:
        deps.refused(refused.code, "admin")
        raise
    return models.Approval.model_validate(found)


def _desk(desk: Reviewing | None) -> Reviewing:
    if desk is None:
        raise Refused("not_found")
    return desk


def _may_write(deps: Deps, operator: Operator, roles: tuple[str, ...] = _WRITERS) -> None:
    if operator.role not in roles:
        deps.refused("wrong_role", "admin")
        raise Refused("wrong_role", operator.name)


def _version(match: str | None) -> int:
    """The version of an ``If-Match`` header; a write without one could hit anything."""
    found = re.fullmatch(r'(?:W/)?"?([0-9]{1,9})"?', (match or "").strip())
    if found is None:
        raise Refused("invalid_request", 'If-Match: the version that was looked at, such as "3"')
    return int(found.group(1))
