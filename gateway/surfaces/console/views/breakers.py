"""Breakers: what is stopped and why, and whether that was right."""

from __future__ import annotations

from typing import Final

from starlette.responses import Response

from gateway.surfaces.admin import breakers as api
from gateway.surfaces.console.guards import Form
from gateway.surfaces.console.pages import Act, Asked, Data, Nav, Page, notice, plain

DONE: Final = {
    "trip": "Open, until somebody resets it",
    "reset": "Closed",
    "label": "Noted, and the detector learns of it",
}


async def listed(asked: Asked) -> Data:
    done = asked.query("done")
    return {
        "breakers": plain(await api.breakers(asked.operator, asked.admin))["items"],
        "trips": plain(await api.trips(asked.operator, asked.admin, asked.query("agent") or None, 50))[
            "items"
        ],
        "filters": {"agent": asked.query("agent")},
        **({"notice": notice("", DONE[done])} if done in DONE else {}),
    }


async def one(asked: Asked) -> Data:
    done = asked.query("done")
    return {
        "trip": plain(await api.trip(asked.operator, asked.admin, asked.at("id"))),
        **({"notice": notice("", DONE[done])} if done in DONE else {}),
    }


async def label(asked: Asked, form: Form) -> Response:
    said = api.LabelTrip.model_validate({"label": form.get("label")})
    await api.label(asked.operator, asked.admin, asked.at("id"), said)
    return asked.go(f"/trips/{asked.at('id')}", done="label")


async def trip(asked: Asked, form: Form) -> Response:
    await api.force(asked.operator, asked.admin, _which(form))
    return asked.go("/breakers", done="trip")


async def reset(asked: Asked, form: Form) -> Response:
    await api.reset(asked.operator, asked.admin, _which(form))
    return asked.go("/breakers", done="reset")


def _which(form: Form) -> api.WhichBreaker:
    return api.WhichBreaker.model_validate(
        {name: form.get(name) for name in ("scope", "name", "part", "reason")}
    )


BREAKERS: Final = Page(
    path="/breakers", view=listed, template="breakers.html", part="breakers_list.html", title="Breakers",
    nav=Nav(title="Breakers", icon="bolt", group="Watch", order=5),
)  # fmt: skip
TRIP: Final = Page(path="/trips/{id}", view=one, template="trip.html", title="Trip of a breaker")
PAGES: Final = (BREAKERS, TRIP)
ACTS: Final = (
    Act(path="/trips/{id}/label", run=label, back=TRIP),
    Act(path="/breakers/trip", run=trip, back=BREAKERS),
    Act(path="/breakers/reset", run=reset, back=BREAKERS),
)
