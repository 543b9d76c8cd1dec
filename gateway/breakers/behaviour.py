"""What is usual for one agent in one domain: all statistical detectors over one stream of events."""

from __future__ import annotations

from typing import Final, Literal
from zlib import crc32

import msgspec

from gateway.breakers.cusum import Cusum, Limits, limits, log_day_of
from gateway.breakers.event import Alarm, Event, bounded
from gateway.breakers.firsts import Firsts
from gateway.breakers.pace import Pace
from gateway.breakers.settings import STATISTICAL, Settings
from gateway.breakers.shares import DENIALS, ERRORS, PLACES, Share
from gateway.breakers.shares import TOOLS as NEW_TOOLS
from gateway.breakers.sizes import Sizes
from gateway.breakers.surprise import TOOLS, Surprise

_PRIOR_DAY: Final = log_day_of(1e9)
_TOOLS_KNOWN: Final = 64
_ACQUAINTED: Final = 20


class Thresholds(msgspec.Struct, array_like=True):
    """Thresholds of all detectors for one pace."""

    errors: Limits
    denials: Limits
    rate: Limits
    surprise: Limits
    tools: Limits
    bytes: Limits
    cost: Limits
    places: Limits

    @classmethod
    def at(cls, settings: Settings, log_day: float) -> Thresholds:
        n = len(STATISTICAL)
        return cls(*(limits(settings.tails[name], settings, n, log_day) for name in STATISTICAL))


class Behaviour(msgspec.Struct, array_like=True):
    """The state of one (tenant, agent, domain)."""

    thresholds: Thresholds
    errors: Share
    denials: Share
    new_tools: Share
    new_places: Share
    pace: Pace
    surprise: Surprise
    bytes: Sizes
    cost: Sizes
    places: Firsts
    tools: list[int] = msgspec.field(default_factory=list)  # prints of names, in order of appearance
    used: bytearray = msgspec.field(default_factory=bytearray)  # how often each of them, up to 20
    recent: list[str] = msgspec.field(default_factory=list)  # call ids, a ring of ten
    at: int = 0
    calls: int = 0
    alarms: dict[str, int] = msgspec.field(default_factory=dict)  # detector → call number of its last alarm
    seen_ns: int = 0
    patience: dict[int, int] = msgspec.field(default_factory=dict)  # by tool, of ``Loops``

    @classmethod
    def new(cls, settings: Settings) -> Behaviour:
        return cls(
            thresholds=Thresholds.at(settings, _PRIOR_DAY),
            errors=Share.of(ERRORS),
            denials=Share.of(DENIALS),
            new_tools=Share.of(NEW_TOOLS),
            new_places=Share.of(PLACES),
            pace=Pace(),
            surprise=Surprise(),
            bytes=Sizes(),
            cost=Sizes(),
            places=Firsts(),
        )

    def observe(self, event: Event, settings: Settings, learn: bool) -> list[Alarm]:
        """Take one event in; mostly returns nothing. ``learn`` only while the agent is not under
        suspicion."""
        recent = self.recent
        if event.call_id in recent:  # the same event again must count once
            return []
        if len(recent) < 10:
            recent.append(event.call_id)
        else:
            recent[self.calls % 10] = event.call_id
        calls = self.calls = self.calls + 1
        if not calls & 63:
            self._reckon(settings)
        at_ns, limits, warm = event.at_ns, self.thresholds, settings.warm_up
        self.seen_ns = at_ns
        number, strange = self._tool(event.tool, learn)
        strange = strange and event.writes  # to look at something new is no danger
        tool = min(number, TOOLS - 1)
        found: list[Alarm] = []
        denied = event.what == "denied"
        if level := self.denials.add(denied, at_ns, DENIALS, limits.denials, learn, warm):
            found.append(self._share("denials", "refusals", self.denials, limits.denials, level))
        if not denied:
            errors = self.errors
            if level := errors.add(event.what == "error", at_ns, ERRORS, limits.errors, learn, warm):
                found.append(self._share("errors", "errors", errors, limits.errors, level))
        if level := self.pace.add(at_ns, limits.rate, learn, warm):
            words = f"calls come much faster than this agent's usual {1e9 / self.pace.mean:.3g} a second"
            found.append(_alarm("rate", self.pace.sum, limits.rate, level, words))
        if level := self.surprise.add(tool, at_ns, limits.surprise, learn, warm):
            words = "tools follow each other in an order this agent has not used before"
            found.append(_alarm("surprise", self.surprise.sum, limits.surprise, level, words))
        if calls > warm and (
            level := self.new_tools.add(strange, at_ns, NEW_TOOLS, limits.tools, learn, warm)
        ):
            found.append(
                self._share("tools", "tools this agent has hardly used", self.new_tools, limits.tools, level)
            )
        if event.bytes_out > 0 and (
            level := self.bytes.add(bounded(event.bytes_out), tool, at_ns, limits.bytes, learn, warm)
        ):
            words = "more data leaves than is usual for these tools"
            found.append(_alarm("bytes", self.bytes.sum, limits.bytes, level, words))
        if event.cost > 0 and (
            level := self.cost.add(bounded(event.cost), tool, at_ns, limits.cost, learn, warm)
        ):
            words = "calls cost more than is usual for these tools"
            found.append(_alarm("cost", self.cost.sum, limits.cost, level, words))
        new = bool(event.places) and self.places.new(event.places, at_ns)
        if calls <= warm:  # at first every place is new, which says nothing of the agent
            self.new_places.acquaint(new, PLACES)
        elif level := self.new_places.add(new, at_ns, PLACES, limits.places, learn, warm):
            found.append(
                self._share("places", "hosts or recipients never seen", self.new_places, limits.places, level)
            )
        return found

    def sums(self) -> tuple[Cusum, ...]:
        """In the order of ``STATISTICAL``."""
        return (
            self.errors.sum, self.denials.sum, self.pace.sum, self.surprise.sum,
            self.new_tools.sum, self.bytes.sum, self.cost.sum, self.new_places.sum,
        )  # fmt: skip

    def _reckon(self, settings: Settings) -> None:
        """Thresholds for the pace and the tails of this agent, every 64 calls."""
        log_day = log_day_of(self.pace.mean) if self.pace.n >= 20 else _PRIOR_DAY
        self.thresholds = Thresholds(
            *(
                limits(sum_.tail(settings.tails[name], 64), settings, len(STATISTICAL), log_day)
                for name, sum_ in zip(STATISTICAL, self.sums(), strict=True)
            )
        )

    def together(self, alarm: Alarm, settings: Settings) -> str | None:
        """Another statistical detector that alarmed within the last calls; notes this one."""
        self.alarms[alarm.detector] = self.calls
        for name, call in self.alarms.items():
            if name != alarm.detector and self.calls - call <= settings.together:
                return name
        return None

    def calm(self) -> None:
        """Begin anew after a trip or a person's word; what is usual is kept."""
        for each in self.sums():
            each.clear()
        self.alarms.clear()

    def again(self) -> None:
        """Learn anew what is usual: a reviewer said that the alarm was a false one."""
        for sum_ in self.sums():
            sum_.forgive()
        self.calm()
        for each in (self.errors, self.denials, self.new_tools, self.new_places, self.bytes, self.cost):
            each.n = 0
        for sizes in (self.bytes, self.cost):
            sizes.counts = [0] * len(sizes.counts)
        self.pace.n = self.surprise.n = 0
        self.used = bytearray(b"\x14" * len(self.tools))

    def contributing(self, since_ns: int) -> tuple[str, ...]:
        """The last ten calls at most, oldest first."""
        cut = self.calls % 10 if len(self.recent) == 10 else 0
        return (*self.recent[cut:], *self.recent[:cut])

    def _tool(self, name: str, learn: bool) -> tuple[int, bool]:
        """The number of a tool, and whether this agent has hardly used it so far."""
        known, mark = self.tools, crc32(name.encode())
        try:
            number = known.index(mark)
        except ValueError:
            if len(known) >= _TOOLS_KNOWN:
                return _TOOLS_KNOWN, False
            known.append(mark)
            self.used.append(0)
            number = len(known) - 1
        uses = self.used[number]
        if uses >= _ACQUAINTED:
            return number, False
        if learn:
            self.used[number] = uses + 1
        return number, True

    @staticmethod
    def _share(name: str, words: str, share: Share, limits: Limits, level: Literal[1, 2]) -> Alarm:
        return _alarm(
            name,
            share.sum,
            limits,
            level,
            f"{words} {share.seen} of the last 20 calls, usual are {share.p:.1%}",
        )


def _alarm(detector: str, sum_: Cusum, limits: Limits, level: Literal[1, 2], words: str) -> Alarm:
    threshold = limits.first if level == 1 else limits.stop
    return Alarm(
        detector=detector,
        level=level,
        statistic=sum_.s,
        threshold=threshold,
        since_ns=sum_.since_ns,
        sentence=f"{words}; CUSUM {sum_.s:.1f} ≥ {threshold:.1f}",
        exact=False,
    )
