"""A sliding sum never forgets too early, forgets one bucket later at most, and stays small."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.sessions.window import FULL, Hour, Window

S = 1_000_000_000
steps = st.lists(st.tuples(st.integers(0, 90 * S), st.integers(0, 1000)), max_size=80)


@given(steps, st.integers(1, 3600 * S))
def test_an_amount_counts_for_the_window_and_at_most_one_bucket_longer(
    added: list[tuple[int, int]], window_ns: int
) -> None:
    window, at, history = Window(window_ns), 0, []
    for passed, amount in added:
        at += passed
        window.add(amount, at)
        history.append((at, amount))
        width = window.width_ns
        exact = sum(n for when, n in history if at // width - when // width <= 60)
        assert window.sum_at(at) == exact
        assert exact >= sum(n for when, n in history if at - when <= window_ns)
        assert exact <= sum(n for when, n in history if at - when < window_ns + width + 60)
        assert window.total == sum(n for _, n in history)
        assert len(window.closed) <= 2 * 61


@given(steps, st.lists(st.integers(-3600 * S, 0), min_size=80, max_size=80))
def test_a_clock_that_goes_back_changes_nothing(added: list[tuple[int, int]], back: list[int]) -> None:
    honest, shaken, at = Window(60 * S), Window(60 * S), 10**15
    for (passed, amount), jump in zip(added, back, strict=False):
        at += passed
        assert honest.sum_at(at) == shaken.sum_at(at)
        honest.add(amount, at)
        shaken.add(amount, at + jump)
        assert honest.sum_at(at) == shaken.sum_at(at + jump) == shaken.sum_at(at)


def test_the_last_five_minutes_are_known_beside_the_hour() -> None:
    hour = Hour()
    hour.add(7, 0)
    hour.add(5, 60 * S)
    hour.add(3, 360 * S)
    assert hour.before + hour.open == 8
    hour.advance(420 * S)
    assert (hour.before + hour.open, hour.sum) == (3, 15)
    hour.advance(3700 * S)
    assert (hour.before + hour.open, hour.sum, hour.total) == (0, 8, 15)


def test_a_shorter_window_takes_over_what_is_in_it_and_the_total() -> None:
    window = Window(3600 * S)
    window.add(10, 0)
    window.add(4, 3000 * S)
    shorter = window.resized(600 * S)
    assert shorter.sum_at(3000 * S) == 4
    assert shorter.total == 14


@given(steps, st.integers(1, 7200), st.integers(1, 7200))
def test_another_length_never_forgets_what_both_lengths_hold(
    added: list[tuple[int, int]], first: int, second: int
) -> None:
    window, at, history = Window(first * S), 0, []
    for passed, amount in added:
        at += passed
        window.add(amount, at)
        history.append((at, amount))
    new = window.resized(second * S)
    assert new.sum_at(at) >= sum(n for when, n in history if at - when <= min(first, second) * S)
    assert new.total == window.total


def test_a_window_beyond_counting_stays_full_for_ever() -> None:
    window = Window(60 * S)
    for _ in range(600):
        window.add(2**53, 0)
    assert window.sum_at(10**18) == window.total == FULL
    again = Window(60 * S)
    again.restore(window.encode())
    assert again.sum_at(10**18) == FULL
    assert window.resized(30 * S).sum_at(10**18) == FULL


def test_a_window_that_was_filled_bit_by_bit_stays_full_too() -> None:
    window, at = Window(60 * S), 0
    for _ in range(520):
        window.add(2**53, at)
        at += 120 * S
    assert window.sum_at(at) == window.sum_at(at + 10**15) == FULL


@pytest.mark.parametrize("window_ns", [0, -1])
def test_a_window_of_nothing_is_refused(window_ns: int) -> None:
    with pytest.raises(ValueError, match="longer than nothing"):
        Window(window_ns)
