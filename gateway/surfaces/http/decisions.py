"""``POST /v1/decide`` and ``/v1/settle``: the gateway decides and records, somebody else runs the tool."""

from __future__ import annotations

from datetime import UTC, datetime
from hashlib import sha256
from typing import Annotated, Any, Final

import orjson
from fastapi import APIRouter, Body, Request, Response
from starlette.concurrency import run_in_threadpool

from gateway import pipeline, strictjson
from gateway.errors import Overloaded, Refused
from gateway.model import Answer, Ask, Outcome, Status
from gateway.pipeline import Cleared
from gateway.reasons import REASONS
from gateway.storage.idempotency import Kept
from gateway.surfaces.http import calls, late, once, replies
from gateway.surfaces.http.deps import HttpDeps
from gateway.surfaces.http.front import Admitted, Caller, Deps, GuardedRoute, turn
from gateway.surfaces.http.models import DecideAnswer, DecideRequest, Reported, SettleAnswer, SettleRequest
from gateway.surfaces.http.opened import OpenDecisions

routes = APIRouter(prefix="/v1", route_class=GuardedRoute, tags=["decision point"])

_OUTCOMES: Final[dict[Reported, tuple[Status, str]]] = {
    "ok": ("ok", ""),
    "tool_error": ("tool_error", "upstream_error"),
    "failed": ("failed", "upstream_error"),
    "not_sent": ("not_sent", ""),
    "unknown": ("in_doubt", "upstream_lost"),
}


@routes.post(
    "/decide", summary="May this tool be run?", response_model=DecideAnswer, responses=calls.PROBLEMS
)
async def decide(
    request: Request,
    caller: Admitted,
    deps: Deps,
    body: Annotated[DecideRequest, Body()],
    idempotency_key: calls.Key = None,
) -> Response:
    """Decide a call that the caller itself is about to make, and record the intent.

    200 is a permission for one call with exactly the `arguments` of the answer; whatever is not 200 is a
    refusal. Report the outcome to `/v1/settle` before `settle_by`. A repeated request with the same
    idempotency key names the same single permission again, as long as it is open.
    """
    opened: OpenDecisions = request.app.state.opened

    async def make(call_id: str) -> once.Made:
        return await _decided(opened, caller, calls.ask(caller, body, body.via, call_id))

    def again(kept: Kept, call_id: str) -> Response:
        if kept.status != 200 or opened.is_open(call_id):
            return replies.respond(kept, replayed=True)
        # It was given once and used, or let pass: to repeat it now would permit a second call.
        code = "already_settled" if opened.was_settled(call_id) else "decision_lapsed"
        return replies.respond(replies.of_problem(replies.said(code, decision_id=call_id, effect="unknown")))

    return await once.once(deps, caller, "decide", body.model_dump(), make, again)


async def _decided(opened: OpenDecisions, caller: Caller, ask: Ask) -> once.Made:
    parts, principal = caller.parts, caller.principal
    try:
        # A flood of permissions nobody reports on must not fill the memory.
        opened.take(principal)
    except Overloaded as full:
        _note(caller, full.code, ask.surface, full.detail)
        waits = round(full.retry_after * 1000)
        return once.Made(replies.of_problem(replies.said(full.code, retry_after_ms=waits)), False)
    cleared: Cleared | Answer | None = None
    try:
        cleared = await pipeline.decide(parts, ask)
    finally:
        if not isinstance(cleared, Cleared):
            opened.give_back(principal)
    if isinstance(cleared, Answer):
        return calls.made(cleared)
    opened.open(cleared)
    return once.Made(Kept(200, _permission(caller, cleared)), True)


def _permission(caller: Caller, cleared: Cleared) -> bytes:
    call, decision = cleared.call, cleared.decision
    deadline_s = call.tool.manifest.deadline_s
    until = datetime.fromtimestamp(caller.parts.clock.now_ns() / 1e9 + deadline_s, UTC)
    return orjson.dumps({
        "decision_id": call.id,
        "action": cleared.action,
        "verdict": decision.verdict,
        "arguments": replies.raw(call.args_json),
        "obligations": [
            {"kind": each.kind, "value": None if each.kind == "redact" else each.value}
            for each in decision.obligations
        ],
        "result_wanted": caller.parts.policy.wants_result(call),
        "settle_by": until.isoformat(timespec="milliseconds"),
        "settle_within_ms": round(deadline_s * 1000),
        **replies.remarks(decision, cleared.approval),
    })  # fmt: skip


@routes.post(
    "/settle", summary="What became of a decided call", response_model=SettleAnswer, responses=calls.PROBLEMS
)
async def settle(
    request: Request, caller: Admitted, deps: Deps, body: Annotated[SettleRequest, Body()]
) -> Response:
    """Report the outcome, once; repeating the same report is safe.

    The result goes through the result policy: show only what comes back. After the deadline the call is in
    doubt, and only `ok` is still accepted, as the resolution of that doubt.
    """
    opened: OpenDecisions = request.app.state.opened
    decision_id: str | None = body.decision_id
    if body.idempotency_key:
        decision_id = await deps.keys.find(caller.principal, body.idempotency_key)
    cleared = opened.find(decision_id, caller.principal) if decision_id is not None else None
    if decision_id is not None and cleared is not None:
        reported = await _reported(opened, caller, cleared, body)
        if reported is not None:
            return reported
    with turn(caller):
        return await _late(deps, caller, decision_id, body)


async def _reported(
    opened: OpenDecisions, caller: Caller, cleared: Cleared, body: SettleRequest
) -> Response | None:
    """The answer to a report in time; ``None`` when the deadline came first."""
    call = cleared.call
    answered = body.outcome in ("ok", "tool_error")
    if answered and body.result is None and caller.parts.policy.wants_result(call):
        # Without it the result policy would have judged nothing, and the caller shown everything.
        _note(caller, "invalid_request", call.surface, "no result")
        said = replies.said("invalid_request", "result: the policy of this tool must see it.")
        return replies.respond(replies.of_problem(said))
    status, code = _OUTCOMES[body.outcome]
    result_json = b"" if body.result is None else orjson.dumps(body.result)
    outcome = Outcome(
        status=status,
        code=code,
        detail="reported by the caller",
        result_json=result_json if answered else b"",
        started_ns=call.received_ns,
    )
    fingerprint = sha256(strictjson.canonical([body.outcome, body.result])).digest()
    try:
        settled = await opened.settle(call.id, fingerprint, outcome)
    except Refused as other:
        _note(caller, other.code, call.surface, call.id)
        said = replies.said(other.code, decision_id=call.id, effect="unknown")
        return replies.respond(replies.of_problem(said))
    if settled is None:
        return None
    answer, replayed = settled
    return replies.respond(_settled(answer, replayed))


def _settled(answer: Answer, replayed: bool) -> Kept:
    refusal, outcome = answer.refusal, answer.outcome
    if refusal is not None and (refusal.code == "outcome_unrecorded" or outcome is None):
        return replies.of_problem(replies.refused(answer, refusal))
    assert outcome is not None
    withheld = None
    if outcome.status == "withheld" and refusal is not None:
        withheld = {"code": refusal.code, "message": refusal.message, "remedy": refusal.remedy}
    return _on_record(
        answer.call_id, outcome.status, replayed=replayed, result=answer.result_json, withheld=withheld
    )


async def _late(deps: HttpDeps, caller: Caller, decision_id: str | None, body: SettleRequest) -> Response:
    outcome = body.outcome
    past = await run_in_threadpool(deps.ledger.find, decision_id) if decision_id is not None else None
    worth = late.worth(past, caller.principal, outcome)
    if worth == "confirms":
        assert decision_id is not None
        by = f"agent:{caller.principal.agent}"
        if await run_in_threadpool(deps.ledger.confirm, decision_id, by):
            return replies.respond(_on_record(decision_id, "ok", late=True, withheld=_unjudged(body)))
        worth = "already_settled"  # a person was quicker
    if worth == "repeated":
        assert decision_id is not None
        status = _OUTCOMES[outcome][0]
        return replies.respond(_on_record(decision_id, status, replayed=True, withheld=_unjudged(body)))
    _note(caller, worth, "http", decision_id or "")
    known = decision_id if worth != "unknown_decision" else None
    effect: Any = "none" if worth == "unknown_decision" else "unknown"
    return replies.respond(replies.of_problem(replies.said(worth, decision_id=known, effect=effect)))


def _unjudged(body: SettleRequest) -> dict[str, str] | None:
    """Why a result that came too late may not be shown: nothing is left to judge it with."""
    if body.result is None:
        return None
    reason = REASONS["result_withheld"]
    message = "The report came too late for its result to be judged."
    return {"code": reason.code, "message": message, "remedy": reason.remedy}


def _on_record(
    decision_id: str,
    status: str,
    *,
    late: bool = False,
    replayed: bool = False,
    result: bytes = b"",
    withheld: dict[str, str] | None = None,
) -> Kept:
    body = {
        "decision_id": decision_id,
        "outcome": status,
        "late": late,
        "replayed": replayed,
        "result": replies.raw(result),
        "withheld": withheld,
    }
    return Kept(200, orjson.dumps(body))


def _note(caller: Caller, code: str, surface: str, detail: str) -> None:
    caller.parts.journal.refused(code, surface, caller.principal, detail)
    caller.parts.telemetry.refused(code, surface)
