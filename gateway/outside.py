"""Where calls go: connections to upstreams, the catalog of what they offer, and what keeps it current.

The three are built and replaced as one, because a manifest, a connection and a list of tools that come from
different configurations would not describe the same thing.
"""

from __future__ import annotations

from typing import NamedTuple, Self

from gateway.catalog.catalog import ToolCatalog
from gateway.catalog.pinning import Pinning, Told
from gateway.catalog.refresher import Refresher
from gateway.config import Config
from gateway.pins import Stored
from gateway.ports import Clock
from gateway.upstreams.registry import UpstreamRegistry


class Outside(NamedTuple):
    registry: UpstreamRegistry
    catalog: ToolCatalog
    refresher: Refresher

    @classmethod
    async def open(cls, config: Config, clock: Clock, pins: Stored, told: Told) -> Self:
        """Reach out to all upstreams; one that is down is absent from the catalog and tried again."""
        reached = {name: each for name, each in config.upstreams.items() if not each.elsewhere}
        registry = UpstreamRegistry(
            reached,
            clock=clock,
            result_bytes=config.limits.result_bytes,
            assertion=config.assertion,
        )
        pinning = Pinning({name: each.pins for name, each in reached.items()}, pins, clock, told)
        await pinning.load()
        catalog = ToolCatalog(config.upstreams, mode=config.mode, pins=pinning)
        refresher = Refresher(catalog, registry.definitions)
        registry.on_list_changed = refresher.changed
        await registry.start()
        await refresher.start()
        return cls(registry, catalog, refresher)

    def relist(self) -> None:
        """Ask for all lists again, soon: the document of an HTTP API may have changed."""
        for name in self.catalog.upstreams:
            self.refresher.changed(name)

    async def close(self, drain_s: float) -> None:
        await self.refresher.close()
        await self.registry.close(drain_s)

    @staticmethod
    def depends_on(config: Config) -> object:
        """What must be equal in two configurations for the same ``Outside`` to serve both."""
        return config.upstreams, config.assertion, config.mode, config.limits.result_bytes
