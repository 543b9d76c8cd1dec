"""Signing in at an identity provider: the way there and the way back.

What must be the same on both ways (state, nonce, PKCE verifier) is sealed in a cookie of ten minutes that is
as strict as the others. It does not come with the redirect from the provider, so the first answer to that is
a page of ours that asks again.
"""

from __future__ import annotations

import hmac
import logging
import secrets
from collections.abc import Callable
from typing import Final

import msgspec
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from gateway.errors import Refused, Unauthenticated
from gateway.surfaces.console import guards, signin
from gateway.surfaces.console.deps import ConsoleDeps, People
from gateway.surfaces.console.signin import PATH, Seal, SignIn

logger = logging.getLogger("wardgate.console")

COOKIE: Final = "wardgate_oidc"
LIFE_S: Final = 600
_USE: Final = b"oidc"


class Started(msgspec.Struct, frozen=True):
    """A sign-in that has begun in one browser."""

    state: str
    nonce: str
    verifier: str
    following: str
    until_ns: int


_decode: Final = msgspec.json.Decoder(Started).decode


class ProviderRoutes:
    """``signed`` lets somebody in, ``refused`` shows the sign-in page, ``arriving`` one that asks again."""

    def __init__(
        self,
        deps: ConsoleDeps,
        seal: Seal,
        signed: Callable[[Request, SignIn, str], Response],
        refused: Callable[[str, Unauthenticated], Response],
        arriving: Callable[[str], Response],
    ) -> None:
        self.deps = deps
        self.seal = seal
        self._signed = signed
        self._refused = refused
        self._arriving = arriving

    async def start(self, request: Request) -> Response:
        people = self._people()
        following = signin.inside(request.query_params.get("next"))
        state, nonce = secrets.token_urlsafe(24), secrets.token_urlsafe(24)
        until = self.deps.now_ns() + LIFE_S * 1_000_000_000
        started = Started(state, nonce, secrets.token_urlsafe(48), following, until)
        try:
            where = await people.begin(self._redirect(), state, nonce, started.verifier)
        except Unauthenticated as unknown:
            return self._no(unknown, following)
        response = RedirectResponse(where, 303)
        response.set_cookie(
            COOKIE, self.seal.close(msgspec.json.encode(started), _USE), max_age=LIFE_S, path=f"{PATH}/oidc",
            secure=guards.is_https(request, self.deps.terms().url), httponly=True, samesite="strict",
        )  # fmt: skip
        return response

    async def callback(self, request: Request) -> Response:
        people = self._people()
        text = request.cookies.get(COOKIE)
        if text is None and request.headers.get("sec-fetch-site") == "cross-site":
            return self._arriving(f"{request.url.path}?{request.url.query}")
        started = self._started(text)
        following = started.following if started is not None else ""
        said = request.query_params
        try:
            state = said.get("state", "").encode()
            # Somebody else's code, put into this browser by a link, would make its owner work as them.
            if started is None or not hmac.compare_digest(started.state.encode(), state):
                raise Unauthenticated("bad_credential", "the way back is not that of a sign-in begun here")
            if "error" in said:
                raise Unauthenticated("bad_credential", f"the provider says {said['error'][:80]!r}")
            person = await people.finish(
                self._redirect(), said.get("code", ""), started.nonce, started.verifier
            )
            found = signin.begin(
                person.credential, self.deps.now_ns(), person=person.name, tenant=person.tenant
            )
            response = self._signed(request, found, following)
        except Unauthenticated as unknown:
            response = self._no(unknown, following)
        response.delete_cookie(COOKIE, path=f"{PATH}/oidc", httponly=True, samesite="strict")
        return response

    def _no(self, unknown: Unauthenticated, following: str) -> Response:
        logger.warning("not signed in at the provider: %s", unknown.detail)
        self.deps.admin.refused(unknown.code, "admin")
        return self._refused(following, unknown)

    def _people(self) -> People:
        people = self.deps.people()
        if people is None:
            raise Refused("not_found")
        return people

    def _redirect(self) -> str:
        """The way back is configured: made of a request's Host it could lead to whoever set that."""
        return f"{self.deps.terms().url}/oidc/callback"

    def _started(self, text: str | None) -> Started | None:
        raw = self.seal.open(text, _USE) if text else None
        if raw is None:
            return None
        try:
            found = _decode(raw)
        except msgspec.MsgspecError:
            return None
        return found if self.deps.now_ns() < found.until_ns else None
