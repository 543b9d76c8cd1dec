"""Reading the journal: for the command line and the admin API. Never on the path of a call.

Records come back as plain dictionaries with the columns and the content of ``body`` side by side; the
snapshots they name (agent, tool, what was in force) are put in where a whole call is shown.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final

import msgspec
import orjson
from sqlalchemy import ColumnElement, Connection, Row, func, select

from gateway.journal import display
from gateway.journal.entries import payload_name
from gateway.journal.recovery import unresolved
from gateway.model import Json
from gateway.storage.crypto import Sealed, StorageKey, Unreadable
from gateway.storage.database import Database
from gateway.storage.tables import payloads, records, snapshots

Record = dict[str, Any]

_LOT: Final = 500
_DISORDER: Final = 20_000
_COLUMNS: Final = tuple(f"{column.name}" for column in records.columns)  # plain str, for orjson


class Filter(msgspec.Struct, frozen=True, kw_only=True):
    """Which decisions; what is ``None`` does not narrow. Times are nanoseconds since the epoch."""

    agent: str | None = None
    tool: str | None = None  # "upstream/tool", or an upstream: "bank/"
    verdict: str | None = None
    action: str | None = None
    code: str | None = None
    session: str | None = None
    call: str | None = None  # call id
    tenant: str | None = None
    subject: str | None = None  # the verified user; "" for calls on behalf of nobody
    since_ns: int | None = None
    until_ns: int | None = None
    in_doubt: bool = False  # only calls whose outcome nobody knows


class Page(msgspec.Struct, frozen=True):
    """Decisions, newest first; ``cursor`` continues after the last one, ``None`` at the end."""

    decisions: list[Record]
    cursor: int | None


class Shown(msgspec.Struct, frozen=True):
    """Everything on record about one call."""

    records: list[Record]  # with ``agent_snapshot``, ``tool_snapshot`` and ``in_force`` put in
    payload: dict[str, Json]  # arguments, result, error; redacted unless revealed
    payload_state: str  # "shown", "redacted", "sealed", "not kept", or why it cannot be read


class Query:
    """The read side of the journal."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def list_decisions(self, narrow: Filter, *, limit: int = 50, cursor: int | None = None) -> Page:
        """One entry a call: its decision, with ``status``, ``outcome_code`` and ``end_phase`` as of now."""
        query = select(records).where(*conditions(narrow))
        if cursor is not None:
            query = query.where(records.c.seq < cursor)
        query = query.order_by(records.c.seq.desc()).limit(limit + 1)
        with self._database.reading() as connection:
            rows = connection.execute(query).all()
            decisions = _with_ends(connection, [_record(row) for row in rows[:limit]])
        return Page(decisions, rows[limit - 1].seq if len(rows) > limit else None)

    def count(self, narrow: Filter) -> dict[str, int]:
        """How many decisions there are by action."""
        query = select(records.c.action, func.count()).where(*conditions(narrow)).group_by(records.c.action)
        with self._database.reading() as connection:
            return {row[0]: row[1] for row in connection.execute(query)}

    def show(self, call_id: str, *, key: StorageKey | None = None, reveal: bool = False) -> Shown | None:
        """All records of a call. With the key, its payload too: redacted, or as it was when ``reveal``."""
        with self._database.reading() as connection:
            rows = connection.execute(
                select(records).where(records.c.call_id == call_id).order_by(records.c.seq)
            ).all()
            if not rows:
                return None
            found = [_expanded(connection, _record(row)) for row in rows]
            sealed = _sealed(connection, found)
        if not sealed:
            return Shown(found, {}, "not kept")
        if key is None:
            return Shown(found, {}, "sealed")
        payload: dict[str, Json] = {}
        try:
            for name, content in sealed:
                payload |= orjson.loads(key.open(name, content))
        except Unreadable as error:
            return Shown(found, {}, str(error))
        if reveal:
            payload.pop("sensitive", None)
            return Shown(found, payload, "shown")
        restricted = any(display.restricts(end) for end in map(_end_of, found))
        return Shown(found, display.presentable(payload, result_restricted=restricted), "redacted")

    def last(self) -> int:
        """The newest sequence number, to start ``tail`` from; 0 for an empty journal."""
        with self._database.reading() as connection:
            last: int = connection.execute(select(func.coalesce(func.max(records.c.seq), 0))).scalar_one()
        return last

    def tail(self, after_seq: int, *, limit: int = _LOT) -> list[Record]:
        """The records that follow ``after_seq``, of every phase, oldest first.

        What follows a decision gets its agent, session and target, so that it can be told whose it is.
        """
        query = select(records).where(records.c.seq > after_seq).order_by(records.c.seq).limit(limit)
        with self._database.reading() as connection:
            found = [_record(row) for row in connection.execute(query)]
            later = [record["call_id"] for record in found if "action" not in record]
            begun = select(records.c.call_id, records.c.agent, records.c.session, records.c.target).where(
                records.c.call_id.in_(later), records.c.action.is_not(None)
            )
            known = {row.call_id: row for row in connection.execute(begun)}
        for record in found:
            if "action" not in record and (row := known.get(record["call_id"])):
                record |= {"agent": row.agent, "session": row.session, "target": row.target}
        return found

    def export(self, narrow: Filter | None = None) -> Iterator[bytes]:
        """Every matching record as a line of JSON with its snapshots, oldest first, in bounded memory.

        Without a filter that is each record; with one, the decisions that match and their outcomes. Each
        lot is its own transaction, so a long export does not keep the write-ahead log from shrinking.
        """
        after = 0
        while True:
            query = select(records).where(records.c.seq > after).order_by(records.c.seq).limit(_LOT)
            if narrow is not None:
                query = query.where(*conditions(narrow))
            with self._database.reading() as connection:
                rows = connection.execute(query).all()
                lot = [_record(row) for row in rows]
                if narrow is not None:
                    lot = _with_ends(connection, lot)
                known = _snapshots(connection, lot)
            for record in lot:
                yield orjson.dumps(_put_in(record, known), option=orjson.OPT_APPEND_NEWLINE)
            if len(rows) < _LOT:
                return
            after = rows[-1].seq


def conditions(narrow: Filter) -> Iterable[ColumnElement[bool]]:
    """The decisions of a filter, as parts of a WHERE."""
    # What was decided has an action; the records that follow it have none.
    yield records.c.action.is_not(None)
    for column, value in (
        (records.c.agent, narrow.agent),
        (records.c.verdict, narrow.verdict),
        (records.c.action, narrow.action),
        (records.c.code, narrow.code),
        (records.c.session, narrow.session),
        (records.c.call_id, narrow.call),
        (records.c.tenant, narrow.tenant),
    ):
        if value is not None:
            yield column == value
    if narrow.subject is not None:
        yield records.c.subject == narrow.subject if narrow.subject else records.c.subject.is_(None)
    if narrow.tool is not None:
        if narrow.tool.endswith("/"):
            yield records.c.target.startswith(narrow.tool, autoescape=True)
        else:
            yield records.c.target == narrow.tool
    if narrow.since_ns is not None:
        yield records.c.at_ns >= narrow.since_ns
        yield records.c.seq >= _first_seq(narrow.since_ns)
    if narrow.until_ns is not None:
        yield records.c.at_ns < narrow.until_ns
    if narrow.in_doubt:
        yield records.c.call_id.in_(unresolved().with_only_columns(records.c.call_id).order_by(None))


def _first_seq(at_ns: int) -> ColumnElement[int]:
    """A sequence number before everything of a time on, so that no scan begins at the first record.

    Found through the index over call ids: a UUIDv7 begins with its milliseconds (RFC 9562, section 5.7).
    Calls are written in another order than they came in, but never further apart than the queue is long.
    """
    value = f"{max(at_ns, 0) // 1_000_000:012x}"
    first = select(records.c.seq).where(records.c.call_id >= f"{value[:8]}-{value[8:]}")
    return (
        func.coalesce(first.order_by(records.c.call_id).limit(1).scalar_subquery(), _last_seq()) - _DISORDER
    )


def _last_seq() -> ColumnElement[int]:
    return select(func.max(records.c.seq)).scalar_subquery()


def _record(row: Row[Any]) -> Record:
    record = {name: value for name, value in zip(_COLUMNS, row, strict=True) if value is not None}
    body = record.pop("body", None)
    if "chain" in record:
        record["chain"] = orjson.loads(record["chain"])
    return record | orjson.loads(body) if body else record


def _with_ends(connection: Connection, decisions: list[Record]) -> list[Record]:
    """Add what became of each call, which later records say."""
    ends: dict[str, Record] = {}
    checked: dict[str, str] = {}
    calls = [decision["call_id"] for decision in decisions]
    for start in range(0, len(calls), _LOT):
        later = select(records).where(
            records.c.call_id.in_(calls[start : start + _LOT]), records.c.action.is_(None)
        )
        for row in connection.execute(later.order_by(records.c.seq)):
            if row.phase == "verified":
                checked[row.call_id] = row.status
            elif row.phase != "erased":
                ends[row.call_id] = _record(row)
    for decision in decisions:
        end = ends.get(decision["call_id"])
        decision["end_phase"] = end["phase"] if end else decision["phase"]
        if end:
            decision["end"] = end
        if decision["call_id"] in checked:
            decision["verification"] = checked[decision["call_id"]]
        for name in ("status", "outcome_code"):
            if end and name in end:
                decision[name] = end[name]
    return decisions


def _end_of(record: Record) -> Record:
    return record | record["end"] if isinstance(record.get("end"), dict) else record


_REFS: Final = {"agent_ref": "agent_snapshot", "tool_ref": "tool_snapshot", "in_force_ref": "in_force"}


def _snapshots(connection: Connection, found: Sequence[Record]) -> dict[str, Json]:
    refs = sorted({record[ref] for record in found for ref in _REFS if ref in record})
    known: dict[str, Json] = {}
    for start in range(0, len(refs), _LOT):
        query = select(snapshots).where(snapshots.c.ref.in_(refs[start : start + _LOT]))
        known |= {row.ref: orjson.loads(row.json) for row in connection.execute(query)}
    return known


def _put_in(record: Record, known: dict[str, Json]) -> Record:
    return record | {name: known.get(record[ref]) for ref, name in _REFS.items() if ref in record}


def _expanded(connection: Connection, record: Record) -> Record:
    return _put_in(record, _snapshots(connection, [record]))


def _sealed(connection: Connection, found: Sequence[Record]) -> list[tuple[str, Sealed]]:
    """The payloads that are still there, with the names they are sealed to."""
    calls = {record["payload"]: record["call_id"] for record in found if "payload" in record}
    rows = connection.execute(select(payloads).where(payloads.c.id.in_(calls)).order_by(payloads.c.id))
    return [
        (payload_name(calls[row.id], row.id), Sealed(row.key_id, row.nonce, row.ciphertext)) for row in rows
    ]
