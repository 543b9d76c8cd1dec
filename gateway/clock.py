"""The system's clocks, so that no other part reads them."""

from __future__ import annotations

import time


class SystemClock:
    """Implements ``ports.Clock``."""

    now_ns = staticmethod(time.time_ns)
    monotonic = staticmethod(time.monotonic)
