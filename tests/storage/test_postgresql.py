"""PostgreSQL beside SQLite: the promises of the one, kept by the other, on a real server."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import orjson
import psycopg
import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import insert, select, text
from sqlalchemy.exc import DBAPIError
from typer.testing import CliRunner

from gateway.approvals import claim as claims
from gateway.approvals.claim import Claim
from gateway.approvals.store import Store
from gateway.approvals.values import Blocked, Settings
from gateway.cli.app import app
from gateway.errors import ConfigError, JournalError
from gateway.journal.recovery import recover
from gateway.storage import control, copying, postgresql
from gateway.storage.database import Database
from gateway.storage.postgresql import Fenced, PostgresDatabase, checked
from gateway.storage.tables import SCHEMA, metadata, records
from tests.approvals.support import KEY, approve, one_stage, opening, people
from tests.journal import support
from tests.journal.support import ALLOW, DENY, FACTS, LOOK, PAY, call, carry_out, ok, until
from tests.storage import at

pytestmark = pytest.mark.skipif(not at.ON_POSTGRESQL, reason="make test-postgresql")


@pytest.fixture
def url(tmp_path: Path) -> str:
    """The address of a database of this version, without rows."""
    return at.url(tmp_path)


# ------------------------------------------------------------------------------------------ the schema


def test_an_empty_database_is_brought_to_the_schema_that_the_tables_describe(tmp_path: Path) -> None:
    with PostgresDatabase(at.empty(tmp_path)).open() as database, database.reading() as connection:
        assert compare_metadata(MigrationContext.configure(connection), metadata) == []


def test_two_that_make_the_schema_at_once_make_it_once(tmp_path: Path) -> None:
    url = at.empty(tmp_path)

    def make(_: int) -> bool:
        try:
            PostgresDatabase(url).open().close()
        except ConfigError as error:
            assert "in use by another gateway" in str(error)  # it migrates, and one is enough
            return False
        return True

    with ThreadPoolExecutor(3) as pool:
        assert any(pool.map(make, range(3)))
    with PostgresDatabase(url).open(read_only=True):
        pass


def test_a_schema_of_a_newer_version_is_refused(url: str) -> None:
    with PostgresDatabase(url).open() as database, database.writing() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    for how in ({}, {"gateway": True}, {"read_only": True}):
        with pytest.raises(ConfigError, match="schema 9999, made by a newer version"):
            PostgresDatabase(url).open(**how)


def test_reading_only_does_not_migrate(tmp_path: Path) -> None:
    url = at.empty(tmp_path)
    with pytest.raises(ConfigError, match=f"has schema none instead of {SCHEMA}"):
        PostgresDatabase(url).open(read_only=True)


def test_a_server_that_isolates_more_by_default_changes_nothing_for_the_journal(url: str) -> None:
    """Then a batch would see the database as it was before it waited for its lock."""
    with psycopg.connect(url, autocommit=True) as server:
        name = server.info.dbname
        server.execute(f"ALTER DATABASE {name} SET default_transaction_isolation = 'serializable'")
    with PostgresDatabase(url).open(gateway=True) as database:
        appender = database.appender()
        with appender._connection.transaction():
            said = appender._connection.execute("SHOW transaction_isolation").fetchone()
        appender.close()
    assert said == ("read committed",)


@pytest.mark.parametrize(
    "verb",
    ["UPDATE records SET agent = 'x'", "DELETE FROM records", "TRUNCATE records", "DELETE FROM snapshots"],
)
def test_a_record_can_be_neither_changed_nor_deleted(url: str, verb: str) -> None:
    with PostgresDatabase(url).open() as database:
        with database.writing() as connection:
            connection.execute(insert(records).values(call_id="c", phase="intent", at_ns=1, tenant="t"))
        with pytest.raises(DBAPIError, match="append-only"), database.writing() as connection:
            connection.execute(text(verb))


# ------------------------------------------------------------------------------------------ the address


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("mysql://h/d", "must begin with postgresql://"),
        ("postgresql://u:hunter2@db.example.com/w", "add sslmode=verify-full"),
        ("postgresql://u:hunter2@db.example.com/w?sslmode=prefer", "add sslmode=verify-full"),
        ("postgresql://u:hunter2@10.0.0.7/w", "add sslmode=verify-full"),
        ("postgresql://u:hunter2@localhost", "names no database"),
        ("postgresql://u:hunter2@localhost/w?sslmod=x", "sslmod"),
        ("postgresql://u:hunter2@localhost/w?options=-csynchronous_commit%3Doff", "the gateway's own"),
    ],
)
def test_a_weak_or_wrong_address_is_refused_and_its_password_not_repeated(url: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said) as refused:
        PostgresDatabase(url)
    assert "hunter2" not in str(refused.value)


def test_an_address_on_this_machine_or_with_tls_is_accepted() -> None:
    for url in (
        "postgresql://u@localhost/w", "postgresql://u@127.0.0.1/w", "postgresql://u@[::1]/w",
        "postgresql:///w?host=/run/postgresql", "postgresql://u@db.example.com/w?sslmode=verify-full",
    ):  # fmt: skip
        checked(url)


def test_a_server_that_is_not_there_is_said_without_the_password() -> None:
    for how in ({}, {"gateway": True}):
        with pytest.raises(ConfigError, match=r"storage\.url postgresql://127\.0\.0\.1/w") as refused:
            PostgresDatabase("postgresql://u:hunter2@127.0.0.1:1/w").open(**how)
        assert "hunter2" not in str(refused.value)


def test_a_server_that_may_lose_commits_is_named_at_the_start(
    url: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING), PostgresDatabase(url).open(gateway=True):
        pass
    assert "has fsync off" in caplog.text  # as the tests' own server has


def test_a_commit_waits_for_the_disk_whatever_the_servers_default(url: str) -> None:
    with PostgresDatabase(url).open() as database, database.reading() as connection:
        assert connection.exec_driver_sql("SHOW synchronous_commit").scalar() == "on"


# ---------------------------------------------------------------------------------- one gateway a database


HOLD = """
import sys
from gateway.storage.postgresql import PostgresDatabase
held = PostgresDatabase(sys.argv[1]).open(gateway=True); print('held', flush=True); sys.stdin.read()
"""


def test_a_second_gateway_is_refused_and_told_who_holds_it_until_that_one_is_dead(url: str) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, url], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"held\n"
        with pytest.raises(ConfigError, match=rf"in use by another gateway \(wardgate .*:{other.pid}\)"):
            PostgresDatabase(url).open(gateway=True)
        with PostgresDatabase(url).open() as database, database.writing() as connection:
            control.bump(connection, "beside")  # the command line works beside it
        other.send_signal(signal.SIGKILL)
        other.wait()
    PostgresDatabase(url).open(gateway=True).close()


def cut(url: str) -> None:
    """Have the server end all connections to a database, as a fail-over does."""
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid != pg_backend_pid()"
        )


async def test_a_gateway_that_lost_its_lock_to_another_writes_nothing_any_more(url: str) -> None:
    with PostgresDatabase(url).open(gateway=True) as old:
        journal = support.journal(old)
        journal.start()
        await carry_out(journal, call(PAY))
        cut(url)  # its lock is gone, and it does not know
        with PostgresDatabase(url).open(gateway=True) as new:
            refused = call(PAY)
            for _ in range(3):
                with pytest.raises(JournalError):
                    await journal.intent(refused, FACTS, ALLOW, "allow")
                await asyncio.sleep(0.6)  # it tries again meanwhile
            assert not journal.writable
            with pytest.raises(Fenced), old.writing() as connection:
                control.bump(connection, "x")
            with new.reading() as connection:
                known = connection.execute(select(records.c.call_id)).scalars().all()
            assert refused.id not in known
        await journal.stop(1)


# ------------------------------------------------------------------------------ what a transaction is


def test_what_a_writer_reads_cannot_change_before_what_it_writes(url: str) -> None:
    with PostgresDatabase(url).open() as database:

        def add(_: int) -> None:
            with database.writing() as connection:
                before = control.epochs(connection).get("n", 0)
                time.sleep(0.002)
                control.advance(connection, "n", before + 1)

        with ThreadPoolExecutor(8) as pool:
            list(pool.map(add, range(64)))
        with database.reading() as connection:
            assert control.epochs(connection)["n"] == 64


def test_a_reader_sees_one_moment_and_does_not_wait(url: str) -> None:
    with PostgresDatabase(url).open() as database:
        with database.writing() as connection:
            control.bump(connection, "n")
            with database.reading() as reader:
                assert control.epochs(reader) == {}
        with database.reading() as reader:
            assert control.epochs(reader)["n"] == 1
            with database.writing() as connection:
                control.bump(connection, "n")
            assert control.epochs(reader)["n"] == 1
            with pytest.raises(DBAPIError, match="read-only"):
                control.bump(reader, "n")


def test_the_numbers_of_records_follow_the_order_of_commits(url: str) -> None:
    """Or a reader that remembers the last number it saw would miss records for good."""
    stop = threading.Event()
    with PostgresDatabase(url).open() as database:

        def write(number: int) -> None:
            while not stop.is_set():
                with database.writing() as connection:
                    row = insert(records).values(call_id=f"c{number}", phase="intent", at_ns=1, tenant="t")
                    connection.execute(row)
                    time.sleep(0.001)

        seen: list[int] = []
        with ThreadPoolExecutor(4) as pool:
            for number in range(4):
                pool.submit(write, number)
            last = 0
            until_s = time.monotonic() + 1.5
            while time.monotonic() < until_s:
                with database.reading() as connection:
                    query = select(records.c.seq).where(records.c.seq > last).order_by(records.c.seq)
                    found = connection.execute(query).scalars().all()
                seen += found
                last = found[-1] if found else last
            stop.set()
        with database.reading() as connection:
            query = select(records.c.seq).where(records.c.seq <= last).order_by(records.c.seq)
            assert seen == list(connection.execute(query).scalars())
    assert len(seen) > 50


STAND = """
import sys
from gateway.storage.postgresql import PostgresDatabase
with PostgresDatabase(sys.argv[1]).open() as database, database.writing():
    print('holds', flush=True); sys.stdin.read()
"""


@pytest.mark.slow
def test_a_process_that_stands_still_in_a_transaction_does_not_stop_the_others_for_good(url: str) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", STAND, url], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"holds\n"
        other.send_signal(signal.SIGSTOP)
        started = time.monotonic()
        with PostgresDatabase(url).open() as database:
            refused = 0
            while True:
                try:
                    with database.writing() as connection:
                        control.bump(connection, "x")
                    break
                except DBAPIError as error:
                    assert "lock timeout" in str(error)
                    assert time.monotonic() - started < 30
                    refused += 1
        assert refused, "it held nothing, so nothing was shown"
        other.kill()


# ---------------------------------------------------------------------------------------------- the journal


async def test_the_journal_refuses_while_the_server_is_cut_off_and_heals_without_losing_an_outcome(
    url: str,
) -> None:
    with PostgresDatabase(url).open(gateway=True) as database:
        journal = support.journal(database)
        journal.start()
        answered, under_way = call(LOOK), call(PAY)
        await journal.intent(under_way, FACTS, ALLOW, "allow")
        cut(url)
        with pytest.raises(JournalError):
            await journal.intent(call(PAY), FACTS, ALLOW, "allow")
        assert not journal.writable
        await asyncio.gather(journal.settle(under_way, ALLOW, "allow", ok(), None), return_exceptions=True)
        await until(lambda: journal.writable and journal.depth == 0)
        await carry_out(journal, answered)
        await journal.stop()
        with database.reading() as connection:
            rows = connection.execute(
                select(records.c.call_id, records.c.phase).order_by(records.c.seq)
            ).all()
        assert [tuple(row) for row in rows] == [
            (under_way.id, "intent"), (under_way.id, "result"), (answered.id, "result"),
        ]  # fmt: skip


async def test_a_record_the_server_does_not_take_does_not_take_others_with_it(url: str) -> None:
    with PostgresDatabase(url).open(gateway=True) as database:
        journal = support.journal(database)
        journal.start()
        good, bad = call(PAY), call(PAY, session="a\0b")  # PostgreSQL has no NUL in text
        answers = await asyncio.gather(
            *(journal.intent(each, FACTS, ALLOW, "allow") for each in (good, bad)), return_exceptions=True
        )
        assert answers[0] is None
        assert isinstance(answers[1], JournalError)
        assert journal.writable
        await journal.stop()
        assert recover(database).in_doubt == 1


# ------------------------------------------------------------------------------- approvals by two processes


def claim_all(url: str, ids: list[str]) -> list[str]:
    """Try to take each approval, as a process of its own would; those that were taken."""
    taken = []
    with PostgresDatabase(url).open() as database:
        store = Store(database, KEY, Settings(chains={"default": one_stage()}))
        print("ready", flush=True)
        sys.stdin.readline()
        for each in ids:
            ticket = store.ticket(each)
            if ticket is None:
                continue
            wanted = Claim(
                ticket=ticket, call_id=f"c{os.getpid()}", digest=ticket.approval.digest, policy_revision="r1",
                decided_at=0.0, send_by=60.0,
            )  # fmt: skip
            try:
                with database.writing() as connection:
                    claims.claim(store, connection, wanted, monotonic=0.0, policy_revision="r1", send_s=5.0)
            except Blocked:
                continue
            taken.append(each)
    return taken


CLAIM = """
import sys
from tests.storage.test_postgresql import claim_all
print(*claim_all(sys.argv[1], sys.argv[2:]))
"""


def test_two_processes_on_one_database_claim_each_approval_once(url: str) -> None:
    with PostgresDatabase(url).open() as database:
        people(database, "ann")
        store = Store(database, KEY, Settings(chains={"default": one_stage()}))
        ids = []
        for number in range(30):
            wanted = opening(asked_digest=f"d{number}", digest=f"d{number}", effect_key=f"k{number}")
            ids.append(approve(store, store.open(wanted).approval, "ann").id)
    workers = [
        subprocess.Popen(
            [sys.executable, "-c", CLAIM, url, *order],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        # From both ends: the one that is told first must not be through before the other begins.
        for order in (ids, ids[::-1])
    ]
    for worker in workers:
        assert worker.stdout is not None
        assert worker.stdout.readline() == "ready\n"
    said: list[list[str]] = []
    for worker in workers:
        assert worker.stdin is not None
        worker.stdin.write("go\n")
        worker.stdin.flush()
    for worker in workers:
        out, _ = worker.communicate(timeout=60)
        assert worker.returncode == 0
        said.append(out.split())
    assert Counter(said[0] + said[1]) == dict.fromkeys(ids, 1)
    assert all(said), "one of them was too late for all, so nothing was shown"


# ------------------------------------------------------------------------------------------ moving over


async def filled(path: Path) -> None:
    """A SQLite file with something in tables of each kind."""
    with Database(path).open(gateway=True) as database:
        journal = support.journal(database)
        journal.start()
        for _ in range(30):
            await carry_out(journal, call(PAY))
            await carry_out(journal, call(LOOK))
        await journal.intent(call(PAY), FACTS, DENY, "block")
        await journal.stop()
        people(database, "ann", "bob")
        with database.writing() as connection:
            connection.execute(text("UPDATE credentials SET replaced_by = (SELECT max(id) FROM credentials)"))
        store = Store(database, KEY, Settings(chains={"default": one_stage()}))
        approve(store, store.open(opening()).approval, "ann")


class TestMovingFromSqlite:
    async def test_everything_is_there_and_numbering_goes_on(self, tmp_path: Path, url: str) -> None:
        await filled(tmp_path / "w.db")
        with Database(tmp_path / "w.db").open() as old, PostgresDatabase(url).open() as new:
            copied = copying.copy(old, new)
            assert copied.rows == copying.sizes(old) == copying.sizes(new)
            assert copied.rows["records"] == 30 * 3 + 1
            assert recover(new).in_doubt == 0
            with new.writing() as connection:
                row = insert(records).values(call_id="c", phase="intent", at_ns=1, tenant="t")
                after = connection.execute(row.returning(records.c.seq)).scalar_one()
            assert after == copied.rows["records"] + 1
            store = Store(new, KEY, Settings(chains={"default": one_stage()}))
            (approval,) = store.list("default")
            assert store.show(approval.id, "default").args_json == b'{"amount":5}'

    async def test_a_source_that_takes_long_to_read_is_not_cut_off(
        self, tmp_path: Path, url: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The server ends writers that stand still for ten seconds; here it is a tenth of one."""
        await filled(tmp_path / "w.db")
        with Database(tmp_path / "w.db").open() as old, PostgresDatabase(url).open() as new:
            monkeypatch.setattr(postgresql, "_LOCK_WRITE", postgresql._LOCK_WRITE.replace("10s", "100ms"))
            with pytest.raises(DBAPIError), new.writing() as connection:
                time.sleep(0.3)
                connection.execute(text("SELECT 1"))
            copied = copying.copy(old, new, lambda table, rows: time.sleep(0.15))
            assert copied.rows == copying.sizes(new)

    async def test_what_is_not_empty_is_left_alone(self, tmp_path: Path, url: str) -> None:
        await filled(tmp_path / "w.db")
        with Database(tmp_path / "w.db").open() as old, PostgresDatabase(url).open() as new:
            with new.writing() as connection:
                control.bump(connection, "x")
            with pytest.raises(ConfigError, match="not empty: table control"):
                copying.copy(old, new)

    async def test_a_row_that_arrives_otherwise_is_noticed_and_nothing_is_kept(
        self, tmp_path: Path, url: str
    ) -> None:
        await filled(tmp_path / "w.db")
        with psycopg.connect(url) as connection:
            connection.execute(
                "CREATE FUNCTION odd() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
                " NEW.note := 'other'; RETURN NEW; END $$"
            )
            connection.execute(
                "CREATE TRIGGER odd BEFORE INSERT ON credentials FOR EACH ROW EXECUTE FUNCTION odd()"
            )
        with Database(tmp_path / "w.db").open() as old, PostgresDatabase(url).open() as new:
            with pytest.raises(ConfigError, match="table credentials is not the same"):
                copying.copy(old, new)
            assert not any(copying.sizes(new).values())

    async def test_by_the_command_line(
        self, tmp_path: Path, url: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        await filled(tmp_path / "w.db")
        config = tmp_path / "wardgate.yaml"
        config.write_text("policy: {pack: starter}\nstorage: {url: '${DATABASE}'}\n")
        monkeypatch.setenv("DATABASE", url)
        arguments = ["storage", "copy", "--from", str(tmp_path / "w.db"), "--config", str(config), "--json"]
        done = CliRunner().invoke(app, arguments)
        assert done.exit_code == 0, done.output
        assert orjson.loads(done.stdout)["rows"]["records"] == 91
        done = CliRunner().invoke(app, ["storage", "migrate", "--config", str(config), "--json"])
        assert orjson.loads(done.stdout)["schema"] == SCHEMA

    async def test_a_file_that_a_gateway_holds_is_not_copied(
        self, tmp_path: Path, url: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        config = tmp_path / "wardgate.yaml"
        config.write_text("policy: {pack: starter}\nstorage: {url: '${DATABASE}'}\n")
        monkeypatch.setenv("DATABASE", url)
        with Database(tmp_path / "w.db").open(gateway=True):
            arguments = ["storage", "copy", "--from", str(tmp_path / "w.db"), "--config", str(config)]
            done = CliRunner().invoke(app, arguments)
        assert "in use by another gateway" in str(done.exception)
