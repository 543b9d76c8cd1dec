"""Opening the database: its settings, its schema, and one gateway a database.

``Database`` is SQLite; ``postgresql.py`` has the other engine, of the same shape. SQLite in WAL mode with
``synchronous=FULL``: a commit has reached the disk when it returns, readers never wait for the writer, and
the command line works on the file while the gateway runs. The file must be on a local disk; WAL does not
work over a network file system.
"""

from __future__ import annotations

import fcntl
import os
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, Protocol, Self

from sqlalchemy import Connection, Engine, create_engine, event, inspect, text
from sqlalchemy.exc import DatabaseError, DBAPIError
from sqlalchemy.pool import QueuePool

from gateway.errors import ConfigError
from gateway.storage.tables import SCHEMA

_KNOWN: Final = (
    "0001", "0002", "0003", "0004", "0005", "0006", "0007", "0008", "0009", "0010", "0011", "0012", SCHEMA,
)  # fmt: skip
"""Every revision up to the newest: what is not here was written by a later version."""

LAST_PAYLOAD: Final = "SELECT coalesce(max(id), 0) FROM payloads"

_SETTINGS: Final = (
    "PRAGMA journal_mode=WAL",
    "PRAGMA synchronous=FULL",  # in WAL mode: fdatasync at each commit, not only at checkpoints
    "PRAGMA busy_timeout=5000",
    "PRAGMA foreign_keys=ON",
    "PRAGMA secure_delete=ON",  # erased payloads are overwritten with zeros, not only unlinked
)


class Lock(Protocol):
    """What a gateway holds for its life."""

    def close(self) -> None: ...


class Appender(Protocol):
    """A connection for the journal alone, whose statements bypass SQLAlchemy."""

    def last_payload(self) -> int: ...

    def append(self, statements: Iterable[tuple[str, Sequence[tuple[Any, ...]]]]) -> None:
        """Run them in one transaction, each once a row; on disk when this returns, or nothing of it is."""

    def close(self) -> None: ...


class Database:
    """One SQLite file. ``open`` before use; ``reading`` and ``writing`` give connections."""

    kind = "sqlite"
    leftovers = "A reader holds older pages of the file. Run this again when it is done."
    """What to say when ``checkpoint`` could not do away with all of it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._engine: Engine | None = None
        self._lock: Lock | None = None

    @property
    def name(self) -> str:
        """How messages call it."""
        return f"storage.path {self.path}"

    @property
    def exists(self) -> bool:
        """Whether it was made already."""
        return self.path.exists()

    def open(self, *, gateway: bool = False, read_only: bool = False) -> Self:
        """Bring the file to the current schema and make it usable.

        ``gateway``: hold the file for the life of this process; a second gateway is refused, because two
        would each believe to know every effect under way. Others may read and write beside it.
        Raises ``ConfigError`` for a schema that is newer, a file that is no database, or a held file.
        """
        if gateway:
            self._lock = self._take_lock()
        try:
            self._engine = self._connectable(read_only)
            self._migrate(gateway, read_only)
        except BaseException:  # whatever stopped it, the lock must not outlive the attempt
            self.close()
            raise
        return self

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """A connection in one read transaction: all queries see the same moment."""
        with self._opened().connect() as connection, connection.begin():
            yield connection

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """A connection in one write transaction, committed to disk on leaving without an exception.

        It takes the write lock at its start, so what it reads cannot change before what it writes.
        """
        with self.connect_writing() as connection, connection.begin():
            yield connection

    def connect_writing(self) -> Connection:
        """A connection to keep, whose every ``begin`` takes the write lock. The caller closes it."""
        return self._opened().connect().execution_options(wardgate_write=True)

    def checkpoint(self) -> bool:
        """Move the write-ahead log into the file and empty it; ``False`` when a reader prevents that."""
        with self._opened().connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            busy = connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)").scalar_one()
        return not busy

    def appender(self) -> Appender:
        """The journal's own connection. The caller closes it."""
        return _Appender(self.connect_writing())

    def at_fault(self, error: Exception) -> bool:
        """Whether the disk or the file is to blame rather than one record."""
        cause = error.orig if isinstance(error, DBAPIError) else error  # connecting goes through SQLAlchemy
        return isinstance(cause, sqlite3.DatabaseError) and not isinstance(
            cause, sqlite3.IntegrityError | sqlite3.ProgrammingError | sqlite3.DataError
        )

    def statement(self, text: str) -> str:
        """A statement with ``?`` for its values, as the driver of this engine wants it."""
        return text

    def close(self) -> None:
        if self._engine is not None:
            self._engine.dispose()
            self._engine = None
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _opened(self) -> Engine:
        assert self._engine is not None, "Database.open() comes first"
        return self._engine

    def _connectable(self, read_only: bool) -> Engine:
        if not read_only:
            _create_private(self.path)
        return _engine(self.path, read_only)

    def _take_lock(self) -> Lock:
        """An flock, which the kernel releases when the process dies, however it dies."""
        path = self.path.with_name(self.path.name + ".lock")
        try:
            lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise ConfigError(f"storage.path {self.path}: {error.strerror}") from error
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.read(lock, 32).decode(errors="replace").strip()
            os.close(lock)
            raise ConfigError(
                f"storage.path {self.path} is in use by another gateway (process {holder or 'unknown'}):"
                " stop that one, or give this one its own storage.path"
            ) from None
        os.ftruncate(lock, 0)
        os.write(lock, f"{os.getpid()}\n".encode())
        return _Held(lock)

    def _migrate(self, gateway: bool, read_only: bool) -> None:
        try:
            with self.reading() as connection:
                current = _revision(connection)
        except DatabaseError as error:
            raise ConfigError(f"{self.name}: {error.orig}") from error
        if current == SCHEMA:
            return
        if current is not None and current not in _KNOWN:
            raise ConfigError(
                f"{self.name} has schema {current}, made by a newer version; this one knows"
                f" {SCHEMA}. Run the newer version, or restore the backup made before the upgrade."
            )
        if read_only:
            raise ConfigError(
                f"{self.name} has schema {current or 'none'} instead of {SCHEMA}:"
                " start the gateway once to bring it up to date"
            )
        # A schema must not change under a running gateway of an older version.
        lock = None if gateway else self._take_lock()
        try:
            with self.writing() as connection:
                _upgrade(connection)
        finally:
            if lock is not None:
                lock.close()


class _Held:
    """A file that stays open until it is closed, or the process ends."""

    def __init__(self, file: int) -> None:
        self._file = file

    def close(self) -> None:
        os.close(self._file)


class _Appender:
    """The driver's own cursor: SQLAlchemy's execution costs 150 µs more for a batch of one."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._cursor: sqlite3.Cursor = connection.connection.cursor()  # type: ignore[assignment]  # SQLite

    def last_payload(self) -> int:
        last: int = self._cursor.execute(LAST_PAYLOAD).fetchone()[0]
        return last

    def append(self, statements: Iterable[tuple[str, Sequence[tuple[Any, ...]]]]) -> None:
        cursor = self._cursor
        try:
            cursor.execute("BEGIN IMMEDIATE")
            for statement, values in statements:
                cursor.executemany(statement, values)
            cursor.execute("COMMIT")
        except BaseException:  # whatever it was, nothing of this batch is stored
            if cursor.connection.in_transaction:
                cursor.execute("ROLLBACK")
            raise

    def close(self) -> None:
        self._connection.close()


def _engine(path: Path, read_only: bool) -> Engine:
    uri = f"file:{_quoted(path)}?mode={'ro' if read_only else 'rw'}"
    engine = create_engine(
        "sqlite://",
        creator=lambda: sqlite3.connect(uri, uri=True, check_same_thread=False),
        poolclass=QueuePool,
    )

    @event.listens_for(engine, "connect")
    def connected(connection: Any, _record: object) -> None:
        connection.isolation_level = None  # transactions are begun below, not guessed by the driver
        for setting in _SETTINGS[1:] if read_only else _SETTINGS:
            connection.execute(setting)

    @event.listens_for(engine, "begin")
    def begun(connection: Connection) -> None:
        write = connection.get_execution_options().get("wardgate_write", False)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if write else "BEGIN")

    return engine


def _quoted(path: Path) -> str:
    """A path as the path of a SQLite URI, in which ``?``, ``#`` and ``%`` would have a meaning."""
    return str(path.absolute()).replace("%", "%25").replace("?", "%3f").replace("#", "%23")


def _create_private(path: Path) -> None:
    """Make the file readable by its owner only; SQLite gives its WAL the same mode."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
    except OSError as error:
        raise ConfigError(f"storage.path {path}: {error.strerror}") from error


def _revision(connection: Connection) -> str | None:
    """The schema of the file; ``None`` when it is empty."""
    if not inspect(connection).has_table("alembic_version"):
        return None
    revision: str | None = connection.execute(text("SELECT version_num FROM alembic_version")).scalar()
    return revision


def _upgrade(connection: Connection) -> None:
    # Imported here because a database that is up to date needs none of it, and it takes a while.
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations").replace("%", "%%"))
    config.attributes["connection"] = connection
    command.upgrade(config, "head")
