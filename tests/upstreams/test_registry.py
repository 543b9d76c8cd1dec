"""Lists, closing, and the one way out."""

from __future__ import annotations

import asyncio
import json
import re
from pathlib import Path
from typing import Any

import pytest
import uvloop

import gateway.upstreams as package
from gateway.errors import UpstreamError

DONE = b'{"content":[{"type":"text","text":"done"}]}'


async def test_pages_are_put_together(registry: Any, serve: Any, modern: Any, at_url: Any) -> None:
    async def answer(exchange: Any) -> None:
        page = int(json.loads(exchange.body)["params"].get("cursor", "0"))
        more = b',"nextCursor":"%d"' % (page + 1) if page < 4 else b""
        await exchange.result(b'{"tools":[{"name":"t%d"}]%b}' % (page, more))

    server = await serve(modern(answer))
    found = await registry(up=at_url(server)).definitions("up", "tool")
    assert [each["name"] for each in found] == [f"t{n}" for n in range(5)]


@pytest.mark.parametrize(
    "page",
    [
        b'{"tools":[],"nextCursor":"same"}',
        b'{"tools":{}}',
        b'{"tools":[1]}',
        b'{"tools":[],"nextCursor":5}',
        b'{"tools":[%b]}' % b",".join([b'{"name":"t"}'] * 20_001),
    ],
)
async def test_a_list_that_does_not_end_or_is_none_is_refused(
    registry: Any, serve: Any, page: bytes, modern: Any, at_url: Any
) -> None:
    server = await serve(modern(lambda x: x.result(page)))
    with pytest.raises(UpstreamError) as caught:
        await registry(up=at_url(server)).definitions("up", "tool")
    assert caught.value.code == "upstream_bad_answer"
    assert len(server.exchanges) <= 3


async def test_closing_lets_calls_finish_and_takes_no_new_ones(
    registry: Any, serve: Any, call: Any, modern: Any, at_url: Any
) -> None:
    async def slow(exchange: Any) -> None:
        await asyncio.sleep(0.3)
        await exchange.result(DONE)

    server = await serve(modern(slow))
    up = registry(up=at_url(server))
    under_way = asyncio.create_task(up.execute(call(), None))
    await asyncio.sleep(0.1)
    closing = asyncio.create_task(up.close(drain_s=5))
    await asyncio.sleep(0.05)
    refused = await up.execute(call(), None)
    assert (refused.status, refused.code) == ("not_sent", "shutting_down")
    assert (await under_way).status == "ok"
    await closing


def test_no_call_leaves_by_another_way() -> None:
    """Every socket and process of the package is opened in two files; a third runs credential helpers."""
    opening = re.compile(
        r"create_connection|open_connection|subprocess_exec|httpx|aiohttp|urlopen|socket\.socket"
    )
    folder = Path(package.__file__).parent
    found = {path.name for path in folder.rglob("*.py") if opening.search(path.read_text())}
    assert found == {"pool.py", "child.py", "secret.py"}


async def test_these_tests_run_on_the_loop_of_the_gateway() -> None:
    assert isinstance(asyncio.get_running_loop(), uvloop.Loop)
