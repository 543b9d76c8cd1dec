"""From an ``Answer`` of the pipeline to what MCP clients get to read.

An allowed result is relayed as the bytes the upstream sent. A refusal of a tool call is a *result* with
``isError``, because that is the only form that reaches the model in every client measured: HTTP errors
end sessions, JSON-RPC errors are masked or crash the agent (the table is in
``docs/explanation/answers-an-agent-can-act-on.md``). It carries one text block and never
``structuredContent``, which some clients would validate against the tool's output schema.
"""

from __future__ import annotations

from typing import Any, Final, Literal

import msgspec
import orjson

from gateway.model import Answer, Refusal
from gateway.reasons import REASONS, sentence
from gateway.surfaces.doors import Headers
from gateway.surfaces.mcp import envelope, protocol
from gateway.surfaces.mcp.envelope import Reply

Said = Literal["deny", "pending", "unavailable", "in_doubt", "withheld", "failed"]

_LEAD: Final[dict[Said, str]] = {
    "deny": "Refused",
    "pending": "Waiting for approval",
    "unavailable": "Not done",
    "in_doubt": "Outcome unknown",
    "withheld": "Result withheld",
    "failed": "Failed",
}
_APP_CODE: Final[dict[Said, int]] = {
    "deny": protocol.APP_DENIED,
    "pending": protocol.APP_PENDING,
    "unavailable": protocol.APP_UNAVAILABLE,
    "in_doubt": protocol.APP_IN_DOUBT,
    "withheld": protocol.APP_WITHHELD,
    "failed": protocol.APP_FAILED,
}
_ANSWERED: Final = ("ok", "tool_error", "rpc_error")
_COMPLETE: Final = b'"resultType":"complete"'
_UNCACHED: Final = b'"ttlMs":0,"cacheScope":"private"'


_ABSENT: Final = msgspec.Raw(b"")


class _Peek(msgspec.Struct):
    """The members of a result that this front looks at; everything else stays bytes."""

    resultType: msgspec.Raw = _ABSENT  # noqa: N815  # the protocol's name
    ttlMs: msgspec.Raw = _ABSENT  # noqa: N815
    meta: dict[str, msgspec.Raw] | None = msgspec.field(name="_meta", default=None)


_peek: Final = msgspec.json.Decoder(_Peek)
_members: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])


class BadResult(Exception):  # turned into a refusal by ``reply``, so it has no code of its own
    """The upstream's result is not one this front can pass on."""


def reply(answer: Answer, id_json: bytes, method: str, *, modern: bool) -> Reply:
    """The whole answer to a call; unknown and invisible targets are the business of ``methods``."""
    if answer.refusal is not None:
        return refused(answer, answer.refusal, id_json, method, modern=modern)
    if answer.error_json:
        return Reply(envelope.error(id_json, answer.error_json), _status(answer.error_json, modern=modern))
    if answer.outcome is not None and answer.outcome.status == "input_required":
        # Only ``rounds`` may pass questions on, and it has not: this client cannot be asked.
        return _unfit(answer, id_json, method, modern=modern)
    try:
        relayed = relay(answer.result_json, method, modern=modern, mark=_mark(answer))
    except BadResult:
        return _unfit(answer, id_json, method, modern=modern)
    return Reply(envelope.result(id_json, relayed))


def _unfit(answer: Answer, id_json: bytes, method: str, *, modern: bool) -> Reply:
    reason = REASONS["upstream_bad_answer"]
    bad = Refusal(code=reason.code, message=reason.message, remedy=reason.remedy)
    return refused(answer, bad, id_json, method, modern=modern)


def _status(error_json: bytes, *, modern: bool) -> int:
    """The HTTP status of an upstream's own error: 400 where the modern revision demands it, else 200."""
    if not modern or b"%d" % protocol.MISSING_CAPABILITY not in error_json:
        return 200
    return 400 if orjson.loads(error_json).get("code") == protocol.MISSING_CAPABILITY else 200


def relay(raw: bytes, method: str, *, modern: bool, mark: dict[str, Any] | None = None) -> bytes:
    """The upstream's bytes, with what the client's era requires and ``mark`` spliced in; else untouched."""
    add = b""
    # Names of members are ASCII, and an escaped ASCII letter is always written \\u00xx: without any of
    # these three the result has no member this front cares about, and need not be parsed.
    if b"_meta" in raw or b"resultType" in raw or (b"\\" in raw and b"\\u00" in raw):
        try:
            seen = _peek.decode(raw)
        except msgspec.MsgspecError:
            raise BadResult from None
        # Questions take another way, and a task was never promised to the upstream: it cannot be followed up.
        if seen.resultType and orjson.loads(bytes(seen.resultType)) != "complete":
            raise BadResult
        if seen.meta is not None and any(key.startswith(protocol.VENDOR_PREFIX) for key in seen.meta):
            # Only the gateway speaks in its own name: a forged decision could send people anywhere.
            mark = mark or {}
        if modern and not seen.resultType:
            add = _COMPLETE
        cached = bool(seen.ttlMs)
    else:
        add = _COMPLETE if modern else b""
        cached = b"ttlMs" in raw
    if modern and method == "resources/read" and not cached:
        add = add + b"," + _UNCACHED if add else _UNCACHED
    if mark is not None:
        raw = _marked(raw, mark)
    return _spliced(raw, add) if add else raw


def _spliced(raw: bytes, add: bytes) -> bytes:
    """``raw`` with members added at the front of the object."""
    if raw.startswith(b'{"'):
        return b"".join((b"{", add, b",", raw[1:]))
    brace = raw.find(b"{")
    if brace < 0 or raw[:brace].strip():
        raise BadResult
    rest = raw[brace + 1 :]
    return b"{" + add + (rest if rest.lstrip()[:1] == b"}" else b"," + rest)


def _marked(raw: bytes, mark: dict[str, Any]) -> bytes:
    """``raw`` with ``mark`` as the gateway's own key of ``_meta``; values keep their bytes."""
    try:
        members = _members.decode(raw)
        meta = _members.decode(members["_meta"]) if "_meta" in members else {}
    except msgspec.MsgspecError:
        raise BadResult from None
    kept = {key: value for key, value in meta.items() if not key.startswith(protocol.VENDOR_PREFIX)}
    if mark:
        kept[protocol.META_DECISION] = msgspec.Raw(orjson.dumps(mark))
    members["_meta"] = msgspec.Raw(_object(kept))
    return _object(members)


def _object(members: dict[str, msgspec.Raw]) -> bytes:
    return b"{" + b",".join(orjson.dumps(key) + b":" + bytes(value) for key, value in members.items()) + b"}"


def _mark(answer: Answer) -> dict[str, Any] | None:
    """What the agent should know of an allowed call: notes of warning rules, and a verdict not enforced."""
    decision = answer.decision
    if decision is None or (not decision.notes and decision.verdict == "allow"):
        return None
    mark: dict[str, Any] = {"v": 1, "decision": "allow", "decision_id": answer.call_id}
    if decision.notes:
        mark["notes"] = [
            {"reason": note.code, "message": note.message, "rule": note.rule, "remedy": note.remedy}
            for note in decision.notes
        ]
    if answer.approval:
        mark["approval_id"] = answer.approval
        mark["modified"] = answer.action == "modify"
    elif decision.verdict != "allow":
        mark["observed"] = {"verdict": decision.verdict, "reason": decision.code}
    return mark


def refused(answer: Answer, refusal: Refusal, id_json: bytes, method: str, *, modern: bool) -> Reply:
    """A refusal in the form of the method: a result for tools, an error for everything else."""
    said, refusal = _said(answer, refusal)
    facts = _facts(answer, refusal, said)
    text = f"{_LEAD[said]}: {sentence(refusal.message)} {sentence(refusal.remedy)}".rstrip()
    headers: Headers = ()
    if refusal.retry_after_ms is not None:
        headers = ((b"retry-after", b"%d" % -(-refusal.retry_after_ms // 1000)),)
    if method != "tools/call":
        error = {"code": _APP_CODE[said], "message": text, "data": facts}
        return Reply(envelope.error(id_json, orjson.dumps(error)), headers=headers)
    result: dict[str, Any] = {
        "content": [{"type": "text", "text": f"{text}\n{orjson.dumps(facts).decode()}"}],
        "isError": True,
        "_meta": {protocol.META_DECISION: facts},
    }
    if modern:
        result["resultType"] = "complete"
    return Reply(envelope.result(id_json, orjson.dumps(result)), headers=headers)


def facts_of(answer: Answer, refusal: Refusal) -> dict[str, Any]:
    """The object that says of a refusal what a program needs."""
    said, refusal = _said(answer, refusal)
    return _facts(answer, refusal, said)


def _facts(answer: Answer, refusal: Refusal, said: Said) -> dict[str, Any]:
    facts: dict[str, Any] = {
        "v": 1,
        "decision": said,
        "reason": refusal.code,
        "rule": refusal.rule or None,
        "decision_id": answer.call_id,
        "retryable": refusal.retryable,
        "retry_after_ms": refusal.retry_after_ms,
        "approval_id": refusal.approval,
        "remedy": refusal.remedy or None,
    }
    because = [finding.code for finding in refusal.findings if finding.code != refusal.code]
    if because:
        facts["because"] = because
    return facts


def _said(answer: Answer, refusal: Refusal) -> tuple[Said, Refusal]:
    """One word for what happened, and the refusal with words that fit it."""
    outcome = answer.outcome
    if outcome is not None:
        if outcome.status in ("in_doubt", "withheld", "failed"):
            return outcome.status, refusal
        if outcome.status in _ANSWERED:
            # The call was made and answered, so no word here may invite to make it again.
            made = "The call was made, but its result cannot be shown."
            remedy = "Check whether the effect happened before asking again."
            kept = msgspec.structs.replace(
                refusal, message=made, remedy=remedy, retryable=False, retry_after_ms=None
            )
            return "withheld", kept
    if refusal.approval is not None:
        return "pending", refusal
    if refusal.code == "in_doubt":
        return "in_doubt", refusal
    reason = REASONS.get(refusal.code)
    return ("unavailable" if reason is not None and reason.unavailable else "deny"), refusal
