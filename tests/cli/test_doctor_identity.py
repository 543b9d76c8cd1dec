"""``wardgate doctor`` on issuers and the proxy: what would keep an agent out, or let a stranger in."""

from __future__ import annotations

import asyncio
import re
import time
from email.utils import formatdate
from typing import Any

from aiohttp import web

from gateway.cli import checks_identity
from gateway.cli.findings import Finding
from gateway.config import Config
from tests.identity.issuing import AUDIENCE, SigningKey, issuing

AGENTS: dict[str, Any] = {"bot": {"owner": "x"}, "clerk": {"owner": "x"}}


async def looked_at(idp: Any, sections: dict[str, Any] | None = None, **issuer: Any) -> list[Finding]:
    usual = {"issuer": idp.url, "audience": [AUDIENCE], "agent": "bot", "timeout_s": 0.5, **issuer}
    identity = {"issuers": {"corp": usual}, **(sections or {}).pop("identity", {})}
    config = Config.model_validate({"agents": AGENTS, "identity": identity, **(sections or {})})
    found = await asyncio.to_thread(
        lambda: [*checks_identity.issuers(config), *checks_identity.exposure(config)]
    )
    for finding in found:
        assert finding.level == "ok" or (finding.why and finding.todo), finding
    return found


def bad(found: list[Finding]) -> list[str]:
    return [finding.what for finding in found if finding.level != "ok"]


async def test_an_issuer_that_does_well_is_said_to():
    async with issuing() as idp:
        found = await looked_at(idp)
        assert bad(found) == []
        assert "1 usable key" in found[0].what


async def test_an_issuer_that_cannot_be_reached_or_has_no_usable_key_is_a_problem():
    async with issuing() as idp:
        idp.answers["/jwks"] = lambda: web.Response(status=502)
        [finding] = await looked_at(idp)
        assert finding.level == "problem" and "HTTP 502" in finding.what
        idp.answers.clear()
        idp.keys = []
        [finding] = await looked_at(idp)
        assert finding.level == "problem" and "publishes none" in finding.what
        idp.keys = [SigningKey("small", "RS256", bits=1024)]
        [finding] = await looked_at(idp)
        assert finding.level == "problem" and "fewer than 2048 bits" in finding.what


async def test_a_clock_that_is_off_is_named_with_how_far():
    async with issuing() as idp:
        date = {"Date": formatdate(time.time() - 90, usegmt=True)}
        document = {"keys": [key.jwk for key in idp.keys]}
        idp.answers["/jwks"] = lambda: web.json_response(document, headers=date)
        [finding] = [each for each in await looked_at(idp) if each.area == "clock"]
        assert finding.level == "warning" and re.search(r"is -(89|9\d) s off", finding.what)


async def test_agents_that_can_be_named_by_anybody_and_audiences_nobody_asks_for_are_warned_of():
    async with issuing() as idp:
        [what] = bad(await looked_at(idp, agent=None, agent_claim="azp"))
        assert "every agent of tenant 'default' can be named" in what
        public = {"server": {"public_url": "https://gw.example.com", "allowed_hosts": ["gw.example.com:443"]},
                  "identity": {"metadata": True}}  # fmt: skip
        [what] = bad(await looked_at(idp, public))
        assert "No 'audience' of 'corp' begins with server.public_url" in what
        public["identity"] = {"metadata": True}
        assert bad(await looked_at(idp, public, audience=["https://gw.example.com/mcp"])) == []


async def test_a_proxy_that_many_could_be_is_warned_of():
    async with issuing() as idp:
        proxy = {"networks": ["10.0.0.0/8"], "subjects": {"spiffe://x": "bot"}}
        found = bad(await looked_at(idp, {"identity": {"proxy": proxy}}))
        assert any("16777216 addresses" in what for what in found)
        assert any("no secret" in what for what in found)
        found = bad(await looked_at(idp, {"server": {"public_url": "https://gw.example.com"}}))
        assert any("server.allowed_hosts does not" in what for what in found)


def test_an_agent_is_not_missing_a_key_when_it_can_come_by_a_token_or_a_certificate():
    def without(**identity: Any) -> set[str]:
        return checks_identity.without_keys(Config.model_validate({"agents": AGENTS, "identity": identity}))

    usual = {"issuer": "https://i.example", "audience": ["x"]}
    assert without() == set()
    assert without(issuers={"corp": {**usual, "agent": "bot"}}) == {"bot"}
    assert without(issuers={"corp": {**usual, "agent_claim": "azp"}}) == {"bot", "clerk"}
    assert without(issuers={"corp": {**usual, "agent_claim": "azp", "agents": {"7": "clerk"}}}) == {"clerk"}
    assert without(proxy={"networks": ["10.0.0.1"], "subjects": {"x": "bot"}}) == {"bot"}
