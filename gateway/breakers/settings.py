"""Every number of the detectors and the state machine, with its default and where it comes from."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import msgspec

SECOND: Final = 1_000_000_000
MINUTE: Final = 60 * SECOND
DAY: Final = 86_400 * SECOND

STATISTICAL: Final = ("errors", "denials", "rate", "surprise", "tools", "bytes", "cost", "places")
EXACT: Final = ("repeat", "no_progress", "cycle", "return", "denied", "cap", "canary")
DETECTORS: Final = (*STATISTICAL, *EXACT)


class Tail(msgspec.Struct, frozen=True):
    """How often a statistic on clean traffic passes a threshold ``h``: ``rate * exp(-h / scale)`` a call.

    The excursions of a CUSUM under control have an exponential tail (Siegmund, Sequential Analysis, 1985),
    so two numbers from replayed traffic say what threshold a false-alarm rate needs.
    """

    rate: float
    scale: float
    least: float = 0.5  # the shortest scale that is learned for an agent


TAILS: Final[Mapping[str, Tail]] = {
    "errors": Tail(0.010, 4.0),
    "denials": Tail(0.0025, 2.0),
    "rate": Tail(0.10, 2.8),
    # Habits change seldom and all at once: an agent's calm weeks say little of the day on which they do.
    "surprise": Tail(0.010, 14.0, 5.5),
    "tools": Tail(0.005, 2.5),
    "bytes": Tail(0.020, 2.0),
    "cost": Tail(0.020, 2.0),
    "places": Tail(0.005, 2.0),
}
"""Of the most unruly of the agents ``tests/breakers`` knows; each agent's own tail is learned below these."""


class Caps(msgspec.Struct, frozen=True, kw_only=True):
    """Limits of one session or delegation tree that are never to be passed; ``None`` for no limit."""

    calls: int | None = None
    writes: int | None = None
    irreversible: int | None = None
    bytes_out: int | None = None
    cost_micro_usd: int | None = None
    depth: int | None = None


NO_CAPS: Final = Caps()


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    # -- exact detectors -------------------------------------------------------------------------
    repeat: int = 5  # the same call with the same result in a row (agent-watchdog, punch: 3 to 5)
    repeat_of: int = 8  # … or so many
    repeat_in: int = 20  # … of so many calls
    repeat_any: int = 15  # the same call in a row, whatever comes back: slowed down only
    no_progress: int = 6  # other arguments, the very same answer (zeroclaw: 5)
    no_progress_short: int = 20  # … when it is a short one ("no match"): slowed down only
    short_bytes: int = 512  # an answer up to this size says yes, no or nothing: many questions have it
    cycle: int = 4  # rounds of 2 to 4 calls (agent-watchdog)
    returns: int = 2  # of one resource to an earlier state, by two actors in turn
    denied_guard: int = 5  # refusals in a row: writes need a person
    denied_open: int = 10
    denied_total: float = 20.0  # refusals of one session (Claude Code: 20) …
    denied_forgiven: float = 0.05  # … less this much for each call that goes through: 1 in 21 is free
    session_caps: Caps = NO_CAPS
    tree_caps: Caps = NO_CAPS
    canaries: tuple[str, ...] = ()  # targets no honest call goes to
    # -- statistical detectors -------------------------------------------------------------------
    tails: Mapping[str, Tail] = msgspec.field(default_factory=lambda: TAILS)
    false_first: float = 1.0  # false first responses an agent may see a day, by all detectors together
    false_open: float = 0.1  # … and false stops
    warm_up: int = 200  # calls before a baseline is believed
    # -- responses -------------------------------------------------------------------------------
    together: int = 30  # calls within which two statistical detectors stop the agent
    wait_s: int = 60  # the first wait of an open breaker; doubles each time (Envoy: a multiple of 30 s)
    wait_max_s: int = 3600
    permits: int = 3
    probe_s: int = 300  # a probe without an outcome by then has failed
    recover: int = 50  # calls under guard after a recovery
    throttle_s: int = 60
    throttle_gap_ms: int = 1000  # between calls while throttled
    enforce_percent: Mapping[str, int] = {}  # by detector; 100 where it is not named (Envoy: enforcing_*)
    max_open_percent: int = 10  # of a tenant's agents (Envoy: max_ejection_percent); at least one
    seed: str = ""  # of jitter and of who is within a percentage
    # -- upstream health -------------------------------------------------------------------------
    health_window: int = 50
    health_least: int = 10  # calls before a share means anything (resilience4j: 100)
    health_failures: float = 0.5  # resilience4j: failureRateThreshold 50
    slow_s: float = 60.0  # resilience4j: slowCallDurationThreshold
    health_slow: float = 0.9
    # -- memory ----------------------------------------------------------------------------------
    max_sessions: int = 20_000
    max_sessions_of_agent: int = 200
    max_behaviours: int = 5_000
    max_machines: int = 10_000
    max_resources: int = 5_000
