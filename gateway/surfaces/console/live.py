"""What open pages hear of: one poller for all of them, and a stream of events for each.

An event says only that something moved; the page then fetches what it shows, for the person who looks at it.
So nothing here needs to know who may see what, and events may be dropped or joined without loss.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Final

from gateway.errors import WardgateError
from gateway.surfaces.console.deps import Look

logger = logging.getLogger("wardgate.console")

NAMES: Final = ("approvals", "breakers", "kills", "sessions", "pins", "rollout")
POLL_S: Final = 0.25
LEAST_GAP_S: Final = 0.4
"""Between two events of one page: a flood of changes must not become a flood of fetches."""

QUIET_S: Final = 15.0
MAX_STREAMS: Final = 500


class Live:
    def __init__(self, look: Look) -> None:
        self._look = look
        self._epochs: dict[str, tuple[int, ...]] = {}  # by tenant
        self._waiting: dict[str, int] = {}
        self._moved = asyncio.Event()
        self._listening: dict[str, int] = {}
        self._task: asyncio.Task[None] | None = None

    @property
    def full(self) -> bool:
        return sum(self._listening.values()) >= MAX_STREAMS

    async def pulse(self, tenant: str) -> tuple[str, int]:
        """Where a page of a tenant starts to listen, and how many calls wait."""
        epochs, waiting = await asyncio.to_thread(self._look.pulse, tenant)
        return mark(tuple(epochs.get(name, 0) for name in NAMES)), waiting

    async def stream(
        self, tenant: str, since: str, still: Callable[[], Awaitable[bool]]
    ) -> AsyncIterator[bytes]:
        """Server-sent events from ``since`` on, as long as ``still`` says that somebody is signed in."""
        known = unmark(since)
        self._listening[tenant] = self._listening.get(tenant, 0) + 1
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._poll())
        try:
            yield b"retry: 1000\n\n"
            while True:
                moved = self._moved
                if not await still():
                    yield b"event: signed-out\ndata:\n\n"
                    return
                now = self._epochs.get(tenant)
                if now is not None and now != known:
                    for name, before, after in zip(NAMES, known, now, strict=True):
                        if before != after:
                            waiting = self._waiting.get(tenant, 0)
                            yield f"id: {mark(now)}\nevent: {name}\ndata: {waiting}\n\n".encode()
                    known = now
                    await asyncio.sleep(LEAST_GAP_S)
                    continue
                try:
                    async with asyncio.timeout(QUIET_S):
                        await moved.wait()
                except TimeoutError:
                    yield b": quiet\n\n"
        finally:
            self._listening[tenant] -= 1
            if not self._listening[tenant]:
                del self._listening[tenant]

    async def _poll(self) -> None:
        while self._listening:
            for tenant in list(self._listening):
                try:
                    epochs, waiting = await asyncio.to_thread(self._look.pulse, tenant)
                except WardgateError as error:
                    logger.warning("pages are not told of changes: %s", error.code)
                    continue
                now = tuple(epochs.get(name, 0) for name in NAMES)
                if now != self._epochs.get(tenant):
                    self._epochs[tenant], self._waiting[tenant] = now, waiting
                    before, self._moved = self._moved, asyncio.Event()
                    before.set()
            await asyncio.sleep(POLL_S)
        self._epochs.clear()


def mark(epochs: tuple[int, ...]) -> str:
    return ".".join(map(str, epochs))


def unmark(text: str) -> tuple[int, ...]:
    """What ``mark`` wrote; for anything else a beginning at which everything has moved."""
    parts = text.split(".")
    if len(parts) == len(NAMES) and all(part.isdecimal() and len(part) < 19 for part in parts):
        return tuple(map(int, parts))
    return (-1,) * len(NAMES)
