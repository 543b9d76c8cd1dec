"""Approvals of one gateway: the queue, the people at it, and whoever is told of them, put together."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from typing import Final, Protocol

from gateway.approvals.channels import Channels
from gateway.approvals.notify import Notifier
from gateway.approvals.queue import Queue, held_traceparent
from gateway.approvals.store import Store
from gateway.approvals.sweeper import Sweeper
from gateway.approvals.values import SYSTEM, EnvelopeNotice, Notice
from gateway.breakers.trip import Trip
from gateway.config import Config
from gateway.config_approvals import address
from gateway.glass import BreakGlass
from gateway.oversight import Oversight
from gateway.policy.policy import EmbeddedPolicy
from gateway.ports import Clock, Parts
from gateway.reviews import Reviews
from gateway.storage.crypto import StorageKey
from gateway.storage.database import Database
from gateway.telemetry import semconv
from gateway.telemetry.telemetry import Telemetry

logger = logging.getLogger("wardgate.approvals")

_SWEEP_S: Final = 1.0
_OVER: Final = ("approved", "rejected", "expired", "cancelled", "superseded")


class Now(Protocol):
    """What is in force."""

    config: Config
    policy: EmbeddedPolicy
    parts: Parts


class Reviewed:
    """``queue`` is the pipeline's; ``desk`` and ``glass`` are people's.

    ``heard`` is told of each notice about an approval, after the people were.
    """

    def __init__(
        self, database: Database, key: StorageKey, clock: Clock, telemetry: Telemetry, now: Callable[[], Now]
    ) -> None:
        self._now = now
        self._clock = clock
        self._telemetry = telemetry
        self.heard: list[Callable[[Notice], None]] = []
        self.notifier = Notifier(time.time, lambda notice: self.desk.preview(notice.approval))
        self.channels = Channels(address)
        config = now().config
        self.store = Store(
            database, key, config.approvals.built(config.storage.payload_days, config.console.link)
        )
        self.queue = Queue(
            self.store,
            clock=clock,
            policy_revision=lambda: now().policy.revision,
            owner_of=self._owner_of,
            unenforced=telemetry.unenforced,
            noticed=self._noticed,
        )
        metrics = telemetry.metrics
        self.desk = Reviews(self.queue, lambda: now().parts, metrics, self.notifier.hook)
        self.oversight = Oversight(
            self.store, metrics, lambda: {each.tenant for each in now().config.agents.values()}
        )
        self.desk.reviewed = self.oversight.soon
        self.glass = BreakGlass(self.store, self._owner_of, self._noticed)
        metrics.watch_deliveries(lambda: [*self.notifier.deliveries(), *self.channels.deliveries()])

    async def check(self, config: Config) -> None:
        """Raises ``ConfigError`` for a channel that could deliver nothing."""
        await asyncio.to_thread(self.channels.check, config.approvals.told(config.console.link))

    def configure(self, config: Config) -> None:
        link = config.console.link
        self.queue.configure(config.approvals.built(config.storage.payload_days, link))
        self.notifier.configure(config.approvals.hooks(link))
        self.channels.configure(config.approvals.told(link))

    def tripped(self, trip: Trip) -> None:
        """People hear of a breaker that moved."""
        self.notifier.tell_trip(trip, self._owner_of(trip.key.tenant, trip.agent))

    def take_back(self, tenant: str, agent: str) -> None:
        """What reviewers granted an agent for a while ends; blocks."""
        self.store.tripped(tenant, agent)

    async def sweep(self) -> None:
        """What time does to approvals, once a second; a fault of the database is tried again."""
        sweeper = Sweeper(
            self.store, self._clock.monotonic, lambda: self.queue.working, lambda: self._now().policy.revision
        )
        metrics, store, counted = self._telemetry.metrics, self.store, -1
        while True:
            await asyncio.sleep(_SWEEP_S)
            try:
                notices = await asyncio.to_thread(sweeper.sweep)
                for notice in notices:
                    self._noticed(notice)
                if notices:
                    self.queue.changed()
                metrics.envelopes_open(await asyncio.to_thread(self.glass.count_open))
                # Counting ten thousand takes a while, and is the same until one of them changes.
                if (epoch := await asyncio.to_thread(store.epoch)) != counted:
                    waiting = await asyncio.to_thread(store.counts)
                    metrics.approvals_waiting(waiting, await asyncio.to_thread(store.pending))
                    counted = epoch
            except Exception as error:  # noqa: BLE001 - nothing may stop it: what it would do comes later
                logger.warning("approvals not swept: %s", error)

    def _owner_of(self, tenant: str, agent: str) -> str | None:
        found = self._now().config.agents.get(agent)
        return found.owner if found is not None and found.tenant == tenant else None

    def _noticed(self, notice: Notice | EnvelopeNotice) -> None:
        if isinstance(notice, EnvelopeNotice):
            self._telemetry.metrics.approval_event(notice.event)
            self.notifier.tell_envelope(notice)
            self.channels.tell(notice)
            return
        if notice.approval.canary is None:  # which is no approval of anything
            self._telemetry.metrics.approval_event(notice.event)
            _traced(self._telemetry, notice)
        self.notifier.tell(notice)
        self.channels.tell(notice)
        for each in self.heard:
            each(notice)


def _traced(telemetry: Telemetry, notice: Notice) -> None:
    """Tell traces that people or time decided an approval; an opaque word says which."""
    approval = notice.approval
    if notice.event not in _OVER:
        return
    by = approval.closed_by
    said = {
        semconv.APPROVAL_RESOLUTION: notice.event,
        semconv.APPROVAL_CHAINS: ",".join(sorted({each.chain for each in approval.requirements})),
        semconv.UPSTREAM: approval.target.partition("/")[0],
        # Whose name it was is for the record, which says it; a trace is read by more people.
        semconv.APPROVAL_ACTOR: "gateway" if by == SYSTEM or notice.event == "expired" else "person",
    }
    telemetry.approval_over(approval.id, approval.opened_ns, said, held_traceparent(approval))
