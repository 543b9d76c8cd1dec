"""Keeping the state through a restart: saved now and then, and the records since then applied again.

A save takes the newest record's number first and encodes sessions afterwards, so everything up to that record
is in what is saved: a mark is applied before its record is written. What a session already has is told by the
number of its newest mark, so a record that is read twice changes nothing.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from itertools import count
from typing import Final

from gateway.recorded import Happened
from gateway.sessions.session import Session
from gateway.state.memory import MemoryState
from gateway.storage.sessions import Act

logger = logging.getLogger("wardgate.state")

EVERY_S: Final = 5.0
_PURGED_EVERY: Final = 720  # saves, so about once an hour
_LOT: Final = 50
_READ_AHEAD: Final = 500  # records


async def restore(
    state: MemoryState, since: Iterable[Happened], acts: Iterable[Act], doubtful: Iterable[str]
) -> int:
    """Apply what was recorded since the state was saved; returns how much that was.

    ``acts`` are what people did since then, ``doubtful`` the calls whose outcome nobody knows: what they
    reserved stays reserved.
    """
    records = list(since)
    spoken = {each.call for each in records if each.executed is not None}
    state.sessions.doubtful = frozenset(doubtful) | spoken
    ended = {each.call for each in records if each.mark is not None}
    # A call that a crash cut off has no end on record; what it reserved is held, or was until a person spoke.
    cut_off = state.sessions.doubtful - ended
    for act in acts:
        # First, because records name the sessions that acts have started anew.
        await state.sessions.find(act.session)
        state.acted(act)
    for number, each in enumerate(records):
        if number % _READ_AHEAD == 0:
            await state.sessions.read_ahead(each.session for each in records[number : number + _READ_AHEAD])
        if each.mark is not None:
            state.replay(await _session(state, each, each.mark.at_ns), each.mark)
        elif each.executed is not None:
            state.resolved(await _session(state, each), each.call, done=each.executed)
        elif each.reserved and each.call in cut_off:
            state.promised(await _session(state, each), each.call, each.reserved)
    await state.sessions.read_ahead(())
    state.release_all(state.sessions.doubtful)
    return len(records)


async def _session(state: MemoryState, each: Happened, at_ns: int = 0) -> Session:
    return await state.sessions.recalled(each.session, each.principal, at_ns or state.now_ns())


class Keeper:
    """Saves the state in the background, a few sessions at a time."""

    def __init__(
        self, state: MemoryState, now_ns: Callable[[], int], caught_up: Callable[[], Awaitable[int]]
    ) -> None:
        """``caught_up`` takes in what people said on record, and gives the number up to which that is so."""
        self._state = state
        self._now_ns = now_ns
        self._caught_up = caught_up
        self._saving = asyncio.Lock()
        self.saved_seq = 0

    async def run(self) -> None:
        """Save again and again, and now and then forget what ended long ago; runs until cancelled."""
        for number in count():
            await asyncio.sleep(EVERY_S)
            try:
                await self.save()
                if number % _PURGED_EVERY == 0:
                    await asyncio.to_thread(self._state.sessions.store.purge, self._now_ns())
            except Exception:  # whatever it is, the next save must be tried: records hold what is not saved
                logger.exception("sessions could not be saved; a restart will read more records instead")

    async def save(self) -> int:
        """Save what changed; returns how many sessions that was."""
        async with self._saving:
            state, sessions = self._state, self._state.sessions
            seq = await self._caught_up()
            if seq == self.saved_seq and not sessions.changed():
                return 0
            n, acted, steady = state.n, state.acts, self._now_ns()
            number = 0
            async for _ in self._lots(sessions.changed()):
                number += 1
            spent = [(saved, holder, holder.dirt) for saved, holder in state.holders.changed()]
            if spent:
                await asyncio.to_thread(sessions.store.save, [], [saved for saved, _, _ in spent])
                for saved, holder, dirt in spent:
                    if holder.dirt == dirt:
                        holder.saved_n = saved.n
            await asyncio.to_thread(sessions.store.folded, seq, n, acted, steady)
            self.saved_seq = seq
            sessions.evict()
            return number

    async def _lots(self, changed: list[Session]) -> AsyncIterator[None]:
        sessions = self._state.sessions
        for start in range(0, len(changed), _LOT):
            lot = changed[start : start + _LOT]
            # Encoded in one go, so that each is one moment of its session; the next lot after others' turn.
            stored = [sessions.stored(session) for session in lot]
            numbers = [(session, session.n, session.dirt) for session in lot]
            await asyncio.to_thread(sessions.store.save, stored, [])
            for session, n, dirt in numbers:
                if session.dirt == dirt:  # else it changed without a mark while it was written
                    session.saved_n = n
                yield
