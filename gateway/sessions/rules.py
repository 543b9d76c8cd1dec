"""What configuration says of sessions and budgets, as the state needs it. Swapped as a whole on reload."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from gateway.sessions.budgets import Limit
from gateway.sessions.mandate import Ceiling, Mandate
from gateway.sessions.progress import Horizon

Who = tuple[str, str]  # tenant, agent


class SessionRules(msgspec.Struct, frozen=True, kw_only=True):
    mandates: Mapping[Who, Mandate] = {}  # of rolling sessions
    mints: Mapping[Who, Ceiling] = {}  # which agents may open sessions, and how far
    agent_limits: Mapping[Who, tuple[Limit, ...]] = {}
    tenant_limits: Mapping[str, tuple[Limit, ...]] = {}
    horizon: Horizon = Horizon()  # of sessions whose mandate has none
    live: int = 10_000  # sessions in memory
