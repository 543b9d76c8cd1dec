"""How people review, measured from their votes, and when that is a reason to worry. Pure.

People who are asked too often stop looking. What that looks like from outside: nearly everything is
approved, in a second or two, in bursts. Two things can be wrong then, the rule that asks and the reviewer who
is asked, so every number is worked out for both.

The time of a decision is the most that the person can have spent on it: from when the call was opened, from
when they first looked at it, or from their decision before, whichever came last. It is taken of approvals
only; a quick no is nothing to worry about.

Reviews of agents that earn trust (tier T1, whose every write is approved) are measured apart: such an agent
is approved nearly always *because* it is good. Canaries, requests that must be rejected, are apart too.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from statistics import median
from typing import Final, Literal

import msgspec

Kind = Literal["normal", "earning", "canary"]
Alarm = Literal["all_approved", "too_fast", "canary_approved"]

FAST_S: Final = 3.0
BURST_S: Final = 600
HOUR_S: Final = 3600
KINDS: Final[tuple[Kind, ...]] = ("normal", "earning", "canary")


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """``approvals.fatigue`` of the configuration."""

    per_hour: int = 30  # approvals and rejections after which one person approves no more
    earning_per_hour: int = 60  # the same, of agents that earn trust
    window_days: int = 30  # what is measured
    rate: float = 0.97  # more approvals than this …
    rate_over: int = 50  # … of at least so many decisions
    median_s: float = 4.0  # faster than this …
    median_over: int = 10  # … over at least so many approvals


class Review(msgspec.Struct, frozen=True, kw_only=True):
    """One vote, as far as it is measured."""

    approval_id: str
    principal: str
    at_ns: int
    decision: Literal["approve", "reject"]
    took_ms: int
    kind: Kind
    rules: tuple[str, ...]


class Measure(msgspec.Struct, frozen=True, kw_only=True):
    """Reviews of one kind, by one person or for one rule. Rates are ``None`` when there is nothing yet."""

    decided: int = 0
    approved: int = 0
    rate: float | None = None  # approved of decided
    median_s: float | None = None  # of approvals
    least_s: float | None = None
    under_3s: float | None = None  # share of approvals
    burst: int = 0  # most decisions within ten minutes
    last_hour: int = 0
    incidents: int = 0  # approved calls that turned out to be wrong


class Line(msgspec.Struct, frozen=True, kw_only=True):
    """All that is measured of one person or one rule."""

    name: str
    normal: Measure
    earning: Measure
    canaries: int = 0  # decided
    canaries_approved: int = 0
    alarms: tuple[Alarm, ...] = ()
    capped: bool = False  # of a person: approves no more this hour


class Summary(msgspec.Struct, frozen=True, kw_only=True):
    """Everything about one tenant."""

    reviewers: tuple[Line, ...] = ()
    rules: tuple[Line, ...] = ()
    since_ns: int = 0
    reviews: int = 0  # that were measured


def summed(
    reviews: Sequence[Review], incidents: Collection[str], settings: Settings, *, now_ns: int, since_ns: int
) -> Summary:
    """Measure reviews, given by time; ``incidents`` are ids of approvals that turned out to be wrong."""
    people: dict[str, list[Review]] = {}
    rules: dict[str, list[Review]] = {}
    for each in reviews:
        people.setdefault(each.principal, []).append(each)
        for rule in each.rules:
            rules.setdefault(rule, []).append(each)
    return Summary(
        reviewers=tuple(
            _line(name, found, incidents, settings, now_ns, person=True)
            for name, found in sorted(people.items())
        ),
        rules=tuple(
            _line(name, found, incidents, settings, now_ns, person=False)
            for name, found in sorted(rules.items())
        ),
        since_ns=since_ns,
        reviews=len(reviews),
    )


def measured(reviews: Sequence[Review], incidents: Collection[str], now_ns: int) -> Measure:
    """Numbers of reviews given by time."""
    approvals = [each for each in reviews if each.decision == "approve"]
    times = [each.took_ms / 1000 for each in approvals]
    hour = now_ns - HOUR_S * 1_000_000_000
    return Measure(
        decided=len(reviews),
        approved=len(approvals),
        rate=len(approvals) / len(reviews) if reviews else None,
        median_s=median(times) if times else None,
        least_s=min(times, default=None),
        under_3s=sum(took < FAST_S for took in times) / len(times) if times else None,
        burst=busiest(each.at_ns for each in reviews),
        last_hour=sum(each.at_ns > hour for each in reviews),
        incidents=len({each.approval_id for each in approvals} & set(incidents)),
    )


def busiest(moments: Iterable[int], within_s: int = BURST_S) -> int:
    """The most moments within any span of that length; they come in order."""
    at = list(moments)
    most = first = 0
    for last, moment in enumerate(at):
        while moment - at[first] > within_s * 1_000_000_000:
            first += 1
        most = max(most, last - first + 1)
    return most


def alarms(normal: Measure, settings: Settings) -> list[Alarm]:
    """What of these numbers is a reason to look at who, or what, they are of."""
    found: list[Alarm] = []
    if normal.decided >= settings.rate_over and (normal.rate or 0) > settings.rate:
        found.append("all_approved")
    fast = normal.median_s is not None and normal.median_s < settings.median_s
    if fast and normal.approved >= settings.median_over:
        found.append("too_fast")
    return found


def _line(
    name: str, found: Sequence[Review], incidents: Collection[str], settings: Settings, now_ns: int, *,
    person: bool,
) -> Line:  # fmt: skip
    kinds: dict[Kind, list[Review]] = {kind: [] for kind in KINDS}
    for each in found:
        kinds[each.kind].append(each)
    normal = measured(kinds["normal"], incidents, now_ns)
    earning = measured(kinds["earning"], incidents, now_ns)
    said = alarms(normal, settings)
    wrong = sum(each.decision == "approve" for each in kinds["canary"])
    if wrong and person:
        said.append("canary_approved")
    hour = now_ns - HOUR_S * 1_000_000_000
    canaries = sum(each.at_ns > hour for each in kinds["canary"])
    return Line(
        name=name,
        normal=normal,
        earning=earning,
        canaries=len(kinds["canary"]),
        canaries_approved=wrong,
        alarms=tuple(said),
        # A canary counts like what it pretends to be: otherwise it could be told by that.
        capped=person
        and (
            normal.last_hour + canaries >= settings.per_hour or earning.last_hour >= settings.earning_per_hour
        ),
    )
