"""The way of one call, from an authenticated request to an answer.

    resolve → bound → facts → decide → hold? → journal intent → execute → inspect → settle → answer

``call`` is that list, read top to bottom; ``decide`` and ``settle`` are its two halves, for a tool that
somebody else runs. It opens no socket and reads no clock itself: everything it needs comes in as ``Parts``.
Each early return says which attack or fault it stops, and every one of them leaves a record. There is one
rule for faults: whatever is not a clear *allow* is a refusal with a code.

A surface authenticates first, so a ``Principal`` is the proof that it did.
"""

from __future__ import annotations

import logging
from asyncio import CancelledError
from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec

from gateway import strictjson
from gateway.dialogue import Dialogue
from gateway.digest import call_digest, effect_key, new_id
from gateway.errors import ApprovalError, JournalError, Overloaded, Refused, StateError
from gateway.model import (
    VERIFY,
    Action,
    Answer,
    Ask,
    Call,
    Decision,
    Facts,
    Json,
    Mode,
    Outcome,
    Refusal,
    Tool,
)
from gateway.ports import NOTHING_SHOWN, Caller, Parts, Permit, Shown
from gateway.refusals import answer_of, asked_by, faults_of, refusal_of, said

logger = logging.getLogger("wardgate.pipeline")

_LENIENCE: Final = {"enforce": 0, "warn": 1, "observe": 2}
ANSWERED: Final = ("ok", "tool_error", "rpc_error", "input_required")
"""Statuses of an outcome with something of the upstream's in it to show."""


MAX_INPUTS: Final = 256 * 1024
"""Bytes of answers to an upstream's questions that one call may carry."""


class Cleared(msgspec.Struct, frozen=True, kw_only=True):
    """A call that may happen: decided, and its intent on record. What follows is its one outcome."""

    call: Call
    facts: Facts
    decision: Decision
    action: Action
    permit: Permit | None = None  # of an escalated call that people agreed to

    @property
    def approval(self) -> str:
        """Id of the approval or grant that let it through; "" when it needed none."""
        return str(self.permit.fact["id"]) if self.permit is not None else ""

    @property
    def agreed(self) -> Mapping[str, Json]:
        """What people agreed to about it, as policy sees it; empty when it needed nobody."""
        return self.permit.fact if self.permit is not None else {}


async def call(parts: Parts, ask: Ask, caller: Caller | None = None) -> Answer:
    """Carry one call through; never raises but for cancellation.

    ``caller`` is the client as it can be reached on the way; ``None`` for one that only waits.
    """
    principal = ask.principal
    try:
        # A flood from one agent must not take the gateway's memory, nor the other agents' turn.
        parts.limits.enter(principal)
    except Overloaded as full:
        return _refused_early(parts, ask, full.code, retry_after_ms=int(full.retry_after * 1000))
    try:
        try:
            made = await _admitted(parts, ask)
            # The gateway does not run this tool, so to forward it would be to send it nowhere.
            if made.tool.elsewhere:
                raise Refused("runs_elsewhere", made.tool.target)
        except (Refused, StateError) as bad:
            return _refused_early(parts, ask, bad.code, bad.detail, faults=faults_of(bad))
        except Exception:  # such as a session that cannot be read: nothing is known of it, so nothing happens
            logger.exception("a request of %s failed before it was a call", principal.agent)
            return _refused_early(parts, ask, "gateway_error")
        token = parts.telemetry.call_started(made)
        made = msgspec.structs.replace(made, traceparent=parts.telemetry.traceparent(token))
        try:
            cleared = await _cleared(parts, made)
            if isinstance(cleared, Answer) and _may_wait(ask, cleared):
                parts.telemetry.waits(token)  # the time of people is not the gateway's
                if await _decided_meanwhile(parts, cleared):
                    # As if the agent had called again: another call, with facts of now.
                    again = _again(parts, made)
                    token = parts.telemetry.goes_on(token, made, cleared, again)
                    made = msgspec.structs.replace(again, traceparent=parts.telemetry.traceparent(token))
                    cleared = await _cleared(parts, made)
            answer = cleared if isinstance(cleared, Answer) else await _carry_out(parts, ask, cleared, caller)
        except CancelledError:
            parts.telemetry.call_ended(token, made, None)
            raise
        except Exception:  # a fault of our own, wherever it is, must read as a refusal and never as an allow
            logger.exception("call %s failed inside the gateway", made.id)
            answer = _refused_early(parts, ask, "gateway_error", made.id)
        parts.telemetry.call_ended(token, made, answer)
        return answer
    finally:
        parts.limits.leave(principal)


async def decide(parts: Parts, ask: Ask) -> Cleared | Answer:
    """The first half of a call: up to and including the intent on record. Never raises but for cancellation.

    Whoever gets a ``Cleared`` owes it one ``settle``, whatever happens; an ``Answer`` is a refusal.
    """
    principal = ask.principal
    try:
        # Deciding costs what it costs in ``call``, so the same flood is stopped at the same gate.
        parts.limits.enter(principal)
    except Overloaded as full:
        return _refused_early(parts, ask, full.code, retry_after_ms=int(full.retry_after * 1000))
    try:
        try:
            made = await _admitted(parts, ask)
        except (Refused, StateError) as bad:
            return _refused_early(parts, ask, bad.code, bad.detail, faults=faults_of(bad))
        except Exception:  # such as a session that cannot be read: nothing is known of it, so nothing happens
            logger.exception("a request of %s failed before it was a call", principal.agent)
            return _refused_early(parts, ask, "gateway_error")
        token = parts.telemetry.call_started(made)
        made = msgspec.structs.replace(made, traceparent=parts.telemetry.traceparent(token))
        try:
            cleared = await _cleared(parts, made)
        except CancelledError:
            parts.telemetry.call_ended(token, made, None)
            raise
        except Exception:  # a fault of our own, wherever it is, must read as a refusal and never as an allow
            logger.exception("call %s failed inside the gateway", made.id)
            cleared = _refused_early(parts, ask, "gateway_error", made.id)
        parts.telemetry.call_ended(token, made, cleared if isinstance(cleared, Answer) else _let_go(cleared))
        return cleared
    finally:
        parts.limits.leave(principal)


async def settle(parts: Parts, cleared: Cleared, outcome: Outcome) -> Answer:
    """The second half of a call that somebody else carried out: judge its result and record its outcome.

    Once for each ``Cleared``: the caller sees to that.
    """
    try:
        answer = await _finish(parts, cleared, outcome, judged=parts.policy.wants_result(cleared.call))
    except Exception:  # a fault of our own after the wire: the effect may have happened, so never "try again"
        logger.exception("call %s could not be settled", cleared.call.id)
        _lost(parts, cleared)
        answer = answer_of(cleared.call, cleared.action, cleared.decision, refusal_of("outcome_unrecorded"))
    finally:
        if cleared.permit is not None:
            parts.approvals.ended(cleared.permit)
    parts.telemetry.settled(cleared.call, outcome)
    return answer


def _let_go(cleared: Cleared) -> Answer:
    """What telemetry is told of a decision whose outcome is still to come."""
    return Answer(
        call_id=cleared.call.id,
        action=cleared.action,
        decision=cleared.decision,
        approval=cleared.approval,
    )


async def _admitted(parts: Parts, ask: Ask) -> Call:
    """The call that is asked for, if it can be decided at all; raises ``Refused``."""
    principal = ask.principal
    # A token without the scopes its issuer's tokens need may look around, and calls nothing.
    if principal.missing_scopes:
        raise Refused("insufficient_scope", " ".join(principal.missing_scopes))
    # A session of somebody else, or one that has ended, must not lend its mandate or hide its labels.
    session = await parts.state.enter(ask)
    # A tool that is not in the catalog has no manifest, so nothing about it could be decided.
    tool = parts.catalog.resolve(ask.kind, ask.upstream, ask.name)
    if not parts.policy.sees(principal, tool, parts.state.slow(principal, session)):
        mode = _mode(principal.mode, tool.mode)
        # A tool hidden from this agent must not be callable by guessing its name.
        if mode == "enforce":
            raise Refused("not_visible", tool.target)
        parts.telemetry.unenforced("list", mode)
    # A definition nobody accepted (new, or swapped behind an accepted name) is not called in any mode.
    if tool.pin.quarantined:
        raise Refused("tool_quarantined", tool.target)
    # Finding out what a call did must not do anything, whatever the tool has become since it was described.
    if ask.surface == VERIFY and tool.writes:
        raise Refused("not_a_read", tool.target)
    # Arguments that are no object, or too large to decide in bounded time, are not asked about.
    return _make(parts, ask, session, tool)


async def _cleared(parts: Parts, call: Call) -> Cleared | Answer:
    """``_clear``, and what the call reserved is given back when that fails or is given up."""
    try:
        return await _clear(parts, call)
    except BaseException:
        # Nothing was sent. Kept, it would be under way for ever, and its budget and its effect key would be
        # gone until the next start.
        parts.breakers.ended(call, Facts(), "block", "gateway_error", None)
        parts.trust.ended(call, "block", "gateway_error", None, {})
        try:
            await parts.state.settle(call, "block", None)
        except Exception:
            logger.exception("what call %s reserved could not be given back", call.id)
        raise


async def _clear(parts: Parts, call: Call) -> Cleared | Answer:
    """Facts, decision and the intent on record; an ``Answer`` is a refusal and nothing has happened."""
    try:
        facts = await parts.state.begin(call)
    except StateError as fault:
        # Without facts a limit could be passed unseen, so no facts means no call.
        return await _block(parts, call, Facts(), said(parts.policy.revision, fault.code), fault.code)

    stand, rank = parts.breakers.ask(call, facts), parts.trust.ask(call, facts)
    if stand.facts or rank.facts:
        known = {name: each for name, each in (("breaker", stand.facts), ("trust", rank.facts)) if each}
        facts = msgspec.structs.replace(facts, slow={**facts.slow, **known})
    if stand.refusal is not None:
        # An agent whose calls went wrong does not go on, and what a person stopped is stopped in every mode.
        if stand.killed or call.mode == "enforce":
            decision = said(parts.policy.revision, stand.refusal.code, words=stand.refusal)
            return await _block(parts, call, facts, decision, stand.refusal.code, stand.refusal)
        parts.telemetry.unenforced("breaker", call.mode)

    decision = await parts.policy.call(call, facts)
    if decision.verdict != "deny" and decision.obligations:
        call, decision = await _modified(parts, call, facts, decision)
    enforced = call.mode == "enforce"

    if decision.verdict == "deny":
        if enforced:
            return await _block(parts, call, facts, decision, decision.code)
        parts.telemetry.unenforced("policy", call.mode)
    if facts.refusal is not None:
        # Nothing is left of what was delegated, or nobody can tell what the call would use of it.
        if enforced:
            return await _block(parts, call, facts, decision, facts.refusal.code, facts.refusal)
        parts.telemetry.unenforced("session", call.mode)
    if rank.refusal is not None:
        # An agent that may only look changes nothing, and one that has to earn more spends no more.
        if enforced:
            return await _block(parts, call, facts, decision, rank.refusal.code, rank.refusal)
        parts.telemetry.unenforced("trust", call.mode)
    # The effect of this call is under way, done, or unknown: a second one must not be started. This holds
    # in observe mode too, because it protects the user from the gateway's own retries. A deny comes first:
    # who may not do it does not learn whether it was done.
    if facts.effect != "free":
        code = "in_doubt" if facts.effect == "in_doubt" else "duplicate_effect"
        return await _block(parts, call, facts, decision, code)
    for guarded in (stand.guarded, rank.guarded):
        if guarded is not None and decision.verdict != "deny":
            # A breaker is wary of this agent, or it has not earned to do this alone: a person looks, whatever
            # policy thinks of it.
            decision = msgspec.structs.replace(
                decision, verdict="escalate", findings=asked_by(guarded, decision)
            )
    permit: Permit | None = None
    if decision.verdict == "escalate" and enforced:
        # A person decides; until then the call is not made.
        held = await parts.approvals.hold(call, facts, decision)
        if isinstance(held, Refusal):
            return await _block(parts, call, facts, decision, decision.code, held)
        permit = held
        again = await _decided_again(parts, call, facts, permit)
        if isinstance(again, Answer):
            return again
        call, facts, decision = again
    elif decision.verdict == "escalate":
        parts.telemetry.unenforced("approval", call.mode)
    action: Action = "modify" if call.modified_from else "allow"
    parts.telemetry.decided(call, decision, action, permit)

    # What is not on record does not happen: for a call that may write, this returns when it is on disk.
    try:
        await parts.journal.intent(call, facts, decision, action, permit=permit)
    except JournalError as fault:
        # Recovery finds no intent, so nothing is lost with its mark.
        await parts.state.settle(call, "block", None)
        parts.breakers.ended(call, facts, "block", fault.code, None)
        parts.trust.ended(call, "block", fault.code, None, {})
        return answer_of(call, "block", decision, refusal_of(fault.code, decision))
    except ApprovalError as lost:
        # Somebody else was quicker, or what was agreed to does not hold any more: there is no intent.
        return await _block(parts, call, facts, decision, lost.code)
    return Cleared(call=call, facts=facts, decision=decision, action=action, permit=permit)


async def _decided_again(
    parts: Parts, call: Call, facts: Facts, permit: Permit
) -> tuple[Call, Facts, Decision] | Answer:
    """Ask policy once more about a call that people agreed to, exactly as it would be sent.

    An approval discharges the escalations it was given for and nothing else: a deny still wins.
    """
    facts = msgspec.structs.replace(facts, fast={**facts.fast, "approval": permit.fact})
    if permit.args is not None:
        call = _with_args(call, permit.args)
    decided_at = parts.clock.monotonic()
    decision = await parts.policy.call(call, facts)
    if decision.verdict != "deny" and parts.policy.modify(call, decision) is not None:
        # It would be sent otherwise than approved.
        decision = said(parts.policy.revision, "modified_again", decision)
    if decision.verdict == "deny":
        await parts.approvals.refused(permit, decision.code)
        return await _block(parts, call, facts, decision, decision.code)
    if decision.verdict == "escalate" and not permit.discharges(call, decision):
        refusal = await parts.approvals.renew(permit, call, facts, decision)
        return await _block(parts, call, facts, decision, decision.code, refusal)
    permit.bind(call, decision, decided_at)
    return call, facts, decision


def _may_wait(ask: Ask, answer: Answer) -> bool:
    """Whether people are asked, and may answer this attempt; one that chose the call's id must come back."""
    return (
        answer.refusal is not None and answer.refusal.approval is not None and ask.waits and not ask.call_id
    )


async def _decided_meanwhile(parts: Parts, answer: Answer) -> bool:
    """Whether people decided while the agent waited a moment."""
    refusal = answer.refusal
    assert refusal is not None and refusal.approval is not None
    return await parts.approvals.wait(refusal.approval)


def _again(parts: Parts, made: Call) -> Call:
    call_id = new_id()
    key = call_id if made.effect_key == made.id else made.effect_key
    return msgspec.structs.replace(made, id=call_id, effect_key=key, received_ns=parts.clock.now_ns())


async def _carry_out(parts: Parts, ask: Ask, cleared: Cleared, caller: Caller | None) -> Answer:
    """From the intent on: nothing may change the arguments, and the outcome is recorded whatever it is.

    A client that gives up is passed on to the upstream as a wish; the outcome is still waited for.
    """
    call, decision, action = cleared.call, cleared.decision, cleared.action
    dialogue = None
    try:
        judged = parts.policy.wants_result(call)
        if caller is not None:
            dialogue = Dialogue(parts, ask, call, cleared.facts, caller, judged, _reverse)
            caller.attach(dialogue.cancel)
        try:
            # A kill, or too long a pause, since the claim: it is not sent, and that is proven.
            if cleared.permit is not None and not await parts.approvals.may_send(cleared.permit):
                outcome = Outcome(status="not_sent", code="approval_lapsed")
            # Deciding and recording take time, and somebody may have stopped it meanwhile.
            elif (killed := parts.breakers.killed(call, dialogue.cancel if dialogue else None)) is not None:
                outcome = Outcome(status="not_sent", code=killed.code, detail=killed.message)
            else:
                outcome = await parts.upstreams.execute(call, dialogue)
        except CancelledError:
            # The process is stopping while the call is out: say that its outcome is unknown.
            unknown = Outcome(status="in_doubt", code="upstream_lost", detail="cancelled while under way")
            told = dialogue is not None and dialogue.told
            settled = await parts.state.settle(call, action, unknown, Shown(seen=told))
            parts.breakers.ended(call, cleared.facts, action, unknown.code, unknown)
            parts.trust.ended(call, action, unknown.code, unknown, cleared.agreed)
            await parts.journal.settle(call, decision, action, unknown, None, settled, permit=cleared.permit)
            raise
        told = dialogue is not None and dialogue.told
        return await _finish(parts, cleared, outcome, judged=judged, told=told)
    except Exception:  # a fault of our own after the wire: the effect may have happened, so never "try again"
        logger.exception("call %s failed inside the gateway after it was made", call.id)
        _lost(parts, cleared)
        return answer_of(call, action, decision, refusal_of("outcome_unrecorded"))
    finally:
        if cleared.permit is not None:
            parts.approvals.ended(cleared.permit)


def _lost(parts: Parts, cleared: Cleared) -> None:
    """Nobody knows what became of a call, and it is not under way any more."""
    unknown = Outcome(status="in_doubt", code="outcome_unrecorded")
    parts.breakers.ended(cleared.call, cleared.facts, cleared.action, unknown.code, unknown)
    parts.trust.ended(cleared.call, cleared.action, unknown.code, unknown, cleared.agreed)


async def _finish(
    parts: Parts, cleared: Cleared, outcome: Outcome, *, judged: bool, told: bool = False
) -> Answer:
    """Inspect, settle and answer: what became of a call, and what of it may be shown.

    ``told``: something in words was shown on the way.
    """
    call, facts, decision, action = cleared.call, cleared.facts, cleared.decision, cleared.action
    inspected: Decision | None = None
    result_json, error_json = outcome.result_json, outcome.error_json
    refusal = None
    answered = outcome.status in ANSWERED
    if answered and judged:
        shown = await parts.policy.result(call, facts, outcome)
        inspected = shown.decision
        parts.telemetry.inspected(call, inspected)
        if call.mode != "enforce":
            if inspected.verdict != "allow" or shown.result_json != result_json:
                parts.telemetry.unenforced("result", call.mode)
        elif inspected.verdict == "allow":
            result_json, error_json = shown.result_json, shown.error_json
        else:
            # A result the policy cannot judge, or forbids, is not shown: it may carry what must not leave.
            result_json = error_json = b""
            refusal = refusal_of(inspected.code, inspected, fallback="result_withheld")
            outcome = msgspec.structs.replace(
                outcome, status="withheld", code="result_withheld", answered=outcome.status
            )
    elif not answered and outcome.status != "unobserved":
        result_json = error_json = b""
        refusal = refusal_of(outcome.code)
        if outcome.remedy:
            refusal = msgspec.structs.replace(refusal, remedy=outcome.remedy)

    seen = _shown(call, outcome, result_json or error_json, (decision, inspected), told)
    settled = await parts.state.settle(call, action, outcome, seen)
    cost = settled.mark.charged.get("cost_micro_usd", 0) if settled.mark is not None else 0
    parts.breakers.ended(call, facts, action, outcome.code, outcome, cost)
    parts.trust.ended(call, action, outcome.code, outcome, cleared.agreed)
    try:
        await parts.journal.settle(call, decision, action, outcome, inspected, settled, permit=cleared.permit)
    except JournalError:
        # The effect may have happened and its record is only an intent: recovery lists it as in doubt.
        # The result is kept back, because what it taints could not be made durable.
        return answer_of(call, action, decision, refusal_of("outcome_unrecorded"), outcome)
    if parts.verifications is not None and (outcome.answered or outcome.status) == "ok":
        parts.verifications.answered(call, outcome)
    return Answer(
        call_id=call.id,
        action=action,
        decision=decision,
        outcome=outcome,
        refusal=refusal,
        result_json=result_json,
        error_json=error_json,
        approval=cleared.approval,
    )


async def reviewed(parts: Parts, ask: Ask, facts: Facts) -> tuple[Call, Decision]:
    """What policy says of a call that a reviewer would put in an agent's place; it is not made.

    Raises ``Refused`` when it could not be decided at all.
    """
    call = await _admitted(parts, ask)
    decision = await parts.policy.call(call, facts)
    if decision.verdict != "deny" and decision.obligations:
        call, decision = await _modified(parts, call, facts, decision)
    return call, decision


def _shown(
    call: Call, outcome: Outcome, content_json: bytes, said: Sequence[Decision | None], told: bool = False
) -> Shown:
    """What the session learns from an answer: what the agent sees, and what policy says of it."""
    # Where a tool runs elsewhere the agent reads what it answers, whether or not it is reported here.
    # A server that speaks on the way and then gives no answer has been read all the same.
    seen = told or bool(content_json) or (call.tool.elsewhere and outcome.status in (*ANSWERED, "unobserved"))
    labels: tuple[str, ...] = ()
    lowered: tuple[str, ...] = ()
    cost = 0
    for decision in said:
        if decision is None:
            continue
        labels += decision.labels
        for duty in decision.obligations:
            if duty.kind == "declassify":
                lowered += tuple(duty.value)
            elif duty.kind == "cost":
                cost += duty.value
    if call.surface == VERIFY:  # shown to nobody: it costs what it costs, and nothing is learnt from it
        seen, labels, lowered, content_json = False, (), (), b""
    return (
        Shown(content_json, seen, labels, lowered, cost)
        if seen or labels or lowered or cost
        else NOTHING_SHOWN
    )


async def _reverse(parts: Parts, ask: Ask) -> Answer:
    return await call(parts, ask)


def _make(parts: Parts, ask: Ask, session: str, tool: Tool) -> Call:
    """Freeze the request into a call; from here on one set of bytes is decided, recorded and sent."""
    if not isinstance(ask.args, dict):
        raise Refused("invalid_arguments")
    args_json = strictjson.canonical(ask.args)
    if not parts.limits.decidable(ask.args, args_json) or len(ask.inputs_json) > MAX_INPUTS:
        raise Refused("args_too_large")
    call_id = ask.call_id or new_id()
    key = effect_key(tool.manifest.effect_key, call_id, ask.args)
    if key is None:
        raise Refused("invalid_arguments", f"the effect key {tool.manifest.effect_key!r} needs its arguments")
    return Call(
        id=call_id,
        principal=ask.principal,
        tool=tool,
        args=ask.args,
        args_json=args_json,
        digest=call_digest(ask.principal, session, tool, args_json, ask.inputs_json),
        session=session,
        thread=ask.thread,
        surface=ask.surface,
        effect_key=key,
        mode=_mode(ask.principal.mode, tool.mode),
        received_ns=parts.clock.now_ns(),
        client_meta_json=ask.client_meta_json,
        inputs_json=ask.inputs_json,
        capabilities_json=ask.capabilities_json,
        log_level=ask.log_level,
        traceparent=ask.traceparent,
        http_traceparent=ask.http_traceparent,
    )


async def _modified(parts: Parts, call: Call, facts: Facts, decision: Decision) -> tuple[Call, Decision]:
    """Apply obligations that change the arguments, then decide what will really be sent. One round only."""
    args: Mapping[str, Any] | None = parts.policy.modify(call, decision)
    if args is None or call.mode != "enforce":
        return call, decision
    changed = _with_args(call, args)
    again = await parts.policy.call(changed, facts)
    # A policy that changes its own change has no fixed meaning.
    if again.verdict != "deny" and parts.policy.modify(changed, again) is not None:
        again = said(parts.policy.revision, "modified_again", again)
    return changed, again


def _with_args(call: Call, args: Mapping[str, Any]) -> Call:
    """The call with other arguments than the agent's, which stay on record."""
    args_json = strictjson.canonical(args)
    return msgspec.structs.replace(
        call,
        args=args,
        args_json=args_json,
        digest=call_digest(call.principal, call.session, call.tool, args_json, call.inputs_json),
        modified_from=call.modified_from or call.digest,
        asked_json=call.asked_json or call.args_json,
    )


async def _block(
    parts: Parts, call: Call, facts: Facts, decision: Decision, code: str, refusal: Refusal | None = None
) -> Answer:
    """Refuse a call that was decided: its reservation is released, and the refusal recorded with ``code``.

    An escalation is recorded with the code of the policy; ``refusal`` has the words of the queue.
    """
    action: Action = "hold" if refusal is not None and refusal.approval else "block"
    parts.telemetry.decided(call, decision, action)
    refusal = refusal or refusal_of(code, decision)
    # A call that waits for a person, or that nobody can be asked about, says nothing of its agent.
    told = refusal.code if decision.verdict == "escalate" else code
    parts.breakers.ended(call, facts, action, told, None)
    parts.trust.ended(call, action, code, None, {})
    try:
        settled = await parts.state.settle(call, action, None)
        await parts.journal.intent(call, facts, decision, action, code, settled)
    except (JournalError, StateError):
        # Nothing happens either way, so the agent is told the refusal; the journal counts its own loss.
        return answer_of(call, action, decision, refusal)
    return answer_of(call, action, decision, refusal)


def _refused_early(
    parts: Parts, ask: Ask, code: str, detail: str = "", retry_after_ms: int | None = None, faults: str = ""
) -> Answer:
    """Refuse a request that never became a call; ``faults`` tell its sender what would be accepted."""
    parts.journal.refused(code, ask.surface, ask.principal, detail)
    parts.telemetry.refused(code, ask.surface)
    refusal = refusal_of(code)
    if retry_after_ms is not None:
        refusal = msgspec.structs.replace(refusal, retry_after_ms=retry_after_ms)
    if faults:
        refusal = msgspec.structs.replace(refusal, remedy=faults)
    return Answer(call_id=new_id(), action="block", refusal=refusal)


def _mode(agent: Mode, upstream: Mode) -> Mode:
    """The gateway's own mode is rolled out by agent and by upstream: the more lenient one holds."""
    return agent if _LENIENCE[agent] >= _LENIENCE[upstream] else upstream
