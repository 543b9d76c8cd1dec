"""The one-sided CUSUM (Page, 1954) all statistical detectors are made of, and its thresholds."""

from __future__ import annotations

from math import exp, log, sqrt
from typing import Final, Literal

import msgspec

from gateway.breakers.settings import DAY, Settings, Tail

LEARNS: Final = 1 / 2000
"""Weight of one call in a baseline: an attacker has to keep still for thousands of calls to move it."""

DRIFT: Final = 1.25
"""A baseline moves by at most this factor a day."""

PEAK: Final = 2.0
_PRIOR_PEAKS: Final = 10
_PRIOR_CALLS: Final = 1000
_REMEMBERED: Final = 10_000

_LEAST_DAY: Final = log(1_000)
_MOST_DAY: Final = log(100 * 86_400)


class Limits(msgspec.Struct, array_like=True):
    """Two thresholds of one detector, for the pace of one agent."""

    first: float
    stop: float


def limits(tail: Tail, settings: Settings, detectors: int, log_day: float) -> Limits:
    """Thresholds that give each detector its equal share of the false alarms of a day.

    ``log_day`` is the logarithm of the calls this agent makes in a day at its own pace: the same share of
    false alarms a call would be a thousand times more alarms a day for a fast agent. A pace beyond
    100 calls/s, or below 1,000 a day, counts as that.
    """
    log_day = min(max(log_day, _LEAST_DAY), _MOST_DAY)
    base = log(tail.rate) + log_day + log(detectors)
    return Limits(
        max(2.0, tail.scale * (base - log(settings.false_first))),
        max(3.0, tail.scale * (base - log(settings.false_open))),
    )


class Cusum(msgspec.Struct, array_like=True):
    """``s = max(0, s + x)``; says when it passes a threshold for the first time of an excursion.

    It also learns how heavy the tail of its own peaks is for this agent, by peaks over a threshold: errors of
    one agent come alone, those of another in a row, and one threshold for both would be slow for the first or
    false for the second.
    """

    s: float = 0.0
    since_ns: int = 0  # when it last left zero
    said: int = 0  # the level already raised in this excursion
    peak: float = 0.0  # of this excursion
    peaks: int = 0  # excursions beyond ``PEAK`` that ended without an alarm
    excess: float = 0.0  # the sum of what was beyond
    calls: int = 0  # over which they were counted
    squares: float = 0.0  # the sum of its squares
    most: float = 0.0  # the highest of these peaks

    def add(self, x: float, at_ns: int, limits: Limits) -> Literal[0, 1, 2]:
        s = self.s
        if s == 0.0:
            if x <= 0.0:
                return 0
            self.since_ns = at_ns
        s += x
        if s <= 0.0:
            if self.peak > PEAK and self.said == 0:
                self._count()
            self.s, self.said, self.peak = 0.0, 0, 0.0
            return 0
        if s > self.peak:
            self.peak = s
        if s < limits.first:
            self.s = s
            return 0
        if s >= limits.stop:
            self.s = limits.stop  # what lies beyond would only make it slower to calm down
            if self.said < 2:
                self.said = 2
                return 2
            return 0
        self.s = s
        if self.said < 1:
            self.said = 1
            return 1
        return 0

    def tail(self, prior: Tail, calls: int) -> Tail:
        """This agent's own tail, from the prior and what was seen over ``calls`` more calls.

        Never a longer one than the prior's, which is that of the most unruly agents known: otherwise one
        could be raised without end by excursions that stop just before an alarm.
        """
        self.calls += calls
        if self.peaks >= 2 * _REMEMBERED:
            self.peaks, self.excess, self.calls = self.peaks // 2, self.excess / 2, self.calls // 2
            self.squares, self.most = self.squares / 2, self.most * 0.9
        n = _PRIOR_PEAKS + self.peaks
        mean = (_PRIOR_PEAKS * prior.scale + self.excess) / n
        # A few long excursions among many short ones (a new habit, a site that is down) hide in the mean.
        # Half
        # the mean square over the mean is the scale of an exponential as well, and does not hide them; the
        # highest of n such peaks is expected at ``scale * (ln n + 0.577)``.
        if self.peaks:
            mean = max(mean, self.squares / (2 * self.excess), (self.most - PEAK) / (log(n) + 0.577))
        scale = min(prior.scale, max(mean * (1 + 1.96 / sqrt(n)), prior.least))
        before = prior.rate * exp(-PEAK / prior.scale)
        rate = min((_PRIOR_CALLS * before + self.peaks) / (_PRIOR_CALLS + self.calls), 1.0)
        return Tail(rate * exp(PEAK / scale), scale)

    def _count(self) -> None:
        self.peaks += 1
        beyond = self.peak - PEAK
        self.excess += beyond
        self.squares += beyond * beyond
        if self.peak > self.most:
            self.most = self.peak

    def forgive(self) -> None:
        """The alarm of this excursion was a false one: its peak is a usual one."""
        if self.said and self.peak > PEAK:
            self._count()

    def clear(self) -> None:
        self.s, self.said, self.peak = 0.0, 0, 0.0


class Drift(msgspec.Struct, array_like=True):
    """Holds what a baseline may become within a day; a jump of the clock opens no more than one day."""

    value: float
    from_ns: int = 0

    def highest(self, now: float, at_ns: int) -> float:
        """The most a positive baseline may be now."""
        if not 0 <= at_ns - self.from_ns < DAY:
            self.value, self.from_ns = now, at_ns
        return self.value * DRIFT


def log_day_of(mean_gap_ns: float) -> float:
    """The logarithm of the calls a day at this mean gap."""
    return log(DAY / max(mean_gap_ns, 1.0))


def per_call(tail: Tail, threshold: float) -> float:
    """False alarms a call at a threshold."""
    return tail.rate * exp(-threshold / tail.scale)
