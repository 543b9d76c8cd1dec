"""Refusals in a row and in total, caps, and tools no honest call goes to: exact counts of a session."""

from __future__ import annotations

from fnmatch import fnmatchcase

import msgspec

from gateway.breakers.event import Alarm, Event, bounded
from gateway.breakers.settings import NO_CAPS, Caps, Settings


class Totals(msgspec.Struct, array_like=True):
    """Sums of one session or delegation tree; none of them ever falls."""

    calls: int = 0
    writes: int = 0
    irreversible: int = 0
    bytes_out: int = 0
    cost_micro_usd: int = 0
    depth: int = 0

    def add(self, event: Event) -> None:
        if event.what != "denied":
            self.calls += 1
            self.writes += event.writes
            self.irreversible += event.irreversible
            if event.bytes_out:
                self.bytes_out += bounded(event.bytes_out)
            if event.cost:
                self.cost_micro_usd += bounded(event.cost)
        if event.depth > self.depth:
            self.depth = event.depth

    def passed(self, caps: Caps, at_ns: int, whose: str) -> Alarm | None:
        """The first cap that is passed. Only a person resets it: waiting makes no sum smaller."""
        for name in Caps.__struct_fields__:
            most = getattr(caps, name)
            if most is not None and (sum_ := getattr(self, name)) > most:
                return Alarm(
                    detector="cap", level=2, statistic=float(sum_), threshold=float(most), since_ns=at_ns,
                    sentence=f"{name} of this {whose} are {sum_}, the cap is {most}", person=True,
                )  # fmt: skip
        return None


class Conduct(msgspec.Struct, array_like=True):
    row: int = 0  # refusals since the last call that went through
    total: float = 0.0  # refusals, less a part of each call that went through
    since_ns: int = 0
    stops: int = 0  # of threads of this session, that loops have opened
    totals: Totals = msgspec.field(default_factory=Totals)

    def observe(self, event: Event, settings: Settings) -> list[Alarm]:
        found: list[Alarm] = []
        if event.what == "denied":
            if self.row == 0:
                self.since_ns = event.at_ns
            self.row += 1
            self.total += 1
            if self.row == settings.denied_open:
                found.append(self._denied(2, self.row, settings.denied_open, "in a row"))
            elif self.total >= settings.denied_total > self.total - 1:
                found.append(self._denied(2, self.total, settings.denied_total, "in this session"))
            elif self.row == settings.denied_guard:
                found.append(self._denied(1, self.row, settings.denied_guard, "in a row"))
        else:
            self.row = 0
            if self.total:
                self.total = max(self.total - settings.denied_forgiven, 0.0)
        self.totals.add(event)
        if settings.canaries and is_canary(event.tool, settings):
            found.append(canary(event.tool, event.at_ns))
        if settings.session_caps is not NO_CAPS and (
            alarm := self.totals.passed(settings.session_caps, event.at_ns, "session")
        ):
            found.append(alarm)
        return found

    def clear(self) -> None:
        """After a trip the counts begin anew; caps do not."""
        self.row, self.total = 0, 0.0

    def _denied(self, level: int, count: float, threshold: float, words: str) -> Alarm:
        return Alarm(
            detector="denied", level=2 if level == 2 else 1, statistic=float(count), since_ns=self.since_ns,
            threshold=float(threshold), sentence=f"{count:.0f} refusals {words}",
        )  # fmt: skip


def is_canary(target: str, settings: Settings) -> bool:
    return any(fnmatchcase(target, pattern) for pattern in settings.canaries)


def canary(target: str, at_ns: int) -> Alarm:
    return Alarm(
        detector="canary", level=2, statistic=1.0, threshold=1.0, since_ns=at_ns, person=True,
        sentence=f"{target} was called, a tool that no honest piece of work needs",
    )  # fmt: skip
