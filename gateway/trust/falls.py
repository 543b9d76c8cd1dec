"""Falls: what a trip, an incident or failures do to a tier. At once, and without a person.

    an incident                   T0 in its domain, one less elsewhere
    an exact detector's trip      T1 in its domain (T0 from T1), one less elsewhere
    the bound below 'hold'        one less
    a promotion that ran out      the initial tier, without a cool-down

After a fall only what is earned from then on counts for a promotion, and none is signed before a cool-down
that doubles with each fall.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Literal, NamedTuple

from gateway.trust.account import Account, bound_for, decay, owed, take
from gateway.trust.evidence import WEIGHTS, Evidence
from gateway.trust.settings import DAY, HOUR, Settings

Cause = Literal["incident", "trip", "failures", "faded", "expired", "elsewhere", "operator", "policy"]

MOST_DOUBLED: Final = 6


class Fall(NamedTuple):
    before: int
    after: int
    cause: Cause


def struck(account: Account, cause: Literal["incident", "trip"], now_ns: int, settings: Settings) -> Fall:
    """Something went wrong in this very domain."""
    before = account.tier
    if cause == "trip":
        account.tripped_ns = max(now_ns, account.tripped_ns)
        to = 1 if before > 1 else 0
    else:
        to = 0
    return _fall(account, min(to, before), cause, now_ns, settings, fresh=True)


def elsewhere(account: Account, now_ns: int, settings: Settings) -> Fall | None:
    """Something went wrong in another domain of the same agent; nobody goes below T1 for that."""
    if account.tier <= 1:
        return None
    return _fall(account, account.tier - 1, "elsewhere", now_ns, settings, fresh=False)


def taken(
    account: Account, to: int, cause: Literal["operator", "policy"], now_ns: int, settings: Settings
) -> Fall:
    """An operator, or a rule, says so."""
    return _fall(account, min(to, account.tier), cause, now_ns, settings, fresh=cause == "operator")


def judged(account: Account, now_ns: int, settings: Settings, *, failed: bool) -> Fall | None:
    """Whether the tier still holds at a moment; ``failed``: because of an outcome, and not of time."""
    if account.until_ns and now_ns >= account.until_ns:
        before = account.tier
        account.tier = min(before, settings.initial)
        account.since_ns, account.until_ns, account.signed = now_ns, 0, False
        return Fall(before, account.tier, "expired") if account.tier != before else None
    before = account.tier
    if account.signed and not failed:
        return None
    decay(account, now_ns, settings)
    while account.tier > max(1, settings.initial):
        # Vouched for, it has no evidence yet; then only what speaks against it counts.
        hold = settings.tiers[account.tier].hold
        if account.signed and not _too_bad(account, settings):
            break
        if not account.signed and bound_for(account, account.tier, settings) >= hold:
            break
        account.tier -= 1
    if account.tier == before:
        return None
    after, account.tier = account.tier, before
    if not failed:
        account.tier, account.since_ns = after, now_ns
        return Fall(before, after, "faded")
    return _fall(account, after, "failures", now_ns, settings, fresh=False)


def pardoned(
    account: Account, rows: Sequence[Evidence], ref: str, fresh_ns: int, now_ns: int, settings: Settings
) -> None:
    """The last fall was for nothing: what was earned since the one before (``fresh_ns``) counts again.

    ``rows`` is all its evidence; that of ``ref`` is left out. What the fall before it asks for still is.
    The tier is not given back: people sign it.
    """
    # As much of its debt as there is left of it by now.
    kept = 1.0 - settings.debt_an_hour
    nothing = sum(
        WEIGHTS[row.outcome].debt * kept ** (max(0, now_ns - row.at_ns) / HOUR)
        for row in rows
        if row.ref == ref
    )
    debt = max(0.0, owed(account, now_ns, settings) - nothing)
    reprove = account.reprove
    account.read = account.reversible = account.compensable = account.irreversible = account.bad = 0.0
    account.fresh_ns = fresh_ns
    for row in rows:
        if row.ref != ref:
            take(account, row, now_ns, settings)
    account.reprove = reprove
    account.debt, account.debt_ns = debt, now_ns
    account.falls -= 1
    earlier = account.falls > 0 and fresh_ns > 0
    account.calm_ns = fresh_ns + _calm(account.falls - 1, settings) if earlier else 0
    account.tripped_ns = fresh_ns if earlier else 0


def _too_bad(account: Account, settings: Settings) -> bool:
    """Whether a tier that is vouched for has seen as much failure as a proven one could bear."""
    return account.bad >= 2.0


def _calm(falls: int, settings: Settings) -> int:
    """The cool-down of a fall, in ns, after so many others."""
    return int(settings.calm_days * 2 ** min(falls, MOST_DOUBLED) * DAY)


def _fall(
    account: Account, to: int, cause: Cause, now_ns: int, settings: Settings, *, fresh: bool
) -> Fall:  # fmt: skip
    before = account.tier
    account.tier = to
    account.since_ns, account.signed = now_ns, False
    if to <= settings.initial:
        account.until_ns = 0
    account.calm_ns = max(account.calm_ns, now_ns + _calm(account.falls, settings))
    account.falls += 1
    account.fresh_ns = now_ns
    if fresh:
        account.read = account.reversible = account.compensable = account.irreversible = 0.0
    return Fall(before, to, cause)
