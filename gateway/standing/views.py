"""Trust for people and programs, made of the storage: the same with and without a running gateway."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from gateway.model import Principal
from gateway.standing.book import short_cap
from gateway.storage.trust import Event, Where
from gateway.trust.account import Account, held, owed, refresh
from gateway.trust.caps import NO_CAP, SAID, Cap, lasting
from gateway.trust.evidence import Evidence
from gateway.trust.explain import score, sentence
from gateway.trust.promotion import standing
from gateway.trust.settings import Settings
from gateway.trust.simulate import curve


def described(
    where: Where, known: Account, rows: Sequence[Evidence], events: Sequence[Event], cap: Cap | None,
    now_ns: int, settings: Settings,
) -> dict[str, Any]:  # fmt: skip
    """One agent in one domain. ``rows`` are what speaks for it; ``cap`` is of an agent that is configured."""
    account = msgspec.structs.replace(known)
    refresh(account, now_ns, settings)
    cap = cap or Cap(NO_CAP, "")
    has = held(account, now_ns, settings)
    next_ = standing(account, rows, where.domain, now_ns, settings)
    tier = min(has, cap.tier)
    buys = settings.tiers[tier]
    return {
        "agent": where.agent,
        "domain": where.domain,
        "sentence": sentence(account, next_, cap, now_ns, settings),
        "tier": tier,
        "held": has,
        "score": score(account, tier),
        "cap": cap.name if cap.tier < has else "",
        "cap_reason": SAID[cap.name] if cap.tier < has else "",
        "bound": account.bound,
        "evidence": {
            "read": account.read, "reversible": account.reversible, "compensable": account.compensable,
            "irreversible": account.irreversible, "against": account.bad,
        },
        "debt": owed(account, now_ns, settings),
        "since_ns": account.since_ns,
        "until_ns": account.until_ns,
        "vouched": account.signed,
        "falls": account.falls,
        "calm_ns": account.calm_ns if account.calm_ns > now_ns else 0,
        "reprove": account.reprove,
        "unattended": account.unattended,
        "buys": {
            "budget_share": buys.budget_share, "horizon_calls": buys.horizon_calls,
            "horizon_s": buys.horizon_s, "unattended": list(buys.unattended),
        },
        "next": {
            "tier": next_.tier, "eligible": next_.eligible, "missing": list(next_.missing),
            "outcomes": next_.outcomes, "bound": next_.bound, "wanted": next_.wanted, "more": next_.more,
            "days": next_.days, "sessions": next_.sessions, "share": next_.share, "people": next_.people,
            "digest": next_.digest,
        },
        "events": [msgspec.structs.asdict(event) for event in events[-10:]],
    }  # fmt: skip


def cap_of(account: Account, principal: Principal | None, now_ns: int, settings: Settings) -> Cap | None:
    """What holds a configured agent down, whatever it does."""
    if principal is None:
        return None
    last = lasting(principal.attested, principal.owner, principal.environment, settings)
    short = short_cap(account, now_ns, settings)
    return short if short.tier < last.tier else last


def curve_of(rows: Sequence[Evidence], now_ns: int, settings: Settings) -> list[dict[str, Any]]:
    """The bound of each day, for a chart."""
    return [{"at_ns": point.at_ns, "bound": point.bound} for point in curve(rows, now_ns, settings)]
