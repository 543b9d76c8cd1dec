"""Sessions and accounts at rest, and what people did to sessions.

Mandates and states are sealed with the storage key, because both can hold words of users. Everything here is
blocking: the gateway calls it from threads, the command line directly.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple

import msgspec
import orjson
from sqlalchemy import Connection, Row, delete, func, select, update
from sqlalchemy.dialects.postgresql import insert

from gateway.storage import control
from gateway.storage.crypto import Sealed, StorageKey
from gateway.storage.database import Database
from gateway.storage.tables import accounts, session_acts, sessions

KEPT_NS: Final = 30 * 86_400 * 1_000_000_000
"""How long a session that was opened, and has ended, is kept; what was done to it is kept for good."""

_LOT: Final = 500


class Stored(msgspec.Struct, frozen=True, kw_only=True):
    """A session as it is stored. ``*_json``/``state`` are "" when there is none."""

    id: str
    tenant: str
    agent: str
    credential: str
    subject: str | None
    rolling: bool
    parent: str
    opened_ns: int
    opened_by: str
    expires_ns: int | None = None
    closed_ns: int | None = None
    n: int = 0
    seen_ns: int = 0
    mandate_json: bytes = b""
    state: bytes = b""


class Act(msgspec.Struct, frozen=True, kw_only=True):
    """Something a person or an orchestrator did to a session."""

    seq: int = 0
    session: str
    tenant: str
    at_ns: int
    act: str
    by: str
    note: str = ""
    detail: Mapping[str, Any] = {}


class SavedAccount(NamedTuple):
    scope: str
    n: int
    state: bytes


class SessionStore:
    """The stored side of sessions."""

    def __init__(self, database: Database, key: StorageKey) -> None:
        self._database = database
        self._key = key

    # ---------------------------------------------------------------------------------------- reading

    def load(self, session: str) -> Stored | None:
        with self._database.reading() as connection:
            row = connection.execute(select(sessions).where(sessions.c.id == session)).one_or_none()
        return self._stored(row) if row is not None else None

    def load_all(self, wanted: Sequence[str]) -> dict[str, tuple[Stored, list[Act]]]:
        """Those of the sessions that are stored, with all that was done to them; at most a thousand."""
        acts = select(session_acts).where(session_acts.c.session.in_(wanted)).order_by(session_acts.c.seq)
        done: dict[str, list[Act]] = {}
        with self._database.reading() as connection:
            rows = connection.execute(select(sessions).where(sessions.c.id.in_(wanted))).all()
            for row in connection.execute(acts):
                done.setdefault(row.session, []).append(_act(row))
        return {row.id: (self._stored(row), done.get(row.id, [])) for row in rows}

    def listed(
        self, tenant: str | None, agent: str | None, *, closed: bool = True, limit: int, after: str = ""
    ) -> list[Stored]:
        """Newest first; ``after`` is the last id of the page before."""
        query = select(sessions).order_by(sessions.c.seen_ns.desc(), sessions.c.id.desc()).limit(limit)
        if tenant is not None:
            query = query.where(sessions.c.tenant == tenant)
        if agent is not None:
            query = query.where(sessions.c.agent == agent)
        if not closed:
            query = query.where(sessions.c.closed_ns.is_(None))
        with self._database.reading() as connection:
            if after:
                last = connection.execute(
                    select(sessions.c.seen_ns).where(sessions.c.id == after)
                ).scalar_one_or_none()
                if last is None:
                    return []
                query = query.where(
                    (sessions.c.seen_ns < last) | ((sessions.c.seen_ns == last) & (sessions.c.id < after))
                )
            return [self._stored(row) for row in connection.execute(query)]

    def acts(self, *, after: int = 0, session: str | None = None) -> list[Act]:
        """What was done after an act, oldest first."""
        query = select(session_acts).where(session_acts.c.seq > after).order_by(session_acts.c.seq)
        if session is not None:
            query = query.where(session_acts.c.session == session)
        with self._database.reading() as connection:
            return [_act(row) for row in connection.execute(query)]

    def last_act(self) -> int:
        with self._database.reading() as connection:
            last: int = connection.execute(
                select(func.coalesce(func.max(session_acts.c.seq), 0))
            ).scalar_one()
        return last

    def accounts(self) -> list[SavedAccount]:
        with self._database.reading() as connection:
            return [SavedAccount(row.scope, row.n, row.state) for row in connection.execute(select(accounts))]

    def epochs(self) -> dict[str, int]:
        with self._database.reading() as connection:
            return control.epochs(connection)

    # ---------------------------------------------------------------------------------------- writing

    def open(self, stored: Stored, act: Act) -> int:
        """Make a session that was asked for; the number of the act. Refuses an id that is there."""
        with self._database.writing() as connection:
            connection.execute(insert(sessions).values(self._row(stored)))
            return _acted(connection, act)

    def act(self, act: Act) -> int:
        """Record what somebody does to a session; its number. ``LookupError`` for one that is not stored."""
        with self._database.writing() as connection:
            found = connection.execute(
                select(sessions.c.id).where(sessions.c.id == act.session, sessions.c.tenant == act.tenant)
            ).first()
            if found is None:
                raise LookupError(act.session)
            if act.act == "close":
                connection.execute(
                    update(sessions).where(sessions.c.id == act.session).values(closed_ns=act.at_ns)
                )
            return _acted(connection, act)

    def save(self, changed: Iterable[Stored], spent: Iterable[SavedAccount]) -> None:
        """Keep what sessions and accounts have become."""
        rows = [self._row(stored) for stored in changed]
        held = [each._asdict() for each in spent]
        with self._database.writing() as connection:
            if rows:
                row = insert(sessions)
                kept = {
                    name: row.excluded[name]
                    for name in ("n", "seen_ns", "state_key", "state_nonce", "state", "expires_ns")
                }
                connection.execute(
                    row.on_conflict_do_update(
                        index_elements=[sessions.c.id], set_=kept, where=sessions.c.n <= row.excluded.n
                    ),
                    rows,
                )
            if held:
                row = insert(accounts)
                connection.execute(
                    row.on_conflict_do_update(
                        index_elements=[accounts.c.scope],
                        set_={"n": row.excluded.n, "state": row.excluded.state},
                    ),
                    held,
                )

    def folded(self, seq: int, n: int, acted: int, steady_ns: int) -> None:
        """Everything up to a record, and up to an act, is in what was saved."""
        with self._database.writing() as connection:
            control.advance(connection, control.FOLDED, seq)
            control.advance(connection, control.ACTED, acted)
            control.advance(connection, control.MARKED, n)
            control.advance(connection, control.STEADY, steady_ns)

    def purge(self, now_ns: int) -> int:
        """Delete sessions that ended long ago, a bounded number; returns how many.

        Rolling sessions stay: whoever comes back after a month is still bound by what was used and read.
        """
        ended = func.coalesce(sessions.c.closed_ns, sessions.c.expires_ns)
        old = (
            select(sessions.c.id)
            .where(sessions.c.rolling == 0, ended < now_ns - KEPT_NS, sessions.c.seen_ns < now_ns - KEPT_NS)
            .limit(_LOT)
        )
        with self._database.writing() as connection:
            return connection.execute(delete(sessions).where(sessions.c.id.in_(old))).rowcount

    # ----------------------------------------------------------------------------------------- sealing

    def _row(self, stored: Stored) -> dict[str, Any]:
        row = msgspec.structs.asdict(stored)
        sealer = self._key.sealer(time.time_ns())
        for name, value in (("mandate", row.pop("mandate_json")), ("state", row.pop("state"))):
            sealed = sealer.seal(f"session/{stored.id}/{name}", value) if value else (None, None, None)
            row[f"{name}_key"], row[f"{name}_nonce"], row[name] = sealed
        row["rolling"] = int(stored.rolling)
        return row

    def _stored(self, row: Row[Any]) -> Stored:
        values = dict(row._mapping)
        opened = {}
        for name in ("mandate", "state"):
            key, nonce, text = (values.pop(each) for each in (f"{name}_key", f"{name}_nonce", name))
            opened[name] = (
                self._key.open(f"session/{row.id}/{name}", Sealed(key, nonce, text))
                if text is not None
                else b""
            )
        values["rolling"] = bool(values["rolling"])
        return Stored(**values, mandate_json=opened["mandate"], state=opened["state"])


def _acted(connection: Connection, act: Act) -> int:
    row = msgspec.structs.asdict(act)
    del row["seq"]
    row["detail"] = orjson.dumps(act.detail).decode()
    done = connection.execute(insert(session_acts).values(row))
    control.bump(connection, control.SESSIONS)
    number: Sequence[Any] | None = done.inserted_primary_key
    assert number is not None, "one row was inserted"
    return int(number[0])


def _act(row: Row[Any]) -> Act:
    values = dict(row._mapping)
    values["detail"] = orjson.loads(values["detail"])
    return Act(**values)
