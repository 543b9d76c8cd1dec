"""What the parts of a gateway say of themselves when metrics are scraped.

Asked then rather than counted when it happens, so that it costs a call nothing and cannot drift. All of it
runs in the thread of the scrape: whatever it reads is copied in one step before it is looked through.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Protocol

from gateway.guard import Guard
from gateway.guarded import Guarded
from gateway.outside import Outside
from gateway.policy.policy import EmbeddedPolicy
from gateway.remembered import Remembered
from gateway.rollout import Rollout
from gateway.telemetry.telemetry import Telemetry

Key = tuple[str, ...]


class Running(Protocol):
    """What is asked; what a reload replaces is looked up at each scrape."""

    guarded: Guarded
    outside: Outside
    policy: EmbeddedPolicy
    remembered: Remembered
    rollout: Rollout
    telemetry: Telemetry


def watch(gateway: Running) -> None:
    """Have every scrape ask."""
    metrics = gateway.telemetry.metrics
    metrics.watch(metrics.upstream_up, lambda: _up(gateway))
    metrics.watch(metrics.in_doubt, lambda: {(): gateway.remembered.state.effects.in_doubt})
    metrics.watch(metrics.breakers, lambda: _breakers(gateway.guarded.guard))
    metrics.watch(metrics.kills, lambda: _kills(gateway.guarded.guard))
    metrics.watch(metrics.candidate, lambda: _candidate(gateway.rollout))
    metrics.watch(metrics.modules, lambda: _modules(gateway.policy))


def _up(gateway: Running) -> Mapping[Key, float]:
    """Down is what readiness calls so: no answer, or lists that could not be renewed."""
    name = gateway.telemetry.metrics.server
    stale = set(gateway.outside.catalog.stale)
    return {
        (name[status.upstream],): float(status.connected and status.upstream not in stale)
        for status in gateway.outside.registry.status()
    }


def _breakers(guard: Guard) -> Mapping[Key, float]:
    machines = list(guard.breakers.machines.items())
    return Counter((key.scope, machine.stage) for key, machine in machines if machine.stage != "closed")


def _kills(guard: Guard) -> Mapping[Key, float]:
    return Counter((kill.scope,) for kill in guard.kills)


def _candidate(rollout: Rollout) -> Mapping[Key, float]:
    shadow = rollout.shadow
    return {(): shadow.percent / 100 if shadow is not None else 0.0}


def _modules(policy: EmbeddedPolicy) -> Mapping[Key, float]:
    return Counter((module.mode,) for module in policy.bundle.rules)
