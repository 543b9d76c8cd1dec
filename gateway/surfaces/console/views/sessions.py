"""Pieces of work: what agents do, with which bounds, and ending one."""

from __future__ import annotations

from typing import Final
from urllib.parse import urlencode

from starlette.responses import Response

from gateway.surfaces.admin import sessions as api
from gateway.surfaces.admin import v1
from gateway.surfaces.console.guards import Form
from gateway.surfaces.console.pages import Act, Asked, Data, Nav, Page, notice, plain
from gateway.surfaces.sessions import Noted

SIZE: Final = 40
DONE: Final = {
    "close": "Ended. No call goes on in it",
    "checkpoint": "Noted that it is on its way; its horizon begins anew",
    "declassify": "The labels are off",
}


async def listed(asked: Asked) -> Data:
    everything = asked.query("all") == "1"
    found = await api.sessions(
        asked.operator, asked.admin, agent=asked.query("agent") or None, open=None if everything else True,
        limit=SIZE, cursor=asked.query("cursor") or None,
    )  # fmt: skip
    filters = {"agent": asked.query("agent"), "all": "1" if everything else ""}
    kept = {name: value for name, value in filters.items() if value}
    following = urlencode({**kept, "cursor": found.cursor}) if found.cursor else ""
    return {**plain(found), "filters": filters, "next_query": following}


async def one(asked: Asked) -> Data:
    session = plain(await api.session(asked.operator, asked.admin, asked.at("id")))
    calls = await v1.decisions(asked.operator, asked.admin, session=asked.at("id"), limit=20)
    done = asked.query("done")
    return {
        "session": session,
        "calls": plain(calls)["items"],
        **({"notice": notice("", DONE[done])} if done in DONE else {}),
    }


async def close(asked: Asked, form: Form) -> Response:
    await api.close(asked.operator, asked.admin, asked.at("id"), Noted(note=form.get("note")))
    return asked.go(f"/sessions/{asked.at('id')}", done="close")


async def checkpoint(asked: Asked, form: Form) -> Response:
    await api.checkpoint(asked.operator, asked.admin, asked.at("id"), Noted(note=form.get("note")))
    return asked.go(f"/sessions/{asked.at('id')}", done="checkpoint")


async def declassify(asked: Asked, form: Form) -> Response:
    said = api.Declassify(note=form.get("note"), labels=form.many("label"))
    await api.declassify(asked.operator, asked.admin, asked.at("id"), said)
    return asked.go(f"/sessions/{asked.at('id')}", done="declassify")


SESSION: Final = Page(path="/sessions/{id}", view=one, template="session.html", title="Session")
PAGES: Final = (
    Page(
        path="/sessions", view=listed, template="sessions.html", title="Sessions",
        nav=Nav(title="Sessions", icon="thread", group="Watch", order=2),
    ),
    SESSION,
)  # fmt: skip
ACTS: Final = (
    Act(path="/sessions/{id}/close", run=close, back=SESSION),
    Act(path="/sessions/{id}/checkpoint", run=checkpoint, back=SESSION),
    Act(path="/sessions/{id}/declassify", run=declassify, back=SESSION),
)
