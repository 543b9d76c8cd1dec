"""Pins in the database: written by the gateway when a list changes, and by people when they accept or reject.

The gateway writes what is listed and never what a person said; the command line and the admin API write what
a person said and never what is listed. So neither can undo the other, in whatever order they come.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final

from sqlalchemy import Row, and_, case, delete, null, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.exc import DatabaseError

from gateway.errors import StateError
from gateway.pins import PinRow
from gateway.storage import control
from gateway.storage.database import Database
from gateway.storage.tables import pinned_upstreams as contacts
from gateway.storage.tables import pins as table

_BATCH: Final = 500  # rows in one transaction: the journal must not wait long for the file

_ACCEPTED: Final = ("accepted_hash", "accepted_json", "accepted_ns", "accepted_by")
_COLUMNS: Final = tuple(table.c[name] for name in PinRow.__struct_fields__)


class Pins:
    """The pins of all upstreams."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def load(self) -> tuple[frozenset[str], Sequence[PinRow]]:
        """See ``gateway.pins.Stored``."""
        with _readable(), self._database.reading() as connection:
            known = frozenset(connection.execute(select(contacts.c.upstream)).scalars())
            rows = connection.execute(
                select(*_COLUMNS).order_by(table.c.upstream, table.c.kind, table.c.name)
            )
            return known, [_pin(row) for row in rows]

    def save(self, upstream: str, listed: Sequence[tuple[PinRow, bytes]], gone: Sequence[PinRow]) -> None:
        """See ``gateway.pins.Stored``. The first list counts as seen when all of it is kept."""
        with _readable():
            for start in range(0, len(listed), _BATCH):
                values = [_values(row, definition) for row, definition in listed[start : start + _BATCH]]
                with self._database.writing() as connection:
                    connection.execute(_UPSERT, values)
                    if start + _BATCH >= len(listed):
                        first = insert(contacts).values(upstream=upstream, first_ns=time.time_ns())
                        connection.execute(first.on_conflict_do_nothing())
            for start in range(0, len(gone), _BATCH):
                with self._database.writing() as connection:
                    for row in gone[start : start + _BATCH]:
                        connection.execute(
                            update(table).where(_at(row)).values(listed=0, removed_ns=row.removed_ns)
                        )
                        # What nobody said anything about is not kept: invented names would fill the disk.
                        connection.execute(
                            delete(table).where(
                                _at(row), table.c.accepted_hash.is_(None), table.c.rejected_hash.is_(None)
                            )
                        )

    def definitions(self, row: PinRow) -> tuple[bytes | None, bytes]:
        """The accepted definition and the one last listed, as JSON."""
        query = select(table.c.accepted_json, table.c.listed_json).where(_at(row))
        with _readable(), self._database.reading() as connection:
            accepted, listed = connection.execute(query).one()
        return accepted, listed

    def accept(self, row: PinRow, by: str) -> bool:
        """Accept exactly the definition ``row.listed_hash``; ``False`` when another one is listed by now."""
        return self._said(
            row,
            table.c.listed == 1,
            accepted_hash=table.c.listed_hash,
            accepted_json=table.c.listed_json,
            accepted_ns=time.time_ns(),
            accepted_by=by,
            rejected_hash=null(),
            rejected_ns=null(),
            rejected_by=null(),
            removed_ns=null(),
        )

    def reject(self, row: PinRow, by: str) -> bool:
        """Refuse exactly the definition ``row.listed_hash``; if it was accepted before, that ends too."""
        accepted = {
            name: case((table.c.accepted_hash == table.c.listed_hash, null()), else_=table.c[name])
            for name in _ACCEPTED
        }
        return self._said(
            row,
            rejected_hash=table.c.listed_hash,
            rejected_ns=time.time_ns(),
            rejected_by=by,
            **accepted,
        )

    def _said(self, row: PinRow, *where: Any, **values: Any) -> bool:
        with _readable(), self._database.writing() as connection:
            done = connection.execute(
                update(table).where(_at(row), table.c.listed_hash == row.listed_hash, *where).values(values)
            ).rowcount
            if done:
                control.bump(connection, control.PINS)
        return bool(done)


def _at(row: PinRow) -> Any:
    return and_(table.c.upstream == row.upstream, table.c.kind == row.kind, table.c.name == row.name)


def _values(row: PinRow, definition: bytes) -> dict[str, Any]:
    accepted = row.accepted_hash == row.listed_hash
    return {
        "upstream": row.upstream,
        "kind": row.kind,
        "name": row.name,
        "accepted_hash": row.accepted_hash if accepted else None,
        "accepted_json": definition if accepted else None,
        "accepted_ns": row.accepted_ns if accepted else None,
        "accepted_by": row.accepted_by if accepted else None,
        "listed": int(row.listed),
        "listed_hash": row.listed_hash,
        "listed_json": definition,
        "shape": row.shape,
        "flags": " ".join(row.flags),
        "seen_ns": row.seen_ns,
        "removed_ns": row.removed_ns,
    }


def _upsert() -> Any:
    row = insert(table)
    new = row.excluded
    listed = ("listed", "listed_hash", "listed_json", "shape", "flags", "seen_ns", "removed_ns")
    # Accepting without a person is for what nobody has said anything about yet.
    silent = and_(table.c.accepted_hash.is_(None), table.c.rejected_hash.is_(None))
    return row.on_conflict_do_update(
        index_elements=[table.c.upstream, table.c.kind, table.c.name],
        set_={name: new[name] for name in listed}
        | {name: case((silent, new[name]), else_=table.c[name]) for name in _ACCEPTED},
    )


_UPSERT: Final = _upsert()


@contextmanager
def _readable() -> Iterator[None]:
    try:
        yield
    except DatabaseError as error:
        raise StateError("state_unavailable", f"pins: {error.orig}") from error


def _pin(row: Row[Any]) -> PinRow:
    values = dict(row._mapping)
    values["flags"] = tuple(values["flags"].split())
    values["listed"] = bool(values["listed"])
    return PinRow(**values)
