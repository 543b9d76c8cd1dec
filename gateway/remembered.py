"""What a gateway that starts remembers: sessions, budgets, and effects under way.

The journal is what everything is made of. Sessions are saved now and then, so that only the newest records
need to be read again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial

from gateway.clock import SteadyClock
from gateway.journal.marks import happened
from gateway.journal.recovery import LiveEffect as Recorded
from gateway.journal.recovery import last_seq, live_effects, resolved_since
from gateway.ports import Clock
from gateway.sessions.monitors import Monitors
from gateway.sessions.rules import SessionRules
from gateway.state.effects import LiveEffect
from gateway.state.keeping import Keeper, restore
from gateway.state.memory import MemoryState
from gateway.state.sessions import NO_MONITORS, Sessions
from gateway.storage import control
from gateway.storage.crypto import StorageKey
from gateway.storage.database import Database
from gateway.storage.sessions import SessionStore


class Remembered:
    """The state of one gateway with what keeps it through a restart."""

    def __init__(
        self, database: Database, state: MemoryState, now_ns: Callable[[], int], store: SessionStore, to: int
    ) -> None:
        """``to`` is the number of the newest record when the state was made of them."""
        self.state = state
        self.store = store
        self.keeper = Keeper(state, now_ns, self.caught_up)
        self._database = database
        self._caught_up_to = to
        self._catching_up = asyncio.Lock()

    @classmethod
    async def open(
        cls,
        database: Database,
        key: StorageKey,
        clock: Clock,
        rules: SessionRules,
        monitors: Monitors = NO_MONITORS,
    ) -> Remembered:
        """After recovery, before the first call."""
        store = SessionStore(database, key)
        epochs = await asyncio.to_thread(store.epochs)
        steady = SteadyClock(clock, epochs.get(control.STEADY, 0))
        sessions = Sessions(store, steady.now_ns, rules, monitors, key.derived("prints of values"))
        effects = await asyncio.to_thread(live_effects, database)
        folded, acted = epochs.get(control.FOLDED, 0), epochs.get(control.ACTED, 0)
        state = MemoryState(
            sessions,
            steady.now_ns,
            live=map(live, effects),
            accounts=await asyncio.to_thread(store.accounts),
            n=epochs.get(control.MARKED, 0),
            acts=acted,
        )
        acts = await asyncio.to_thread(partial(store.acts, after=acted))
        doubtful = [effect.call_id for effect in effects if effect.state == "in_doubt"]
        to = await asyncio.to_thread(last_seq, database)
        await restore(state, happened(database, folded, to), acts, doubtful)
        return cls(database, state, steady.now_ns, store, to)

    async def acted(self) -> None:
        """Somebody did something to a session, by the command line or another process."""
        for act in await asyncio.to_thread(partial(self.store.acts, after=self.state.acts)):
            self.state.acted(act)

    async def store_new(self) -> None:
        """Store sessions that were never stored, so that whoever asks the storage finds them."""
        for session in self.state.sessions.changed():
            if session.saved_n == -1:
                await self.state.sessions.keep(session)

    async def caught_up(self) -> int:
        """Take in what people found out about calls in doubt; returns up to which record that is so."""
        async with self._catching_up:
            resolved, to = await asyncio.to_thread(resolved_since, self._database, self._caught_up_to)
            for effect, executed in resolved:
                # Only a key made from a template stands for more than the one call.
                done = executed and effect.key != effect.call_id
                self.state.effects.resolve(live(effect), done=done)
                session = await self.state.sessions.find(effect.session)
                if session is not None:
                    self.state.resolved(session, effect.call_id, done=executed)
            self._caught_up_to = to
            return to


def live(effect: Recorded) -> LiveEffect:
    return LiveEffect(effect.tenant, effect.key, effect.digest, effect.state, effect.idempotent)
