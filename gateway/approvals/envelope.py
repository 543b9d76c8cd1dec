"""Break-glass, as it is declared beforehand: which calls two people may let through when nobody can be asked.

An envelope is written down in the configuration, with everything that it can ever allow. Opening it takes two
people and ends by itself. It is not a way around chains: it stands in for those it names, for the agents and
tools it names, and every call it lets through is an approval like any other, decided again, carried out once,
and marked. Pure.
"""

from __future__ import annotations

from collections.abc import Collection
from hashlib import sha256
from typing import Final

import msgspec

from gateway.approvals.chain import Who

MAX_S: Final = 3600


class Envelope(msgspec.Struct, frozen=True, kw_only=True):
    """One envelope of the configuration."""

    name: str
    title: str
    openers: Who
    agents: tuple[str, ...]
    tools: tuple[str, ...]  # "upstream/name", or "upstream/*"
    chains: tuple[str, ...]  # whose escalations it discharges
    max_s: float
    max_uses: int
    second_s: float  # time for the second person

    @property
    def revision(self) -> str:
        """Changes with anything that could change what opening it means."""
        return sha256(msgspec.json.encode(self, order="deterministic")).hexdigest()[:16]

    def covers(self, agent: str, target: str, chains: Collection[str]) -> bool:
        """Whether a call of this agent is inside, with every chain that was asked for."""
        upstream = target.partition("/")[0]
        inside = target in self.tools or f"{upstream}/*" in self.tools
        return agent in self.agents and inside and bool(chains) and set(chains) <= set(self.chains)
