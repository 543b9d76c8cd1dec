"""Idempotency keys in the database: taken before the call, bounded, expiring, unreadable without the key."""

from __future__ import annotations

import os
from collections.abc import Iterator

import msgspec
import pytest

from gateway.config import LimitsConfig
from gateway.errors import JournalError, Overloaded
from gateway.model import Principal
from gateway.storage.crypto import StorageKey
from gateway.storage.idempotency import KEEP_NS, MAX_ANSWER_BYTES, IdempotencyKeys, Kept
from tests.storage.at import at

ALICE = Principal(tenant="t", agent="alice", owner="o", credential="k1")
BOB = Principal(tenant="t", agent="bob", owner="o", credential="k2")
ANSWER = Kept(200, b'{"result":"canary-7f2c"}')


class World:
    def __init__(self, folder, **limits: int) -> None:
        self.database = at(folder / "db.sqlite").open()
        self.secret = os.urandom(32)
        self.now = 1_000_000_000
        self.limits = LimitsConfig(**limits)
        self.restart()

    def restart(self) -> None:
        self.keys = IdempotencyKeys(self.database, StorageKey(self.secret), lambda: self.now, self.limits)

    async def done(self, key: str, who: Principal = ALICE, request: bytes = b"r", answer: Kept = ANSWER):
        begun = await self.keys.begin(who, key, request, f"call-{key[:2]}")
        assert begun.state == "new"
        await self.keys.finish(begun, answer)


@pytest.fixture
def world(tmp_path) -> Iterator[World]:
    made = World(tmp_path, idempotency_keys=6, idempotency_keys_per_agent=3, idempotency_bytes=1024)
    yield made
    made.keys.close()
    made.database.close()


async def test_an_answer_is_repeated_after_a_restart_too(world):
    await world.done("a")
    world.restart()
    again = await world.keys.begin(ALICE, "a", b"r", "other")
    assert (again.state, again.call_id, again.answer) == ("answered", "call-a", ANSWER)


async def test_another_request_under_the_same_key_is_known_while_the_first_runs_and_after(world):
    first = await world.keys.begin(ALICE, "a", b"r", "c")
    assert (await world.keys.begin(ALICE, "a", b"other", "d")).state == "other"
    assert (await world.keys.begin(ALICE, "a", b"r", "d")).state == "running"
    await world.keys.finish(first, ANSWER)
    assert (await world.keys.begin(ALICE, "a", b"other", "d")).state == "other"


@pytest.mark.parametrize(
    "change", [{"tenant": "t2"}, {"credential": "k9"}, {"subject": "u"}, {"chain": ("x",)}]
)
async def test_a_key_is_of_one_tenant_credential_and_user(world, change):
    await world.done("a")
    other = msgspec.structs.replace(ALICE, **change)
    assert (await world.keys.begin(other, "a", b"r", "c")).state == "new"
    assert await world.keys.find(msgspec.structs.replace(ALICE, subject="v"), "a") is None


async def test_a_key_that_was_given_back_is_new(world):
    begun = await world.keys.begin(ALICE, "a", b"r", "c1")
    await world.keys.forget(begun)
    assert (await world.keys.begin(ALICE, "a", b"other", "c2")).state == "new"


async def test_a_key_without_an_answer_is_unfinished_and_can_be_taken_once(world):
    await world.keys.begin(ALICE, "a", b"r", "c1")
    world.restart()  # as after a crash
    lost = await world.keys.begin(ALICE, "a", b"r", "c2")
    also = await world.keys.begin(ALICE, "a", b"r", "c3")
    assert (lost.state, lost.call_id, also.state) == ("unfinished", "c1", "unfinished")
    taken = await world.keys.again(lost, b"r", "c2")
    assert (taken.state, taken.call_id) == ("new", "c2")
    assert (await world.keys.again(also, b"r", "c3")).state == "running"
    await world.keys.finish(taken, ANSWER)
    assert await world.keys.find(ALICE, "a") == "c2"
    # Whoever still holds what it saw before cannot take it from the one who has finished.
    assert (await world.keys.again(also, b"r", "c3")).state == "running"


async def test_a_day_later_a_key_is_new(world):
    await world.done("a")
    world.now += KEEP_NS + 1
    assert await world.keys.find(ALICE, "a") is None
    assert (await world.keys.begin(ALICE, "a", b"other", "c")).state == "new"


async def test_one_agent_cannot_use_up_the_keys_of_others(world):
    for number in range(3):
        await world.done(f"a{number}")
    with pytest.raises(Overloaded):
        await world.keys.begin(ALICE, "a9", b"r", "c")
    await world.done("b", BOB)
    world.now += KEEP_NS + 1  # what expired makes room
    await world.done("a9")


async def test_all_agents_together_are_bounded_in_number_and_bytes(world):
    for number in range(3):
        await world.done(f"a{number}", answer=Kept(200, b"x" * 400))
    with pytest.raises(Overloaded):
        await world.keys.begin(BOB, "b", b"r", "c")
    # A refusal leaves nothing behind: the key is neither taken nor running.
    assert (await world.keys.begin(ALICE, "a0", b"r", "c")).state == "answered"
    assert await world.keys.find(BOB, "b") is None


async def test_an_answer_too_large_to_keep_is_known_to_have_been_given(world):
    await world.done("a", answer=Kept(200, b"x" * (MAX_ANSWER_BYTES + 1)))
    again = await world.keys.begin(ALICE, "a", b"r", "c")
    assert (again.state, again.answer) == ("answered", None)


async def test_answers_keys_and_requests_cannot_be_read_from_the_file(world, tmp_path):
    await world.done("secret-key-4711", request=b"secret-request")
    world.database.checkpoint()
    content = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    for secret in (b"canary-7f2c", b"secret-key-4711", b"secret-request"):
        assert secret not in content
    world.secret = os.urandom(32)
    world.restart()
    assert (await world.keys.begin(ALICE, "secret-key-4711", b"secret-request", "c")).state == "new"


async def test_where_payloads_are_not_kept_answers_are_not_either(world):
    world.keys = IdempotencyKeys(
        world.database, StorageKey(world.secret), lambda: world.now, world.limits, keep_answers=False
    )
    await world.done("a")
    again = await world.keys.begin(ALICE, "a", b"r", "c")
    assert (again.state, again.answer) == ("answered", None)


async def test_a_database_that_refuses_is_a_refusal_and_takes_no_key(world):
    with world.database.writing() as connection:
        connection.exec_driver_sql("DROP TABLE idempotency")
    with pytest.raises(JournalError):
        await world.keys.begin(ALICE, "a", b"r", "c")
    assert not world.keys._running
