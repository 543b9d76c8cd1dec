"""Tools: what the operator says of them, and definitions that changed since somebody accepted them."""

from __future__ import annotations

import asyncio
from typing import Final

from starlette.responses import Response

from gateway.errors import Refused
from gateway.surfaces.admin import models, v1
from gateway.surfaces.console.guards import Form
from gateway.surfaces.console.pages import Act, Asked, Data, Nav, Page, notice, plain

KINDS: Final = ("tool", "prompt", "resource")


async def listed(asked: Asked) -> Data:
    found = plain(
        await v1.tools(asked.operator, asked.admin, limit=500, cursor=asked.query("cursor") or None)
    )
    text, held = asked.query("q").casefold(), asked.query("held") == "1"
    items = [
        each
        for each in found["items"]
        if text in each["target"].casefold() and (each["quarantined"] or not held)
    ]
    return {
        "upstreams": plain(await v1.upstreams(asked.operator, asked.admin))["items"],
        "items": items,
        "filters": {"q": asked.query("q"), "held": "1" if held else ""},
        "quarantined": sum(1 for each in found["items"] if each["quarantined"]),
        "revision": found["revision"],
        "cursor": found["cursor"],
    }


async def one(asked: Asked) -> Data:
    kind = asked.query("kind", "tool")
    target = asked.request.query_params.get("target", "")[:2200]
    tool = next((each for each in asked.admin.tools() if (each.kind, each.target) == (kind, target)), None)
    pinned = await asyncio.to_thread(asked.deps.look.definition, kind, target)
    if tool is None and pinned is None:
        raise Refused("not_found", ascii(target)[:64])
    return {
        "target": target,
        "kind": kind,
        "tool": plain(v1.tool_view(tool)) if tool is not None else None,
        "pin": dict(pinned) if pinned is not None else None,
        "undo": tool.manifest.extra.get("undo") if tool is not None else None,
        **({"notice": notice("", "Accepted, and in force")} if asked.query("done") == "accept" else {}),
    }


async def accept(asked: Asked, form: Form) -> Response:
    said = models.AcceptTool.model_validate(
        {name: form.get(name) for name in ("upstream", "kind", "name", "hash")}
    )
    await v1.accept(asked.operator, asked.admin, said)
    kind = "resource" if said.kind == "template" else said.kind
    return asked.go("/tool", kind=kind, target=f"{said.upstream}/{said.name}", done="accept")


TOOL: Final = Page(path="/tool", view=one, template="tool.html", title="Tool")
TOOLS: Final = Page(
    path="/tools", view=listed, template="tools.html", title="Tools",
    nav=Nav(title="Tools", icon="wrench", group="Rules", order=1),
)  # fmt: skip
PAGES: Final = (TOOLS, TOOL)
ACTS: Final = (Act(path="/tools/accept", run=accept, back=TOOLS),)
