"""The system's clocks, so that no other part reads them."""

from __future__ import annotations

import time

from gateway.ports import Clock


class SystemClock:
    """Implements ``ports.Clock``."""

    now_ns = staticmethod(time.time_ns)
    monotonic = staticmethod(time.monotonic)


class SteadyClock:
    """Time for what is counted in windows: it starts from the wall clock and then follows the monotonic one.

    So setting the wall clock forward does not empty a budget's window, and setting it back does not bring an
    expired mandate back to life. ``floor_ns`` is the latest time known from before a restart.
    """

    __slots__ = ("_base_ns", "_clock", "_from")

    def __init__(self, clock: Clock, floor_ns: int = 0) -> None:
        self._clock = clock
        self._from = clock.monotonic()
        self._base_ns = max(clock.now_ns(), floor_ns)

    def now_ns(self) -> int:
        """Nanoseconds since the epoch, nearly; never less than before."""
        return self._base_ns + int((self._clock.monotonic() - self._from) * 1e9)
