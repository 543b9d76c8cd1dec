"""A revoked token is refused by its id, its subject or its age, remembered or not, and others go on."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from alembic import command
from alembic.config import Config
from sqlalchemy import create_engine, text

from gateway import storage
from gateway.storage import control
from gateway.storage.database import Database
from gateway.storage.revocations import LONGEST_LIFE_S, TokenRevocation, TokenRevocations
from tests.identity.test_tokens import door


@pytest.fixture
def store(tmp_path: Path) -> Iterator[TokenRevocations]:
    with Database(tmp_path / "w.db").open() as database:
        yield TokenRevocations(database)


def revoked(store: TokenRevocations, **what: Any) -> tuple[TokenRevocation, ...]:
    usual = {"tenant": "default", "kind": "token", "issuer": "corp"}
    store.insert(**{**usual, **what})
    return tuple(store.list())


async def test_a_token_is_revoked_by_its_id_at_its_issuer(store):
    async with door() as corp:
        one, other = corp.idp.token(jti="one"), corp.idp.token(jti="other")
        for token in (one, other):
            assert (await corp.enter(token)).agent == "bot"
        corp.load(revoked=revoked(store, value="one"))
        refused = await corp.refused(one)
        assert (refused.code, refused.detail) == ("revoked_credential", "corp: jti one")
        assert (await corp.enter(other)).agent == "bot"
        corp.load(revoked=revoked(store, value="other", issuer="another"))
        assert (await corp.enter(other)).agent == "bot"


async def test_all_tokens_of_a_subject_are_revoked_or_those_it_had_until_then(store):
    now = int(time.time())
    async with door() as corp:
        before, after = corp.idp.token(iat=now - 20), corp.idp.token(iat=now - 1)
        other = corp.idp.token(sub="user-2", iat=now - 20)
        until = revoked(store, kind="subject", value="user-1", issued_before_ns=(now - 10) * 10**9)
        corp.load(revoked=until)
        assert await corp.code(before) == "revoked_credential"
        assert (await corp.enter(after)).agent == (await corp.enter(other)).agent == "bot"
        corp.load(revoked=revoked(store, kind="subject", value="user-1"))
        assert await corp.code(before) == await corp.code(after) == "revoked_credential"
        assert (await corp.enter(other)).agent == "bot"


async def test_the_tokens_an_agent_has_are_revoked_and_those_it_gets_are_not(store):
    now = int(time.time())
    async with door() as corp:
        corp.load(revoked=revoked(store, kind="agent", issuer="", value="bot", issued_before_ns=now * 10**9))
        assert await corp.code(corp.idp.token(iat=now)) == "revoked_credential"
        assert (await corp.enter(corp.idp.token(iat=now + 1))).agent == "bot"
        assert (await corp.enter(corp.idp.token(azp="clerk", iat=now))).agent == "clerk"
        elsewhere = revoked(store, kind="agent", issuer="", value="clerk", tenant="other",
                            issued_before_ns=now * 10**9)  # fmt: skip
        corp.load(revoked=elsewhere)
        assert (await corp.enter(corp.idp.token(azp="clerk", iat=now))).agent == "clerk"


async def test_of_two_revocations_the_stricter_holds_whatever_their_order(store):
    now = int(time.time())
    revoked(store, kind="agent", issuer="", value="bot", issued_before_ns=now * 10**9)
    both = revoked(store, kind="agent", issuer="", value="bot", issued_before_ns=(now - 100) * 10**9)
    async with door() as corp:
        for order in (both, both[::-1]):
            corp.load(revoked=order)
            assert await corp.code(corp.idp.token(iat=now - 1)) == "revoked_credential"


async def test_a_lifted_revocation_no_longer_holds_and_stays_on_record(store):
    made = store.insert(tenant="default", kind="token", issuer="corp", value="t1")
    async with door() as corp:
        corp.load(revoked=tuple(store.list()))
        assert await corp.code(corp.idp.token()) == "revoked_credential"
        assert store.lift(made.id) is True
        corp.load(revoked=tuple(store.list(lifted=True)))
        assert (await corp.enter(corp.idp.token())).agent == "bot"
    assert store.lift(made.id) is False and store.lift("unknown") is False
    assert store.list() == [] and [each.id for each in store.list(lifted=True)] == [made.id]
    assert store.list(tenant="other", lifted=True) == []


def test_what_can_no_longer_refuse_a_token_is_not_kept_in_memory(store):
    old = time.time_ns() - (LONGEST_LIFE_S + 60) * 10**9
    agent = {"tenant": "default", "kind": "agent", "issuer": "", "value": "bot"}
    subject = {"tenant": "default", "kind": "subject", "issuer": "corp", "value": "user-1"}
    kept = [
        store.insert(tenant="default", kind="token", issuer="corp", value="new"),
        store.insert(**agent, issued_before_ns=time.time_ns()),
        store.insert(**subject),
    ]
    gone = [
        store.insert(tenant="default", kind="token", issuer="corp", value="old"),
        store.insert(**agent, issued_before_ns=old),
        store.insert(**subject, issued_before_ns=old),
    ]
    with store._database.writing() as connection:
        connection.execute(
            text("UPDATE token_revocations SET created_ns = :old WHERE value = 'old'"), {"old": old}
        )
    assert {each.id for each in store.current()} == {each.id for each in kept}
    assert len(store.list()) == len(kept) + len(gone), "and they stay on record"


async def test_ten_thousand_revocations_are_in_force_well_within_a_second(store):
    with store._database.writing() as connection:
        row = "INSERT INTO token_revocations VALUES (:i, 't', 'token', 'corp', :i, NULL, :now, NULL, '')"
        connection.execute(text(row), [{"i": f"j{n}", "now": time.time_ns()} for n in range(10_000)])
    async with door() as corp:
        started = time.perf_counter()
        corp.load(revoked=tuple(store.current()))
        assert time.perf_counter() - started < 0.5
        assert await corp.code(corp.idp.token(jti="j7")) == "revoked_credential"
        assert (await corp.enter(corp.idp.token(jti="k7"))).agent == "bot"


def test_an_agent_cannot_be_revoked_for_ever_by_mistake(store):
    with pytest.raises(ValueError, match="needs a time"):
        store.insert(tenant="default", kind="agent", issuer="", value="bot")


def test_each_change_is_noticed_by_a_running_gateway(store):
    def epoch() -> int:
        with store._database.reading() as connection:
            return control.epochs(connection).get(control.TOKENS, 0)

    assert epoch() == 0
    made = store.insert(tenant="default", kind="token", issuer="corp", value="t1")
    assert epoch() == 1
    store.lift(made.id)
    store.lift(made.id)
    assert epoch() == 2


def test_a_database_of_an_earlier_schema_gets_its_place_for_revocations(tmp_path):
    path = tmp_path / "old.db"
    config = Config()
    config.set_main_option("script_location", str(Path(storage.__file__).parent / "migrations"))
    with create_engine(f"sqlite:///{path}").begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "0002")
    with Database(path).open() as database:
        assert TokenRevocations(database).list() == []
