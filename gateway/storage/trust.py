"""Trust at rest: accounts, the ledger of evidence, outcomes in their grace, signatures and falls.

Blocking: the gateway calls it from threads. What counts once is decided here, by the database: a ref that is
in the ledger already, the same arguments on the same day, and more outcomes than a day counts change nothing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from hashlib import sha256
from typing import Any, Final, NamedTuple

import msgspec
import orjson
from sqlalchemy import ColumnElement, Connection, Row, delete, func, select
from sqlalchemy.dialects.postgresql import insert

from gateway.storage import control
from gateway.storage.database import Database
from gateway.storage.tables import (
    records,
    trust_accounts,
    trust_events,
    trust_evidence,
    trust_waiting,
)
from gateway.trust.account import Account
from gateway.trust.evidence import Evidence
from gateway.trust.settings import DAY

LOT: Final = 500
MAX_ROWS: Final = 50_000


class Where(NamedTuple):
    """Whose trust, and in what."""

    tenant: str
    agent: str
    domain: str


class Event(msgspec.Struct, frozen=True, kw_only=True):
    """Something that was done to a tier; ``hash`` chains those of one agent and domain."""

    tenant: str
    agent: str
    domain: str
    kind: str  # signed, promoted, vouched, fell, pardoned, changed
    before: int
    after: int
    cause: str = ""
    by: str = "wardgate"
    credential: str = ""
    reason: str = ""
    digest: str = ""
    ref: str = ""
    at_ns: int = 0
    seq: int = 0
    prev_hash: str = ""
    hash: str = ""


class Added(NamedTuple):
    counted: list[Evidence]  # also those that were in the ledger already, as they are there
    left: Mapping[str, int]  # why others were not: repeated, enough


class Made(NamedTuple):
    """A call on record, as far as an incident is about it."""

    agent: str
    target: str
    risk: str
    session: str


class Reconciled(NamedTuple):
    """A call that was in doubt and of which a person says that it happened."""

    call_id: str
    tenant: str
    agent: str
    target: str
    risk: str
    session: str
    at_ns: int
    seq: int


class TrustStore:
    def __init__(self, database: Database) -> None:
        self.database = database

    # -- accounts --------------------------------------------------------------------------------

    def load(self) -> tuple[dict[Where, Account], list[Evidence]]:
        """All accounts, and evidence that is not in their sums yet: written just before a crash."""
        with self.database.reading() as connection:
            rows = connection.execute(select(trust_accounts))
            accounts = {Where(row.tenant, row.agent, row.domain): _account(row.state) for row in rows}
            least = min((account.seq for account in accounts.values()), default=0)
            newest = max((account.seq for account in accounts.values()), default=0)
            # Almost always nothing: sums are saved right after the evidence they take in.
            known = connection.execute(select(func.max(trust_evidence.c.seq))).scalar() or 0
            if known == newest:
                return accounts, []
            found = connection.execute(
                select(trust_evidence).where(trust_evidence.c.seq > least).order_by(trust_evidence.c.seq)
            )
            late = [row for row in map(_evidence, found) if row.seq > _seq(accounts, row)]
        return accounts, late

    def account(self, where: Where) -> Account | None:
        with self.database.reading() as connection:
            state = connection.execute(
                select(trust_accounts.c.state).where(*_at(trust_accounts, where))
            ).scalar()
        return _account(state) if state is not None else None

    def accounts(self, tenant: str, agent: str | None = None) -> list[tuple[Where, Account]]:
        query = select(trust_accounts).where(trust_accounts.c.tenant == tenant)
        if agent is not None:
            query = query.where(trust_accounts.c.agent == agent)
        with self.database.reading() as connection:
            rows = connection.execute(query.order_by(trust_accounts.c.agent, trust_accounts.c.domain))
            return [(Where(row.tenant, row.agent, row.domain), _account(row.state)) for row in rows]

    def save(
        self,
        accounts: Iterable[tuple[Where, bytes]],
        events: Sequence[Event] = (),
        *,
        now_ns: int,
        authority: bool = False,
    ) -> None:
        """Accounts (encoded) and what happened to them, in one transaction.

        ``authority``: something was taken back, so what was granted or decided before does not hold any more.
        """
        with self.database.writing() as connection:
            _save(connection, accounts, events, now_ns, authority)

    def newest(self) -> int:
        """When anything was last written here; 0 for never."""
        with self.database.reading() as connection:
            return connection.execute(select(func.max(trust_accounts.c.at_ns))).scalar() or 0

    # -- the ledger ------------------------------------------------------------------------------

    def add(
        self,
        rows: Sequence[Evidence],
        per_day: int,
        accounts: Iterable[tuple[Where, bytes]] = (),
        events: Sequence[Event] = (),
        *,
        now_ns: int = 0,
        authority: bool = False,
    ) -> Added:
        """Append what counts; what does not is only counted. What it did to accounts is saved with it."""
        with self.database.writing() as connection:
            _save(connection, accounts, events, now_ns, authority)
            return _add(connection, rows, per_day)

    def wait(self, rows: Iterable[tuple[Evidence, int]]) -> None:
        """Keep good outcomes until a moment; of one call the first."""
        with self.database.writing() as connection:
            for row, due_ns in rows:
                body = msgspec.msgpack.encode(row)
                connection.execute(
                    insert(trust_waiting)
                    .values(call_id=row.call_id, due_ns=due_ns, body=body)
                    .on_conflict_do_nothing()
                )

    def mature(self, now_ns: int, per_day: int) -> Added:
        """Good outcomes against which nothing has spoken for as long as was asked: now they count."""
        ripe = trust_waiting.c.due_ns <= now_ns
        with self.database.reading() as connection:  # asked every second, and nearly always in vain
            if connection.execute(select(trust_waiting.c.call_id).where(ripe).limit(1)).first() is None:
                return Added([], {})
        with self.database.writing() as connection:
            due = connection.execute(
                select(trust_waiting).where(ripe)
                .order_by(trust_waiting.c.due_ns).limit(LOT)
            ).all()  # fmt: skip
            connection.execute(
                delete(trust_waiting).where(trust_waiting.c.call_id.in_([row.call_id for row in due]))
            )
            return _add(connection, [_waiting(row.body) for row in due], per_day)

    def waiting(self, where: Where) -> int:
        """How many good outcomes of an account are in their grace."""
        with self.database.reading() as connection:
            bodies = connection.execute(select(trust_waiting.c.body).limit(MAX_ROWS)).scalars()
            return sum(1 for body in bodies if _where(_waiting(body)) == where)

    def withdrawn(self, call_id: str) -> bool:
        """Something spoke against a call in its grace: it will not count. Whether it was waiting."""
        with self.database.writing() as connection:
            gone = connection.execute(delete(trust_waiting).where(trust_waiting.c.call_id == call_id))
            return gone.rowcount > 0

    def evidence(self, where: Where, *, since_ns: int = 0, good: bool = False) -> list[Evidence]:
        """Of one account, oldest first; of very much the newest."""
        query = select(trust_evidence).where(
            *_at(trust_evidence, where), trust_evidence.c.day >= since_ns // DAY
        )
        if good:
            query = query.where(trust_evidence.c.good > 0)
        with self.database.reading() as connection:
            rows = connection.execute(query.order_by(trust_evidence.c.seq.desc()).limit(MAX_ROWS))
            return [_evidence(row) for row in rows][::-1]

    def known(self, refs: Sequence[str]) -> set[str]:
        """Which of these are in the ledger."""
        with self.database.reading() as connection:
            found = connection.execute(select(trust_evidence.c.ref).where(trust_evidence.c.ref.in_(refs)))
            return set(found.scalars())

    def of_call(self, call_id: str) -> list[Evidence]:
        with self.database.reading() as connection:
            rows = connection.execute(select(trust_evidence).where(trust_evidence.c.call_id == call_id))
            return [_evidence(row) for row in rows]

    # -- what happened ---------------------------------------------------------------------------

    def events(self, where: Where, limit: int = 1000) -> list[Event]:
        """Oldest first; raises ``Altered`` when their chain of hashes does not hold."""
        query = select(trust_events).where(*_at(trust_events, where)).order_by(trust_events.c.seq)
        with self.database.reading() as connection:
            found = [_event(row) for row in connection.execute(query)]
        before = _genesis(where)
        for event in found:
            if event.prev_hash != before or event.hash != _hashed(event):
                raise Altered(f"event {event.seq} of {where.agent} in {where.domain}")
            before = event.hash
        return found[-limit:]

    # -- records ---------------------------------------------------------------------------------

    def made(self, call_id: str, tenant: str) -> Made | None:
        """A call on record that was carried out, of this tenant."""
        query = select(records).where(
            records.c.call_id == call_id,
            records.c.tenant == tenant,
            records.c.phase.in_(("intent", "result")),
        )
        with self.database.reading() as connection:
            row = connection.execute(query.order_by(records.c.seq).limit(1)).one_or_none()
        if row is None or row.agent is None or row.action not in ("allow", "modify"):
            return None
        return Made(row.agent, row.target or "", row.risk or "irreversible", row.session or "")

    def reconciled(self, after: int) -> list[Reconciled]:
        """Calls in doubt that people found to have happened, recorded behind a sequence number."""
        said = records.alias()
        query = (
            select(records, said.c.seq.label("said"), said.c.at_ns.label("said_ns"))
            .join(said, said.c.call_id == records.c.call_id)
            .where(
                said.c.seq > after, said.c.phase == "reconciled", said.c.status == "executed",
                records.c.phase == "intent",
            )
            .order_by(said.c.seq)
        )  # fmt: skip
        with self.database.reading() as connection:
            return [
                Reconciled(
                    row.call_id, row.tenant, row.agent or "", row.target or "", row.risk or "irreversible",
                    row.session or "", row.said_ns, row.said,
                )
                for row in connection.execute(query)
            ]  # fmt: skip

    def last_record(self) -> int:
        with self.database.reading() as connection:
            return connection.execute(select(func.max(records.c.seq))).scalar() or 0


class Altered(Exception):
    """Rows that are chained do not fit together: somebody wrote to the database."""


def _save(
    connection: Connection,
    accounts: Iterable[tuple[Where, bytes]],
    events: Sequence[Event],
    now_ns: int,
    authority: bool,
) -> None:
    for where, state in accounts:
        values = {"tier": _account(state).tier, "state": state, "at_ns": now_ns}
        row = insert(trust_accounts).values(**where._asdict(), **values)
        connection.execute(
            row.on_conflict_do_update(index_elements=["tenant", "agent", "domain"], set_=values)
        )  # fmt: skip
    for event in events:
        _append(connection, event)
    if authority:
        control.bump(connection, control.CONTROL)


def _add(connection: Connection, rows: Sequence[Evidence], per_day: int) -> Added:
    counted: list[Evidence] = []
    left: Counter[str] = Counter()
    for row in rows:
        # Told twice, or written by an attempt of which nobody heard that it went well.
        known = connection.execute(
            select(trust_evidence).where(trust_evidence.c.ref == row.ref)
        ).one_or_none()
        if known is not None:
            counted.append(_evidence(known))
            continue
        day = row.at_ns // DAY
        of_the_day = (*_at(trust_evidence, _where(row)), trust_evidence.c.day == day)
        if row.good:
            # Doing one and the same thing again is not more evidence, nor is doing very much.
            same = select(trust_evidence.c.seq).where(
                *of_the_day, trust_evidence.c.good > 0, trust_evidence.c.print == row.print
            )
            if row.print and connection.execute(same.limit(1)).first() is not None:
                left["repeated"] += 1
                continue
        if row.good or row.outcome == "denied":
            kind = trust_evidence.c.good > 0 if row.good else trust_evidence.c.outcome == row.outcome
            enough = select(func.count()).where(*of_the_day, kind, trust_evidence.c.risk == row.risk)
            if connection.execute(enough).scalar_one() >= per_day:
                left["enough"] += 1
                continue
        values = {name: getattr(row, name) for name in _COLUMNS}
        added = insert(trust_evidence).values(**values, day=day).returning(trust_evidence.c.seq)
        counted.append(msgspec.structs.replace(row, seq=connection.execute(added).scalar_one()))
    return Added(counted, left)


def _append(connection: Connection, event: Event) -> None:
    where = Where(event.tenant, event.agent, event.domain)
    said = msgspec.structs.asdict(event)
    same = (trust_events.c[name] == said[name] for name in said if name not in _CHAIN)
    if connection.execute(select(trust_events.c.seq).where(*same).limit(1)).first() is not None:
        return  # written by an attempt of which nobody heard that it went well
    before = connection.execute(
        select(trust_events.c.hash).where(*_at(trust_events, where))
        .order_by(trust_events.c.seq.desc()).limit(1)
    ).scalar()  # fmt: skip
    event = msgspec.structs.replace(event, prev_hash=before or _genesis(where), seq=0, hash="")
    event = msgspec.structs.replace(event, hash=_hashed(event))
    values = msgspec.structs.asdict(event)
    del values["seq"]
    connection.execute(insert(trust_events).values(**values))


def _hashed(event: Event) -> str:
    """SHA-256 over the hash before and everything the event says, as canonical JSON."""
    said = {**msgspec.structs.asdict(event), "hash": "", "seq": 0}
    return sha256(orjson.dumps(said, option=orjson.OPT_SORT_KEYS)).hexdigest()


def _genesis(where: Where) -> str:
    return sha256(b"wardgate trust " + msgspec.json.encode(where)).hexdigest()


def _at(table: Any, where: Where) -> tuple[ColumnElement[bool], ...]:
    return (
        table.c.tenant == where.tenant, table.c.agent == where.agent, table.c.domain == where.domain,
    )  # fmt: skip


def _where(row: Evidence) -> Where:
    return Where(row.tenant, row.agent, row.domain)


def _seq(accounts: Mapping[Where, Account], row: Evidence) -> int:
    account = accounts.get(_where(row))
    return account.seq if account is not None else 0


def _evidence(row: Row[Any]) -> Evidence:
    return Evidence(seq=row.seq, **{name: row._mapping[name] for name in _COLUMNS})


def _event(row: Row[Any]) -> Event:
    return Event(**{name: row._mapping[name] for name in Event.__struct_fields__})


_COLUMNS: Final = tuple(name for name in Evidence.__struct_fields__ if name != "seq")
_CHAIN: Final = ("seq", "prev_hash", "hash")
_account: Final = msgspec.msgpack.Decoder(Account).decode
_waiting: Final = msgspec.msgpack.Decoder(Evidence).decode
