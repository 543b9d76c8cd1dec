"""Thresholds from recorded clean traffic: how heavy the tails of the statistics are for these agents.

Peaks over threshold with an exponential tail (Siffer et al., "Anomaly detection in streams with extreme value
theory", KDD 2017; that the peaks of a CUSUM have one: Siegmund, 1985): replay, take the highest point of
every
excursion, keep the highest hundred or so, and fit. What is extrapolated beyond the longest quiet time that
was recorded is an estimate and has an interval; the fit takes its upper end, so it errs towards fewer alarms.
"""

from __future__ import annotations

from collections.abc import Iterable
from heapq import nlargest
from math import exp, log, sqrt
from typing import Final

import msgspec

from gateway.breakers.behaviour import Behaviour, Thresholds
from gateway.breakers.cusum import Limits, limits, per_call
from gateway.breakers.event import Event
from gateway.breakers.settings import STATISTICAL, Settings, Tail

_PEAKS: Final = 200
_LEAST_PEAKS: Final = 10
_NEVER: Final = 1e9


class Fit(msgspec.Struct, frozen=True, kw_only=True):
    """The tail of one detector on some traffic."""

    detector: str
    calls: int
    peaks: int  # that were fitted
    tail: Tail  # at the upper end of the interval of its scale
    middle: Tail

    def threshold(self, settings: Settings, calls_per_day: float) -> Limits:
        return limits(self.tail, settings, len(STATISTICAL), log(calls_per_day))

    def false_per_day(self, threshold: float, calls_per_day: float) -> tuple[float, float]:
        """What is expected at a threshold, and the upper end of its 95 % interval."""
        return per_call(self.middle, threshold) * calls_per_day, per_call(
            self.tail, threshold
        ) * calls_per_day


def peaks(traffic: Iterable[Event], settings: Settings) -> tuple[int, dict[str, list[float]]]:
    """Replay the clean traffic of one agent: how many calls, and the highest point of each excursion."""
    behaviour = Behaviour.new(settings)
    never = Limits(_NEVER, _NEVER)
    sums = dict(zip(STATISTICAL, behaviour.sums(), strict=True))
    highest = dict.fromkeys(sums, 0.0)
    found: dict[str, list[float]] = {name: [] for name in sums}
    calls = 0
    unlimited = Thresholds(*(never for _ in STATISTICAL))
    for event in traffic:
        behaviour.thresholds = unlimited
        behaviour.observe(event, settings, True)
        calls += 1
        for name, sum_ in sums.items():
            s = sum_.s
            if s > highest[name]:
                highest[name] = s
            elif s == 0.0 and highest[name] > 0.0:
                found[name].append(highest[name])
                highest[name] = 0.0
    return calls, {name: [*all_, highest[name]] if highest[name] else all_ for name, all_ in found.items()}


def fit(detector: str, calls: int, found: list[float]) -> Fit | None:
    """The tail of these peaks; ``None`` when there are too few to say anything."""
    kept = nlargest(min(_PEAKS, len(found) // 10) + 1, found)
    n = len(kept) - 1
    if n < _LEAST_PEAKS:
        return None
    above = kept[-1]
    scale = max(sum(peak - above for peak in kept[:-1]) / n, 0.05)
    upper = scale * (1 + 1.96 / sqrt(n))
    return Fit(
        detector=detector,
        calls=calls,
        peaks=n,
        tail=Tail(n / calls * exp(above / upper), upper),
        middle=Tail(n / calls * exp(above / scale), scale),
    )


def interval(events: int) -> tuple[float, float]:
    """The 95 % interval of a Poisson mean after so many events (Garwood's, by Byar's approximation)."""
    low = 0.0 if events == 0 else events * (1 - 1 / (9 * events) - 1.96 / (3 * sqrt(events))) ** 3
    above = events + 1
    high = 3.0 if events == 0 else above * (1 - 1 / (9 * above) + 1.96 / (3 * sqrt(above))) ** 3
    return low, high
