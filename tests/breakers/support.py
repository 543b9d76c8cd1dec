from __future__ import annotations

from itertools import count
from typing import Any

from gateway.breakers.breakers import Asking, Breakers
from gateway.breakers.event import Event
from gateway.breakers.settings import SECOND, Settings
from gateway.breakers.trip import Trip, Verdict

START = 1_800_000_000 * SECOND


class Life:
    """One set of breakers and the calls of several agents, a second apart."""

    def __init__(self, **settings: Any) -> None:
        self.breakers = Breakers(Settings(**settings))
        self.now = START
        self._ids = count()

    def asking(self, agent: str = "bot", **changes: Any) -> Asking:
        base: dict[str, Any] = {
            "call_id": f"call-{next(self._ids)}", "at_ns": self.now, "tenant": "t", "agent": agent, "session": "s",
            "tool": "u/look", "upstream": "u", "harmless": True,
        }  # fmt: skip
        return Asking(**{**base, **changes})

    def event(self, agent: str = "bot", **changes: Any) -> Event:
        number = next(self._ids)
        base: dict[str, Any] = {
            "call_id": f"call-{number}", "at_ns": self.now, "tenant": "t", "agent": agent, "session": "s",
            "tool": "u/look", "upstream": "u", "what": "ok", "args": number + 1, "result": number + 1,
        }  # fmt: skip
        return Event(**{**base, **changes})

    def does(self, agent: str = "bot", times: int = 1, **changes: Any) -> list[Trip]:
        """Let an agent make calls, whatever the breakers think of them."""
        found: list[Trip] = []
        for _ in range(times):
            self.now += SECOND
            found += self.breakers.observe(self.event(agent, **changes))
        return found

    def ask(self, agent: str = "bot", **changes: Any) -> Verdict:
        return self.breakers.ask(self.asking(agent, **changes))[0]

    def tries(self, agent: str = "bot", good: bool | None = True, **changes: Any) -> Verdict:
        """Ask, and when the call may go, let it end."""
        asking = self.asking(agent, **changes)
        verdict, _ = self.breakers.ask(asking)
        if verdict.go:
            self.breakers.ended(asking, good, self.now)
        return verdict

    def waits(self, seconds: float) -> None:
        self.now += int(seconds * SECOND)
