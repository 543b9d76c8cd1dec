"""A relay on loopback that keeps what goes through it: what a client really said, and really got.

A client's own word for the protocol it speaks, or for a secret it did not see, is no proof; the bytes are.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final
from urllib.parse import urlsplit

_ERA: Final = re.compile(rb"^mcp-protocol-version: *(\S+)\r?$", re.IGNORECASE | re.MULTILINE)
_CALL: Final = re.compile(rb'"method" *: *"tools/call"')


class Tap:
    """One client's way to the gateway."""

    def __init__(self, target: str) -> None:
        self._target = urlsplit(target)
        self._asked: list[bytearray] = []  # per connection: requests may be split anywhere
        self._answered: list[bytearray] = []
        self.url = ""

    @property
    def eras(self) -> frozenset[str]:
        """The revisions that the requests with a tool call named in their header."""
        found = set()
        for stream in self._asked:
            for request in re.split(rb"(?m)^(?=POST |GET |DELETE )", bytes(stream)):
                if _CALL.search(request):
                    named = _ERA.search(request)
                    found.add(named[1].decode() if named else "none")
        return frozenset(found)

    @property
    def answered(self) -> bytes:
        """All that came back, of all connections."""
        return b"\n".join(bytes(stream) for stream in self._answered)

    async def connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked, answered = bytearray(), bytearray()
        self._asked.append(asked)
        self._answered.append(answered)
        back, forth = await asyncio.open_connection(self._target.hostname, self._target.port)
        try:
            await asyncio.gather(_pump(reader, forth, asked), _pump(back, writer, answered))
        except (OSError, asyncio.CancelledError):
            pass  # the client was ended, or the run is over: what was kept stays
        finally:
            forth.close()
            writer.close()


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
