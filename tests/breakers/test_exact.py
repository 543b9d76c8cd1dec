"""Detectors that count: what they stop, and what they must leave alone."""

from __future__ import annotations

import pytest

from gateway.breakers.event import print_of
from gateway.breakers.settings import Caps
from tests.breakers.support import Life

SAME = {"args": 7, "result": 9}
PAGE = print_of(b"please log in " * 300)  # the same for whatever is asked
NONE = print_of(b"[]")


def test_the_same_call_with_the_same_result_is_stopped_at_the_fifth():
    life = Life()
    assert life.does(times=4, **SAME) == []
    (trip,) = life.does(**SAME)
    assert (trip.detector, trip.after, trip.statistic, trip.threshold) == ("repeat", "open", 5, 5)
    assert trip.sentence == "the same call 5 times in a row, with the same result"
    assert len(trip.calls) == 5
    assert not life.ask().go


def test_the_same_call_with_other_results_is_progress_until_it_is_far_too_often():
    life = Life()
    assert life.does(times=14, args=7) == []
    (trip,) = life.does(args=7)
    assert (trip.detector, trip.after) == ("repeat", "throttled")


def test_declared_polling_is_no_loop():
    life = Life()
    assert life.does(times=100, polling=True, **SAME) == []


def test_eight_of_twenty_the_same_are_a_loop_with_something_between():
    life = Life()
    found = []
    for n in range(20):
        found += life.does(**SAME) if n % 2 else life.does()
    assert [trip.detector for trip in found] == ["repeat"]


def test_other_questions_with_the_same_long_answer_are_no_progress():
    life = Life()
    assert life.does(times=5, result=PAGE) == []
    assert [(trip.detector, trip.after) for trip in life.does(result=PAGE)] == [("no_progress", "open")]


def test_searches_that_find_nothing_are_nothing_unusual_and_very_many_of_them_are_slowed_down():
    life = Life()
    assert life.does(times=19, result=NONE) == []
    (trip,) = life.does(result=NONE)
    assert (trip.detector, trip.after) == ("no_progress", "throttled")
    assert [trip for trip in life.does(times=400, result=NONE) if trip.after == "open"] == []


def test_a_tool_that_mostly_says_no_is_asked_on_without_being_slowed_down_again():
    """Looking up a thousand names, of which a few are listed, is honest work."""
    life = Life()
    found = life.does(times=30, result=NONE)
    assert [trip.after for trip in found] == ["throttled"]
    for _ in range(10):
        life.does(result=PAGE)  # somebody is listed
        life.waits(120)
        assert life.does(times=100, result=NONE) == []
    # What was learned of one tool says nothing of another.
    assert life.ask().stage == "closed"
    assert len(life.does(times=20, tool="u/other", result=NONE)) == 1


def test_going_on_to_ask_without_another_answer_teaches_nothing():
    life = Life()
    for _ in range(5):
        life.does(times=18, result=NONE)
        life.does(tool="u/other")  # not an answer of the tool
    assert len(life.does(times=20, result=NONE)) == 1


def test_writes_that_all_say_ok_are_progress():
    assert Life().does(times=50, result=9, writes=True) == []


@pytest.mark.parametrize("period", [2, 3, 4])
def test_a_cycle_of_two_to_four_calls_is_stopped_in_its_fourth_round(period):
    life = Life()
    found = [
        trip for n in range(period * 4) for trip in life.does(args=n % period + 1, result=n % period + 1)
    ]
    assert [trip.detector for trip in found] == ["cycle"]


def test_of_two_agents_that_undo_each_other_one_is_stopped_and_one_alone_is_not():
    life = Life()
    changes = {"resource": 5, "writes": True, "result": 1}
    found = [
        trip
        for n in range(6)
        for trip in life.does("ann" if n % 2 else "bob", args=n % 2 + 1, tool="git/set", **changes)
    ]
    assert [trip.detector for trip in found] == ["return"]
    alone = Life()
    for n in range(20):
        assert not [t for t in alone.does("ann", args=n % 2 + 1, **changes) if t.detector == "return"]


def test_who_has_put_something_back_only_once_is_not_stopped_for_what_another_did():
    """One who undoes whatever another does cannot have the other stopped by that alone."""
    life = Life()
    changes = {"resource": 5, "writes": True, "result": 1, "tool": "git/set"}
    life.does("mallory", args=1, **changes)
    life.does("ann", args=2, **changes)
    life.does("mallory", args=1, **changes)
    assert life.does("ann", args=2, **changes) == []
    (trip,) = life.does("mallory", args=1, **changes)
    assert (trip.detector, trip.agent) == ("return", "mallory")


def test_five_refusals_in_a_row_ask_for_a_person_and_ten_stop():
    """A model that tries what a remedy names, twice or three times, is not stopped for it."""
    life = Life()
    assert life.does(times=4, what="denied", result=0) == []
    found = life.does(times=6, what="denied", result=0)
    assert [(trip.detector, trip.after) for trip in found if trip.detector == "denied"] == [
        ("denied", "guarded"), ("denied", "open")
    ]  # fmt: skip


def test_a_call_that_goes_through_ends_the_row_and_not_the_total():
    life = Life(enforce_percent={"denials": 0})
    found = []
    for _ in range(25):
        found += life.does(what="denied", result=0) + life.does()
    stops = [t for t in found if not t.observed]
    assert [t.detector for t in stops] == ["denied"]
    assert 20 <= stops[0].statistic < 21


def test_a_session_that_lasts_is_not_stopped_for_a_refusal_now_and_then():
    """Sessions have no end of their own: refusals of weeks must not add up."""
    life = Life(enforce_percent={"denials": 0})
    for _ in range(300):
        assert [t for t in life.does(what="denied", result=0) if not t.observed] == []
        life.does(times=20)


def test_an_agent_that_probes_between_honest_calls_is_stopped():
    """One refusal in eleven calls is no accident, however long it is kept up."""
    life = Life(enforce_percent={"denials": 0})
    stops, refused = [], 0
    while not stops and refused < 500:
        stops = [t for t in life.does(what="denied", result=0) if not t.observed]
        refused += 1
        life.does(times=10)
    assert [(t.detector, t.after) for t in stops] == [("denied", "open")]
    assert refused <= 40


def test_a_cap_opens_until_a_person_resets_it():
    life = Life(session_caps=Caps(calls=10))
    assert life.does(times=10) == []
    (trip,) = life.does()
    assert trip.person
    life.waits(10 * 86_400)
    verdict = life.ask()
    assert (verdict.go, verdict.why, verdict.wait_ns) == (False, "person", 0)
    assert "only an operator can reset it" in verdict.remedy
    assert life.breakers.reset(trip.key, life.now)
    assert life.ask().go


def test_a_canary_is_refused_before_it_is_carried_out_and_needs_a_person():
    life = Life(canaries=("vault/*",))
    asking = life.asking(tool="vault/dump")
    verdict, (trip,) = life.breakers.ask(asking)
    assert not verdict.go
    assert (trip.detector, trip.person) == ("canary", True)
    assert not life.ask(session="another").go


def test_a_session_pushed_out_of_memory_does_not_lose_its_count():
    life = Life(session_caps=Caps(writes=5), max_sessions_of_agent=10)
    life.does(session="first", times=5, writes=True)
    for n in range(20):
        life.does(session=f"s{n}")
    assert [t.detector for t in life.does(session="first", writes=True)] == ["cap"]


def test_a_client_that_opens_thread_after_thread_to_loop_is_stopped_as_a_whole():
    life = Life()
    for n in range(2):
        life.does(thread=f"t{n}", times=5, **SAME)
    assert life.ask(thread="other").go
    life.does(thread="t2", times=5, **SAME)
    assert not life.ask(thread="other").go
    assert life.ask("other bot").go


def test_threads_of_one_session_do_not_trip_each_other():
    life = Life()
    for n in range(40):
        assert life.does(thread=f"t{n % 10}", args=1, result=1) == [] or n >= 39
