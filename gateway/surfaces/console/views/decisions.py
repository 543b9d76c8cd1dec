"""What was decided, and why."""

from __future__ import annotations

from typing import Any, Final
from urllib.parse import urlencode

from gateway.approvals.chain import VOTERS
from gateway.errors import Refused
from gateway.surfaces.admin import v1
from gateway.surfaces.console.pages import Asked, Data, Nav, Page, plain

SIZE: Final = 60
VERDICTS: Final = ("allow", "deny", "escalate")
ACTIONS: Final = ("allow", "block", "hold", "modify")


async def listed(asked: Asked) -> Data:
    verdict: Any = asked.query("verdict") if asked.query("verdict") in VERDICTS else None
    action: Any = asked.query("action") if asked.query("action") in ACTIONS else None
    filters = {
        "agent": asked.query("agent"), "tool": asked.query("tool"), "code": asked.query("code"),
        "session": asked.query("session"), "verdict": verdict or "", "action": action or "",
        "in_doubt": "1" if asked.query("in_doubt") else "",
    }  # fmt: skip
    found = await v1.decisions(
        asked.operator, asked.admin, agent=filters["agent"] or None, tool=filters["tool"] or None,
        verdict=verdict, action=action, code=filters["code"] or None, session=filters["session"] or None,
        in_doubt=bool(filters["in_doubt"]), limit=SIZE, cursor=asked.query("cursor") or None,
    )  # fmt: skip
    kept = {name: value for name, value in filters.items() if value}
    return {
        **plain(found),
        "filters": filters,
        "filtered": bool(kept),
        "next_query": urlencode({**kept, "cursor": found.cursor}) if found.cursor else "",
    }


async def one(asked: Asked) -> Data:
    """``?explain=1`` says which rules fired and what stopped the others, under the policy in force.

    The values of their conditions are arguments of the call, which only those see who may decide about calls.
    """
    found = plain(await v1.decision(asked.operator, asked.admin, asked.at("id")))
    explained = None
    if asked.query("explain"):
        if asked.operator.role not in VOTERS:
            raise Refused("wrong_role", f"an explanation needs {' or '.join(VOTERS)}")
        explained = dict(await asked.deps.look.explain(asked.operator.tenant, asked.at("id")))
    return {"decision": found, "explanation": explained}


PAGES: Final = (
    Page(
        path="/decisions", view=listed, template="decisions.html", part="decisions_list.html",
        title="Decisions", nav=Nav(title="Decisions", icon="list", group="Watch", order=1),
    ),
    Page(path="/decisions/{id}", view=one, template="decision.html", title="Decision"),
)  # fmt: skip
ACTS: Final = ()
