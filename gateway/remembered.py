"""What a gateway that starts remembers: sessions, budgets, and effects under way.

The journal is what everything is made of. Sessions are saved now and then, so that only the newest records
need to be read again.
"""

from __future__ import annotations

import asyncio
from functools import partial

from gateway.clock import SteadyClock
from gateway.journal.marks import happened
from gateway.journal.recovery import LiveEffect as Recorded
from gateway.journal.recovery import last_seq, live_effects
from gateway.ports import Clock
from gateway.sessions.rules import SessionRules
from gateway.state.effects import LiveEffect
from gateway.state.keeping import Keeper, restore
from gateway.state.memory import MemoryState
from gateway.state.sessions import Sessions
from gateway.storage import control
from gateway.storage.crypto import StorageKey
from gateway.storage.database import Database
from gateway.storage.sessions import SessionStore


class Remembered:
    """The state of one gateway with what keeps it through a restart."""

    def __init__(self, state: MemoryState, keeper: Keeper, store: SessionStore) -> None:
        self.state = state
        self.keeper = keeper
        self.store = store

    @classmethod
    async def open(cls, database: Database, key: StorageKey, clock: Clock, rules: SessionRules) -> Remembered:
        """After recovery, before the first call."""
        store = SessionStore(database, key)
        epochs = await asyncio.to_thread(store.epochs)
        steady = SteadyClock(clock, epochs.get(control.STEADY, 0))
        sessions = Sessions(store, steady.now_ns, rules)
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
        await restore(state, happened(database, folded), acts, doubtful)
        return cls(state, Keeper(state, steady.now_ns, lambda: last_seq(database)), store)

    async def acted(self) -> None:
        """Somebody did something to a session, by the command line or another process."""
        for act in await asyncio.to_thread(partial(self.store.acts, after=self.state.acts)):
            self.state.acted(act)

    async def resolved(self, effect: Recorded, *, executed: bool) -> None:
        """A person found out what became of a call in doubt."""
        self.state.effects.resolve(live(effect), done=executed and effect.key != effect.call_id)
        session = await self.state.sessions.find(effect.session)
        if session is not None:
            self.state.resolved(session, effect.call_id, done=executed)


def live(effect: Recorded) -> LiveEffect:
    return LiveEffect(effect.tenant, effect.key, effect.digest, effect.state, effect.idempotent)
