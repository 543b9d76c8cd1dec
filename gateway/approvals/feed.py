"""What happens to approvals, as it happens, for whoever watches: consoles and the command line.

The events of approvals are numbered rows, so a watcher names the last one it has seen and misses none,
whatever made them: another process, the sweeper, a person. While anybody watches, one small query finds out
whether there are new ones; the watchers then read their own. The numbers must become visible in their order,
which they do where one transaction writes at a time.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Final

import msgspec
from sqlalchemy import func, select

from gateway.approvals import rows
from gateway.approvals.store import Store
from gateway.approvals.values import Approval
from gateway.storage.tables import approval_events, approvals

POLL_S: Final = 0.2
MOST: Final = 200


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """One event, and the approval as it is now."""

    number: int
    at_ns: int
    event: str
    by: str
    approval: Approval


class Feed:
    """``after`` blocks the caller until something has happened, or the time is over."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._newest = -1
        self._moved = asyncio.Event()
        self._watching = 0
        self._closed = False
        self._poll: asyncio.Task[None] | None = None

    async def newest(self) -> int:
        """The number of the last event; 0 when there was none."""
        return await asyncio.to_thread(self._last)

    async def after(self, tenant: str, number: int, wait_s: float) -> tuple[Sequence[Change], int]:
        """Events of a tenant after this one, at most ``MOST``, and the number to go on from."""
        until = asyncio.get_running_loop().time() + wait_s
        self._watching += 1
        if self._poll is None:
            self._poll = asyncio.create_task(self._look())
        try:
            while True:
                moved = self._moved
                found, reached = await asyncio.to_thread(self._read, tenant, number)
                left = until - asyncio.get_running_loop().time()
                if found or left <= 0 or self._closed:
                    return found, reached
                number = reached  # those of other tenants need not be read again
                try:
                    async with asyncio.timeout(left):
                        await moved.wait()
                except TimeoutError:
                    return (), reached
        finally:
            self._watching -= 1

    def close(self) -> None:
        """Let everybody go who waits; for the end of the gateway."""
        self._closed = True
        self._moved.set()

    async def _look(self) -> None:
        """While anybody watches."""
        try:
            while self._watching and not self._closed:
                newest = await asyncio.to_thread(self._last)
                if newest != self._newest:
                    self._newest = newest
                    self._moved.set()
                    self._moved = asyncio.Event()
                await asyncio.sleep(POLL_S)
        finally:
            self._poll = None
            self._moved.set()  # whoever waits looks for themselves, and starts it again
            self._moved = asyncio.Event()

    def _last(self) -> int:
        with self._store.database.reading() as connection:
            return connection.execute(select(func.max(approval_events.c.seq))).scalar() or 0

    def _read(self, tenant: str, number: int) -> tuple[list[Change], int]:
        events = approval_events
        with self._store.database.reading() as connection:
            newest = connection.execute(select(func.max(events.c.seq))).scalar() or 0
            new = connection.execute(
                select(events)
                .join(approvals, approvals.c.id == events.c.approval_id)
                .where(events.c.seq > number, approvals.c.tenant == tenant)
                .order_by(events.c.seq)
                .limit(MOST)
            ).all()
            wanted = rows.columns().where(approvals.c.id.in_({row.approval_id for row in new}))
            found = {row.id: rows.approval(row) for row in connection.execute(wanted)} if new else {}
        changes = [
            Change(
                number=row.seq, at_ns=row.at_ns, event=row.event, by=row.by, approval=found[row.approval_id]
            )
            for row in new
        ]
        # A full page has more behind it; else everything up to the newest is read.
        return changes, changes[-1].number if len(changes) == MOST else max(newest, number)
