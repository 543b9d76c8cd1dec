"""Decisions about calls that somebody else carries out, from the permission to the report of the outcome.

Each has a deadline, that of its tool's manifest. One that is not settled by then is in doubt: on record, with
its effect key held, exactly like a call the gateway made itself and lost sight of. They live in memory; after
a restart their intents have no end, which recovery lists as in doubt too.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable
from typing import Final

from gateway import pipeline
from gateway.config import LimitsConfig
from gateway.errors import Overloaded, Refused
from gateway.model import Answer, Outcome, Principal
from gateway.pipeline import Cleared
from gateway.ports import Parts

RETRY_S: Final = 1.0
MAX_SETTLED: Final = 4096
MAX_SETTLED_BYTES: Final = 32 * 1024 * 1024

Owner = tuple[str, str, str | None]


def owner_of(principal: Principal) -> Owner:
    """Who may settle: the agent and user it was decided for, whichever of their keys they hold by then."""
    return principal.tenant, principal.agent, principal.subject


class _Entry:
    __slots__ = ("cleared", "done", "fingerprint", "handle", "lapsed", "owner")

    def __init__(self, cleared: Cleared, handle: asyncio.TimerHandle) -> None:
        self.cleared = cleared
        self.owner = owner_of(cleared.call.principal)
        self.handle = handle
        self.fingerprint = b""
        self.lapsed = False
        self.done: asyncio.Future[Answer] | None = None  # there from the moment it is being settled


class OpenDecisions:
    """All methods run on the event loop's thread."""

    def __init__(
        self,
        parts: Callable[[], Parts],
        limits: Callable[[], LimitsConfig],
        counted: Callable[[int], None],
    ) -> None:
        self._parts = parts
        self._limits = limits
        self._counted = counted
        self._open: dict[str, _Entry] = {}
        self._settled: OrderedDict[str, _Entry] = OrderedDict()
        self._settled_bytes = 0
        self._taken: dict[tuple[str, str], int] = {}  # places per agent, open or about to be
        self._total = 0
        self._tasks: set[asyncio.Task[None]] = set()

    # -- places ------------------------------------------------------------------------------------------

    def take(self, principal: Principal) -> None:
        """Take a place for a decision to come; raises ``Overloaded``."""
        limits = self._limits()
        key = (principal.tenant, principal.agent)
        mine = self._taken.get(key, 0)
        # Each is kept until somebody reports, so an agent that never does must run out before the gateway.
        if self._total >= limits.open_decisions or mine >= limits.open_decisions_per_agent:
            raise Overloaded("overloaded", "open decisions", RETRY_S)
        self._taken[key] = mine + 1
        self._total += 1

    def give_back(self, principal: Principal) -> None:
        key = (principal.tenant, principal.agent)
        left = self._taken[key] - 1
        if left:
            self._taken[key] = left
        else:
            del self._taken[key]
        self._total -= 1

    # -- life --------------------------------------------------------------------------------------------

    def open(self, cleared: Cleared) -> None:
        """From now on it can be settled; its place has been taken before."""
        call = cleared.call
        loop = asyncio.get_running_loop()
        handle = loop.call_later(call.tool.manifest.deadline_s, self._lapse, call.id)
        self._open[call.id] = _Entry(cleared, handle)
        self._counted(len(self._open))

    def is_open(self, decision_id: str) -> bool:
        entry = self._open.get(decision_id)
        return entry is not None and entry.done is None

    def was_settled(self, decision_id: str) -> bool:
        """Whether it was settled a short while ago; what is longer past the journal knows."""
        return decision_id in self._settled

    def find(self, decision_id: str, principal: Principal) -> Cleared | None:
        """What was cleared, for its owner, while it can be settled or the settlement be repeated."""
        entry = self._open.get(decision_id) or self._settled.get(decision_id)
        # Somebody else's decision does not exist: its id may have been guessed.
        return entry.cleared if entry is not None and entry.owner == owner_of(principal) else None

    async def settle(
        self, decision_id: str, fingerprint: bytes, outcome: Outcome
    ) -> tuple[Answer, bool] | None:
        """The answer to a report, and whether it is repeated; ``None`` when it is too late for one.

        ``find`` must have said that the caller owns it. The same report gets the same answer; another one
        raises ``Refused`` with ``already_settled``.
        """
        entry = self._open.get(decision_id) or self._settled.get(decision_id)
        if entry is None:
            return None
        replayed = entry.done is not None
        if not replayed:
            self._begin(entry, fingerprint, outcome)
        assert entry.done is not None
        # Shielded: who reports may hang up, and the outcome is recorded all the same.
        answer = await asyncio.shield(entry.done)
        if entry.lapsed:
            return None
        # One outcome, once: the second story about the same call is not believed over the first.
        if entry.fingerprint != fingerprint:
            raise Refused("already_settled", decision_id)
        return answer, replayed

    def close(self) -> None:
        """No deadline fires any more; what is open stays without an end, for recovery to list."""
        for entry in self._open.values():
            entry.handle.cancel()

    def _lapse(self, decision_id: str) -> None:
        entry = self._open.get(decision_id)
        if entry is None or entry.done is not None:
            return
        entry.lapsed = True
        self._begin(
            entry, b"", Outcome(status="in_doubt", code="decision_lapsed", detail="not settled in time")
        )

    def _begin(self, entry: _Entry, fingerprint: bytes, outcome: Outcome) -> None:
        entry.handle.cancel()
        entry.fingerprint = fingerprint
        entry.done = asyncio.get_running_loop().create_future()
        task = asyncio.create_task(self._finish(entry, entry.done, outcome))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _finish(self, entry: _Entry, done: asyncio.Future[Answer], outcome: Outcome) -> None:
        call = entry.cleared.call
        answer = await pipeline.settle(self._parts(), entry.cleared, outcome)
        del self._open[call.id]
        self.give_back(call.principal)
        self._counted(len(self._open))
        done.set_result(answer)
        if not entry.lapsed:
            self._remember(call.id, entry)

    def _remember(self, decision_id: str, entry: _Entry) -> None:
        """So that a report whose answer got lost can be repeated; bounded in number and bytes."""
        self._settled[decision_id] = entry
        self._settled_bytes += _size(entry)
        while len(self._settled) > MAX_SETTLED or self._settled_bytes > MAX_SETTLED_BYTES:
            _, oldest = self._settled.popitem(last=False)
            self._settled_bytes -= _size(oldest)


def _size(entry: _Entry) -> int:
    """What a settled decision keeps in memory, roughly: its arguments, and twice its result."""
    assert entry.done is not None
    answer = entry.done.result()
    reported = len(answer.outcome.result_json) if answer.outcome is not None else 0
    return len(entry.cleared.call.args_json) + reported + len(answer.result_json)
