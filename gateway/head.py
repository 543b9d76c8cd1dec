"""A bound on the head of a request, which uvicorn's httptools protocol lacks.

Without it anybody who reaches the port can send one endless header, before any credential is looked at,
and the process keeps all of it; or open connections and say nothing. A head gets 64 KB and ten seconds,
then the connection is closed without an answer: whoever sends such a head is not waiting for one.
"""

from __future__ import annotations

import asyncio
from typing import Any, Final

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

MAX_HEAD_BYTES: Final = 64 * 1024
HEAD_S: Final = 10.0


class BoundedHead(HttpToolsProtocol):
    """uvicorn's protocol; a head may exceed the bound by what one read of the socket brings."""

    head_s = HEAD_S
    _head: int | None = 0  # bytes of an unfinished head; None between heads
    _due: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._due = self.loop.call_later(self.head_s, transport.close)

    def on_message_begin(self) -> None:
        self._head = 0
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        self._head = None
        if self._due is not None:
            self._due.cancel()
            self._due = None
        super().on_headers_complete()

    def data_received(self, data: bytes) -> None:
        before = self._head
        super().data_received(data)
        if self._head is None:
            return
        # Only now is it known that the head did not come in one piece, so whole heads cost no timer.
        if self._due is None:
            self._due = self.loop.call_later(self.head_s, self.transport.close)
        if before is not None:
            self._head = before + len(data)
            if self._head > MAX_HEAD_BYTES:
                self.transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._due is not None:
            self._due.cancel()
        super().connection_lost(exc)
