"""What every client does, and what must be true of it afterwards.

The drivers only do and report; all judging is here, so that a promise is the same for every client.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import msgspec

from tests.clients.clients import Client
from tests.clients.upstream import SECRETS

TOOLS: Final = ("build_report", "get_customer", "pay", "set_status")
"""What policy shows; the server also has ``drop_customers``."""

MANIFESTS: Final[dict[str, dict[str, Any]]] = {
    "get_customer": {"risk": "read"},
    "build_report": {"risk": "read"},
    "set_status": {"risk": "reversible", "effects": ["write"]},
    "pay": {"risk": "irreversible", "effects": ["write", "money"]},
    "drop_customers": {"risk": "irreversible", "effects": ["write", "delete"]},
}

REPORT_S: Final = 3.0
"""Long enough to need the stream, and to be in the way of a second call."""

USD: Final = 1_000_000
WANTED: Final = 500
UNWANTED: Final = 600
"""Payments in USD that a person is asked about; the reviewer approves the one and rejects the other."""

REJECTED_AS: Final = "too_risky"
REJECTED_WITH: Final = "This supplier is paid by the yearly contract."

Said = Mapping[str, Any]  # one answer as a driver reports it


class Step(msgspec.Struct, frozen=True, kw_only=True):
    name: str
    promise: str  # as the table of the documentation says it
    calls: tuple[tuple[str, dict[str, Any]], ...]  # tool and arguments; several are made at once
    wrong: Callable[[Sequence[Said]], str | None]  # what is not as promised, of the answers to the calls


def _plain(said: Said) -> str:
    """All that was seen; JSON inside JSON without its escapes, as frameworks differ in how they wrap."""
    return f"{said['text']}\n{said.get('structured') or ''}".replace("\\", "")


def _has(*words: str, failed: bool) -> Callable[[Sequence[Said]], str | None]:
    """Every answer has all the words, and is an error where the client says so only if it should."""

    def wrong(answers: Sequence[Said]) -> str | None:
        for said in answers:
            if missing := [word for word in words if word not in _plain(said)]:
                return f"without {missing}: {_plain(said)[:400]}"
            if said.get("failed", failed) is not failed:
                return f"failed is {said['failed']}: {_plain(said)[:400]}"
        return None

    return wrong


def _pending(answers: Sequence[Said]) -> str | None:
    said = _plain(answers[0])
    if not re.search(r'"decision": ?"pending"', said) or approval_in(said) is None:
        return f"not pending: {said[:400]}"
    for word in ("above the limit of", "A person has to approve it", "same arguments"):
        if word not in said:
            return f"does not say {word!r}: {said[:400]}"
    return None if answers[0].get("failed", True) else "an escalated call that looks done"


def approval_in(text: str) -> str | None:
    """The id of the approval that an answer names."""
    found = re.search(r'"approval_id": ?"([^"]+)"', text)
    return found[1] if found else None


def _redacted(answers: Sequence[Said]) -> str | None:
    if wrong := _has(
        "Ada Brandt", "184000000", "her shop", "[redacted:shop_key]", "[redacted]", failed=False
    )(answers):
        return wrong
    if "structured" in answers[0]:  # a client that shows the typed part must have got it whole
        typed = answers[0]["structured"]
        if not typed or typed["balance_micro_usd"] != 184_000_000 or typed["password"] != "[redacted]":
            return f"the structured part is {typed}"
    return None


def _one_was_turned_away(answers: Sequence[Said]) -> str | None:
    done = [said for said in answers if "is ready" in _plain(said)]
    away = [said for said in answers if "overloaded" in _plain(said) and "Not done:" in _plain(said)]
    if len(done) != 1 or len(away) != 1:
        return f"not one done and one turned away: {[_plain(said)[:200] for said in answers]}"
    retryable = re.search(r'"retryable": ?true', _plain(away[0]))
    return None if retryable else f"does not say that it can be retried: {_plain(away[0])[:400]}"


def steps(client: str) -> tuple[Step, ...]:
    """The client's name is in the arguments, so that the server's own account tells whose effect it was."""
    invoice = f"INV-1 of {client}"
    customer = f"C-1 of {client}"
    read = ("get_customer", {"customer_id": customer})
    note = ("set_status", {"customer_id": customer, "status": "silver"})
    report = ("build_report", {"title": "sales", "seconds": REPORT_S})

    def pay(usd: int) -> tuple[str, dict[str, Any]]:
        return ("pay", {"invoice": invoice, "amount_micro_usd": usd * USD})

    return (
        Step(
            name="read",
            promise="secrets are taken out of the text and the structured result, and the call succeeds",
            calls=(read,), wrong=_redacted,
        ),
        Step(
            name="denied", promise="a denial is shown with sentence, remedy and reason code",
            calls=(pay(5000),),
            wrong=_has(
                "Refused: ", "is above the cap of", "Payments of this size are not made by agents.",
                "payment_over_cap", failed=True,
            ),
        ),
        Step(
            name="after denied", promise="the same run or session goes on after the denial",
            calls=(note,), wrong=_has("is now silver.", failed=False),
        ),
        Step(
            name="escalated",
            promise="a call that needs a person is pending: it says why, and what to do",
            calls=(pay(WANTED),), wrong=_pending,
        ),
        Step(
            name="escalated too", promise="so is a second one, with an approval of its own",
            calls=(pay(UNWANTED),), wrong=_pending,
        ),
        Step(
            name="after escalated", promise="the same run or session goes on after the escalation",
            calls=(pay(5),), wrong=_has("Paid 5000000 micro-USD", failed=False),
        ),
        Step(
            name="busy", promise="a slow call is done, and a second one beside it is refused as retryable",
            calls=(report, report), wrong=_one_was_turned_away,
        ),
        Step(
            name="after busy", promise="the same run or session goes on after a retryable refusal",
            calls=(read,), wrong=_redacted,
        ),
        Step(
            name="approved", promise="the same call again is carried out after a reviewer approved it",
            calls=(pay(WANTED),), wrong=_has(f"Paid {WANTED * USD} micro-USD", failed=False),
        ),
        Step(
            name="approved again", promise="once more, it is told that it was carried out already",
            calls=(pay(WANTED),), wrong=_has("approval_done", "has been carried out", failed=True),
        ),
        Step(
            name="rejected", promise="after a rejection, the reviewer's code and words are shown",
            calls=(pay(UNWANTED),),
            wrong=_has("Refused: ", "approval_rejected", REJECTED_AS, REJECTED_WITH, failed=True),
        ),
    )  # fmt: skip


PROMISES: Final = (
    "It is offered every tool that policy shows it, and no other.",
    *(f"{step.promise[0].upper()}{step.promise[1:]}." for step in steps("it")),
    "No secret was in what the client or the model got, nor in any byte the gateway sent to it.",
    "Progress of the slow call came through, where the client shows progress to its user.",
    "It spoke the protocol revision of the table.",
    "It posted each call once, also those that were refused, and no call got an HTTP error.",
    "The tool server carried out what was allowed or approved, once, and nothing else; the journal has each "
    "decision.",
    "The queue has one approval for each call that was held, however often the agent made it.",
    "No circuit breaker moved, with default thresholds, and none that only records would have.",
)
"""What ``judge`` looks at, for the documentation."""


class Seen(msgspec.Struct, frozen=True, kw_only=True):
    """Everything known of one client's run."""

    report: dict[str, Any]  # what the driver said
    output: str  # all the driver wrote
    calls: list[tuple[str, int]]  # of each call on the wire: the protocol revision, and the HTTP status
    wire: bytes  # all the gateway sent it
    effects: list[dict[str, Any]]  # of its calls, in the server's own account
    decided: list[tuple[str, str, str]]  # target, verdict, reason code of its calls, from the journal
    approvals: list[tuple[str, str]]  # of its calls: the id, and the state in the end
    trips: list[str]  # detectors that moved a breaker, or would have


def judge(client: Client, seen: Seen) -> dict[str, str | None]:
    """What is wrong, by promise; ``None`` where it is kept."""
    wrong: dict[str, str | None] = {}
    offered = sorted(seen.report["tools"])
    wrong["list"] = None if offered == list(TOOLS) else f"was offered {offered}"
    for step in steps(client.name):
        answers = seen.report["steps"].get(step.name, [])
        if len(answers) != len(step.calls):
            wrong[step.name] = f"{len(answers)} answers to {len(step.calls)} calls"
        else:
            wrong[step.name] = step.wrong(answers)
    wrong["secrets"] = _leaked(seen)
    wrong["progress"] = "no progress came through" if seen.report["progress"] == 0 else None
    eras = sorted({era for era, _ in seen.calls})
    wrong["era"] = None if eras == [client.era] else f"spoke {eras}"
    wrong["calls"] = _unquiet(client, [status for _, status in seen.calls])
    wrong["effects"] = _effects(client, seen)
    wrong["approvals"] = _approvals(seen)
    wrong["breakers"] = f"moved by {seen.trips}" if seen.trips else None
    wrong["version"] = None if seen.report["version"] == client.version else f"ran {seen.report['version']}"
    return wrong


def _leaked(seen: Seen) -> str | None:
    if b"Ada Brandt" not in seen.wire:
        return "the wire could not be read, so nothing is known"
    for secret in SECRETS:
        start = secret[:10]  # half of it would be too much
        if start in seen.output:
            return f"a secret ({start}…) reached the client"
        if start.encode() in seen.wire:
            return f"a secret ({start}…) was on the wire"
    return None


def _unquiet(client: Client, statuses: list[int]) -> str | None:
    """Every call once, also those that were refused, and no HTTP error, which ends many a session."""
    expected = sum(len(step.calls) for step in steps(client.name))
    return None if statuses == [200] * expected else f"calls were answered with {statuses}"


def _effects(client: Client, seen: Seen) -> str | None:
    """Once what was allowed, never what was not: in the server's account and in the journal."""
    happened = [(effect["tool"], effect.get("amount_micro_usd")) for effect in seen.effects]
    if happened != [("set_status", None), ("pay", 5 * USD), ("pay", WANTED * USD)]:
        return f"these effects happened: {happened}"
    verdicts = sorted((target, verdict) for target, verdict, _ in seen.decided if verdict)
    expected = [
        ("crm/build_report", "allow"), ("crm/get_customer", "allow"), ("crm/get_customer", "allow"),
        ("crm/pay", "allow"), ("crm/pay", "deny"), *[("crm/pay", "escalate")] * 5,
        ("crm/set_status", "allow"),
    ]  # fmt: skip
    return None if verdicts == expected else f"on record: {verdicts}"


def _approvals(seen: Seen) -> str | None:
    """One for each call that was held, however often it was made; and what its client was told is its id."""
    if sorted(state for _, state in seen.approvals) != ["executed", "rejected"]:
        return f"in the queue: {seen.approvals}"
    said = {
        approval_in(_plain(answer))
        for step in ("escalated", "escalated too") for answer in seen.report["steps"].get(step, ())
    }  # fmt: skip
    known = {approval for approval, _ in seen.approvals}
    return None if said - {None} <= known else f"it was told of {said}, and in the queue are {known}"
