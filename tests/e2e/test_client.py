"""An agent that already speaks MCP is pointed at the gateway: the official client in all its modes."""

from __future__ import annotations

import sys
from contextlib import asynccontextmanager

import httpx2
import mcp
from mcp.client.streamable_http import streamable_http_client

from tests.e2e.gateway import ROOT, Counting, rule, talking

MODES = ("auto", "2026-07-28", "legacy")


@asynccontextmanager
async def client(running, mode, path, key=None):
    headers = {"Authorization": f"Bearer {key or running.key()}"}
    async with httpx2.AsyncClient(headers=headers, timeout=20) as http:
        transport = streamable_http_client(running.agents_url + path, http_client=http)
        async with mcp.Client(transport, mode=mode) as session:
            yield session


async def test_the_official_client_lists_and_calls_in_every_mode(gateway, server):
    running = gateway().start()
    for mode in MODES:
        async with client(running, mode, "/mcp/counting") as session:
            names = [tool.name for tool in (await session.list_tools()).tools]
            assert names == ["look", "note", "pay", "send"], mode
            done = await session.call_tool("pay", {"text": f"{mode} direct", "echo": "paid"})
            assert not done.is_error and done.content[0].text == "paid"
        async with client(running, mode, "/mcp") as session:
            names = [tool.name for tool in (await session.list_tools()).tools]
            assert names == ["counting__look", "counting__note", "counting__pay", "counting__send"], mode
            done = await session.call_tool("counting__pay", {"text": f"{mode} aggregate"})
            assert not done.is_error
    texts = [effect["arguments"]["text"] for effect in server.effects()]
    assert texts == [f"{mode} {way}" for mode in MODES for way in ("direct", "aggregate")]
    assert {contact["path"] for contact in server.contacts()} == {"/mcp"}
    decided = [record for record in running.records() if record["phase"] == "intent"]
    assert {record["target"] for record in decided} == {"counting/pay"} and len(decided) == 6


async def test_the_agents_key_is_never_passed_on(gateway, server):
    running = gateway({"headers": {"X-Upstream-Key": "${UPSTREAM_KEY}"}})
    running.env["UPSTREAM_KEY"] = "of-the-gateway"
    running.start()
    for mode in MODES:
        async with client(running, mode, "/mcp/counting") as session:
            await session.call_tool("look", {})
    assert len(server.contacts()) == len(MODES)
    for contact in server.contacts():
        head = contact["head"].lower()
        assert running.key().lower() not in head and "authorization" not in head
        assert "x-upstream-key: of-the-gateway" in head


async def test_a_denial_does_not_end_the_clients_session(gateway, server):
    running = gateway()
    body = 'deny contains {"code": "closed", "message": "no"}'
    running.policy("no_pay.rego", rule("no_pay", body, codes=["closed"], scope={"tools": ["*/pay"]}))
    running.start()
    for mode in MODES:
        async with client(running, mode, "/mcp/counting") as session:
            denied = await session.call_tool("pay", {"text": "x"})
            assert denied.is_error and denied.meta["dev.wardgate/decision"]["reason"] == "closed"
            assert not (await session.call_tool("note", {"text": mode})).is_error
    assert {effect["tool"] for effect in server.effects()} == {"note"}


async def test_a_stdio_server_is_governed_the_same_way(tmp_path, gateway):
    log = tmp_path / "child.jsonl"
    running = gateway()
    command = [sys.executable, "-m", "tests.e2e.upstream", str(log), "--stdio"]
    child = {"command": command, "cwd": str(ROOT), "deadline_s": 2.0}
    running.config["upstreams"]["child"] = {
        **child,
        "tools": running.config["upstreams"]["counting"]["tools"],
    }
    running.write_config()
    running.start()
    effects = Counting(log).effects
    async with talking(running, running.key(), "child") as alice:
        assert (await alice.call("pay", text="x", echo="from the child")).text == "from the child"
        for then, code in (
            ("die", "upstream_lost"),
            ("wrong_id", "upstream_timeout"),
            ("garbage", "upstream_timeout"),
        ):
            assert (await alice.call("pay", text=then, then=then)).reason == code, then
            assert (await alice.call("pay", text=then, then=then)).reason == "in_doubt", then
            assert len(effects(then)) == 1
        assert (await alice.call("note", text="again")).text == "done"
