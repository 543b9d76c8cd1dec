"""One held call: everything that helps to decide about it, and every way to decide.

A form carries the version and the digest that were shown. When either is not what is there any more, nothing
is done and the page shows what is.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Final

import orjson
from starlette.responses import Response

from gateway.approvals.lookup import Narrow
from gateway.approvals.values import REJECT_CODES
from gateway.errors import Refused
from gateway.surfaces.admin import approvals as api
from gateway.surfaces.admin import models
from gateway.surfaces.admin import models_approvals as held
from gateway.surfaces.admin.deps import DecisionFilter
from gateway.surfaces.console import tree
from gateway.surfaces.console.guards import Form
from gateway.surfaces.console.pages import Act, Asked, Data, Page, notice, plain

_LAST: Final = 8
_LEVELS: Final = ("public", "internal", "confidential", "secret")
DONE: Final = {
    "approve": "Your approval is counted",
    "reject": "Rejected; the agent is told why",
    "edit": "Edited. This is the new call, and somebody else must approve it too",
    "ask": "Asked. The agent sees the question when it calls again",
    "cancel": "Cancelled",
    "resolve": "Resolved; the journal says so too",
    "grant": "Granted",
    "incident": "Reported; it counts for those who approved it, and for the rule that asked",
}


async def view(asked: Asked) -> Data:
    approval_id = asked.at("id")
    desk = asked.admin.approvals
    found = await desk.show(asked.operator, approval_id) if desk is not None else None
    if found is None:
        raise Refused("not_found", approval_id[:64])
    around = await asked.deps.look.around(asked.operator, approval_id)
    which = DecisionFilter(tenant=asked.operator.tenant, session=found["session"])
    last = await asyncio.to_thread(asked.admin.decisions.list, which, _LAST + 1, None)
    calls = [plain(models.Decision.model_validate(each)) for each in last.items]
    detail = plain(held.ApprovalDetail.model_validate(found))
    before = around["last"]["arguments"] if around["last"] is not None else None
    done = asked.query("done")
    return {
        "approval": detail,
        "shown_version": detail["version"],
        "tool": around["tool"],
        "explanation": around["explanation"],
        "provenance": around["provenance"],
        "no_grant": around["no_grant"],
        "next_waiting": await _following(asked, approval_id),
        "similar": [plain(held.Approval.model_validate(each)) for each in around["similar"]],
        "tally": around["tally"],
        "last_similar": around["last"],
        "differs": await asyncio.to_thread(tree.differences, detail["arguments"], before)
        if before is not None and detail["arguments"] is not None
        else None,
        "session_calls": [each for each in calls if each["call_id"] != detail["call_id"]][:_LAST],
        "budgets": _budgets(detail["facts"]),
        "labels": _labels(detail["facts"]),
        "reject_codes": list(REJECT_CODES),
        "editable": orjson.dumps(
            detail["arguments"], option=orjson.OPT_INDENT_2 | orjson.OPT_SORT_KEYS
        ).decode()
        if detail["arguments"] is not None
        else None,
        "fields": _fields(detail["arguments"]),
        **({"notice": notice("", DONE[done])} if done in DONE else {}),
    }


async def _following(asked: Asked, approval_id: str) -> str | None:
    """The call that has waited longest after this one, or else the first of all."""
    for after in (approval_id, ""):
        found = await asked.deps.look.page(
            asked.operator, Narrow(states=("pending",)), newest=False, limit=1, after=after
        )
        ids = [each["id"] for each in found["items"] if each["id"] != approval_id]
        if ids:
            return str(ids[0])
    return None


async def state(asked: Asked) -> Data:
    """The state alone, for a page that is open: whether it is still what is shown."""
    desk = asked.admin.approvals
    found = await desk.show(asked.operator, asked.at("id")) if desk is not None else None
    if found is None:
        raise Refused("not_found", asked.at("id")[:64])
    version = asked.query("v")
    return {
        "approval": {"id": found["id"], "state": found["state"], "version": found["version"]},
        "shown_version": int(version) if version.isdecimal() and len(version) < 10 else 0,
    }


def _budgets(facts: Data) -> list[Data]:
    """Budgets with this call, as it was when it was held: its reservation is in what is used."""
    found = []
    budget = facts.get("fast", {}).get("budget") or {}
    for scope, metrics in budget.items():
        if not isinstance(metrics, dict):
            continue
        for metric, numbers in metrics.items():
            if isinstance(numbers, dict) and isinstance(numbers.get("limit"), int):
                used = int(numbers.get("used", 0)) + int(numbers.get("reserved", 0))
                found.append({"scope": scope, "metric": metric, "used": used, "limit": numbers["limit"]})
    return found


def _labels(facts: Data) -> Data:
    session = facts.get("fast", {}).get("session") or facts.get("slow", {}).get("session") or {}
    names = ("integrity", "confidentiality", "labels", "sources")
    found = {name: session.get(name) for name in names if session.get(name) not in (None, [], "")}
    level = found.get("confidentiality")
    if isinstance(level, int) and 0 <= level < len(_LEVELS):
        found["confidentiality"] = _LEVELS[level]
    if found.get("labels") == ["untrusted"]:  # which its integrity says
        del found["labels"]
    return found


def _fields(arguments: Any) -> list[Data]:
    """Arguments that a grant may leave open, by JSON pointer: single values, not whole objects."""
    if not isinstance(arguments, dict):
        return []
    return [
        {"pointer": row.pointer, "depth": row.depth}
        for row in tree.rows(arguments)
        if row.value is not None and row.pointer
    ][:40]


# ------------------------------------------------------------------------------------------------ deciding

Write = Callable[[Asked, str, str, Form], Awaitable[str]]


def _act(verb: str, write: Write) -> Act:
    async def run(asked: Asked, form: Form) -> Response:
        match = f'"{form.get("version")}"'
        after = await write(asked, asked.at("id"), match, form)
        return asked.go(f"/approvals/{after}", done=verb)

    return Act(path=f"/approvals/{{id}}/{verb}", run=run, back=APPROVAL)


async def _approve(asked: Asked, approval: str, match: str, form: Form) -> str:
    said = held.Approve(digest=form.get("digest"), reason=form.get("reason"))
    return (await api.approve(asked.operator, asked.admin, approval, said, match)).id


async def _reject(asked: Asked, approval: str, match: str, form: Form) -> str:
    said = held.Reject.model_validate({name: form.get(name) for name in ("digest", "reason_code", "reason")})
    return (await api.reject(asked.operator, asked.admin, approval, said, match)).id


async def _edit(asked: Asked, approval: str, match: str, form: Form) -> str:
    try:
        arguments = orjson.loads(form.get("arguments"))
    except orjson.JSONDecodeError as error:
        raise Refused("malformed_json", str(error)) from None
    said = held.Edit.model_validate({"digest": form.get("digest"), "arguments": arguments})
    return (await api.edit(asked.operator, asked.admin, approval, said, match)).id


async def _ask(asked: Asked, approval: str, match: str, form: Form) -> str:
    said = held.Question(digest=form.get("digest"), question=form.get("question"))
    return (await api.ask(asked.operator, asked.admin, approval, said, match)).id


async def _cancel(asked: Asked, approval: str, match: str, form: Form) -> str:
    said = held.Approve(digest=form.get("digest"), reason=form.get("reason"))
    return (await api.cancel(asked.operator, asked.admin, approval, said, match)).id


async def _resolve(asked: Asked, approval: str, match: str, form: Form) -> str:
    said = held.Resolve.model_validate({name: form.get(name) for name in ("digest", "became", "note")})
    return (await api.resolve(asked.operator, asked.admin, approval, said, match)).id


async def _incident(asked: Asked, approval: str, match: str, form: Form) -> str:
    said = held.Incident(digest=form.get("digest"), note=form.get("note"))
    return (await api.incident(asked.operator, asked.admin, approval, said)).id


async def _grant(asked: Asked, approval: str, match: str, form: Form) -> str:
    said = held.MakeGrant.model_validate({
        "digest": form.get("digest"), "fields": form.many("field"), "minutes": form.get("minutes", "30"),
        "uses": form.get("uses", "10"), "budget_micro_usd": _micro(form.get("budget", "0")),
        "any_session": "any_session" in form,
    })  # fmt: skip
    await api.grant(asked.operator, asked.admin, approval, said, match)
    return approval


def _micro(dollars: str) -> int | str:
    """Dollars as somebody types them, in micro-USD; what is no amount is left to the check of the field."""
    whole, _, part = dollars.strip().partition(".")
    if not whole.isdecimal() or (part and not part.isdecimal()) or len(part) > 6:
        return dollars
    return int(whole) * 1_000_000 + int(part.ljust(6, "0") or "0")


APPROVAL: Final = Page(
    path="/approvals/{id}", view=view, template="approval.html", part="approval_state.html",
    part_view=state, title="Held call",
)  # fmt: skip
PAGES: Final = (APPROVAL,)
ACTS: Final = tuple(
    _act(verb, write)
    for verb, write in (
        ("approve", _approve), ("reject", _reject), ("edit", _edit), ("ask", _ask), ("cancel", _cancel),
        ("resolve", _resolve), ("grant", _grant), ("incident", _incident),
    )
)  # fmt: skip
