"""Tokens through ``wardgate serve``: who comes in, for how long, and what is seen of the token afterwards."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from tests.e2e.gateway import Agent, Said, Wardgate, eventually, talking
from tests.e2e.test_keys import changes
from tests.e2e.test_secrets import places, spellings
from tests.identity.issuing import AUDIENCE, OTHER, Idp, issuing

PUBLIC = "https://gateway.example.com"
METADATA = "/.well-known/oauth-protected-resource"


@pytest.fixture
async def idp() -> AsyncIterator[Idp]:
    async with issuing() as running:
        yield running


@pytest.fixture
def guarded(gateway: Callable[..., Wardgate], idp: Idp) -> Callable[..., Any]:
    """Starts gateways that believe tokens of ``idp`` for the agents alice and bob."""

    async def start(
        identity: dict[str, Any] | None = None, server: dict[str, Any] | None = None, **issuer: Any
    ):
        corp = {
            "issuer": idp.url, "audience": [AUDIENCE], "agent_claim": "azp", "refresh_least_s": 0.05,
            "agents": {"client-a": "alice", "client-b": "bob"}, **issuer,
        }  # fmt: skip
        sections = {"identity": {"issuers": {"corp": corp}, **(identity or {})}, "server": server or {}}
        running = gateway(**sections)
        await asyncio.to_thread(running.start)
        return running

    return start


async def test_an_agent_comes_with_a_token_and_its_user_is_on_record(guarded, idp, server):
    running = await guarded()
    async with talking(running, idp.token(azp="client-a")) as alice:
        assert (await alice.call("pay", text="rent")).text == "done"
        alice.key = idp.token(azp="nobody")
        assert (await alice.call("pay", text="rent")).reason == "unknown_agent"
        alice.key = ""
        assert (await alice.call("pay", text="rent")).headers["WWW-Authenticate"] == "Bearer"
        alice.key = running.key()
        assert (await alice.call("look")).text == "done", "keys work beside tokens"
    record = await running.recorded(lambda record: record.get("phase") == "intent")
    assert (record["agent"], record["subject"]) == ("alice", "corp:user-1")
    assert [effect["tool"] for effect in server.effects()] == ["pay", "look"]


async def test_a_revoked_token_is_refused_within_a_second_though_it_was_remembered(guarded, idp, server):
    running = await guarded()
    async with (
        talking(running, idp.token(azp="client-a", jti="stolen")) as alice,
        talking(running, idp.token(azp="client-b", jti="other")) as bob,
    ):
        for agent in (alice, bob, alice, bob):
            assert (await agent.call("look")).text == "done"
        made = await running.cli_json("tokens", "revoke", "--issuer", "corp", "--jti", "stolen")
        said = await changes(alice, was=200, within_s=1.0)
        assert (said.status, said.reason) == (401, "revoked_credential")
        contacted = len(server.contacts())
        assert (await alice.call("pay", text="after")).status == 401
        assert len(server.contacts()) == contacted
        assert (await bob.call("look")).text == "done"

        assert (await running.cli("tokens", "restore", made["id"])).returncode == 0
        await changes(alice, was=401, within_s=1.0)
        assert (await running.cli("tokens", "revoke", "--agent", "bob")).returncode == 0
        said = await changes(bob, was=200, within_s=1.0)
        assert said.reason == "revoked_credential"
        bob.key = idp.token(azp="client-b", iat=int(time.time()) + 2)
        assert (await bob.call("look")).text == "done", "issued after the revocation"
    operator = await running.new_operator("viewer")
    await eventually_admitted(running, operator)
    _, listed = await running.admin("/v1/tokens/revocations", operator)
    assert [(item["kind"], item["value"]) for item in json.loads(listed)["items"]] == [("agent", "bob")]
    _, found = await running.admin("/v1/issuers", operator)
    assert [(item["name"], item["state"], item["keys"]) for item in json.loads(found)["items"]] == [
        ("corp", "fresh", 1)
    ]


async def eventually_admitted(running: Wardgate, operator: str) -> None:
    since = time.monotonic()
    while (await running.admin("/v1/status", operator))[0] != 200:
        assert time.monotonic() - since < 2
        await asyncio.sleep(0.05)


class Legacy:
    """A client of the session era, as one user."""

    def __init__(self, agent: Agent, session: str = "") -> None:
        self.agent = agent
        self.session = session
        self._number = 0

    async def open(self) -> None:
        params = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "x"}}
        self.session = (await self.ask("initialize", params)).headers["Mcp-Session-Id"]

    async def ask(self, method: str, params: dict[str, Any]) -> Said:
        self._number += 1
        message = {"jsonrpc": "2.0", "id": self._number, "method": method, "params": params}
        body = json.dumps(message).encode()
        headers = {"Mcp-Session-Id": self.session} if self.session else {}
        return await self.agent.post(body, {**headers, "MCP-Protocol-Version": "2025-11-25"})

    async def call(self) -> Said:
        return await self.ask("tools/call", {"name": "look", "arguments": {}})


async def test_a_session_belongs_to_one_user_of_one_issuer_and_survives_a_new_token(guarded, idp):
    async with issuing([OTHER]) as second:
        other = {
            "issuer": second.url, "audience": [AUDIENCE], "agent": "alice", "subject": "always",
        }  # fmt: skip
        corp = {
            "issuer": idp.url, "audience": [AUDIENCE], "agent_claim": "azp", "agents": {"client-a": "alice"},
        }  # fmt: skip
        running = await guarded({"issuers": {"corp": corp, "second": other}})
        async with talking(running, idp.token(azp="client-a", sub="ann")) as http:
            ann = Legacy(http)
            await ann.open()
            assert (await ann.call()).text == "done"
            others = {
                "another user": idp.token(azp="client-a", sub="ben"),
                "the same name at another issuer": second.token(sub="ann"),
                "no user": idp.token(azp="client-a", sub="client-a"),
                "a key of the same agent": running.key("alice"),
            }
            for who, token in others.items():
                http.key = token
                refused = await ann.call()
                assert (refused.status, refused.reason) == (404, "unknown_session"), who
            http.key = idp.token(azp="client-a", sub="ann", jti="refreshed", scope="more")
            assert (await ann.call()).text == "done"


async def test_two_users_on_one_session_at_once_never_mix(guarded, idp):
    running = await guarded()
    async with (
        talking(running, idp.token(azp="client-a", sub="ann")) as as_ann,
        talking(running, idp.token(azp="client-a", sub="ben")) as as_ben,
    ):
        ann, ben = Legacy(as_ann), Legacy(as_ben)
        await ann.open()
        await ben.open()
        thieves = [Legacy(as_ben, ann.session), Legacy(as_ann, ben.session)]
        said = await asyncio.gather(*(each.call() for _ in range(25) for each in (ann, ben, *thieves)))
        assert [answer.status for answer in said] == [200, 200, 404, 404] * 25
    await eventually(lambda: len({record["call_id"] for record in carried_out(running)}) == 50)
    of = {(record["subject"], record["session"]) for record in carried_out(running)}
    assert {subject for subject, _ in of} == {"corp:ann", "corp:ben"}
    assert len(of) == len({session for _, session in of}) == 2


def carried_out(running: Wardgate) -> list[dict[str, Any]]:
    wanted = [record for record in running.records() if record.get("target") == "counting/look"]
    return [record for record in wanted if record.get("action") == "allow"]


async def test_an_issuer_that_is_down_at_the_start_refuses_its_tokens_and_not_the_start(guarded, idp):
    idp.answers["/jwks"] = lambda: web.Response(status=500)
    running = await guarded()
    async with talking(running, idp.token(azp="client-a")) as alice:
        said = await alice.call("look")
        assert (said.status, said.reason) == (503, "issuer_unavailable")
        status, ready = await running.readiness()
        assert (status, ready["parts"]["issuer:corp"]) == (200, "degraded")
        idp.answers.clear()
        await changes(alice, was=503, within_s=2.0)
        assert (await alice.call("look")).text == "done"


async def test_a_reload_takes_an_issuer_away_at_once(guarded, idp):
    running = await guarded()
    async with talking(running, idp.token(azp="client-a")) as alice:
        assert (await alice.call("look")).text == "done"
        running.config["identity"]["issuers"]["corp"]["audience"] = ["https://another.example"]
        running.write_config()
        said = await changes(alice, was=200, within_s=3.0)
        assert said.reason == "wrong_audience"


# -- OAuth clients ---------------------------------------------------------------------------------------


async def test_metadata_and_challenges_lead_an_oauth_client_and_leave_one_with_a_key_alone(guarded, idp):
    running = await guarded(
        {"metadata": True}, {"public_url": PUBLIC}, required_scopes=["call"], scopes={"write": ["writer"]}
    )
    async with aiohttp.ClientSession() as http, talking(running, "") as agent:
        for path, resource in ((METADATA, ""), (f"{METADATA}/mcp/counting", "/mcp/counting")):
            async with http.get(running.agents_url + path) as response:
                said = await response.json()
            assert said["resource"] == PUBLIC + resource
            assert (said["authorization_servers"], said["scopes_supported"]) == ([idp.url], ["call", "write"])
        lie = {
            "Host": f"127.0.0.1:{running.agents_url.rpartition(':')[2]}",
            "X-Forwarded-Host": "evil.example",
        }
        async with http.get(f"{running.agents_url}{METADATA}/mcp", headers=lie) as response:
            assert "evil" not in await response.text()
        with_key = {"Authorization": f"Bearer {running.key()}"}
        async with http.get(f"{running.agents_url}{METADATA}/mcp", headers=with_key) as response:
            assert response.status == 404
        async with http.post(f"{running.agents_url}{METADATA}/mcp") as response:
            assert response.status == 405
        async with http.get(f"{running.agents_url}{METADATA}/mcp/nobody") as response:
            assert response.status in (401, 404)

        nobody = (await agent.call("look")).headers["WWW-Authenticate"]
        assert nobody == f'Bearer resource_metadata="{PUBLIC}{METADATA}/mcp/counting", scope="call"'
        agent.key = idp.token(azp="client-a", exp=int(time.time()) - 1000)
        expired = await agent.call("look")
        assert (expired.status, expired.reason) == (401, "expired_credential")
        assert 'error="invalid_token"' in expired.headers["WWW-Authenticate"]
        assert "resource_metadata=" in expired.headers["WWW-Authenticate"]
        agent.key = running.key()[:-3] + "xyz"
        assert (await agent.call("look")).headers["WWW-Authenticate"] == 'Bearer error="invalid_token"'


async def test_without_the_switch_nobody_is_told_anything(guarded):
    running = await guarded({}, {"public_url": PUBLIC})
    async with aiohttp.ClientSession() as http:
        for path in (METADATA, f"{METADATA}/mcp", f"{METADATA}/mcp/counting"):
            async with http.get(running.agents_url + path) as response:
                assert response.status == 404


async def test_a_missing_scope_is_an_answer_the_model_reads_unless_its_client_can_step_up(
    guarded, idp, server
):
    running = await guarded(required_scopes=["call"])
    async with talking(running, idp.token(azp="client-a", scope="read")) as alice:
        listed = await alice.ask("tools/list", {})
        assert listed.status == 200 and listed.result["tools"]
        said = await alice.call("pay", text="rent")
        assert (said.status, said.refused, said.reason) == (200, True, "insufficient_scope")
        alice.key = idp.token(azp="client-a", scope="read call")
        assert (await alice.call("pay", text="rent")).text == "done"
        assert len(server.effects()) == 1

        running.config["identity"]["issuers"]["corp"] |= {"step_up": True, "required_scopes": ["call", "pay"]}
        running.write_config()
        alice.key = idp.token(azp="client-a", scope="read call", jti="other")
        stepped = await changes(alice, was=200, within_s=3.0)
        assert (stepped.status, stepped.reason) == (403, "insufficient_scope")
        assert stepped.headers["WWW-Authenticate"] == 'Bearer error="insufficient_scope", scope="call pay"'
        alice.key = running.key()
        assert (await alice.call("look")).text == "done", "a key has no scopes to lack"


# -- certificates ----------------------------------------------------------------------------------------


async def test_a_certificate_header_is_believed_from_the_proxy_and_refused_from_others(guarded, idp):
    proxy = {
        "networks": ["127.0.0.1/32"], "subjects": {"spiffe://corp/alice": "alice"},
        "secret": "a-secret-of-the-proxy-with-32-bytes",
    }  # fmt: skip
    running = await guarded({"proxy": proxy})
    secret = {"X-Wardgate-Proxy-Secret": proxy["secret"]}
    async with talking(running, "") as agent:

        async def call(headers: dict[str, str], key: str = "") -> Said:
            agent.key = key
            body = agent.body("tools/call", {"name": "look", "arguments": {}})
            modern = {"MCP-Method": "tools/call", "MCP-Name": "look", "MCP-Protocol-Version": "2026-07-28"}
            return await agent.post(body, {**modern, **headers})

        said = {"X-Forwarded-Client-Cert": "Hash=ab;URI=spiffe://corp/alice"}
        assert (await call({**said, **secret})).text == "done"
        assert (await call(said)).reason == "untrusted_proxy"
        assert (await call({**said, **secret}, running.key("bob"))).reason == "bad_credential"
        assert (await call({}, running.key("bob"))).text == "done"
        running.config["identity"]["proxy"]["networks"] = ["10.255.0.0/24"]
        running.write_config()
        deadline = time.monotonic() + 3
        while (refused := await call({**said, **secret, "X-Forwarded-For": "10.255.0.1"})).status == 200:
            assert time.monotonic() < deadline
            await asyncio.sleep(0.05)
        assert (refused.status, refused.reason) == (401, "untrusted_proxy")
    await running.recorded(lambda record: record.get("agent") == "alice" and record.get("action") == "allow")


# -- what is seen of a token -----------------------------------------------------------------------------


async def test_a_token_reaches_neither_upstreams_nor_anything_the_gateway_says_or_keeps(guarded, idp, server):
    running = await guarded(max_age_s=600)
    operator = await running.new_operator()
    await eventually_admitted(running, operator)
    now = int(time.time())
    good = idp.token(azp="client-a", jti="canary")
    header, claims, signature = good.split(".")
    bad = [
        good[:-6] + "AAAAAA", f"{header}.{claims}.", f"{header}.{claims[:-4]}.{signature}",
        idp.token(azp="client-a", aud="elsewhere"), idp.token(azp="client-a", exp=now - 900),
        idp.token(OTHER, azp="client-a"), idp.token(azp="nobody"), idp.token(iss="https://evil.example"),
        "eyJ0.eyJ0.eyJ0",
    ]  # fmt: skip
    said: list[bytes] = []
    async with talking(running, good) as alice:
        for then in ({}, {"then": "die"}, {"then": "garbage"}):
            said.append((await alice.call("pay", text=f"x{then}", **then)).body)
        for token in bad:
            alice.key = token
            answer = await alice.call("look")
            assert answer.status == 401
            said.append(answer.body + repr(answer.headers).encode())
        await running.cli("tokens", "revoke", "--issuer", "corp", "--jti", "canary")
        alice.key = good
        said.append((await changes(alice, was=200, within_s=1.0)).body)
    await eventually(lambda: len([r for r in running.records() if r.get("code")]) >= len(bad))
    seen = {f"answer {number}": text for number, text in enumerate(said)}
    for path in (
        "/v1/status",
        "/v1/decisions?limit=100",
        "/v1/issuers",
        "/v1/tokens/revocations",
        "/metrics",
    ):
        status, text = await running.admin(path, operator)
        assert status == 200, (path, text)
        seen[path] = text
    done = await running.cli("doctor")
    seen["doctor"] = (done.stdout + done.stderr).encode()
    assert running.stop() == 0
    seen |= places(running)
    seen["upstream"] = server.log.read_bytes()
    assert b"canary" in seen["wardgate.db-wal" if "wardgate.db-wal" in seen else "wardgate.db"]
    parts = {part for token in (good, *bad) for part in token.split(".") if len(part) > 16}
    found = [
        where
        for where, text in seen.items()
        if any(spelling in text for part in parts for spelling in spellings(part))
    ]
    assert found == []
    for contact in server.contacts():
        assert "authorization" not in json.dumps(contact).lower()
