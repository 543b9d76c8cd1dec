"""Shares of calls that fail, are refused, or use a tool or name a place hardly known: Bernoulli CUSUMs.

The increment is the log-likelihood ratio of a raised share against the agent's own baseline (Page 1954;
Reynolds and Stoumbos, "A CUSUM chart for monitoring a proportion", 1999).
"""

from __future__ import annotations

from math import log
from typing import Final, Literal

import msgspec

from gateway.breakers.cusum import LEARNS, Cusum, Drift, Limits

_PRIOR: Final = 50
_SLOW: Final = 2000 - _PRIOR
_LAST: Final = (1 << 20) - 1


class Kind(msgspec.Struct, frozen=True):
    """What is looked for: a share that rises to ``times`` the baseline and by at least ``least``."""

    prior: float
    lowest: float  # baselines are believed between these two: what an agent does from its first call on
    highest: float  # cannot make a high share its normal one
    times: float
    least: float


ERRORS: Final = Kind(prior=0.04, lowest=0.01, highest=0.20, times=4.0, least=0.20)
DENIALS: Final = Kind(prior=0.01, lowest=0.005, highest=0.05, times=5.0, least=0.15)
PLACES: Final = Kind(prior=0.02, lowest=0.01, highest=0.50, times=1.0, least=0.30)
TOOLS: Final = Kind(prior=0.01, lowest=0.005, highest=0.20, times=5.0, least=0.20)


class Share(msgspec.Struct, array_like=True):
    """A share, its baseline and its CUSUM."""

    p: float
    drift: Drift
    n: int = 0
    hit: float = 0.0
    miss: float = 0.0
    last: int = 0  # the last 20, newest in the lowest bit
    sum: Cusum = msgspec.field(default_factory=Cusum)

    @classmethod
    def of(cls, kind: Kind) -> Share:
        share = cls(p=kind.prior, drift=Drift(kind.prior))
        share.weigh(kind)
        return share

    def weigh(self, kind: Kind) -> None:
        p = self.p
        q = min(0.9, max(kind.times * p, p + kind.least))
        self.hit, self.miss = log(q / p), log((1 - q) / (1 - p))

    def add(
        self, x: bool, at_ns: int, kind: Kind, limits: Limits, learn: bool, warm_up: int
    ) -> Literal[0, 1, 2]:
        self.last = (self.last << 1 | x) & _LAST
        sum_ = self.sum
        if learn and sum_.s <= limits.first / 2:
            n = self.n = self.n + 1
            # Written without min and max: four of these run in every call.
            rate = LEARNS if n > _SLOW else 1 / (n + _PRIOR)
            p = self.p + (x - self.p) * rate
            if n > warm_up and p > self.drift.value and p > (most := self.drift.highest(self.p, at_ns)):
                p = most
            self.p = kind.lowest if p < kind.lowest else kind.highest if p > kind.highest else p
            if not n & 31:
                self.weigh(kind)
        if x:
            return sum_.add(self.hit, at_ns, limits)
        return sum_.add(self.miss, at_ns, limits) if sum_.s else 0

    def acquaint(self, x: bool, kind: Kind) -> None:
        """Learn from one of the first, without an opinion on it."""
        self.last = (self.last << 1 | x) & _LAST
        n = self.n = self.n + 1
        self.p = min(max(self.p + (x - self.p) / (n + _PRIOR), kind.lowest), kind.highest)
        if not n & 31:
            self.weigh(kind)

    @property
    def seen(self) -> int:
        """How many of the last 20."""
        return self.last.bit_count()
