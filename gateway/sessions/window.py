"""Sums over a sliding stretch of time, exact over 60 buckets and bounded in memory.

Time is an integer of nanoseconds, handed in. An earlier time is taken as the latest one seen.
"""

from __future__ import annotations

from array import array
from typing import Final

FULL: Final = 2**62  # 512 times the highest limit of a budget
_BUCKETS: Final = 60
_FIVE_MINUTES: Final = 5  # buckets of the hour


class Window:
    """The sum of what was added in the last ``window_ns``, and ``total``, of all that ever was.

    Time is cut into buckets of a sixtieth of the window. An amount counts for at least the window and at
    most one bucket (and 60 ns of rounding) longer: never less. At most 61 buckets are kept, and only those
    that hold something.

    Sums stop at 2^62. A window that ever took in that much says so for good, so that a meter beyond counting
    refuses rather than starts again.
    """

    __slots__ = ("closed", "end_ns", "gone", "open", "sum", "width_ns")

    def __init__(self, window_ns: int) -> None:
        if window_ns <= 0:
            raise ValueError("a window is longer than nothing")
        self.width_ns = -(-window_ns // _BUCKETS)
        self.end_ns = self.width_ns  # of the bucket under way: the time of day is read by comparison alone
        self.open = 0  # what came in the bucket under way
        self.closed = array("q")  # number of a bucket before it, amount, number, amount … oldest first
        self.sum = 0  # open and closed
        self.gone = 0  # what has left the window

    @property
    def total(self) -> int:
        return min(self.gone + self.sum, FULL)

    def add(self, amount: int, at: int) -> None:
        if at >= self.end_ns:
            self.advance(at)
        self.open += amount
        self.sum += amount
        if self.sum >= FULL:
            self._fill()

    def sum_at(self, at: int) -> int:
        if at >= self.end_ns:
            self.advance(at)
        return self.sum

    def advance(self, at: int) -> None:
        """Close the bucket under way; ``at`` is not before its end."""
        width, closed = self.width_ns, self.closed
        if self.open:
            closed.extend((self.end_ns // width - 1, self.open))
            self.open = 0
        bucket = at // width
        self.end_ns = (bucket + 1) * width
        if self.gone + self.sum >= FULL:
            self._fill()
            return
        oldest = bucket - _BUCKETS
        expired = 0
        while expired < len(closed) and closed[expired] < oldest:
            self.gone += closed[expired + 1]
            self.sum -= closed[expired + 1]
            expired += 2
        if expired:
            del closed[:expired]

    def _fill(self) -> None:
        del self.closed[:]  # with no bucket left, nothing is ever taken off the sum
        self.open = self.gone = 0
        self.sum = FULL

    def resized(self, window_ns: int) -> Window:
        """The same use over another stretch of time.

        Each bucket counts as if all of it had come at the bucket's end. What this window has forgotten, a
        longer one does not know either.
        """
        new = Window(window_ns)
        width = self.width_ns
        for place in range(0, len(self.closed), 2):
            new.add(self.closed[place + 1], (self.closed[place] + 1) * width - 1)
        new.add(self.open, self.end_ns - 1)
        new.gone = self.total - new.sum
        if self.total >= FULL:
            new._fill()
        return new

    def encode(self) -> list[int]:
        return [self.end_ns, self.gone, self.sum, self.open, *self.closed]

    def restore(self, saved: list[int]) -> None:
        self.end_ns, self.gone, self.sum, self.open = saved[:4]
        self.closed = array("q", saved[4:])


class Hour(Window):
    """A window of an hour that also knows its last five minutes."""

    __slots__ = ("before",)

    def __init__(self) -> None:
        super().__init__(3600 * 1_000_000_000)
        self.before = 0  # the sum of the five buckets before the one under way

    def advance(self, at: int) -> None:
        super().advance(at)
        self._look_back()

    def restore(self, saved: list[int]) -> None:
        super().restore(saved)
        self._look_back()

    def _look_back(self) -> None:
        since = self.end_ns // self.width_ns - 1 - _FIVE_MINUTES
        closed = self.closed
        self.before = 0
        for place in range(len(closed) - 2, -1, -2):
            if closed[place] < since:
                break
            self.before += closed[place + 1]
