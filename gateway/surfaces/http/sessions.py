"""``/v1/sessions``: an orchestrator hands out work, and every agent can see what it has been given."""

from __future__ import annotations

from typing import Annotated, Any, Final

import orjson
from fastapi import APIRouter, Body, Path, Response
from pydantic import Field

from gateway.storage.idempotency import Kept
from gateway.surfaces.http import once
from gateway.surfaces.http.calls import PROBLEMS, Key, repeated
from gateway.surfaces.http.front import Admitted, Deps, GuardedRoute, turn
from gateway.surfaces.http.models import MandateCallProblem
from gateway.surfaces.sessions import SESSION_ID, Noted, OpenSession, SessionView, unknown_agent

_PROBLEMS: Final[dict[int | str, dict[str, Any]]] = {
    status: PROBLEMS[status] for status in (400, 401, 403, 404, 408, 409, 413, 415, 421, 422, 500, 503)
}
_OPENED: Final[dict[int | str, dict[str, Any]]] = {
    422: {"model": MandateCallProblem, "description": "A field or the mandate is not valid."}
}

routes = APIRouter(prefix="/v1", route_class=GuardedRoute, tags=["sessions"], responses=_PROBLEMS)

Id = Annotated[str, Path(max_length=128, examples=[SESSION_ID])]


class OpenRequest(OpenSession):
    """A piece of work to be handed out, with its bounds. Left out, agent and user are the caller's own."""

    agent: str = Field("", max_length=63, description="The agent it is for.", examples=["worker"])


@routes.post(
    "/sessions",
    summary="Open a session",
    status_code=201,
    response_model=SessionView,
    responses=_OPENED,
)
async def open_session(
    caller: Admitted, deps: Deps, body: Annotated[OpenRequest, Body()], idempotency_key: Key = None
) -> Response:
    """For agents with `mints` in the configuration, within what that says.

    The session is for one agent and one user, and is named in the header `Wardgate-Session`, or in
    `_meta` under `dev.wardgate/session`. Its mandate cannot be changed.
    """
    principal = caller.principal
    agent = body.agent or principal.agent
    subject = body.subject if "subject" in body.model_fields_set else principal.subject

    async def make(call_id: str) -> once.Made:
        with turn(caller):
            deps.sessions.may_open(principal, agent, subject)
            if not deps.sessions.knows(principal.tenant, agent):
                raise unknown_agent()
            seen = await deps.sessions.open_for(
                principal, agent=agent, subject=subject, mandate=body.mandate, parent=body.parent,
                note=body.note,
            )  # fmt: skip
        return once.Made(Kept(201, _json(seen)), True)

    return await once.once(deps, caller, "sessions", body.model_dump(exclude_unset=True), make, repeated)


@routes.get("/sessions/current", summary="The session this request is in", response_model=SessionView)
async def current(caller: Admitted, deps: Deps) -> Response:
    """What is delegated, what is left of it, and what is known of the work so far."""
    with turn(caller):
        seen = await deps.sessions.current(caller.principal, caller.session)
    return Response(_json(seen), media_type="application/json")


@routes.get("/sessions/{session}", summary="A session", response_model=SessionView)
async def show(caller: Admitted, deps: Deps, session: Id) -> Response:
    """For whoever opened it or may use it. Somebody else's is answered like one that does not exist."""
    with turn(caller):
        seen = await deps.sessions.shown_to(caller.principal, session)
    return Response(_json(seen), media_type="application/json")


@routes.post("/sessions/{session}/close", summary="End a session", response_model=SessionView)
async def close(caller: Admitted, deps: Deps, session: Id, body: Annotated[Noted, Body()]) -> Response:
    """For whoever opened it: no call goes on in it, nor in what was opened under it.

    Doing it again is safe.
    """
    with turn(caller):
        seen = await deps.sessions.close_for(caller.principal, session, body.note)
    return Response(_json(seen), media_type="application/json")


def _json(seen: Any) -> bytes:
    return orjson.dumps(SessionView.model_validate(seen).model_dump(mode="json"))
