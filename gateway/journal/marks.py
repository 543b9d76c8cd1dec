"""What the newest records say of sessions and budgets, so that a gateway that starts knows what it knew.

Sessions are saved now and then; this reads what was recorded since, in the order in which it was recorded.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

import msgspec
from sqlalchemy import Connection, select

from gateway.model import Mark, Principal
from gateway.recorded import Happened
from gateway.storage.database import Database
from gateway.storage.tables import records, snapshots

_LOT: Final = 1000


class _Facts(msgspec.Struct, frozen=True):
    reserved: Mapping[str, int] = {}


class _End(msgspec.Struct, frozen=True):
    mark: Mark | None = None


class _Body(msgspec.Struct, frozen=True):
    agent_ref: str = ""
    facts: _Facts = _Facts()
    mark: Mark | None = None
    end: _End | None = None


_body: Final = msgspec.json.Decoder(_Body).decode
_principal: Final = msgspec.json.Decoder(Principal).decode


def happened(database: Database, after: int, to: int) -> Iterator[Happened]:
    """What was recorded after one number and up to another. Blocking, in lots, each a transaction."""
    reader = _Reader(database, to)
    while True:
        lot, rows = reader.lot(after)
        yield from lot
        if rows is None:
            return
        after = rows


class _Reader:
    def __init__(self, database: Database, to: int) -> None:
        self._database = database
        self._to = to
        self._principals: dict[str, Principal] = {}
        self._whose: dict[str, tuple[str, Principal]] = {}  # call → session and principal, while it is open

    def lot(self, after: int) -> tuple[list[Happened], int | None]:
        query = (
            select(
                records.c.seq,
                records.c.call_id,
                records.c.phase,
                records.c.session,
                records.c.status,
                records.c.body,
            )
            .where(records.c.seq > after, records.c.seq <= self._to)
            .order_by(records.c.seq)
            .limit(_LOT)
        )
        with self._database.reading() as connection:
            rows = connection.execute(query).all()
            found = [each for row in rows if (each := self._happened(connection, row)) is not None]
        return found, rows[-1].seq if len(rows) == _LOT else None

    def _happened(self, connection: Connection, row: Any) -> Happened | None:
        if row.phase == "erased":
            return None
        body = _body(row.body or "{}")
        if row.session is not None and body.agent_ref:
            principal = self._of(connection, body.agent_ref)
            if row.phase == "intent":
                self._whose[row.call_id] = row.session, principal
                return Happened(
                    call=row.call_id, session=row.session, principal=principal, reserved=body.facts.reserved
                )
            mark = body.mark or (body.end.mark if body.end is not None else None)
            if mark is None:
                return None
            return Happened(call=row.call_id, session=row.session, principal=principal, mark=mark)
        whose = self._whose.get(row.call_id) or self._intent(connection, row.call_id)
        if whose is None:
            return None
        session, principal = whose
        if row.phase == "reconciled":
            return Happened(
                call=row.call_id, session=session, principal=principal, executed=row.status == "executed"
            )
        if body.mark is None:
            return None
        return Happened(call=row.call_id, session=session, principal=principal, mark=body.mark)

    def _intent(self, connection: Connection, call: str) -> tuple[str, Principal] | None:
        row = connection.execute(
            select(records.c.session, records.c.body).where(
                records.c.call_id == call, records.c.phase == "intent"
            )
        ).first()
        if row is None or row.session is None:
            return None
        return row.session, self._of(connection, _body(row.body).agent_ref)

    def _of(self, connection: Connection, ref: str) -> Principal:
        known = self._principals.get(ref)
        if known is None:
            found = connection.execute(select(snapshots.c.json).where(snapshots.c.ref == ref)).scalar_one()
            known = self._principals[ref] = _principal(found)
        return known
