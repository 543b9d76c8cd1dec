"""Payloads grow old and are deleted; the records about them stay.

A call id is a UUIDv7 (RFC 9562, section 5.7), whose first 48 bits are milliseconds: the age of a payload is
read from the index over call ids.
"""

from __future__ import annotations

import time
from typing import Final

from sqlalchemy import delete, select

from gateway.storage.database import Database
from gateway.storage.tables import payloads

_STEP: Final = 200
_DAY_NS: Final = 86_400 * 1_000_000_000


def first_id(at_ns: int) -> str:
    """The smallest call id made at a time; compares as text with every other."""
    value = f"{max(at_ns, 0) // 1_000_000:012x}"
    return f"{value[:8]}-{value[8:]}"


class Retention:
    """Deletes what is older than ``days``, in steps small enough not to delay the journal."""

    def __init__(self, database: Database, days: int) -> None:
        self._database = database
        self._days = days

    def step(self) -> bool:
        """Delete one small lot; returns whether there may be more."""
        limit = first_id(time.time_ns() - self._days * _DAY_NS)
        expired = select(payloads.c.id).where(payloads.c.call_id < limit).limit(_STEP)
        with self._database.reading() as connection:
            if connection.execute(expired.limit(1)).first() is None:
                return False
        with self._database.writing() as connection:
            deleted = connection.execute(delete(payloads).where(payloads.c.id.in_(expired))).rowcount
        return deleted == _STEP
