"""One call of a client, carried to an answer: its rounds, and what is said of it while people decide.

A held call is a task for a client that declares tasks; else its user is sent to the page where it is decided,
where the client can do that and the user may decide; else it waits a moment, and its agent calls again.
"""

from __future__ import annotations

from typing import Any, Final

import orjson

from gateway import pipeline
from gateway.model import Answer, Ask, Kind
from gateway.surfaces.mcp import capabilities, pages, protocol, tasks
from gateway.surfaces.mcp.callers import LegacyCaller, ModernCaller
from gateway.surfaces.mcp.envelope import Rejected
from gateway.surfaces.mcp.request import Request
from gateway.surfaces.mcp.rounds import binding, responses_in

ROUNDED: Final[frozenset[Kind]] = frozenset({"tool", "prompt", "resource"})
"""What may ask its client something (2026-07-28, basic/patterns/mrtr: Supported Requests)."""

_OF_ROUNDS: Final = frozenset({"inputResponses", "requestState"})


def waits(request: Request, kind: Kind) -> bool:
    """Whether a held call of this request waits a moment for people before its client is told anything."""
    return not _as_task(request, kind) and not request.front.pages.declared(capabilities.declared(request))


def _as_task(request: Request, kind: Kind) -> bool:
    """Whether a held call of this request becomes a task."""
    offered = request.modern and request.front.tasks.offered
    return kind == "tool" and offered and tasks.declared(capabilities.declared(request))


async def legacy(request: Request, ask: Ask) -> Answer:
    session = request.session
    assert session is not None
    if not request.params.keys().isdisjoint(_OF_ROUNDS):
        raise _no_rounds("Input rounds came with revision 2026-07-28.")
    front = request.front
    caller = LegacyCaller(session.conversation, request.exchange, request.id_json, front.ask_timeout_s)
    try:
        answer = await pipeline.call(request.parts, ask, caller)
        if ask.waits or answer.refusal is None or answer.refusal.approval is None:
            return answer
        question = await front.pages.question(request.principal, answer, modern=False)
        if question is None:
            return await _waited(request, ask, answer, caller, 0)
        asked = await caller.ask(pages.METHOD, orjson.dumps(question))
        if caller.given_up or not pages.accepted(asked):
            return answer
        answer = await _waited(request, ask, answer, caller, pages.REVIEW_S)
        await caller.notify(pages.complete(question["elicitationId"]))
        return answer
    finally:
        caller.done()


async def modern(request: Request, ask: Ask) -> Answer | dict[str, Any]:
    """A call, or the next round of one; the members of the result when it is not an answer yet."""
    caller = ModernCaller(request.exchange, request.receive, request.front.watch)
    try:
        answer = await _carried(request, ask, caller)
        if isinstance(answer, dict) or ask.waits or answer.refusal is None or answer.refusal.approval is None:
            return answer
        return await _held(request, ask, answer, answer.refusal.approval, caller)
    finally:
        caller.done()


async def _carried(request: Request, ask: Ask, caller: ModernCaller) -> Answer | dict[str, Any]:
    front, parts, params = request.front, request.parts, request.params
    if not params.keys().isdisjoint(_OF_ROUNDS):
        if ask.kind not in ROUNDED:
            raise _no_rounds("This method has no input rounds.")
        responses = responses_in(params)
        owner = request.principal.credential
        kept = front.seal.open(params.get("requestState"), binding(ask), owner, parts.clock.now_ns())
        if "parked" in kept:
            return await front.parked.resume(ask, responses, kept["parked"], caller)
        if "approval" in kept:
            if responses.get(pages.QUESTION, {}).get("action") == "accept":
                # Its user has opened the page; what was decided there, the call itself finds out.
                await pages.decided(parts, kept["approval"], pages.REVIEW_S)
        else:
            following = await front.rounds.answered(parts, ask, kept, responses)
            if isinstance(following, Answer):
                return following
            ask = following
    if not ask.inputs_json and ask.capabilities_json and _asks_in_between(request, ask.upstream):
        return await front.parked.begin(ask, lambda parked: pipeline.call(parts, ask, parked), caller)
    answer = await pipeline.call(parts, ask, caller)
    outcome = answer.outcome
    if outcome is not None and outcome.status == "input_required" and answer.refusal is None:
        return await front.rounds.asked(parts, ask, answer)
    return answer


async def _held(
    request: Request, ask: Ask, answer: Answer, approval: str, caller: ModernCaller
) -> Answer | dict[str, Any]:
    """How the client of a held call is told to go on with it."""
    front = request.front
    # What was asked in between has been answered to a call that is over; a task could not ask it again.
    if _as_task(request, ask.kind) and request.params.keys().isdisjoint(_OF_ROUNDS):
        made = await front.tasks.created(request.principal, answer)
        if made is not None:
            return made
    if ask.kind in ROUNDED and front.pages.declared(capabilities.declared(request)):
        question = await front.pages.question(request.principal, answer, modern=True)
        if question is not None:
            state = front.seal.close({"approval": approval}, binding(ask), request.parts.clock.now_ns())
            return {
                "resultType": "input_required",
                "inputRequests": {pages.QUESTION: {"method": pages.METHOD, "params": question}},
                "requestState": state,
            }
    return await _waited(request, ask, answer, caller, 0)


async def _waited(
    request: Request, ask: Ask, answer: Answer, caller: LegacyCaller | ModernCaller, seconds: float
) -> Answer:
    """What a held call is answered when people had the usual time to decide, or at least ``seconds``."""
    approval = answer.refusal.approval if answer.refusal is not None else None
    if approval is None or not await pages.decided(request.parts, approval, seconds):
        return answer
    return await pipeline.call(request.parts, ask, caller)


def _asks_in_between(request: Request, upstream: str) -> bool:
    info = request.front.info(upstream)
    return info is not None and info.era == "legacy"


def _no_rounds(message: str) -> Rejected:
    return Rejected("invalid_request", message, status=200, rpc=protocol.INVALID_PARAMS)
