"""Standing permissions, and ending them."""

from __future__ import annotations

from typing import Final

from starlette.responses import Response

from gateway.surfaces.admin import approvals as api
from gateway.surfaces.console.guards import Form
from gateway.surfaces.console.pages import Act, Asked, Data, Nav, Page, notice, plain


async def view(asked: Asked) -> Data:
    items = plain(await api.granted(asked.operator, asked.admin))["items"]
    now = asked.deps.now_ns()
    for each in items:
        each["in_force"] = not each["revoked"] and each["uses"] < each["max_uses"] and _after(each, now)
    done = {"notice": notice("", "Revoked; the next call is held again")} if asked.query("done") else {}
    return {"items": items, **done}


def _after(each: Data, now_ns: int) -> bool:
    from datetime import datetime

    return datetime.fromisoformat(each["expires"]).timestamp() * 1e9 > now_ns


async def revoke(asked: Asked, form: Form) -> Response:
    await api.revoke(asked.operator, asked.admin, asked.at("id"))
    return asked.go("/grants", done="revoke")


GRANTS: Final = Page(
    path="/grants", view=view, template="grants.html", title="Grants",
    nav=Nav(title="Grants", icon="key", group="Review", order=2),
)  # fmt: skip
PAGES: Final = (GRANTS,)
ACTS: Final = (Act(path="/grants/{id}/revoke", run=revoke, back=GRANTS),)
