"""How fast calls come: an exponential-gap CUSUM."""

from __future__ import annotations

from math import log
from typing import Final, Literal

import msgspec

from gateway.breakers.cusum import LEARNS, Cusum, Drift, Limits
from gateway.breakers.settings import SECOND

_TIMES: Final = 3.0
_GAIN: Final = log(_TIMES)
_LONGEST: Final = 20.0  # mean gaps: a night counts as this much, or it would be the mean


class Pace(msgspec.Struct, array_like=True):
    """The log-likelihood ratio of calls three times as fast as usual (exponential gaps): ``ln 3 - 2
    gap/mean``.

    Gaps of agents are not exponential: they come in bursts. That makes the tail of the statistic heavier,
    which calibration sees, and not the sign of its drift.
    """

    mean: float = float(SECOND)
    slowest: Drift = msgspec.field(default_factory=lambda: Drift(1.0))  # of the inverse: pace may rise so far
    last_ns: int = 0
    n: int = 0
    sum: Cusum = msgspec.field(default_factory=Cusum)

    def add(self, at_ns: int, limits: Limits, learn: bool, warm_up: int) -> Literal[0, 1, 2]:
        last, self.last_ns = self.last_ns, max(at_ns, self.last_ns)
        gap = at_ns - last
        if last == 0 or gap < 0:  # the first, or out of order: says nothing of the pace
            return 0
        mean = self.mean
        # Before anything is known, even one long gap must count in full.
        bounded = min(float(gap), _LONGEST * mean) if self.n >= 20 else float(gap)
        if learn and self.sum.s <= limits.first / 2:
            n = self.n = self.n + 1
            self.mean = max(mean + (bounded - mean) * max(1 / n, LEARNS), 1.0)
            if n > warm_up:
                fastest = self.slowest.highest(SECOND / mean, at_ns)
                self.mean = max(self.mean, SECOND / fastest)
        if self.n < warm_up:
            return 0
        return self.sum.add(_GAIN - (_TIMES - 1) * bounded / mean, at_ns, limits)
