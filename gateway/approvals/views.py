"""Approvals and grants as plain data, for people and for the agent; and what of their arguments is shown."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

import msgspec
import orjson

from gateway.approvals import canaries
from gateway.approvals.attention import Autonomy
from gateway.approvals.fatigue import Line, Measure, Settings, Summary
from gateway.approvals.grants import Grant
from gateway.approvals.values import Approval
from gateway.model import Json

REDACTED: Final = "[redacted]"


def shown(approval: Approval) -> dict[str, Any]:
    """An approval in short."""
    return {
        "id": approval.id,
        "version": approval.version,
        "state": approval.state,
        "attempt": approval.machine.attempt,
        "agent": approval.agent,
        "owner": approval.owner,
        "subject": approval.subject,
        "chain": list(approval.chain),
        "session": approval.session,
        "target": approval.target,
        "risk": approval.risk,
        "digest": approval.digest,
        "call_id": approval.call_id,
        "attempt_call": approval.attempt_call,
        "requirements": [
            {"code": each.code, "chain": each.chain, "revision": each.revision}
            for each in approval.requirements
        ],
        "opened": approval.opened_ns,
        "decide_by": approval.decide_by_ns,
        "execute_by": approval.execute_by_ns,
        "closed": approval.closed_ns,
        "closed_by": approval.closed_by,
        "reason_code": approval.reason_code,
        "reason_text": approval.reason_text,
        "supersedes": approval.supersedes,
        "superseded_by": approval.superseded_by,
        "editors": list(approval.editors),
        "question": approval.question,
        "answer": approval.answer,
        "policy_revision": approval.policy_revision,
        "envelope": approval.envelope,
        "canary": canaries.shown(approval),
    }


def for_the_agent(approval: Approval) -> dict[str, Any]:
    return {
        "id": approval.id,
        "state": approval.state,
        "tool": approval.target,
        "decide_by": _moment(approval.decide_by_ns),
        "execute_by": _moment(approval.execute_by_ns) if approval.execute_by_ns is not None else None,
        "question": approval.question,
        "answer": approval.answer,
        "reason_code": approval.reason_code if approval.state == "rejected" else None,
        "reason": approval.reason_text if approval.state == "rejected" else None,
    }


def _moment(ns: int) -> datetime:
    return datetime.fromtimestamp(ns / 1e9, UTC)


def shown_grant(grant: Grant) -> dict[str, Any]:
    return {
        "id": grant.id,
        "agent": grant.agent,
        "session": grant.session,
        "target": grant.target,
        "fields": sorted(grant.matcher.free),
        "codes": sorted({each.code for each in grant.requirements}),
        "uses": grant.uses,
        "max_uses": grant.max_uses,
        "budget_micro_usd": grant.budget_micro_usd,
        "spent_micro_usd": grant.spent_micro_usd,
        "made": grant.made_ns,
        "made_by": grant.made_by,
        "made_from": grant.made_from,
        "expires": grant.expires_ns,
        "revoked": grant.revoked_ns,
        "revoked_by": grant.revoked_by,
    }


def shown_summary(
    found: Summary, autonomy: Autonomy, settings: Settings, *, only: str | None = None
) -> dict[str, Any]:
    """How people review; ``only`` leaves out everybody else, and "" everybody."""
    return {
        "since": found.since_ns,
        "reviews": found.reviews,
        "reviewers": [_line(each) for each in found.reviewers if only is None or each.name == only],
        "rules": [_line(each) for each in found.rules],
        "autonomy": {
            "calls": autonomy.calls, "by_person": autonomy.by_person, "by_grant": autonomy.by_grant,
            "share": autonomy.share,
        },
        "settings": msgspec.structs.asdict(settings),
    }  # fmt: skip


def _line(line: Line) -> dict[str, Any]:
    return {
        "name": line.name, "normal": _measure(line.normal), "earning": _measure(line.earning),
        "canaries": line.canaries, "canaries_approved": line.canaries_approved, "alarms": list(line.alarms),
        "capped": line.capped,
    }  # fmt: skip


def _measure(measure: Measure) -> dict[str, Any]:
    return msgspec.structs.asdict(measure)


def hidden(value: Json) -> list[dict[str, str]]:
    """Characters of the arguments that people cannot see, or that turn text around, and where they are."""
    found: list[dict[str, str]] = []

    def look(value: Json, pointer: str) -> None:
        if isinstance(value, str):
            seen = {
                c for c in value if unicodedata.category(c) in ("Cc", "Cf", "Co", "Cn") and c not in "\n\t"
            }
            if seen:
                named = " ".join(f"U+{ord(c):04X}" for c in sorted(seen)[:8])
                found.append({"pointer": pointer, "characters": named})
        elif isinstance(value, Mapping):
            for key, each in value.items():
                look(key, f"{pointer}/(name)")
                look(each, f"{pointer}/{key.replace('~', '~0').replace('/', '~1')}")
        elif isinstance(value, list):
            for number, each in enumerate(value):
                look(each, f"{pointer}/{number}")

    look(value, "")
    return found[:50]


def redacted(value: Json, sensitive: Sequence[str]) -> Json:
    if value is None or not sensitive:
        return value
    value = orjson.loads(orjson.dumps(value))
    for holder, key in _places(value, sensitive):
        holder[key] = REDACTED
    return value


def unredacted(value: Json, before: Json, sensitive: Sequence[str]) -> Json:
    """Put back what the reviewer was not shown and has left alone."""
    kept = {(pointer): holder[key] for pointer in sensitive for holder, key in _places(before, (pointer,))}
    for pointer in sensitive:
        for holder, key in _places(value, (pointer,)):
            if holder[key] == REDACTED and pointer in kept:
                holder[key] = kept[pointer]
    return value


def _places(value: Json, pointers: Sequence[str]) -> list[tuple[Any, Any]]:
    found: list[tuple[Any, Any]] = []
    for pointer in pointers:
        at: Any = value
        *way, last = [part.replace("~1", "/").replace("~0", "~") for part in pointer.split("/")[1:]]
        for part in way:
            at = at.get(part) if isinstance(at, dict) else None
        if isinstance(at, dict) and last in at:
            found.append((at, last))
    return found
