"""Operators who sign in at an identity provider: OpenID Connect, authorization code with PKCE.

    browser → begin: where to go → provider → code → finish: code for ID token → checked → an operator's name

The provider says who somebody is and nothing else: what they may do is what their operator keys say, so a
person without a key that holds has no rights. Only URLs of the configuration are asked, and what the
provider's metadata names on its own origin (``fetch.py``). Every failure raises ``Unauthenticated``.
"""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Callable, Mapping
from hashlib import sha256
from typing import Any, Final, NamedTuple
from urllib.parse import urlencode

import httpx

from gateway import strictjson
from gateway.config import expand
from gateway.config_console import OidcConfig
from gateway.config_identity import IssuerConfig, secure_url
from gateway.errors import Refused, Unauthenticated
from gateway.identity import fetch, jws
from gateway.identity.fetch import NotFetched
from gateway.identity.keyring import Keyring

LEEWAY_S: Final = 30.0
_LONGEST: Final = 256
_MAX_CODE: Final = 4096


class Person(NamedTuple):
    """Who signed in: an operator by name, and how we know."""

    tenant: str
    name: str
    credential: str


class _Provider(NamedTuple):
    authorization: str
    token: str


class PeopleSignIn:
    """One configured provider. ``begin`` and ``finish`` may wait for it, up to its ``timeout_s``."""

    def __init__(self, config: OidcConfig, now_ns: Callable[[], int]) -> None:
        self.config = config
        self._now_ns = now_ns
        # The same keys, rules and bounds as for tokens of agents; of the rest nothing is used.
        self._issuer = IssuerConfig(
            issuer=config.issuer, audience=(config.client_id,), jwks_url=config.jwks_url,
            ca_file=config.ca_file, algorithms=config.algorithms, agent="console", timeout_s=config.timeout_s,
        )  # fmt: skip
        self._http: httpx.AsyncClient | None = None
        self._ring = Keyring(
            "console", self._issuer, fetch.source(self._issuer, self._client), now_ns, lambda _: None
        )
        self._known: _Provider | None = None

    @property
    def title(self) -> str:
        return self.config.title

    async def begin(self, redirect: str, state: str, nonce: str, verifier: str) -> str:
        """Where to send the browser (OpenID Connect Core 1.0, 3.1.2.1; RFC 7636)."""
        provider = await self._provider()
        challenge = base64.urlsafe_b64encode(sha256(verifier.encode()).digest()).rstrip(b"=").decode()
        query = {
            "response_type": "code", "client_id": self.config.client_id, "redirect_uri": redirect,
            "scope": " ".join(dict.fromkeys(("openid", *self.config.scopes))), "state": state, "nonce": nonce,
            "code_challenge": challenge, "code_challenge_method": "S256",
        }  # fmt: skip
        return f"{provider.authorization}?{urlencode(query)}"

    async def finish(self, redirect: str, code: str, nonce: str, verifier: str) -> Person:
        """The person a code stands for."""
        if not 0 < len(code) <= _MAX_CODE:
            raise Unauthenticated("bad_credential", "no code")
        provider = await self._provider()
        form = {
            "grant_type": "authorization_code", "code": code, "redirect_uri": redirect,
            "code_verifier": verifier, "client_id": self.config.client_id,
        }  # fmt: skip
        if self.config.client_secret is not None:
            form["client_secret"] = expand(self.config.client_secret, "console.oidc.client_secret")
        said = await self._exchange(provider.token, form)
        token = said.get("id_token")
        if not isinstance(token, str):
            raise Unauthenticated("bad_credential", "the provider gave no ID token")
        claims = await self._checked(token.encode(), nonce)
        value = claims.get(self.config.claim)
        if not isinstance(value, str) or not 0 < len(value) <= _LONGEST:
            raise Unauthenticated("bad_credential", f"no text at '{self.config.claim}'")
        # An address that nobody has proven to be theirs could be anybody's.
        if self.config.claim == "email" and claims.get("email_verified") is not True:
            raise Unauthenticated("bad_credential", "the address is not verified")
        name = self.config.named(value)
        if name is None:
            raise Unauthenticated("wrong_role", f"{value[:80]!r} is not in 'operators'")
        return Person(self.config.tenant, name, f"oidc:{value}")

    async def close(self) -> None:
        self._ring.stop()
        if self._http is not None:
            await self._http.aclose()

    # -- the provider

    def _client(self) -> httpx.AsyncClient:
        if self._http is None:
            self._http = fetch.client(self.config.ca_file)
        return self._http

    async def _provider(self) -> _Provider:
        if self._known is None:
            try:
                async with asyncio.timeout(self.config.timeout_s):
                    self._known = await self._discovered()
            except (NotFetched, TimeoutError) as error:
                why = str(error) or "no answer in time"
                raise Unauthenticated("issuer_unavailable", f"console.oidc: {why}") from None
        return self._known

    async def _discovered(self) -> _Provider:
        where = fetch.discovery_url(self.config.issuer)
        document = (await fetch.get(where, self._client())).document
        try:
            said = strictjson.parse(document, 16)
        except Refused as refused:
            raise NotFetched(f"{where}: not valid JSON ({refused.code})") from None
        # Metadata of somebody else, such as another tenant of the same provider (OIDC Discovery, 4.3).
        if not isinstance(said, dict) or said.get("issuer") != self.config.issuer:
            raise NotFetched(f"{where}: its 'issuer' is not the configured one")
        token = self.config.token_url or _endpoint(said, "token_endpoint", where)
        own, other = secure_url(self.config.issuer), secure_url(token)
        # Metadata that points at an internal address would make the gateway send codes and secrets there.
        elsewhere = (own.scheme, own.hostname, own.port) != (other.scheme, other.hostname, other.port)
        if self.config.token_url is None and elsewhere:
            raise NotFetched(f"{where}: its 'token_endpoint' is on another origin; set it as 'token_url'")
        return _Provider(_endpoint(said, "authorization_endpoint", where), token)

    async def _exchange(self, url: str, form: Mapping[str, str]) -> Mapping[str, Any]:
        try:
            async with asyncio.timeout(self.config.timeout_s):
                async with self._client().stream("POST", url, data=dict(form), timeout=None) as response:
                    body = bytearray()
                    async for chunk in response.aiter_raw():
                        body += chunk
                        if len(body) > fetch.MAX_BYTES:
                            raise Unauthenticated("issuer_unavailable", "the provider's answer is too long")
                    status = response.status_code
        except (httpx.HTTPError, httpx.InvalidURL, TimeoutError) as error:
            raise Unauthenticated("issuer_unavailable", f"{url}: {type(error).__name__}") from None
        # A code that was used, or is of somebody else's browser, is the provider's to refuse.
        if status != 200:
            raise Unauthenticated("bad_credential", f"the provider refused the code: HTTP {status}")
        try:
            said = strictjson.parse(bytes(body), 16)
        except Refused:
            raise Unauthenticated("issuer_unavailable", f"{url}: not valid JSON") from None
        return said if isinstance(said, dict) else {}

    # -- the ID token

    async def _checked(self, token: bytes, nonce: str) -> Mapping[str, Any]:
        """Its claims (OpenID Connect Core 1.0, 3.1.3.7)."""
        parts = jws.take_apart(token)
        # An access token says who may call something, not who sits at this browser.
        if parts.typ == "at+jwt":
            raise jws.malformed("an access token is no ID token")
        if parts.algorithm not in self.config.algorithms:
            raise jws.malformed("its algorithm is not configured")
        if not self._ring.knows(parts.kid, parts.algorithm):
            await self._ring.refresh()
        key = self._ring.find(parts.kid, parts.algorithm)
        if key is None or not _signed(key, parts):
            raise jws.malformed("the signature does not match")
        claims = parts.claims
        if claims.get("iss") != self.config.issuer:
            raise Unauthenticated("wrong_issuer", "console.oidc: iss is not the configured one")
        audience = claims.get("aud")
        audiences = audience if isinstance(audience, list) else [audience]
        # Made for another client as well, it must say that it is for us (azp).
        mine = self.config.client_id in audiences
        if not mine or claims.get("azp", self.config.client_id) != self.config.client_id or (
            len(audiences) > 1 and "azp" not in claims
        ):  # fmt: skip
            raise Unauthenticated("wrong_audience", "console.oidc: it is for another client")
        now = self._now_ns() / 1e9
        issued, expires = _time(claims, "iat"), _time(claims, "exp")
        if expires + LEEWAY_S <= now or issued - LEEWAY_S > now:
            raise Unauthenticated("expired_credential", "console.oidc: it is not of now")
        # The token of another sign-in, put into this one.
        if claims.get("nonce") != nonce:
            raise jws.malformed("nonce is of another sign-in")
        return claims


def _endpoint(said: Mapping[str, Any], name: str, where: str) -> str:
    value = said.get(name)
    try:
        if isinstance(value, str):
            secure_url(value)
            return value
    except ValueError:
        pass
    raise NotFetched(f"{where}: its '{name}' is missing or not https")


def _signed(key: Any, parts: jws.Jws) -> bool:
    try:
        return bool(key.signed(parts.algorithm, parts.signed, parts.signature))
    except Exception:  # noqa: BLE001 - whatever the library chokes on is no proof
        return False


def _time(claims: Mapping[str, Any], name: str) -> float:
    value = claims.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1e11:
        raise jws.malformed(f"{name} is no time")
    return value
