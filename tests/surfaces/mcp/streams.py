"""Answers that are read while they are still being written."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from tests.surfaces.mcp.support import ACCEPT, META, VERSION, House

LEGACY = "2025-11-25"


class Stream:
    """One response, read event by event; ``close`` is what a client does that leaves."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer
        self.status = 0
        self.headers: dict[str, str] = {}

    async def head(self) -> Stream:
        async with asyncio.timeout(3):
            head = (await self._reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        first, *lines = head.strip().split("\r\n")
        self.status = int(first.split()[1])
        self.headers = {k.lower(): v.strip() for k, _, v in (line.partition(":") for line in lines)}
        return self

    async def event(self, timeout_s: float = 3) -> Any:
        """The next message; ``None`` at the end of the stream."""
        async with asyncio.timeout(timeout_s):
            while line := (await self._reader.readline()).decode():
                if line.startswith("data: "):
                    return json.loads(line[6:])
                if line == "0\r\n":
                    return None
        return None

    async def silent(self, seconds: float) -> bool:
        """Whether nothing comes for that long."""
        try:
            await self.event(seconds)
        except TimeoutError:
            return True
        return False

    def close(self) -> None:
        self._writer.close()


@asynccontextmanager
async def requested(
    house: House, method: str, path: str, body: bytes, headers: dict[str, str]
) -> AsyncIterator[Stream]:
    sent = {
        "Host": f"127.0.0.1:{house.port}", "Accept": ACCEPT, "Content-Type": "application/json",
        "Content-Length": str(len(body)), **headers,
    }  # fmt: skip
    lines = [f"{method} {path} HTTP/1.1", *(f"{name}: {value}" for name, value in sent.items())]
    reader, writer = await asyncio.open_connection("127.0.0.1", house.port)
    stream = Stream(reader, writer)
    try:
        writer.write("\r\n".join(lines).encode() + b"\r\n\r\n" + body)
        yield stream
    finally:
        stream.close()


def in_session(session: str, token: str = "alice") -> dict[str, str]:
    return {
        "Authorization": f"Bearer {token}", "Mcp-Session-Id": session, "MCP-Protocol-Version": LEGACY,
    }  # fmt: skip


@asynccontextmanager
async def legacy(
    house: House,
    session: str,
    method: str,
    params: dict[str, Any],
    number: object = 1,
    path: str = "/mcp/files",
) -> AsyncIterator[Stream]:
    message = {"jsonrpc": "2.0", "id": number, "method": method, "params": params}
    async with requested(house, "POST", path, json.dumps(message).encode(), in_session(session)) as stream:
        yield stream


@asynccontextmanager
async def listening(house: House, session: str, path: str = "/mcp/files") -> AsyncIterator[Stream]:
    """The GET stream of a session."""
    headers = {**in_session(session), "Accept": "text/event-stream"}
    async with requested(house, "GET", path, b"", headers) as stream:
        yield await stream.head()


@asynccontextmanager
async def modern(
    house: House,
    method: str,
    params: dict[str, Any],
    number: object = 1,
    *,
    token: str = "alice",
    path: str = "/mcp/files",
    meta: dict[str, Any] | None = None,
    headers: dict[str, str] | None = None,
) -> AsyncIterator[Stream]:
    params = {**params, "_meta": {**META, **(meta or {})}}
    message = {"jsonrpc": "2.0", "id": number, "method": method, "params": params}
    said = {"Authorization": f"Bearer {token}", "MCP-Protocol-Version": VERSION, "Mcp-Method": method}
    if "name" in params:
        said["Mcp-Name"] = params["name"]
    said |= headers or {}
    async with requested(house, "POST", path, json.dumps(message).encode(), said) as stream:
        yield stream


async def until(true: Callable[[], object], timeout_s: float = 3) -> None:
    async with asyncio.timeout(timeout_s):
        while not true():
            await asyncio.sleep(0.005)
