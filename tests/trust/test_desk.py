"""What people sign: exactly one tier, on evidence, enough of them, and never against a fall."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from gateway.config import Config
from gateway.errors import NotSigned, Refused
from gateway.model import Decision, Finding, Operator
from gateway.policy.policy import EmbeddedPolicy
from gateway.policy.problem import InvalidPolicy
from gateway.standing.desk import Around, TrustDesk, kept
from gateway.storage.database import Database
from gateway.storage.trust import Altered, TrustStore, Where
from gateway.trust.settings import DAY
from gateway.trusted import names_of_one
from tests.policy.helpers import policy_of
from tests.storage.at import at, unprotected
from tests.trust.support import worked
from tests.trust.test_book import AGENT, PAY, World, rank_of, refuted, trip

ALLOWED = Decision(verdict="allow", findings=())
ANN = Operator(name="ann", tenant="t", role="approver", credential="k1")
BEN = Operator(name="ben", tenant="t", role="approver", credential="k2")
OLGA = Operator(name="olga", tenant="t", role="operator", credential="k3")
VIC = Operator(name="vic", tenant="t", role="viewer", credential="k4")
TEAM = ("ann", "ben")


@pytest.fixture(scope="module")
def migrated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("desk") / "wardgate.db"
    Database(path).open().close()
    return path


@pytest.fixture
def world(tmp_path: Path, migrated: Path) -> Iterator[World]:
    with at(Path(shutil.copy(migrated, tmp_path))).open() as opened:
        yield World(TrustStore(opened))


def desk(world: World, rules: Any = lambda question: ALLOWED, **more: Any) -> TrustDesk:
    around = Around(
        registered=lambda tenant, agent: AGENT if (tenant, agent) == ("t", "bot") else None,
        outside=lambda operator, owner: operator not in TEAM, domains=lambda: {"payments", "mail"},
        rules=rules, domain_of=lambda target: "payments", **more,
    )  # fmt: skip
    return TrustDesk(world.book, world.ranks, around)


def proven(world: World, risk: str = "reversible") -> None:
    """Two weeks of verified work, in the ledger."""
    changes = {"risk": risk, "build": AGENT.build, "print": ""}
    world.store.add(worked(14, 25, until_ns=world.now, **changes), 50)


async def test_one_person_signs_t2_and_it_is_in_force_and_on_record(world):
    proven(world)
    await world.book.open()
    signing = desk(world)
    before = (await signing.show(PAY))["next"]["digest"]
    assert await signing.promote(PAY, ANN, to=2, reason="read 20") == {
        "tier": 2, "signed": ["ann"], "missing": "",
    }  # fmt: skip
    assert rank_of(world, "reversible") == "goes"
    signed, promoted = world.store.events(PAY)
    assert (signed.kind, signed.by, signed.credential, signed.digest) == ("signed", "ann", "k1", before)
    assert (promoted.kind, promoted.before, promoted.after, promoted.by) == ("promoted", 1, 2, "ann")
    again = World(world.store)
    again.now = world.now
    await again.book.open()
    assert again.tier() == 2


async def test_t3_takes_two_people_and_one_of_them_from_outside(world):
    proven(world, "irreversible")
    await world.book.open()
    world.sign(2)
    signing = desk(world)
    assert (await signing.promote(PAY, ANN, to=3, reason="x"))["tier"] == 2
    with pytest.raises(NotSigned, match="signed this already"):
        await signing.promote(PAY, ANN, to=3, reason="x")
    said = await signing.promote(PAY, BEN, to=3, reason="x")
    assert (said["tier"], said["missing"]) == (2, "somebody from outside the owner's team")
    assert (await signing.show(PAY))["next"]["signed"] == ["ann", "ben"]
    assert (await signing.promote(PAY, OLGA, to=3, reason="x"))["tier"] == 3


async def test_two_names_of_one_person_are_not_the_two_people_that_t3_takes(world):
    config = Config.model_validate({"approvals": {"aliases": {"o.smith": ["olga", "olga-oncall"]}}})
    proven(world, "irreversible")
    await world.book.open()
    world.sign(2)
    signing = desk(world, names=lambda operator: names_of_one(config, operator))
    other = msgspec.structs.replace(OLGA, name="olga-oncall")
    assert (await signing.promote(PAY, OLGA, to=3, reason="x"))["tier"] == 2
    with pytest.raises(NotSigned, match="signed this already"):
        await signing.promote(PAY, other, to=3, reason="x")
    assert (await signing.promote(PAY, ANN, to=3, reason="x"))["tier"] == 3


async def test_a_signature_is_good_for_a_week_and_not_after_a_fall(world):
    proven(world, "irreversible")
    await world.book.open()
    world.sign(2)
    signing = desk(world)
    await signing.promote(PAY, ANN, to=3, reason="x")
    world.now += 8 * DAY
    world.store.add(worked(8, 25, until_ns=world.now, risk="irreversible", build="b1", print=""), 50)
    said = await signing.promote(PAY, OLGA, to=3, reason="x")
    assert said["signed"] == ["olga"]
    world.intake.tripped(trip(at_ns=world.now))
    await world.book.flush()
    events = world.store.events(PAY)
    assert signing.signatures(events, 3, "", world.now) == []


async def test_who_falls_while_a_signature_is_under_way_stays_down(world, monkeypatch):
    proven(world)
    await world.book.open()
    signing = desk(world)
    events = world.store.events

    def slow(where: Where, limit: int = 1000):
        found = events(where, limit)
        # Between the look at the evidence and the promotion.
        loop.call_soon_threadsafe(world.intake.tripped, trip(at_ns=world.now))
        return found

    loop = asyncio.get_running_loop()
    monkeypatch.setattr(world.store, "events", slow)
    with pytest.raises(NotSigned, match="just fallen"):
        await signing.promote(PAY, ANN, to=2, reason="x")
    assert world.tier() == 0


async def test_what_goes_wrong_while_an_unknown_agent_is_vouched_for_is_counted(world, monkeypatch):
    signing, loop, events = desk(world), asyncio.get_running_loop(), world.store.events

    def slow(where: Where, limit: int = 1000):
        world.book.now(refuted(world, 1))
        asyncio.run_coroutine_threadsafe(world.book.flush(), loop).result(5)
        return events(where, limit)

    monkeypatch.setattr(world.store, "events", slow)
    assert (await signing.vouch(PAY, OLGA, to=2, days=10, reason="a year elsewhere"))["tier"] == 2
    assert world.book.accounts[PAY].bad == pytest.approx(1.0)


async def test_what_is_missing_is_said_and_nothing_is_signed(world):
    signing = desk(world)
    with pytest.raises(NotSigned, match="148 more verified outcomes") as refused:
        await signing.promote(PAY, ANN, to=None, reason="x")
    assert refused.value.code == "promotion_refused"
    with pytest.raises(NotSigned, match="one by one"):
        await signing.promote(PAY, ANN, to=4, reason="x")
    assert world.book.accounts == {}
    assert world.store.events(PAY) == []


@pytest.mark.parametrize(
    ("where", "by", "error"),
    [(PAY, VIC, Refused), (Where("t", "nobody", "payments"), ANN, NotSigned),
     (Where("t", "bot", "nowhere"), ANN, NotSigned), (Where("u", "bot", "payments"), ANN, NotSigned)],
)  # fmt: skip
async def test_unknown_agents_domains_and_roles_are_refused(world, where, by, error):
    signing = desk(world)
    for act in (
        signing.promote(where, by, to=None, reason="x"),
        signing.vouch(where, by, to=2, days=1, reason="x"),
        signing.demote(where, by, to=0, reason="x"),
    ):
        with pytest.raises(error):
            await act
    assert world.book.accounts == {}


async def test_it_is_signed_again_before_it_ends(world):
    proven(world)
    await world.book.open()
    signing = desk(world)
    await signing.promote(PAY, ANN, to=2, reason="x")
    until = world.book.accounts[PAY].until_ns
    world.now += DAY
    assert (await signing.promote(PAY, ANN, to=2, reason="x", renew=True))["tier"] == 2
    assert world.book.accounts[PAY].until_ns == until + DAY


async def test_vouching_is_for_the_unknown_and_by_operators(world):
    signing = desk(world)
    with pytest.raises(Refused):
        await signing.vouch(PAY, ANN, to=2, days=10, reason="x")
    assert (await signing.vouch(PAY, OLGA, to=2, days=10, reason="a year elsewhere"))["tier"] == 2
    assert world.store.events(PAY)[-1].kind == "vouched"
    await signing.demote(PAY, ANN, to=1, reason="x")
    with pytest.raises(NotSigned, match="fallen here"):
        await signing.vouch(PAY, OLGA, to=2, days=10, reason="x")


async def test_a_fall_for_nothing_is_pardoned_and_the_tier_is_signed_again(world):
    proven(world)
    await world.book.open()
    signing = desk(world)
    await signing.promote(PAY, ANN, to=2, reason="x")
    earned = world.book.accounts[PAY].reversible
    world.now += DAY
    tripped = trip(at_ns=world.now)
    world.intake.tripped(tripped)
    await world.book.flush()
    with pytest.raises(NotSigned, match="cool-down"):
        await signing.promote(PAY, ANN, to=2, reason="x")
    with pytest.raises(Refused):
        await signing.pardon(PAY, ANN, ref=f"trip:{tripped.id}", reason="x")
    with pytest.raises(NotSigned, match="not for"):
        await signing.pardon(PAY, OLGA, ref="trip:another", reason="x")
    assert (await signing.pardon(PAY, OLGA, ref=f"trip:{tripped.id}", reason="drill"))["tier"] == 1
    account = world.book.accounts[PAY]
    assert (account.falls, account.bad, account.debt, account.calm_ns) == (0, 0.0, 0.0, 0)
    assert account.reversible == pytest.approx(earned * 0.5 ** (1 / 30), rel=1e-6)
    with pytest.raises(NotSigned, match="not for"):
        await signing.pardon(PAY, OLGA, ref=f"trip:{tripped.id}", reason="twice")
    assert (await signing.promote(PAY, ANN, to=2, reason="again"))["tier"] == 2
    assert [event.kind for event in world.store.events(PAY)][-3:] == ["pardoned", "signed", "promoted"]


async def test_a_demotion_is_down_only_and_at_once(world):
    world.sign(3)
    signing = desk(world)
    with pytest.raises(NotSigned, match="holds T3"):
        await signing.demote(PAY, ANN, to=3, reason="x")
    await signing.demote(PAY, ANN, to=1, reason="new prompt")
    assert rank_of(world, "reversible") == "trust_needs_person"
    assert world.lost == [("t", "bot")]
    (event,) = world.store.events(PAY)
    assert (event.cause, event.by, event.reason) == ("operator", "ann", "new prompt")


async def test_a_record_that_was_altered_is_noticed(world):
    from sqlalchemy import text

    world.sign(3)
    await desk(world).demote(PAY, ANN, to=1, reason="x")
    with world.store.database.writing() as connection:
        connection.execute(text(unprotected("trust_events")))
        connection.execute(text("UPDATE trust_events SET after = 3"))
    with pytest.raises(Altered):
        world.store.events(PAY)


# ------------------------------------------------------------------------------------------------ rules

RULE = """# METADATA
# title: Payments stay at T2
# custom: {id: own.ceiling, owner: us, severity: high, codes: [too_high], phase: trust}
package wardgate.rules.ceiling
import rego.v1

deny contains {"code": "too_high", "message": "payments stay at T2"} if {
	input.domain == "payments"
	input.change.to > 2
}
"""


def policy(folder: Path, text: str) -> EmbeddedPolicy:
    allow = RULE.split("package")[0].replace("own.ceiling", "own.all").replace("phase: trust", "phase: call")
    allow = allow.replace("too_high", "fine")
    body = 'package wardgate.rules.all\nimport rego.v1\nallow contains {"code": "fine"} if true\n'
    return policy_of(folder, {"all.rego": allow + body, "trust.rego": text})


async def test_a_rule_refuses_a_promotion_and_takes_what_is_held(world, tmp_path):
    rules = policy(tmp_path / "p", RULE)
    proven(world, "irreversible")
    await world.book.open()
    world.sign(2)
    with pytest.raises(NotSigned, match="payments stay at T2"):
        await desk(world, rules.trust).promote(PAY, OLGA, to=3, reason="x")
    assert rules.trust(kept(PAY, AGENT, {"tier": 3})).verdict == "deny"
    assert rules.trust(kept(PAY, AGENT, {"tier": 2})).verdict == "allow"


async def test_a_rule_that_fails_refuses_a_promotion(world, tmp_path):
    rules = policy(tmp_path / "p", RULE.replace('input.domain == "payments"', "count(input.change.from) > 0"))
    proven(world)
    await world.book.open()
    with pytest.raises(NotSigned):
        await desk(world, rules.trust).promote(PAY, ANN, to=2, reason="x")


@pytest.mark.parametrize(
    "path", ["input.call.args", "input.tool.risk", "input.change.until", "input.session"]
)
def test_a_rule_about_trust_reads_no_call(path, tmp_path):
    with pytest.raises(InvalidPolicy, match="not in the input"):
        policy(tmp_path / "p", RULE.replace("input.change.to > 2", f"{path} == 1"))


def test_silence_is_consent_because_the_floors_are_in_code(tmp_path):
    assert (
        policy(tmp_path / "p", RULE.replace("> 2", "> 9")).trust(kept(PAY, None, {"tier": 4})).verdict
        == "allow"
    )


def test_a_decision_of_a_rule_names_it(tmp_path):
    found = policy(tmp_path / "p", RULE).trust(kept(PAY, AGENT, {"tier": 4}))
    assert [(each.rule, each.code) for each in found.findings] == [("own.ceiling", "too_high")]
    assert isinstance(found.findings[0], Finding)
