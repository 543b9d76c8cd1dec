"""Trust: what agents have earned, what is still missing, and signing or taking it back."""

from __future__ import annotations

from typing import Any, Final

from starlette.responses import Response

from gateway.surfaces.admin import trust as api
from gateway.surfaces.console.guards import Form
from gateway.surfaces.console.pages import Act, Asked, Data, Nav, Page, notice, plain

DONE: Final = {
    "promote": "Your signature counts",
    "vouch": "Vouched for",
    "demote": "Taken back, at once",
}
TIERS: Final = (
    "observe", "propose", "reversible writes", "supervised irreversible", "bounded autonomy",
)  # fmt: skip


async def listed(asked: Asked) -> Data:
    if asked.admin.trust() is None:
        return {"items": [], "kept": False, "tiers": list(TIERS)}
    found = plain(await api.trust(asked.operator, asked.admin))
    return {**found, "kept": True, "tiers": list(TIERS)}


async def one(asked: Asked) -> Data:
    agent, domain = asked.at("agent"), asked.at("domain")
    done = asked.query("done")
    return {
        "trust": plain(await api.show(asked.operator, asked.admin, agent, domain)),
        "tiers": list(TIERS),
        **({"notice": notice("", DONE[done])} if done in DONE else {}),
    }


async def promote(asked: Asked, form: Form) -> Response:
    said = api.Sign.model_validate({"tier": form.get("tier") or None, "renew": "renew" in form,
                                    "reason": form.get("reason")})  # fmt: skip
    await api.promote(asked.operator, asked.admin, asked.at("agent"), asked.at("domain"), said)
    return _back(asked, "promote")


async def vouch(asked: Asked, form: Form) -> Response:
    said = api.Vouch.model_validate(_said(form, "tier", "days", "reason"))
    await api.vouch(asked.operator, asked.admin, asked.at("agent"), asked.at("domain"), said)
    return _back(asked, "vouch")


async def demote(asked: Asked, form: Form) -> Response:
    said = api.Demote.model_validate(_said(form, "tier", "reason"))
    await api.demote(asked.operator, asked.admin, asked.at("agent"), asked.at("domain"), said)
    return _back(asked, "demote")


async def report(asked: Asked, form: Form) -> Response:
    said = api.Report.model_validate(_said(form, "call", "kind", "reason"))
    became = await api.report(asked.operator, asked.admin, said)
    return asked.go(f"/trust/{became.agent}/{became.domain}")


def _said(form: Form, *names: str) -> dict[str, Any]:
    return {name: form.get(name) for name in names}


def _back(asked: Asked, done: str) -> Response:
    return asked.go(f"/trust/{asked.at('agent')}/{asked.at('domain')}", done=done)


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
