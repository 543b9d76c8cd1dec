"""Bounds on work in flight, in the whole gateway and per agent.

Memory, sockets and the policy thread are shared by all agents, so what one agent may have in flight is
bounded apart from the total. The counts live on the event loop's thread and need no lock.
"""

from __future__ import annotations

import asyncio

from gateway import strictjson
from gateway.config import LimitsConfig
from gateway.errors import Overloaded
from gateway.model import Json, Principal

RETRY_AFTER_S = 1.0


class InFlight:
    """Implements ``ports.Limits``."""

    def __init__(self, config: LimitsConfig) -> None:
        self._total_max = config.in_flight
        self._agent_max = config.in_flight_per_agent
        self._bytes_max = config.policy_input_bytes
        self._nodes_max = config.policy_input_nodes
        self._agents: dict[tuple[str, str], int] = {}
        self.total = 0
        self.idle = asyncio.Event()  # set while nothing is in flight after ``close``
        self.closing = False

    def enter(self, principal: Principal) -> None:
        if self.closing:
            raise Overloaded("shutting_down", retry_after=RETRY_AFTER_S)
        key = (principal.tenant, principal.agent)
        mine = self._agents.get(key, 0)
        if self.total >= self._total_max or mine >= self._agent_max:
            raise Overloaded("overloaded", retry_after=RETRY_AFTER_S)
        self._agents[key] = mine + 1
        self.total += 1

    def leave(self, principal: Principal) -> None:
        key = (principal.tenant, principal.agent)
        left = self._agents[key] - 1
        if left:
            self._agents[key] = left
        else:
            del self._agents[key]
        self.total -= 1
        if self.closing and not self.total:
            self.idle.set()

    def close(self) -> None:
        """Refuse all that comes; ``idle`` tells when the last call in flight has left."""
        self.closing = True
        if not self.total:
            self.idle.set()

    def decidable(self, args: Json, args_json: bytes) -> bool:
        if len(args_json) > self._bytes_max:
            return False
        # Few commas prove few values without a walk; many may just stand in a text.
        return strictjson.nodes(args_json) <= self._nodes_max or strictjson.count(args) <= self._nodes_max

    def resized(self, config: LimitsConfig) -> None:
        """Take new bounds; what is in flight stays."""
        self._total_max = config.in_flight
        self._agent_max = config.in_flight_per_agent
        self._bytes_max = config.policy_input_bytes
        self._nodes_max = config.policy_input_nodes
