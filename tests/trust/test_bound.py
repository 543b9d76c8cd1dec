"""The bound is the one an independent implementation gives, and nothing makes it better but good outcomes."""

from __future__ import annotations

from itertools import permutations, product

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import beta

from gateway.trust.account import Account, bound_for, decay, take
from gateway.trust.beta import distribution, lower_bound, needed, quantile
from gateway.trust.settings import DAY
from tests.trust.support import NOW, SETTINGS, row

GOOD = (0, 0.01, 0.5, 1, 3, 10, 57.3, 148, 200, 597, 1500.5, 5000, 20_000)
BAD = (0, 0.01, 0.5, 1, 2, 5, 10, 33.3, 100, 1000, 5000)
counts = st.floats(0, 3000)


@pytest.mark.parametrize(("good", "bad"), list(product(GOOD, BAD)))
def test_it_agrees_with_scipy_to_a_billionth(good, bad):
    assert abs(lower_bound(good, bad) - beta.ppf(0.05, 1 + good, 1 + bad)) < 1e-9


@given(st.floats(0.001, 0.999), st.floats(0.05, 2000), st.floats(0.05, 2000))
def test_so_do_other_quantiles_and_the_distribution(q, a, b):
    x = quantile(q, a, b)
    assert abs(x - beta.ppf(q, a, b)) < 1e-9
    assert abs(distribution(x, a, b) - beta.cdf(x, a, b)) < 1e-9


@pytest.mark.parametrize(
    ("bound", "trials"),
    [(0.95, (58, 92, 123, 207)), (0.98, (148, 235, 312, 522)), (0.99, (298, 472, 627, 1048)),
     (0.995, (597, 946, 1257, 2099))],
)  # fmt: skip
def test_so_many_outcomes_reach_a_bound(bound, trials):
    """With 0, 1, 2 and 5 failures among them."""
    for failures, total in zip((0, 1, 2, 5), trials, strict=True):
        good = needed(bound, failures)
        assert good + failures == total
        assert lower_bound(good, failures) >= bound > lower_bound(good - 1, failures)


@given(counts, counts, st.floats(0.001, 500))
def test_more_failures_never_raise_it_and_more_good_outcomes_never_lower_it(good, bad, more):
    assert lower_bound(good, bad + more) <= lower_bound(good, bad) + 1e-12
    assert lower_bound(good + more, bad) >= lower_bound(good, bad) - 1e-12


@given(counts, st.floats(0, 300), st.lists(st.floats(0, 200), min_size=1, max_size=6))
def test_waiting_never_raises_it_above_what_it_was_or_what_nothing_known_gives(good, bad, days):
    account = Account(tier=2, reversible=good, bad=bad, at_ns=NOW)
    before = bound_for(account, 2, SETTINGS)
    now = NOW
    for each in days:
        now += int(each * DAY)
        decay(account, now, SETTINGS)
        assert bound_for(account, 2, SETTINGS) <= max(before, lower_bound(0, 0)) + 1e-9


def test_good_outcomes_fade_by_half_in_thirty_days_and_failures_in_ninety():
    account = Account(tier=1, reversible=100.0, bad=8.0, at_ns=NOW)
    decay(account, NOW + 30 * DAY, SETTINGS)
    assert account.reversible == pytest.approx(50.0)
    decay(account, NOW + 90 * DAY, SETTINGS)
    assert (account.reversible, account.bad) == (pytest.approx(12.5), pytest.approx(4.0))


def test_outcomes_may_come_in_any_order():
    rows = [row(at_ns=NOW - each * DAY) for each in (0, 3, 11)] + [row("refuted", at_ns=NOW - 5 * DAY)]
    sums = set()
    for order in permutations(rows):
        account = Account(tier=1)
        for each in order:
            take(account, each, NOW, SETTINGS)
        sums.add((round(account.reversible, 9), round(account.bad, 9)))
    assert len(sums) == 1


def test_an_outcome_of_the_future_weighs_no_more_than_one_of_now():
    one, other = Account(tier=1), Account(tier=1)
    take(one, row(at_ns=NOW + 400 * DAY), NOW, SETTINGS)
    take(other, row(at_ns=NOW), NOW, SETTINGS)
    assert one.reversible == other.reversible == 1.0


def test_reads_say_nothing_of_writes_and_easy_writes_nothing_of_hard_ones():
    account = Account(tier=1, at_ns=NOW)
    for _ in range(300):
        take(account, row(risk="read"), NOW, SETTINGS)
    assert bound_for(account, 2, SETTINGS) == pytest.approx(0.05)
    for _ in range(300):
        take(account, row(risk="reversible"), NOW, SETTINGS)
    assert bound_for(account, 2, SETTINGS) > 0.98
    assert bound_for(account, 3, SETTINGS) == pytest.approx(0.05)
    for _ in range(300):
        take(account, row(risk="irreversible"), NOW, SETTINGS)
    assert bound_for(account, 3, SETTINGS) > 0.98


def test_a_failure_of_any_class_counts_against_every_tier():
    account = Account(tier=3, at_ns=NOW, reversible=500.0, irreversible=500.0)
    before = [bound_for(account, tier, SETTINGS) for tier in (2, 3, 4)]
    take(account, row("refuted", risk="read"), NOW, SETTINGS)
    assert all(bound_for(account, tier, SETTINGS) < was for tier, was in zip((2, 3, 4), before, strict=True))
