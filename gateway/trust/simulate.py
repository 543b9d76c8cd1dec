"""What recorded outcomes would have earned under other parameters.

A person is assumed to sign as soon as that is possible; what a real one would have done is not known.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Literal

import msgspec

from gateway.trust import falls
from gateway.trust.account import Account, refresh, take
from gateway.trust.evidence import Evidence
from gateway.trust.promotion import standing
from gateway.trust.settings import DAY, Settings

_CURVE_DAYS: Final = 400


class Point(msgspec.Struct, frozen=True, kw_only=True):
    """A day: the bound, the tier, and what happened."""

    at_ns: int
    bound: float
    tier: int
    event: str = ""


class Simulated(msgspec.Struct, frozen=True, kw_only=True):
    tier: int
    highest: int
    bound: float
    outcomes: int
    points: tuple[Point, ...]


def simulate(rows: Sequence[Evidence], domain: str, settings: Settings, until_ns: int = 0) -> Simulated:
    """``rows`` of one account in any order; one point a day and one for each change of the tier."""
    ordered = sorted(rows, key=lambda row: row.at_ns)
    account = Account(tier=settings.initial)
    points: list[Point] = []
    seen: list[Evidence] = []
    highest = account.tier
    day = ordered[0].at_ns // DAY if ordered else 0
    last = max(until_ns, ordered[-1].at_ns) if ordered else until_ns

    def close(at_ns: int) -> None:
        nonlocal highest
        refresh(account, at_ns, settings)
        event = ""
        if (fell := falls.judged(account, at_ns, settings, failed=False)) is not None:
            event = _fell(fell)
        elif standing(account, seen, domain, at_ns, settings).eligible:
            promote(account, at_ns, settings)
            event = f"T{account.tier} signed"
        highest = max(highest, account.tier)
        points.append(Point(at_ns=at_ns, bound=account.bound, tier=account.tier, event=event))

    waiting = list(ordered)
    while ordered and day <= last // DAY:
        end_ns = (day + 1) * DAY
        while waiting and waiting[0].at_ns < end_ns:
            row = waiting.pop(0)
            if not account.build:
                account.build = row.build
            take(account, row, row.at_ns, settings)
            seen.append(row)
            fell = fallen(account, row.outcome, row.at_ns, settings)
            if fell is not None:
                refresh(account, row.at_ns, settings)
                points.append(
                    Point(at_ns=row.at_ns, bound=account.bound, tier=account.tier, event=_fell(fell))
                )
        close(min(end_ns - 1, max(last, day * DAY)))
        day += 1
    return Simulated(
        tier=account.tier, highest=highest, bound=account.bound,
        outcomes=sum(1 for row in rows if row.good), points=tuple(points),
    )  # fmt: skip


def fallen(account: Account, outcome: str, now_ns: int, settings: Settings) -> falls.Fall | None:
    """What an outcome does to the tier at once."""
    kinds: dict[str, Literal["incident", "trip"]] = {"incident": "incident", "tripped": "trip"}
    if outcome in kinds:
        return falls.struck(account, kinds[outcome], now_ns, settings)
    return falls.judged(account, now_ns, settings, failed=True)


def promote(
    account: Account, now_ns: int, settings: Settings, *, to: int | None = None, days: float = 0.0
) -> None:
    """A promotion that was signed."""
    account.tier = account.tier + 1 if to is None else to
    account.since_ns = now_ns
    account.until_ns = (
        now_ns + int((days or settings.signed_days) * DAY) if account.tier > settings.initial else 0
    )
    account.signed = to is not None
    refresh(account, now_ns, settings)


def _fell(fell: falls.Fall) -> str:
    return f"T{fell.before} to T{fell.after}: {fell.cause}"


def curve(rows: Sequence[Evidence], now_ns: int, settings: Settings) -> list[Point]:
    """The bound of outcomes that may change something, at the end of each day until now."""
    waiting = sorted(rows, key=lambda row: row.at_ns)
    if not waiting:
        return []
    account = Account(tier=settings.initial, build=waiting[-1].build)
    points: list[Point] = []
    for day in range(max(waiting[0].at_ns // DAY, now_ns // DAY - _CURVE_DAYS), now_ns // DAY + 1):
        end_ns = min((day + 1) * DAY - 1, now_ns)
        while waiting and waiting[0].at_ns <= end_ns:
            take(account, waiting.pop(0), end_ns, settings)
        refresh(account, end_ns, settings)
        points.append(Point(at_ns=end_ns, bound=account.bound, tier=account.tier))
    return points
