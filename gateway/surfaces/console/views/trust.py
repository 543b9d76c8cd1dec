"""Trust: where agents stand in each domain and why, with the bound over time, and what people sign."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import log10
from typing import Any, Final

from starlette.responses import Response

from gateway.surfaces.admin import trust as api
from gateway.surfaces.console.guards import Form
from gateway.surfaces.console.pages import Act, Asked, Data, Nav, Page, notice, plain

DONE: Final = {
    "signed": "Signed; it takes one more",
    "promoted": "Signed, and in force",
    "vouched": "Vouched for",
    "demoted": "Taken back, at once",
}
TIERS: Final = (
    "observe", "propose", "reversible writes", "supervised irreversible", "bounded autonomy",
)  # fmt: skip
WIDTH: Final = 600
HEIGHT: Final = 120
NINES: Final = 3.0  # the top of the chart is a bound of .999


async def listed(asked: Asked) -> Data:
    return {**plain(await api.trust(asked.operator, asked.admin)), "tiers": list(TIERS)}


async def one(asked: Asked) -> Data:
    agent, domain, done = asked.at("agent"), asked.at("domain"), asked.query("done")
    found = plain(await api.show(asked.operator, asked.admin, agent, domain))
    past: Data = {"events": [], "curve": []}
    if found["events"] or any(found["evidence"].values()):
        past = plain(await api.history(asked.operator, asked.admin, agent, domain))
    return {
        "trust": found,
        "tiers": list(TIERS),
        "events": past["events"][::-1],
        "chart": chart(past["curve"], past["events"]),
        **({"notice": notice("", DONE[done])} if done in DONE else {}),
    }


async def promote(asked: Asked, form: Form) -> Response:
    said = api.Sign.model_validate({"tier": form.get("tier") or None, "renew": "renew" in form,
                                    "reason": form.get("reason")})  # fmt: skip
    found = await api.promote(asked.operator, asked.admin, asked.at("agent"), asked.at("domain"), said)
    return _back(asked, "signed" if found.missing else "promoted")


async def vouch(asked: Asked, form: Form) -> Response:
    said = api.Vouch.model_validate(_said(form, "tier", "days", "reason"))
    await api.vouch(asked.operator, asked.admin, asked.at("agent"), asked.at("domain"), said)
    return _back(asked, "vouched")


async def demote(asked: Asked, form: Form) -> Response:
    said = api.Demote.model_validate(_said(form, "tier", "reason"))
    await api.demote(asked.operator, asked.admin, asked.at("agent"), asked.at("domain"), said)
    return _back(asked, "demoted")


async def report(asked: Asked, form: Form) -> Response:
    said = api.Report.model_validate(_said(form, "call", "kind", "reason"))
    became = await api.report(asked.operator, asked.admin, said)
    return asked.go(f"/trust/{became.agent}/{became.domain}")


def _said(form: Form, *names: str) -> dict[str, Any]:
    return {name: form.get(name) for name in names}


def _back(asked: Asked, done: str) -> Response:
    return asked.go(f"/trust/{asked.at('agent')}/{asked.at('domain')}", done=done)


def chart(curve: Sequence[Mapping[str, Any]], events: Sequence[Mapping[str, Any]]) -> Data | None:
    """Coordinates of the bound over time, on a scale of nines: .9, .99 and .999 are as far apart."""
    if len(curve) < 2:
        return None
    first, last = curve[0]["at_ns"], curve[-1]["at_ns"]

    def across(at_ns: int) -> float:
        share = float(at_ns - first) / float(last - first)
        return round(WIDTH * min(1.0, max(0.0, share)), 1)

    return {
        "line": " ".join(f"{across(each['at_ns'])},{_up(each['bound'])}" for each in curve),
        "marks": [
            {"x": across(each["at_ns"]), "kind": each["kind"], "tier": each["after"]}
            for each in events
            if each["kind"] != "signed"
        ],
        "grid": [{"y": _up(bound), "bound": f"{bound:g}"[1:]} for bound in (0.9, 0.98, 0.99, 0.995)],
        "first_ns": first,
        "last_ns": last,
    }


def _up(bound: float) -> float:
    nines = -log10(max(1e-9, 1.0 - bound))
    return round(HEIGHT * (1.0 - min(1.0, nines / NINES)), 1)


TRUST: Final = Page(
    path="/trust", view=listed, template="trust.html", title="Trust",
    nav=Nav(title="Trust", icon="scale", group="Watch", order=4),
)  # fmt: skip
ONE: Final = Page(
    path="/trust/{agent}/{domain}", view=one, template="trust_one.html", title="Trust of an agent"
)
PAGES: Final = (TRUST, ONE)
ACTS: Final = (
    Act(path="/trust/{agent}/{domain}/promote", run=promote, back=ONE),
    Act(path="/trust/{agent}/{domain}/vouch", run=vouch, back=ONE),
    Act(path="/trust/{agent}/{domain}/demote", run=demote, back=ONE),
    Act(path="/trust/report", run=report, back=TRUST),
)
