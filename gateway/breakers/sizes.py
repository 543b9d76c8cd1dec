"""How much leaves, and how much is spent: log1p CUSUMs of bytes and cost, each tool against its own mean."""

from __future__ import annotations

from math import log1p
from typing import Final, Literal

import msgspec

from gateway.breakers.cusum import LEARNS, Cusum, Limits
from gateway.breakers.settings import DAY

_SLACK: Final = 0.35  # standard deviations a shift may have unseen
_MOST: Final = 4.0  # standard deviations one call counts for: one large file is no exfiltration
_LEAST_SPREAD: Final = 0.25
_DAILY: Final = 0.2231  # ln 1.25


class Sizes(msgspec.Struct, array_like=True):
    """``s = max(0, s + (ln(1+x) - mean of the tool) / spread - 0.35)``."""

    means: list[float] = msgspec.field(default_factory=list)  # by tool
    counts: list[int] = msgspec.field(default_factory=list)
    mean: float = 0.0  # of all tools: what a new one starts from
    spread: float = 1.0  # mean absolute deviation, by 1.25 about a standard deviation
    n: int = 0
    day_ns: int = 0
    risen: float = 0.0  # of all means together, today
    sum: Cusum = msgspec.field(default_factory=Cusum)

    def add(
        self, amount: int, tool: int, at_ns: int, limits: Limits, learn: bool, warm_up: int
    ) -> Literal[0, 1, 2]:
        x = log1p(amount)
        while len(self.means) <= tool:
            self.means.append(self.mean)
            self.counts.append(0)
        mean = self.means[tool]
        off = x - mean
        spread = max(1.25 * self.spread, _LEAST_SPREAD)
        if learn and self.sum.s <= limits.first / 2:
            n = self.n = self.n + 1
            count = self.counts[tool] = self.counts[tool] + 1
            step = off * max(1 / count, LEARNS)
            if count > 20:
                if not 0 <= at_ns - self.day_ns < DAY:
                    self.day_ns, self.risen = at_ns, 0.0
                step = min(step, _DAILY - self.risen)
                self.risen = max(self.risen + step, -_DAILY)
            self.means[tool] = mean + step
            self.mean += (x - self.mean) * max(1 / n, LEARNS)
            if count > 1:
                self.spread += (min(abs(off), 4 * spread) - self.spread) * max(1 / (n + 10), LEARNS)
        if self.n < warm_up or self.counts[tool] < 5:
            return 0
        return self.sum.add(min(off / spread, _MOST) - _SLACK, at_ns, limits)
