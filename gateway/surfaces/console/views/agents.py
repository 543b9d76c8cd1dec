"""Agents: whose they are, and what they have been doing."""

from __future__ import annotations

from typing import Final

from gateway.approvals.lookup import Narrow
from gateway.errors import Refused
from gateway.surfaces.admin import breakers as stops
from gateway.surfaces.admin import models_approvals as held
from gateway.surfaces.admin import sessions as work
from gateway.surfaces.admin import v1
from gateway.surfaces.console.pages import Asked, Data, Nav, Page, plain


async def listed(asked: Asked) -> Data:
    stopped = plain(await stops.breakers(asked.operator, asked.admin))["items"]
    killed = plain(await stops.kills(asked.operator, asked.admin))["items"]
    items = []
    for each in asked.deps.look.agents(asked.operator.tenant):
        name = each["name"]
        items.append({
            **each,
            "breakers": [one for one in stopped if one["scope"] == "agent" and one["name"] == name],
            "killed": any(one["scope"] == "agent" and one["name"] == name for one in killed),
        })  # fmt: skip
    return {"items": items}


async def one(asked: Asked) -> Data:
    name = asked.at("name")
    found = next(
        (each for each in asked.deps.look.agents(asked.operator.tenant) if each["name"] == name), None
    )
    if found is None:
        raise Refused("not_found", name[:64])
    narrow = Narrow(states=("pending",), agent=name)
    waiting = await asked.deps.look.page(asked.operator, narrow, newest=False, limit=10, after="")
    calls = await v1.decisions(asked.operator, asked.admin, agent=name, limit=20)
    sessions = await work.sessions(asked.operator, asked.admin, agent=name, limit=10)
    trips = await stops.trips(asked.operator, asked.admin, agent=name, limit=10)
    stopped = plain(await stops.breakers(asked.operator, asked.admin))["items"]
    return {
        "agent": dict(found),
        "held": [plain(held.Approval.model_validate(each)) for each in waiting["items"]],
        "calls": plain(calls)["items"],
        "sessions": plain(sessions)["items"],
        "trips": plain(trips)["items"],
        "breakers": [each for each in stopped if each["scope"] == "agent" and each["name"] == name],
    }


PAGES: Final = (
    Page(
        path="/agents", view=listed, template="agents.html", title="Agents",
        nav=Nav(title="Agents", icon="agent", group="Watch", order=3),
    ),
    Page(path="/agents/{name}", view=one, template="agent.html", title="Agent"),
)  # fmt: skip
ACTS: Final = ()
