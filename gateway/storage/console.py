"""Which sign-ins of the console have been ended. What a browser still holds must not let anybody in."""

from __future__ import annotations

from sqlalchemy import delete, insert, select

from gateway.storage.database import Database
from gateway.storage.tables import console_ended as table


class EndedSignIns:
    """Both methods block; run them in a thread."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def ended(self, sign_in: str) -> bool:
        query = select(table.c.id).where(table.c.id == sign_in)
        with self._database.reading() as connection:
            return connection.execute(query).scalar() is not None

    def end(self, sign_in: str, until_ns: int, now_ns: int) -> None:
        """``until_ns`` is when it would have ended by itself; what has, is forgotten."""
        with self._database.writing() as connection:
            connection.execute(delete(table).where(table.c.until_ns < now_ns))
            connection.execute(delete(table).where(table.c.id == sign_in))
            connection.execute(insert(table).values(id=sign_in, until_ns=until_ns))
