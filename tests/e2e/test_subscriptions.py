"""A modern client listens through a real gateway: over a reload, a dead child, until its key is revoked."""

from __future__ import annotations

import asyncio
import sys
from contextlib import asynccontextmanager
from types import SimpleNamespace
from urllib.parse import urlsplit

import pytest

from tests.e2e.gateway import ROOT, Wardgate
from tests.surfaces.mcp import streams
from tests.upstreams.conftest import SERVERS

URI = "test://changing"


@pytest.fixture(params=["legacy", "modern"])
async def gateway(request, tmp_path):
    log = tmp_path / "child.log"
    command = [sys.executable, "-I", str(SERVERS / "changing.py"), request.param, "log", str(log)]
    section = {"command": command, "cwd": str(ROOT), "tools": {"*": {"risk": "read"}}}
    made = await asyncio.to_thread(lambda: Wardgate(tmp_path / "gateway", {"up": section}).start())
    made.child_log = log
    yield made
    await asyncio.to_thread(made.close)


def house(gateway):
    return SimpleNamespace(port=urlsplit(gateway.agents_url).port)


@asynccontextmanager
async def listening(gateway, key=None):
    params = {"notifications": {"resourceSubscriptions": [URI]}}
    token = key or gateway.key()
    async with streams.modern(
        house(gateway), "subscriptions/listen", params, token=token, path="/mcp/up"
    ) as one:
        assert (await one.head()).status == 200, await one._reader.read(2000)
        assert (await one.event(10))["params"]["notifications"] == {"resourceSubscriptions": [URI]}
        yield one


async def call(gateway, name):
    async with streams.modern(
        house(gateway), "tools/call", {"name": name}, token=gateway.key(), path="/mcp/up"
    ) as one:
        await one.head()


async def updated(stream, timeout_s=10):
    event = await stream.event(timeout_s)
    assert event["method"] == "notifications/resources/updated" and event["params"]["uri"] == URI


async def quiet(stream):
    """Whatever else was on its way has come."""
    while not await stream.silent(0.3):
        pass


async def test_a_subscription_survives_a_reload_that_replaces_its_upstream(gateway):
    async with listening(gateway) as stream:
        await call(gateway, "touch")
        await updated(stream)
        gateway.config["upstreams"]["up"]["tools"] = {"*": {"risk": "read", "deadline_s": 9}}
        await asyncio.to_thread(gateway.write_config)
        await updated(stream)  # what happened in between was not heard
        await quiet(stream)
        await call(gateway, "touch")
        await updated(stream)


async def test_a_subscription_survives_the_death_of_its_child(gateway):
    async with listening(gateway) as stream:
        await call(gateway, "die")
        await updated(stream)
        await quiet(stream)
        await call(gateway, "touch")
        await updated(stream)


async def test_a_revoked_key_ends_the_stream_within_the_time_that_is_promised(gateway):
    made = await gateway.new_key()
    await asyncio.sleep(1.2)  # a new key works within a second
    async with listening(gateway, made["key"]) as stream:
        assert (await gateway.cli("keys", "revoke", made["id"])).returncode == 0
        last = await stream.event(4)
        assert last["result"]["resultType"] == "complete"
        assert await stream.event(1) is None


async def test_the_end_of_the_gateway_is_the_result_of_the_stream(gateway):
    async with listening(gateway) as stream:
        stopping = asyncio.create_task(asyncio.to_thread(gateway.stop))
        assert (await stream.event(5))["result"]["resultType"] == "complete"
        assert await asyncio.wait_for(stopping, 10) == 0
