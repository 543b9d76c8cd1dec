"""What a page is: a path, a view that says what there is to see, and a template that shows it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final
from urllib.parse import urlencode

import msgspec
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from gateway.model import Operator
from gateway.surfaces.admin.deps import AdminDeps
from gateway.surfaces.console.deps import ConsoleDeps
from gateway.surfaces.console.guards import Form
from gateway.surfaces.console.signin import PATH, SignIn

Data = dict[str, Any]


class Asked(msgspec.Struct, kw_only=True):
    """One request of somebody who is signed in."""

    request: Request
    operator: Operator
    deps: ConsoleDeps
    sign_in: SignIn | None = None

    @property
    def admin(self) -> AdminDeps:
        return self.deps.admin

    def query(self, name: str, default: str = "") -> str:
        """A parameter of the query, without what nobody could have typed."""
        found = self.request.query_params.get(name, default)
        return found.strip()[:500] if found.isprintable() else default

    def at(self, name: str) -> str:
        """A part of the path."""
        found: str = self.request.path_params[name]
        return found

    def go(self, path: str, **query: str) -> Response:
        """Show another page, after something was done."""
        return RedirectResponse(f"{PATH}{path}" + (f"?{urlencode(query)}" if query else ""), 303)


View = Callable[[Asked], Awaitable[Data]]
Run = Callable[[Asked, Form], Awaitable[Response]]


class Nav(msgspec.Struct, frozen=True, kw_only=True):
    """Where a page stands in the menu."""

    title: str
    icon: str  # the id of a symbol in templates/icons.html
    group: str  # a heading of ``GROUPS``
    order: int


GROUPS: Final = ("Review", "Watch", "Rules")


class Page(msgspec.Struct, frozen=True, kw_only=True):
    """``view`` gives plain data, which is the ``.json`` twin as it is. ``part`` is the template of what is
    fetched again while the page is open, with the data of ``part_view`` where that is less."""

    path: str
    view: View
    template: str
    title: str
    nav: Nav | None = None
    part: str = ""
    part_view: View | None = None


class Act(msgspec.Struct, frozen=True, kw_only=True):
    """Something that is done with a form. Refused, it shows the page ``back`` as it is now, and says why."""

    path: str
    run: Run
    back: Page


def plain(model: Any) -> Any:
    """An answer of the admin API as data."""
    return model.model_dump(mode="json", by_alias=True)


def notice(code: str, title: str, detail: str = "", remedy: str = "") -> Mapping[str, str]:
    """Something to tell above a page; ``code`` is a reason code, "" for good news."""
    return {"code": code, "title": title, "detail": detail, "remedy": remedy}
