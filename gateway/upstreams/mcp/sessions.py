"""Legacy sessions with an HTTP upstream: one an owner, opened when needed, never shared."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Final

from gateway.errors import NotSent, UpstreamError
from gateway.upstreams.peer import Owner, joined

if TYPE_CHECKING:
    from gateway.upstreams.mcp.questions import Questions

MAX_SESSIONS: Final = 1024


class Session:
    """What the requests of a session say in their headers, and who is waiting in it."""

    __slots__ = ("headers", "id", "level", "owner", "running")

    def __init__(self, session_id: str, headers: bytes, owner: Owner) -> None:
        self.id = session_id  # "" with a server that keeps none
        self.headers = headers
        self.owner = owner  # whose credential its requests carry
        self.level = ""  # of log messages, as the server was told
        self.running: list[Questions] = []  # calls under way, oldest first


Opener = Callable[[Owner, float], Awaitable[Session]]
Ender = Callable[[Owner, Session], None]


class Sessions:
    """``opener`` makes a session with the server; ``ender`` is called with one that is not used any more."""

    def __init__(self, opener: Opener, ender: Ender) -> None:
        self._open = opener
        self._end = ender
        self._held: OrderedDict[Owner, Session] = OrderedDict()
        self._opening: dict[Owner, asyncio.Task[Session]] = {}

    async def of(self, owner: Owner, at: float) -> Session:
        """The owner's session, opened when there is none; concurrent calls open one together.

        Raises ``NotSent`` whatever fails: the call itself was not sent.
        """
        session = self._held.get(owner)
        if session is not None:
            self._held.move_to_end(owner)
            return session
        task = self._opening.get(owner)
        if task is None:
            task = self._opening[owner] = asyncio.ensure_future(self._make(owner, at))
            task.add_done_callback(lambda done: self._opened(owner, done))
        try:
            return await joined(task, at)
        except NotSent:
            raise
        except UpstreamError as error:
            raise NotSent("upstream_unavailable", f"initialize failed: {error}") from None

    async def _make(self, owner: Owner, at: float) -> Session:
        session = await self._open(owner, at)
        self.put(owner, session)
        return session

    def put(self, owner: Owner, session: Session) -> None:
        """Hold a session that is already open, in place of the owner's earlier one."""
        before = self._held.pop(owner, None)
        self._held[owner] = session
        if before is not None:
            self._end(owner, before)
        while len(self._held) > MAX_SESSIONS:
            self._end(*self._held.popitem(last=False))

    def over(self, owner: Owner, session: Session) -> None:
        """The server says that it no longer knows this session."""
        if self._held.get(owner) is session:
            del self._held[owner]

    def of_thread(self, thread: str) -> list[tuple[Owner, Session]]:
        """Those opened for one client, by the name of its thread."""
        return [(owner, held) for owner, held in self._held.items() if owner.thread == thread]

    def clear(self) -> list[Session]:
        """Forget all of them and hand them over."""
        held = list(self._held.values())
        self._held.clear()
        return held

    def _opened(self, owner: Owner, task: asyncio.Task[Session]) -> None:
        self._opening.pop(owner, None)
        if not task.cancelled():
            task.exception()  # whoever waited has it; nobody may have
