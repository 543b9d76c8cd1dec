"""Approvals, votes and events as rows: reading, writing under compare-and-set, hashing."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from hashlib import sha256
from typing import Any, Final

import msgspec
import orjson
from sqlalchemy import Connection, Row, Select, insert, or_, select, text, update

from gateway.approvals import chain
from gateway.approvals.chain import Circle, Rules, Vote
from gateway.approvals.machine import LIVE, Machine
from gateway.approvals.values import Approval, Blocked, Requirement, Settings, Stored
from gateway.storage import control
from gateway.storage.tables import approval_events, approval_votes, approvals, credentials

_requirements = msgspec.json.Decoder(tuple[Requirement, ...])
_rules = msgspec.json.Decoder(Rules)
_RANK: Final = {"operator": 2, "approver": 1}
_MILLISECOND: Final = 1_000_000
_SQLITE_NOW: Final = text("SELECT CAST((julianday('now') - 2440587.5) * 86400000 AS INTEGER)")
_OTHER_NOW: Final = text("SELECT CAST(extract(epoch FROM clock_timestamp()) * 1000 AS BIGINT)")

MAX_TEXT: Final = 2000


def now_ns(connection: Connection) -> int:
    """The database's clock: one for all processes on one store."""
    query = _SQLITE_NOW if connection.dialect.name == "sqlite" else _OTHER_NOW
    return int(connection.execute(query).scalar_one()) * _MILLISECOND


def load(connection: Connection, approval_id: str) -> Approval | None:
    """One approval, locked until the transaction ends where the database has row locks."""
    row = connection.execute(_COLUMNS.where(approvals.c.id == approval_id)).one_or_none()
    return None if row is None else approval(row)


def live(connection: Connection, tenant: str, asked_digest: str) -> Approval | None:
    """The approval that calls with this digest wait for."""
    row = connection.execute(
        _COLUMNS.where(
            approvals.c.tenant == tenant,
            approvals.c.asked_digest == asked_digest,
            approvals.c.state.in_(LIVE),
        )
    ).one_or_none()
    return None if row is None else approval(row)


def newest_closed(connection: Connection, tenant: str, asked_digest: str, since_ns: int) -> Approval | None:
    """The last one of this digest that ended after a moment."""
    row = connection.execute(
        _COLUMNS.where(
            approvals.c.tenant == tenant,
            approvals.c.asked_digest == asked_digest,
            approvals.c.closed_ns >= since_ns,
            approvals.c.state != "superseded",
        )
        .order_by(approvals.c.closed_ns.desc(), approvals.c.id.desc())
        .limit(1)
    ).one_or_none()
    return None if row is None else approval(row)


def columns() -> Select[Any]:
    return _COLUMNS


def approval(row: Any) -> Approval:
    return Approval(
        machine=Machine(
            state=row.state,
            attempt=row.attempt,
            unsent=bool(row.unsent),
            tainted=bool(row.tainted),
            idempotent=bool(row.idempotent),
        ),
        chain=tuple(orjson.loads(row.chain)),
        requirements=_requirements.decode(row.requirements),
        rules=_rules.decode(row.rules),
        reasons_json=row.reasons,
        facts_json=row.facts,
        editors=tuple(orjson.loads(row.editors)),
        kept=bool(row.kept),
        **{name: getattr(row, name) for name in _SAME},
    )


def save(connection: Connection, was: Approval, machine: Machine, **changed: Any) -> Approval:
    """Write what an approval became, if nobody else did in between; raises ``Blocked``."""
    values = {**_machine(machine), "version": was.version + 1, **changed}
    done = connection.execute(
        update(approvals).where(approvals.c.id == was.id, approvals.c.version == was.version).values(values)
    )
    if done.rowcount != 1:
        raise Blocked("approval_changed")
    control.bump(connection, control.APPROVALS)
    after = load(connection, was.id)
    assert after is not None
    return after


def add(connection: Connection, values: dict[str, Any], machine: Machine) -> None:
    connection.execute(insert(approvals).values({**values, **_machine(machine), "version": 1}))
    control.bump(connection, control.APPROVALS)


def note(connection: Connection, approval_id: str, at_ns: int, event: str, by: str, detail: str = "") -> None:
    connection.execute(
        insert(approval_events).values(
            approval_id=approval_id, at_ns=at_ns, event=event, by=by, detail=detail[:MAX_TEXT]
        )
    )


def events(connection: Connection, approval_id: str) -> Sequence[Row[Any]]:
    return connection.execute(
        select(approval_events)
        .where(approval_events.c.approval_id == approval_id)
        .order_by(approval_events.c.seq)
    ).all()


# ------------------------------------------------------------------------------------------------ votes


def votes(connection: Connection, approval_id: str) -> list[Stored]:
    """All votes of an approval, in order; raises ``Blocked`` when their chain of hashes does not hold."""
    rows = connection.execute(
        select(approval_votes)
        .where(approval_votes.c.approval_id == approval_id)
        .order_by(approval_votes.c.number)
    )
    found = [Stored(**{name: row._mapping[name] for name in Stored.__struct_fields__}) for row in rows]
    previous = genesis(approval_id)
    for number, vote in enumerate(found, 1):
        if vote.number != number or vote.prev_hash != previous or vote.hash != hashed(vote):
            raise Blocked("approval_votes_altered", detail=f"vote {number} of {approval_id}")
        previous = vote.hash
    return found


def add_vote(connection: Connection, approval_id: str, before: Sequence[Stored], **said: Any) -> Stored:
    previous = before[-1].hash if before else genesis(approval_id)
    vote = Stored(number=len(before) + 1, prev_hash=previous, hash="", **said)
    vote = msgspec.structs.replace(vote, hash=hashed(vote))
    connection.execute(insert(approval_votes).values(approval_id=approval_id, **msgspec.structs.asdict(vote)))
    return vote


def genesis(approval_id: str) -> str:
    return sha256(b"wardgate approval " + approval_id.encode()).hexdigest()


def hashed(vote: Stored) -> str:
    """SHA-256 over the hash before and everything the vote says, as canonical JSON."""
    said = {**msgspec.structs.asdict(vote), "hash": ""}
    return sha256(orjson.dumps(said, option=orjson.OPT_SORT_KEYS)).hexdigest()


def counted(found: Iterable[Stored]) -> list[Vote]:
    """Votes as ``chain.evaluate`` counts them."""
    return [
        Vote(
            stage=vote.stage,
            principal=vote.principal,
            decision=vote.decision,
            on_behalf=vote.on_behalf,
            reason=vote.reason,
            at_ns=vote.at_ns,
        )
        for vote in found
    ]


def circle(connection: Connection, tenant: str, settings: Settings, at_ns: int | None = None) -> Circle:
    """Everyone with an operator key of the tenant that still holds."""
    at_ns = time.time_ns() if at_ns is None else at_ns
    found = connection.execute(
        select(credentials.c.name, credentials.c.role).where(
            credentials.c.kind == "operator",
            credentials.c.tenant == tenant,
            or_(credentials.c.revoked_ns.is_(None), credentials.c.revoked_ns > at_ns),
            or_(credentials.c.expires_ns.is_(None), credentials.c.expires_ns > at_ns),
        )
    )
    roles: dict[str, str] = {}
    for row in found:
        if _RANK.get(row.role, 0) >= _RANK.get(roles.get(row.name, ""), 0):
            roles[row.name] = row.role
    families = chain.families(settings.aliases)
    return Circle(
        people={name: chain.person(name, role, settings.groups, families) for name, role in roles.items()},
        absences=settings.absences,
    )


def _machine(machine: Machine) -> dict[str, Any]:
    return {
        "state": machine.state,
        "attempt": machine.attempt,
        "unsent": int(machine.unsent),
        "tainted": int(machine.tainted),
        "idempotent": int(machine.idempotent),
    }


_SAME: Final = (
    "id", "version", "tenant", "agent", "owner", "subject", "session", "call_id", "target", "schema_hash",
    "risk", "asked_digest", "digest", "effect_key", "policy_revision", "opened_ns", "decide_by_ns",
    "execute_s", "execute_by_ns", "lease_s", "lease_until_ns", "attempt_call", "closed_ns", "closed_by",
    "reason_code", "reason_text", "supersedes", "superseded_by", "question", "asked_by", "answer", "canary",
    "envelope",
)  # fmt: skip
_COLUMNS: Final = select(
    *(column for column in approvals.c if column.name not in ("key_id", "nonce", "ciphertext")),
    approvals.c.ciphertext.is_not(None).label("kept"),
)
