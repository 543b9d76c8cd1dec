"""Trust over a real storage: what counts, what never does, what holds at once and through a crash."""

from __future__ import annotations

import asyncio
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from gateway.breakers.trip import Key, Trip
from gateway.model import VERIFY, Call, Facts, Manifest, Outcome, Principal, Tool, Verified, Verify
from gateway.ports import Rank
from gateway.standing.book import Book
from gateway.standing.intake import Intake
from gateway.standing.keeper import TrustKeeper
from gateway.standing.ranks import Ranks
from gateway.storage import control
from gateway.storage.database import Database
from gateway.storage.trust import TrustStore, Where
from gateway.trust.account import Account, held
from gateway.trust.promotion import standing
from gateway.trust.settings import DAY, Settings
from gateway.trust.simulate import promote
from tests.storage.at import at
from tests.trust.support import NOW

AGENT = Principal(tenant="t", agent="bot", owner="team", credential="k", build="b1", attested="config")
PAY = Where("t", "bot", "payments")
OK = Outcome(status="ok", result_json=b"{}")
APPROVED = {"kind": "approval", "id": "a", "edited": False, "self_reviewed": False}


@pytest.fixture(scope="module")
def migrated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("trust") / "wardgate.db"
    Database(path).open().close()
    return path


@pytest.fixture
def store(tmp_path: Path, migrated: Path) -> Iterator[TrustStore]:
    with at(Path(shutil.copy(migrated, tmp_path))).open() as opened:
        yield TrustStore(opened)


def tool(risk: str = "reversible", domain: str = "payments", **manifest: Any) -> Tool:
    elsewhere = manifest.pop("elsewhere", False)
    return Tool(
        kind="tool", upstream="bank", name=f"pay_{risk}", target=f"bank/pay_{risk}", schema_hash="h",
        manifest=Manifest(risk=risk, domain=domain, **manifest), elsewhere=elsewhere,  # type: ignore[arg-type]
    )  # fmt: skip


class World:
    """One gateway's trust, on a clock that is moved by hand."""

    def __init__(self, store: TrustStore, **settings: Any) -> None:
        self.now = NOW
        self.store = store
        self.settings = Settings(**{"grace_s": 0.0, **settings})
        self.lost: list[tuple[str, str]] = []
        self.delegators: tuple[str, ...] = ()
        self.book = Book(store, self.settings, lambda: self.now, took_back=lambda *who: self.lost.append(who))
        self.ranks = Ranks(
            self.book, agent_of=lambda tenant, actor: actor if actor.endswith("bot") else None,
            delegators=lambda call: self.delegators,
        )  # fmt: skip
        self.intake = Intake(self.book, self.ranks, domain_of=lambda target: "payments")
        self.keeper = TrustKeeper(self.book, self.ranks, self.intake)
        self.number = 0

    def call(self, what: Tool | None = None, who: Principal = AGENT, **changes: Any) -> Call:
        self.number += 1
        amount = changes.pop("amount", self.number)
        base: dict[str, Any] = {
            "id": f"c{self.number}-{id(self)}", "principal": who, "tool": what or tool(),
            "args": {"amount": amount, "to": "x" * (1 + self.number % 97)}, "digest": "d",
            "session": f"s{self.number % 25}", "thread": "", "surface": "mcp", "effect_key": "e",
            "received_ns": 0,
        }  # fmt: skip
        base |= changes
        return Call(args_json=msgspec.json.encode(base["args"]), **base)

    def ask(self, call: Call, **fast: Any) -> Rank:
        return self.keeper.ask(call, Facts(fast=fast))

    def approved(
        self, what: Tool | None = None, fact: Any = APPROVED, outcome: Outcome = OK, **changes: Any
    ) -> Call:
        call = self.call(what, **changes)
        self.ask(call)
        self.keeper.ended(call, "allow", "", outcome, fact)
        return call

    def verify(self, result: str = "verified", **changes: Any) -> Call:
        call = self.call(**changes)
        self.ask(call)
        self.keeper.ended(call, "allow", "", OK, {})
        self.intake.verified(
            Verified(
                call_id=call.id, principal=call.principal, tool=call.tool, session=call.session,
                result=result, made=call,  # type: ignore[arg-type]
            )
        )  # fmt: skip
        return call

    async def settle(self) -> None:
        await self.book.flush()
        await self.book.sweep()
        await self.book.flush()

    async def work(self, days: int = 14, a_day: int = 15, **changes: Any) -> None:
        for _ in range(days):
            for _ in range(a_day):
                self.verify(**changes)
            await self.settle()
            self.now += DAY

    def tier(self, where: Where = PAY) -> int:
        return held(self.book.accounts.get(where), self.now, self.settings)

    def sign(self, to: int, where: Where = PAY) -> Account:
        account = self.book.account(where)
        promote(account, self.now, self.settings, to=to)
        account.signed = False
        self.book.put(where, account, ())
        return account

    def eligible(self, where: Where = PAY):
        rows = self.store.evidence(where, good=True)
        return standing(self.book.account(where), rows, where.domain, self.now, self.settings)


# ------------------------------------------------------------------------------------------ what counts


async def test_verified_work_makes_an_agent_eligible_and_nothing_promotes_it(store):
    world = World(store)
    await world.work()
    assert world.eligible().eligible
    assert world.tier() == 1
    rows = store.evidence(PAY)
    assert {row.outcome for row in rows} == {"verified"}
    assert all(row.call_id for row in rows)


async def test_only_what_the_gateway_verified_counts_for(store):
    world = World(store)
    observed = msgspec.structs.replace(AGENT, mode="observe")
    for _ in range(20):
        call = world.call()
        world.ask(call)
        world.keeper.ended(call, "allow", "", OK, {})  # it went well, says its server
        world.verify("unknown")
        world.verify(mode="observe", who=observed)
        world.verify(what=tool(elsewhere=True))
        world.verify(surface=VERIFY)
        world.approved(fact={"kind": "grant", "id": "g"})
        world.approved(fact={**APPROVED, "self_reviewed": True})
        world.approved(outcome=Outcome(status="tool_error"))
        world.approved(outcome=Outcome(status="in_doubt"))
        world.approved(mode="observe", who=observed)
    await world.settle()
    assert store.evidence(PAY) == []


async def test_an_approved_call_counts_when_nothing_speaks_against_it_for_the_grace(store):
    world = World(store, grace_s=86_400.0)
    world.approved(tool("irreversible"))
    await world.settle()
    assert store.evidence(PAY) == []
    world.now += DAY - 1
    await world.settle()
    assert store.evidence(PAY) == []
    world.now += 1
    await world.settle()
    (row,) = store.evidence(PAY)
    assert (row.outcome, row.good, row.risk) == ("approved", 1.0, "irreversible")


async def test_where_there_is_a_verifier_a_look_is_not_enough(store):
    world = World(store)
    world.approved(tool(verify=Verify(tool="look")))
    await world.settle()
    assert store.evidence(PAY) == []


async def test_an_edited_call_counts_half_for_and_half_against(store):
    world = World(store)
    world.approved(fact={**APPROVED, "edited": True})
    await world.settle()
    assert sorted((row.outcome, row.good, row.bad) for row in store.evidence(PAY)) == [
        ("approved", 0.5, 0.0), ("edited", 0.0, 0.5),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("why", "counts"), [("too_risky", 1), ("other", 1), ("not_now", 0), ("not_needed", 0)]
)
async def test_a_rejection_counts_unless_it_says_nothing_against_the_agent(store, why, counts):
    world = World(store)
    for _ in range(2):  # told twice
        world.intake.rejected("t", "bot", "bank/pay", "irreversible", "a1", "c1", why)
    await world.settle()
    assert len(store.evidence(PAY)) == counts


async def test_a_refuted_call_counts_against(store):
    world = World(store)
    world.verify("refuted")
    await world.settle()
    assert [(row.outcome, row.bad) for row in store.evidence(PAY)] == [("refuted", 1.0)]


async def test_refusals_count_only_beyond_what_is_usual(store):
    world = World(store, denied_free=5, denied_share=0.0)
    for _ in range(8):
        call = world.call()
        world.ask(call)
        world.keeper.ended(call, "block", "amount_over_limit", None, {})
    for code in (
        "policy_timeout",
        "breaker_open",
        "in_doubt",
        "trust_needs_person",
        "trust_budget",
        "trust_observe_only",
        "budget_exceeded",
        "overloaded",
    ):
        for _ in range(20):
            call = world.call()
            world.ask(call)
            world.keeper.ended(call, "block", code, None, {})
    await world.settle()
    assert [row.outcome for row in store.evidence(PAY)] == ["denied"] * 3


async def test_an_outcome_that_is_told_twice_or_late_counts_once_and_in_its_place(store):
    world = World(store)
    call = world.verify()
    await world.settle()
    found = Verified(
        call_id=call.id, principal=AGENT, tool=call.tool, session="s", result="verified", made=call
    )
    world.intake.verified(found)
    await world.settle()
    world.now += 40 * DAY
    world.intake.verified(found)
    await world.settle()
    assert len(store.evidence(PAY)) == 1


# ---------------------------------------------------------------------------------------- against gaming


async def test_farming_reads_opens_nothing(store):
    world = World(store)
    await world.work(7, 50, what=tool("read"))
    assert world.eligible().outcomes == 0


async def test_splitting_one_job_into_many_calls_is_not_more_evidence(store):
    world = World(store, per_day=50)
    for _ in range(300):
        world.verify()
    await world.settle()
    await world.settle()
    assert len(store.evidence(PAY)) == 50


async def test_replaying_the_same_call_is_one_outcome_a_day(store):
    world = World(store)
    for _ in range(3):
        for _ in range(40):
            world.verify(args={"amount": 1, "to": "me"})
        await world.settle()
        world.now += DAY
    assert len(store.evidence(PAY)) == 3


async def test_replaying_one_template_with_other_values_is_not_eligible(store):
    world = World(store)
    for _ in range(14):
        for _ in range(15):
            world.verify(args={"amount": 10 + world.number % 80, "to": f"payee-{1000 + world.number}"})
        await world.settle()
        world.now += DAY
    found = world.eligible()
    assert found.bound >= 0.98
    assert found.share == 1.0
    assert not found.eligible


async def test_a_new_name_starts_where_everybody_starts(store):
    world = World(store)
    await world.work()
    world.sign(2)
    again = msgspec.structs.replace(AGENT, agent="bot2")
    assert world.ask(world.call(who=again)).facts["tier"] == 1
    assert world.ask(world.call(who=again)).guarded.code == "trust_needs_person"
    fallen = world.book.struck(PAY, "incident", _incident(world))
    assert fallen.after == 0
    assert world.ask(world.call(who=again)).facts["tier"] == 1  # not less either: it has nothing to lose


async def test_agents_cannot_vouch_for_each_other(store):
    world = World(store)
    await world.work()
    world.sign(2)
    friend = msgspec.structs.replace(AGENT, agent="friend-bot")
    # The trusted one delegates to the new one: its tier does not come along.
    world.delegators = ("bot",)
    rank = world.ask(world.call(who=friend))
    assert (rank.facts["tier"], rank.guarded.code) == (1, "trust_needs_person")
    # And the new one delegates to the trusted one: that is held down.
    world.delegators = ("friend-bot",)
    rank = world.ask(world.call())
    assert (rank.facts["tier"], rank.facts["held"], rank.facts["cap"]) == (1, 2, "delegator")
    world.delegators = ()
    rank = world.ask(world.call(who=msgspec.structs.replace(AGENT, chain=("unknown", "bot"))))
    assert rank.facts["cap"] == "delegator"
    # What it does for another agent is its own evidence.
    assert {row.agent for row in store.evidence(PAY)} == {"bot"}


async def test_a_change_of_the_agent_halves_its_evidence_and_caps_it(store):
    world = World(store)
    await world.work(4, 25, what=tool("irreversible"))
    account = world.sign(3)
    before = account.irreversible
    other = msgspec.structs.replace(AGENT, build="b2")
    rank = world.ask(world.call(tool("irreversible"), who=other))
    assert (rank.facts["tier"], rank.facts["cap"]) == (2, "rebuilt")
    assert account.irreversible == pytest.approx(before / 2)
    world.ask(world.call(who=other))
    assert account.irreversible == pytest.approx(before / 2)  # once
    await world.settle()
    assert [event.kind for event in store.events(PAY)][:1] == ["changed"]


async def test_two_builds_in_turn_are_one_change_however_often_they_alternate(store):
    """A rolling deployment: old and new answer side by side for a while."""
    world = World(store)
    await world.work(4, 25, what=tool("irreversible"))
    account = world.sign(3)
    before = account.irreversible
    other = msgspec.structs.replace(AGENT, build="b2")
    for _ in range(20):
        for who in (other, AGENT):
            rank = world.ask(world.call(tool("irreversible"), who=who))
            assert (rank.facts["tier"], rank.facts["cap"]) == (2, "rebuilt")
    assert account.irreversible == pytest.approx(before / 2)
    assert account.reprove == world.settings.reprove  # it is capped until one of them has shown itself
    await world.book.flush()
    assert [event.kind for event in store.events(PAY)] == ["changed"]


async def test_an_agent_of_which_two_things_are_said_is_capped_and_keeps_what_it_earned(store):
    """One key, and a token that contradicts the configuration, side by side."""
    world = World(store)
    await world.work(4, 25, what=tool("irreversible"))
    account = world.sign(3)
    before = account.irreversible
    doubtful = msgspec.structs.replace(AGENT, build="b2", attested="conflict")
    for _ in range(5):
        rank = world.ask(world.call(tool("irreversible"), who=doubtful))
        assert (rank.facts["tier"], rank.facts["cap"]) == (0, "conflict")
        assert world.ask(world.call(tool("irreversible"))).facts["tier"] == 3
    assert (account.irreversible, account.build) == (before, "b1")
    await world.book.flush()
    assert store.events(PAY) == []


# --------------------------------------------------------------------------------- what a tier buys


def rank_of(world: World, risk: str, **fast: Any) -> str:
    rank = world.ask(world.call(tool(risk)), **fast)
    if rank.refusal is not None:
        return rank.refusal.code
    return rank.guarded.code if rank.guarded is not None else "goes"


async def test_each_tier_opens_its_classes_and_no_more(store):
    world = World(store)
    person, only = "trust_needs_person", "trust_observe_only"
    for number, expected in enumerate(
        [("goes", only, only, only), ("goes", person, person, person), ("goes", "goes", person, person),
         ("goes",) * 4, ("goes",) * 4]
    ):  # fmt: skip
        world.sign(number)
        assert (
            tuple(rank_of(world, risk) for risk in ("read", "reversible", "compensable", "irreversible"))
            == expected
        )


async def test_an_unknown_agent_proposes_and_lookups_open_no_account(store):
    world = World(store)
    assert [rank_of(world, risk) for risk in ("read", "irreversible")] == ["goes", "trust_needs_person"]
    assert world.book.accounts == {}


async def test_after_its_horizon_a_person_looks_and_then_it_goes_on(store):
    world = World(store)
    world.sign(2)
    calls = [world.call() for _ in range(51)]
    assert [world.ask(call).guarded for call in calls[:50]] == [None] * 50
    assert world.ask(calls[50]).guarded.code == "trust_horizon"
    world.keeper.ended(calls[50], "allow", "", OK, APPROVED)
    assert rank_of(world, "reversible") == "goes"
    world.now += 3600 * 1_000_000_000
    assert rank_of(world, "reversible") == "trust_horizon"
    assert rank_of(world, "read") == "goes"


async def test_calls_that_did_not_happen_do_not_use_the_horizon_up(store):
    world = World(store)
    account = world.sign(2)
    for outcome in (None, Outcome(status="not_sent")):
        call = world.call()
        world.ask(call)
        world.keeper.ended(call, "block", "x", outcome, {})
    assert (account.unattended, account.unattended_ns) == (0, 0)


async def test_a_tier_uses_its_share_of_the_budget(store):
    world = World(store)
    world.sign(2)

    def budget(used: int, reserved: int) -> Any:
        return {"agent": {"cost_micro_usd": {"used": used, "reserved": reserved, "limit": 1000, "left": 0}}}

    assert rank_of(world, "reversible", budget=budget(400, 100)) == "goes"
    assert rank_of(world, "reversible", budget=budget(400, 101)) == "trust_budget"
    world.sign(4)
    assert rank_of(world, "reversible", budget=budget(900, 100)) == "goes"


async def test_untrusted_content_holds_egress_down(store):
    world = World(store)
    world.sign(3)
    sends = tool("reversible", effects=("egress",))
    tainted = {"integrity": "untrusted"}
    rank = world.ask(world.call(sends), session=tainted)
    assert (rank.facts["tier"], rank.facts["cap"], rank.guarded.code) == (
        1,
        "untrusted",
        "trust_needs_person",
    )
    assert world.ask(world.call(sends), session={"integrity": "trusted"}).guarded is None
    assert world.ask(world.call(), session=tainted).guarded is None


# ------------------------------------------------------------------------------------------------ falls


def _incident(world: World, ref: str = "incident:c1"):
    from gateway.trust.evidence import against

    return against("incident", ref, **PAY._asdict(), risk="irreversible", at_ns=world.now)


def trip(detector: str = "repeat", scope: str = "agent", part: str = "payments", **changes: Any) -> Trip:
    base: dict[str, Any] = {
        "id": f"trip-{detector}-{part}", "at_ns": NOW, "key": Key(scope, "t", "bot", part), "agent": "bot",  # type: ignore[arg-type]
        "session": "s", "detector": detector, "statistic": 1.0, "threshold": 1.0, "before": "closed",
        "after": "open", "sentence": "it looped",
    }  # fmt: skip
    return Trip(**{**base, **changes})


async def test_a_trip_takes_the_tier_before_the_next_call_and_is_on_record(store):
    world = World(store)
    world.sign(3)
    world.sign(3, Where("t", "bot", "mail"))
    world.sign(3, Where("t", "other", "payments"))
    epoch = _authority(store)
    world.intake.tripped(trip())
    assert rank_of(world, "irreversible") == "trust_needs_person"
    assert world.tier() == 1
    assert world.tier(Where("t", "bot", "mail")) == 2
    assert world.tier(Where("t", "other", "payments")) == 3
    assert world.lost == [("t", "bot"), ("t", "bot")]
    await world.settle()
    (event,) = store.events(PAY)
    assert (event.kind, event.before, event.after, event.cause) == ("fell", 3, 1, "trip")
    assert _authority(store) > epoch


@pytest.mark.parametrize(
    "which",
    [{"after": "guarded"}, {"agent": ""}, {"key": Key("upstream", "t", "bank")}, {"after": "throttled"}],
)  # fmt: skip
async def test_trips_that_are_not_the_agents_take_nothing(store, which):
    world = World(store)
    world.sign(3)
    world.intake.tripped(trip(**which))
    assert world.tier() == 3


async def test_a_trip_of_an_estimate_counts_against_and_takes_nothing_alone(store):
    world = World(store)
    await world.work()
    world.sign(2)
    world.intake.tripped(trip("surprise", at_ns=world.now))
    await world.settle()
    assert world.tier() == 2
    assert world.book.accounts[PAY].bad == pytest.approx(2.0)


async def test_a_trip_of_a_session_falls_in_the_domain_of_its_call(store):
    world = World(store)
    mail = Where("t", "bot", "mail")
    world.sign(3)
    world.sign(3, mail)
    call = world.call(tool(domain="mail"))
    world.ask(call)
    world.intake.tripped(trip(scope="session", part="s1", calls=(call.id,)))
    assert (world.tier(mail), world.tier()) == (1, 2)


async def test_after_a_crash_a_trip_of_a_session_falls_in_its_own_domain_too(store):
    world = World(store)
    world.sign(3)
    await world.book.flush()
    again = World(store)
    await again.book.open()
    await again.intake.open([trip(scope="session", part="s1", domain="payments", calls=("gone",))])
    assert {where.domain: account.tier for where, account in again.book.accounts.items()} == {"payments": 1}


async def test_what_holds_in_memory_holds_after_a_crash_at_any_moment(store):
    world = World(store)
    await world.work()
    world.sign(2)
    await world.settle()
    for _ in range(3):
        world.verify()
    await asyncio.to_thread(store.add, world.book._rows, 50)
    tripped = trip(at_ns=world.now)
    # It ends here: the trip is on disk with the breakers, and nothing of it with trust.
    again = World(store)
    again.now = world.now
    await again.book.open()
    assert again.tier() == 2
    await again.intake.open([tripped])
    assert again.tier() == 1
    once_more = World(store)
    once_more.now = world.now
    await once_more.book.open()
    await once_more.intake.open([tripped])
    assert once_more.tier() == 1
    assert once_more.book.accounts[PAY].falls == 1


@pytest.mark.parametrize("cause", ["trip", "incident"])
async def test_a_crash_right_after_its_cause_is_on_disk_does_not_give_a_tier_back(store, monkeypatch, cause):
    world = World(store)
    world.sign(3).irreversible = 400.0  # so much that its tier would hold against one more outcome
    await world.book.flush()
    before = store.newest()
    world.now += 1
    if cause == "trip":
        world.intake.tripped(trip(at_ns=world.now))
    else:
        world.book.struck(PAY, "incident", _incident(world))
    fallen = world.tier()
    # The process ends as soon as anything of it is in the ledger.
    add = store.add

    def last(*given: Any, **more: Any) -> None:
        add(*given, **more)
        raise SystemExit

    monkeypatch.setattr(store, "add", last)
    with pytest.raises(SystemExit):
        await world.book.flush()
    monkeypatch.undo()
    assert len(store.evidence(PAY)) == 1
    again = World(store)
    again.now = world.now
    await again.book.open()
    assert store.newest() > before
    assert (again.tier(), again.book.accounts[PAY].falls) == (fallen, 1)
    assert again.book.accounts[PAY].bad > 0
    assert [event.kind for event in store.events(PAY)] == ["fell"]
    await again.intake.open([trip(at_ns=world.now)] if cause == "trip" else [])
    assert again.book.accounts[PAY].falls == 1


async def test_evidence_written_just_before_a_crash_is_in_the_sums_afterwards(store):
    world = World(store)
    await world.work(3)
    row = world.store.evidence(PAY)[-1]
    late = msgspec.structs.replace(row, ref="late", print="late", at_ns=world.now - 1)
    assert len(store.add([late], 50).counted) == 1
    again = World(store)
    again.now = world.now
    before = world.book.accounts[PAY].reversible
    await again.book.open()
    assert again.book.accounts[PAY].reversible == pytest.approx(before * 0.5 ** (1 / 30) + 1)
    assert again.book.accounts[PAY].seq == 46


def refuted(world: World, number: int):
    from gateway.trust.evidence import against

    ref = f"refuted:{number}"
    return against("refuted", ref, **PAY._asdict(), risk="reversible", at_ns=world.now)


async def test_what_ripens_while_something_else_is_written_reaches_the_sums(store, monkeypatch):
    """The sums take rows in by their number, and a crash may come between any two."""
    world = World(store)
    world.verify()
    await world.book.flush()
    loop, written = asyncio.get_running_loop(), []
    mature = store.mature

    def slow(now_ns: int, per_day: int):
        ripe = mature(now_ns, per_day)
        # The desk reports something before the sweep hears of what it has made ripe.
        loop.call_soon_threadsafe(report)
        time.sleep(0.1)
        return ripe

    def report() -> None:
        world.book.now(refuted(world, 1))
        written.append(loop.create_task(world.book.flush()))

    monkeypatch.setattr(store, "mature", slow)
    await world.book.sweep()
    await written[0]
    again = World(store)
    await again.book.open()
    account = again.book.accounts[PAY]
    assert (account.reversible, account.bad) == (pytest.approx(1.0), pytest.approx(1.0))


@pytest.mark.parametrize("first", ["sweep", "flush"])
async def test_what_was_committed_without_an_answer_reaches_the_sums_and_once(store, monkeypatch, first):
    world = World(store)
    add = store.add

    def lost(*given: Any, **more: Any) -> None:
        add(*given, **more)
        raise OSError("connection lost at COMMIT")

    world.verify()  # and this one will be ripe before it is tried again
    where = Where("t", "bot", "mail")
    world.sign(3, where)
    world.intake.tripped(trip(part="mail"))
    world.book.now(refuted(world, 1))
    monkeypatch.setattr(store, "add", lost)
    with pytest.raises(OSError):
        await world.book.flush()
    monkeypatch.undo()
    await (world.book.sweep() if first == "sweep" else world.book.flush())
    world.book.now(refuted(world, 2))
    world.book.now(refuted(world, 2))
    await world.settle()
    account = world.book.accounts[PAY]
    assert (account.reversible, account.bad) == (pytest.approx(1.0), pytest.approx(2.0))
    assert len(store.evidence(PAY)) == 3
    assert [event.kind for event in store.events(where)] == ["fell"]


async def test_a_sweep_with_nothing_ripe_does_not_write(store, monkeypatch):
    """A writer stops all others, and a sweep comes every second."""
    world = World(store, grace_s=60.0)
    world.verify()
    await world.book.flush()
    with monkeypatch.context() as during:
        during.setattr(store.database, "writing", None)
        await world.book.sweep()
    world.now += 60_000_000_000
    await world.book.sweep()
    assert len(store.evidence(PAY)) == 1


async def test_time_takes_what_was_signed_for_a_time(store):
    world = World(store)
    account = world.book.account(PAY)
    promote(account, world.now, world.settings, to=3, days=10)
    world.now += 10 * DAY
    assert world.tier() == 1
    await world.settle()
    assert store.events(PAY)[0].cause == "expired"
    assert account.tier == 1


async def test_a_rule_of_policy_may_ask_for_more(store):
    world = World(store)
    world.book._keeps = lambda where, facts: facts["tier"] < 3
    promote(world.book.account(PAY), world.now, world.settings, to=4, days=9)
    await world.settle()
    assert world.tier() == 2
    assert [event.cause for event in store.events(PAY)] == ["policy", "policy"]


async def test_disabled_it_says_and_does_nothing(store):
    world = World(store)
    world.keeper.configured(world.settings, enabled=False)
    assert world.ask(world.call(tool("irreversible"))) == Rank()
    world.verify()
    world.intake.tripped(trip())
    await world.book.flush()
    assert world.book.accounts == {}


def _authority(store: TrustStore) -> int:
    with store.database.reading() as connection:
        return control.authority(connection)


async def test_a_row_of_the_ledger_or_of_its_events_cannot_be_changed(store):
    from sqlalchemy import text
    from sqlalchemy.exc import DBAPIError

    world = World(store)
    world.verify()
    world.intake.tripped(trip())
    await world.settle()
    for statement in (
        "UPDATE trust_evidence SET good = 100", "DELETE FROM trust_evidence", "DELETE FROM trust_events",
        "UPDATE trust_events SET after = 4",
    ):  # fmt: skip
        with pytest.raises(DBAPIError, match="append-only"), store.database.writing() as connection:
            connection.execute(text(statement))
