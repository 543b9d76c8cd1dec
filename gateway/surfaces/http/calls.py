"""``POST /v1/calls``: the gateway runs the tool."""

from __future__ import annotations

from typing import Annotated, Any, Final

import orjson
from fastapi import APIRouter, Body, Header, Response

from gateway import pipeline
from gateway.model import Answer, Ask
from gateway.storage.idempotency import Kept
from gateway.surfaces.http import once, replies
from gateway.surfaces.http.front import Admitted, Caller, Deps, GuardedRoute
from gateway.surfaces.http.models import MAX_KEY, CallAnswer, CallProblem, CallRequest

routes = APIRouter(prefix="/v1", route_class=GuardedRoute, tags=["calls"])

Key = Annotated[
    str | None,
    Header(
        alias="Idempotency-Key",
        description="Makes repeating safe: the same key and request give the same answer for 24 hours.",
        examples=['"8e03978e-40d5-43e8-bc93-6894a57f9324"'],
        json_schema_extra={"minLength": 1, "maxLength": MAX_KEY, "pattern": r"^[!#-\[\]-~]+$"},
    ),
]
"""Described here, read in ``once.py``."""

PROBLEMS: Final[dict[int | str, dict[str, Any]]] = {
    400: {"model": CallProblem, "description": "The request is not one."},
    401: {"model": CallProblem, "description": "No agent."},
    403: {"model": CallProblem, "description": "Refused by policy, or the result is withheld: see effect."},
    404: {"model": CallProblem, "description": "No such thing, or not for this agent."},
    408: {"model": CallProblem, "description": "The body did not come in time."},
    409: {"model": CallProblem, "description": "Already done, in doubt, or under way."},
    413: {"model": CallProblem, "description": "Too large."},
    415: {"model": CallProblem, "description": "The body is not plain JSON."},
    421: {"model": CallProblem, "description": "The Host or Origin header names somebody else."},
    422: {"model": CallProblem, "description": "A field is not valid, or the idempotency key is another's."},
    500: {"model": CallProblem, "description": "The gateway failed."},
    502: {"model": CallProblem, "description": "The tool server failed: see effect."},
    503: {"model": CallProblem, "description": "Not available now."},
    504: {"model": CallProblem, "description": "The tool server did not answer in time: see effect."},
}


@routes.post(
    "/calls",
    summary="Run a tool",
    response_model=CallAnswer,
    responses=PROBLEMS,
)
async def call(
    caller: Admitted, deps: Deps, body: Annotated[CallRequest, Body()], idempotency_key: Key = None
) -> Response:
    """Decide the call, run the tool if it is allowed, and answer with what may be shown of its result.

    200 means that the tool was run and answered. Everything else is a problem; its `effect` says whether the
    call may have had its effect all the same.
    """

    async def make(call_id: str) -> once.Made:
        answer = await pipeline.call(caller.parts, ask(caller, body, "http", call_id))
        return made(answer)

    return await once.once(deps, caller, "calls", body.model_dump(), make, repeated)


def ask(caller: Caller, body: CallRequest, surface: str, call_id: str) -> Ask:
    """What the pipeline is asked for."""
    upstream, name = body.names()
    principal = caller.principal
    return Ask(
        principal=principal,
        surface=surface,
        kind="tool",
        upstream=upstream,
        name=name,
        args=body.arguments,
        session=caller.session,
        thread=body.thread,
        traceparent=caller.heads.get(b"traceparent", b"").decode("latin-1"),
        call_id=call_id,
    )


def made(answer: Answer) -> once.Made:
    """The HTTP answer to a call, and whether repeating the call would give the same."""
    if answer.refusal is not None:
        problem = replies.refused(answer, answer.refusal)
        # What was not decided, may go better next time, or waits for a person is no final answer.
        stands = answer.decision is not None and not problem.retryable and problem.approval_id is None
        return once.Made(replies.of_problem(problem), stands)
    assert answer.decision is not None and answer.outcome is not None
    body = {
        "decision_id": answer.call_id,
        "action": answer.action,
        "outcome": answer.outcome.status,
        "result": replies.raw(answer.result_json),
        "error": replies.raw(answer.error_json),
        **replies.remarks(answer.decision),
    }
    return once.Made(Kept(200, orjson.dumps(body)), True)


def repeated(kept: Kept, call_id: str) -> Response:
    return replies.respond(kept, replayed=True)
