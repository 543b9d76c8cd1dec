"""Streams on which upstreams say what changed: they come back, and what was missed is told."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gateway.errors import InDoubt
from gateway.ports import Subscriber
from gateway.upstreams.mcp import channel as http_channel
from gateway.upstreams.mcp import feeds, stdio_changes
from gateway.upstreams.mcp import stdio as mcp_stdio
from gateway.upstreams.mcp.feeds import Feed, NoFeed
from tests.talk import Talk
from tests.upstreams.test_mcp_http_legacy import Legacy

URI = "test://changing"
ACCEPTED = b"HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n"
AGENT = Subscriber("t", "agent", "key-agent", "")
UPDATED = b'{"jsonrpc":"2.0","method":"notifications/resources/updated","params":{"uri":"test://changing"}}'
LIST_CHANGED = b'{"jsonrpc":"2.0","method":"notifications/tools/list_changed"}'


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feeds, "RETRY_S", 0.05)
    monkeypatch.setattr(feeds, "RETRY_MAX_S", 0.2)
    monkeypatch.setattr(mcp_stdio, "BACKOFF_S", 0.05)
    monkeypatch.setattr(stdio_changes, "HEARD_AGAIN_S", 0.05)


async def until(true: Callable[[], object], timeout_s: float = 5) -> None:
    async with asyncio.timeout(timeout_s):
        while not true():
            await asyncio.sleep(0.01)


def heard(up: Any) -> list[tuple[str, Subscriber, str]]:
    told: list[tuple[str, Subscriber, str]] = []
    up.on_updated = lambda *what: told.append(what)
    return told


# ------------------------------------------------------------------------------------------ on its own


class Server:
    """What ``listen`` meets, one after the other: an error to raise, or seconds to stay open."""

    def __init__(self, *script: Any) -> None:
        self.script = list(script)
        self.at: list[float] = []
        self.missed = 0
        self.feed = Feed(self.listen, self.miss)

    def miss(self) -> None:
        self.missed += 1

    async def listen(self, opened: Callable[[], None]) -> None:
        self.at.append(asyncio.get_running_loop().time())
        step = self.script.pop(0) if self.script else 3600.0
        if isinstance(step, Exception):
            raise step
        opened()
        await asyncio.sleep(step)


DOWN = InDoubt("upstream_lost")


async def test_a_stream_that_ends_is_opened_again_and_what_was_missed_is_told_once() -> None:
    server = Server(0.1, DOWN, DOWN)
    server.feed.start()
    await until(lambda: len(server.at) == 4)
    await asyncio.sleep(0.02)
    assert server.missed == 1
    server.feed.stop()


async def test_the_first_opening_has_missed_nothing() -> None:
    server = Server(DOWN, DOWN)
    server.feed.start()
    await until(lambda: len(server.at) == 3)
    await asyncio.sleep(0.02)
    assert server.missed == 0
    server.feed.stop()


async def test_the_pause_grows_also_when_every_stream_ends_at_once(monkeypatch: Any) -> None:
    monkeypatch.setattr(feeds, "RETRY_MAX_S", 10.0)
    server = Server(*[0.0] * 20)
    server.feed.start()
    await until(lambda: len(server.at) == 4)
    server.feed.stop()
    pauses = [after - before for before, after in zip(server.at, server.at[1:], strict=False)]
    assert pauses[1] > pauses[0] * 1.5 and pauses[2] > pauses[1] * 1.5, pauses


async def test_an_upstream_that_has_no_such_stream_is_not_asked_again() -> None:
    server = Server(NoFeed())
    server.feed.start()
    await asyncio.wait_for(server.feed.wait(asyncio.get_running_loop().time() + 1), 0.5)
    server.feed.start()
    await asyncio.sleep(0.2)
    assert len(server.at) == 1 and server.feed.none


async def test_a_stream_in_place_of_another_leaves_no_gap_and_a_refused_one_leaves_the_old() -> None:
    server = Server(3600.0, NoFeed(), 3600.0)
    at = asyncio.get_running_loop().time() + 1
    assert await server.feed.replace(at)
    first = server.feed._task
    assert not await server.feed.replace(at)
    assert server.feed._task is first and first is not None and not first.done() and not server.feed.none
    assert await server.feed.replace(at)
    await asyncio.sleep(0)
    assert first.cancelled() and server.missed == 0
    server.feed.stop()


async def test_a_stream_that_is_not_taken_in_time_is_given_up() -> None:
    server = Server(3600.0, *[DOWN] * 100)
    now = asyncio.get_running_loop().time
    assert await server.feed.replace(now() + 1)
    assert not await server.feed.replace(now() + 0.2)
    before = len(server.at)
    await asyncio.sleep(0.4)
    assert len(server.at) == before
    server.feed.stop()


async def test_a_feed_that_is_stopped_while_it_is_replaced_leaves_nothing_running() -> None:
    server = Server(3600.0, *[DOWN] * 100)
    now = asyncio.get_running_loop().time
    await server.feed.replace(now() + 1)
    first = server.feed._task
    replacing = asyncio.create_task(server.feed.replace(now() + 0.2))
    await asyncio.sleep(0.02)
    server.feed.stop()
    assert not await replacing
    await asyncio.sleep(0)
    assert first is not None and first.cancelled() and server.feed._task is None


# ----------------------------------------------------------------------------------- over HTTP, legacy


class Changing(Legacy):
    """A session server with a GET stream for changes."""

    def __init__(self, calls: Any = None) -> None:
        super().__init__(calls)
        self.streams: list[Any] = []
        self.subscribed: list[tuple[str, str, str]] = []  # (method, session, uri)
        self.get_status = ""
        self.refuses = False

    async def __call__(self, exchange: Any) -> None:
        session = exchange.header("mcp-session-id")
        if exchange.method == "initialize":
            name = f"s{len(self.sessions)}-{exchange.id}"
            self.sessions.add(name)
            capabilities = {"tools": {"listChanged": True}, "resources": {"subscribe": True}}
            result = {
                "protocolVersion": "2025-11-25", "capabilities": capabilities,
                "serverInfo": {"name": "c", "version": "1"},
            }  # fmt: skip
            await exchange.result(
                json.dumps(result).encode(), extra=b"mcp-session-id: %b\r\n" % name.encode()
            )
        elif exchange.head.startswith(b"GET") and self.get_status:
            await exchange.json(b"{}", status=self.get_status)
        elif exchange.head.startswith(b"GET") and session in self.sessions:
            await exchange.stream(b"", end=False)
            self.streams.append(exchange)
        elif exchange.method in ("resources/subscribe", "resources/unsubscribe") and session in self.sessions:
            uri = json.loads(exchange.body)["params"]["uri"]
            self.subscribed.append((exchange.method, session, uri))
            if self.refuses:
                error = b'{"jsonrpc":"2.0","id":%d,"error":{"code":-32002,"message":"no"}}' % exchange.id
                await exchange.json(error)
            else:
                await exchange.result(b"{}")
        else:
            await super().__call__(exchange)

    def drop(self) -> None:
        """End all streams as a restart does."""
        for stream in self.streams:
            stream.writer.close()
        self.streams.clear()


def subscription(call: Any, uri: str = URI, **more: Any) -> Any:
    return call(name=uri, kind="subscription", **more)


async def a_legacy(registry: Any, serve: Any, at_url: Any) -> tuple[Changing, Any, Any, list[Any]]:
    legacy = Changing()
    server = await serve(legacy)
    up = registry(up=at_url(server))
    await up.start()
    return legacy, server, up, heard(up)


async def test_a_subscription_is_told_of_changes_and_of_those_it_missed(
    registry: Any, serve: Any, call: Any, at_url: Any
) -> None:
    legacy, _, up, told = await a_legacy(registry, serve, at_url)
    assert (await up.execute(subscription(call), None)).status == "ok"
    (stream,) = [each for each in legacy.streams if each.header("mcp-session-id") != "s0-2"]
    await stream.events(UPDATED, end=False)
    await until(lambda: told == [("up", AGENT, URI)])
    legacy.drop()
    await until(lambda: len(told) == 2)
    assert told[1] == ("up", AGENT, URI)


async def test_a_subscription_survives_a_session_that_the_server_lost(
    registry: Any, serve: Any, call: Any, at_url: Any
) -> None:
    legacy, _, up, told = await a_legacy(registry, serve, at_url)
    await up.execute(subscription(call), None)
    before = legacy.subscribed[-1][1]
    legacy.sessions.clear()  # the server restarts
    legacy.drop()
    await until(lambda: told)
    method, session, uri = legacy.subscribed[-1]
    assert (method, uri) == ("resources/subscribe", URI) and session != before and session in legacy.sessions
    told.clear()
    stream = next(each for each in legacy.streams if each.header("mcp-session-id") == session)
    await stream.events(UPDATED, end=False)
    await until(lambda: told)


async def test_a_subscription_moves_to_the_session_that_a_call_had_to_open(
    registry: Any, serve: Any, call: Any, at_url: Any
) -> None:
    """The server forgot the session and left its stream open."""
    legacy, _, up, told = await a_legacy(registry, serve, at_url)
    await up.execute(subscription(call), None)
    legacy.sessions.clear()
    assert (await up.execute(call(), None)).status == "ok"
    await until(lambda: told)
    assert legacy.subscribed[-1][1] in legacy.sessions


async def test_an_update_on_the_stream_of_a_call_is_heard_too(
    registry: Any, serve: Any, call: Any, at_url: Any
) -> None:
    legacy, _, up, told = await a_legacy(registry, serve, at_url)
    await up.execute(subscription(call), None)

    async def calls(exchange: Any) -> None:
        await exchange.stream(UPDATED, exchange.answered())

    legacy.calls = calls
    talk = Talk()
    assert (await up.execute(call(), talk)).status == "ok"
    assert told == [("up", AGENT, URI)] and talk.notes == []


async def test_the_last_unsubscribe_ends_the_stream(
    registry: Any, serve: Any, call: Any, at_url: Any
) -> None:
    legacy, server, up, _ = await a_legacy(registry, serve, at_url)
    before = server.concurrent
    await up.execute(subscription(call), None)
    assert server.concurrent > before
    await up.unsubscribe(AGENT, "up", URI)
    assert [method for method, _, _ in legacy.subscribed] == ["resources/subscribe", "resources/unsubscribe"]
    open_streams = len(up._peers["up"]._feeds)
    assert open_streams == 1, "only the gateway's own is left"
    await up.unsubscribe(AGENT, "up", URI)
    assert len(legacy.subscribed) == 2, "what is not subscribed is not ended again"


async def test_a_refused_subscription_leaves_nothing_behind(
    registry: Any, serve: Any, call: Any, at_url: Any
) -> None:
    legacy, _, up, _ = await a_legacy(registry, serve, at_url)
    legacy.refuses = True
    outcome = await up.execute(subscription(call), None)
    assert outcome.status == "rpc_error" and len(up._peers["up"]._feeds) == 1


@pytest.mark.parametrize("status", ["405 Method Not Allowed", "404 Not Found", "501 Not Implemented"])
async def test_a_server_without_a_stream_is_asked_for_it_once(
    registry: Any, serve: Any, call: Any, at_url: Any, status: str
) -> None:
    legacy = Changing()
    legacy.get_status = status
    if status.startswith("404"):  # with a session it would mean that the session is over
        legacy.get_status = "400 Bad Request"
    server = await serve(legacy)
    up = registry(up=at_url(server))
    await up.start()
    await asyncio.sleep(0.4)
    assert sum(each.head.startswith(b"GET") for each in server.exchanges) == 1
    assert (await up.execute(subscription(call), None)).status == "ok", "it may still tell on other streams"


@pytest.mark.parametrize("status", ["502 Bad Gateway", "503 Service Unavailable", "429 Too Many Requests"])
async def test_a_server_that_is_only_down_is_asked_again(
    registry: Any, serve: Any, at_url: Any, status: str
) -> None:
    legacy = Changing()
    legacy.get_status = status
    up = registry(up=at_url(await serve(legacy)))
    await up.start()
    await asyncio.sleep(0.1)
    legacy.get_status = ""
    await until(lambda: legacy.streams)


async def test_a_list_that_changed_while_nobody_listened_is_told(
    registry: Any, serve: Any, at_url: Any
) -> None:
    legacy = Changing()
    up = registry(up=at_url(await serve(legacy)))
    changed: list[str] = []
    up.on_list_changed = changed.append
    await up.start()
    await until(lambda: legacy.streams)
    await legacy.streams[0].events(LIST_CHANGED, end=False)
    await until(lambda: changed == ["up"])
    legacy.drop()
    await until(lambda: changed == ["up", "up"])


# ----------------------------------------------------------------------------------- over HTTP, modern


class Listening:
    """A modern server that takes ``subscriptions/listen`` as it is told to."""

    def __init__(self) -> None:
        self.wanted: list[Any] = []
        self.streams: list[Any] = []
        self.answer = ""

    async def __call__(self, exchange: Any) -> None:
        if await exchange.discover():
            return
        if exchange.method != "subscriptions/listen":
            await exchange.result(b'{"resultType":"complete","content":[]}')
            return
        wanted = json.loads(exchange.body)["params"]["notifications"]
        self.wanted.append(wanted)
        if "test://refused" in wanted["resourceSubscriptions"]:
            error = b'{"jsonrpc":"2.0","id":%d,"error":{"code":-32602,"message":"no"}}' % exchange.id
            await exchange.json(error, status="400 Bad Request")
        elif self.answer:
            await exchange.json(b"", status=self.answer)
        else:
            acknowledged = {
                "jsonrpc": "2.0", "method": "notifications/subscriptions/acknowledged",
                "params": {"notifications": wanted},
            }  # fmt: skip
            await exchange.stream(json.dumps(acknowledged).encode(), end=False)
            self.streams.append(exchange)


async def test_one_refused_resource_does_not_end_what_was_subscribed_before(
    registry: Any, serve: Any, call: Any, at_url: Any
) -> None:
    modern = Listening()
    up = registry(up=at_url(await serve(modern)))
    await up.start()
    told = heard(up)
    assert (await up.execute(subscription(call), None)).status == "ok"
    refused = await up.execute(subscription(call, "test://refused"), None)
    assert (refused.status, refused.code) == ("not_sent", "upstream_unavailable")
    await modern.streams[0].events(UPDATED, end=False)
    await until(lambda: told == [("up", AGENT, URI)])
    assert (await up.execute(subscription(call, "test://other"), None)).status == "ok"
    assert modern.wanted[-1] == {"resourceSubscriptions": [URI, "test://other"]}
    assert len(told) == 1, "nothing was missed, so nothing is told"


async def test_a_subscription_that_is_not_taken_is_a_refusal_and_leaves_nothing_behind(
    registry: Any, serve: Any, call: Any, at_url: Any
) -> None:
    modern = Listening()
    modern.answer = "404 Not Found"
    up = registry(up=at_url(await serve(modern)))
    await up.start()
    async with asyncio.timeout(2):
        outcome = await up.execute(subscription(call), None)
    assert (outcome.status, outcome.code) == ("not_sent", "upstream_unavailable")
    assert not up._peers["up"]._feeds


async def test_the_last_unsubscribe_of_a_modern_stream_closes_it(
    registry: Any, serve: Any, call: Any, at_url: Any
) -> None:
    modern = Listening()
    server = await serve(modern)
    up = registry(up=at_url(server))
    await up.start()
    await up.execute(subscription(call), None)
    await up.unsubscribe(AGENT, "up", URI)
    await until(lambda: modern.streams[0].writer.transport.is_closing())
    assert not up._peers["up"]._feeds and len(modern.wanted) == 1


# ------------------------------------------------------------------------------------------- on stdio


def log_of(path: Path) -> list[tuple[str, str]]:
    """``(process, method)`` of every message."""
    return [(line.split()[0], line.split()[1]) for line in path.read_text().splitlines()]


@pytest.mark.parametrize("era", ["legacy", "modern"])
async def test_a_subscription_survives_the_death_of_a_child_without_any_call(
    registry: Any, child: Any, call: Any, tmp_path: Path, era: str
) -> None:
    log = tmp_path / "log"
    up = registry(up=child("changing.py", era, "log", str(log)))
    await up.start()
    told = heard(up)
    assert (await up.execute(subscription(call), None)).status == "ok"
    await up.execute(call(name="touch"), None)
    await until(lambda: told == [("up", AGENT, URI)])
    assert (await up.execute(call(name="die"), None)).status == "in_doubt"
    await until(lambda: len(told) == 2)  # what may have changed meanwhile
    subscribe = "resources/subscribe" if era == "legacy" else "subscriptions/listen"
    pids = [pid for pid, method in log_of(log) if method == subscribe]
    assert len(set(pids)) == 2
    await up.execute(call(name="touch"), None)
    await until(lambda: len(told) == 3)


async def test_a_child_that_nobody_listens_to_stays_down_until_it_is_called(
    registry: Any, child: Any, call: Any, tmp_path: Path
) -> None:
    up = registry(up=child("changing.py", "log", str(tmp_path / "log")))
    await up.start()
    await up.execute(subscription(call), None)
    await up.unsubscribe(AGENT, "up", URI)
    await up.execute(call(name="die"), None)
    await asyncio.sleep(0.4)
    assert up.status()[0].restarts == 0


async def test_no_child_is_started_to_be_told_that_nobody_listens_any_more(
    registry: Any, child: Any, call: Any, tmp_path: Path
) -> None:
    up = registry(up=child("changing.py", "log", str(tmp_path / "log")))
    await up.start()
    running = up.status()[0].children
    await up.unsubscribe(AGENT, "up", URI)
    assert up.status()[0].children == running


async def test_a_refused_subscription_takes_nothing_from_others_who_share_the_child(
    registry: Any, child: Any, call: Any, principal: Any, tmp_path: Path
) -> None:
    log = tmp_path / "log"
    up = registry(up=child("changing.py", "log", str(log), shared=True))
    await up.start()
    told = heard(up)
    for agent in ("a", "b"):
        assert (await up.execute(subscription(call, who=principal(agent)), None)).status == "ok"
    assert (await up.execute(subscription(call, "test://none"), None)).status == "rpc_error"
    await up.execute(call(name="touch"), None)
    await until(lambda: len(told) == 2)
    assert {who.agent for _, who, _ in told} == {"a", "b"}
    await up.unsubscribe(told[0][1], "up", URI)
    assert "resources/unsubscribe" not in [method for _, method in log_of(log)], "the other still listens"
    await up.unsubscribe(told[1][1], "up", URI)
    assert [method for _, method in log_of(log)].count("resources/unsubscribe") == 1


async def test_a_stream_on_stdio_that_the_server_ends_is_asked_for_again(
    registry: Any, child: Any, call: Any, tmp_path: Path
) -> None:
    log = tmp_path / "log"
    up = registry(up=child("changing.py", "modern", "log", str(log)))
    await up.start()
    told = heard(up)
    await up.execute(subscription(call), None)
    await up.execute(call(name="end"), None)
    await until(lambda: [method for _, method in log_of(log)].count("subscriptions/listen") == 2)
    await up.execute(call(name="touch"), None)
    await until(lambda: told)


# ------------------------------------------------------------------------------------------ resumption


class Resuming(Legacy):
    """Answers a call on a stream it closes, and gives the answer to a client that comes back."""

    def __init__(self, first: bytes, *later: bytes) -> None:
        super().__init__(self._first)
        self.first = first
        self.later = list(later)
        self.number = 0
        self.asked: list[str | None] = []

    async def _first(self, exchange: Any) -> None:
        self.number = exchange.id
        await self._stream(exchange, self.first)

    async def _stream(self, exchange: Any, body: bytes) -> None:
        head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Length: %d\r\n\r\n"
        body = body.replace(b"NUMBER", b"%d" % self.number)
        await exchange.send(head % len(body) + body)

    async def __call__(self, exchange: Any) -> None:
        if exchange.head.startswith(b"GET") and exchange.header("last-event-id") is not None:
            self.asked.append(exchange.header("last-event-id"))
            await self._stream(exchange, self.later.pop(0) if self.later else b"")
        elif exchange.head.startswith(b"GET"):
            await exchange.json(b"{}", status="405 Method Not Allowed")
        else:
            await super().__call__(exchange)


ANSWER = b'id: e2\nretry: 0\ndata: {"jsonrpc":"2.0","id":NUMBER,"result":{"content":[]}}\n\n'
OPENED = b"id: e1\nretry: 0\ndata:\n\n"


async def resumed(registry: Any, serve: Any, call: Any, at_url: Any, server: Resuming, **more: Any) -> Any:
    raw = await serve(server)
    up = registry(up=at_url(raw))
    outcome = await up.execute(call(**more), Talk())
    assert raw.methods().count("tools/call") == 1, "the call is sent once, whatever becomes of its answer"
    return outcome


async def test_an_answer_is_fetched_where_its_stream_ended(
    registry: Any, serve: Any, call: Any, at_url: Any
) -> None:
    server = Resuming(OPENED, b"id: e1b\nretry: 0\ndata:\n\n", ANSWER)
    assert (await resumed(registry, serve, call, at_url, server)).status == "ok"
    assert server.asked == ["e1", "e1b"]


async def test_the_answer_to_another_request_is_no_answer(
    registry: Any, serve: Any, call: Any, at_url: Any
) -> None:
    server = Resuming(OPENED, ANSWER.replace(b"NUMBER", b"99"))
    outcome = await resumed(registry, serve, call, at_url, server)
    assert (outcome.status, outcome.code) == ("in_doubt", "upstream_bad_answer")


async def test_a_server_that_never_answers_is_not_asked_for_ever(
    registry: Any, serve: Any, call: Any, at_url: Any, monkeypatch: Any
) -> None:
    monkeypatch.setattr(http_channel, "RESUMED", 10)
    server = Resuming(OPENED, *[b"retry: 0\ndata:\n\n"] * 50)
    outcome = await resumed(registry, serve, call, at_url, server)
    assert (outcome.status, outcome.code) == ("in_doubt", "upstream_lost") and len(server.asked) == 10


async def test_a_pause_that_a_server_asks_for_does_not_outlast_the_deadline(
    registry: Any, serve: Any, call: Any, at_url: Any
) -> None:
    server = Resuming(OPENED.replace(b"retry: 0", b"retry: 99999999"), ANSWER)
    async with asyncio.timeout(2):
        outcome = await resumed(registry, serve, call, at_url, server, deadline_s=0.3)
    assert (outcome.status, outcome.code) == ("in_doubt", "upstream_timeout") and server.asked == []


@pytest.mark.parametrize("hostile", [b"e\x07", b"e\xff", b"\x1b[31m", "é".encode(), b"e\x7f"])
async def test_an_event_id_that_is_no_header_value_is_not_sent(
    registry: Any, serve: Any, call: Any, at_url: Any, hostile: bytes
) -> None:
    server = Resuming(b"id: %b\nretry: 0\ndata:\n\n" % hostile, ANSWER)
    outcome = await resumed(registry, serve, call, at_url, server)
    assert (outcome.status, outcome.code) == ("in_doubt", "upstream_lost") and server.asked == []


async def test_an_endless_event_id_is_not_sent_back(
    registry: Any, serve: Any, call: Any, at_url: Any
) -> None:
    server = Resuming(b"id: %b\nretry: 0\ndata:\n\n" % (b"e" * 8_000), ANSWER)
    outcome = await resumed(registry, serve, call, at_url, server)
    assert (outcome.status, outcome.code) == ("in_doubt", "upstream_lost") and server.asked == []
