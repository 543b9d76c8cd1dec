"""Break-glass for people: which envelopes are declared, and opening, seconding and closing one.

Between the admin API and the openings. Whoever is configured to be told hears of each step, with the owners
of the agents whose calls it lets through, so that an owner is paged before the first call and not by it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from sqlalchemy import Connection

from gateway.approvals import chain as chains
from gateway.approvals import openings
from gateway.approvals.envelope import Envelope
from gateway.approvals.openings import Opening
from gateway.approvals.store import Store
from gateway.approvals.values import Blocked, EnvelopeNotice, Reviewer
from gateway.errors import ApprovalError, Refused
from gateway.model import Operator

T = TypeVar("T")


class BreakGlass:
    """``owner_of`` is of an agent of a tenant; ``noticed`` passes on what people should hear."""

    def __init__(
        self,
        store: Store,
        owner_of: Callable[[str, str], str | None],
        noticed: Callable[[EnvelopeNotice], None],
    ) -> None:
        self._store = store
        self._owner_of = owner_of
        self._noticed = noticed

    async def declared(self, operator: Operator) -> Sequence[Mapping[str, Any]]:
        """The envelopes of the configuration, with the opening of each that is asked for or open."""

        def read(connection: Connection, now: int) -> Sequence[Mapping[str, Any]]:
            live = {
                each.name: _shown(each, now)
                for each in openings.listed(connection, operator.tenant)
                if each.state(now) in ("asked", "open")
            }
            known = self._store.settings.envelopes
            return [{**self._described(each, operator.tenant), "opening": live.get(each.name)}
                    for _, each in sorted(known.items())]  # fmt: skip

        return await asyncio.to_thread(self._reading, read)

    async def opened(self, operator: Operator) -> Sequence[Mapping[str, Any]]:
        """All openings, newest first."""

        def read(connection: Connection, now: int) -> Sequence[Mapping[str, Any]]:
            return [_shown(each, now) for each in openings.listed(connection, operator.tenant)]

        return await asyncio.to_thread(self._reading, read)

    async def ask(self, operator: Operator, name: str, reason: str, minutes: int) -> Mapping[str, Any]:
        def work(connection: Connection, now: int) -> Opening:
            return openings.ask(
                connection, now, self._store.settings, name, _reviewer(operator), reason, minutes * 60
            )

        return await self._change("envelope_asked", work)

    async def second(self, operator: Operator, opening_id: str) -> Mapping[str, Any]:
        def work(connection: Connection, now: int) -> Opening:
            return openings.second(connection, now, self._store.settings, opening_id, _reviewer(operator))

        return await self._change("envelope_opened", work)

    async def close(self, operator: Operator, opening_id: str) -> Mapping[str, Any]:
        def work(connection: Connection, now: int) -> Opening:
            return openings.close(connection, now, opening_id, _reviewer(operator))

        return await self._change("envelope_closed", work)

    def count_open(self) -> int:
        """How many are open; blocking."""
        return self._reading(openings.count_open)

    def _reading(self, read: Callable[[Connection, int], T]) -> T:
        with self._store.database.reading() as connection:
            return read(connection, self._store.now(connection))

    async def _change(self, event: str, work: Callable[[Connection, int], Opening]) -> Mapping[str, Any]:
        def change() -> tuple[Opening, int]:
            with self._store.database.writing() as connection:
                now = self._store.now(connection)
                return work(connection, now), now

        try:
            after, now = await asyncio.to_thread(change)
        except Blocked as blocked:
            if blocked.code == "not_found":
                raise Refused("not_found") from None
            raise ApprovalError(blocked.code, blocked.detail) from None
        said = _shown(after, now)
        envelope = self._store.settings.envelopes.get(after.name)
        about = self._described(envelope, after.tenant) if envelope is not None else {"name": after.name}
        self._noticed(EnvelopeNotice(event=event, tenant=after.tenant, said={**about, "opening": said}))
        return said

    def _described(self, envelope: Envelope, tenant: str) -> dict[str, Any]:
        owners = {self._owner_of(tenant, agent) for agent in envelope.agents}
        return {
            "name": envelope.name,
            "title": envelope.title,
            "openers": chains.described(envelope.openers),
            "agents": list(envelope.agents),
            "owners": sorted(owner for owner in owners if owner),
            "tools": list(envelope.tools),
            "chains": list(envelope.chains),
            "max_s": int(envelope.max_s),
            "max_uses": envelope.max_uses,
        }


def _shown(opening: Opening, now: int) -> dict[str, Any]:
    return {
        "id": opening.id,
        "name": opening.name,
        "state": opening.state(now),
        "reason": opening.reason,
        "minutes": opening.duration_s // 60,
        "asked_by": opening.asked_by,
        "asked": opening.asked_ns,
        "second_by": opening.second_by_ns,
        "seconded_by": opening.seconded_by,
        "opened": opening.opened_ns,
        "expires": opening.expires_ns,
        "closed": opening.closed_ns,
        "closed_by": opening.closed_by,
        "uses": opening.uses,
        "max_uses": opening.max_uses,
    }


def _reviewer(operator: Operator) -> Reviewer:
    return Reviewer(
        name=operator.name, tenant=operator.tenant, role=operator.role, credential=operator.credential
    )
