"""``wardgate doctor`` on chains that nobody could meet, and on channels that deliver nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.cli.checks_approvals import approvals, channels
from gateway.config import Config
from gateway.storage.database import Database
from tests.approvals.support import people

ANY = {"stages": [{"any": [{"who": {"roles": ["approver"]}, "approve": 1}]}]}
TWO = {"stages": [{"any": [{"who": {"roles": ["approver"]}, "approve": 2}]}]}


def configured(tmp_path: Path, **said) -> Config:
    return Config.model_validate(
        {
            "storage": {"path": str(tmp_path / "w.db")},
            "agents": {"bot": {"owner": "ann"}, "other": {"owner": "team"}},
            "approvals": {"chains": {"default": ANY, "two": TWO}, **said},
        }
    )


def test_a_chain_that_the_people_with_keys_cannot_meet_is_named_with_the_agents(tmp_path):
    with Database(tmp_path / "w.db").open() as database:
        people(database, "ann", "bob")
    found = list(approvals(configured(tmp_path)))
    assert [each.level for each in found] == ["ok", "warning"]
    assert "'two' cannot be met for calls of bot." in found[1].what  # ann is its owner
    with Database(tmp_path / "w.db").open() as database:
        people(database, "cat")
    assert {each.level for each in approvals(configured(tmp_path))} == {"ok"}
    # A second key under another name of bob's is no third person.
    aliased = configured(tmp_path, aliases={"bob": ["cat"]})
    assert [each.level for each in approvals(aliased)] == ["ok", "warning"]


@pytest.mark.parametrize(("address", "level"), [("json://127.0.0.1:1/", "ok"), ("nosuch://x", "problem")])
def test_a_channel_is_looked_at_and_nothing_is_sent(tmp_path, monkeypatch, address, level):
    monkeypatch.setenv("TEAM", address)
    (found,) = channels(configured(tmp_path, channels={"team": {"env": "TEAM"}}))
    assert found.level == level and address not in found.what


@pytest.mark.parametrize(
    "channel",
    [{}, {"env": "A", "file": "b"}, {"env": "A", "chains": ["nosuch"]}, {"env": "A", "events": []}],
)
def test_a_channel_without_one_source_or_for_a_chain_that_is_not_there_is_refused(tmp_path, channel):
    with pytest.raises(ValueError, match="channels"):
        configured(tmp_path, channels={"team": channel})
