"""Evidence: one outcome the gateway itself observed, and what it weighs.

For an agent counts only what was verified: its post-condition was read, a person reconciled a call in doubt,
or people approved the call as it was, and nothing spoke against it for a while. Nobody can hand evidence in.
"""

from __future__ import annotations

from typing import Final, Literal, NamedTuple

import msgspec

from gateway.trust.settings import RISKS

Outcome = Literal[
    "verified", "reconciled", "approved",
    "refuted", "edited", "rejected", "denied", "compensated", "tripped", "incident",
]  # fmt: skip

GOOD: Final = ("verified", "reconciled", "approved")


class Weight(NamedTuple):
    bad: float
    debt: float  # short-term (weights of ACGP: flag .1, nudge .5, escalate 1, block 2, halt 5)


WEIGHTS: Final[dict[str, Weight]] = {
    "verified": Weight(0.0, 0.0),
    "reconciled": Weight(0.0, 0.0),
    "approved": Weight(0.0, 0.0),
    "edited": Weight(0.5, 0.1),  # half for, half against: the other half comes when it went well
    "denied": Weight(0.5, 0.5),
    "compensated": Weight(0.5, 1.0),
    "rejected": Weight(1.0, 1.0),
    "refuted": Weight(1.0, 2.0),
    "tripped": Weight(2.0, 5.0),
    "incident": Weight(10.0, 5.0),
}


class Evidence(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One row of the ledger. Times are nanoseconds since the epoch."""

    ref: str  # what must count once, such as "for:CALL" or "trip:ID"
    tenant: str
    agent: str
    domain: str
    risk: str
    outcome: Outcome
    good: float = 0.0
    bad: float = 0.0
    call_id: str = ""  # that made it
    build: str = ""  # of the agent
    template: str = ""
    print: str = ""  # of the arguments: the same ones are the same work
    session: str = ""
    at_ns: int = 0
    note: str = ""
    seq: int = 0  # its place in the ledger


def against(outcome: Outcome, ref: str, **where: object) -> Evidence:
    """A failure, with its weight."""
    return Evidence(ref=ref, outcome=outcome, bad=WEIGHTS[outcome].bad, **where)  # type: ignore[arg-type]


def rank(risk: str) -> int:
    """Place of a class; one nobody knows is the worst."""
    return RISKS.index(risk) if risk in RISKS else len(RISKS) - 1
