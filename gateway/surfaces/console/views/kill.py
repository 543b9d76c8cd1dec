"""The kill switch."""

from __future__ import annotations

from typing import Final, get_args

from starlette.responses import Response

from gateway.errors import Refused
from gateway.surfaces.admin import breakers as api
from gateway.surfaces.console.guards import Form
from gateway.surfaces.console.pages import Act, Asked, Data, Nav, Page, notice, plain

DONE: Final = {"kill": "Stopped; no call of it goes out any more", "lift": "Let go"}


async def view(asked: Asked) -> Data:
    done = asked.query("done")
    return {
        "kills": plain(await api.kills(asked.operator, asked.admin))["items"],
        "scopes": list(get_args(api.KillName)),
        "wanted": {"scope": asked.query("scope", "agent"), "name": asked.query("name")},
        **({"notice": notice("", DONE[done])} if done in DONE else {}),
    }


async def kill(asked: Asked, form: Form) -> Response:
    # What stops everything is not done by a slip: it has to be said twice.
    if form.get("scope") in ("tenant", "all") and form.get("sure") != "stop":
        raise Refused("invalid_request", "type 'stop' to stop a whole tenant or everything")
    said = api.KillWanted.model_validate({name: form.get(name) for name in ("scope", "name", "reason")})
    await api.kill(asked.operator, asked.admin, said)
    return asked.go("/kill", done="kill")


async def lift(asked: Asked, form: Form) -> Response:
    said = api.LiftWanted.model_validate({"reason": form.get("reason")})
    await api.lift(asked.operator, asked.admin, asked.at("id"), said)
    return asked.go("/kill", done="lift")


KILL: Final = Page(
    path="/kill", view=view, template="kill.html", title="Kill switch",
    nav=Nav(title="Kill switch", icon="stop", group="Watch", order=6),
)  # fmt: skip
PAGES: Final = (KILL,)
ACTS: Final = (
    Act(path="/kill", run=kill, back=KILL),
    Act(path="/kill/{id}/lift", run=lift, back=KILL),
)
