"""What a legacy upstream asks in the middle of a call: of whom, how often, and what it costs the deadline."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from gateway.upstreams.mcp import questions
from tests.talk import Talk
from tests.upstreams.test_mcp_http_legacy import DONE, Legacy

NAME = b'{"action":"accept","content":{"name":"Ada"}}'
CAPABLE = b'{"elicitation":{}}'
ACCEPTED = b"HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n"


def question(key: object, method: str = "elicitation/create") -> bytes:
    return json.dumps({"jsonrpc": "2.0", "id": key, "method": method, "params": {"of": key}}).encode()


class Asking(Legacy):
    """A server with a GET stream, that keeps what its questions were answered."""

    def __init__(self, calls: Any) -> None:
        super().__init__(calls)
        self.replies: dict[Any, Any] = {}
        self.by: dict[Any, str] = {}  # which session answered
        self.streams: dict[str, Any] = {}
        self.replied = asyncio.Event()

    async def __call__(self, exchange: Any) -> None:
        session = exchange.header("mcp-session-id")
        if exchange.head.startswith(b"GET") and session in self.sessions:
            await exchange.stream(b"", end=False)
            self.streams[session] = exchange
        elif exchange.body and not exchange.method and session in self.sessions:
            message = json.loads(exchange.body)
            self.replies[message["id"]] = message.get("result", message.get("error"))
            self.by[message["id"]] = session
            self.replied.set()
            await exchange.send(ACCEPTED)
        else:
            await super().__call__(exchange)

    async def answers(self, *keys: Any) -> None:
        async with asyncio.timeout(3):
            while not all(key in self.replies for key in keys):
                self.replied.clear()
                await self.replied.wait()


class Slow(Talk):
    """A client that takes its time."""

    def __init__(self, seconds: float, **more: Any) -> None:
        super().__init__({"elicitation/create": NAME}, **more)
        self.seconds = seconds

    async def ask(self, method: str, params_json: bytes) -> bytes:
        await asyncio.sleep(self.seconds)
        return await super().ask(method, params_json)


async def test_the_deadline_of_a_call_stands_still_while_the_client_is_asked(
    registry: Any, serve: Any, call: Any, at_url: Any
) -> None:
    async def calls(exchange: Any) -> None:
        await exchange.stream(question("a"), end=False)
        await legacy.answers("a")
        await exchange.events(exchange.answered())

    legacy = Asking(calls)
    up = registry(up=at_url(await serve(legacy)))
    await up.start()
    outcome = await up.execute(call(deadline_s=0.3, capabilities_json=CAPABLE), Slow(0.6))
    assert (outcome.status, legacy.replies) == ("ok", {"a": json.loads(NAME)})


async def test_a_ping_next_to_a_question_does_not_let_the_deadline_run(
    registry: Any, serve: Any, call: Any, at_url: Any
) -> None:
    async def calls(exchange: Any) -> None:
        await exchange.stream(question("p", "ping"), question("a"), end=False)
        await legacy.answers("a", "p")
        await exchange.events(exchange.answered())

    legacy = Asking(calls)
    up = registry(up=at_url(await serve(legacy)))
    await up.start()
    outcome = await up.execute(call(deadline_s=0.3, capabilities_json=CAPABLE), Slow(0.6))
    assert outcome.status == "ok" and legacy.replies["p"] == {}


async def test_the_deadline_runs_on_after_the_answer(
    registry: Any, serve: Any, call: Any, at_url: Any
) -> None:
    async def calls(exchange: Any) -> None:
        await exchange.stream(question("a"), end=False)
        await asyncio.sleep(3)

    up = registry(up=at_url(await serve(Asking(calls))))
    await up.start()
    async with asyncio.timeout(1.5):
        outcome = await up.execute(call(deadline_s=0.3, capabilities_json=CAPABLE), Slow(0.1))
    assert (outcome.status, outcome.code) == ("in_doubt", "upstream_timeout")


async def test_calls_that_hold_every_connection_still_get_their_answers_through(
    registry: Any, serve: Any, call: Any, at_url: Any
) -> None:
    async def calls(exchange: Any) -> None:
        await exchange.stream(question(exchange.id), end=False)
        await legacy.answers(exchange.id)
        await exchange.events(exchange.answered())

    legacy = Asking(calls)
    up = registry(up=at_url(await serve(legacy), connections=2))
    await up.start()
    talks = [Talk({"elicitation/create": NAME}) for _ in range(2)]
    async with asyncio.timeout(5):
        outcomes = await asyncio.gather(
            *(up.execute(call(capabilities_json=CAPABLE, deadline_s=3), talk) for talk in talks)
        )
    assert [each.status for each in outcomes] == ["ok", "ok"]


async def test_a_flood_of_questions_is_refused_and_does_not_become_a_flood_of_ours(
    registry: Any, serve: Any, call: Any, at_url: Any, monkeypatch: Any
) -> None:
    monkeypatch.setattr(questions, "IN_ALL", 20)
    monkeypatch.setattr(questions, "AT_ONCE", 4)
    monkeypatch.setattr(questions, "MAX_REPLIES", 32)

    async def calls(exchange: Any) -> None:
        await exchange.stream(*(question(number) for number in range(1000)), end=False)
        await legacy.answers(0, 1, 2, 3)
        await asyncio.sleep(0.2)
        await exchange.events(exchange.answered())

    legacy = Asking(calls)
    server = await serve(legacy)
    up = registry(up=at_url(server))
    await up.start()
    talk = Slow(0.05)
    outcome = await up.execute(call(capabilities_json=CAPABLE), talk)
    assert outcome.status == "ok"
    assert len(talk.asked) == 4
    assert len(legacy.replies) < 100, "not one answer for each"
    assert server.peak < 60


async def test_no_more_questions_than_a_call_may_have_reach_the_client(
    registry: Any, serve: Any, call: Any, at_url: Any, monkeypatch: Any
) -> None:
    monkeypatch.setattr(questions, "IN_ALL", 5)

    async def calls(exchange: Any) -> None:
        await exchange.stream(b"", end=False)
        for number in range(8):
            await exchange.events(question(number), end=False)
            await legacy.answers(number)
        await exchange.events(exchange.answered())

    legacy = Asking(calls)
    up = registry(up=at_url(await serve(legacy)))
    await up.start()
    talk = Talk({"elicitation/create": NAME})
    assert (await up.execute(call(capabilities_json=CAPABLE), talk)).status == "ok"
    assert len(talk.asked) == 5 and legacy.replies[7]["code"] == questions.REFUSED


async def test_a_question_on_the_get_stream_goes_to_the_client_whose_session_it_is(
    registry: Any, serve: Any, call: Any, principal: Any, at_url: Any
) -> None:
    """Two principals, and two clients of one of them, all with a call under way."""

    async def calls(exchange: Any) -> None:
        session = exchange.header("mcp-session-id")
        async with asyncio.timeout(3):
            while session not in legacy.streams:
                await asyncio.sleep(0.01)
        await legacy.streams[session].events(question(session), end=False)
        await legacy.answers(session)
        await exchange.result(b'{"session":"%b"}' % session.encode())

    legacy = Asking(calls)
    up = registry(up=at_url(await serve(legacy)))
    await up.start()
    clients = {("alice", "one"): None, ("alice", "two"): None, ("bob", "one"): None}
    talks = {who: Talk({"elicitation/create": json.dumps({"by": who}).encode()}) for who in clients}
    outcomes = await asyncio.gather(*(
        up.execute(call(who=principal(agent), thread=thread, capabilities_json=CAPABLE), talks[agent, thread])
        for agent, thread in clients
    ))  # fmt: skip
    for who, outcome in zip(clients, outcomes, strict=True):
        session = json.loads(outcome.result_json)["session"]
        assert legacy.replies[session] == {"by": list(who)} and legacy.by[session] == session
        assert len(talks[who].asked) == 1
    assert len(set(legacy.by.values())) == 3


async def test_clients_that_name_no_thread_are_kept_apart_while_their_calls_are_under_way(
    registry: Any, serve: Any, call: Any, at_url: Any
) -> None:
    async def calls(exchange: Any) -> None:
        session = exchange.header("mcp-session-id")
        async with asyncio.timeout(3):
            while session not in legacy.streams or len(legacy.streams) < 3:
                await asyncio.sleep(0.01)
        await legacy.streams[session].events(question(session), end=False)
        await legacy.answers(session)
        await exchange.result(b'{"session":"%b"}' % session.encode())

    legacy = Asking(calls)
    up = registry(up=at_url(await serve(legacy)))
    await up.start()
    talks = [Talk({"elicitation/create": b'{"by":%d}' % number}) for number in range(3)]
    outcomes = await asyncio.gather(*(up.execute(call(capabilities_json=CAPABLE), talk) for talk in talks))
    for number, outcome in enumerate(outcomes):
        assert legacy.replies[json.loads(outcome.result_json)["session"]] == {"by": number}


async def test_a_question_outside_of_any_call_is_refused(
    registry: Any, serve: Any, call: Any, at_url: Any
) -> None:
    legacy = Asking(None)
    up = registry(up=at_url(await serve(legacy)))
    await up.start()
    await up.execute(call(capabilities_json=CAPABLE), Talk({"elicitation/create": NAME}))
    async with asyncio.timeout(3):
        while not legacy.streams:
            await asyncio.sleep(0.01)
    (stream,) = legacy.streams.values()
    await stream.events(question("stray"), question("p", "ping"), end=False)
    await legacy.answers("stray", "p")
    assert legacy.replies == {"stray": {"code": -32601, "message": "Method not found"}, "p": {}}


@pytest.mark.parametrize("shared", [True, False])
async def test_a_question_on_stdio_goes_to_the_client_whose_child_it_is_and_of_a_shared_one_to_nobody(
    registry: Any, child: Any, call: Any, principal: Any, shared: bool
) -> None:
    up = registry(up=child("legacy.py", shared=shared))
    await up.start()
    clients = [("alice", "one"), ("alice", "two"), ("bob", "one")][: 1 if shared else 3]
    talks = [Talk({"sampling/createMessage": json.dumps({"by": who}).encode()}) for who in clients]
    outcomes = await asyncio.gather(*(
        up.execute(
            call(who=principal(agent), thread=thread, name="ask", capabilities_json=b'{"sampling":{}}'), talk
        )
        for (agent, thread), talk in zip(clients, talks, strict=True)
    ))  # fmt: skip
    texts = [json.loads(each.result_json)["content"][0]["text"] for each in outcomes if each.result_json]
    if shared:
        assert talks[0].asked == [] and "Method not found" in texts[0]
    else:
        assert [json.loads(text)["by"] for text in texts] == [list(who) for who in clients]


async def test_an_answer_without_a_dialogue_is_a_refusal(
    registry: Any, serve: Any, call: Any, at_url: Any
) -> None:
    async def calls(exchange: Any) -> None:
        await exchange.stream(question("a"), end=False)
        await legacy.answers("a")
        await exchange.events(exchange.answered(DONE))

    legacy = Asking(calls)
    up = registry(up=at_url(await serve(legacy)))
    await up.start()
    assert (await up.execute(call(), None)).status == "ok"
    assert legacy.replies["a"]["code"] == -32601
