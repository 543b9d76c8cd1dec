"""Which tool follows which: a CUSUM of the surprise of first-order transitions.

A descendant of sequences of system calls (Forrest et al., "A sense of self for Unix processes", 1996), with
counts that stay small: 24 tools, one byte a transition, a row is halved when a byte is full.
"""

from __future__ import annotations

from math import log2
from typing import Final, Literal

import msgspec

from gateway.breakers.cusum import LEARNS, Cusum, Limits

TOOLS: Final = 24
"""The last of them stands for every tool beyond the first 23."""

_LAPLACE: Final = 0.5
_SLACK: Final = 1.2  # bits
_RESTLESS: Final = 2.5  # bits
_MOST: Final = 8.0  # bits
_FULL: Final = 255
_LOG: Final = tuple(log2(n / 2) if n else 0.0 for n in range(2 * 256 * TOOLS + 2 * TOOLS + 2))
"""log2 of halves, because counts plus Laplace's half are halves."""


class Surprise(msgspec.Struct, array_like=True):
    """``s = max(0, s + surprise - usual - 1.2)``; surprise in bits, at most 8, with Laplace's 0.5 a tool."""

    counts: bytearray = msgspec.field(default_factory=lambda: bytearray(TOOLS * TOOLS))
    totals: list[int] = msgspec.field(default_factory=lambda: [0] * TOOLS)
    usual: float = 2.0  # bits
    before: int = -1
    n: int = 0
    sum: Cusum = msgspec.field(default_factory=Cusum)

    def add(self, tool: int, at_ns: int, limits: Limits, learn: bool, warm_up: int) -> Literal[0, 1, 2]:
        before, self.before = self.before, tool
        if before < 0:
            return 0
        counts, totals = self.counts, self.totals
        cell = before * TOOLS + tool
        seen = counts[cell]
        bits = _LOG[2 * totals[before] + TOOLS] - _LOG[2 * seen + 1]
        if bits > _MOST:
            bits = _MOST
        usual = self.usual
        # Learned also on the way to an alarm: habits change, and an attack is seen in ten calls, before its
        # own order is a habit.
        if learn:
            n = self.n = self.n + 1
            self.usual = usual + (bits - usual) * max(1 / (n + 20), LEARNS)
            if seen == _FULL:
                row = before * TOOLS
                halved = bytes(count >> 1 for count in counts[row : row + TOOLS])
                counts[row : row + TOOLS] = halved
                totals[before] = sum(halved)
            counts[cell] += 1
            totals[before] += 1
        if self.n < warm_up:
            return 0
        # The order of an agent that is hard to foretell says little: it gets more slack.
        slack = _SLACK if usual < _RESTLESS else _SLACK + usual - _RESTLESS
        return self.sum.add(bits - usual - slack, at_ns, limits)
