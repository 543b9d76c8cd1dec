"""Being watched costs callers nothing: not a dead collector, not a slow scraper."""

from __future__ import annotations

import asyncio
import socket
import time
from contextlib import AsyncExitStack, closing

import pytest

from tests.e2e.gateway import talking

pytestmark = pytest.mark.slow
CALLS = 200


async def slowest(agent) -> float:
    """Of many calls, seconds. A call that waits for an export or a scraper takes five and more."""
    worst = 0.0
    for number in range(CALLS):
        began = time.perf_counter()
        assert not (await agent.call("look", text=f"{number}")).refused
        worst = max(worst, time.perf_counter() - began)
    return worst


@pytest.mark.parametrize("protocol", ["http/protobuf", "grpc"])
async def test_a_collector_that_takes_everything_in_and_never_answers_delays_no_call(gateway, protocol):
    with closing(socket.create_server(("127.0.0.1", 0), backlog=64)) as hole:
        path = "/v1/traces" if protocol == "http/protobuf" else ""
        endpoint = f"http://127.0.0.1:{hole.getsockname()[1]}{path}"
        running = gateway(telemetry={"otlp_endpoint": endpoint, "otlp_protocol": protocol, "sample": 1.0})
        await asyncio.to_thread(running.start)
        async with talking(running, running.key()) as alice:
            assert await slowest(alice) < 2.0
        began = time.monotonic()
        assert await asyncio.to_thread(running.stop) == 0
        assert time.monotonic() - began < 15, "nor does it hold up a stop"


async def test_scrapers_that_read_nothing_delay_no_call(gateway):
    running = gateway()
    await asyncio.to_thread(running.start)
    host, port = running.admin_url.removeprefix("http://").split(":")
    async with AsyncExitStack() as stack:
        for _ in range(20):
            _, writer = await asyncio.open_connection(host, int(port))
            stack.callback(writer.close)
            # Asks again and again and takes none of the answers.
            writer.write(f"GET /metrics HTTP/1.1\r\nHost: {host}:{port}\r\n\r\n".encode() * 3)
        async with talking(running, running.key()) as alice:
            assert await slowest(alice) < 2.0
