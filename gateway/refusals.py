"""Refusals in words: those of policy where it gave some, else those of the closed list of reasons."""

from __future__ import annotations

from typing import Final

import msgspec

from gateway.errors import BadMandate, Refused, StateError
from gateway.model import Action, Answer, Call, Decision, Finding, Outcome, Refusal
from gateway.reasons import REASONS

_MAX_FAULTS: Final = 1_000  # characters


def refusal_of(code: str, decision: Decision | None = None, fallback: str = "gateway_error") -> Refusal:
    """Words for the agent: those of the policy where it gave some, else those of the reason list."""
    for finding in decision.findings if decision is not None else ():
        if finding.code == code:
            return Refusal(
                code=code,
                message=finding.message,
                remedy=finding.remedy,
                rule=finding.rule,
                retryable=code in REASONS and REASONS[code].retryable,
                findings=decision.findings if decision is not None else (),
            )
    reason = REASONS.get(code) or REASONS[fallback]
    return Refusal(code=code, message=reason.message, remedy=reason.remedy, retryable=reason.retryable)


def said(revision: str, code: str, base: Decision | None = None, words: Refusal | None = None) -> Decision:
    """A deny of the gateway itself, in the same words as one of policy."""
    reason = words or REASONS[code]
    finding = Finding(code=code, message=reason.message, remedy=reason.remedy)
    if base is not None:
        return msgspec.structs.replace(base, verdict="deny", findings=(finding,))
    return Decision(verdict="deny", findings=(finding,), revision=revision)


def answer_of(
    call: Call, action: Action, decision: Decision, refusal: Refusal, outcome: Outcome | None = None
) -> Answer:
    return Answer(call_id=call.id, action=action, decision=decision, refusal=refusal, outcome=outcome)


def asked_by(guarded: Finding, decision: Decision) -> tuple[Finding, ...]:
    """Findings of an escalation: those of policy when it escalates too, and the gateway's own."""
    own = decision.findings if decision.verdict == "escalate" else ()
    return (*own, guarded)


def faults_of(bad: Refused | StateError) -> str:
    """All that is wrong with a mandate, for whoever wrote it."""
    found = bad.faults if isinstance(bad, BadMandate) else ()
    said = "; ".join(f"{fault.at or 'the mandate'}: {fault.what} ({fault.remedy})" for fault in found)
    return said[:_MAX_FAULTS]
