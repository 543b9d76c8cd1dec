"""How people review: what is measured, what raises an alarm, the bound of an hour, and canaries."""

from __future__ import annotations

import json

import msgspec
import pytest
from sqlalchemy import func, select

from gateway.approvals import attention, fatigue, grants
from gateway.approvals.attention import Attention
from gateway.approvals.claim import Claim
from gateway.approvals.claim import claim as take
from gateway.approvals.fatigue import Review, Settings, busiest
from gateway.approvals.store import Store
from gateway.approvals.values import Blocked
from gateway.model import Facts, Manifest, Tool
from gateway.storage.tables import records
from tests.approvals.support import Now, opening, people, reviewer, seen, store_at

S = 1_000_000_000
RULE = json.dumps([{"code": "too_much", "message": "m", "rule": "payments.limit"}])
T1 = json.dumps({"slow": {"trust": {"tier": "T1"}}})


@pytest.fixture
def now():
    return Now()


@pytest.fixture
def store(tmp_path, now):
    made = store_at(tmp_path / "w.db", now, max_pending_per_agent=1000)
    people(made.database, "ann", "bob", "cat:operator", "ann.miller")
    made.settings = msgspec.structs.replace(made.settings, aliases={"ann": ("ann.miller",)})
    yield made
    made.database.close()


def held(store, number, **more):
    return store.open(
        opening(
            asked_digest=f"d{number}", digest=f"d{number}", **{"reasons_json": RULE, **more}
        )
    ).approval  # fmt: skip


def decide(store, approval, name="ann", decision="approve", **more):
    return store.vote(approval.id, reviewer(name), decision, seen(approval), reason_code="other", **more)


def measures(store):
    return store.measures("default")[0]


def line(lines, name):
    return next(each for each in lines if each.name == name)


def reviews(number, *, took_ms=60_000, decision="approve", kind="normal", every_s=120, start=0):
    return [
        Review(
            approval_id=f"{kind}{start + n}", principal="ann", at_ns=(start + n) * every_s * S,
            decision=decision, took_ms=took_ms, kind=kind, rules=("r",),
        )
        for n in range(number)
    ]  # fmt: skip


def summed(found, settings=None):
    later = max(each.at_ns for each in found) + 10_000 * S
    return fatigue.summed(found, (), settings or Settings(), now_ns=later, since_ns=0)


# ------------------------------------------------------------------------------------------------ measures


def test_approval_rate_and_times_are_of_the_person_and_of_the_rule():
    found = [*reviews(3, took_ms=2_000), *reviews(1, took_ms=9_000, start=3)]
    found += reviews(1, decision="reject", took_ms=1, start=4)
    summary = summed(found)
    for lines, name in ((summary.reviewers, "ann"), (summary.rules, "r")):
        normal = line(lines, name).normal
        assert (normal.decided, normal.approved, normal.rate) == (5, 4, 0.8)
        assert (normal.median_s, normal.least_s, normal.under_3s) == (2.0, 2.0, 0.75)


@pytest.mark.parametrize(
    ("at_s", "most"), [([], 0), ([0], 1), ([0, 600, 601], 2), ([0, 1, 2, 700, 701], 3), ([0, 600], 2)]
)
def test_a_burst_is_the_most_within_any_ten_minutes(at_s, most):
    assert busiest([each * S for each in at_s]) == most


@pytest.mark.parametrize(
    ("approved", "rejected", "alarm"),
    [(49, 0, False), (50, 0, True), (97, 3, False), (98, 2, True), (48, 2, False)],
)
def test_nearly_everything_approved_raises_an_alarm_only_over_fifty(approved, rejected, alarm):
    found = reviews(approved) + reviews(rejected, decision="reject", start=approved)
    assert ("all_approved" in line(summed(found).rules, "r").alarms) is alarm


@pytest.mark.parametrize(
    ("took_ms", "number", "alarm"), [(3_900, 10, True), (4_000, 10, False), (1, 9, False)]
)
def test_a_median_below_four_seconds_raises_an_alarm(took_ms, number, alarm):
    assert ("too_fast" in line(summed(reviews(number, took_ms=took_ms)).rules, "r").alarms) is alarm


def test_reviews_of_agents_that_earn_trust_raise_no_alarm_and_are_measured_apart():
    found = summed(reviews(200, took_ms=500, kind="earning"))
    ann = line(found.reviewers, "ann")
    assert ann.alarms == () and line(found.rules, "r").alarms == ()
    assert ann.normal.decided == 0 and ann.earning.decided == 200 and ann.earning.median_s == 0.5


# --------------------------------------------------------------------------------------------- what is stored


def test_the_time_of_a_decision_begins_with_the_opening_the_look_or_the_decision_before(store, now):
    first, second, third = (held(store, n) for n in range(3))
    now.pass_s(100)
    decide(store, first)  # 100 s since it was opened
    now.pass_s(2)
    decide(store, second)  # 2 s since the decision before
    now.pass_s(50)
    decide(store, third, seen=Attention(looked_ns=now.ns - 5 * S))
    normal = line(measures(store).reviewers, "ann").normal
    assert (normal.least_s, normal.median_s) == (2.0, 5.0)


def test_several_in_one_step_share_its_time(store, now):
    held_calls = [held(store, n) for n in range(10)]
    now.pass_s(20)
    step = Attention(since_ns=store.last_decision("default", "ann"), share=10)
    for each in held_calls:
        decide(store, each, seen=step)
    assert line(measures(store).rules, "payments.limit").normal.median_s == 2.0


def test_a_clock_that_was_set_back_makes_no_time_negative(store, now):
    first, second = held(store, 1), held(store, 2)
    now.pass_s(50)
    decide(store, first)
    now.pass_s(-500)
    decide(store, second)
    assert line(measures(store).reviewers, "ann").normal.least_s == 0.0


def test_a_vote_delivered_twice_is_measured_once(store):
    found, heard = held(store, 1), []
    for _ in range(2):
        store.vote(found.id, reviewer("ann"), "approve", seen(found), measured=heard.append)
    assert len(heard) == 1 and measures(store).reviews == 1


def test_measures_survive_a_restart(store, now, tmp_path):
    for number in range(3):
        now.pass_s(60)
        decide(store, held(store, number))
    before = measures(store)
    again = Store(store.database, store._key, store.settings, clock=now)
    assert again.measures("default")[0] == before and before.reviews == 3


def test_what_is_older_than_the_window_is_not_measured(store, now):
    decide(store, held(store, 1))
    now.pass_s(31 * 86_400)
    assert measures(store).reviews == 0


def test_another_tenant_is_not_measured(store):
    decide(store, held(store, 1))
    assert store.measures("other")[0].reviews == 0


def test_an_incident_counts_for_who_approved_and_for_the_rule(store, now):
    found = approved_and_taken(store, held(store, 1))
    with pytest.raises(Blocked) as blocked:
        store.incident(found.id, reviewer("bob"), "e" * 64, "another call")
    assert blocked.value.code == "approval_stale"
    waiting = held(store, 2)
    with pytest.raises(Blocked) as blocked:
        store.incident(waiting.id, reviewer("bob"), waiting.digest, "was not carried out")
    assert blocked.value.code == "approval_closed"
    for _ in range(2):
        store.incident(found.id, reviewer("bob"), found.digest, "the IBAN was the old one")
    summary = measures(store)
    assert line(summary.reviewers, "ann").normal.incidents == 1
    assert line(summary.rules, "payments.limit").normal.incidents == 1


def approved_and_taken(store, approval):
    decide(store, approval)
    ticket = store.ticket(approval.id)
    wanted = Claim(
        ticket=ticket, call_id=f"c-{approval.id}", digest=approval.digest, policy_revision="r1",
        decided_at=0, send_by=5,
    )  # fmt: skip
    with store.database.writing() as connection:
        take(store, connection, wanted, monotonic=0, policy_revision="r1", send_s=5)
    return store.show(approval.id, "default").approval


def test_the_share_that_goes_on_without_a_person_is_counted_from_the_journal(store, now):
    with store.database.writing() as connection:
        for number, (risk, action) in enumerate(
            [("irreversible", "allow")] * 3 + [("read", "allow")] * 5 + [("irreversible", "block")]
        ):
            connection.execute(
                records.insert().values(
                    call_id=f"x{number}", phase="intent", at_ns=now.ns, tenant="default", risk=risk,
                    action=action,
                )
            )  # fmt: skip
    approved_and_taken(store, held(store, 1))
    with store.database.writing() as connection:
        connection.execute(
            records.insert().values(
                call_id="mine", phase="intent", at_ns=now.ns, tenant="default", risk="irreversible",
                action="allow",
            )
        )  # fmt: skip
    found = store.measures("default")[1]
    assert (found.calls, found.by_person, found.by_grant, found.share) == (4, 1, 0, 0.75)


# ------------------------------------------------------------------------------------------- the bound


def test_after_thirty_in_an_hour_one_person_approves_no_more_until_it_has_passed(store, now):
    for number in range(30):
        now.pass_s(60)
        decide(store, held(store, number), decision="approve" if number % 2 else "reject")
    late = held(store, 99)
    with pytest.raises(Blocked) as blocked:
        decide(store, late)
    assert blocked.value.code == "review_cap" and "30 within the hour" in blocked.value.detail
    assert blocked.value.approval.state == "pending"
    with pytest.raises(Blocked):  # under no other name either
        decide(store, late, "ann.miller")
    assert line(measures(store).reviewers, "ann").capped
    assert decide(store, held(store, 98), decision="reject").state == "rejected"  # a no is always welcome
    assert decide(store, held(store, 97), "bob").state == "approved"  # somebody else has eyes left
    now.pass_s(1920)
    last = held(store, 96)
    assert decide(store, last).state == "approved"


def test_agents_that_earn_trust_have_a_bound_of_their_own(store):
    store.settings = msgspec.structs.replace(store.settings, fatigue=Settings(per_hour=2, earning_per_hour=3))
    for number in range(3):
        decide(store, held(store, number, facts_json=T1))
    with pytest.raises(Blocked):
        decide(store, held(store, 10, facts_json=T1))
    for number in range(20, 22):
        decide(store, held(store, number))
    with pytest.raises(Blocked):
        decide(store, held(store, 30))


# ---------------------------------------------------------------------------------------------- canaries


def test_who_approves_a_canary_is_counted_and_nothing_is_ever_carried_out(store, now):
    source = held(store, 1)
    canary = store.plant(source.id, reviewer("cat", "operator"), b'{"amount":5000000}', "a thousand times")
    assert canary.state == "pending" and canary.call_id != source.call_id
    assert canary in store.list("default", states=["pending"]) and store.counts() == {"pending": 1}
    told = decide(store, canary)
    assert (told.state, told.reason_code) == ("cancelled", "canary")
    assert store.ticket(canary.id) is None
    ann = line(measures(store).reviewers, "ann")
    assert (ann.canaries, ann.canaries_approved, ann.alarms) == (1, 1, ("canary_approved",))
    assert ann.normal.decided == 0
    with store.database.reading() as connection:
        assert connection.execute(select(func.count()).select_from(records)).scalar() == 0


def test_who_rejects_a_canary_has_looked(store):
    canary = store.plant(held(store, 1).id, reviewer("cat", "operator"), b'{"amount":9}', "why")
    assert decide(store, canary, decision="reject").state == "rejected"
    ann = line(measures(store).reviewers, "ann")
    assert (ann.canaries, ann.canaries_approved, ann.alarms) == (1, 0, ())


def test_the_claim_refuses_a_canary_even_if_its_row_is_made_to_look_approved(store, now):
    canary = store.plant(held(store, 1).id, reviewer("cat", "operator"), b'{"amount":9}', "why")
    source = decide(store, held(store, 2))
    ticket = msgspec.structs.replace(
        store.ticket(source.id), approval=msgspec.structs.replace(source, id=canary.id, version=1)
    )
    wanted = Claim(
        ticket=ticket, call_id="c", digest=canary.digest, policy_revision="r1", decided_at=0, send_by=5
    )
    with pytest.raises(Blocked) as blocked, store.database.writing() as connection:
        take(store, connection, wanted, monotonic=0, policy_revision="r1", send_s=5)
    assert blocked.value.code == "approval_closed"


def test_a_canary_gives_no_grant_and_an_edit_of_it_ends_it(store):
    canary = store.plant(held(store, 1).id, reviewer("cat", "operator"), b'{"amount":9}', "why")
    tool = Tool(
        kind="tool", upstream="bank", name="pay", target=canary.target, schema_hash=canary.schema_hash,
        manifest=Manifest(risk="reversible"),
    )  # fmt: skip
    low = msgspec.structs.replace(canary, risk="reversible")
    with pytest.raises(Blocked) as blocked, store.database.writing() as connection:
        grants.make(
            connection, 1, low, reviewer("ann"), grants.Wanted(fields=(), minutes=5, uses=3), {"amount": 9},
            tool, Facts(), "r1",
        )  # fmt: skip
    assert blocked.value.code == "grant_refused"
    edited = store.edit(canary.id, reviewer("ann"), seen(canary), opening(digest="e" * 64, editors=("ann",)))
    assert (edited.id, edited.state, edited.reason_code) == (canary.id, "cancelled", "canary")


def test_who_made_a_canary_does_not_decide_about_it_and_there_are_few_at_once(store):
    cat = reviewer("cat", "operator")
    source = held(store, 1)
    canary = store.plant(source.id, cat, b'{"amount":9}', "why")
    with pytest.raises(Blocked) as blocked:
        decide(store, canary, "cat")
    assert blocked.value.code == "self_approval"
    for _ in range(9):
        store.plant(source.id, cat, b'{"amount":9}', "why")
    with pytest.raises(Blocked) as blocked:
        store.plant(source.id, cat, b'{"amount":9}', "why")
    assert blocked.value.code == "approvals_full"


@pytest.mark.parametrize(("maker", "voter"), [("ann", "ann.miller"), ("ann.miller", "ann")])
def test_who_made_a_canary_does_not_decide_about_it_under_another_name(store, maker, voter):
    canary = store.plant(held(store, 1).id, reviewer(maker, "operator"), b'{"amount":9}', "why")
    with pytest.raises(Blocked) as blocked:
        decide(store, canary, voter)
    assert blocked.value.code == "self_approval"
    decide(store, canary, "bob")


def test_a_canary_cannot_be_told_by_the_bound_it_counts_like_any_other(store):
    store.settings = msgspec.structs.replace(store.settings, fatigue=Settings(per_hour=2))
    source = held(store, 1)
    for _ in range(2):
        decide(
            store,
            store.plant(source.id, reviewer("cat", "operator"), b'{"amount":9}', "w"),
            decision="reject",
        )
    with pytest.raises(Blocked):
        decide(store, source)


def test_what_a_tier_is_written_as_does_not_matter_and_nonsense_is_normal(store):
    for facts, kind in (
        (T1, "earning"), ('{"fast":{"trust":{"tier":"T1"}}}', "earning"), ("{}", "normal"),
        ('{"slow":{"trust":{"tier":"T2"}}}', "normal"), ('{"slow":{"trust":7}}', "normal"),
    ):  # fmt: skip
        found = msgspec.structs.replace(held(store, 1), facts_json=facts)
        assert attention.kind_of(found) == kind
