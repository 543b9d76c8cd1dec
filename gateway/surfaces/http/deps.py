"""What the HTTP front needs from the gateway, as plain callables that ``app.py`` fills in."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Protocol

import msgspec

from gateway.config import LimitsConfig, ServerConfig
from gateway.config_upstream import RouteConfig
from gateway.model import Presented, Principal, Tool
from gateway.ports import Parts
from gateway.storage.idempotency import IdempotencyKeys
from gateway.surfaces.sessions import Sessions


class Past(msgspec.Struct, frozen=True, kw_only=True):
    """What the journal says of one call."""

    tenant: str
    agent: str
    subject: str | None
    decided: bool  # whether somebody else was to carry it out: its tool runs elsewhere, or nobody reported
    writes: bool
    refused: bool
    end: str  # the last phase on record that says what became of it; "" when there is none
    status: str  # of that phase
    item: Mapping[str, Any]  # as the list of decisions shows it

    def is_of(self, principal: Principal) -> bool:
        mine = (principal.tenant, principal.agent, principal.subject)
        return mine == (self.tenant, self.agent, self.subject)


class Ledger(Protocol):
    """The journal's read side. It blocks, so it is called in a worker thread; raises ``JournalError``."""

    def find(self, call_id: str) -> Past | None: ...

    def list(
        self, principal: Principal, limit: int, cursor: str | None
    ) -> tuple[Sequence[Mapping[str, Any]], str | None]:
        """The principal's own decisions, newest first, and the cursor of the next page.

        Raises ``ValueError`` for a cursor that is not its own.
        """

    def confirm(self, call_id: str, by: str) -> bool:
        """Record that a call in doubt happened after all; false when its doubt was resolved before."""


class HttpDeps(msgspec.Struct, frozen=True, kw_only=True):
    """Everything the HTTP front calls."""

    version: str
    server: ServerConfig
    parts: Callable[[], Parts]
    authenticate: Callable[[Presented], Awaitable[Principal]]  # raises ``Unauthenticated``
    limits: Callable[[], LimitsConfig]
    routes: Callable[[str], Sequence[RouteConfig] | None]  # of an upstream; None when it has no such thing
    elsewhere: Callable[[], Sequence[Tool]]  # tools that run elsewhere, for the list
    keys: IdempotencyKeys
    ledger: Ledger
    sessions: Sessions
    open_decisions: Callable[[int], None]  # telemetry: how many there are
