"""Which tiers can be reached at all, and by how much verified work.

Under forgetting, ``v`` outcomes a day never sum up to more than ``v · half-life / ln 2``; so each bound has a
least rate that ever reaches it, and one that more than the counted outcomes a day would need is out of reach.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import log
from typing import NamedTuple

from gateway.trust.beta import lower_bound, needed
from gateway.trust.settings import HIGHEST, RISKS, Settings


class Need(NamedTuple):
    tier: int
    bound: float
    outcomes: int  # that reach it, without a failure and without forgetting
    per_day: float  # that keep it reached
    days: int  # until it is reached at twice that rate; at least those the evidence is spread over


def limit(per_day: float, settings: Settings) -> float:
    """The sum that so many outcomes a day tend to."""
    return per_day * settings.half_life_good_days / log(2)


def needs(settings: Settings) -> Iterator[Need]:
    for number in range(2, HIGHEST + 1):
        tier = settings.tiers[number]
        outcomes = needed(tier.enter)
        per_day = outcomes * log(2) / settings.half_life_good_days
        days = max(settings.days, int(settings.half_life_good_days) + 1)
        yield Need(number, tier.enter, outcomes, per_day, days)


def faults(settings: Settings) -> Iterator[str]:
    """Everything about the parameters that could not work, in words."""
    most = limit(settings.per_day, settings)
    before = 0.0
    for number in range(2, HIGHEST + 1):
        tier = settings.tiers[number]
        reached = lower_bound(most, 0.0)
        if tier.enter > reached:
            yield (
                f"T{number} asks for a bound of {tier.enter:g}, and {settings.per_day} outcomes a day "
                f"with a half-life of {settings.half_life_good_days:g} days never exceed {reached:.4f}: "
                "lower 'enter', or raise 'per_day' or 'half_life_good_days'"
            )
        if tier.hold > tier.enter:
            yield f"T{number} would be lost when it is reached: 'hold' {tier.hold:g} is above {tier.enter:g}"
        if tier.enter < before:
            yield f"T{number} asks for less than T{number - 1}: {tier.enter:g} below {before:g}"
        if not set(settings.tiers[number - 1].unattended) <= set(tier.unattended):
            yield f"T{number} takes away tools that T{number - 1} opens"
        if tier.budget_share < settings.tiers[number - 1].budget_share:
            yield f"T{number} has less of the budget than T{number - 1}"
        before = tier.enter
    if set(settings.tiers[0].unattended) | set(settings.tiers[1].unattended) != {RISKS[0]}:
        yield "T0 and T1 only read unattended"
    if settings.half_life_bad_days < settings.half_life_good_days:
        yield "failures would be forgotten sooner than good outcomes: raise 'half_life_bad_days'"
    if settings.signed_days < settings.days:
        yield "a promotion would end before its evidence could be renewed: raise 'signed_days'"
