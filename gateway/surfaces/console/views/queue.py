"""The queue: what waits, live, with filters; and deciding several at once."""

from __future__ import annotations

from typing import Any, Final, get_args
from urllib.parse import urlencode

from starlette.responses import Response

from gateway.approvals.lookup import Narrow
from gateway.reasons import REASONS
from gateway.surfaces.admin import approvals as api
from gateway.surfaces.admin import models_approvals as models
from gateway.surfaces.console.guards import Form
from gateway.surfaces.console.pages import Act, Asked, Data, Nav, Page, notice, plain

SIZE: Final = 50
STATES: Final[tuple[str, ...]] = get_args(api.Waiting)
RISKS: Final = ("read", "reversible", "compensable", "irreversible")


async def view(asked: Asked) -> Data:
    state = asked.query("state", "pending")
    risk = asked.query("risk")
    narrow = Narrow(
        states=(state,) if state in STATES else (),
        text=asked.query("q"),
        agent=asked.query("agent"),
        target=asked.query("tool"),
        risk=risk if risk in RISKS else "",
        session=asked.query("session"),
    )
    newest = asked.query("order") == "newest"
    found = await asked.deps.look.page(
        asked.operator, narrow, newest=newest, limit=SIZE, after=asked.query("cursor")
    )
    items = [
        {**plain(models.Approval.model_validate(each)), **{name: each[name] for name in _MORE}}
        for each in found["items"]
    ]
    filters = {
        "state": state if state in (*STATES, "any") else "pending", "q": narrow.text, "agent": narrow.agent,
        "tool": narrow.target, "risk": narrow.risk, "session": narrow.session,
        "order": "newest" if newest else "",
    }  # fmt: skip
    kept = {name: value for name, value in filters.items() if value}
    return {
        "items": items,
        "total": sum(found["counts"].values()),
        "filters": filters,
        "filtered": bool(kept.keys() - {"state", "order"}),
        "cursor": found["cursor"],
        "here_query": urlencode(kept | ({"cursor": asked.query("cursor")} if asked.query("cursor") else {})),
        "next_query": urlencode({**kept, "cursor": found["cursor"]}) if found["cursor"] else "",
        "results": [],
        **_done(asked),
    }


_MORE: Final = ("reason", "waiting_for", "may_decide", "own_call", "arguments")


def _done(asked: Asked) -> Data:
    number = asked.query("rejected") or asked.query("approved")
    if not number.isdecimal() or len(number) > 3:
        return {}
    what = "rejected" if asked.query("rejected") else "approved"
    return {"notice": notice("", f"{number} {'call' if number == '1' else 'calls'} {what}")}


async def bulk(asked: Asked, form: Form) -> Response:
    """The same as ``POST /v1/approvals/bulk``; what was refused is shown with what it is now."""
    decision: Any = "approve" if form.get("decision") == "approve" else "reject"
    said = models.Bulk.model_validate({
        "decision": decision,
        "items": [_item(each) for each in form.many("item")],
        **({"reason_code": form.get("reason_code")} if form.get("reason_code") else {}),
        "reason": form.get("reason"),
    })  # fmt: skip
    answer = await api.bulk(asked.operator, asked.admin, said)
    done = [each for each in answer.items if each.code is None]
    left = [each for each in answer.items if each.code is not None]
    if left:
        refused = ",".join(f"{each.id}:{each.code}:{each.state or ''}" for each in left)
        return asked.go("/queue/result", done=str(len(done)), what=decision, left=refused)
    return asked.go("/queue", **{"approved" if decision == "approve" else "rejected": str(len(done))})


def _item(text: str) -> Data:
    approval_id, _, rest = text.partition(":")
    version, _, digest = rest.partition(":")
    return {"id": approval_id, "version": version, "digest": digest}


async def result(asked: Asked) -> Data:
    """What became of each of several, when not all went through."""
    said = asked.request.query_params.get("left", "")[:4000]
    left = [each.split(":") for each in said.split(",")]
    return {
        "done": int(asked.query("done")) if asked.query("done").isdecimal() else 0,
        "what": "approved" if asked.query("what") == "approve" else "rejected",
        "left": [
            {"id": each[0], "code": each[1], "state": each[2]}
            for each in left
            if len(each) == 3 and each[1] in REASONS
        ],
    }


QUEUE: Final = Page(
    path="/queue", view=view, template="queue.html", part="queue_list.html", title="Queue",
    nav=Nav(title="Queue", icon="inbox", group="Review", order=1),
)  # fmt: skip
PAGES: Final = (
    QUEUE,
    Page(path="/queue/result", view=result, template="queue_result.html", title="Decided together"),
)
ACTS: Final = (Act(path="/queue/bulk", run=bulk, back=QUEUE),)
