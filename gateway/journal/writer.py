"""One thread that writes, one transaction a batch (group commit).

While one transaction waits for the disk the next batch gathers, so the cost of ``fdatasync`` is shared by
everything that came meanwhile. The event loop is woken once a batch, and only when somebody waits.

When the disk refuses, whoever waits is told so, and everything already carried out is kept and tried again:
reads that were answered and outcomes of calls that were made. Intents that nobody may rely on any more are
dropped, so that a call which was refused can never look as if it was under way.
"""

from __future__ import annotations

import asyncio
import logging
import queue
import threading
import time
from collections.abc import Callable, Sequence
from typing import Final

from sqlalchemy import Connection

from gateway.errors import ApprovalError, JournalError, WardgateError
from gateway.journal.entries import Encoder, End, Entry, Intent
from gateway.ports import Permit
from gateway.storage.database import Appender, Database

logger = logging.getLogger(__name__)

Waiting = tuple[Entry, "asyncio.Future[None] | None", int]
"""An entry, who waits for it to be on disk, and its size in bytes."""

_PROBE: Final = (
    "INSERT INTO control (name, epoch) VALUES ('probe', ?)"
    " ON CONFLICT (name) DO UPDATE SET epoch = excluded.epoch"
)
RETRY_S: Final = 0.5
CHORES_S: Final = 60.0
_MORE_CHORES_S: Final = 0.05


class Writer:
    """Owns the writing connection. ``put`` and ``stop`` are called from the event loop's thread."""

    def __init__(
        self,
        database: Database,
        encoder: Encoder,
        committed: Callable[[Sequence[Waiting]], None],
        chores: Callable[[], bool],
    ) -> None:
        """``committed`` and ``chores`` run in the thread; ``chores`` says whether more is left to do."""
        self._database = database
        self._encoder = encoder
        self._committed = committed
        self._chores = chores
        self._queue: queue.SimpleQueue[list[Waiting] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="wardgate-journal", daemon=True)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._appender: Appender | None = None
        self.stopped = False
        # Written by the thread only, read anywhere.
        self.failing = False
        self.finished = 0
        self.finished_bytes = 0
        self.written = 0
        self.dropped = 0
        self.batches = 0
        self.last_write_ns = 0

    def start(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._thread.start()

    def put(self, batch: list[Waiting]) -> None:
        self._queue.put(batch)

    async def stop(self, timeout_s: float) -> None:
        """Write what is there and end; what cannot be written in time is lost and logged."""
        self.stopped = True
        self._queue.put(None)
        await asyncio.to_thread(self._thread.join, timeout_s)

    def _run(self) -> None:
        backlog: list[Waiting] = []
        stopping = False
        chores_at = time.monotonic() + CHORES_S
        while not stopping:
            arrived, stopping = self._gather(RETRY_S if self.failing else chores_at - time.monotonic())
            if arrived or backlog or self.failing:
                backlog = self._attempt(backlog + arrived)
            if not self.failing and (stopping or time.monotonic() >= chores_at):
                chores_at = time.monotonic() + (_MORE_CHORES_S if self._do_chores() else CHORES_S)
        if backlog:
            logger.error("stopped with %d records that could not be written", len(backlog))
        self._disconnect()

    def _gather(self, timeout_s: float) -> tuple[list[Waiting], bool]:
        """Everything handed over by now, waiting for the first up to ``timeout_s``."""
        try:
            batch = self._queue.get(timeout=max(timeout_s, 0))
            if batch is None:
                return [], True
            while not self._queue.empty():
                more = self._queue.get_nowait()
                if more is None:
                    return batch, True
                batch += more
        except queue.Empty:
            return [], False
        return batch, False

    def _attempt(self, batch: list[Waiting]) -> list[Waiting]:
        """Commit a batch and tell those who wait; returns what must be tried again."""
        if len(batch) > 1 and any(_permit(entry) is not None for entry, _, _ in batch):
            return self._apart(batch)
        try:
            self._commit(batch)
        except Exception as error:  # the thread must outlive any fault: without it no call can be made
            if self._database.at_fault(error):
                return self._failed(batch, error)
            if isinstance(error, ApprovalError):  # the claim was lost, so there is no intent either
                self._finish(batch, error)
                return []
            if len(batch) == 1:
                logger.exception("a record could not be written")
                self.dropped += 1
                self._finish(batch, JournalError("journal_unavailable", type(error).__name__))
                return []
            # One record that cannot be stored must not take the others with it.
            again: list[Waiting] = []
            for waiting in batch:
                again += self._attempt([waiting])
            return again
        if self.failing:
            logger.warning("the journal is writable again")
            self.failing = False
        self.written += len(batch)
        self.batches += 1
        self.last_write_ns = time.time_ns()
        self._committed(batch)
        self._finish(batch, None)
        return []

    def _apart(self, batch: list[Waiting]) -> list[Waiting]:
        """Each claim has a transaction of its own, which may fail without taking others with it."""
        again: list[Waiting] = []
        plain: list[Waiting] = []
        for waiting in batch:
            if _permit(waiting[0]) is None:
                plain.append(waiting)
            else:
                again += self._attempt([waiting])
        return again + (self._attempt(plain) if plain else [])

    def _commit(self, batch: Sequence[Waiting]) -> None:
        if len(batch) == 1 and (permit := _permit(batch[0][0])) is not None:
            self._commit_with(permit, batch[0][0])
            return
        appender = self._connected()
        try:
            if batch:
                statements = self._encoder.rows(entry for entry, _, _ in batch).statements()
            else:  # a probe must write: a full disk still reads
                statements = [(_PROBE, [(int(time.time()),)])]
            said = self._database.statement
            appender.append([(said(text), values) for text, values in statements if values])
        except BaseException:  # whatever it was, nothing of this batch is stored
            self._encoder.forget()  # … nor are the snapshots it believes stored
            raise

    def _commit_with(self, permit: Permit, entry: Entry) -> None:
        """The record and what it means for an approval: both, or neither."""
        if isinstance(entry, End) and not permit.taken:
            return  # cancelled while its claim was refused: it never began
        try:
            self._connected()  # where the numbering of payloads goes on
            rows = self._encoder.rows([entry])
            with self._database.writing() as connection:
                if isinstance(entry, End):
                    self._told(permit, connection, entry)
                else:
                    permit.begin(connection)
                for statement, values in rows.statements():
                    if values:
                        connection.exec_driver_sql(self._database.statement(statement), values)
        except BaseException:  # whatever it was, nothing of it is stored
            self._encoder.forget()
            raise

    @staticmethod
    def _told(permit: Permit, connection: Connection, entry: End) -> None:
        """An outcome is recorded in any case: its approval then lapses, and is in doubt."""
        try:
            permit.end(connection, entry.outcome)
        except ApprovalError:
            logger.exception("the approval of call %s could not be told its outcome", entry.call.id)

    def _failed(self, batch: list[Waiting], error: Exception) -> list[Waiting]:
        if not self.failing:
            logger.error("the journal is not writable, calls are refused: %s", error)
            self.failing = True
        self._disconnect()
        kept: list[Waiting] = []
        gone: list[Waiting] = []
        for entry, waiter, size in batch:
            if waiter is None or isinstance(entry, End):
                kept.append((entry, None, size))
            else:
                gone.append((entry, waiter, size))
        self.dropped += len(gone)
        refusal = JournalError("journal_unavailable", str(error))
        self._finish(gone, refusal)
        self._tell([waiter for entry, waiter, _ in batch if waiter and isinstance(entry, End)], refusal)
        return kept

    def _finish(self, batch: Sequence[Waiting], error: WardgateError | None) -> None:
        self.finished += len(batch)
        self.finished_bytes += sum(size for _, _, size in batch)
        waiters = [waiter for _, waiter, _ in batch if waiter is not None]
        self._tell(waiters, error)

    def _tell(self, waiters: list[asyncio.Future[None]], error: WardgateError | None) -> None:
        if not waiters or self._loop is None:
            return
        try:
            self._loop.call_soon_threadsafe(_resolve, waiters, error)
        except RuntimeError:  # the loop is closed: nobody waits any more
            logger.warning("%d calls ended before their records were on disk", len(waiters))

    def _do_chores(self) -> bool:
        try:
            return self._chores()
        except Exception as error:  # noqa: BLE001 - chores come again; the journal must not stop with them
            logger.warning("journal housekeeping failed: %s", error)
            return False

    def _connected(self) -> Appender:
        if self._appender is None:
            appender = self._database.appender()
            self._encoder.payloads_after(appender.last_payload())
            self._appender = appender
        return self._appender

    def _disconnect(self) -> None:
        appender, self._appender = self._appender, None
        if appender is not None:
            try:
                appender.close()
            except Exception as error:  # noqa: BLE001 - it is given up anyway; the thread must live on
                logger.debug("closing the broken connection failed: %s", error)


def _permit(entry: Entry) -> Permit | None:
    return entry.permit if isinstance(entry, Intent | End) else None


def _resolve(waiters: list[asyncio.Future[None]], error: WardgateError | None) -> None:
    for waiter in waiters:
        if waiter.done():  # cancelled meanwhile
            continue
        if error is None:
            waiter.set_result(None)
        else:
            waiter.set_exception(error)
