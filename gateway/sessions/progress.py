"""Whether a session is getting anywhere: how much was done, at what risk, since somebody last made sure.

An agent that works for hours on a wrong path takes a hundred steps that are each allowed. So what it may do
unattended is bounded by a *horizon*: so many actions or minutes are one period. After a period a person looks
at the session; where the mandate declares milestones, a milestone that was verified counts as having looked,
and a person is asked only when two periods pass without a new one. The risk taken adds up meanwhile (an
irreversible call weighs ten reversible ones) and has a threshold of its own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec

WEIGHTS: Final[Mapping[str, int]] = {"read": 0, "reversible": 1, "compensable": 3, "irreversible": 10}
MAX_VERIFIED: Final = 16

_MINUTE_NS: Final = 60 * 1_000_000_000


class Horizon(msgspec.Struct, frozen=True):
    """What may be done unattended: ``None`` bounds nothing."""

    actions: int | None = None  # calls that are no reads
    minutes: int | None = None
    risk: int | None = None  # sum of the weights

    @property
    def bounds(self) -> bool:
        return (self.actions, self.minutes, self.risk) != (None, None, None)


class Progress(msgspec.Struct):
    """Since the last checkpoint of one session."""

    since_ns: int
    actions: int = 0
    risk: int = 0
    verified: list[str] = []  # milestones, since the session began

    def acted(self, risk: str) -> None:
        weight = WEIGHTS.get(risk, WEIGHTS["irreversible"])
        if weight:
            self.actions += 1
            self.risk += weight

    def reached(self, milestone: str, at_ns: int) -> None:
        """A milestone was verified. The same one twice is no progress."""
        if milestone not in self.verified and len(self.verified) < MAX_VERIFIED:
            self.verified.append(milestone)
            self.checked(at_ns)

    def checked(self, at_ns: int) -> None:
        """Somebody made sure that the session is on its way."""
        self.since_ns = max(self.since_ns, at_ns)
        self.actions = self.risk = 0

    def facts(self, at_ns: int, horizon: Horizon, milestones: Sequence[str] = ()) -> dict[str, Any]:
        """``input.session.progress``."""
        minutes = max(0, at_ns - self.since_ns) // _MINUTE_NS
        spent = [
            done // allowed
            for done, allowed in ((self.actions, horizon.actions), (minutes, horizon.minutes))
            if allowed
        ]
        periods = max(spent, default=0)
        waiting = [name for name in milestones if name not in self.verified]
        why = ""
        if horizon.risk is not None and self.risk >= horizon.risk:
            why = f"the risk taken since the last checkpoint ({self.risk}) has reached {horizon.risk}"
        elif waiting and periods >= 2:
            why = f"two periods have passed without a new milestone; next is '{waiting[0]}'"
        elif not waiting and periods >= 1:
            why = f"{self.actions} actions and {minutes} minutes have passed since the last checkpoint"
        return {
            "due": bool(why),
            "why": why,
            "actions": self.actions,
            "minutes": minutes,
            "periods": periods,
            "risk_sum": self.risk,
            "threshold": horizon.risk or 0,
            "verified": list(self.verified),
            "open": waiting,
        }
