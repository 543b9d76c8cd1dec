"""The journal as the pipeline sees it: what is not on record does not happen.

The intent of a call that may write is on disk before ``intent`` returns; so is its outcome before
``settle`` returns. Records of reads and of refusals follow within ``storage.read_batch_ms``. Memory is
bounded: when the disk does not keep up, calls are refused.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Final

from gateway.config import StorageConfig
from gateway.digest import new_id
from gateway.errors import JournalError
from gateway.journal.entries import Checked, Early, Encoder, End, Entry, Intent
from gateway.journal.recovery import Watermark
from gateway.journal.retention import Retention
from gateway.journal.writer import Waiting, Writer
from gateway.model import Action, Call, Decision, Facts, Outcome, Principal, Revisions, Settled, Verified
from gateway.ports import Clock, Permit
from gateway.storage.crypto import StorageKey
from gateway.storage.database import Database

MAX_QUEUED_BYTES: Final = 64 * 1024 * 1024
REFUSED_PER_S: Final = 50.0


class Journal:
    """Implements ``ports.Journal`` on SQLite. All methods run on the event loop's thread.

    ``revisions`` is asked once a record; ``controls`` are the parts of the gateway that are, or are not,
    in force (``"breakers:absent"``), named in every record.
    """

    def __init__(
        self,
        database: Database,
        key: StorageKey,
        *,
        clock: Clock,
        settings: StorageConfig,
        revisions: Callable[[], Revisions],
        controls: tuple[str, ...] = (),
    ) -> None:
        self._clock = clock
        self._revisions = revisions
        self._queue_limit = settings.queue
        self._read_delay_s = settings.read_batch_ms / 1000
        self._watermark = Watermark(database)
        self._retention = Retention(database, settings.payload_days)
        self._encoder = Encoder(key, controls, settings.payload_days > 0)
        self._writer = Writer(database, self._encoder, self._committed, self._chores)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._batch: list[Waiting] = []
        self._soon = False
        self._later: asyncio.TimerHandle | None = None
        self._accepted = 0
        self._accepted_bytes = 0
        self._dropped = 0
        self._tokens = REFUSED_PER_S
        self._tokens_at = clock.monotonic()

    def start(self) -> None:
        """Start the writer thread; call it on the running loop, after recovery."""
        self._loop = asyncio.get_running_loop()
        self._writer.start()

    def configured(self, controls: tuple[str, ...]) -> None:
        """Other parts are in force from now on."""
        self._encoder.controls = controls

    async def stop(self, timeout_s: float = 10.0) -> None:
        """Write everything that is queued and end the thread."""
        self._hand_over()
        await self._writer.stop(timeout_s)

    # -- what telemetry shows --------------------------------------------------------------------

    @property
    def writable(self) -> bool:
        return self._refuses() is None

    @property
    def depth(self) -> int:
        """Records that are not on disk yet."""
        return self._accepted - self._writer.finished

    @property
    def written(self) -> int:
        return self._writer.written

    @property
    def dropped(self) -> int:
        """Refusals that left no record: too many of them, or no disk to write them to."""
        return self._dropped + self._writer.dropped

    @property
    def last_write_ns(self) -> int:
        return self._writer.last_write_ns

    # -- the port --------------------------------------------------------------------------------

    async def intent(
        self, call: Call, facts: Facts, decision: Decision, action: Action, code: str = "",
        settled: Settled | None = None, permit: Permit | None = None,
    ) -> None:  # fmt: skip
        # Fail closed, and before memory grows: a record that cannot be written soon is not promised.
        if (why := self._refuses()) is not None:
            self._dropped += 1
            raise JournalError("journal_unavailable", why)
        mark = settled.mark if settled is not None else None
        now, revisions = self._clock.now_ns(), self._revisions()
        entry = Intent(now, call, facts, decision, action, code, revisions, mark, permit)
        # A refusal has no effect that could outrun its record.
        if not (call.tool.writes and entry.happens) and permit is None:
            self._put(entry, len(call.args_json))
            return
        try:
            await self._put_and_wait(entry, len(call.args_json))
        except asyncio.CancelledError:
            # The caller left before anything was sent, and the intent may be on disk by now.
            unsent = Outcome(status="not_sent", detail="cancelled before it was sent")
            now = self._clock.now_ns()
            self._put(End(now, call, action, unsent, None, entry.revisions, permit=permit), 0)
            raise

    async def settle(
        self, call: Call, decision: Decision, action: Action, outcome: Outcome | None,
        result: Decision | None, settled: Settled | None = None, permit: Permit | None = None,
    ) -> None:  # fmt: skip
        # Never refused for a full queue: there is one for each accepted intent, so it is bounded too.
        if self._writer.stopped:
            # Nobody would write it, and a caller must not wait for ever: recovery will list the call.
            self._dropped += 1
            raise JournalError("journal_unavailable", "stopped")
        mark = settled.mark if settled is not None else None
        entry = End(self._clock.now_ns(), call, action, outcome, result, self._revisions(), mark, permit)
        size = len(call.args_json)
        if outcome is not None:
            size += len(outcome.result_json) + len(outcome.error_json)
        # What a read taints or uses up must be known after a crash, before anybody acts on what it said.
        if call.tool.writes or permit is not None or (settled is not None and settled.durable):
            await self._put_and_wait(entry, size)
        else:
            self._put(entry, size)

    def refused(self, code: str, surface: str, principal: Principal | None, detail: str) -> None:
        # A flood of bad requests must neither fill the disk nor push calls out of the queue.
        if self._refuses() is not None or not self._token():
            self._dropped += 1
            return
        self._put(
            Early(self._clock.now_ns(), new_id(), code, surface, principal, detail, self._revisions()), 0
        )

    def verified(self, found: Verified) -> None:
        # There is at most one for each call that was answered, so the queue bounds it like the calls.
        if self._refuses() is not None:
            self._dropped += 1
            return
        self._put(Checked(self._clock.now_ns(), found), 0)

    # -- handing over to the thread --------------------------------------------------------------

    def _refuses(self) -> str | None:
        """Why no record is taken at this moment."""
        writer = self._writer
        if writer.failing:
            return "the disk refuses"
        if writer.stopped:
            return "stopped"
        if (
            self._accepted - writer.finished >= self._queue_limit
            or self._accepted_bytes - writer.finished_bytes >= MAX_QUEUED_BYTES
        ):
            return "queue full"
        return None

    def _put(self, entry: Entry, size: int) -> None:
        self._accepted += 1
        self._accepted_bytes += size
        self._batch.append((entry, None, size))
        if self._later is None and not self._soon:
            assert self._loop is not None, "Journal.start() comes first"
            self._later = self._loop.call_later(self._read_delay_s, self._hand_over)

    async def _put_and_wait(self, entry: Entry, size: int) -> None:
        assert self._loop is not None, "Journal.start() comes first"
        self._accepted += 1
        self._accepted_bytes += size
        waiter: asyncio.Future[None] = self._loop.create_future()
        self._batch.append((entry, waiter, size))
        if not self._soon:
            # At the next tick rather than now: calls that became ready together share one commit.
            self._soon = True
            self._loop.call_soon(self._hand_over)
        await waiter

    def _hand_over(self) -> None:
        self._soon = False
        if self._later is not None:
            self._later.cancel()
            self._later = None
        if self._batch:
            self._writer.put(self._batch)
            self._batch = []

    def _token(self) -> bool:
        now = self._clock.monotonic()
        self._tokens = min(REFUSED_PER_S, self._tokens + (now - self._tokens_at) * REFUSED_PER_S)
        self._tokens_at = now
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True

    # -- in the writer thread --------------------------------------------------------------------

    def _committed(self, batch: Sequence[Waiting]) -> None:
        for entry, _, _ in batch:
            if isinstance(entry, Early | Checked) or not entry.call.tool.writes:
                continue
            if isinstance(entry, End):
                self._watermark.ended(entry.call.id)
            elif entry.happens:
                self._watermark.begun(entry.call.id)

    def _chores(self) -> bool:
        self._watermark.advance()
        return self._retention.step()
