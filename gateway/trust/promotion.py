"""Whether an agent may be promoted one tier: a question of evidence. People sign; nothing is promoted here.

The evidence must be of the class of tools that the tier opens, as good as its bound asks for, spread over
days and sessions, of more than one template, and newer than the last fall. These are floors that no policy
takes away; rules of the ``trust`` entry point may ask for more.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from hashlib import sha256
from math import ceil
from typing import Final

import msgspec

from gateway.trust.account import Account, held, owed
from gateway.trust.beta import lower_bound, needed
from gateway.trust.evidence import Evidence, rank
from gateway.trust.settings import DAY, HIGHEST, Settings

WATCHED_DEBT: Final = 3.0


class Standing(msgspec.Struct, frozen=True, kw_only=True):
    """How an agent stands to the tier above its own."""

    tier: int  # that one; above T4 there is none
    outcomes: int  # that count
    bound: float
    wanted: float
    more: int  # verified outcomes without a failure that would reach it
    days: int
    sessions: int
    share: float  # of the most frequent template
    people: int  # signatures it takes
    missing: tuple[str, ...] = ()  # why not, in words; none: it may be signed
    digest: str = ""  # of the evidence it rests on

    @property
    def eligible(self) -> bool:
        return not self.missing


def standing(
    account: Account,
    rows: Sequence[Evidence],
    domain: str,
    now_ns: int,
    settings: Settings,
    *,
    to: int | None = None,
) -> Standing:
    """``rows``: the evidence of this account for an agent. ``to``: the tier it holds, to sign it again."""
    has = held(account, now_ns, settings)
    again = to is not None
    to = has if again else min(has + 1, HIGHEST)
    tier = settings.tiers[to]
    wanted = tier.hold if again else tier.enter
    counting = [
        row for row in rows
        if row.good and row.at_ns > account.fresh_ns and rank(row.risk) >= rank(tier.risk)
    ]  # fmt: skip
    good = _sum(counting, account.build, now_ns, settings)
    bad = account.bad * _faded(now_ns - account.at_ns, settings.half_life_bad_days)
    bound = lower_bound(good, bad)
    days = len({row.at_ns // DAY for row in counting})
    # A credential may have one session for ever, so a day's work in it is one piece of work.
    sessions = len({(row.session, row.at_ns // DAY) for row in counting})
    share = max(Counter(row.template for row in counting).values(), default=0) / max(1, len(counting))
    more = max(0, ceil(needed(wanted, bad) - good - 1e-3)) if wanted else 0
    found = Standing(
        tier=to, outcomes=len(counting), bound=bound, wanted=wanted, more=more, days=days,
        sessions=sessions, share=share, people=2 if to >= settings.two_from else 1,
        digest=digest_of(counting, account, to),
    )  # fmt: skip
    missing = tuple(_missing(found, account, domain, now_ns, settings))
    if not again and has >= HIGHEST:
        missing = ("there is no higher tier",)
    return msgspec.structs.replace(found, missing=missing)


def _missing(
    found: Standing, account: Account, domain: str, now_ns: int, settings: Settings
) -> Iterator[str]:
    if found.wanted:
        if found.bound < found.wanted:
            wanted = f"a bound of {found.wanted:g} (now {found.bound:.4f})"
            yield f"{found.more} more verified outcomes for {wanted}"
        if found.days < settings.days:
            yield f"evidence of {settings.days} days (now {found.days})"
        if found.sessions < settings.sessions:
            yield f"evidence of {settings.sessions} sessions (now {found.sessions})"
        most = settings.share_of(domain)
        if found.outcomes and found.share > most:
            yield f"at most {most:.0%} of the evidence from one kind of call (now {found.share:.0%})"
        if account.reprove:
            yield f"{account.reprove} more outcomes since the agent changed"
    if now_ns < account.calm_ns:
        yield f"{_days(account.calm_ns - now_ns)} more of the cool-down"
    if account.tripped_ns and now_ns - account.tripped_ns < settings.calm_days * DAY:
        yield f"{settings.calm_days:g} days without a trip"
    if (debt := owed(account, now_ns, settings)) >= WATCHED_DEBT:
        yield f"a debt below {WATCHED_DEBT:g} (now {debt:.1f})"


def digest_of(rows: Sequence[Evidence], account: Account, to: int) -> str:
    """SHA-256 over the refs of the rows and what is held against it: what a signature is about."""
    said = [to, account.tier, round(account.bad, 6), account.falls, *sorted(row.ref for row in rows)]
    return sha256(msgspec.json.encode(said)).hexdigest()


def _sum(rows: Sequence[Evidence], build: str, now_ns: int, settings: Settings) -> float:
    return sum(
        row.good
        * _faded(now_ns - row.at_ns, settings.half_life_good_days)
        * (1.0 if row.build == build else 0.5)
        for row in rows
    )


def _faded(age_ns: int, half_life_days: float) -> float:
    return float(0.5 ** (max(0, age_ns) / (half_life_days * DAY)))


def _days(span_ns: int) -> str:
    days = span_ns / DAY
    return f"{days:.0f} days" if days >= 2 else f"{span_ns / DAY * 24:.0f} hours"
