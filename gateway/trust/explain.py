"""Where an agent stands in a domain, in one sentence and its numbers."""

from __future__ import annotations

from gateway.trust.account import Account, good_for, held, owed
from gateway.trust.caps import SAID, Cap
from gateway.trust.promotion import Standing
from gateway.trust.settings import DAY, HIGHEST, NAMES, Settings


def sentence(account: Account, next_: Standing, cap: Cap, now_ns: int, settings: Settings) -> str:
    """ "T2. 200 verified, 0 failures: bound .985. For T3: 98 more, signatures of two." """
    tier = held(account, now_ns, settings)
    good = good_for(account, max(tier, 2), settings)
    parts = [
        f"T{tier} ({NAMES[tier]}).",
        f"{number(good)} verified, {number(account.bad)} failures: bound {bound(account.bound)}.",
    ]
    if account.signed:
        parts.append("Signed for what was proven elsewhere.")
    if tier < HIGHEST:
        people = "signatures of two" if next_.people == 2 else "a signature"
        wanted = list(next_.missing)
        if next_.wanted and next_.bound < next_.wanted:
            wanted[0] = f"{next_.more} more"
        parts.append(f"For T{next_.tier}: {', '.join([*wanted, people])}.")
    if cap.tier < tier:
        parts.append(f"Held at T{cap.tier}: {SAID[cap.name]}.")
    if account.until_ns and tier > settings.initial:
        days = max(0, account.until_ns - now_ns) // DAY
        parts.append(f"Ends in {days} days unless it is signed again.")
    if (debt := owed(account, now_ns, settings)) >= 0.1:
        parts.append(f"Short-term debt {debt:.1f}.")
    return " ".join(parts)


def bound(value: float) -> str:
    """.985, cut and not rounded: a bound that is not reached must not look like one that is."""
    return f"{int(value * 1000) / 1000:.3f}".removeprefix("0")


def number(value: float) -> str:
    """Decayed sums: whole where they are, else with one digit."""
    rounded = round(value, 1)
    return f"{rounded:.0f}" if rounded == int(rounded) else f"{rounded:.1f}"


def score(account: Account, tier: int) -> int:
    """0 to 1,000, for display only: nothing is decided by it."""
    return min(1000, tier * 200 + round(account.bound * 200))
