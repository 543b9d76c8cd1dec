"""How people review: whether they look, how long, and which rules ask for nothing."""

from __future__ import annotations

from typing import Final

from gateway.surfaces.admin import approvals as api
from gateway.surfaces.console.pages import Asked, Data, Nav, Page, plain


async def view(asked: Asked) -> Data:
    found = plain(await api.reviewers(asked.operator, asked.admin))
    return {**found, "everybody": asked.operator.role in ("operator", "policy-admin")}


PAGES: Final = (
    Page(
        path="/reviewers", view=view, template="reviewers.html", title="Reviewers",
        nav=Nav(title="Reviewers", icon="eye", group="Review", order=3),
    ),
)  # fmt: skip
ACTS: Final = ()
