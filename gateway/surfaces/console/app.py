"""The console as an ASGI app: who is signed in, which page, and how a refusal is shown."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from functools import cached_property, partial
from typing import Any, Final
from urllib.parse import urlencode

import msgspec
from jinja2 import Environment
from pydantic import ValidationError
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import ASGIApp

from gateway.errors import Refused, Unauthenticated, WardgateError
from gateway.model import Operator
from gateway.reasons import REASONS
from gateway.surfaces.console import files, guards, render, signin
from gateway.surfaces.console.deps import ConsoleDeps
from gateway.surfaces.console.live import Live
from gateway.surfaces.console.oidc import ProviderRoutes
from gateway.surfaces.console.pages import GROUPS, Act, Asked, Data, Page, notice
from gateway.surfaces.console.signin import PATH, Seal, SignIn, SignInCookies, inside
from gateway.surfaces.console.views import ACTS, PAGES
from gateway.surfaces.problems import problem, status_of

logger = logging.getLogger("wardgate.console")

_FOREVER: Final = {"cache-control": "public, max-age=31536000, immutable"}
_HOME: Final = "/queue"


def create_console(deps: ConsoleDeps) -> ASGIApp:
    """The app to be mounted at ``/console``."""
    return guards.Headers(_Console(deps).app())


class _Console:
    def __init__(self, deps: ConsoleDeps) -> None:
        self.deps = deps
        self.cookies = SignInCookies(Seal(deps.key))
        self.static = files.load()
        self.by_url = {each.url: each for each in self.static.values()}
        self.live = Live(deps.look)
        self.provider = ProviderRoutes(deps, Seal(deps.key), self.signed, self.login_page, self.arriving)
        pages = [page for page in PAGES if page.nav is not None]
        self.menu = [
            (group, sorted((each for each in pages if each.nav and each.nav.group == group), key=_order))
            for group in GROUPS
        ]

    @cached_property
    def templates(self) -> Environment:
        return render.environment(self.static)

    def app(self) -> Starlette:
        routes = [
            Route("/", self.home),
            Route("/login", self.show_login, methods=["GET"]),
            Route("/login", self.login, methods=["POST"]),
            Route("/logout", self.logout, methods=["POST"]),
            Route("/oidc/start", self.provider.start),
            Route("/oidc/callback", self.provider.callback),
            Route("/events", self.events),
            Route("/static/{name}", self.file),
        ]
        for page in PAGES:
            routes.append(Route(f"{page.path}.json", partial(self.twin, page)))
            routes.append(Route(page.path, partial(self.page, page)))
        routes += [Route(act.path, partial(self.act, act), methods=["POST"]) for act in ACTS]
        handlers: Mapping[Any, Callable[..., Any]] = {
            WardgateError: self.failed,
            HTTPException: self.no_page,
            Exception: self.broken,
        }
        app = Starlette(routes=routes, exception_handlers=handlers)
        app.router.redirect_slashes = False
        return app

    # -- who

    async def asked(self, request: Request) -> Asked:
        """Who asks; raises ``Unauthenticated``. Their credential is looked up as it is now."""
        header = request.headers.get("authorization")
        if header is not None and request.method == "GET":
            operator = self.deps.admin.authenticate(header.encode("latin-1"))
            return Asked(request=request, operator=operator, deps=self.deps)
        found = self.signed_in(request)
        if found is None:
            raise Unauthenticated("no_credential")
        operator = await self.behind(found)
        return Asked(request=request, operator=operator, deps=self.deps, sign_in=found)

    def signed_in(self, request: Request) -> SignIn | None:
        terms = self.deps.terms()
        return self.cookies.read(request, now_ns=self.deps.now_ns(), life_s=terms.life_s, idle_s=terms.idle_s)

    async def behind(self, found: SignIn) -> Operator:
        operator = self.deps.holder(found)
        # A cookie that was copied before its owner signed out is still sealed by us.
        if await asyncio.to_thread(self.deps.sign_ins.ended, found.id):
            raise Unauthenticated("revoked_credential", "signed out")
        return operator

    def keep(self, asked: Asked, response: Response) -> Response:
        """Stay signed in while somebody works: what an open page asks by itself is no sign of anybody."""
        if asked.sign_in is not None and not asked.request.headers.get("hx-request"):
            later = self.cookies.renewed(asked.sign_in, self.deps.now_ns())
            if later is not None:
                self.set_cookie(asked.request, response, later)
        return response

    def set_cookie(self, request: Request, response: Response, found: SignIn) -> None:
        terms = self.deps.terms()
        secure = guards.is_https(request, terms.url)
        self.cookies.write(response, found, secure=secure, life_s=terms.life_s)

    # -- signing in and out

    async def home(self, request: Request) -> Response:
        return RedirectResponse(f"{PATH}{_HOME}", 303)

    async def show_login(self, request: Request) -> Response:
        if self.signed_in(request) is not None:
            try:
                await self.asked(request)
                return RedirectResponse(inside(request.query_params.get("next")), 303)
            except Unauthenticated:
                pass
        return self.login_page(request.query_params.get("next", ""))

    def login_page(self, following: str, refused: WardgateError | None = None) -> Response:
        said = notice(refused.code, refused.reason.title, refused.reason.message) if refused else None
        people = self.deps.people()
        text = self.templates.get_template("login.html").render(
            following=inside(following), notice=said, version=self.deps.admin.version,
            provider=people.title if people is not None else None,
        )  # fmt: skip
        return HTMLResponse(text, 401 if refused else 200)

    async def login(self, request: Request) -> Response:
        guards.same_origin(request)
        said = await guards.form(request)
        key = said.get("key").strip()
        try:
            # What is not one line of ASCII is no key, and must not become a header.
            if not key.isascii() or not key.isprintable():
                raise Unauthenticated("bad_credential")
            operator = self.deps.admin.authenticate(f"Bearer {key}".encode("ascii"))
        except Unauthenticated as unknown:
            self.deps.admin.refused(unknown.code, "admin")
            return self.login_page(said.get("next"), unknown)
        return self.signed(request, signin.begin(operator.credential, self.deps.now_ns()), said.get("next"))

    def signed(self, request: Request, found: SignIn, following: str) -> Response:
        """Let somebody in; raises ``Unauthenticated`` for whoever has no rights here."""
        operator = self.deps.holder(found)
        logger.info("signed in", extra={"operator": operator.name})
        response = RedirectResponse(inside(following), 303)
        self.set_cookie(request, response, found)
        return response

    async def logout(self, request: Request) -> Response:
        guards.same_origin(request)
        found = self.signed_in(request)
        if found is not None:
            now_ns = self.deps.now_ns()
            until_ns = found.began_ns + int(self.deps.terms().life_s * 1e9)
            await asyncio.to_thread(self.deps.sign_ins.end, found.id, until_ns, now_ns)
        response = RedirectResponse(f"{PATH}/login", 303)
        self.cookies.forget(response)
        return response

    # -- pages

    async def page(self, page: Page, request: Request) -> Response:
        try:
            asked = await self.asked(request)
        except Unauthenticated as unknown:
            return self.stranger(request, unknown)
        if page.part and request.headers.get("hx-request"):
            data = await (page.part_view or page.view)(asked)
            text = self.templates.get_template(page.part).render(**data, me=_me(asked.operator))
            return self.keep(asked, HTMLResponse(text))
        return self.keep(asked, await self.show(page, asked))

    async def show(
        self, page: Page, asked: Asked, said: Mapping[str, str] | None = None, status: int = 200
    ) -> Response:
        mark, waiting = await self.live.pulse(asked.operator.tenant)
        data = await page.view(asked)
        text = self.templates.get_template(page.template).render(
            **{"notice": None, **data, **({"notice": said} if said else {})},
            page=page, me=_me(asked.operator), menu=self.menu, waiting=waiting, live=mark,
            version=self.deps.admin.version, here=asked.request.url.path,
            twin=f"{asked.request.url.path}.json"
            + (f"?{asked.request.url.query}" if asked.request.url.query else ""),
        )  # fmt: skip
        return HTMLResponse(text, status)

    async def twin(self, page: Page, request: Request) -> Response:
        asked = await self.asked(request)
        return Response(msgspec.json.encode(await page.view(asked)), media_type="application/json")

    async def act(self, act: Act, request: Request) -> Response:
        guards.same_origin(request)
        try:
            asked = await self.asked(request)
        except Unauthenticated as unknown:
            return self.stranger(request, unknown)
        try:
            return self.keep(asked, await act.run(asked, await guards.form(request)))
        except ValidationError as invalid:
            first = invalid.errors()[0]
            where = ".".join(str(part) for part in first["loc"])
            refused: WardgateError = Refused("invalid_request", f"{where}: {first['msg']}")
        except Unauthenticated:
            raise
        except WardgateError as error:
            refused = error
        # What is there now, whoever was faster and whatever was changed: nothing was done.
        logger.info("refused: %s", refused.code, extra={"operator": asked.operator.name})
        reason = REASONS[refused.code]
        shown = notice(
            refused.code, reason.title, f"{reason.message} {refused.detail}".strip(), reason.remedy
        )
        return await self.show(act.back, asked, shown, status_of(refused))

    def stranger(self, request: Request, unknown: Unauthenticated) -> Response:
        """Nobody is signed in: the way there, and back to what was asked for."""
        if request.headers.get("hx-request"):
            return Response(status_code=401, headers={"hx-refresh": "true"})
        path = request.url.path if request.method == "GET" else f"{PATH}{_HOME}"
        wanted = path + (f"?{request.url.query}" if request.url.query and request.method == "GET" else "")
        # A strict cookie is not sent with a link from a chat or a mail. A page of ours asks again, with it.
        if request.headers.get("sec-fetch-site") == "cross-site" and request.method == "GET":
            return self.arriving(wanted)
        return RedirectResponse(f"{PATH}/login?{urlencode({'next': wanted})}", 303)

    def arriving(self, wanted: str) -> Response:
        return HTMLResponse(self.templates.get_template("arrive.html").render(wanted=wanted))

    async def events(self, request: Request) -> Response:
        asked = await self.asked(request)
        if self.live.full:
            raise Refused("overloaded", "pages that listen")

        async def still() -> bool:
            try:
                again = await self.asked(request)
            except WardgateError:
                return False
            return again.operator == asked.operator

        since = request.headers.get("last-event-id") or request.query_params.get("since", "")
        return StreamingResponse(
            self.live.stream(asked.operator.tenant, since, still),
            media_type="text/event-stream",
            headers={"x-accel-buffering": "no"},  # a proxy that collects it would make it late
        )

    async def file(self, request: Request) -> Response:
        found = self.by_url.get(request.url.path)
        if found is None:
            raise Refused("not_found")
        return Response(found.content, media_type=found.kind, headers=_FOREVER)

    # -- refusals

    async def failed(self, request: Request, error: WardgateError) -> Response:
        if request.url.path.endswith(".json") or request.url.path == f"{PATH}/events":
            return problem(error)
        return self.refusal(error.code, status_of(error))

    async def no_page(self, request: Request, error: HTTPException) -> Response:
        if error.status_code == 404:
            return await self.failed(request, Refused("not_found"))
        return Response(status_code=error.status_code, headers=error.headers)

    async def broken(self, request: Request, error: Exception) -> Response:
        logger.exception("a page failed")
        return self.refusal("gateway_error", 500)

    def refusal(self, code: str, status: int) -> Response:
        reason = REASONS[code]
        said = notice(code, reason.title, reason.message, reason.remedy)
        text = self.templates.get_template("refused.html").render(
            notice=said, version=self.deps.admin.version
        )
        return HTMLResponse(text, status)


def _me(operator: Operator) -> Data:
    return {
        "name": operator.name,
        "role": operator.role,
        "tenant": operator.tenant,
        "votes": operator.role in ("approver", "operator"),
        "operates": operator.role == "operator",
    }


def _order(page: Page) -> int:
    return page.nav.order if page.nav is not None else 0
