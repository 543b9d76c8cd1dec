"""What the store knows of reviewing: the part of it that decides nothing about any call. Blocking."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Final

from sqlalchemy import Connection

from gateway.approvals import attention, fatigue, rows
from gateway.approvals.attention import Autonomy
from gateway.approvals.values import Settings
from gateway.storage.database import Database

AUTONOMY_S: Final = 20.0

Clock = Callable[[Connection], int]


class Overseen:
    """The base of ``Store``. ``now`` is the database's clock, in nanoseconds since the epoch."""

    def __init__(self, database: Database, settings: Settings, clock: Clock) -> None:
        self.database = database
        self.settings = settings
        self.now = clock
        self._autonomy: dict[str, tuple[float, Autonomy]] = {}

    def measures(self, tenant: str) -> tuple[fatigue.Summary, Autonomy]:
        """How people review, and how much goes on without them; the latter at most ``AUTONOMY_S`` old."""
        with self.database.reading() as connection:
            now = self.now(connection)
            found = attention.summary(connection, tenant, self.settings.fatigue, now)
            at, autonomy = self._autonomy.get(tenant, (-AUTONOMY_S, Autonomy()))
            # It counts a hundred thousand records, and moves slowly.
            if time.monotonic() - at >= AUTONOMY_S:
                autonomy = attention.autonomy(connection, tenant, now)
                self._autonomy[tenant] = (time.monotonic(), autonomy)
            return found, autonomy

    def reviewed(self) -> Sequence[str]:
        """Tenants of which anything was reviewed."""
        with self.database.reading() as connection:
            return attention.tenants(connection)

    def last_decision(self, tenant: str, name: str) -> int:
        """When somebody decided anything last; 0 when never."""
        with self.database.reading() as connection:
            everyone = rows.circle(connection, tenant, self.settings)
            return attention.last_decision(connection, tenant, name, everyone)

    def turned_away(self, approval_id: str, tenant: str, by: str, what: str) -> None:
        """Note that somebody whom nobody knows, or a delivery made twice, wanted to decide."""
        with self.database.writing() as connection:
            found = rows.load(connection, approval_id)
            if found is not None and found.tenant == tenant:
                rows.note(connection, approval_id, self.now(connection), "refused", by, what)
