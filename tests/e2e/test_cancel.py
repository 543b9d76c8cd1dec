"""A client gives up, and the upstream knows at once: a real gateway, both eras, every transport."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from contextlib import asynccontextmanager
from types import SimpleNamespace
from urllib.parse import urlsplit

import aiohttp
import pytest

from tests.e2e.gateway import ROOT, Wardgate
from tests.surfaces.mcp import streams
from tests.upstreams.conftest import SERVERS, RawServer

TOLD_S = 0.2
"""Within which an upstream must know."""

LISTS = {
    "tools": [{"name": name, "inputSchema": {"type": "object"}} for name in ("hold", "look")],
    "prompts": [], "resources": [], "resourceTemplates": [],
}  # fmt: skip
TOOLS = {"hold": {"risk": "irreversible", "interruptible": True}, "look": {"risk": "read"}}


class Upstream:
    """An HTTP server that never answers a tool; ``told`` is when it learnt that nobody waits any more."""

    def __init__(self, era: str) -> None:
        self.era = era
        self.called = asyncio.Event()
        self.numbers: list[int] = []
        self.told: list[tuple[float, int]] = []
        self.answers = False  # within the grace a legacy server has
        self._told = asyncio.Event()

    async def __call__(self, exchange) -> None:
        if self.era == "modern" and await exchange.discover():
            return
        if exchange.method == "initialize":
            result = {
                "protocolVersion": "2025-11-25", "capabilities": {"tools": {}},
                "serverInfo": {"name": "held", "version": "1"},
            }  # fmt: skip
            await exchange.result(json.dumps(result).encode(), extra=b"mcp-session-id: s\r\n")
        elif exchange.method.endswith("/list"):
            await exchange.result(json.dumps({"resultType": "complete", **LISTS}).encode())
        elif exchange.method == "tools/call":
            self.numbers.append(exchange.id)
            self.called.set()
            await self._hold(exchange)
        elif exchange.method == "notifications/cancelled":
            self.told.append((time.time(), json.loads(exchange.body)["params"]["requestId"]))
            self._told.set()
            await exchange.send(b"HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n")
        elif exchange.id:
            await exchange.json(b"{}", status="400 Bad Request")
        else:
            await exchange.send(b"HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n")

    async def _hold(self, exchange) -> None:
        if self.era == "modern":
            reader = exchange.writer._reader
            while not reader.at_eof() and reader.exception() is None:
                await asyncio.sleep(0.002)
            self.told.append((time.time(), exchange.id))
        else:
            await self._told.wait()
            if self.answers:
                await exchange.result(b'{"content":[{"type":"text","text":"done after all"}]}')
            else:
                await asyncio.sleep(5)


@asynccontextmanager
async def running(tmp_path, upstream: str):
    """A gateway in front of one upstream, and what says when that one was told."""
    kind, era = upstream.split("-")
    server = None
    if kind == "http":
        up = Upstream(era)
        server = RawServer(up)
        await server.start()
        section = {"url": server.url, "tools": TOOLS}

        def told():
            return up.told

        def numbers():
            return up.numbers
    else:
        up = None
        log = tmp_path / "child.log"
        command = [sys.executable, "-I", str(SERVERS / "changing.py"), era, "log", str(log)]
        section = {"command": command, "cwd": str(ROOT), "tools": TOOLS}

        def lines(method):
            return [line.split() for line in log.read_text().splitlines() if f" {method} " in line]

        def told():
            return [(float(at), int(number)) for _, _, number, at in lines("notifications/cancelled")]

        def numbers():
            return [int(number) for _, _, number, _ in lines("tools/call")]

    gateway = await asyncio.to_thread(lambda: Wardgate(tmp_path / "gateway", {"up": section}).start())
    house = SimpleNamespace(port=urlsplit(gateway.agents_url).port)
    try:
        yield SimpleNamespace(gateway=gateway, house=house, told=told, numbers=numbers, up=up)
    finally:
        await asyncio.to_thread(gateway.close)
        if server is not None:
            await server.stop()


UPSTREAMS = ["http-modern", "http-legacy", "stdio-legacy", "stdio-modern"]
cells = pytest.mark.parametrize("upstream", UPSTREAMS)


async def given_up_by_closing(run, tool: str) -> float:
    """A modern client calls and leaves; when it did."""
    key = run.gateway.key()
    async with streams.modern(run.house, "tools/call", {"name": tool}, token=key, path="/mcp/up"):
        await streams.until(run.numbers, 10)
        await asyncio.sleep(0.1)
    return time.time()


@cells
async def test_a_modern_client_that_closes_its_stream(tmp_path, upstream):
    async with running(tmp_path, upstream) as run:
        gone = await given_up_by_closing(run, "hold")
        await streams.until(run.told)
        ((at, number),) = run.told()
        assert number == run.numbers()[0]
        assert at - gone < TOLD_S, f"{at - gone:.3f} s"
        record = await run.gateway.recorded(lambda record: record.get("outcome_code") == "cancelled")
        assert (record["phase"], record["status"]) == ("in_doubt", "in_doubt")


@cells
async def test_a_legacy_client_that_says_so(tmp_path, upstream):
    async with running(tmp_path, upstream) as run, aiohttp.ClientSession() as http:
        url = f"{run.gateway.agents_url}/mcp/up"
        headers = {
            "Authorization": f"Bearer {run.gateway.key()}", "Accept": "application/json, text/event-stream",
        }  # fmt: skip
        hello = {
            "protocolVersion": "2025-11-25",
            "capabilities": {},
            "clientInfo": {"name": "x", "version": "1"},
        }

        async def post(**message):
            async with http.post(url, json={"jsonrpc": "2.0", **message}, headers=headers) as response:
                return response.headers, await response.json() if response.status == 200 else None

        said, _ = await post(id=0, method="initialize", params=hello)
        headers["Mcp-Session-Id"] = said["mcp-session-id"]
        call = asyncio.create_task(post(id="mine", method="tools/call", params={"name": "look"}))
        await streams.until(run.numbers, 10)
        if run.up is not None:
            run.up.answers = upstream == "http-legacy"
        at = time.time()
        await post(method="notifications/cancelled", params={"requestId": "mine", "reason": "enough"})
        await streams.until(run.told)
        assert run.told()[0][1] == run.numbers()[0]
        assert run.told()[0][0] - at < TOLD_S, f"{run.told()[0][0] - at:.3f} s"
        _, answer = await call
        if upstream == "http-legacy":  # it answered in the time it has, and that is the outcome
            assert answer["result"]["content"][0]["text"] == "done after all"
            return
        assert answer["result"]["isError"] and "cancelled" in answer["result"]["content"][0]["text"]
        record = await run.gateway.recorded(lambda record: record.get("outcome_code") == "cancelled")
        assert record["status"] == "failed", "nobody wants the answer of a read, and nothing depends on it"
