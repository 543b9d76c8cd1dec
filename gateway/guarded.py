"""Circuit breakers of one gateway: put together, and what follows when one moves."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from functools import partial

from gateway.breaker_desk import BreakerDesk
from gateway.breakers.trip import Trip
from gateway.config import Config
from gateway.desk import Desk
from gateway.guard import Guard
from gateway.journal.events import delegated_since
from gateway.reviewed import Reviewed
from gateway.scores import Scores
from gateway.storage import control
from gateway.storage.breakers import BreakerStore
from gateway.storage.database import Database
from gateway.tasks import Tasks
from gateway.telemetry.telemetry import Telemetry


class Guarded:
    """``guard`` is the pipeline's, ``desk`` people's, ``scores`` that of detectors elsewhere."""

    def __init__(
        self, database: Database, config: Config, telemetry: Telemetry, sessions: Desk, reviewed: Reviewed,
        tasks: Tasks, *, steady_ns: Callable[[], int], now_ns: Callable[[], int],
    ) -> None:  # fmt: skip
        """``steady_ns`` never goes back, ``now_ns`` is the wall clock."""
        self._database = database
        self._telemetry = telemetry
        self._sessions = sessions
        self._reviewed = reviewed
        self._tasks = tasks
        self.guard = Guard(
            BreakerStore(database), config.breakers.settings(), steady_ns, telemetry.metrics,
            partial(delegated_since, database),
        )  # fmt: skip
        self.guard.heard.append(self._tripped)
        self.guard.cleared.append(self._cleared)
        self.desk = BreakerDesk(self.guard.store, self.guard)
        self.scores = Scores(self.guard, now_ns, sessions.has)

    def configure(self, config: Config) -> None:
        self.guard.configured(config.breakers.settings(), enabled=config.breakers.enabled)
        self.scores.configure(config.breakers.parties())

    def epochs(self) -> Mapping[str, int]:
        """What moves when somebody stopped or reset something, in whatever process; blocks."""
        return control.read(self._database, control.KILLS, control.BREAKERS)

    def _tripped(self, trip: Trip) -> None:
        """A breaker moved: people hear of it, and a stopped agent loses what they gave it for a while."""
        if trip.calls:
            self._telemetry.tripped(trip.calls[-1], trip.detector)
        self._reviewed.tripped(trip)
        if trip.after not in ("open", "forced_open") or not trip.agent or trip.key.scope == "upstream":
            return
        self._tasks.start(asyncio.to_thread(self._reviewed.take_back, trip.key.tenant, trip.agent))
        if trip.session:
            self._tasks.start(self._sessions.suspected(trip.session, trip.id, trip.since_ns, trip.sentence))

    def _cleared(self, trip: str, by: str) -> None:
        self._tasks.start(self._clear(trip, by))

    async def _clear(self, trip: str, by: str) -> None:
        found = await asyncio.to_thread(self.guard.store.trip, trip)
        if found is not None and found.trip.session:
            await self._sessions.cleared(found.trip.session, trip, by)
