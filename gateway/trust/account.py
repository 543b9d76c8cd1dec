"""What is known of one agent in one domain: sums that decay, the tier it holds, its short-term debt.

A sum is Σ weight · 2^(−age / half-life), as of one moment, so that it does not matter in which order outcomes
come in. Nothing in here reads a clock.
"""

from __future__ import annotations

import msgspec

from gateway.trust.beta import lower_bound
from gateway.trust.evidence import WEIGHTS, Evidence, rank
from gateway.trust.settings import DAY, HOUR, Settings


class Account(msgspec.Struct, kw_only=True, gc=False, omit_defaults=True):
    """Mutable; one for each (tenant, agent, domain) of which anything is known."""

    # -- the tier --------------------------------------------------------------------------------
    tier: int
    since_ns: int = 0
    until_ns: int = 0  # when it ends; 0 when it does not
    signed: bool = False  # an operator vouches for what was proven elsewhere: no bound is asked for
    falls: int = 0
    calm_ns: int = 0  # no promotion before
    fresh_ns: int = 0  # what happened before does not count for a promotion any more
    tripped_ns: int = 0
    # -- evidence --------------------------------------------------------------------------------
    at_ns: int = 0  # of the sums
    read: float = 0.0
    reversible: float = 0.0
    compensable: float = 0.0
    irreversible: float = 0.0
    bad: float = 0.0
    bound: float = 0.05  # of the class its tier is about, when it was last worked out
    seq: int = 0  # of the newest evidence in it
    # -- the agent -------------------------------------------------------------------------------
    build: str = ""
    reprove: int = 0  # outcomes still to come before the cap of a changed agent ends
    # -- short term ------------------------------------------------------------------------------
    debt: float = 0.0
    debt_ns: int = 0
    unattended: int = 0  # calls that may change something since a person looked
    unattended_ns: int = 0  # the first of them
    day: int = 0
    calls: int = 0  # of that day
    denials: int = 0


def decay(account: Account, now_ns: int, settings: Settings) -> None:
    """Bring the sums to a moment; a moment that is past already changes nothing."""
    age = now_ns - account.at_ns
    if age <= 0:
        return
    account.at_ns = now_ns
    if not (_from(account, 0) or account.bad):
        return
    good = 0.5 ** (age / (settings.half_life_good_days * DAY))
    account.read *= good
    account.reversible *= good
    account.compensable *= good
    account.irreversible *= good
    account.bad *= 0.5 ** (age / (settings.half_life_bad_days * DAY))


def take(account: Account, row: Evidence, now_ns: int, settings: Settings) -> None:
    """Add one outcome. Each row once: that is the ledger's to see to."""
    decay(account, now_ns, settings)
    at_ns = min(row.at_ns, account.at_ns)  # a clock that runs ahead must not make it weigh more
    age = account.at_ns - at_ns
    if row.good and at_ns > account.fresh_ns:
        # What another version of the agent did says half as much of this one.
        same = row.build == account.build
        weight = row.good * 0.5 ** (age / (settings.half_life_good_days * DAY)) * (1.0 if same else 0.5)
        name = row.risk if rank(row.risk) < 3 else "irreversible"
        setattr(account, name, getattr(account, name) + weight)
        if account.reprove and same:
            account.reprove -= 1
    if row.bad:
        account.bad += row.bad * 0.5 ** (age / (settings.half_life_bad_days * DAY))
        owe(account, WEIGHTS[row.outcome].debt, now_ns, settings)
    account.seq = max(account.seq, row.seq)


def owe(account: Account, debt: float, now_ns: int, settings: Settings) -> None:
    account.debt = owed(account, now_ns, settings) + debt
    account.debt_ns = max(now_ns, account.debt_ns)


def owed(account: Account, now_ns: int, settings: Settings) -> float:
    """The short-term debt as of a moment."""
    if not account.debt:
        return 0.0
    hours = max(0, now_ns - account.debt_ns) / HOUR
    left = account.debt * float((1.0 - settings.debt_an_hour) ** hours)
    return left if left > 0.005 else 0.0


def good_for(account: Account, tier: int, settings: Settings) -> float:
    """Verified outcomes, decayed, of the classes that count for a tier."""
    return _from(account, rank(settings.tiers[tier].risk))


def bound_for(account: Account, tier: int, settings: Settings) -> float:
    """The bound that a tier is judged by: outcomes of its classes, failures of all."""
    return lower_bound(good_for(account, tier, settings), account.bad)


def refresh(account: Account, now_ns: int, settings: Settings) -> float:
    """Work the bound out anew, as of a moment."""
    decay(account, now_ns, settings)
    account.bound = bound_for(account, max(account.tier, 2), settings)
    return account.bound


def changed(account: Account, build: str, settings: Settings) -> None:
    """Another model, prompt or set of tools under the same name: half of what it earned, and a cap.

    While that cap lasts a further change only makes it last longer.
    """
    before, account.build = account.build, build
    if not before:
        return  # nobody had said before what it is
    if not account.reprove:  # or a rolling deployment, two builds in turn, would leave nothing within minutes
        account.read /= 2
        account.reversible /= 2
        account.compensable /= 2
        account.irreversible /= 2
    account.reprove = settings.reprove
    account.bound = bound_for(account, max(account.tier, 2), settings)


def held(account: Account | None, now_ns: int, settings: Settings) -> int:
    """The tier it holds at a moment, before any cap."""
    if account is None:
        return settings.initial
    if account.until_ns and now_ns >= account.until_ns:
        return min(account.tier, settings.initial)
    return account.tier


def known(account: Account) -> float:
    """How much is known: good and bad together, decayed."""
    return _from(account, 0) + account.bad


def _from(account: Account, least: int) -> float:
    good = account.irreversible + account.compensable
    if least < 2:
        good += account.reversible
    return good + account.read if least < 1 else good
