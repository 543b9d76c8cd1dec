"""Upstreams made of real sockets and real processes, and the calls that are sent to them."""

from __future__ import annotations

import asyncio
import contextlib
import re
import socket
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import uvicorn
import uvloop

from gateway import strictjson
from gateway.config_upstream import UpstreamConfig
from gateway.model import Call, Kind, Manifest, Principal, Tool
from gateway.upstreams.registry import UpstreamRegistry

SERVERS = Path(__file__).parent / "servers"

DONE = b'{"content":[{"type":"text","text":"done"}]}'

Answer = Callable[["Exchange"], Awaitable[None]]


class Exchange:
    """One request as a raw server sees it."""

    def __init__(self, head: bytes, body: bytes, writer: asyncio.StreamWriter, connection: int) -> None:
        self.head, self.body, self.writer, self.connection = head, body, writer, connection

    def header(self, name: str) -> str | None:
        found = re.search(rf"^{name}: (.*)\r$".encode(), self.head, re.MULTILINE | re.IGNORECASE)
        return found.group(1).decode() if found else None

    @property
    def id(self) -> int:
        found = re.search(rb'"id":(\d+)', self.body)
        return int(found.group(1)) if found else 0

    @property
    def method(self) -> str:
        found = re.search(rb'"method":"([^"]*)"', self.body)
        return found.group(1).decode() if found else ""

    async def send(self, raw: bytes) -> None:
        self.writer.write(raw)
        await self.writer.drain()

    async def json(self, body: bytes, status: str = "200 OK", extra: bytes = b"") -> None:
        await self.send(
            b"HTTP/1.1 %b\r\ncontent-type: application/json\r\n%bcontent-length: %d\r\n\r\n%b"
            % (status.encode(), extra, len(body), body)
        )

    async def result(self, result: bytes, extra: bytes = b"") -> None:
        await self.json(self.answered(result), extra=extra)

    def answered(self, result: bytes = DONE) -> bytes:
        """The message that answers this request."""
        return b'{"jsonrpc":"2.0","id":%d,"result":%b}' % (self.id, result)

    async def stream(self, *messages: bytes, end: bool = True) -> None:
        """Answer with an event stream; without ``end`` it is left open."""
        head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\n"
        await self.send(head + b"Transfer-Encoding: chunked\r\n\r\n")
        await self.events(*messages, end=end)

    async def events(self, *messages: bytes, end: bool = True) -> None:
        """More of a stream that was left open."""
        body = b"".join(b"event: message\r\ndata: %b\r\n\r\n" % each for each in messages)
        await self.send(b"%x\r\n%b\r\n%b" % (len(body), body, b"0\r\n\r\n" if end else b""))

    async def discover(self) -> bool:
        """Answer ``server/discover`` as a modern server; true when that is what was asked."""
        if self.method != "server/discover":
            return False
        await self.result(
            b'{"resultType":"complete","supportedVersions":["2026-07-28"],'
            b'"capabilities":{"tools":{},"prompts":{},"resources":{}},'
            b'"_meta":{"io.modelcontextprotocol/serverInfo":{"name":"raw","version":"1"}}}'
        )
        return True


class RawServer:
    """A server on loopback whose every byte the test decides."""

    def __init__(self, answer: Answer) -> None:
        self._answer = answer
        self._tasks: set[asyncio.Task[None]] = set()
        self.exchanges: list[Exchange] = []
        self.connections = 0
        self.concurrent = self.peak = 0
        self.url = ""

    async def start(self, tls: Any = None) -> None:
        self._server = await asyncio.start_server(self._connected, "127.0.0.1", 0, ssl=tls)
        port = self._server.sockets[0].getsockname()[1]
        self.url = f"{'https' if tls else 'http'}://127.0.0.1:{port}/mcp"

    async def stop(self) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def methods(self) -> list[str]:
        return [each.method for each in self.exchanges]

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self.connections += 1
        number = self.connections
        self.concurrent += 1
        self.peak = max(self.peak, self.concurrent)
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = re.search(rb"content-length: (\d+)", head)
                body = await reader.readexactly(int(length.group(1))) if length else b""
                exchange = Exchange(head, body, writer, number)
                self.exchanges.append(exchange)
                await self._answer(exchange)
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            pass
        finally:
            self.concurrent -= 1
            self._tasks.discard(task)
            with contextlib.suppress(Exception):
                writer.close()


@pytest.fixture(scope="session")
def event_loop_policy() -> asyncio.AbstractEventLoopPolicy:
    """The loop the gateway runs on; its transports differ from those of the standard library."""
    return uvloop.EventLoopPolicy()


@pytest.fixture
async def serve() -> AsyncIterator[Callable[..., Awaitable[RawServer]]]:
    """``await serve(answer)``: a raw server that calls ``answer(exchange)`` for each request."""
    running: list[RawServer] = []

    async def start(answer: Answer, tls: Any = None) -> RawServer:
        server = RawServer(answer)
        await server.start(tls)
        running.append(server)
        return server

    yield start
    for server in running:
        await server.stop()


@pytest.fixture
def modern() -> Callable[[Answer], Answer]:
    """``modern(answer)``: a modern server that answers discovery itself and leaves calls to ``answer``."""

    def server(answer: Answer) -> Answer:
        async def serve(exchange: Exchange) -> None:
            if not await exchange.discover():
                await answer(exchange)

        return serve

    return server


@pytest.fixture
def at_url() -> Callable[..., UpstreamConfig]:
    """``at_url(server)``: the configuration of a running server."""
    return lambda server, **more: UpstreamConfig(url=server.url, **more)


@pytest.fixture
async def run_asgi() -> AsyncIterator[Callable[[Any], Awaitable[str]]]:
    """``await run_asgi(app)``: a real HTTP server; the answer is its origin."""
    running: list[tuple[uvicorn.Server, asyncio.Task[None]]] = []

    async def start(app: Any) -> str:
        listening = socket.socket()
        listening.bind(("127.0.0.1", 0))
        server = uvicorn.Server(uvicorn.Config(app, log_level="critical", lifespan="auto"))
        task = asyncio.create_task(server.serve(sockets=[listening]))
        running.append((server, task))
        while not server.started:
            await asyncio.sleep(0.01)
        return f"http://127.0.0.1:{listening.getsockname()[1]}"

    yield start
    for server, task in running:
        server.should_exit = True
        server.force_exit = True
        await task


class SystemClock:
    def now_ns(self) -> int:
        return time.time_ns()

    def monotonic(self) -> float:
        return time.monotonic()


@pytest.fixture
async def registry() -> AsyncIterator[Callable[..., UpstreamRegistry]]:
    """``registry(name=config, …)``: what app.py builds, closed at the end of the test."""
    made: list[UpstreamRegistry] = []

    def build(result_bytes: int = 1 << 20, **upstreams: UpstreamConfig) -> UpstreamRegistry:
        made.append(UpstreamRegistry(upstreams, clock=SystemClock(), result_bytes=result_bytes))
        return made[-1]

    yield build
    for each in made:
        await each.close()


def principal(agent: str = "agent", **more: Any) -> Principal:
    return Principal(tenant="t", agent=agent, owner="o", credential=f"key-{agent}", **more)


def call(
    upstream: str = "up",
    name: str = "echo",
    args: dict[str, Any] | None = None,
    *,
    kind: Kind = "tool",
    who: Principal | None = None,
    deadline_s: float = 5.0,
    **more: Any,
) -> Call:
    args = args if args is not None else {}
    definition = more.pop("definition_json", b"")
    tool = Tool(
        kind=kind,
        upstream=upstream,
        name=name,
        target=f"{upstream}/{name}",
        manifest=Manifest(deadline_s=deadline_s, risk=more.pop("risk", "irreversible")),
        schema_hash=str(hash(definition)),
        definition_json=definition,
    )
    return Call(
        id="call-1",
        principal=who or principal(),
        tool=tool,
        args=args,
        args_json=strictjson.canonical(args),
        digest="",
        session="",
        thread=more.pop("thread", ""),
        surface="mcp",
        effect_key="",
        received_ns=0,
        **more,
    )


@pytest.fixture(name="call")
def _call() -> Callable[..., Call]:
    return call


@pytest.fixture(name="principal")
def _principal() -> Callable[..., Principal]:
    return principal


@pytest.fixture
def child() -> Callable[..., UpstreamConfig]:
    """``child("legacy.py", arg, …)``: the configuration of a server script of this folder."""

    def config(script: str, *args: str, **more: Any) -> UpstreamConfig:
        return UpstreamConfig(command=(sys.executable, "-I", str(SERVERS / script), *args), **more)

    return config
