"""Scores of a detector elsewhere: who may post, how often, about whom, and what comes of it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from pydantic import ValidationError

from gateway import scores as module
from gateway.approvals.notify import sign
from gateway.breakers import plugin
from gateway.breakers.settings import SECOND, Settings
from gateway.config_breakers import BreakersConfig
from gateway.errors import Overloaded, Refused, Unauthenticated
from gateway.guard import Guard
from gateway.scores import Party, Scores
from gateway.storage.breakers import BreakerStore
from tests.storage.at import at

SECRET = b"a secret of a detector, long enough for it"
PARTY = Party(name="drift", secret=SECRET, key_id="1", tenant="t", first=0.5, stop=0.9, per_minute=60)


class Desk:
    def __init__(self, store: BreakerStore, percent: int = 100, **party) -> None:
        self.now = 1_800_000_000 * SECOND
        self.guard = Guard(store, Settings(enforce_percent={"score:drift": percent}), lambda: self.now)
        self.scores = Scores(self.guard, lambda: self.now, self._known)
        self.party = msgspec.structs.replace(PARTY, **party)
        self.scores.configure({"drift": self.party})
        self.number = 0

    async def _known(self, tenant: str, agent: str, session: str) -> bool:
        return (tenant, agent) == ("t", "bot") and session in ("", "s")

    def post(self, *, secret=SECRET, version="s1", at=None, key_id="1", name="drift", raw=None, **changes):
        self.number += 1
        body = {"id": f"p{self.number}", "agent": "bot", "score": 0.95, "sentence": "strange", **changes}
        sent = json.dumps(body).encode() if raw is None else raw
        at_s = self.now // SECOND if at is None else at
        return asyncio.run(
            self.scores.take(name, key_id, str(at_s), sign(secret, int(at_s), sent, version), sent)
        )

    def stages(self) -> dict[str, str]:
        return {str(key): machine.stage for key, machine in self.guard.breakers.machines.items()}


@pytest.fixture
def store(tmp_path: Path) -> Iterator[BreakerStore]:
    with at(tmp_path / "wardgate.db").open() as opened:
        yield BreakerStore(opened)


def test_a_high_score_guards_a_higher_one_stops_and_the_trip_names_who_posted_it(store):
    desk = Desk(store)
    assert desk.post(score=0.3)["trips"] == []
    assert len(desk.post(score=0.6)["trips"]) == 1
    assert desk.stages() == {"t/bot/general": "guarded"}
    (trip,) = desk.post(score=0.95)["trips"]
    assert desk.stages() == {"t/bot/general": "open"}
    asyncio.run(desk.guard.save())
    told = store.trip(trip)
    assert (told.trip.detector, told.trip.statistic, told.trip.threshold) == ("score:drift", 0.95, 0.9)
    assert told.trip.by == "drift (key 1)"
    assert told.trip.sentence.startswith("strange; 0.95 ≥ 0.9")


def test_a_score_of_a_session_or_domain_is_about_that_alone(store):
    desk = Desk(store)
    desk.post(session="s")
    desk.post(domain="mail", score=0.6)
    assert desk.stages() == {"t/bot/s": "open", "t/bot/mail": "guarded"}


def test_a_new_detector_only_records_and_not_the_same_every_second(store):
    desk = Desk(store, percent=0)
    assert len(desk.post()["trips"]) == 1
    assert [desk.post()["trips"] for _ in range(20)] == [[]] * 20
    desk.now += 61 * SECOND
    assert len(desk.post()["trips"]) == 1
    assert desk.stages() == {}


@pytest.mark.parametrize(
    "forged",
    [
        {"secret": b"another secret that is as long as it must be"},
        {"version": "v1"},  # a notice of the gateway's own, sent back
        {"version": "c1"},  # a decision of a person
        {"at": 1_800_000_000 - 301},
        {"at": 1_800_000_000 + 301},
        {"at": 1_800_000_000 - 1},  # from before this process: it may have been taken by the one before
        {"key_id": "2"},
        {"name": "nobody"},
    ],
)
def test_who_is_not_known_or_not_of_now_is_not_heard(store, forged):
    desk = Desk(store)
    with pytest.raises(Unauthenticated):
        desk.post(**forged)
    assert desk.stages() == {}


def test_a_score_that_is_sent_again_is_taken_once(store):
    desk = Desk(store)
    assert desk.post(id="same")["repeated"] is False
    desk.guard.breakers.machines.clear()
    assert desk.post(id="same") == {"id": "same", "repeated": True, "trips": []}
    assert desk.stages() == {}
    desk.now += 290 * SECOND  # it would still be fresh
    assert desk.post(id="same")["repeated"] is True


@pytest.mark.parametrize(
    "wrong",
    [
        {"score": 1.5}, {"score": -0.1}, {"score": "0.9"}, {"score": None}, {"agent": ""}, {"agent": 7},
        {"id": ""}, {"id": "x" * 201}, {"more": 1}, {"sentence": "x" * 301},
        {"raw": b'{"id":"a","agent":"bot","score":NaN}'}, {"raw": b'{"id":"a","agent":"bot","score":1e999}'},
        {"raw": b'{"id":"a","agent":"bot","agent":"other","score":1}'}, {"raw": b"[]"}, {"raw": b""},
    ],
)  # fmt: skip
def test_absurd_scores_are_refused_and_do_nothing(store, wrong):
    desk = Desk(store)
    with pytest.raises(Refused) as refused:
        desk.post(**wrong)
    assert refused.value.code == "invalid_request"
    assert desk.stages() == {}


def test_nobody_is_scored_who_is_not_of_the_partys_tenant(store):
    desk = Desk(store)
    for other in ({"agent": "elsewhere"}, {"session": "of-somebody-else"}):
        with pytest.raises(Refused) as refused:
            desk.post(**other)
        assert refused.value.code == "not_found"
    assert desk.guard.breakers.machines == {}


def test_a_party_that_floods_is_told_to_wait(store):
    desk = Desk(store)
    for _ in range(60):
        desk.post(score=0.1)
    with pytest.raises(Overloaded) as full:
        desk.post(score=0.1)
    assert full.value.retry_after == 1
    desk.now += 2 * SECOND
    desk.post(score=0.1)


def test_ids_are_not_forgotten_while_they_could_come_again(store, monkeypatch):
    monkeypatch.setattr(module, "MOST_IDS", 3)
    desk = Desk(store)
    for _ in range(3):
        desk.post(score=0.1)
    with pytest.raises(Overloaded):
        desk.post(score=0.1)
    desk.now += 602 * SECOND
    desk.post(score=0.1)


def test_a_detector_that_is_not_there_cannot_be_rolled_out(monkeypatch):
    with pytest.raises(ValidationError, match="no detector nights"):
        BreakersConfig.model_validate({"enforce_percent": {"nights": 0}})
    monkeypatch.setattr(plugin, "names", lambda: {"nights"})
    config = BreakersConfig.model_validate({"enforce_percent": {"nights": 25, "repeat": 50}})
    assert config.settings().enforce_percent["nights"] == 25
    with pytest.raises(ValidationError):
        BreakersConfig.model_validate({"enforce_percent": {"repeat": 101}})


def test_thresholds_and_secrets_that_make_no_sense_are_refused():
    for wrong in ({"first": 0.9, "stop": 0.5}, {"secret": "short"}, {"stop": 2}):
        with pytest.raises(ValidationError):
            BreakersConfig.model_validate({"scores": {"drift": {"secret": "s" * 32, **wrong}}})
    config = BreakersConfig.model_validate({"scores": {"drift": {"secret": "s" * 32}}})
    assert config.settings().enforce_percent["score:drift"] == 0
    assert config.parties()["drift"].stop == 0.9
