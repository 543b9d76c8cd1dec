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

Opened = Callable[[], None]
"""Called once when the upstream has taken a stream."""


class NoFeed(Exception):  # an answer, not a fault: handled by ``Feed`` alone
    """The upstream has no such stream and will have none."""


class Feed:
    """What one owner is told of changes.

    ``listen`` opens one stream, calls what it is given when the upstream has taken it, and returns when it
    ends. ``missed`` is called after a stream was opened again: what changed in between was not heard.
    """

    def __init__(self, listen: Callable[[Opened], Awaitable[None]], missed: Callable[[], None]) -> None:
        self._listen = listen
        self._missed = missed
        self._task: asyncio.Task[None] | None = None
        self._before: asyncio.Task[None] | None = None  # goes on while another is opened in its place
        self._settled = asyncio.Event()  # while a stream is open, or there will be none
        self.gap = False  # it was open once and has ended since
        self.none = False  # the upstream has no such stream
        self.uris: set[str] = set()  # resources that are subscribed
        self.changing = asyncio.Lock()  # held by whoever changes ``uris`` and tells the upstream
        self.awaited = False  # a call has waited for it, whether it came or not

    def start(self) -> None:
        if self._task is None and not self.none:
            self._task = asyncio.create_task(self._keep(None))

    def renew(self) -> None:
        """Open it again because what it was opened for is gone; what changed meanwhile was not heard."""
        if self._task is not None:
            self.stop()
            self.gap = True
            self.start()

    async def replace(self, at: float) -> bool:
        """Open a stream for what is wanted now, and end the one before when it is taken.

        False when it is not taken until then; the one before goes on.
        """
        taken: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        before = self._before = self._task
        task = self._task = asyncio.create_task(self._keep(taken))
        accepted = False
        try:
            async with asyncio.timeout_at(at):
                accepted = await taken
        except TimeoutError:
            pass
        finally:
            self._before = None
            if self._task is task and not accepted:  # not stopped meanwhile
                task.cancel()
                self._task = before
            elif before is not None:
                before.cancel()
        return accepted

    def stop(self) -> None:
        self._settled.clear()
        for task in (self._before, self._task):
            if task is not None:
                task.cancel()
        self._before = self._task = None

    async def wait(self, at: float) -> None:
        """Until a stream is open, or it is known that there will be none, or loop time ``at``."""
        try:
            async with asyncio.timeout_at(at):
                await self._settled.wait()
        except TimeoutError:
            pass

    async def _keep(self, first: asyncio.Future[bool] | None) -> None:
        """``first`` is told whether the first stream is taken."""
        loop = asyncio.get_running_loop()
        retry = RETRY_S
        since = 0.0

        def opened() -> None:
            nonlocal since
            since = loop.time()
            self._settled.set()
            if first is not None and not first.done():
                first.set_result(True)
            if self.gap:
                self.gap = False
                self._missed()

        while True:
            since = 0.0
            try:
                await self._listen(opened)
            except NoFeed:
                if first is not None and not first.done():
                    first.set_result(False)  # this one is not taken, which says nothing about another
                    return
                self.none = True
                self._settled.set()  # nobody must wait for what will not come
                return
            except UpstreamError as error:
                logger.debug("no stream of changes: %s", error)
            except Exception:
                logger.exception("a stream of changes failed inside the gateway")
            self._settled.clear()
            if since:
                self.gap = True
                if loop.time() - since >= retry:  # a stream that ends at once is no better than none
                    retry = RETRY_S
            await asyncio.sleep(retry)
            retry = min(retry * 2, RETRY_MAX_S)
