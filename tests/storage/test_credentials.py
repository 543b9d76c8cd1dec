"""Issued keys: stored as hashes, rotated with an overlap, revoked so that others notice."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.storage import control
from gateway.storage.credentials import Credentials, hash_secret
from gateway.storage.database import Database
from tests.storage.at import at, sqlite_only


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    with at(tmp_path / "w.db").open() as opened:
        yield opened


@pytest.fixture
def keys(database: Database) -> Credentials:
    return Credentials(database)


def epoch(database: Database) -> int:
    with database.reading() as connection:
        return control.epochs(connection).get(control.CREDENTIALS, 0)


@sqlite_only
def test_the_secret_itself_is_nowhere_in_the_files(keys: Credentials, tmp_path: Path) -> None:
    secret = os.urandom(32)
    issued = keys.insert(kind="agent", tenant="default", name="bot", secret=secret)
    assert issued.secret_hash == hash_secret(secret)
    content = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    assert hash_secret(secret) in content
    assert secret not in content


def test_a_short_secret_is_not_stored(keys: Credentials) -> None:
    with pytest.raises(ValueError, match="32 random bytes"):
        keys.insert(kind="agent", tenant="default", name="bot", secret=b"hunter2")


def test_an_operator_has_a_role_and_an_agent_has_none(keys: Credentials) -> None:
    with pytest.raises(ValueError, match="an operator has a role"):
        keys.insert(kind="operator", tenant="default", name="ann", secret=os.urandom(32))
    with pytest.raises(ValueError, match="an agent has none"):
        keys.insert(kind="agent", tenant="default", name="bot", secret=os.urandom(32), role="viewer")


def test_revoking_ends_a_key_and_a_running_gateway_can_see_that_something_changed(
    keys: Credentials, database: Database
) -> None:
    issued = keys.insert(kind="operator", tenant="default", name="ann", secret=os.urandom(32), role="viewer")
    before = epoch(database)
    assert keys.revoke(issued.id)
    assert epoch(database) == before + 1
    assert keys.active() == []
    again, everything = keys.snapshot()
    assert again == before + 1
    assert [key.state(time.time_ns()) for key in everything] == ["revoked"]
    assert not keys.revoke(issued.id), "it is revoked already"
    assert not keys.revoke("unknown")
    assert epoch(database) == before + 1, "nothing changed, so nobody needs to look"


def test_a_rotated_key_goes_on_for_the_overlap_and_names_its_successor(keys: Credentials) -> None:
    old = keys.insert(kind="agent", tenant="default", name="bot", secret=os.urandom(32), note="ci")
    new = keys.rotate(old.id, os.urandom(32), overlap_s=60)
    assert new is not None
    assert (new.kind, new.tenant, new.name, new.note) == ("agent", "default", "bot", "ci")
    known = keys.by_id(old.id)
    assert known is not None
    assert known.replaced_by == new.id
    now = time.time_ns()
    assert known.state(now) == "active"
    assert known.state(now + 61 * 10**9) == "revoked"
    assert keys.rotate(old.id, os.urandom(32)) is None, "it has a successor"
    assert keys.revoke(old.id), "the overlap can be cut short"
    assert [key.id for key in keys.active()] == [new.id]


def test_an_expired_key_is_not_active(keys: Credentials) -> None:
    gone = keys.insert(
        kind="agent", tenant="default", name="bot", secret=os.urandom(32), expires_ns=time.time_ns() - 1
    )
    assert gone.state(time.time_ns()) == "expired"
    assert keys.active() == []
    assert [key.id for key in keys.list(name="bot")] == [gone.id]
    assert keys.list(tenant="other") == []
