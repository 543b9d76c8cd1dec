"""Mandates: what was delegated to an agent, and its bounds.

parse(raw)            what somebody wrote → ``Mandate``, or ``BadMandate`` with all that is wrong
within(child, parent) what of a child goes beyond its parent
narrowed(parent, …)   what two mandates both allow
covers, outside       whether a call is covered; the policy library says the same in Rego
facts(mandate)        ``input.mandate``
"""

from gateway.sessions.mandate.bounds import Bounds
from gateway.sessions.mandate.containment import Ceiling, narrowed, within
from gateway.sessions.mandate.globs import contained, matches, overlaps
from gateway.sessions.mandate.parsing import parse
from gateway.sessions.mandate.value import (
    Horizon,
    Mandate,
    Milestone,
    Outside,
    Proof,
    covers,
    decode,
    encode,
    facts,
    outside,
)

__all__ = [
    "Bounds",
    "Ceiling",
    "Horizon",
    "Mandate",
    "Milestone",
    "Outside",
    "Proof",
    "contained",
    "covers",
    "decode",
    "encode",
    "facts",
    "matches",
    "narrowed",
    "outside",
    "overlaps",
    "parse",
    "within",
]
