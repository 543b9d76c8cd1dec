"""Keeps the catalog current: at start, when an upstream says so, and every few minutes."""

from __future__ import annotations

import asyncio
import logging
from typing import Final

from gateway.catalog.catalog import Fetch, ToolCatalog

logger = logging.getLogger("wardgate.catalog")

EVERY_S: Final = 300.0
RETRY_S: Final = 1.0  # after the first failure; doubles
RETRY_MAX_S: Final = 60.0
QUIET_S: Final = 1.0  # an upstream that says "changed" in a loop is asked this seldom
FIRST_ROUND_S: Final = 5.0
SAVE_S: Final = 6.0  # while pins wait to be stored, which only a refresh does


class Refresher:
    """One task for each upstream, so that one that hangs delays no other."""

    def __init__(self, catalog: ToolCatalog, fetch: Fetch, *, every_s: float = EVERY_S) -> None:
        self._catalog = catalog
        self._fetch = fetch
        self._every_s = every_s
        self._changed = {name: asyncio.Event() for name in catalog.listing}
        self._asked = {name: asyncio.Event() for name in catalog.listing}
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Ask every upstream once, then go on in the background; returns after at most 5 s."""
        self._tasks = [asyncio.create_task(self._keep(name)) for name in self._catalog.listing]
        waiting = [asyncio.create_task(asked.wait()) for asked in self._asked.values()]
        if waiting:
            _, late = await asyncio.wait(waiting, timeout=FIRST_ROUND_S)
            for task in late:
                task.cancel()

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def changed(self, upstream: str) -> None:
        """An upstream said that a list of it changed."""
        if upstream in self._changed:
            self._changed[upstream].set()

    async def _keep(self, upstream: str) -> None:
        retry = RETRY_S
        while True:
            self._changed[upstream].clear()
            try:
                fresh = await self._catalog.refresh(upstream, self._fetch)
            except Exception:  # a fault of ours in one list must not end the refreshing
                logger.exception("upstream %s: refresh failed inside the gateway", upstream)
                fresh = False
            self._asked[upstream].set()
            if fresh:
                retry = RETRY_S
                unsaved = self._catalog.unsaved(upstream)
                await self._rest(upstream, min(self._every_s, SAVE_S) if unsaved else self._every_s)
            else:
                await asyncio.sleep(retry)
                retry = min(retry * 2, RETRY_MAX_S)

    async def _rest(self, upstream: str, seconds: float) -> None:
        await asyncio.sleep(min(QUIET_S, seconds))
        try:
            async with asyncio.timeout(seconds):
                await self._changed[upstream].wait()
        except TimeoutError:
            return
