"""Break-glass: what is declared, and two people opening it."""

from __future__ import annotations

from typing import Final

from starlette.responses import Response

from gateway.surfaces.admin import envelopes as api
from gateway.surfaces.console.guards import Form
from gateway.surfaces.console.pages import Act, Asked, Data, Nav, Page, notice, plain

DONE: Final = {
    "ask": "Asked for. Nothing is open until another person agrees",
    "second": "Open, until it expires or is closed",
    "close": "Closed; what it let through and was not sent is for people again",
}


async def view(asked: Asked) -> Data:
    if asked.admin.envelopes is None:
        return {"envelopes": [], "openings": []}
    done = asked.query("done")
    return {
        "envelopes": plain(await api.envelopes(asked.operator, asked.admin))["items"],
        "openings": plain(await api.openings(asked.operator, asked.admin))["items"],
        **({"notice": notice("", DONE[done])} if done in DONE else {}),
    }


async def ask(asked: Asked, form: Form) -> Response:
    said = api.Ask.model_validate({name: form.get(name) for name in ("reason", "minutes")})
    await api.ask(asked.operator, asked.admin, asked.at("name"), said)
    return asked.go("/envelopes", done="ask")


async def second(asked: Asked, form: Form) -> Response:
    await api.second(asked.operator, asked.admin, asked.at("id"))
    return asked.go("/envelopes", done="second")


async def close(asked: Asked, form: Form) -> Response:
    await api.close(asked.operator, asked.admin, asked.at("id"))
    return asked.go("/envelopes", done="close")


ENVELOPES: Final = Page(
    path="/envelopes", view=view, template="envelopes.html", title="Break glass",
    nav=Nav(title="Break glass", icon="glass", group="Review", order=4),
)  # fmt: skip
PAGES: Final = (ENVELOPES,)
ACTS: Final = (
    Act(path="/envelopes/{name}/ask", run=ask, back=ENVELOPES),
    Act(path="/openings/{id}/second", run=second, back=ENVELOPES),
    Act(path="/openings/{id}/close", run=close, back=ENVELOPES),
)
