"""Noticing what changed outside the process: credentials and resolutions, configuration and policy files.

Credentials and resolutions are polled with one tiny query every half second, off the event loop, so a
revocation holds within a second without a channel between the command line and the gateway. The
configuration file is polled as well, because its folder usually holds the database, whose writes would
wake a watcher all the time. Policy folders are watched by the operating system; editors write in bursts,
which ``watchfiles`` gathers into one change.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine
from pathlib import Path
from typing import Any, Final

from watchfiles import awatch

logger = logging.getLogger("wardgate.watch")

POLL_S: Final = 0.5

Changed = Callable[[], Awaitable[None]]
Work = Coroutine[Any, Any, object]


async def poll(
    what: str, read: Callable[[], Any], changed: Changed, interval_s: float = POLL_S, known: Any = None
) -> None:
    """Call ``changed`` whenever ``read`` (run in a thread) gives another value; runs until cancelled.

    ``known`` is the value at the time what depends on it was built; without it the first one read counts.

    A read that fails is logged once and tried again: what is in force stays in force, and the journal,
    which lives in the same file as the keys, refuses calls by itself when that file is gone.
    """
    failing = False
    while True:
        try:
            now = await asyncio.to_thread(read)
            if known is not None and now != known:
                await changed()
            known, failing = now, False
        except Exception as error:  # noqa: BLE001 - whatever it is, the next poll must happen
            if not failing:
                logger.error("cannot look for changes", extra={"what": what, "error": repr(error)})
            failing = True
        await asyncio.sleep(interval_s)


def file_state(path: Path) -> tuple[int, int, int]:
    """What differs when a file was written or replaced."""
    stat = path.stat()
    return stat.st_mtime_ns, stat.st_size, stat.st_ino


async def watch_folder(folder: Path, changed: Changed) -> None:
    """Call ``changed`` after files below the folder change; runs until cancelled."""
    async for _ in awatch(folder, step=100, recursive=True):
        await changed()
