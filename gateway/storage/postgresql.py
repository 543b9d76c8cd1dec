"""PostgreSQL beside SQLite: the same tables, the same migrations, and the same promises of a transaction.

A writing transaction takes one advisory lock first and gives it back with its commit, as SQLite's ``BEGIN
IMMEDIATE`` does: what it reads cannot change before what it writes, numbers of records follow the order of
commits, and nothing ever fails to serialize. Reading transactions see one moment and wait for nobody. The
reasons are in docs/adr/0027-postgresql.md.

psycopg rather than asyncpg: everything below is blocking and runs in threads or in the command line.
"""

from __future__ import annotations

import ipaddress
import logging
import os
import time
from collections.abc import Iterable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.exc import DBAPIError

from gateway.errors import ConfigError
from gateway.storage import control
from gateway.storage.database import LAST_PAYLOAD, Appender, Database, Lock

logger = logging.getLogger("wardgate.storage")

_SPACE: Final = 0x77617264  # "ward": the first half of the keys of our advisory locks
_WRITE, _GATEWAY = 1, 2
_LOCK_WRITE: Final = f"""
    SELECT pg_advisory_xact_lock({_SPACE}, {_WRITE}),
    set_config('idle_in_transaction_session_timeout', '10s', true)
"""
"""The one lock; a process that stands still with it is cut off, or nobody could write any more."""
_TRY_GATEWAY: Final = f"SELECT pg_try_advisory_lock({_SPACE}, {_GATEWAY})"
_HOLDER: Final = """
    SELECT application_name FROM pg_locks JOIN pg_stat_activity USING (pid)
    WHERE locktype = 'advisory' AND classid = %s AND objid = %s AND granted
    AND pg_locks.database = (SELECT oid FROM pg_database WHERE datname = current_database())
"""
_FENCE: Final = "SELECT epoch FROM control WHERE name = 'holder'"  # control.HOLDER
_OLDEST: Final = 130000
_TRIES, _BETWEEN_S = 20, 0.1  # a process that was killed is noticed by its server a moment later
_SURE: Final = ("require", "verify-ca", "verify-full", "disable")
_LOCAL: Final = {
    "connect_timeout": "5",
    "keepalives_idle": "5",
    "keepalives_interval": "5",
    "keepalives_count": "2",
    "tcp_user_timeout": "10000",  # ms: a server that is gone must not hold the journal for minutes
    "options": "-c lock_timeout=5s -c synchronous_commit=on",
}


class Fenced(Exception):
    """Another gateway has taken the database over; this one must not write any more."""


class PostgresDatabase(Database):
    """A database of a PostgreSQL server. ``url`` is ``postgresql://user:password@host/name?sslmode=…``."""

    kind = "postgresql"
    leftovers = "The server overwrites what it freed, and its write-ahead log, in its own time."

    def __init__(self, url: str) -> None:
        super().__init__(Path())  # there is no file
        self._conninfo, self._shown = checked(url)
        self._fence: int | None = None

    @property
    def name(self) -> str:
        return f"storage.url {self._shown}"

    @property
    def exists(self) -> bool:
        return True  # nobody but an administrator makes it

    def open(self, *, gateway: bool = False, read_only: bool = False) -> PostgresDatabase:
        """As ``Database.open``. A gateway that opens it shuts out every one before it, for good."""
        super().open(gateway=gateway, read_only=read_only)
        if gateway:
            with self.writing() as connection:
                control.bump(connection, control.HOLDER)
                fence: int = connection.exec_driver_sql(_FENCE).scalar_one()
            self._fence = fence
        return self

    def checkpoint(self) -> bool:
        """Free what was deleted. ``False``: the server overwrites it in its own time."""
        with self._opened().connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            for table in ("payloads", "approvals", "idempotency"):
                connection.exec_driver_sql(f"VACUUM {table}")
        return False

    def appender(self) -> Appender:
        connection = self._connect()
        # Whatever the server's own is: stricter, a batch would see no more than there was before its lock.
        connection.isolation_level = psycopg.IsolationLevel.READ_COMMITTED
        return _Appender(connection, lambda: self._fence)

    def at_fault(self, error: Exception) -> bool:
        cause = error.orig if isinstance(error, DBAPIError) else error
        if isinstance(cause, Fenced):
            return True
        return isinstance(cause, psycopg.Error) and not isinstance(
            cause, psycopg.IntegrityError | psycopg.ProgrammingError | psycopg.DataError
        )

    def statement(self, text: str) -> str:
        return _numbered(text)

    # ------------------------------------------------------------------------------------------------

    def _connectable(self, read_only: bool) -> Engine:
        del read_only  # each reading transaction is one, whoever opens it
        engine = create_engine(
            "postgresql+psycopg://", creator=self._connect, pool_size=5, max_overflow=10, pool_pre_ping=True
        )

        @event.listens_for(engine, "begin")
        def begun(connection: Connection) -> None:
            driver: psycopg.Connection[Any] = connection.connection.dbapi_connection  # type: ignore[assignment]
            writes = connection.get_execution_options().get("wardgate_write", False)
            # psycopg begins with the first statement, and then as these say.
            level = psycopg.IsolationLevel
            driver.isolation_level = level.READ_COMMITTED if writes else level.REPEATABLE_READ
            driver.read_only = not writes
            if writes:
                connection.exec_driver_sql(_LOCK_WRITE)
                if self._fence is not None:
                    _unfenced(connection.exec_driver_sql(_FENCE).scalar(), self._fence)

        return engine

    def _connect(self) -> psycopg.Connection[Any]:
        return psycopg.connect(self._conninfo)

    def _take_lock(self) -> Lock:
        """An advisory lock of a connection of its own, which the server frees when the process is gone."""
        try:
            connection = psycopg.connect(self._conninfo, autocommit=True)
        except psycopg.Error as error:
            raise ConfigError(f"{self.name}: {_first_line(error)}") from error
        try:
            self._examine(connection)
            for _ in range(_TRIES):
                if connection.execute(_TRY_GATEWAY).fetchone() == (True,):
                    return connection
                time.sleep(_BETWEEN_S)
            holder = connection.execute(_HOLDER, (_SPACE, _GATEWAY)).fetchone()
        except BaseException:
            connection.close()
            raise
        connection.close()
        raise ConfigError(
            f"{self.name} is in use by another gateway ({holder[0] if holder else 'unknown'}): stop that one,"
            " or give this one its own database"
        )

    def _examine(self, connection: psycopg.Connection[Any]) -> None:
        """Refuse a server that cannot keep the promises of the journal."""
        version = connection.info.server_version
        if version < _OLDEST:
            raise ConfigError(
                f"{self.name}: PostgreSQL {version // 10_000} is too old; 13 or newer is needed"
            )
        for question, wanted, why in (
            (
                "SELECT pg_is_in_recovery()::text",
                "false",
                "a standby and cannot be written: name the primary",
            ),
            ("SHOW server_encoding", "UTF8", "not in UTF8: make it with ENCODING 'UTF8' TEMPLATE template0"),
        ):
            row = connection.execute(question).fetchone()
            if row is None or row[0] != wanted:
                raise ConfigError(f"{self.name} is {why}")
        # Crash safety is the server's to give; tests and trials turn it off.
        for setting in ("fsync", "full_page_writes"):
            row = connection.execute(f"SHOW {setting}").fetchone()
            if row != ("on",):
                logger.warning("%s has %s off: its crash can lose or break records", self.name, setting)


class _Appender:
    """One connection in pipeline mode: a batch is a handful of round trips whatever its size."""

    def __init__(self, connection: psycopg.Connection[Any], fence: Any) -> None:
        self._connection = connection
        self._fence = fence

    def last_payload(self) -> int:
        with self._connection.transaction():
            row = self._connection.execute(LAST_PAYLOAD).fetchone()
        assert row is not None
        last: int = row[0]
        return last

    def append(self, statements: Iterable[tuple[str, Sequence[tuple[Any, ...]]]]) -> None:
        with self._connection.transaction(), self._connection.cursor() as cursor:
            cursor.execute(_LOCK_WRITE)
            if (fence := self._fence()) is not None:
                row = cursor.execute(_FENCE).fetchone()
                _unfenced(row[0] if row else None, fence)
            for statement, values in statements:
                cursor.executemany(statement, values)

    def close(self) -> None:
        self._connection.close()


def checked(url: str) -> tuple[str, str]:
    """The connection string of an address, and the address without its password; weak ones are refused."""
    if urlsplit(url).scheme not in ("postgresql", "postgres"):
        raise ConfigError("storage.url must begin with postgresql://")
    try:
        said = conninfo_to_dict(url)
    except psycopg.Error as error:
        raise ConfigError(f"storage.url: {_first_line(error)}") from None  # the error repeats the password
    hosts = str(said.get("host") or "").split(",")
    shown = f"postgresql://{','.join(hosts)}/{said.get('dbname', '')}"
    if not said.get("dbname"):
        raise ConfigError(f"storage.url {shown} names no database")
    # Left to itself the client goes on in clear when the server, or somebody before it, offers no TLS.
    if not all(_here(host) for host in hosts) and said.get("sslmode") not in _SURE:
        raise ConfigError(
            f"storage.url {shown}: add sslmode=verify-full (with sslrootcert=…), or sslmode=disable if the"
            " network itself is safe"
        )
    if "options" in said:
        raise ConfigError(f"storage.url {shown}: 'options' are the gateway's own")
    name = f"wardgate {os.uname().nodename}:{os.getpid()}"
    return make_conninfo("", **{**_LOCAL, "application_name": name, **said}), shown


def _here(host: str) -> bool:
    """Whether a host is this machine: loopback, or the folder of a socket."""
    if host in ("", "localhost") or host.startswith("/"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _unfenced(epoch: int | None, fence: int) -> None:
    # The lock of a gateway goes with its connection, and a gateway does not notice that at once.
    if epoch != fence:
        raise Fenced("another gateway has taken this database over")


@lru_cache(maxsize=64)
def _numbered(text: str) -> str:
    return text.replace("?", "%s")


def _first_line(error: BaseException) -> str:
    return str(error).strip().partition("\n")[0]
