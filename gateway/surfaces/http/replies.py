"""From an answer of the pipeline to an HTTP response.

Whatever is not a 200 is a refusal, or a call without a result to show: a caller that looks at nothing but the
status never takes a refusal for a permission.
"""

from __future__ import annotations

from typing import Any, Final

import orjson
from fastapi import Response

from gateway.errors import BadMandate, Overloaded, Unauthenticated, WardgateError
from gateway.model import Answer, Decision, Refusal
from gateway.reasons import REASONS, sentence
from gateway.storage.idempotency import Kept
from gateway.surfaces import problems
from gateway.surfaces.doors import NotAdmitted
from gateway.surfaces.http.models import CallProblem, Effect, MandateCallProblem

_HIDDEN: Final = frozenset({"unknown_upstream", "unknown_tool", "not_visible"})
_MADE: Final = ("ok", "tool_error", "rpc_error", "withheld")


def refused(answer: Answer, refusal: Refusal) -> CallProblem:
    """The problem a refused, failed or withheld call is."""
    if refusal.code in _HIDDEN:
        # The same bytes for what is hidden and for what is not there, or names could be guessed.
        return said("unknown_tool")
    effect = _effect(answer)
    retryable, retry_after_ms = refusal.retryable, refusal.retry_after_ms
    if effect != "none":
        # The call was made, or may have been, so no word here may invite to make it again.
        retryable, retry_after_ms = False, None
    reason = REASONS.get(refusal.code)
    return CallProblem(
        type=f"urn:wardgate:reason:{refusal.code}",
        title=reason.title if reason is not None else refusal.code,
        status=_status(refusal, effect),
        detail=sentence(refusal.message),
        code=refusal.code,
        remedy=sentence(refusal.remedy),
        effect=effect,
        decision_id=answer.call_id if answer.decision is not None else None,
        retryable=retryable,
        retry_after_ms=retry_after_ms,
        rule=refusal.rule or None,
        approval_id=refusal.approval,
        because=[finding.code for finding in refusal.findings if finding.code != refusal.code],
    )


def _effect(answer: Answer) -> Effect:
    outcome = answer.outcome
    if outcome is not None and outcome.status in _MADE:
        return "done"
    code = answer.refusal.code if answer.refusal is not None else ""
    if code == "outcome_unrecorded" or (outcome is not None and outcome.status == "in_doubt"):
        return "unknown"
    if code == "in_doubt":
        return "unknown"  # of the identical call before this one
    return "none"


def _status(refusal: Refusal, effect: Effect) -> int:
    if effect == "done" and refusal.code not in problems.STATUS:
        return 403  # a result policy's own code
    return problems.STATUS.get(refusal.code, 403)


def said(
    code: str, detail: str = "", *, decision_id: str | None = None, effect: Effect = "none",
    status: int | None = None, retry_after_ms: int | None = None,
) -> CallProblem:  # fmt: skip
    """A refusal of the gateway itself."""
    base = problems.described_error(code, detail, status=status)
    return CallProblem(
        **base.model_dump(),
        decision_id=decision_id,
        effect=effect,
        retryable=REASONS[code].retryable,
        retry_after_ms=retry_after_ms,
    )


def of_error(error: WardgateError, detail: str = "") -> Response:
    """The answer for a request that was refused before there was a call."""
    headers: dict[str, str] = {}
    status = problems.status_of(error)
    if isinstance(error, NotAdmitted):
        status, detail = error.status or status, detail or error.message
        headers = {name.decode(): value.decode() for name, value in error.headers}
    if isinstance(error, Unauthenticated) and error.challenge:
        headers["www-authenticate"] = error.challenge
    retry_after_ms = round(error.retry_after * 1000) if isinstance(error, Overloaded) else None
    body = said("unknown_tool" if error.code in _HIDDEN else error.code, detail, status=status,
                retry_after_ms=retry_after_ms)  # fmt: skip
    if isinstance(error, BadMandate):
        body = MandateCallProblem(**body.model_dump(), faults=problems.faults(error))
    return respond(of_problem(body), headers=headers)


def of_problem(body: CallProblem) -> Kept:
    return Kept(body.status, orjson.dumps(body.model_dump()))


def respond(kept: Kept, *, replayed: bool = False, headers: dict[str, str] | None = None) -> Response:
    """Send an answer, given now or kept from before."""
    sent = dict(headers or {})
    media_type = "application/json" if kept.status in (200, 201) else problems.MEDIA_TYPE
    if replayed:
        sent["idempotent-replayed"] = "true"
    if kept.status == 401:
        sent.setdefault("www-authenticate", 'Bearer realm="wardgate"')
    if kept.status in (409, 503) and (waits := orjson.loads(kept.body)["retry_after_ms"]) is not None:
        sent["retry-after"] = str(-(-waits // 1000))
    return Response(kept.body, kept.status, sent, media_type=media_type)


def remarks(decision: Decision) -> dict[str, Any]:
    """What the agent should know of an allowed call: notes of warning rules, and a verdict not enforced."""
    marks: dict[str, Any] = {
        "notes": [
            {"code": note.code, "message": note.message, "rule": note.rule, "remedy": note.remedy}
            for note in decision.notes
        ],
        "observed": None,
    }
    if decision.verdict != "allow":
        marks["observed"] = {"verdict": decision.verdict, "code": decision.code}
    return marks


def raw(value: bytes) -> Any:
    """Bytes of the tool server, relayed as they are."""
    return orjson.Fragment(value) if value else None
