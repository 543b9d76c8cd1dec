"""Ending one exchange early never touches the next one on the same connection."""

from __future__ import annotations

import asyncio
from typing import Any

from gateway.errors import InDoubt, NotSent
from gateway.upstreams.pool import Pool
from gateway.upstreams.wire import Hold


async def test_a_cancellation_that_comes_with_the_answer_does_not_end_somebody_elses_exchange(
    serve: Any,
) -> None:
    """The connection is given back before its caller wakes up; the next one may have it by then."""

    async def answer(exchange: Any) -> None:
        await asyncio.sleep(0.01)
        await exchange.json(b"{}")

    server = await serve(answer)
    pool = Pool(server.url, connections=1, body_bytes=1000)
    request = b"POST /mcp HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\n\r\n"
    at = asyncio.get_running_loop().time() + 5
    hold = Hold()
    first = asyncio.create_task(pool.exchange(request, at, hold))
    second = asyncio.create_task(pool.exchange(request, at))
    finish = pool._release

    def released(connection: Any, reusable: bool) -> None:
        finish(connection, reusable)
        asyncio.get_running_loop().call_soon(hold.cancel)

    await asyncio.sleep(0)
    for connection in pool._all:
        connection._released = released
    while not pool._all:
        await asyncio.sleep(0)
        for connection in pool._all:
            connection._released = released
    assert (await first).status == (await second).status == 200
    assert server.connections == 1
    await pool.close()


async def test_an_exchange_ended_early_says_why(serve: Any) -> None:
    async def mute(exchange: Any) -> None:
        await asyncio.sleep(5)

    server = await serve(mute)
    pool = Pool(server.url, connections=1, body_bytes=1000)
    request = b"POST /mcp HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\n\r\n"
    at = asyncio.get_running_loop().time() + 5
    hold, waiting = Hold(), Hold()
    under_way = asyncio.create_task(pool.exchange(request, at, hold))
    queued = asyncio.create_task(pool.exchange(request, at, waiting))
    while not server.exchanges:
        await asyncio.sleep(0.01)
    waiting.cancel()
    hold.cancel()
    results = await asyncio.gather(under_way, queued, return_exceptions=True)
    assert [(type(each), each.code) for each in results] == [(InDoubt, "cancelled"), (NotSent, "cancelled")]
    assert len(server.exchanges) == 1
    await pool.close()
