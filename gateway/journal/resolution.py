"""What people do to the journal: say what became of a call in doubt, and erase payloads.

Both append a record; nothing is changed. A resolution raises the ``resolutions`` counter in the same
transaction, by which a running gateway frees, or keeps, the effect.
"""

from __future__ import annotations

import time
from typing import Any, Final, Literal

import msgspec
import orjson
from sqlalchemy import ColumnElement, Connection, delete, insert, select, update

from gateway.storage import control
from gateway.storage.database import Database
from gateway.storage.tables import approvals, idempotency, payloads, records

Became = Literal["executed", "not_executed"]

_LOT: Final = 500


class NotInDoubt(Exception):
    """The call is unknown, was never in doubt, or has been resolved; the message says which."""


class Erased(msgspec.Struct, frozen=True):
    """``complete``: nothing is left of it in the files; ``False`` while a reader holds the old pages."""

    calls: int
    payloads: int
    complete: bool


class Erase(msgspec.Struct, frozen=True, kw_only=True):
    """Whose payloads; all that is given must match, and something must be given."""

    call: str | None = None
    agent: str | None = None
    subject: str | None = None
    tenant: str | None = None
    before_ns: int | None = None


def resolve(database: Database, call_id: str, became: Became, *, by: str, note: str = "") -> None:
    """Record what a person found out about a call in doubt. Raises ``NotInDoubt``."""
    with database.writing() as connection:
        rows = connection.execute(
            select(records).where(records.c.call_id == call_id).order_by(records.c.seq)
        ).all()
        if not rows:
            raise NotInDoubt(f"there is no call {call_id}")
        if not any(row.phase == "in_doubt" for row in rows):
            raise NotInDoubt(f"call {call_id} was never in doubt")
        for row in rows:
            if row.phase == "reconciled":
                raise NotInDoubt(f"call {call_id} was resolved by {row.operator}: {row.status}")
        _append(
            connection,
            call_id,
            rows[0].tenant,
            phase="reconciled",
            operator=by,
            status=became,
            effect_key=rows[0].effect_key,
            detail=note,
        )
        control.bump(connection, control.RESOLUTIONS)


def erase(database: Database, whose: Erase, *, by: str, note: str = "") -> Erased:
    """Delete payloads and record that they were; the records keep digests and MACs.

    Works in small transactions beside a running gateway. Zeros are written over what is deleted, and the
    write-ahead log is emptied at the end; copies and backups of the file are out of its reach.
    """
    conditions = list(_conditions(whose))
    if not conditions:
        raise ValueError("say whose payloads to erase")
    calls = erased = after = 0
    while True:
        with database.writing() as connection:
            query = select(records.c.seq, records.c.call_id, records.c.tenant).where(
                records.c.seq > after, *conditions
            )
            lot = connection.execute(query.order_by(records.c.seq).limit(_LOT)).all()
            for row in lot:
                gone = _delete_payloads(connection, row.call_id)
                if gone:
                    _append(connection, row.call_id, row.tenant, phase="erased", operator=by, detail=note)
                    calls += 1
                    erased += gone
        if len(lot) < _LOT:
            break
        after = lot[-1].seq
    return Erased(calls, erased, database.checkpoint())


def _conditions(whose: Erase) -> list[ColumnElement[bool]]:
    # A call's decision names agent and subject, so each call is found once.
    found: list[ColumnElement[bool]] = []
    for column, value in (
        (records.c.call_id, whose.call),
        (records.c.agent, whose.agent),
        (records.c.subject, whose.subject),
        (records.c.tenant, whose.tenant),
    ):
        if value is not None:
            found.append(column == value)
    if whose.before_ns is not None:
        found.append(records.c.at_ns < whose.before_ns)
    return [records.c.action.is_not(None), *found] if found else []


def _delete_payloads(connection: Connection, call_id: str) -> int:
    numbers = select(records.c.payload).where(records.c.call_id == call_id, records.c.payload.is_not(None))
    gone = connection.execute(delete(payloads).where(payloads.c.id.in_(numbers))).rowcount
    # Of a held call the arguments were kept for those who decide; without them nobody can.
    held = (approvals.c.call_id == call_id) | (approvals.c.attempt_call == call_id)
    sealed = held & approvals.c.ciphertext.is_not(None)
    gone += connection.execute(
        update(approvals).where(sealed).values(key_id=None, nonce=None, ciphertext=None)
    ).rowcount
    # The answer kept for an idempotency key is the result once more; that it was given stays known.
    kept = (idempotency.c.call_id == call_id) & idempotency.c.ciphertext.is_not(None)
    emptied = update(idempotency).where(kept).values(key_id=None, nonce=None, ciphertext=None, size=0)
    return gone + connection.execute(emptied).rowcount


def _append(connection: Connection, call_id: str, tenant: str, *, detail: str, **columns: Any) -> None:
    body = orjson.dumps({"detail": detail}).decode() if detail else None
    connection.execute(
        insert(records),
        [{"call_id": call_id, "tenant": tenant, "at_ns": time.time_ns(), "body": body, **columns}],
    )
