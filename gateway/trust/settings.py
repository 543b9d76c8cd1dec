"""Every number of trust, with its default and where it comes from."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import msgspec

SECOND: Final = 1_000_000_000
HOUR: Final = 3600 * SECOND
DAY: Final = 86_400 * SECOND

RISKS: Final = ("read", "reversible", "compensable", "irreversible")
"""From the least to the most; evidence of a class counts for that one and for those before it."""

HIGHEST: Final = 4
NAMES: Final = (
    "observe", "propose", "reversible writes", "supervised irreversible", "bounded autonomy",
)  # fmt: skip


class Tier(msgspec.Struct, frozen=True, kw_only=True):
    """What one tier asks for, and the three things it buys."""

    enter: float = 0.0  # the bound to be promoted
    hold: float = 0.0  # … and to stay; a tier lower below it
    risk: str = "reversible"  # whose outcomes count for it: of this class and above
    budget_share: float = 1.0  # of the agent's own budget
    horizon_calls: int = 0  # calls that may change something, before a person looks
    horizon_s: int = 0  # … and seconds from the first of them
    unattended: tuple[str, ...] = ("read",)  # classes of tools that need no person


TIERS: Final = (
    Tier(budget_share=0.1),
    Tier(budget_share=0.25),
    Tier(enter=0.98, hold=0.95, budget_share=0.5, horizon_calls=50, horizon_s=3600,
         unattended=RISKS[:2]),
    Tier(enter=0.99, hold=0.98, risk="compensable", budget_share=0.75, horizon_calls=200,
         horizon_s=4 * 3600, unattended=RISKS),
    Tier(enter=0.995, hold=0.99, risk="compensable", horizon_calls=1000, horizon_s=24 * 3600,
         unattended=RISKS),
)  # fmt: skip


class Caps(msgspec.Struct, frozen=True, kw_only=True):
    """The highest tier under a circumstance."""

    unattested: int = 2  # nobody says which model, prompt and tools it is
    conflict: int = 0  # its credential says otherwise than the configuration
    rebuilt: int = 2  # it changed, and has not shown enough since
    owner: int = 1  # its owner is not among those that are vouched for
    untrusted_egress: int = 1  # its session has read what outsiders wrote, and the tool sends
    environments: Mapping[str, int] = {}


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    tiers: tuple[Tier, ...] = TIERS
    initial: int = 1  # of an agent nobody knows
    half_life_good_days: float = 30.0
    half_life_bad_days: float = 90.0  # failures are remembered longer
    grace_s: float = 86_400.0  # in which an outcome may still turn out to be none
    per_day: int = 50  # outcomes that count, of one class, a day: more work is not more trust
    days: int = 5  # distinct days the evidence for a promotion is spread over
    sessions: int = 10
    template_share: float = 0.2  # of it that may come from one template
    template_shares: Mapping[str, float] = {}  # by domain
    calm_days: float = 14.0  # without a trip before a promotion, and the first cool-down after a fall
    signed_days: float = 90.0  # until a promotion must be renewed
    sign_within_days: float = 7.0  # all signatures of one promotion
    two_from: int = 3  # tiers from here on need two people, one from outside the team
    denied_free: int = 5  # refusals a day that say nothing
    denied_share: float = 0.05  # … and of the calls of that day
    reprove: int = 50  # outcomes after a change of the agent until its cap ends (with half its evidence)
    debt_an_hour: float = 0.05  # of it that is forgotten
    debt_caps: tuple[tuple[float, int], ...] = ((10.0, 0), (6.0, 1), (3.0, 2))  # at so much, this tier
    caps: Caps = Caps()
    owners: tuple[str, ...] = ()  # that are vouched for; empty: all that the configuration names

    def share_of(self, domain: str) -> float:
        return self.template_shares.get(domain, self.template_share)
