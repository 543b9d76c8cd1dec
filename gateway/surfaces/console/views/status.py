"""What is in force, and how the parts do."""

from __future__ import annotations

from typing import Final

from gateway.surfaces.admin import v1
from gateway.surfaces.console.pages import Asked, Data, Nav, Page, plain


async def view(asked: Asked) -> Data:
    return {"status": plain(await v1.status(asked.operator, asked.admin))}


PAGES: Final = (
    Page(
        path="/status", view=view, template="status.html", title="Status",
        nav=Nav(title="Status", icon="pulse", group="Rules", order=3),
    ),
)  # fmt: skip
ACTS: Final = ()
