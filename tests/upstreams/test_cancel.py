"""A client that gives up: what the upstream is told, and that nobody else's call pays for it."""

from __future__ import annotations

import asyncio
import json
import random
from typing import Any

import pytest

from gateway.upstreams.mcp import channel as http_channel
from gateway.upstreams.mcp import conversation
from tests.talk import Talk
from tests.upstreams.test_mcp_http_legacy import DONE, Legacy

ACCEPTED = b"HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n"


async def after(talk: Talk, seconds: float) -> None:
    await asyncio.sleep(seconds)
    talk.cancel()


class Held(Legacy):
    """Works until it is told to stop, then says what became of the call, or nothing."""

    def __init__(self, answers: bool) -> None:
        super().__init__(self._work)
        self.answers = answers
        self.cancelled: list[int] = []
        self.called: list[int] = []
        self.told = asyncio.Event()

    async def _work(self, exchange: Any) -> None:
        self.called.append(exchange.id)
        await self.told.wait()
        if self.answers:
            await exchange.result(DONE)
        else:
            await asyncio.sleep(5)

    async def __call__(self, exchange: Any) -> None:
        if exchange.method == "notifications/cancelled":
            self.cancelled.append(json.loads(exchange.body)["params"]["requestId"])
            await exchange.send(ACCEPTED)
            self.told.set()
        else:
            await super().__call__(exchange)


async def test_a_modern_server_sees_its_connection_close(
    registry: Any, serve: Any, call: Any, modern: Any, at_url: Any
) -> None:
    closed = asyncio.Event()

    async def answer(exchange: Any) -> None:
        while not exchange.writer._reader.at_eof():
            await asyncio.sleep(0.005)
        closed.set()

    up = registry(up=at_url(await serve(modern(answer))))
    await up.start()
    talk = Talk()
    giving_up = asyncio.create_task(after(talk, 0.05))
    outcome = await up.execute(call(), talk)
    assert (outcome.status, outcome.code) == ("in_doubt", "cancelled")
    await asyncio.wait_for(closed.wait(), 0.2)
    await giving_up


async def test_a_read_that_was_given_up_has_failed_and_is_not_in_doubt(
    registry: Any, serve: Any, call: Any, modern: Any, at_url: Any
) -> None:
    async def answer(exchange: Any) -> None:
        await asyncio.sleep(2)

    up = registry(up=at_url(await serve(modern(answer))))
    await up.start()
    talk = Talk()
    giving_up = asyncio.create_task(after(talk, 0.05))
    outcome = await up.execute(call(risk="read"), talk)
    assert (outcome.status, outcome.code) == ("failed", "cancelled")
    await giving_up


@pytest.mark.parametrize("legacy", [False, True])
async def test_what_may_not_be_cut_off_goes_on_to_its_outcome(
    registry: Any, serve: Any, call: Any, modern: Any, at_url: Any, monkeypatch: Any, legacy: bool
) -> None:
    monkeypatch.setattr(http_channel, "CANCEL_GRACE_S", 0.05)

    async def answer(exchange: Any) -> None:
        await asyncio.sleep(0.3)
        await exchange.result(DONE)

    up = registry(up=at_url(await serve(Legacy(answer) if legacy else modern(answer))))
    await up.start()
    talk = Talk()
    talk.severable = False
    giving_up = asyncio.create_task(after(talk, 0.05))
    outcome = await up.execute(call(), talk)
    assert outcome.status == "ok" and talk.cancelled
    await giving_up


async def test_a_legacy_server_is_told_which_request_and_its_answer_within_the_grace_wins(
    registry: Any, serve: Any, call: Any, at_url: Any
) -> None:
    held = Held(answers=True)
    up = registry(up=at_url(await serve(held)))
    await up.start()
    talk = Talk()
    giving_up = asyncio.create_task(after(talk, 0.05))
    outcome = await up.execute(call(), talk)
    assert outcome.status == "ok" and held.cancelled == held.called
    await giving_up


async def test_a_legacy_server_that_says_nothing_more_leaves_the_call_in_doubt(
    registry: Any, serve: Any, call: Any, at_url: Any, monkeypatch: Any
) -> None:
    monkeypatch.setattr(http_channel, "CANCEL_GRACE_S", 0.2)
    held = Held(answers=False)
    up = registry(up=at_url(await serve(held)))
    await up.start()
    talk = Talk()
    giving_up = asyncio.create_task(after(talk, 0.05))
    async with asyncio.timeout(1):
        outcome = await up.execute(call(), talk)
    assert (outcome.status, outcome.code) == ("in_doubt", "cancelled") and held.cancelled == held.called
    await giving_up


async def test_the_cancellation_needs_no_connection_that_the_call_itself_holds(
    registry: Any, serve: Any, call: Any, at_url: Any
) -> None:
    held = Held(answers=True)
    up = registry(up=at_url(await serve(held), connections=1))
    await up.start()
    talk = Talk()
    giving_up = asyncio.create_task(after(talk, 0.05))
    async with asyncio.timeout(1):
        assert (await up.execute(call(), talk)).status == "ok"
    await giving_up


@pytest.mark.parametrize("era", ["modern", "legacy"])
async def test_a_call_that_waits_for_a_connection_is_not_sent_after_it_was_given_up(
    registry: Any, serve: Any, call: Any, modern: Any, at_url: Any, era: str
) -> None:
    release = asyncio.Event()

    async def answer(exchange: Any) -> None:
        await release.wait()
        await exchange.result(DONE)

    server = await serve(modern(answer) if era == "modern" else Legacy(answer))
    up = registry(up=at_url(server, connections=1))
    await up.start()
    first = asyncio.create_task(up.execute(call(), Talk()))
    await asyncio.sleep(0.05)
    talk = Talk()
    second = asyncio.create_task(up.execute(call(), talk))
    await asyncio.sleep(0.05)
    talk.cancel()
    release.set()
    assert (await first).status == "ok"
    outcome = await second
    assert (outcome.status, outcome.code) == ("not_sent", "cancelled")
    assert server.methods().count("tools/call") == 1
    assert server.methods().count("notifications/cancelled") == 0, "nothing was sent, so nothing is cancelled"


async def test_a_call_given_up_before_it_was_made_is_not_sent(
    registry: Any, serve: Any, call: Any, modern: Any, at_url: Any, child: Any
) -> None:
    async def answer(exchange: Any) -> None:
        await exchange.result(DONE)

    server = await serve(modern(answer))
    up = registry(up=at_url(server), old=at_url(await serve(Legacy())), child=child("legacy.py"))
    await up.start()
    for name in ("up", "old", "child"):
        for risk in ("read", "irreversible"):
            talk = Talk()
            talk.cancel()
            outcome = await up.execute(call(name, risk=risk), talk)
            assert (outcome.status, outcome.code) == ("not_sent", "cancelled"), name
    assert server.methods().count("tools/call") == 0


async def test_a_child_is_told_which_request_and_stays_for_others(
    registry: Any, child: Any, call: Any, monkeypatch: Any
) -> None:
    monkeypatch.setattr(conversation, "CANCEL_GRACE_S", 0.2)
    up = registry(up=child("legacy.py"))
    await up.start()
    await up.execute(call(), None)
    talk = Talk()
    giving_up = asyncio.create_task(after(talk, 0.05))
    slow = asyncio.create_task(up.execute(call(name="sleep", args={"seconds": 0.6, "text": "b"}), Talk()))
    outcome = await up.execute(call(name="sleep", args={"seconds": 1.0}), talk)
    assert (outcome.status, outcome.code) == ("in_doubt", "cancelled")
    assert b'"b"' in (await slow).result_json
    await giving_up


async def test_a_child_that_answers_within_the_grace_has_answered(
    registry: Any, child: Any, call: Any
) -> None:
    up = registry(up=child("legacy.py"))
    await up.start()
    await up.execute(call(), None)
    talk = Talk()
    giving_up = asyncio.create_task(after(talk, 0.05))
    outcome = await up.execute(call(name="sleep", args={"seconds": 0.3, "text": "done"}), talk)
    assert outcome.status == "ok"
    await giving_up


@pytest.mark.parametrize("streamed", [False, True])
async def test_a_cancellation_at_the_moment_of_the_answer_never_hurts_another_call(
    registry: Any, serve: Any, call: Any, modern: Any, at_url: Any, streamed: bool
) -> None:
    """Many fast calls on few kept connections, most of them given up about when their answer arrives."""

    async def answer(exchange: Any) -> None:
        if streamed:
            await exchange.stream(exchange.answered())
        else:
            await exchange.result(DONE)

    server = await serve(modern(answer))
    up = registry(up=at_url(server, connections=3))
    await up.start()
    loop, chance = asyncio.get_running_loop(), random.Random(7)
    outcomes: list[tuple[bool, Any]] = []

    async def one(number: int) -> None:
        talk = Talk()
        gives_up = number % 2 == 0
        if gives_up:
            loop.call_later(chance.uniform(0, 0.004), talk.cancel)
        outcomes.append((gives_up, await up.execute(call(), talk)))

    async def worker(numbers: range) -> None:
        for number in numbers:
            await one(number)

    await asyncio.gather(*(worker(range(first, 1200, 6)) for first in range(6)))
    hurt = [outcome for gives_up, outcome in outcomes if not gives_up and outcome.status != "ok"]
    assert hurt == []
    given_up = {(outcome.status, outcome.code) for gives_up, outcome in outcomes if gives_up}
    assert given_up <= {("ok", ""), ("in_doubt", "cancelled"), ("not_sent", "cancelled")}


async def test_a_hand_on_an_exchange_is_off_the_moment_the_answer_is_complete(
    registry: Any, serve: Any, call: Any, modern: Any, at_url: Any
) -> None:
    """Deterministic: the next call is on the connection before the first one's task has run again."""
    arrived: list[Any] = []

    async def answer(exchange: Any) -> None:
        arrived.append(exchange)
        if len(arrived) == 1:
            await exchange.result(DONE)
        else:
            await asyncio.sleep(0.05)
            await exchange.result(DONE)

    up = registry(up=at_url(await serve(modern(answer)), connections=1))
    await up.start()
    talk, others = Talk(), Talk()
    pool = up._peers["up"]._channel.pool
    released = pool._release
    second: list[asyncio.Task[Any]] = []

    def release(connection: Any, reusable: bool) -> None:
        released(connection, reusable)
        if arrived and not second:
            second.append(asyncio.create_task(up.execute(call(), others)))
            # What a disconnect does that is noticed in the same turn of the loop, after the other call.
            asyncio.get_running_loop().call_soon(talk.cancel)

    for connection in pool._all:
        connection._released = release
    first = await up.execute(call(), talk)
    assert first.status == "ok"
    assert (await second[0]).status == "ok"
