"""Kills, breakers and trips at rest, and what people ask of them. Blocking: the gateway calls it from
threads.

A person's act is a row; the gateway notices it by its counter and carries it out, so that the command line
needs no way into the process. What must hold when the gateway starts is here before anybody is answered.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from secrets import token_hex
from typing import Any, Final, Literal, NamedTuple

import msgspec
from sqlalchemy import Row, delete, func, select, update
from sqlalchemy.dialects.postgresql import insert

from gateway.breakers.kill import Kill
from gateway.breakers.machine import Machine
from gateway.breakers.trip import Key, Trip
from gateway.storage import control
from gateway.storage.database import Database
from gateway.storage.tables import (
    breaker_acts,
    breaker_states,
    breaker_trees,
    breaker_trips,
    breakers,
    kills,
)

ActName = Literal["trip", "reset", "label"]

MAX_TRIPS: Final = 100_000


class Act(NamedTuple):
    seq: int
    act: ActName
    key: Key
    reason: str  # of a label: "true" or "false", and the trip
    by: str
    at_ns: int


class Told(msgspec.Struct, frozen=True, kw_only=True):
    """A trip as it is on record, with what a reviewer said of it."""

    trip: Trip
    label: str | None = None
    label_by: str | None = None


class BreakerStore:
    def __init__(self, database: Database) -> None:
        self._database = database

    # -- kills -----------------------------------------------------------------------------------

    def kills(self, tenant: str | None = None, *, lifted: bool = False) -> list[Kill]:
        """Those in force, oldest first; those of a tenant and of everybody, or all."""
        query = select(kills).order_by(kills.c.at_ns, kills.c.id)
        if not lifted:
            query = query.where(kills.c.lifted_ns.is_(None))
        if tenant is not None:
            query = query.where(kills.c.tenant.in_((tenant, "")))
        with self._database.reading() as connection:
            return [_kill(row) for row in connection.execute(query)]

    def kill(self, scope: Any, tenant: str, name: str, reason: str, by: str) -> Kill:
        """Stop something. In force in a running gateway at its next look, within a second."""
        if not reason.strip():
            raise ValueError("a kill needs a reason")
        made = Kill(
            id=f"kill_{token_hex(8)}", scope=scope, tenant="" if scope == "all" else tenant,
            name="" if scope in ("all", "tenant") else name, reason=reason, by=by, at_ns=time.time_ns(),
        )  # fmt: skip
        with self._database.writing() as connection:
            connection.execute(insert(kills).values(**msgspec.structs.asdict(made)))
            control.bump(connection, control.KILLS)
        return made

    def lift(self, kill_id: str, reason: str, by: str, tenant: str | None = None) -> bool:
        """Whether it was in force, and is not any more."""
        query = update(kills).where(kills.c.id == kill_id, kills.c.lifted_ns.is_(None))
        if tenant is not None:
            query = query.where(kills.c.tenant == tenant)
        with self._database.writing() as connection:
            found = connection.execute(
                query.values(lifted_ns=time.time_ns(), lifted_by=by, lifted_reason=reason)
            )
            control.bump(connection, control.KILLS)
            return found.rowcount > 0

    # -- machines --------------------------------------------------------------------------------

    def machines(self, tenant: str | None = None) -> list[tuple[Key, Machine]]:
        query = select(breakers).order_by(breakers.c.since_ns)
        if tenant is not None:
            query = query.where(breakers.c.tenant == tenant)
        with self._database.reading() as connection:
            return [
                (Key(row.scope, row.tenant, row.name, row.part), _machine(row.state))
                for row in connection.execute(query)
            ]

    def save(
        self,
        moved: Iterable[tuple[Key, Machine | bytes | None]],
        trips: Sequence[Trip] = (),
        states: Iterable[tuple[str, str, bytes]] = (),
        done: Iterable[int] = (),
        trees: Iterable[tuple[str, str, bytes]] = (),
    ) -> None:
        """In one transaction: machines (``None``: closed), new trips, states, acts now done, sums."""
        now = time.time_ns()
        with self._database.writing() as connection:
            for key, machine in moved:
                of = (
                    breakers.c.scope == key.scope, breakers.c.tenant == key.tenant,
                    breakers.c.name == key.name, breakers.c.part == key.part,
                )  # fmt: skip
                connection.execute(delete(breakers).where(*of))
                if machine is None:
                    continue
                state = machine if isinstance(machine, bytes) else msgspec.msgpack.encode(machine)
                known = _machine(state)
                connection.execute(
                    insert(breakers).values(
                        scope=key.scope, tenant=key.tenant, name=key.name, part=key.part, stage=known.stage,
                        detector=known.detector, since_ns=known.since_ns, until_ns=known.until_ns,
                        trip=known.trip, state=state,
                    )
                )  # fmt: skip
            for trip in trips:
                connection.execute(
                    insert(breaker_trips)
                    .values(
                        id=trip.id, at_ns=trip.at_ns, tenant=trip.key.tenant, agent=trip.agent,
                        detector=trip.detector, after=trip.after, body=msgspec.json.encode(trip).decode(),
                    )
                    .on_conflict_do_nothing()
                )  # fmt: skip
            if trips:
                # An agent that trips again and again must not fill the disk.
                beyond = (
                    select(breaker_trips.c.at_ns).order_by(breaker_trips.c.at_ns.desc()).offset(MAX_TRIPS)
                )
                oldest = connection.execute(beyond.limit(1)).scalar()
                if oldest is not None:
                    connection.execute(delete(breaker_trips).where(breaker_trips.c.at_ns <= oldest))
            for tenant, agent, state in states:
                row = insert(breaker_states).values(tenant=tenant, agent=agent, state=state, at_ns=now)
                connection.execute(
                    row.on_conflict_do_update(
                        index_elements=[breaker_states.c.tenant, breaker_states.c.agent],
                        set_={"state": state, "at_ns": now},
                    )
                )
            for tenant, tree, totals in trees:
                row = insert(breaker_trees).values(tenant=tenant, tree=tree, totals=totals, at_ns=now)
                connection.execute(
                    row.on_conflict_do_update(
                        index_elements=[breaker_trees.c.tenant, breaker_trees.c.tree],
                        set_={"totals": totals, "at_ns": now},
                    )
                )
            for seq in done:
                connection.execute(update(breaker_acts).where(breaker_acts.c.seq == seq).values(done_ns=now))

    def states(self) -> list[tuple[str, str, bytes]]:
        with self._database.reading() as connection:
            rows = connection.execute(select(breaker_states).order_by(breaker_states.c.at_ns))
            return [(row.tenant, row.agent, row.state) for row in rows]

    def trees(self, most: int) -> list[tuple[str, str, bytes, int]]:
        """(tenant, tree, totals, saved at) of those that were active last, oldest first."""
        query = select(breaker_trees).order_by(breaker_trees.c.at_ns.desc()).limit(most)
        with self._database.reading() as connection:
            return [(row.tenant, row.tree, row.totals, row.at_ns) for row in connection.execute(query)][::-1]

    # -- trips and acts --------------------------------------------------------------------------

    def trips(
        self,
        tenant: str | None = None,
        *,
        agent: str | None = None,
        limit: int = 50,
        before_ns: int | None = None,
    ) -> list[Told]:
        """Newest first."""
        query = select(breaker_trips).order_by(breaker_trips.c.at_ns.desc(), breaker_trips.c.id).limit(limit)
        if tenant is not None:
            query = query.where(breaker_trips.c.tenant == tenant)
        if agent is not None:
            query = query.where(breaker_trips.c.agent == agent)
        if before_ns is not None:
            query = query.where(breaker_trips.c.at_ns < before_ns)
        with self._database.reading() as connection:
            return [_told(row) for row in connection.execute(query)]

    def trip(self, trip_id: str, tenant: str | None = None) -> Told | None:
        query = select(breaker_trips).where(breaker_trips.c.id == trip_id)
        if tenant is not None:
            query = query.where(breaker_trips.c.tenant == tenant)
        with self._database.reading() as connection:
            row = connection.execute(query).one_or_none()
        return _told(row) if row is not None else None

    def act(self, act: ActName, key: Key, reason: str, by: str, *, trip: str = "") -> int:
        """Ask the gateway to trip or reset a breaker; of a label (on ``trip``), also write it down."""
        now = time.time_ns()
        with self._database.writing() as connection:
            found = connection.execute(
                insert(breaker_acts)
                .values(
                    act=act, scope=key.scope, tenant=key.tenant, name=key.name, part=key.part,
                    reason=f"{reason} {trip}".rstrip(),
                    by=by, at_ns=now,
                )
                .returning(breaker_acts.c.seq)
            )  # fmt: skip
            seq: int = found.scalar_one()
            if trip:
                connection.execute(
                    update(breaker_trips)
                    .where(breaker_trips.c.id == trip)
                    .values(label=reason, label_by=by, label_ns=now)
                )
            control.bump(connection, control.BREAKERS)
        return seq

    def due(self) -> list[Act]:
        """What people asked for and is not done yet, oldest first."""
        query = select(breaker_acts).where(breaker_acts.c.done_ns.is_(None)).order_by(breaker_acts.c.seq)
        with self._database.reading() as connection:
            return [
                Act(
                    row.seq,
                    row.act,
                    Key(row.scope, row.tenant, row.name, row.part),
                    row.reason,
                    row.by,
                    row.at_ns,
                )
                for row in connection.execute(query)
            ]

    def labels(self) -> dict[str, tuple[int, int]]:
        """By detector: how many trips reviewers called true, and false."""
        query = select(breaker_trips.c.detector, breaker_trips.c.label, func.count()).group_by(
            breaker_trips.c.detector, breaker_trips.c.label
        )
        counts: dict[str, list[int]] = {}
        with self._database.reading() as connection:
            for detector, label, count in connection.execute(query):
                each = counts.setdefault(detector, [0, 0])
                if label in ("true", "false"):
                    each[label == "false"] += count
        return {detector: (right, wrong) for detector, (right, wrong) in counts.items()}

    def epochs(self) -> tuple[int, int]:
        """The counters of kills and of acts."""
        with self._database.reading() as connection:
            found = control.epochs(connection)
        return found.get(control.KILLS, 0), found.get(control.BREAKERS, 0)


_machine: Final = msgspec.msgpack.Decoder(Machine).decode
_trip: Final = msgspec.json.Decoder(Trip).decode


def _kill(row: Row[Any]) -> Kill:
    return Kill(
        id=row.id, scope=row.scope, tenant=row.tenant, name=row.name, reason=row.reason, by=row.by,
        at_ns=row.at_ns,
    )  # fmt: skip


def _told(row: Row[Any]) -> Told:
    return Told(trip=_trip(row.body), label=row.label, label_by=row.label_by)
