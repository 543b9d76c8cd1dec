"""Policies: what decides, what is tried beside it, and the text of each rule."""

from __future__ import annotations

from typing import Final

from gateway.errors import Refused
from gateway.surfaces.admin import v1
from gateway.surfaces.console.pages import Asked, Data, Nav, Page, plain


async def listed(asked: Asked) -> Data:
    return {
        "rollout": plain(await v1.shadow(asked.operator, asked.admin)),
        "modules": [dict(each) for each in asked.deps.look.modules()],
    }


async def one(asked: Asked) -> Data:
    found = asked.deps.look.module(asked.query("id"))
    if found is None:
        raise Refused("not_found", asked.query("id")[:64])
    line = asked.query("line")
    return {"module": dict(found), "line": int(line) if line.isdecimal() and len(line) < 7 else 0}


PAGES: Final = (
    Page(
        path="/policies", view=listed, template="policies.html", title="Policies",
        nav=Nav(title="Policies", icon="book", group="Rules", order=2),
    ),
    Page(path="/policy", view=one, template="policy.html", title="Policy"),
)  # fmt: skip
ACTS: Final = ()
