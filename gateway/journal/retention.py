"""Payloads grow old and are deleted; the records about them stay.

The number of a payload is the time it was written, so age needs no index, and a shorter retention also
reaches what was written under a longer one.
"""

from __future__ import annotations

import time
from typing import Final

from sqlalchemy import delete, select

from gateway.storage.database import Database
from gateway.storage.tables import payloads

_STEP: Final = 200
_DAY_NS: Final = 86_400 * 1_000_000_000


class Retention:
    """Deletes what is older than ``days``, in steps small enough not to delay the journal."""

    def __init__(self, database: Database, days: int) -> None:
        self._database = database
        self._days = days

    def step(self) -> bool:
        """Delete one small lot; returns whether there may be more."""
        expired = select(payloads.c.id).where(payloads.c.id < time.time_ns() - self._days * _DAY_NS)
        expired = expired.order_by(payloads.c.id).limit(_STEP)
        with self._database.reading() as connection:
            if connection.execute(expired.limit(1)).first() is None:
                return False
        with self._database.writing() as connection:
            deleted = connection.execute(delete(payloads).where(payloads.c.id.in_(expired))).rowcount
        return deleted == _STEP
