"""The promise itself, against the kernel: traced, killed, and with a full disk."""

from __future__ import annotations

import json
import random
import re
import signal
import socket
import socketserver
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from gateway.journal.query import Filter, Query
from gateway.journal.recovery import recover
from gateway.storage.database import Database
from tests.requires import requires
from tests.storage.at import at, sqlite_only

CHILD = [sys.executable, "-m", "tests.journal.child"]
ROOT = Path(__file__).parents[2]


@sqlite_only
@requires("strace")
def test_the_intent_of_a_write_is_synced_before_its_request_is_sent(tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    with socket.create_server(("127.0.0.1", 0)) as server:
        threading.Thread(target=_swallow, args=(server,), daemon=True).start()
        subprocess.run(
            ["strace", "--seccomp-bpf", "-f", "-y", "-s", "32", "-o", str(trace),
             "-e", "trace=fsync,fdatasync,pwrite64,write,sendto", *CHILD,
             "send", str(tmp_path / "w.db"), str(server.getsockname()[1])],
            check=True, cwd=ROOT, timeout=60,
        )  # fmt: skip
    events = _events(trace.read_text())
    write = events[events.index("BEGIN write") + 1 : events.index("REQUEST write")]
    assert "wal written" in write, "the record was written …"
    assert "wal synced" in write[write.index("wal written") :], "… and then synced, before the request"
    # The same eyes see no sync before a read, so they would have seen a missing one before a write.
    read = events[events.index("BEGIN read") + 1 : events.index("REQUEST read")]
    assert read == []


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_killed_at_random_every_effect_has_its_intent_and_every_doubt_is_listed(tmp_path: Path) -> None:
    path, kills, wanted = tmp_path / "w.db", 11, 50
    listed: set[str] = set()
    with _counting_server() as (port, effects):
        for _ in range(kills):
            before = len(effects)
            with subprocess.Popen([*CHILD, "effects", str(path), str(port)], cwd=ROOT) as child:
                deadline = time.monotonic() + 30
                while len(effects) < before + wanted and time.monotonic() < deadline:
                    time.sleep(0.002)
                time.sleep(random.random() * 0.02)
                child.send_signal(signal.SIGKILL)
            time.sleep(0.05)  # what was on the wire arrives
            done = list(effects)
            with at(path).open(gateway=True) as database:
                found = recover(database).in_doubt
                intents, ended = _calls(database)
                assert set(done) <= intents, "an effect happened that was not on record first"
                doubtful = {
                    each["call_id"]
                    for each in Query(database).list_decisions(Filter(in_doubt=True), limit=10_000).decisions
                }
            assert doubtful == intents - ended
            assert found == len(doubtful - listed)
            listed = doubtful
    assert len(done) == len(set(done)), "an effect happened twice"
    assert len(done) >= 500
    assert listed, "no kill hit a call under way, so nothing was shown"


@sqlite_only
def test_a_full_disk_refuses_calls_loses_no_outcome_and_heals(tmp_path: Path) -> None:
    path = tmp_path / "w.db"
    ran = subprocess.run(
        [*CHILD, "fill", str(path)], cwd=ROOT, stdout=subprocess.PIPE, check=True, timeout=60
    )
    report = json.loads(ran.stdout)
    with at(path).open(gateway=True) as database:
        assert recover(database).in_doubt == 0
        intents, ended = _calls(database)
        decisions = Query(database).list_decisions(Filter(), limit=1000).decisions
    assert intents == set(report["accepted"]), "what was refused left no intent that looks under way"
    assert ended == set(report["settled"]), "the outcome that met the full disk was written later"
    assert len(report["refused"]) == 2
    assert {each["call_id"] for each in decisions} == intents | set(report["read"])


def _calls(database: Database) -> tuple[set[str], set[str]]:
    with database.reading() as connection:
        rows = connection.exec_driver_sql(
            "SELECT call_id, phase FROM records WHERE risk != 'read' OR risk IS NULL"
        )
        intents, ended = set(), set()
        for call_id, phase in rows:
            (intents if phase == "intent" else ended if phase == "result" else set()).add(call_id)
    return intents, ended & intents


def _events(trace: str) -> list[str]:
    """What matters of a trace, in order of completion; calls of several threads are split over lines."""
    events = []
    pending: dict[str, str] = {}
    for line in trace.splitlines():
        pid, _, rest = line.partition(" ")
        rest = rest.strip()
        if rest.endswith("<unfinished ...>"):
            pending[pid] = rest
            # A send counts from its start: that is the earliest moment the other side may act.
            if "REQUEST" not in rest and "BEGIN" not in rest:
                continue
        elif rest.startswith("<..."):
            rest = pending.pop(pid, "") + rest
            if "REQUEST" in rest or "BEGIN" in rest:
                continue
        if said := re.search(r'(?:sendto|write)\(\d+<[^>]*>, "((?:BEGIN|REQUEST) \w+)', rest):
            events.append(said.group(1))
        elif re.search(r"pwrite64\(\d+<[^>]*-wal>", rest):
            events.append("wal written")
        elif re.search(r"f(?:data)?sync\(\d+<[^>]*-wal>.* = 0$", rest):
            events.append("wal synced")
    return events


def _swallow(server: socket.socket) -> None:
    connection, _ = server.accept()
    with connection:
        while connection.recv(4096):
            pass


@contextmanager
def _counting_server() -> Iterator[tuple[int, list[str]]]:
    """Counts each line as an effect at the moment it arrives, then answers."""
    effects: list[str] = []

    class Handler(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            try:
                for line in self.rfile:
                    if line.endswith(b"\n"):
                        effects.append(line.decode().strip())
                        self.wfile.write(b"done\n")
            except OSError:
                pass  # the other side was killed, as it should be

    class Server(socketserver.ThreadingTCPServer):
        daemon_threads = True
        allow_reuse_address = True

    with Server(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address: Any = server.server_address
        yield address[1], effects
        server.shutdown()
