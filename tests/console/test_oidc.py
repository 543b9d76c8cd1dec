"""Signing in at an identity provider on loopback: it says who, the operator's keys say what they may."""

from __future__ import annotations

import base64
import secrets
import time
from hashlib import sha256
from urllib.parse import parse_qs, urlsplit

import pytest
from aiohttp import web
from pydantic import ValidationError

from gateway.config_console import ConsoleConfig, OidcConfig
from gateway.identity.people import PeopleSignIn
from gateway.surfaces.console import Terms
from gateway.surfaces.console.oidc import COOKIE
from gateway.surfaces.console.signin import COOKIE as SIGNED_IN
from tests.console.conftest import BASE, Browser, text_of
from tests.identity.issuing import KEY, OTHER, Idp, issuing

CLIENT = "wardgate-console"


class Provider:
    """An OpenID provider that knows PKCE; ``claims`` is who is at the browser, ``spoil`` changes a token."""

    def __init__(self, idp: Idp) -> None:
        self.idp = idp
        self.claims = {"email": "ann@example.com", "email_verified": True, "sub": "u1", "azp": CLIENT}
        self.spoil = {}
        self.key = KEY
        self.typ = "JWT"
        self.codes: dict[str, dict[str, str]] = {}
        self.exchanges = 0
        idp.metadata |= {
            "authorization_endpoint": f"{idp.url}/authorize",
            "token_endpoint": f"{idp.url}/token",
        }
        before = idp.handle

        async def handle(request):
            if request.path == "/token":
                return self.token(parse_qs((await request.read()).decode()))
            return await before(request)

        idp.handle = handle

    def authorize(self, url: str) -> str:
        """What somebody who signs in there is sent back with."""
        asked = {name: values[0] for name, values in parse_qs(urlsplit(url).query).items()}
        assert (asked["response_type"], asked["client_id"], asked["code_challenge_method"]) == (
            "code",
            CLIENT,
            "S256",
        )
        assert "openid" in asked["scope"].split()
        code = secrets.token_urlsafe(8)
        self.codes[code] = asked
        return f"/oidc/callback?code={code}&state={asked['state']}"

    def token(self, form) -> web.Response:
        self.exchanges += 1
        asked = self.codes.pop(form["code"][0], None)
        verifier = form["code_verifier"][0]
        digest = base64.urlsafe_b64encode(sha256(verifier.encode()).digest()).rstrip(b"=").decode()
        if (
            asked is None
            or digest != asked["code_challenge"]
            or form["redirect_uri"][0] != asked["redirect_uri"]
        ):
            return web.json_response({"error": "invalid_grant"}, status=400)
        claims = {**self.claims, "aud": CLIENT, "nonce": asked["nonce"], **self.spoil}
        return web.json_response({"id_token": self.idp.token(self.key, header={"typ": self.typ}, **claims)})


@pytest.fixture
async def provider(house):
    async with issuing() as idp:
        made = Provider(idp)
        config = OidcConfig(
            issuer=idp.url, client_id=CLIENT, operators={"ann@example.com": "ann", "x": "olga"}
        )
        people = PeopleSignIn(config, time.time_ns)
        house.people, house.oidc, house.terms = people, config, Terms(url=f"{BASE}/console")
        yield made
        await people.close()


async def begun(browser: Browser, following: str = "/console/decisions") -> str:
    answer = await browser.get(f"/oidc/start?next={following}")
    assert answer.status_code == 303, text_of(answer.text)
    cookie = answer.headers["set-cookie"]
    assert "HttpOnly" in cookie and "SameSite=strict" in cookie and "Path=/console/oidc" in cookie
    return answer.headers["location"]


async def test_who_the_provider_vouches_for_is_in_with_the_rights_of_their_keys(house, provider):
    browser = Browser(house)
    assert "Sign in with your organisation" in await browser.page("/login")
    back = provider.authorize(await begun(browser))
    # The redirect comes from elsewhere, so the strict cookie is not with it.
    other = Browser(house)
    arrived = await other.get(back, **{"sec-fetch-site": "cross-site"})
    assert arrived.status_code == 200 and 'content="0;url=/console/oidc/callback?code=' in arrived.text
    answer = await browser.get(back, **{"sec-fetch-site": "same-origin"})
    assert answer.status_code == 303 and answer.headers["location"] == "/console/decisions"
    assert "ann approver" in text_of(await browser.page("/queue"))
    waiting = house.opens()
    said = {"version": str(waiting.version), "digest": waiting.digest}
    assert (await browser.post(f"/approvals/{waiting.id}/approve", said)).status_code == 303
    (vote,) = house.store.show(waiting.id, "default").votes
    assert (vote.principal, vote.credential) == ("ann", "oidc:ann@example.com")
    house.revoke("ann")
    assert (await browser.get("/queue")).status_code == 303


@pytest.mark.parametrize(
    "change",
    [None, {"operators": {"x": "olga"}}, {"operators": {"ann@example.com": "bob"}}, {"operators": {}},
     {"tenant": "other"}],
    ids=["no provider", "not named", "named for another", "the value is the name", "another tenant"],
)  # fmt: skip
async def test_whom_the_configuration_names_no_more_is_out_at_the_next_click(house, provider, change):
    browser = Browser(house)
    back = provider.authorize(await begun(browser))
    assert (await browser.get(back, **{"sec-fetch-site": "same-origin"})).status_code == 303
    await browser.page("/queue")
    house.oidc = house.oidc.model_copy(update=change) if change is not None else None
    assert (await browser.get("/queue")).status_code == 303
    assert (await browser.get("/queue.json")).status_code == 401


@pytest.mark.parametrize(
    ("claims", "spoil"),
    [
        ({"email": "eve@example.com", "email_verified": True}, {}),  # nobody of ours
        ({"email": "ann@example.com", "email_verified": False}, {}),
        ({"email": "ann@example.com"}, {}),
        ({"email_verified": True}, {}),
        ({"email": ["ann@example.com"], "email_verified": True}, {}),
        (None, {"nonce": "of another sign-in"}),
        (None, {"nonce": None}),
        (None, {"aud": "another-client"}),
        (None, {"aud": [CLIENT, "another"], "azp": "another"}),
        (None, {"aud": [CLIENT, "another"], "azp": None}),
        (None, {"azp": "another"}),
        (None, {"iss": "https://evil.example"}),
        (None, {"exp": int(time.time()) - 3600}),
        (None, {"iat": int(time.time()) + 3600}),
        (None, {"exp": None}),
        (None, {"iat": "now"}),
    ],
)
async def test_a_token_that_does_not_hold_lets_nobody_in(house, provider, claims, spoil):
    provider.claims = (
        provider.claims | {"azp": CLIENT} if claims is None else {"sub": "u", "azp": CLIENT, **claims}
    )
    provider.spoil = spoil
    browser = Browser(house)
    answer = await browser.get(provider.authorize(await begun(browser)))
    assert answer.status_code == 401 and 'role="alert"' in answer.text
    assert SIGNED_IN not in browser.http.cookies and provider.exchanges == 1


async def test_another_key_and_another_kind_of_token_let_nobody_in(house, provider):
    for key, typ in ((OTHER, "JWT"), (KEY, "at+jwt")):
        provider.key, provider.typ = key, typ
        browser = Browser(house)
        answer = await browser.get(provider.authorize(await begun(browser)))
        assert answer.status_code == 401 and SIGNED_IN not in browser.http.cookies


async def test_a_way_back_that_was_not_begun_here_is_refused_before_anything_is_asked(house, provider):
    mallory, ann = Browser(house), Browser(house)
    back = provider.authorize(await begun(mallory))  # her code, to be put into ann's browser
    await begun(ann)
    for browser, path in (
        (ann, back),
        (Browser(house), back),
        (ann, "/oidc/callback"),
        (ann, "/oidc/callback?error=x"),
    ):
        answer = await browser.get(path)
        assert answer.status_code == 401 and SIGNED_IN not in browser.http.cookies
    assert provider.exchanges == 0
    # A sign-in is good for one way back, and for ten minutes.
    late = Browser(house)
    back = provider.authorize(await begun(late))
    house.now_ns = lambda: time.time_ns() + 601 * 10**9
    assert (await late.get(back)).status_code == 401 and provider.exchanges == 0
    assert COOKIE not in late.http.cookies


async def test_a_code_is_worth_nothing_to_whoever_has_not_begun(house, provider):
    browser = Browser(house)
    back = provider.authorize(await begun(browser))
    provider.codes[next(iter(provider.codes))]["code_challenge"] = "of another browser"
    assert (await browser.get(back)).status_code == 401


async def test_a_provider_that_is_down_or_lies_about_itself_is_said(house, provider):
    provider.idp.metadata["issuer"] = "https://evil.example"
    answer = await Browser(house).get("/oidc/start")
    assert answer.status_code == 401
    provider.idp.metadata |= {"issuer": provider.idp.url, "token_endpoint": "http://127.0.0.1:1/token"}
    assert (await Browser(house).get("/oidc/start")).status_code == 401  # of another origin
    provider.idp.metadata |= {
        "token_endpoint": f"{provider.idp.url}/token",
        "authorization_endpoint": "javascript:1",
    }
    assert (await Browser(house).get("/oidc/start")).status_code == 401


async def test_without_a_provider_there_is_no_way_there(house):
    assert (await Browser(house).get("/oidc/start")).status_code == 404
    assert (await Browser(house).get("/oidc/callback?code=x&state=y")).status_code == 404
    assert "organisation" not in await Browser(house).page("/login")


@pytest.mark.parametrize(
    "wrong",
    [
        {"oidc": {"issuer": "https://idp.example", "client_id": "c"}},  # no way back
        {"url": "https://w.example/console", "oidc": {"issuer": "http://idp.example", "client_id": "c"}},
        {"url": "https://w.example/console",
         "oidc": {"issuer": "https://idp.example", "client_id": "c", "algorithms": ["HS256"]}},
        {"url": "http://w.example/console"},
        {"url": "https://w.example/elsewhere"},
    ],
)  # fmt: skip
def test_weak_settings_do_not_start(wrong):
    with pytest.raises(ValidationError):
        ConsoleConfig.model_validate(wrong)
