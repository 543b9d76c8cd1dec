"""Whether an upstream can take calls: a window of failures and slow calls, apart from how agents behave.

After resilience4j's count-based window. An error a tool answers with is an answer, so the upstream is well;
what counts is that no answer came. One agent alone cannot speak for an upstream that others use: with calls
of several agents in the window, failures an agent could bring about itself (time-outs, slow calls) count only
when they befell at least two of them.
"""

from __future__ import annotations

from typing import Literal
from zlib import crc32

import msgspec

from gateway.breakers.event import Alarm
from gateway.breakers.settings import SECOND, Settings

Call = Literal["ok", "slow", "lost", "unreached"]
"""``lost``: sent, and no answer came. ``unreached``: proven that nothing was sent, so no agent's doing."""


class Health(msgspec.Struct, array_like=True):
    window: list[tuple[str, int]] = msgspec.field(default_factory=list)  # what, who
    at: int = 0

    def observe(
        self, upstream: str, what: Call, agent: str, took_ns: int, at_ns: int, settings: Settings
    ) -> Alarm | None:
        if what == "ok" and took_ns >= settings.slow_s * SECOND:
            what = "slow"
        one = (what, crc32(agent.encode()))
        if len(self.window) < settings.health_window:
            self.window.append(one)
        else:
            self.window[self.at % settings.health_window] = one
        self.at += 1
        if what == "ok" or len(self.window) < settings.health_least:
            return None
        window = self.window
        everybody = len({who for _, who in window})

        def count(*kinds: str) -> int:
            theirs = [who for kind, who in window if kind in kinds]
            return len(theirs) if everybody == 1 or len(set(theirs)) > 1 else 0

        n = len(window)
        failed = sum(kind == "unreached" for kind, _ in window) + count("lost")
        if failed >= settings.health_failures * n:
            return _alarm(upstream, failed, n, settings.health_failures, "got no answer", at_ns)
        slow = count("slow", "lost")
        if slow >= settings.health_slow * n:
            return _alarm(upstream, slow, n, settings.health_slow, "were slow", at_ns)
        return None

    def clear(self) -> None:
        self.window, self.at = [], 0


def _alarm(upstream: str, count: int, n: int, share: float, words: str, at_ns: int) -> Alarm:
    return Alarm(
        detector="health", level=2, statistic=count / n, threshold=share, since_ns=at_ns,
        sentence=f"{count} of the last {n} calls to {upstream} {words}",
    )  # fmt: skip
