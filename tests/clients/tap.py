"""A relay on loopback that keeps what goes through it: what a client really said, and really got.

A client's own word for the protocol it speaks, or for a secret it did not see, is no proof; the bytes are.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import zip_longest
from typing import Final
from urllib.parse import urlsplit

_REQUEST: Final = re.compile(rb"(?=(?:POST|GET|DELETE) /\S* HTTP/1\.1\r\n)")
_STATUS: Final = re.compile(rb"HTTP/1\.1 (\d{3}) ?[^\r\n]*\r\n")
_ERA: Final = re.compile(rb"^mcp-protocol-version: *(\S+)\r?$", re.IGNORECASE | re.MULTILINE)
_CALL: Final = re.compile(rb'"method" *: *"tools/call"')


class Tap:
    """One client's way to the gateway."""

    def __init__(self, target: str) -> None:
        self._target = urlsplit(target)
        self._asked: list[bytearray] = []  # per connection: requests may be split anywhere
        self._answered: list[bytearray] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self.url = ""

    @property
    def calls(self) -> list[tuple[str, int]]:
        """Every tool call that was posted: the revision its header named, and the HTTP status it got.

        The requests of a connection are answered in their order; a call without an answer has status 0.
        """
        found = []
        for asked, answered in zip(self._asked, self._answered, strict=True):
            requests = [part for part in _REQUEST.split(bytes(asked)) if part]
            statuses = [int(status) for status in _STATUS.findall(bytes(answered))]
            for request, status in zip_longest(requests, statuses[: len(requests)], fillvalue=0):
                if isinstance(request, bytes) and _CALL.search(request):
                    named = _ERA.search(request)
                    found.append((named[1].decode() if named else "none", status))
        return found

    @property
    def answered(self) -> bytes:
        """All that came back, of all connections."""
        return b"\n".join(bytes(stream) for stream in self._answered)

    async def connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        asked, answered = bytearray(), bytearray()
        self._asked.append(asked)
        self._answered.append(answered)
        forth = None
        try:
            back, forth = await asyncio.open_connection(self._target.hostname, self._target.port)
            await asyncio.gather(_pump(reader, forth, asked), _pump(back, writer, answered))
        except (OSError, asyncio.CancelledError):
            pass  # the client was ended, or the run is over: what was kept stays
        finally:
            if forth is not None:
                forth.close()
            writer.close()
            self._tasks.discard(task)

    async def close(self) -> None:
        """End what is still connected, such as streams a client left open."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks)


async def _pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter, kept: bytearray) -> None:
    while data := await source.read(65_536):
        kept += data
        sink.write(data)
        await sink.drain()
    if sink.can_write_eof():
        sink.write_eof()


@asynccontextmanager
async def tapped(target: str) -> AsyncIterator[Tap]:
    """A tap in front of the gateway's ``target``; its own address is ``tap.url``."""
    tap = Tap(target)
    server = await asyncio.start_server(tap.connected, "127.0.0.1", 0)
    tap.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}{urlsplit(target).path}"
    try:
        yield tap
    finally:
        server.close()
        await tap.close()
