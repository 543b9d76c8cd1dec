"""What a crash left behind: calls whose intent is on disk and whose end is not.

Nothing is guessed. Such a call gets the record ``in_doubt`` and stays listed until a person, or later a
reconcile hook, says what became of it; meanwhile its effect key and its digest are held.
"""

from __future__ import annotations

import time
from typing import Any, Final, Literal, NamedTuple

import orjson
from sqlalchemy import Connection, Row, Select, func, insert, literal, select

from gateway.storage import control
from gateway.storage.database import Database
from gateway.storage.tables import records, snapshots

EFFECT_TTL_NS: Final = 7 * 86_400 * 1_000_000_000
"""How long an effect that is done stays in the way of a second one with the same key."""

_ENDS: Final = ("result", "not_sent", "in_doubt")
IN_DOUBT: Final = literal("in_doubt", literal_execute=True)
"""Written into the statement, or SQLite could not use the index over just these rows."""


class LiveEffect(NamedTuple):
    """An effect that stands in the way of another; ``key`` is the effect key, by default the call id."""

    tenant: str
    key: str
    digest: str  # of the request as the agent made it
    state: Literal["in_doubt", "done"]
    idempotent: bool
    call_id: str
    session: str = ""


class Resolved(NamedTuple):
    """What a person found out about a call that was in doubt."""

    effect: LiveEffect  # as it was
    executed: bool


class Recovered(NamedTuple):
    in_doubt: int  # found now, not counting those known before
    effects: list[LiveEffect]


def recover(database: Database) -> Recovered:
    """Record what a crash left in doubt. Once, before the first call, by the gateway that holds the file."""
    with database.writing() as connection:
        found = _mark_in_doubt(connection)
    return Recovered(found, live_effects(database))


def live_effects(database: Database) -> list[LiveEffect]:
    """Effects in doubt, and those done in the last days under a key of their own."""
    since_ns = time.time_ns() - EFFECT_TTL_NS
    with database.reading() as connection:
        return _in_doubt(connection) + _done(connection, since_ns)


def resolved_since(database: Database, seq: int) -> tuple[list[Resolved], int]:
    """What people said after a sequence number, and the number to ask from next time.

    Ask again when the ``resolutions`` counter moves. What a running gateway knows cannot be replaced by
    ``live_effects``: calls end while that is read, and their effects would be forgotten.
    """
    said = records.alias()
    query = (
        select(records, said.c.status.label("became"))
        .join(said, said.c.call_id == records.c.call_id)
        .where(said.c.seq > seq, said.c.phase == "reconciled", records.c.phase == "intent")
        .order_by(said.c.seq)
    )
    with database.reading() as connection:
        rows = connection.execute(query).all()
        return [Resolved(_doubtful(connection, row), row.became == "executed") for row in rows], _last(
            connection
        )


def last_seq(database: Database) -> int:
    """The newest sequence number; 0 in an empty journal."""
    with database.reading() as connection:
        return _last(connection)


class Watermark:
    """Keeps recovery from reading the whole journal: how far every intent is known to have its end.

    Lives in the writer thread. For each open call it remembers the last sequence number that was certainly
    before its intent.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._open: dict[str, int] = {}
        self._floor = 0
        self._stored = 0

    def begun(self, call_id: str) -> None:
        self._open[call_id] = self._floor

    def ended(self, call_id: str) -> None:
        self._open.pop(call_id, None)

    def advance(self) -> None:
        with self._database.reading() as connection:
            last = _last(connection)
        # Calls begin in the order of the dictionary, so its first value is the lowest.
        recovered = next(iter(self._open.values()), last)
        self._floor = last
        if recovered > self._stored:
            with self._database.writing() as connection:
                control.advance(connection, control.RECOVERED, recovered)
            self._stored = recovered


def _mark_in_doubt(connection: Connection) -> int:
    ended = records.alias()
    begun = control.epochs(connection).get(control.RECOVERED, 0)
    orphans = connection.execute(
        select(
            records.c.call_id,
            records.c.tenant,
            records.c.effect_key,
        ).where(
            records.c.seq > begun,
            records.c.phase == "intent",
            records.c.risk != "read",
            ~select(ended.c.seq)
            .where(ended.c.call_id == records.c.call_id, ended.c.phase.in_(_ENDS))
            .exists(),
        )
    ).all()
    if orphans:
        now = time.time_ns()
        connection.execute(
            insert(records),
            [
                {
                    **orphan._mapping,
                    "phase": "in_doubt",
                    "at_ns": now,
                    "status": "in_doubt",
                    "outcome_code": "in_doubt",
                    "body": '{"detail":"the gateway ended before the outcome was recorded"}',
                }
                for orphan in orphans
            ],
        )
    control.advance(connection, control.RECOVERED, _last(connection))
    return len(orphans)


def _in_doubt(connection: Connection) -> list[LiveEffect]:
    return [_doubtful(connection, row) for row in connection.execute(unresolved())]


def _doubtful(connection: Connection, intent: Row[Any]) -> LiveEffect:
    body = orjson.loads(intent.body)
    tool = connection.execute(select(snapshots.c.json).where(snapshots.c.ref == body["tool_ref"]))
    return LiveEffect(
        tenant=intent.tenant,
        key=intent.effect_key or intent.call_id,
        digest=body.get("modified_from") or intent.digest,
        state="in_doubt",
        idempotent=orjson.loads(tool.scalar_one())["manifest"]["idempotent"],
        call_id=intent.call_id,
        session=intent.session or "",
    )


def unresolved() -> Select[Any]:
    """The intents of all calls in doubt, in the order in which they became so."""
    doubt, resolved = records.alias(), records.alias()
    settled = select(resolved.c.seq).where(
        resolved.c.call_id == doubt.c.call_id, resolved.c.phase == "reconciled"
    )
    return (
        select(records)
        .join(doubt, doubt.c.call_id == records.c.call_id)
        .where(doubt.c.phase == IN_DOUBT, records.c.phase == "intent", ~settled.exists())
        .order_by(doubt.c.seq)
    )


def _done(connection: Connection, since_ns: int) -> list[LiveEffect]:
    """Only keys made from a template: a call id never comes twice."""
    done = ((records.c.phase == "result") & records.c.status.in_(("ok", "withheld", "unobserved"))) | (
        (records.c.phase == "reconciled") & (records.c.status == "executed")
    )
    rows = connection.execute(
        select(records.c.tenant, records.c.effect_key, records.c.call_id).where(
            records.c.effect_key.is_not(None), records.c.at_ns >= since_ns, done
        )
    )
    return [LiveEffect(row.tenant, row.effect_key, "", "done", False, row.call_id) for row in rows]


def _last(connection: Connection) -> int:
    last: int = connection.execute(select(func.coalesce(func.max(records.c.seq), 0))).scalar_one()
    return last
