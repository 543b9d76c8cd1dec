"""Servers of the session era, and servers that change their era."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

DONE = b'{"content":[{"type":"text","text":"done"}]}'


def refusal(message: bytes) -> bytes:
    """As the official SDK words it: with an id of its own."""
    return b'{"jsonrpc":"2.0","id":"server-error","error":{"code":-32600,"message":"%b"}}' % message


class Legacy:
    """A server of 2025-11-25 with sessions."""

    def __init__(self, calls: Callable[[Any], Awaitable[None]] | None = None) -> None:
        self.sessions: set[str] = set()
        self.ended: list[str] = []
        self.calls = calls

    async def __call__(self, exchange: Any) -> None:
        session = exchange.header("mcp-session-id")
        if exchange.head.startswith(b"DELETE"):
            self.ended.append(session)
            self.sessions.discard(session)
            await exchange.json(b"")
        elif exchange.method == "initialize":
            name = f"s{len(self.sessions) + len(self.ended)}-{exchange.id}"
            self.sessions.add(name)
            await exchange.result(
                b'{"protocolVersion":"2025-11-25","capabilities":{"tools":{}},'
                b'"serverInfo":{"name":"legacy","version":"1"}}',
                extra=b"mcp-session-id: %b\r\n" % name.encode(),
            )
        elif session is None:
            await exchange.json(refusal(b"Missing session ID"), status="400 Bad Request")
        elif session not in self.sessions:
            await exchange.json(refusal(b"Session not found"), status="404 Not Found")
        elif exchange.id == 0 or not exchange.method:
            await exchange.send(b"HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n")
        elif self.calls is not None:
            await self.calls(exchange)
        else:
            await exchange.result(b'{"session":"%b"}' % session.encode())


async def test_each_principal_has_a_legacy_session_of_its_own(
    registry: Any, serve: Any, call: Any, principal: Any, at_url: Any
) -> None:
    legacy = Legacy()
    server = await serve(legacy)
    up = registry(up=at_url(server))
    who = [principal("a"), principal("b"), principal("a"), principal("a", subject="user")]
    outcomes = await asyncio.gather(*(up.execute(call(who=each), None) for each in who))
    sessions = [json.loads(each.result_json)["session"] for each in outcomes]
    assert sessions[0] == sessions[2]
    assert len(set(sessions)) == 3
    assert up.info("up").version == "2025-11-25"
    sent = server.exchanges[-1]
    assert sent.header("mcp-protocol-version") == "2025-11-25"
    assert b"io.modelcontextprotocol" not in sent.body
    assert server.methods().count("notifications/initialized") == server.methods().count("initialize")
    await up.close()
    assert not legacy.sessions, "every session was ended with DELETE"


async def test_a_lost_session_is_opened_again_and_the_call_made_once(
    registry: Any, serve: Any, call: Any, at_url: Any
) -> None:
    legacy = Legacy()
    server = await serve(legacy)
    up = registry(up=at_url(server))
    first = await up.execute(call(), None)
    legacy.sessions.clear()
    second = await up.execute(call(), None)
    assert second.status == "ok"
    assert first.result_json != second.result_json
    assert server.methods().count("tools/call") == 3, "one of them was refused before it was looked at"


async def test_a_call_that_was_declined_once_is_never_reported_as_not_sent(
    registry: Any, serve: Any, call: Any, at_url: Any
) -> None:
    class Closing(Legacy):
        async def __call__(self, exchange: Any) -> None:
            if exchange.method == "initialize" and "of-somebody-else" in self.sessions:
                await exchange.json(b"{}", status="403 Forbidden")
            else:
                await super().__call__(exchange)

    legacy = Closing()
    server = await serve(legacy)
    up = registry(up=at_url(server))
    assert (await up.execute(call(), None)).status == "ok"
    legacy.sessions = {"of-somebody-else"}
    outcome = await up.execute(call(), None)
    assert (outcome.status, outcome.code, outcome.detail) == ("failed", "upstream_error", "HTTP 404")


async def test_a_server_that_loses_every_session_is_not_tried_for_ever(
    registry: Any, serve: Any, call: Any, at_url: Any
) -> None:
    class Forgetful(Legacy):
        async def __call__(self, exchange: Any) -> None:
            if exchange.method == "tools/call":
                self.sessions.clear()
            await super().__call__(exchange)

    server = await serve(Forgetful())
    outcome = await registry(up=at_url(server)).execute(call(), None)
    assert (outcome.status, outcome.code) == ("failed", "upstream_error")
    assert server.methods().count("tools/call") == 2


async def test_what_a_legacy_server_asks_of_the_client_is_refused(
    registry: Any, serve: Any, call: Any, at_url: Any
) -> None:
    replies: asyncio.Queue[bytes] = asyncio.Queue()

    async def ask(exchange: Any) -> None:
        if b'"error"' in exchange.body:
            await replies.put(exchange.body)
            await exchange.send(b"HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n")
            return
        asking = b'{"jsonrpc":"2.0","id":"q","method":"elicitation/create","params":{}}'
        await exchange.stream(asking, end=False)
        await exchange.events(exchange.answered(b'{"refused":%b}' % await replies.get()))

    class Asking(Legacy):
        async def __call__(self, exchange: Any) -> None:
            if b'"error"' in exchange.body:
                await ask(exchange)
            else:
                await super().__call__(exchange)

    server = await serve(Asking(ask))
    outcome = await registry(up=at_url(server)).execute(call(), None)
    refused = json.loads(outcome.result_json)["refused"]
    assert (refused["id"], refused["error"]["code"]) == ("q", -32601)


async def test_the_first_call_waits_until_a_question_outside_of_it_can_be_heard(
    registry: Any, serve: Any, call: Any, at_url: Any
) -> None:
    """The SDKs' servers drop what they ask outside of a call while nobody listens."""
    listening = asyncio.Event()

    class Dropping(Legacy):
        async def __call__(self, exchange: Any) -> None:
            if not exchange.head.startswith(b"GET"):
                await super().__call__(exchange)
                return
            await asyncio.sleep(0.1)
            await exchange.stream(b'{"jsonrpc":"2.0","method":"notifications/message"}', end=False)
            listening.set()

    async def told(exchange: Any) -> None:
        await exchange.result(b'{"content":[],"heard":%b}' % (b"true" if listening.is_set() else b"false"))

    server = await serve(Dropping(told))
    up = registry(up=at_url(server))
    asked = call(capabilities_json=b'{"elicitation":{}}')
    assert json.loads((await up.execute(asked, None)).result_json)["heard"]


async def test_a_stream_that_never_begins_holds_up_one_call_only(
    registry: Any, serve: Any, call: Any, at_url: Any
) -> None:
    class Silent(Legacy):
        async def __call__(self, exchange: Any) -> None:
            if not exchange.head.startswith(b"GET"):
                await super().__call__(exchange)

    server = await serve(Silent())
    up = registry(up=at_url(server))
    asked = call(capabilities_json=b'{"elicitation":{}}')
    now = asyncio.get_running_loop().time
    began = now()
    assert (await up.execute(asked, None)).status == "ok"
    assert now() - began >= 1
    began = now()
    assert (await up.execute(asked, None)).status == "ok"
    assert now() - began < 0.5


async def test_a_server_that_refuses_the_version_and_names_it_is_asked_once_more(
    registry: Any, serve: Any, call: Any, at_url: Any
) -> None:
    refused = []

    async def rolling(exchange: Any) -> None:
        if exchange.method == "server/discover" and not refused:
            refused.append(exchange.id)
            data = b'{"supported":["2026-07-28"],"requested":"2026-07-28"}'
            error = b'{"code":-32022,"message":"Unsupported protocol version","data":%b}' % data
            answer = b'{"jsonrpc":"2.0","id":%d,"error":%b}' % (exchange.id, error)
            await exchange.json(answer, status="400 Bad Request")
        elif not await exchange.discover():
            await exchange.result(DONE)

    server = await serve(rolling)
    up = registry(up=at_url(server))
    assert (await up.execute(call(), None)).status == "ok"
    assert up.info("up").era == "modern"
    assert "initialize" not in server.methods()


async def test_a_server_that_changes_its_era_is_asked_again(
    registry: Any, serve: Any, call: Any, at_url: Any
) -> None:
    legacy = Legacy()

    async def done(exchange: Any) -> None:
        await exchange.result(DONE)

    now: list[Callable[[Any], Awaitable[None]]] = [legacy]

    async def changing(exchange: Any) -> None:
        await now[0](exchange)

    server = await serve(changing)
    up = registry(up=at_url(server))
    assert (await up.execute(call(), None)).status == "ok"
    assert up.info("up").era == "legacy"

    async def modern_only(exchange: Any) -> None:
        if exchange.header("mcp-protocol-version") != "2026-07-28":
            await exchange.json(
                b'{"jsonrpc":"2.0","id":%d,"error":{"code":-32022,"message":"Unsupported",'
                b'"data":{"supported":["2026-07-28"]}}}' % exchange.id,
                status="400 Bad Request",
            )
        elif not await exchange.discover():
            await done(exchange)

    now[0] = modern_only
    assert (await up.execute(call(), None)).status == "rpc_error"
    assert (await up.execute(call(), None)).status == "ok"
    assert up.info("up").era == "modern"

    now[0] = legacy
    legacy.sessions.clear()
    assert (await up.execute(call(), None)).status == "rpc_error"
    assert (await up.execute(call(), None)).status == "ok"
    assert up.info("up").era == "legacy"


async def test_one_agents_bad_request_ends_nobodys_session(
    registry: Any, serve: Any, call: Any, principal: Any, at_url: Any
) -> None:
    async def calls(exchange: Any) -> None:
        if exchange.header("mcp-session-id") and b'"bad"' in exchange.body:
            await exchange.json(b"{}", status="400 Bad Request")
        else:
            await exchange.result(b'{"session":"%b"}' % exchange.header("mcp-session-id").encode())

    server = await serve(Legacy(calls))
    up = registry(up=at_url(server))
    before = await up.execute(call(who=principal("a")), None)
    assert (await up.execute(call(name="bad", who=principal("b")), None)).status == "failed"
    after = await up.execute(call(who=principal("a")), None)
    assert before.result_json == after.result_json


@pytest.mark.parametrize("version", ["2024-11-05", "2099-01-01"])
async def test_a_version_that_is_not_spoken_here_is_not_called(
    registry: Any, serve: Any, call: Any, version: str, at_url: Any
) -> None:
    async def answer(exchange: Any) -> None:
        await exchange.result(b'{"protocolVersion":"%b","capabilities":{}}' % version.encode())

    server = await serve(answer)
    outcome = await registry(up=at_url(server)).execute(call(), None)
    assert (outcome.status, outcome.code) == ("not_sent", "upstream_unavailable")
    assert "tools/call" not in server.methods()


async def test_a_session_id_that_would_break_a_header_is_refused(
    registry: Any, serve: Any, call: Any, at_url: Any
) -> None:
    async def answer(exchange: Any) -> None:
        await exchange.result(
            b'{"protocolVersion":"2025-11-25","capabilities":{}}', extra=b"mcp-session-id: a\x80b\r\n"
        )

    server = await serve(answer)
    outcome = await registry(up=at_url(server)).execute(call(), None)
    assert outcome.status == "not_sent"
