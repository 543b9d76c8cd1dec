"""Interleaved rounds: A B A B, so that a slow minute of a shared machine is slow for everybody.

A ratio is taken within each round, between runs a second or two apart, and the median of those ratios is
reported with its lowest and highest: dividing two medians would mix minutes that have nothing in common.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from statistics import median

import msgspec
from msgspec import structs

from tests.bench import servers
from tests.bench.load import Job, Load


class Spread(msgspec.Struct, frozen=True):
    """A figure of several rounds."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: list[float]) -> Spread:
        return cls(median(values), min(values), max(values))


class Wrong(Exception):
    """A run whose answers were not what was asked for measures nothing."""


class Rounds(msgspec.Struct, frozen=True):
    """The runs of some contenders under one load; the n-th runs of all belong together."""

    runs: Mapping[str, list[Load]]

    def spread(self, name: str, figure: str) -> Spread:
        """``figure`` is a field of ``Load``."""
        return Spread.of([getattr(run, figure) for run in self.runs[name]])

    def ratio(self, name: str, figure: str, to: str) -> Spread:
        return self._pairs(name, figure, to, lambda mine, theirs: mine / theirs)

    def added(self, name: str, figure: str, to: str) -> Spread:
        return self._pairs(name, figure, to, lambda mine, theirs: mine - theirs)

    def _pairs(self, name: str, figure: str, to: str, compare: Callable[[float, float], float]) -> Spread:
        return Spread.of(
            [
                compare(getattr(mine, figure), getattr(theirs, figure))
                for mine, theirs in zip(self.runs[name], self.runs[to], strict=True)
            ]
        )


def interleaved(contenders: Mapping[str, Job], rounds: int) -> Rounds:
    """Run each contender once per round, in turn. Raises ``Wrong`` at an answer that is not a result."""
    runs: dict[str, list[Load]] = {name: [] for name in contenders}
    for number in range(rounds):
        for name, job in contenders.items():
            # Calls go on where the round before ended, so that none of them is known already.
            load = servers.load(structs.replace(job, first=number * (job.warmup + job.calls)))
            if load.failures:
                raise Wrong(
                    f"{name}: {load.failures} of {load.calls} calls failed, the first with {load.failure}"
                )
            runs[name].append(load)
    return Rounds(runs)
