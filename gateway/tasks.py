"""Work in the background of one gateway: what fails is logged, and all of it ends with the gateway."""

from __future__ import annotations

import asyncio
import logging

from gateway.watch import Work

logger = logging.getLogger("wardgate.tasks")


class Tasks:
    """``start`` from the event loop's thread."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[object]] = set()  # the loop itself holds tasks weakly

    def start(self, work: Work) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[object]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            logger.error("a background task ended", exc_info=error)

    async def stop(self) -> None:
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
