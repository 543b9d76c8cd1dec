"""A database for a test: a SQLite file, or with ``WARDGATE_TEST_STORAGE=postgresql`` one of a real server.

The same tests run on both: ``make test-postgresql``. The server is started once a process, as an
unprivileged user, on a Unix socket; each path a test names is a database of its own there.
"""

from __future__ import annotations

import atexit
import os
import shutil
import signal
import subprocess
import tempfile
import time
from functools import cache
from hashlib import sha256
from pathlib import Path

import psycopg
import pytest

from gateway.storage.database import Database
from gateway.storage.postgresql import PostgresDatabase

ON_POSTGRESQL = os.environ.get("WARDGATE_TEST_STORAGE") == "postgresql"
_SERVER = "WARDGATE_TEST_SERVER"  # the socket folder; children of a test inherit it

sqlite_only = pytest.mark.skipif(ON_POSTGRESQL, reason="about the SQLite file")


def at(path: Path) -> Database:
    """The database of a path, not yet opened."""
    return PostgresDatabase(url(path)) if ON_POSTGRESQL else Database(path)


def url(path: Path) -> str:
    """The address of the database of a path, which is made from the migrated template if need be."""
    name = "w" + sha256(str(path.absolute()).encode()).hexdigest()[:20]
    with psycopg.connect(_address("postgres"), autocommit=True) as connection:
        if not connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", [name]).fetchone():
            _migrated()
            connection.execute(f"CREATE DATABASE {name} TEMPLATE migrated STRATEGY file_copy")
    return _address(name)


def empty(path: Path) -> str:
    """The address of a database that holds nothing at all."""
    name = "e" + sha256(str(path.absolute()).encode()).hexdigest()[:20]
    with psycopg.connect(_address("postgres"), autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name} TEMPLATE template0")
    return _address(name)


def _address(name: str) -> str:
    return f"postgresql://postgres@/{name}?host={_server()}"


@cache
def _migrated() -> None:
    with psycopg.connect(_address("postgres"), autocommit=True) as connection:
        if not connection.execute("SELECT 1 FROM pg_database WHERE datname = 'migrated'").fetchone():
            connection.execute("CREATE DATABASE migrated TEMPLATE template0 ENCODING 'UTF8'")
            PostgresDatabase(_address("migrated")).open().close()


def unprotected(table: str) -> str:
    """The statement of an attacker who may administer the database: rows of a table can be changed again."""
    return (
        f"DROP TRIGGER {table}_append_only ON {table}" if ON_POSTGRESQL else f"DROP TRIGGER {table}_no_update"
    )


def programs() -> Path | None:
    """The folder of the newest PostgreSQL of this machine."""
    found = [*Path("/usr/lib/postgresql").glob("*/bin/initdb")]
    if found:
        return max(found, key=lambda each: int(each.parts[4])).parent
    there = shutil.which("initdb")
    return Path(there).parent if there else None


@cache
def _server() -> str:
    running = os.environ.get(_SERVER)
    if running:
        return running
    where = programs()
    assert where is not None, "PostgreSQL is not installed: apt-get install postgresql"
    folder = Path(tempfile.mkdtemp(prefix="wardgate-pg-"))
    as_user: list[str] = []
    if os.geteuid() == 0:  # PostgreSQL refuses to run as root
        shutil.chown(folder, "nobody")
        as_user = ["setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups"]
    data = folder / "data"
    quiet = {"check": True, "capture_output": True, "cwd": folder}
    subprocess.run(
        [
            *as_user,
            where / "initdb",
            "-D",
            data,
            "-U",
            "postgres",
            "-A",
            "trust",
            "-E",
            "UTF8",
            "--locale=C",
            "-N",
        ],
        **quiet,
    )
    # Only processes are killed here, never the machine, so nothing is lost without waiting for the disk.
    settings = ["fsync=off", "listen_addresses=", f"unix_socket_directories={folder}", "max_connections=300"]
    options = [part for each in settings for part in ("-c", each)]
    log = (folder / "log").open("w")
    process = subprocess.Popen([*as_user, where / "postgres", "-D", data, *options], stdout=log, stderr=log)
    owner = os.getpid()

    def end() -> None:
        if os.getpid() == owner:  # not in a child that was forked
            process.send_signal(signal.SIGINT)  # does not wait for clients
            process.wait(30)
            shutil.rmtree(folder, ignore_errors=True)

    atexit.register(end)
    for _ in range(300):
        try:
            psycopg.connect(f"postgresql://postgres@/postgres?host={folder}").close()
            break
        except psycopg.OperationalError:
            if process.poll() is not None:
                break
            time.sleep(0.1)
    assert process.poll() is None, (folder / "log").read_text()
    os.environ[_SERVER] = str(folder)
    return str(folder)


if ON_POSTGRESQL:  # before any child could start one of its own, and be killed with it
    _server()
