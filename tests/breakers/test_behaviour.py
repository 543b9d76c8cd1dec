"""Detectors that estimate: found within bounds on agents they were not set on, quiet on honest ones, hard to poison."""

from __future__ import annotations

import time
from itertools import islice
from random import Random
from uuid import UUID

import msgspec
import pytest

from gateway.breakers.breakers import Breakers, packed
from gateway.breakers.calibrate import fit, peaks
from gateway.breakers.cusum import Cusum, Limits
from gateway.breakers.firsts import Firsts
from gateway.breakers.health import Health
from gateway.breakers.settings import SECOND, STATISTICAL, TAILS, Settings
from gateway.breakers.sizes import Sizes
from tests.breakers.evaluate import HELD_OUT, applies, clean, wrong
from tests.breakers.support import START, Life
from tests.breakers.traffic import ANOMALIES, BENIGN, events

MAY_BE_MISSED = {("assistant", "shuffled order"), ("operator", "shuffled order")}
"""Agents without a habitual order: that another order is no order is beyond this detector."""


@pytest.mark.parametrize("anomaly", ANOMALIES)
@pytest.mark.parametrize("name", BENIGN)
def test_what_goes_wrong_is_noticed(name, anomaly):
    if not applies(name, anomaly) or (name, anomaly) in MAY_BE_MISSED:
        pytest.skip("nothing there to be noticed")
    found = wrong((name, HELD_OUT + 77, anomaly, 1.0))
    assert found["delay"] is not None, found


@pytest.mark.parametrize("name", BENIGN)
def test_an_honest_agent_is_hardly_ever_slowed_down_and_not_stopped(name):
    found = clean((name, HELD_OUT + 78, 1.0, 10_000, 0, ""))
    assert found["open"] == 0
    assert found["first"] <= 2


def test_errors_in_the_first_two_hundred_calls_do_not_become_the_usual():
    life = Life()
    life.does(times=300, what="error")
    for key in list(life.breakers.machines):
        life.breakers.reset(key, life.now)
    behaviour = life.breakers.behaviours["t", "bot", "general"]
    assert behaviour.errors.p <= 0.2


def test_a_baseline_cannot_be_moved_fast_by_keeping_still_below_the_alarm():
    """Ten times as many bytes within a day, in steps that never alarm, is not possible."""
    life = Life()
    amount, found = 100.0, []
    for _ in range(2_000):
        found += life.does(writes=True, bytes_out=int(amount))
    before = life.breakers.behaviours["t", "bot", "general"].bytes.means[0]
    for _ in range(3_000):
        amount *= 1.001
        found += life.does(writes=True, bytes_out=int(amount))
    after = life.breakers.behaviours["t", "bot", "general"].bytes.means[0]
    assert after - before <= 0.2232 + 1e-9
    assert any(trip.detector == "bytes" for trip in found)


def test_an_agent_cannot_raise_its_threshold_beyond_the_prior_by_exciting_it():
    """Excursions that stop just before an alarm count as usual ones, and still lift nothing above the prior."""
    sum_ = Cusum()
    for _ in range(5_000):
        sum_.s = sum_.peak = 50.0
        sum_.add(-60.0, 1, Limits(60.0, 70.0))
    assert sum_.tail(TAILS["errors"], 64).scale <= TAILS["errors"].scale


@pytest.mark.parametrize("jump", [-3600, 86_400 * 400])
def test_a_clock_that_jumps_trips_nothing(jump):
    life = Life()
    found = life.does(times=400)
    life.waits(jump)
    found += life.does(times=400)
    assert found == []


@pytest.mark.parametrize(
    "absurd",
    [
        {"bytes_out": 1 << 70}, {"bytes_out": -5}, {"cost": -(1 << 70)}, {"cost": 1 << 200}, {"depth": 1 << 40},
        {"args": -1}, {"result": 1 << 64}, {"places": tuple(range(100_000))}, {"resource": -7, "writes": True},
        {"tool": "x" * 100_000}, {"tool": ""}, {"domain": "\x00"}, {"at_ns": 0}, {"at_ns": -1}, {"at_ns": 1 << 62},
    ],
)  # fmt: skip
def test_absurd_values_break_nothing_and_stop_nobody_else(absurd):
    """Neither their own event nor the ones after it fail, and another agent's are judged as before."""
    life = Life()
    life.does("other", times=300)
    before = life.breakers.encode("t", "other")
    life.does(times=300)
    for _ in range(30):
        life.breakers.observe(life.event(**absurd))
    life.does(times=30)
    assert life.breakers.encode("t", "other") == before
    assert life.ask("other").stage == "closed"
    assert {key.name for key in life.breakers.machines} <= {"bot"}


def test_events_out_of_order_trip_nothing():
    """Calls end in another order than they began: an honest life, shuffled within a minute."""
    r = Random(3)
    for name in ("coder", "support", "pipeline"):
        breakers = Breakers(Settings())
        lot = list(islice(events(name, HELD_OUT + 79, 1.0), 6_000))
        for start in range(0, len(lot), 40):
            part = lot[start : start + 40]
            times = [event.at_ns for event in part]
            r.shuffle(times)
            for event, at_ns in zip(part, times, strict=True):
                assert breakers.observe(msgspec.structs.replace(event, at_ns=at_ns)) == []


def test_an_agent_that_crafts_its_traffic_trips_no_breaker_but_its_own_and_is_on_record():
    """Whatever one agent does, in every detector at once: keys of others, and what is usual for them, stay."""
    life = Life()
    life.does("victim", times=400)
    before = life.breakers.encode("t", "victim")
    found = []
    for n in range(300):
        found += life.does("mallory", args=n % 2, result=n % 2, what="denied" if n % 3 else "ok")
        found += life.does("mallory", writes=True, bytes_out=10**9, places=(n << 20 | 1,), tool=f"u/t{n}")
    assert found
    assert all(trip.agent == "mallory" and trip.key.name == "mallory" and trip.calls for trip in found)
    assert life.breakers.encode("t", "victim") == before
    assert life.ask("victim").stage == "closed"


def test_the_same_event_again_counts_once():
    life = Life()
    event = life.event(args=7, result=9)
    assert [life.breakers.observe(event) for _ in range(20)] == [[]] * 20


def test_two_estimates_together_stop_what_each_alone_would_slow_down():
    life = Life()
    for n in range(1_000):
        life.does(tool=f"u/t{n % 5}")
    first = []
    while not first:
        first = life.does(what="error", tool="u/t1")
    assert [(trip.detector, trip.after) for trip in first] == [("errors", "guarded")]
    found = []
    for n in range(20):
        found += life.does(places=(n << 20 | 1,), tool=f"u/t{n % 5}")
    (stopped,) = [trip for trip in found if trip.key.scope == "agent"]
    assert stopped.after == "open"
    assert stopped.sentence.endswith("and errors as well")


def test_a_reviewers_word_makes_the_new_habit_the_usual_one():
    life = Life()
    for _ in range(1_500):
        life.does(writes=True, bytes_out=100)
    trips = []
    for n in range(3_000):
        for trip in life.does(writes=True, bytes_out=400):
            trips.append(n)
            life.breakers.reset(trip.key, life.now, false_alarm=True)
    assert 1 <= len(trips) <= 4
    assert max(trips) < 1_000


def test_a_place_is_new_once_and_known_places_are_never_new():
    firsts = Firsts()
    places = [(n << 20 | 1,) for n in range(150)]
    new = [firsts.new(place, START) for place in places]
    assert sum(new) >= 145
    assert not any(firsts.new(place, START) for place in places)
    # Named today and not yesterday, it is still known tomorrow.
    assert not firsts.new(places[149], START + 86_400 * SECOND)


def test_sizes_learn_each_tool_apart():
    sizes = Sizes()
    limits = Limits(1e9, 1e9)
    for n in range(2_000):
        sizes.add(10 if n % 2 else 100_000, n % 2, START, limits, True, 200)
    assert sizes.means[0] - sizes.means[1] > 8
    assert sizes.sum.peak < 5


@pytest.mark.parametrize("name", ["assistant", "support"])
def test_state_is_small_and_does_not_grow(name):
    """2 KB for each agent and domain, and a fraction of it for each session, as they are written down."""
    breakers = Breakers(Settings())
    sizes = []
    for n, event in enumerate(islice(events(name, 5), 20_000)):
        call_id = str(UUID(int=n * 0x9E3779B97F4A7C15F39CC0605CEDC835 % 2**128))  # as calls have them
        event = msgspec.structs.replace(event, call_id=call_id)
        for trip in breakers.observe(event):
            breakers.reset(trip.key, event.at_ns)
        if n % 5_000 == 4_999:
            behaviour = breakers.behaviours["t", name, "general"]
            sizes.append(len(packed(msgspec.msgpack.encode(behaviour))))
            sessions = breakers._owners["t", name].threads.values()
            assert max(len(msgspec.msgpack.encode(each)) for each in sessions) <= 512
    assert max(sizes) <= 2_048
    assert max(sizes) - sizes[0] < 300


def test_detectors_cost_microseconds():
    """A wide bound, because machines differ and are shared; ``make eval-breakers`` measures."""
    breakers = Breakers(Settings())
    lot = list(islice(events("coder", 6), 20_000))
    began = time.process_time()
    for event in lot:
        for trip in breakers.observe(event):
            breakers.reset(trip.key, event.at_ns)
    assert (time.process_time() - began) / len(lot) < 100e-6


def test_calibration_recovers_a_tail_it_is_given():
    r = Random(1)
    found = fit("errors", 100_000, [r.expovariate(1 / 2.0) for _ in range(20_000)])
    assert found is not None
    assert 1.6 < found.middle.scale < 2.4
    assert found.tail.scale > found.middle.scale
    expected = 0.2 * 2.718281828 ** (-15 / 2.0)
    middle, upper = found.false_per_day(15, 1.0)
    assert middle / 6 < expected < upper * 2


def test_replay_of_clean_traffic_gives_peaks_of_every_statistic():
    calls, found = peaks(islice(events("support", 3), 8_000), Settings())
    assert calls == 8_000
    assert set(found) == set(STATISTICAL)
    assert len(found["errors"]) > 10


def test_an_upstream_that_is_down_is_found_and_tool_errors_are_not():
    settings = Settings()
    health = Health()
    assert all(health.observe("u", "ok", "a", 0, START, settings) is None for _ in range(30))
    found = [health.observe("u", "unreached", "a", 0, START, settings) for _ in range(40)]
    assert any(found)


def test_one_agent_cannot_make_an_upstream_look_slow_for_others():
    settings = Settings()
    health = Health()
    for _ in range(5):
        health.observe("u", "ok", "other", 0, START, settings)
    assert not any(health.observe("u", "lost", "mallory", 0, START, settings) for _ in range(44))


def test_an_upstream_that_is_down_stops_calls_to_it_and_to_nothing_else():
    life = Life()
    for _ in range(10):
        life.breakers.health("t", "u", "bot", "unreached", 0, life.now, "call")
    assert not life.ask().go
    assert life.ask(upstream="v", tool="v/look").go
    assert life.ask(tenant="other").go


def test_a_users_own_detector_is_heard_and_taken_out_when_it_breaks():
    from gateway.breakers.event import Alarm

    class Own:
        calls = 0

        def observe(self, event):
            self.calls += 1
            if self.calls == 3:
                return [
                    Alarm(
                        detector="",
                        level=1,
                        statistic=1,
                        threshold=1,
                        since_ns=event.at_ns,
                        sentence="by night",
                    )
                ]
            if self.calls == 5:
                raise ValueError("broken")
            return []

    life = Life()
    life.breakers.detectors["night"] = Own()
    found = life.does(times=10)
    assert [(t.detector, t.after, t.sentence) for t in found] == [("night", "guarded", "by night")]
    assert "broken" in life.breakers.broken["night"]
