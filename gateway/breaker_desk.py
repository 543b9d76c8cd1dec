"""What people do with breakers through the admin API: on disk first, then in force, then answered."""

from __future__ import annotations

import asyncio
from typing import Any, Literal

import msgspec

from gateway.breakers.trip import Key
from gateway.guard import Guard, shown
from gateway.storage.breakers import BreakerStore, Told


class BreakerDesk:
    def __init__(self, store: BreakerStore, guard: Guard) -> None:
        self._store = store
        self._guard = guard

    async def breakers(self, tenant: str) -> list[dict[str, Any]]:
        machines = self._guard.breakers.machines
        return [
            dict(shown(key, machine))
            for key, machine in sorted(machines.items())
            if key.tenant == tenant and machine.stage != "closed"
        ]

    async def trips(self, tenant: str, agent: str | None, limit: int) -> list[dict[str, Any]]:
        await self._guard.save()
        found = await asyncio.to_thread(lambda: self._store.trips(tenant, agent=agent, limit=limit))
        return [described(each) for each in found]

    async def trip(self, tenant: str, trip: str) -> dict[str, Any] | None:
        await self._guard.save()
        found = await asyncio.to_thread(self._store.trip, trip, tenant)
        return described(found) if found is not None else None

    async def act(
        self,
        act: Literal["trip", "reset"],
        scope: Any,
        tenant: str,
        name: str,
        part: str,
        reason: str,
        by: str,
    ) -> None:
        key = whole(scope, tenant, name, part)
        await asyncio.to_thread(lambda: self._store.act(act, key, reason, by))
        await self._guard.carry_out()

    async def label(self, tenant: str, trip: str, label: str, by: str) -> bool:
        await self._guard.save()
        found = await asyncio.to_thread(self._store.trip, trip, tenant)
        if found is None:
            return False
        await asyncio.to_thread(lambda: self._store.act("label", found.trip.key, label, by, trip=trip))
        await self._guard.carry_out()
        return True

    async def kills(self, tenant: str) -> list[dict[str, Any]]:
        return [msgspec.structs.asdict(kill) for kill in await asyncio.to_thread(self._store.kills, tenant)]

    async def kill(self, scope: Any, tenant: str, name: str, reason: str, by: str) -> dict[str, Any]:
        made = await asyncio.to_thread(self._store.kill, scope, tenant, name, reason, by)
        await self._guard.changed()
        return msgspec.structs.asdict(made)

    async def lift(self, tenant: str, kill: str, reason: str, by: str) -> bool:
        of = None if tenant == "default" else tenant
        lifted = await asyncio.to_thread(lambda: self._store.lift(kill, reason, by, of))
        await self._guard.changed()
        return lifted


def whole(scope: Any, tenant: str, name: str, part: str) -> Key:
    """The key people mean: a domain that is not named is the general one."""
    if scope == "tenant":
        return Key("tenant", tenant)
    return Key(scope, tenant, name, part or ("general" if scope == "agent" else ""))


def described(told: Told) -> dict[str, Any]:
    """A trip for people and programs."""
    trip = told.trip
    return {
        **{name: getattr(trip, name) for name in trip.__struct_fields__ if name != "key"},
        "calls": list(trip.calls),
        "scope": trip.key.scope,
        "tenant": trip.key.tenant,
        "name": trip.key.name,
        "part": trip.key.part,
        "label": told.label,
        "label_by": told.label_by,
    }
