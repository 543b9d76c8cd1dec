"""Legacy MCP sessions: the handshake's memory, and nothing that a decision depends on.

A session id is 256 random bits and is bound to the principal and the endpoint that opened it; both are
compared at every request, so a stolen id is worth nothing without the credential. The table is bounded in
total, by idle time and per principal: an agent that opens sessions without end pushes out its own.
"""

from __future__ import annotations

import secrets
from collections import OrderedDict
from collections.abc import Callable
from hashlib import sha256
from typing import Any, NamedTuple

from gateway.model import Principal
from gateway.surfaces.mcp.callers import Conversation
from gateway.surfaces.mcp.changes import Outbox
from gateway.surfaces.mcp.envelope import Rejected


class Owner(NamedTuple):
    """Whom a session belongs to, and on which endpoint (``None`` is the aggregate)."""

    tenant: str
    agent: str
    credential: str
    subject: str | None
    upstream: str | None


class Session:
    """One handshake. ``thread`` names it in records without giving the id away."""

    __slots__ = (
        "capabilities", "conversation", "level", "listening", "live", "log_level", "outbox", "owner", "seen",
        "thread",
    )  # fmt: skip

    def __init__(self, owner: Owner, thread: str, seen: float, outbox: Outbox) -> None:
        self.owner = owner
        self.thread = thread
        self.seen = seen
        self.capabilities: dict[str, Any] = {}  # of the client, as it declared them
        self.conversation = Conversation()
        self.outbox = outbox
        self.level = ""  # of log messages, as the client asked for; "" before it did
        self.log_level = 0  # its rank in ``protocol.LOG_LEVELS``; the server's default is all
        self.listening = False  # whether a GET stream is open
        self.live = True  # until it ends or is pushed out


class Sessions:
    """The sessions held at once, least recently used first."""

    def __init__(self, limit: int, idle_s: float, ended: Callable[[Session], None]) -> None:
        """``ended`` is called once with each session that is over."""
        self._ended = ended
        self._limit = limit
        self._owner_limit = max(1, limit // 4)
        self._idle_s = idle_s
        self._held: OrderedDict[bytes, Session] = OrderedDict()
        self._counts: dict[Owner, int] = {}

    def __len__(self) -> int:
        return len(self._held)

    def open(
        self, principal: Principal, upstream: str | None, capabilities: dict[str, Any], now: float
    ) -> bytes:
        """Start a session and return its id; raises ``Rejected`` when others hold all places."""
        owner = owner_of(principal, upstream)
        self._expire(now)
        mine = self._counts.get(owner, 0)
        if mine and (mine >= self._owner_limit or len(self._held) >= self._limit):
            self._drop(next(key for key, session in self._held.items() if session.owner == owner))
        elif len(self._held) >= self._limit:
            # Pushing out somebody else's session would let one agent disturb all others.
            raise Rejected("overloaded", headers=((b"retry-after", b"5"),))
        key = secrets.token_urlsafe(32).encode()
        thread = sha256(key).hexdigest()[:32]
        session = Session(owner, thread, now, Outbox(principal, upstream, thread))
        session.capabilities = capabilities
        self._held[key] = session
        self._counts[owner] = self._counts.get(owner, 0) + 1
        return key

    def find(self, key: bytes | None, owner: Owner, now: float) -> Session:
        """The caller's own live session, or ``Rejected``: the same answer for unknown, expired, foreign."""
        if key is None:
            raise Rejected("unknown_session", "The Mcp-Session-Id header is missing.", status=400)
        session = self._held.get(key)
        # An id alone proves nothing: it may have leaked through a log or a proxy.
        if session is None or session.owner != owner:
            raise Rejected("unknown_session")
        if now - session.seen > self._idle_s:
            self._drop(key)
            raise Rejected("unknown_session")
        self.touch(key, session, now)
        return session

    def touch(self, key: bytes, session: Session, now: float) -> None:
        """Keep a live session from going idle."""
        if session.live:
            session.seen = now
            self._held.move_to_end(key)

    def close(self, key: bytes | None, owner: Owner, now: float) -> None:
        """End the caller's own session."""
        self.find(key, owner, now)
        assert key is not None
        self._drop(key)

    def _expire(self, now: float) -> None:
        while self._held:
            key, session = next(iter(self._held.items()))
            if now - session.seen <= self._idle_s:
                return
            self._drop(key)

    def _drop(self, key: bytes) -> None:
        session = self._held.pop(key)
        session.live = False
        session.conversation.close()
        self._ended(session)
        owner = session.owner
        left = self._counts[owner] - 1
        if left:
            self._counts[owner] = left
        else:
            del self._counts[owner]


def owner_of(principal: Principal, upstream: str | None) -> Owner:
    return Owner(principal.tenant, principal.agent, principal.credential, principal.subject, upstream)
