"""Streams on which an upstream says what changed: kept open, and opened again when they end."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Final

from gateway.errors import UpstreamError

logger = logging.getLogger("wardgate.upstreams")

RETRY_S: Final = 1.0  # after the first failure; doubles
RETRY_MAX_S: Final = 60.0


class NoFeed(Exception):  # an answer, not a fault: handled by ``Feed`` alone
    """The upstream has no such stream and will have none."""


class Feed:
    """What one owner is told of changes.

    ``listen`` opens one stream, calls ``opened`` when the upstream has taken it, and returns when it ends.
    ``missed`` is called after a stream was opened again: what changed in between was not heard.
    """

    def __init__(self, listen: Callable[[Feed], Awaitable[None]], missed: Callable[[Feed], None]) -> None:
        self._listen = listen
        self._missed = missed
        self.gap = False  # it was open once and has ended since
        self._task: asyncio.Task[None] | None = None
        self.uris: set[str] = set()  # resources that are subscribed
        self.ready = asyncio.Event()  # while the upstream has taken the stream
        self.none = False  # the upstream has no such stream

    def start(self) -> None:
        if self._task is None and not self.none:
            self._task = asyncio.create_task(self._keep())

    def restart(self) -> None:
        """Open the stream again, as for other resources than before."""
        self.stop()
        self.start()

    def stop(self) -> None:
        self.ready.clear()
        if self._task is not None:
            self._task.cancel()
            self._task = None

    async def wait(self, at: float) -> bool:
        """Whether the upstream has taken the stream by then."""
        try:
            async with asyncio.timeout_at(at):
                await self.ready.wait()
        except TimeoutError:
            return False
        return not self.none

    def opened(self) -> None:
        self.ready.set()
        if self.gap:
            self._missed(self)
        self.gap = False

    async def _keep(self) -> None:
        retry = RETRY_S
        while True:
            try:
                await self._listen(self)
            except NoFeed:
                self.none = True
                self.ready.set()  # nobody must wait for what will not come
                return
            except UpstreamError as error:
                logger.debug("no stream of changes: %s", error)
            if self.ready.is_set():
                retry = RETRY_S
                self.gap = True
            self.ready.clear()
            await asyncio.sleep(retry)
            retry = min(retry * 2, RETRY_MAX_S)
