"""How people review, once a minute: into the metrics, and into the log when it becomes a reason to worry.

Everything is worked out from what is stored, so it is the same after a restart and in every process on one
store, and nothing is kept in memory but which alarms have been said already.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable
from typing import Final

from gateway.approvals.attention import Autonomy
from gateway.approvals.fatigue import Summary
from gateway.approvals.store import Store
from gateway.telemetry.metrics import Metrics, RuleReviews

logger = logging.getLogger("wardgate.approvals")

EVERY_S: Final = 60.0
_SOON_S: Final = 5.0


class Oversight:
    """``tenants`` gives those of the configuration; those that were ever reviewed are looked at too."""

    def __init__(self, store: Store, metrics: Metrics, tenants: Callable[[], Iterable[str]]) -> None:
        self._store = store
        self._metrics = metrics
        self._tenants = tenants
        self._said: frozenset[tuple[str, ...]] = frozenset()
        self._soon = asyncio.Event()

    def soon(self) -> None:
        """Somebody reviewed: look again in a moment. On the event loop's thread."""
        self._soon.set()

    async def run(self) -> None:
        """For as long as the gateway runs."""
        while True:
            self._soon.clear()
            try:
                self._show(await asyncio.to_thread(self._look))
            except Exception as error:  # noqa: BLE001 - nothing may stop it: the next look comes
                logger.warning("reviews not measured: %s", error)
            await asyncio.sleep(_SOON_S)  # however many come, one look in this time
            try:
                async with asyncio.timeout(EVERY_S):
                    await self._soon.wait()
            except TimeoutError:
                continue

    def _look(self) -> dict[str, tuple[Summary, Autonomy]]:
        tenants = {*self._tenants(), *self._store.reviewed()}
        return {tenant: self._store.measures(tenant) for tenant in sorted(tenants)}

    def _show(self, found: dict[str, tuple[Summary, Autonomy]]) -> None:
        people = [line for summary, _ in found.values() for line in summary.reviewers]
        rules = [line for summary, _ in found.values() for line in summary.rules]
        calls = sum(autonomy.calls for _, autonomy in found.values())
        with_people = sum(autonomy.by_person + autonomy.by_grant for _, autonomy in found.values())
        self._metrics.reviewing(
            {
                "active": len(people),
                "alarm": sum(bool(line.alarms) for line in people),
                "capped": sum(line.capped for line in people),
            },
            [
                RuleReviews(
                    rule=line.name, ratio=line.normal.rate, median_s=line.normal.median_s,
                    alarm=bool(line.alarms),
                )
                for line in rules
            ],
            1 - min(with_people, calls) / calls if calls else None,
        )  # fmt: skip
        self._say(found)

    def _say(self, found: dict[str, tuple[Summary, Autonomy]]) -> None:
        raised = frozenset(
            (tenant, what, line.name, alarm)
            for tenant, (summary, _) in found.items()
            for what, lines in (("reviewer", summary.reviewers), ("rule", summary.rules))
            for line in lines
            for alarm in line.alarms
        )
        for tenant, what, name, alarm in sorted(raised - self._said):
            logger.warning(
                "review the %s",
                what,
                extra={"tenant": tenant, "names": name, "code": alarm},
            )
        self._said = raised
