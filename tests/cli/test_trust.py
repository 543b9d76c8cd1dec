"""``wardgate trust`` on a storage: a sentence, a history, and what other parameters would have earned."""

from __future__ import annotations

import asyncio
import json
import shutil
import time
from pathlib import Path

import pytest
from typer.testing import CliRunner

from gateway.cli.app import app
from gateway.cli.output import Failure
from gateway.standing.book import Book
from gateway.storage.database import Database
from gateway.storage.trust import TrustStore, Where
from gateway.trust.evidence import against
from gateway.trust.settings import Settings
from tests.trust.support import worked

WHERE = Where("default", "bot", "payments")
CONFIG = """
storage: {path: wardgate.db}
trust: {enabled: true}
agents:
  bot: {owner: team-a, build: {model: m, prompt: p, tools: t}}
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two weeks of work and then an incident, as a gateway would have left it."""
    made = tmp_path_factory.mktemp("trust")
    (made / "wardgate.yaml").write_text(CONFIG)
    now = time.time_ns()
    with Database(made / "wardgate.db").open() as opened:
        store = TrustStore(opened)
        store.add(worked(14, 15, until_ns=now, tenant="default", agent="bot", print=""), 50)
        book = Book(store, Settings(), lambda: now)

        async def strike() -> None:
            await book.open()
            row = against("incident", "incident:c1", **WHERE._asdict(), risk="irreversible", at_ns=now)
            book.struck(WHERE, "incident", row)
            await book.flush()

        asyncio.run(strike())
    return made


def invoke(*arguments: str) -> tuple[int, str]:
    """As ``main`` would end it."""
    done = CliRunner().invoke(app, ["trust", *arguments])
    if isinstance(done.exception, Failure):
        return done.exception.code, f"{done.exception.sentence} {done.exception.remedy}"
    return done.exit_code, done.output


def run(folder: Path, *arguments: str) -> tuple[int, str]:
    return invoke(*arguments, "--config", str(folder / "wardgate.yaml"))


def test_one_sentence_and_the_numbers_behind_it(folder):
    code, said = run(folder, "show", "bot", "--domain", "payments")
    assert code == 0
    assert said.startswith("bot in payments: T0 (observe). 0 verified, 10 failures")
    assert "cool-down" in said and "evidence" in said
    found = json.loads(run(folder, "show", "--json")[1])["items"]
    assert [(each["agent"], each["domain"], each["tier"]) for each in found] == [("bot", "payments", 0)]


def test_what_happened_and_the_bound_of_each_day(folder):
    code, said = run(folder, "history", "bot", "--domain", "payments")
    assert code == 0
    assert "incident:c1" in said and "T1 → T0" in said
    found = json.loads(run(folder, "history", "bot", "--domain", "payments", "--json")[1])
    bounds = [point["bound"] for point in found["curve"]]
    assert len(bounds) >= 14 and max(bounds) > 0.98 > bounds[-1]


def test_other_parameters_are_tried_on_what_is_recorded(folder):
    def simulated(*more: str) -> tuple[int, int]:
        found = json.loads(run(folder, "simulate", "bot", "--domain", "payments", "--json", *more)[1])
        return found["highest"], found["tier"]

    assert simulated() == (2, 0)
    assert simulated("--enter", "2=0.985") == (1, 0)
    assert simulated("--half-life", "3") == (1, 0)
    code, said = run(folder, "simulate", "bot", "--domain", "payments", "--half-life", "3")
    assert code == 0 and "never exceed" in said and "T1 to T0: incident" in said


@pytest.mark.parametrize(
    "arguments",
    [("show", "nobody"), ("history", "bot", "--domain", "nowhere"), ("simulate", "nobody")],
)
def test_what_is_not_known_is_said(folder, arguments):
    assert run(folder, *arguments)[0] == 3


@pytest.mark.parametrize("bound", ["2", "1=0.5", "2=1.5", "x=y"])
def test_a_bound_that_is_none_is_refused(folder, bound):
    assert run(folder, "simulate", "bot", "--domain", "payments", "--enter", bound)[0] == 2


def test_signing_takes_a_reason_and_a_key(folder, monkeypatch):
    monkeypatch.delenv("WARDGATE_OPERATOR_KEY", raising=False)
    for arguments in (("promote", "bot"), ("demote", "bot", "--tier", "0"), ("report", "c1")):
        code, said = invoke(*arguments)
        assert code == 2 and "--reason" in said
        code, said = invoke(*arguments, "--reason", "x")
        assert code == 2 and "WARDGATE_OPERATOR_KEY" in said


def test_a_record_that_was_altered_is_said(folder, tmp_path):
    from sqlalchemy import text

    for name in ("wardgate.yaml", "wardgate.db"):
        shutil.copy(folder / name, tmp_path / name)
    with Database(tmp_path / "wardgate.db").open() as opened, opened.writing() as connection:
        connection.execute(text("DROP TRIGGER trust_events_no_update"))
        connection.execute(text("UPDATE trust_events SET after = 3"))
    code, said = run(tmp_path, "history", "bot", "--domain", "payments")
    assert code == 2 and "altered" in said
