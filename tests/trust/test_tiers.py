"""Tiers: slowly earned, by evidence that people then sign; lost at once."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.trust import falls, reach
from gateway.trust.account import Account, changed, held, owe, owed, refresh, take
from gateway.trust.caps import Cap, lasting, of_debt
from gateway.trust.explain import sentence
from gateway.trust.promotion import Standing, standing
from gateway.trust.settings import DAY, HOUR, RISKS, TIERS, Caps, Settings
from gateway.trust.simulate import promote, simulate
from tests.trust.support import NOW, SETTINGS, account_of, row, worked

CAP = Cap(4, "")


def stands(rows, now_ns=NOW, settings=SETTINGS, domain="payments", **state) -> Standing:
    return standing(account_of(rows, now_ns, settings, **state), rows, domain, now_ns, settings)


def about(found: Standing, word: str) -> bool:
    return any(word in each for each in found.missing)


def test_two_weeks_of_verified_work_may_be_signed_for_t2():
    found = stands(worked(14, 15))
    assert (found.tier, found.eligible, found.people) == (2, True, 1)
    assert found.bound >= 0.98


def test_it_must_be_enough_spread_out_and_varied():
    assert about(stands(worked(14, 5)), "verified outcomes")
    assert about(stands(worked(4, 50)), "days")
    assert about(stands(worked(7, 30, session="s")), "sessions")
    assert about(stands(worked(14, 15, template="same")), "one kind of call")


def test_a_rolling_session_counts_once_a_day():
    found = stands(worked(12, 20, session="rolling"))
    assert found.sessions == 12
    assert found.eligible


def test_a_domain_that_is_one_job_may_say_so():
    settings = Settings(template_shares={"payments": 1.0})
    assert stands(worked(14, 15, template="same"), settings=settings).eligible


def test_farming_reads_or_easy_writes_does_not_raise_a_tier():
    assert not stands(worked(60, 50, risk="read")).eligible
    rows = worked(60, 50, risk="reversible")
    found = stands(rows, tier=2)
    assert (found.tier, found.outcomes, found.eligible) == (3, 0, False)


def test_t3_takes_two_people_and_harder_evidence():
    found = stands(worked(20, 25, risk="irreversible"), tier=2)
    assert (found.tier, found.eligible, found.people) == (3, True, 2)


def test_a_trip_debt_or_a_cool_down_is_in_the_way():
    rows = worked(14, 15)
    assert about(stands(rows, tripped_ns=NOW - 13 * DAY), "without a trip")
    assert stands(rows, tripped_ns=NOW - 15 * DAY).eligible
    assert about(stands(rows, debt=4.0, debt_ns=NOW), "debt")
    assert about(stands(rows, calm_ns=NOW + DAY), "cool-down")


def test_a_signature_is_about_exactly_this_evidence():
    rows = worked(14, 15)
    assert stands(rows).digest == stands(list(reversed(rows))).digest
    assert stands(rows).digest != stands(rows[:-1]).digest
    assert stands(rows).digest != stands(rows, bad=1.0, at_ns=NOW).digest


def test_t1_is_entered_by_a_signature_after_the_cool_down():
    assert not stands([], tier=0, calm_ns=NOW + DAY).eligible
    assert stands([], tier=0, calm_ns=NOW - DAY).eligible


# ------------------------------------------------------------------------------------------------- falls


def test_an_incident_takes_everything_in_its_domain_and_one_tier_elsewhere():
    account = Account(tier=4, at_ns=NOW, irreversible=900.0, until_ns=NOW + DAY)
    assert falls.struck(account, "incident", NOW, SETTINGS) == falls.Fall(4, 0, "incident")
    assert (account.tier, account.irreversible, account.until_ns) == (0, 0.0, 0)
    other = Account(tier=3, at_ns=NOW, irreversible=900.0)
    assert falls.elsewhere(other, NOW, SETTINGS) == falls.Fall(3, 2, "elsewhere")
    assert falls.elsewhere(Account(tier=1), NOW, SETTINGS) is None


def test_a_trip_leaves_proposing_and_a_second_one_leaves_looking():
    account = Account(tier=3)
    assert falls.struck(account, "trip", NOW, SETTINGS).after == 1
    assert falls.struck(account, "trip", NOW, SETTINGS).after == 0
    assert falls.struck(account, "trip", NOW, SETTINGS).after == 0


def test_the_cool_down_doubles_with_each_fall_and_has_an_end():
    account, waits = Account(tier=2), []
    for number in range(9):
        now = NOW + number * 10_000 * DAY
        account.tier = 2
        falls.struck(account, "trip", now, SETTINGS)
        waits.append((account.calm_ns - now) // DAY)
    assert waits == [14, 28, 56, 112, 224, 448, 896, 896, 896]


def test_to_pardon_a_false_trip_does_not_pardon_the_incident_before_it():
    account = Account(tier=3, at_ns=NOW, irreversible=400.0)
    incident, later = row("incident"), NOW + HOUR
    tripped = row("tripped", at_ns=later, ref="trip:false")
    falls.struck(account, "incident", NOW, SETTINGS)
    take(account, incident, NOW, SETTINGS)
    alone = msgspec.structs.replace(account)
    falls.struck(account, "trip", later, SETTINGS)
    take(account, tripped, later, SETTINGS)
    then = later + 5 * HOUR
    falls.pardoned(account, [incident, tripped], "trip:false", NOW, then, SETTINGS)
    assert (account.falls, account.calm_ns, account.fresh_ns) == (1, alone.calm_ns, NOW)
    assert owed(account, then, SETTINGS) == pytest.approx(owed(alone, then, SETTINGS)) != 0
    missing = " ".join(standing(account, [], "payments", then, SETTINGS).missing)
    assert "cool-down" in missing and "debt" in missing
    falls.pardoned(account, [incident, tripped], incident.ref, 0, then, SETTINGS)
    assert (account.falls, account.calm_ns, account.tripped_ns) == (0, 0, 0)


def test_after_a_fall_only_fresh_evidence_counts():
    rows = worked(14, 15)
    account = account_of(rows, tier=2)
    falls.struck(account, "trip", NOW, SETTINGS)
    later = NOW + 40 * DAY
    assert standing(account, rows, "payments", later, SETTINGS).outcomes == 0
    take(account, row(at_ns=NOW - DAY), later, SETTINGS)  # was only now found to be good
    assert account.reversible == 0.0
    again = worked(14, 15, until_ns=later)
    for each in again:
        take(account, each, each.at_ns, SETTINGS)
    found = standing(account, rows + again, "payments", later, SETTINGS)
    assert (found.outcomes, found.eligible) == (210, True)


def test_failures_lower_a_tier_when_the_bound_no_longer_holds():
    account = account_of(worked(14, 15), tier=2)
    assert falls.judged(account, NOW, SETTINGS, failed=True) is None
    for number in range(12):  # noqa: B007
        take(account, row("refuted", at_ns=NOW), NOW, SETTINGS)
        fell = falls.judged(account, NOW, SETTINGS, failed=True)
        if fell is not None:
            break
    assert fell == falls.Fall(2, 1, "failures")
    assert 0 < number < 8
    assert account.calm_ns == NOW + 14 * DAY


def test_an_agent_that_does_nothing_fades_without_a_cool_down():
    account = account_of(worked(20, 25, risk="irreversible"), tier=3, until_ns=NOW + 900 * DAY)
    later = NOW + 48 * DAY
    assert falls.judged(account, later, SETTINGS, failed=False) == falls.Fall(3, 2, "faded")
    assert account.calm_ns == 0


def test_a_promotion_ends_after_its_days_on_the_second():
    account = account_of(worked(14, 15))
    promote(account, NOW, SETTINGS)
    assert account.until_ns == NOW + 90 * DAY
    assert held(account, account.until_ns - 1, SETTINGS) == 2
    assert held(account, account.until_ns, SETTINGS) == 1  # whoever has not swept yet
    assert falls.judged(account, account.until_ns, SETTINGS, failed=False) == falls.Fall(2, 1, "expired")


def test_what_was_proven_elsewhere_holds_without_evidence_but_not_against_failures():
    account = Account(tier=1)
    promote(account, NOW, SETTINGS, to=3, days=30)
    assert falls.judged(account, NOW + 29 * DAY, SETTINGS, failed=False) is None
    take(account, row("refuted", at_ns=NOW), NOW, SETTINGS)
    assert falls.judged(account, NOW, SETTINGS, failed=True) is None
    take(account, row("refuted", at_ns=NOW), NOW, SETTINGS)
    assert falls.judged(account, NOW, SETTINGS, failed=True) == falls.Fall(3, 1, "failures")
    again = Account(tier=1)
    promote(again, NOW, SETTINGS, to=3, days=30)
    assert falls.judged(again, NOW + 30 * DAY, SETTINGS, failed=False) == falls.Fall(3, 1, "expired")


outcomes = st.lists(
    st.tuples(st.sampled_from(["verified", "refuted", "denied", "tripped", "incident", "edited"]),
              st.integers(0, 20 * DAY), st.sampled_from(RISKS)),
    max_size=60,
)  # fmt: skip


@given(outcomes, st.integers(0, 4))
def test_a_fall_is_never_late_and_no_outcome_ever_raises_a_tier(events, tier):
    account = Account(tier=tier, irreversible=900.0, at_ns=NOW, until_ns=NOW + 9000 * DAY)
    now = NOW
    for outcome, wait, risk in events:
        now += wait
        before = held(account, now, SETTINGS)
        take(account, row(outcome, at_ns=now, risk=risk), now, SETTINGS)
        if outcome in ("incident", "tripped"):
            falls.struck(account, "incident" if outcome == "incident" else "trip", now, SETTINGS)
            assert held(account, now, SETTINGS) <= (0 if outcome == "incident" else 1)
        else:
            falls.judged(account, now, SETTINGS, failed=True)
        after = held(account, now, SETTINGS)
        assert after <= before
        # What is held is what the bound still carries.
        if after > 1:
            assert refresh(account, now, SETTINGS) >= TIERS[after].hold


# ------------------------------------------------------------------------------------ versions, caps, debt


def test_a_changed_agent_loses_half_and_is_capped_until_it_has_shown_itself():
    account = account_of(worked(20, 20, build="one"), tier=3, build="one")
    before = account.reversible
    changed(account, "two", SETTINGS)
    assert account.reversible == pytest.approx(before / 2)
    assert account.reprove == 50
    for _ in range(49):
        take(account, row(build="two", at_ns=NOW), NOW, SETTINGS)
    take(account, row(build="one", at_ns=NOW), NOW, SETTINGS)  # of the version before: proves nothing
    assert account.reprove == 1
    take(account, row(build="two", at_ns=NOW), NOW, SETTINGS)
    assert account.reprove == 0


def test_saying_for_the_first_time_what_an_agent_is_costs_nothing():
    account = account_of(worked(14, 15))
    before = account.reversible
    changed(account, "one", SETTINGS)
    assert (account.reversible, account.reprove, account.build) == (before, 0, "one")


def test_the_least_of_all_caps_holds():
    settings = Settings(owners=("team-a",), caps=Caps(environments={"production": 3}))
    assert lasting("config", "team-a", "test", settings) == Cap(4, "")
    assert lasting("config", "team-a", "production", settings) == Cap(3, "environment")
    assert lasting("", "team-a", "production", settings) == Cap(2, "unattested")
    assert lasting("", "team-b", "production", settings) == Cap(1, "owner")
    assert lasting("conflict", "team-b", "production", settings) == Cap(0, "conflict")
    assert lasting("credential", "anybody", "test", SETTINGS) == Cap(4, "")


def test_debt_is_short_and_apart_from_evidence():
    account = Account(tier=3, irreversible=900.0, at_ns=NOW)
    for _ in range(4):
        take(account, row("denied", at_ns=NOW), NOW, SETTINGS)
    assert owed(account, NOW, SETTINGS) == pytest.approx(2.0)
    assert of_debt(2.0, SETTINGS).name == ""
    owe(account, 2.0, NOW, SETTINGS)
    assert [of_debt(each, SETTINGS).tier for each in (3, 6, 10)] == [2, 1, 0]
    assert owed(account, NOW + 14 * HOUR, SETTINGS) == pytest.approx(4.0 * 0.95**14)
    assert owed(account, NOW + 400 * HOUR, SETTINGS) == 0.0
    assert account.irreversible == 900.0


# ------------------------------------------------------------------------------------------------- reach


def test_the_defaults_can_be_reached_and_say_by_how_much_work():
    assert list(reach.faults(SETTINGS)) == []
    said = {need.tier: (need.outcomes, round(need.per_day, 1)) for need in reach.needs(SETTINGS)}
    assert said == {2: (148, 3.4), 3: (298, 6.9), 4: (597, 13.8)}


@given(st.integers(1, 200), st.floats(2, 200))
def test_what_is_said_to_be_needed_a_day_is_what_reaches_it(per_day, half_life):
    settings = Settings(per_day=per_day, half_life_good_days=half_life, half_life_bad_days=400)
    for need in reach.needs(settings):
        unreachable = any(
            fault.startswith(f"T{need.tier} asks for a bound") for fault in reach.faults(settings)
        )
        assert unreachable == (reach.limit(per_day, settings) < _sum(need.bound))


def with_tier(number: int, **changes) -> Settings:
    tiers = list(TIERS)
    tiers[number] = msgspec.structs.replace(tiers[number], **changes)
    return Settings(tiers=tuple(tiers))


def _sum(bound: float) -> float:
    from math import log

    return log(0.05) / log(bound) - 1


@pytest.mark.parametrize(
    ("settings", "word"),
    [
        (Settings(per_day=2), "never exceed"),
        (Settings(half_life_good_days=1.0, per_day=10), "never exceed"),
        (with_tier(2, hold=0.99), "lost when"),
        (with_tier(3, enter=0.9, hold=0.5), "less than"),
        (with_tier(3, unattended=("read",)), "takes away"),
        (with_tier(4, budget_share=0.1), "less of the budget"),
        (Settings(half_life_bad_days=10), "forgotten sooner"),
        (Settings(signed_days=3), "would end"),
    ],
)  # fmt: skip
def test_parameters_that_cannot_work_are_found(settings, word):
    assert any(word in each for each in reach.faults(settings))


# ----------------------------------------------------------------------------------------------- in words


def test_one_sentence_says_where_an_agent_stands():
    rows = worked(11, 19, risk="irreversible", build="b")[:200]
    settings = Settings(half_life_good_days=1e6, half_life_bad_days=1e6, template_share=1.0, per_day=10_000)
    account = account_of(rows, settings=settings, tier=2, build="b")
    refresh(account, NOW, settings)
    next_ = standing(account, rows, "payments", NOW, settings)
    said = sentence(account, next_, CAP, NOW, settings)
    assert said == (
        "T2 (reversible writes). 200 verified, 0 failures: bound .985. For T3: 98 more, signatures of two."
    )
    held_down = sentence(account, next_, Cap(1, "owner"), NOW, settings)
    assert held_down.endswith("Held at T1: its owner is not vouched for.")


def test_the_same_outcomes_under_other_parameters():
    rows = worked(30, 15)
    assert simulate(rows, "payments", SETTINGS).tier == 2
    strict = Settings(half_life_good_days=5.0, per_day=1000)
    assert simulate(rows, "payments", strict).highest == 1
    with_incident = [*rows, row("incident", at_ns=NOW)]
    found = simulate(with_incident, "payments", SETTINGS)
    assert (found.highest, found.tier) == (2, 0)
    assert [point.event for point in found.points if point.event] == ["T2 signed", "T2 to T0: incident"]
    assert simulate([], "payments", SETTINGS).tier == 1
