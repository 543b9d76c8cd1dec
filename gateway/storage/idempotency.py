"""Idempotency keys and the answers kept for them.

A key belongs to one tenant, credential and verified user. Its row is on disk before the request it stands for
can have an effect, and names the id of the call to come; so after a crash the journal says what became of it.
All methods run on the event loop's thread; the database is used in one thread of its own.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Final, Literal, NamedTuple, TypeVar

import orjson
from sqlalchemy import Connection, delete, func, insert, select, update
from sqlalchemy.exc import DatabaseError

from gateway.config import LimitsConfig
from gateway.errors import JournalError, Overloaded
from gateway.model import Principal
from gateway.storage.crypto import Sealed, StorageKey, Unreadable
from gateway.storage.database import Database
from gateway.storage.tables import idempotency as rows

KEEP_NS: Final = 24 * 3600 * 1_000_000_000
MAX_ANSWER_BYTES: Final = 256 * 1024
SWEEP_NS: Final = 60 * 1_000_000_000
_SWEEP: Final = 500  # expired rows removed at once
_RETRY_S: Final = 1.0

T = TypeVar("T")


class _Held:
    """What is remembered at this moment."""

    __slots__ = ("by_agent", "bytes", "rows")

    def __init__(self) -> None:
        self.rows = 0
        self.bytes = 0
        self.by_agent: dict[tuple[str, str], int] = {}


def _count(connection: Connection) -> _Held:
    held = _Held()
    query = select(rows.c.tenant, rows.c.agent, func.count(), func.sum(rows.c.size))
    for tenant, agent, count, size in connection.execute(query.group_by(rows.c.tenant, rows.c.agent)):
        held.rows += count
        held.bytes += size
        held.by_agent[tenant, agent] = count
    return held


class Kept(NamedTuple):
    """An answer as it was given."""

    status: int
    body: bytes


class Begun(NamedTuple):
    """What a key stands for at this moment.

    ``new``: go on, and end with ``finish`` or ``forget``. ``other``: it was used with another request.
    ``running``: the first request is under way. ``answered``: ``answer`` is what was said, ``None`` when it
    was too large to keep. ``unfinished``: the process that had it ended; the journal knows ``call_id``.
    """

    state: Literal["new", "other", "running", "answered", "unfinished"]
    id: str
    call_id: str
    answer: Kept | None = None


class IdempotencyKeys:
    """One for a gateway; the file is held by one gateway, so a key cannot be in use in two of them."""

    def __init__(
        self,
        database: Database,
        key: StorageKey,
        now_ns: Callable[[], int],
        limits: LimitsConfig,
        *,
        keep_answers: bool = True,
    ) -> None:
        """Without ``keep_answers`` a repetition is told that the answer is not kept, and happens no more."""
        self._database = database
        self._key = key
        self._now_ns = now_ns
        self._keep = keep_answers
        self.limits = limits
        self._running: dict[str, tuple[str, str]] = {}  # id → MAC of the request, call id
        # Of the thread only: what is remembered, counted when first needed and after rows went.
        self._held: _Held | None = None
        self._swept_ns = 0
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="wardgate-idempotency")

    def close(self) -> None:
        self._thread.shutdown(wait=True)

    async def begin(self, principal: Principal, key: str, request: bytes, call_id: str) -> Begun:
        """Look a key up, or take it for the call that will have this id.

        Raises ``Overloaded`` when too many are remembered, ``JournalError`` when nothing can be written.
        """
        id_ = self._id(principal, key)
        mac = self._key.mac(f"idempotency/{id_}", request)
        if (held := self._running.get(id_)) is not None:
            return Begun("running" if held[0] == mac else "other", id_, held[1])
        # Taken before the first await, or two requests of the same moment would both be the first.
        self._running[id_] = (mac, call_id)
        try:
            begun = await self._in_thread(lambda: self._begin(principal, id_, mac, call_id))
        except BaseException:  # whatever it was, the key is not in use
            self._running.pop(id_, None)
            raise
        if begun.state != "new":
            del self._running[id_]
        return begun

    async def again(self, begun: Begun, request: bytes, call_id: str) -> Begun:
        """Take an unfinished key whose call is known to have had no effect, for a call of another id."""
        mac = self._key.mac(f"idempotency/{begun.id}", request)
        if (held := self._running.get(begun.id)) is not None:
            return Begun("running", begun.id, held[1])
        self._running[begun.id] = (mac, call_id)
        try:
            taken = await self._in_thread(lambda: self._again(begun, call_id))
        except BaseException:  # whatever it was, the key is not in use
            self._running.pop(begun.id, None)
            raise
        if not taken:
            del self._running[begun.id]
            return Begun("running", begun.id, begun.call_id)
        return Begun("new", begun.id, call_id)

    async def finish(self, begun: Begun, answer: Kept) -> None:
        """Keep the answer; on disk when this returns."""
        try:
            await self._in_thread(lambda: self._finish(begun, answer))
        finally:
            self._running.pop(begun.id, None)

    async def forget(self, begun: Begun) -> None:
        """Give the key back: nothing happened, and the same request may well succeed later."""
        try:
            await self._in_thread(lambda: self._forget(begun))
        finally:
            self._running.pop(begun.id, None)

    def abandon(self, begun: Begun) -> None:
        """Leave the key unfinished: the journal will say what became of its call."""
        self._running.pop(begun.id, None)

    async def find(self, principal: Principal, key: str) -> str | None:
        """The id of the call a key stands for."""
        id_ = self._id(principal, key)
        if (held := self._running.get(id_)) is not None:
            return held[1]
        return await self._in_thread(lambda: self._find(id_))

    # -- in the thread -----------------------------------------------------------------------------------

    async def _in_thread(self, work: Callable[[], T]) -> T:
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, work)
        except DatabaseError as error:
            self._held = None  # what was counted may not have been stored
            raise JournalError("journal_unavailable", str(error.orig)) from error

    def _begin(self, principal: Principal, id_: str, mac: str, call_id: str) -> Begun:
        now = self._now_ns()
        if now - self._swept_ns >= SWEEP_NS:
            self._sweep(now)
        with self._database.writing() as connection:
            row = connection.execute(select(rows).where(rows.c.id == id_)).first()
            if row is not None and row.expires_ns <= now:
                connection.execute(delete(rows).where(rows.c.id == id_))
                self._held = row = None
            if row is None:
                held = self._held = self._held or _count(connection)
                owner = (principal.tenant, principal.agent)
                # A key costs a row for a day: an agent that invents them must not fill the disk.
                if (
                    held.rows >= self.limits.idempotency_keys
                    or held.by_agent.get(owner, 0) >= self.limits.idempotency_keys_per_agent
                    or held.bytes >= self.limits.idempotency_bytes
                ):
                    raise Overloaded("overloaded", "idempotency keys", _RETRY_S)
                new = {
                    "id": id_, "tenant": principal.tenant, "agent": principal.agent, "request_mac": mac,
                    "call_id": call_id, "expires_ns": now + KEEP_NS,
                }  # fmt: skip
                connection.execute(insert(rows), new)
                held.rows += 1
                held.by_agent[owner] = held.by_agent.get(owner, 0) + 1
                return Begun("new", id_, call_id)
        if row.request_mac != mac:
            return Begun("other", id_, row.call_id)
        if row.status is None:
            return Begun("unfinished", id_, row.call_id)
        if row.ciphertext is None:
            return Begun("answered", id_, row.call_id)
        try:
            body = self._key.open(f"idempotency/{id_}", Sealed(row.key_id, row.nonce, row.ciphertext))
        except Unreadable:  # sealed with a storage key of before: as good as not kept
            return Begun("answered", id_, row.call_id)
        return Begun("answered", id_, row.call_id, Kept(row.status, body))

    def _again(self, begun: Begun, call_id: str) -> bool:
        with self._database.writing() as connection:
            taken = update(rows).where(
                rows.c.id == begun.id, rows.c.call_id == begun.call_id, rows.c.status.is_(None)
            )
            return connection.execute(taken.values(call_id=call_id)).rowcount == 1

    def _finish(self, begun: Begun, answer: Kept) -> None:
        sealed: dict[str, object] = {}
        size = len(answer.body)
        if self._keep and size <= MAX_ANSWER_BYTES:
            sealer = self._key.sealer(self._now_ns())
            key_id, nonce, ciphertext = sealer.seal(f"idempotency/{begun.id}", answer.body)
            sealed = {"key_id": key_id, "nonce": nonce, "ciphertext": ciphertext, "size": size}
        with self._database.writing() as connection:
            mine = (rows.c.id == begun.id) & (rows.c.call_id == begun.call_id)
            connection.execute(update(rows).where(mine).values(status=answer.status, **sealed))
        if sealed and self._held is not None:
            self._held.bytes += size

    def _forget(self, begun: Begun) -> None:
        with self._database.writing() as connection:
            connection.execute(delete(rows).where(rows.c.id == begun.id, rows.c.call_id == begun.call_id))
        self._held = None

    def _find(self, id_: str) -> str | None:
        query = select(rows.c.call_id).where(rows.c.id == id_, rows.c.expires_ns > self._now_ns())
        with self._database.reading() as connection:
            found: str | None = connection.execute(query).scalar()
        return found

    def _sweep(self, now: int) -> None:
        """Remove what expired, a bounded lot at a time."""
        expired = select(rows.c.id).where(rows.c.expires_ns <= now).limit(_SWEEP)
        with self._database.writing() as connection:
            gone = connection.execute(delete(rows).where(rows.c.id.in_(expired))).rowcount
        if gone:
            self._held = None
        if gone < _SWEEP:
            self._swept_ns = now

    def _id(self, principal: Principal, key: str) -> str:
        # Keyed, because a key can be guessable and the row outlives the request.
        owner = (principal.tenant, principal.credential, principal.subject, principal.chain, key)
        return self._key.mac("idempotency", orjson.dumps(owner))
