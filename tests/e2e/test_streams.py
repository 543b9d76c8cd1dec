"""Long streams: many at once, each cheap, none lost."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import AsyncIterator, Callable

import aiohttp
import pytest

from tests.e2e.gateway import MODERN, ROOT, Wardgate

STREAMS = 200
SECONDS = 60
KB_EACH = 100


@pytest.fixture
def upstream():
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.e2e.streaming"], stdout=subprocess.PIPE, text=True, cwd=ROOT
    )
    assert process.stdout is not None
    yield process.stdout.readline().strip()
    process.kill()
    process.communicate()


async def progress(http: aiohttp.ClientSession, gateway: Wardgate, number: int, steps: int) -> int:
    """Call the tool and read its stream to the end: how many steps were heard before the result."""
    params = {
        "name": "watch",
        "arguments": {"steps": steps},
        "_meta": {
            "io.modelcontextprotocol/protocolVersion": MODERN,
            "io.modelcontextprotocol/clientCapabilities": {},
            "progressToken": f"t{number}",
        },
    }
    headers = {
        "Authorization": f"Bearer {gateway.key()}", "MCP-Protocol-Version": MODERN,
        "Mcp-Method": "tools/call", "Mcp-Name": "watch", "Accept": "application/json, text/event-stream",
    }  # fmt: skip
    message = {"jsonrpc": "2.0", "id": number, "method": "tools/call", "params": params}
    heard = 0
    async with http.post(gateway.agents_url + "/mcp/counting", json=message, headers=headers) as response:
        async for event in events(response):
            if "result" in event:
                assert event["id"] == number and event["result"]["content"][0]["text"] == f"{steps} steps"
                return heard
            assert event["params"]["progressToken"] == f"t{number}" and event["params"]["progress"] == heard
            heard += 1
    raise AssertionError("the stream ended without its result")


async def events(response: aiohttp.ClientResponse) -> AsyncIterator[dict]:
    async for line in response.content:
        if line.startswith(b"data: "):
            yield json.loads(line[6:])


@pytest.mark.slow
@pytest.mark.timeout(180)
async def test_two_hundred_streams_of_a_minute_lose_nothing_and_cost_little_memory(
    gateway: Callable[..., Wardgate], upstream: str
) -> None:
    running = gateway(
        {
            "url": upstream,
            "connections": STREAMS + 8,
            "deadline_s": 120,
            "tools": {"watch": {"risk": "read"}},
        },
        limits={"in_flight_per_agent": STREAMS + 8},
    ).start()
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(total=150)) as http:
        for number in range(5):
            await progress(http, running, number, 1)
        before = running.memory_mb()
        calls = [asyncio.create_task(progress(http, running, number, SECONDS)) for number in range(STREAMS)]
        await asyncio.sleep(SECONDS - 5)
        during = running.memory_mb()
        assert await asyncio.gather(*calls) == [SECONDS] * STREAMS
    each_kb = (during - before) * 1024 / STREAMS
    print(f"{before:.0f} MB before, {during:.0f} MB with {STREAMS} streams: {each_kb:.0f} KB each")
    assert each_kb <= KB_EACH
