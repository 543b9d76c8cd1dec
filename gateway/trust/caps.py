"""What holds a tier down for one call: the least of all circumstances, and which one it is."""

from __future__ import annotations

from typing import Final, Literal, NamedTuple

from gateway.trust.settings import Settings

CapName = Literal[
    "", "conflict", "unattested", "owner", "environment", "rebuilt", "debt", "untrusted", "delegator",
]  # fmt: skip
Attested = Literal["", "config", "credential", "conflict"]

NO_CAP: Final = 4


class Cap(NamedTuple):
    tier: int
    name: CapName


def lasting(attested: Attested, owner: str, environment: str, settings: Settings) -> Cap:
    """What is true of an agent whatever it does."""
    caps = settings.caps
    found = Cap(NO_CAP, "")
    if attested == "conflict":
        found = _least(found, Cap(caps.conflict, "conflict"))
    elif not attested:
        found = _least(found, Cap(caps.unattested, "unattested"))
    if settings.owners and owner not in settings.owners:
        found = _least(found, Cap(caps.owner, "owner"))
    if environment in caps.environments:
        found = _least(found, Cap(caps.environments[environment], "environment"))
    return found


def of_debt(debt: float, settings: Settings) -> Cap:
    """What an agent that has been in trouble lately may still do."""
    for least, tier in settings.debt_caps:
        if debt >= least:
            return Cap(tier, "debt")
    return Cap(NO_CAP, "")


def _least(one: Cap, other: Cap) -> Cap:
    return other if other.tier < one.tier else one


SAID: Final[dict[str, str]] = {
    "conflict": "its credential names another model, prompt or set of tools than the configuration",
    "unattested": "nobody says which model, prompt and tools it is",
    "owner": "its owner is not vouched for",
    "environment": "its environment",
    "rebuilt": "it changed and has to prove itself again",
    "debt": "its trouble of the last hours",
    "untrusted": "the session has read untrusted content and the tool sends",
    "delegator": "whoever it works for holds no more",
}
