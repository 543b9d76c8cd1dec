"""The database file: its schema, its settings, and who may hold it."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import create_engine, text
from sqlalchemy.exc import IntegrityError, OperationalError
from sqlalchemy.pool import StaticPool

import gateway.storage.database
from gateway.errors import ConfigError
from gateway.storage.database import Database
from gateway.storage.pins import Pins
from gateway.storage.tables import SCHEMA, metadata


def test_an_empty_file_is_brought_to_the_schema_that_the_tables_describe(tmp_path: Path) -> None:
    with Database(tmp_path / "w.db").open() as database, database.reading() as connection:
        assert compare_metadata(MigrationContext.configure(connection), metadata) == []


def test_the_schema_named_in_code_is_the_newest_migration() -> None:
    config = Config()
    migrations = Path(gateway.storage.database.__file__).parent / "migrations"
    config.set_main_option("script_location", str(migrations))
    assert ScriptDirectory.from_config(config).get_heads() == [SCHEMA]


def test_a_commit_waits_for_the_disk_and_readers_do_not_wait_for_the_writer(tmp_path: Path) -> None:
    with Database(tmp_path / "w.db").open() as database, database.reading() as connection:
        settings = {
            name: connection.exec_driver_sql(f"PRAGMA {name}").scalar()
            for name in ("journal_mode", "synchronous", "foreign_keys", "secure_delete", "busy_timeout")
        }
    assert settings == {
        "journal_mode": "wal", "synchronous": 2, "foreign_keys": 1, "secure_delete": 1, "busy_timeout": 5000,
    }  # fmt: skip


def test_the_file_is_for_its_owner_only_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        with Database(tmp_path / "w.db").open(gateway=True):
            modes = {path.name: path.stat().st_mode & 0o777 for path in tmp_path.iterdir()}
    finally:
        os.umask(before)
    assert set(modes) == {"w.db", "w.db-wal", "w.db-shm", "w.db.lock"}
    assert set(modes.values()) == {0o600}


def test_a_path_with_characters_special_to_uris_is_one_file(tmp_path: Path) -> None:
    path = tmp_path / "a #b%20?c.db"
    with Database(path).open(gateway=True):
        pass
    assert path.stat().st_size > 0


def test_a_second_gateway_on_the_same_file_is_refused_and_told_who_holds_it(tmp_path: Path) -> None:
    held = "from pathlib import Path; from gateway.storage.database import Database; import sys\n"
    held += "Database(Path(sys.argv[1])).open(gateway=True); print('held', flush=True); sys.stdin.read()"
    with subprocess.Popen(
        [sys.executable, "-c", held, str(tmp_path / "w.db")], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"held\n"
        with pytest.raises(ConfigError, match=rf"in use by another gateway \(process {other.pid}\)"):
            Database(tmp_path / "w.db").open(gateway=True)
        # The command line works beside it.
        with Database(tmp_path / "w.db").open() as database, database.writing() as connection:
            connection.execute(text("INSERT INTO control VALUES ('x', 1)"))
        with Database(tmp_path / "w.db").open(read_only=True) as database, database.reading() as connection:
            assert connection.execute(text("SELECT epoch FROM control")).scalar() == 1
        # However it dies, the file is free again.
        other.send_signal(signal.SIGKILL)
        other.wait()
    Database(tmp_path / "w.db").open(gateway=True).close()


def test_a_schema_of_a_newer_version_is_refused(tmp_path: Path) -> None:
    with Database(tmp_path / "w.db").open() as database, database.writing() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    for how in ({}, {"gateway": True}, {"read_only": True}):
        with pytest.raises(ConfigError, match="schema 9999, made by a newer version"):
            Database(tmp_path / "w.db").open(**how)


def test_a_file_that_is_no_database_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "w.db").write_bytes(b"not a database" * 100)
    with pytest.raises(ConfigError, match=r"w\.db: file is not a database"):
        Database(tmp_path / "w.db").open()


def test_reading_only_neither_makes_nor_migrates_a_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="unable to open"):
        Database(tmp_path / "absent.db").open(read_only=True)
    sqlite3.connect(tmp_path / "empty.db").close()
    (tmp_path / "empty.db").touch()
    with pytest.raises(ConfigError, match="start the gateway once"):
        Database(tmp_path / "empty.db").open(read_only=True)


@pytest.mark.parametrize("verb", ["UPDATE records SET agent = 'x'", "DELETE FROM records"])
def test_a_record_can_be_neither_changed_nor_deleted(tmp_path: Path, verb: str) -> None:
    with Database(tmp_path / "w.db").open() as database:
        with database.writing() as connection:
            connection.execute(
                text("INSERT INTO records (call_id, phase, at_ns, tenant) VALUES ('c', 'intent', 1, 't')")
            )
        with pytest.raises((OperationalError, IntegrityError), match="append-only"), database.writing() as c:
            c.execute(text(verb))


def test_a_database_of_the_first_schema_is_brought_up_to_date_and_keeps_what_it_holds(tmp_path: Path) -> None:
    path = tmp_path / "w.db"
    with sqlite3.connect(path) as raw:
        engine = create_engine("sqlite://", creator=lambda: raw, poolclass=StaticPool)
        with engine.begin() as connection:
            config = Config()
            migrations = Path(gateway.storage.database.__file__).parent / "migrations"
            config.set_main_option("script_location", str(migrations))
            config.attributes["connection"] = connection
            command.upgrade(config, "0001")
            connection.exec_driver_sql("INSERT INTO control (name, epoch) VALUES ('credentials', 7)")
    raw.close()
    with pytest.raises(ConfigError, match=f"has schema 0001 instead of {SCHEMA}"):
        Database(path).open(read_only=True)
    with Database(path).open() as database, database.reading() as connection:
        assert compare_metadata(MigrationContext.configure(connection), metadata) == []
        assert connection.exec_driver_sql("SELECT epoch FROM control").scalar() == 7
    with Database(path).open(read_only=True) as database:
        assert Pins(database).load() == (frozenset(), [])
