"""The state of one key: closed, throttled, guarded, open, half_open, forced_open.

    closed ── first alarm ──▶ throttled │ guarded ── second ──▶ open ── wait ──▶ half_open ── k probes good
    ──▶
    guarded for a while ──▶ closed          any failed probe or alarm on the way back ──▶ open, twice the wait

A key that is closed has no machine at all, so the usual case costs nothing.
"""

from __future__ import annotations

from typing import Final, Literal
from zlib import crc32

import msgspec

from gateway.breakers.settings import SECOND, Settings

Stage = Literal["closed", "throttled", "guarded", "half_open", "open", "forced_open"]
STAGES: Final[tuple[Stage, ...]] = ("closed", "throttled", "guarded", "half_open", "open", "forced_open")
RANK: Final = {stage: rank for rank, stage in enumerate(STAGES)}

_FORGIVEN_NS: Final = 2 * 3600 * SECOND
"""Since it last opened: until then the next wait is a longer one, and a closed machine is kept."""
_MOST_DOUBLINGS: Final = 20


class Asked(msgspec.Struct, frozen=True):
    """What one key says of one call. ``go``: not refused; ``wait_ns``: 0 when nobody knows how long."""

    stage: Stage
    go: bool
    wait_ns: int = 0
    why: Literal["", "throttled", "open", "person", "not_reversible", "probing"] = ""


_CLOSED: Final = Asked("closed", True)


class Machine(msgspec.Struct, array_like=True):
    stage: Stage = "closed"
    detector: str = ""
    trip: str = ""  # id of the trip that moved it
    reason: str = ""  # the sentence of the trip, or what a person said
    since_ns: int = 0
    until_ns: int = 0
    opened: int = 0  # times in a row; the exponent of the wait
    opened_ns: int = 0
    person: bool = False
    left: int = 0  # calls under guard until it closes
    recovering: bool = False
    permits: int = 0
    passed: int = 0
    probes: dict[str, int] = msgspec.field(default_factory=dict)  # call id → when it was let through
    next_ns: int = 0
    gap_ns: int = 0

    # -- moves -----------------------------------------------------------------------------------

    def throttle(self, at_ns: int, settings: Settings) -> None:
        self._to("throttled", at_ns)
        self.until_ns = at_ns + settings.throttle_s * SECOND
        self.gap_ns = settings.throttle_gap_ms * 1_000_000
        self.next_ns = at_ns + self.gap_ns

    def guard(self, at_ns: int, settings: Settings, *, recovering: bool = False) -> None:
        self._to("guarded", at_ns)
        self.left, self.recovering = settings.recover, recovering

    def open(self, at_ns: int, key: str, settings: Settings, *, person: bool = False) -> None:
        if not self.recovering and self.stage != "half_open" and at_ns - self.opened_ns > _FORGIVEN_NS:
            self.opened = 0
        self._to("open", at_ns)
        self.opened_ns = at_ns
        self.person = self.person or person
        self.until_ns = at_ns + wait_ns(self.opened, f"{settings.seed}\0{key}\0{self.trip}", settings)
        self.opened = min(self.opened + 1, _MOST_DOUBLINGS)

    def force(self, at_ns: int, reason: str) -> None:
        """A person opens it; only a person closes it."""
        self._to("forced_open", at_ns)
        self.person, self.reason = True, reason

    def _to(self, stage: Stage, at_ns: int) -> None:
        self.stage, self.since_ns, self.until_ns = stage, at_ns, 0
        self.left, self.recovering, self.permits, self.passed = 0, False, 0, 0
        self.probes = {}

    def forgotten(self, at_ns: int) -> bool:
        """Whether nothing about it matters any more."""
        return self.stage == "closed" and at_ns - self.opened_ns > _FORGIVEN_NS

    # -- one call --------------------------------------------------------------------------------

    def look(self, at_ns: int, harmless: bool, settings: Settings) -> Asked:
        """What would be said to a call now; moves nothing but what time alone moves."""
        stage = self.stage
        if stage == "forced_open" or (stage == "open" and self.person):
            return Asked(stage, False, 0, "person")
        if stage == "open":
            if at_ns < self.until_ns:
                return Asked(stage, False, self.until_ns - at_ns, "open")
            self._to("half_open", at_ns)
            self.permits = settings.permits
        if stage in ("open", "half_open"):
            return self._probe(at_ns, harmless, settings)
        if stage == "throttled":
            if at_ns >= self.until_ns:
                self._to("closed", at_ns)
                return _CLOSED
            if at_ns < self.next_ns:
                return Asked(stage, False, self.next_ns - at_ns, "throttled")
        return Asked(stage, True)

    def _probe(self, at_ns: int, harmless: bool, settings: Settings) -> Asked:
        if not harmless:
            return Asked("half_open", False, 0, "not_reversible")
        if self.permits <= 0:
            oldest = min(self.probes.values(), default=at_ns)
            return Asked("half_open", False, max(SECOND, min(5 * SECOND, at_ns - oldest)), "probing")
        return Asked("half_open", True)

    def take(self, call_id: str, at_ns: int) -> None:
        """The call goes: use up what ``look`` granted. Once for each call."""
        if self.stage == "half_open":
            self.permits -= 1
            self.probes[call_id] = at_ns
        elif self.stage == "throttled":
            self.next_ns = at_ns + self.gap_ns

    def settled(self, call_id: str, good: bool | None, at_ns: int, key: str, settings: Settings) -> None:
        """What became of a call; ``None`` says nothing either way, so that its permit is given back."""
        if self.stage == "half_open" and call_id in self.probes:
            del self.probes[call_id]
            if good is None:
                self.permits += 1
            elif not good:
                self.open(at_ns, key, settings)
            else:
                self.passed += 1
                if self.passed >= settings.permits:
                    self.guard(at_ns, settings, recovering=True)
        elif self.stage == "guarded" and good is not None:
            self.left -= 1
            if self.left <= 0:
                self._to("closed", at_ns)

    def expire(self, at_ns: int, key: str, settings: Settings) -> bool:
        """A probe whose outcome never came has failed; whether one had."""
        if self.stage == "half_open" and any(
            at_ns - begun > settings.probe_s * SECOND for begun in self.probes.values()
        ):
            self.open(at_ns, key, settings)
            return True
        return False


def wait_ns(opened: int, seed: str, settings: Settings) -> int:
    """The wait of the n-th opening in a row: doubled each time up to the most, and ±20 % by the seed, so that
    keys that opened together do not come back together."""
    base = min(settings.wait_s << opened, settings.wait_max_s) * SECOND
    jitter = crc32(seed.encode()) % 4001 - 2000  # of 10,000
    return base + base * jitter // 10_000
