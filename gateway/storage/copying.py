"""From one database to another: every table in one transaction of the target, then a comparison row by row.

For moving from SQLite to PostgreSQL. Nobody may write to the source meanwhile, and the target must be empty.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from hashlib import sha256
from typing import Any, Final

import msgspec
import orjson
from sqlalchemy import Column, Connection, Table, func, insert, select, text, update

from gateway.errors import ConfigError
from gateway.storage.database import Database
from gateway.storage.tables import metadata

_LOT: Final = 500

Progress = Callable[[str, int], None]
"""Told of each lot: the table, and how many rows."""


class Copied(msgspec.Struct, frozen=True, kw_only=True):
    """Rows of each table, as they were counted in both databases after the copy."""

    rows: dict[str, int]


def sizes(source: Database) -> dict[str, int]:
    """How many rows each table has."""
    with source.reading() as connection:
        return {table.name: _count(connection, table) for table in metadata.sorted_tables}


def copy(source: Database, target: Database, progress: Progress = lambda *_: None) -> Copied:
    """Copy everything and compare. ``ConfigError``, with the target as it was, when anything is wrong."""
    with source.reading() as old, target.writing() as new:
        if target.kind == "postgresql":
            # Reading a large table takes longer than a writer may stand still; nobody else uses this one yet.
            new.exec_driver_sql("SET LOCAL idle_in_transaction_session_timeout = 0")
        for table in metadata.sorted_tables:
            if _count(new, table):
                raise ConfigError(
                    f"{target.name} is not empty: table {table.name} has rows. Copy into a new database."
                )
        for table in metadata.sorted_tables:
            _copy(old, new, table, progress)
        counts = {}
        for table in metadata.sorted_tables:
            before, after = _summed(old, table), _summed(new, table)
            if before != after:
                raise ConfigError(f"table {table.name} is not the same after the copy; nothing was kept")
            counts[table.name] = before[0]
        if target.kind == "postgresql":
            _numbering(new)
    return Copied(rows=counts)


def _copy(old: Connection, new: Connection, table: Table, progress: Progress) -> None:
    # A row may name one of the same table that comes later, so these columns are filled in afterwards.
    later = [
        column.name for column in table.c if any(key.column.table is table for key in column.foreign_keys)
    ]
    for rows in _lots(old, table):
        new.execute(insert(table), [{**row, **dict.fromkeys(later)} for row in rows])
        progress(table.name, len(rows))
    key = list(table.primary_key)
    for name in later:
        for rows in _lots(old, table, table.c[name].is_not(None)):
            for row in rows:
                this = [column == row[column.name] for column in key]
                new.execute(update(table).where(*this).values({name: row[name]}))


def _lots(connection: Connection, table: Table, *only: Any) -> Iterator[list[dict[str, Any]]]:
    # One pass with a cursor: rows of a table are far more than fit into memory.
    found = connection.execution_options(yield_per=_LOT).execute(select(table).where(*only))
    for lot in found.mappings().partitions(_LOT):
        yield [dict(row) for row in lot]


def _count(connection: Connection, table: Table) -> int:
    number: int = connection.execute(select(func.count()).select_from(table)).scalar_one()
    return number


def _summed(connection: Connection, table: Table) -> tuple[int, int]:
    """How many rows, and the sum of their hashes, which is the same in whatever order they come."""
    number = total = 0
    for rows in _lots(connection, table):
        for row in rows:
            number += 1
            total += int.from_bytes(sha256(_written(list(row.values()))).digest(), "big")
    return number, total % 2**256


def _written(values: Sequence[Any]) -> bytes:
    return orjson.dumps([["b", each.hex()] if isinstance(each, bytes) else each for each in values])


def _numbering(connection: Connection) -> None:
    """Let the sequences go on after the numbers that were copied."""
    for table in metadata.sorted_tables:
        column: Column[Any] | None = table.autoincrement_column
        if column is None:
            continue
        name = connection.execute(
            text("SELECT pg_get_serial_sequence(:table, :column)"),
            {"table": table.name, "column": column.name},
        ).scalar()
        if name is not None:
            last = connection.execute(select(func.max(column))).scalar()
            connection.execute(
                text("SELECT setval(:name, :last, :called)"),
                {"name": name, "last": last or 1, "called": last is not None},
            )
