"""Recorded calls as the detectors saw them, oldest first, from the journal alone: no payload is opened."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final

import msgspec
from sqlalchemy import func, select

from gateway.breakers.event import Event, What
from gateway.reasons import REASONS, Party
from gateway.storage.database import Database
from gateway.storage.tables import records

_LOT: Final = 5000


class _Mark(msgspec.Struct, frozen=True):
    charged: dict[str, int] = {}


class _End(msgspec.Struct, frozen=True):
    mark: _Mark | None = None


class _Body(msgspec.Struct, frozen=True):
    thread: str = ""
    received_ns: int = 0
    args_size: int = 0
    end: _End | None = None
    mark: _Mark | None = None


_body: Final = msgspec.json.Decoder(_Body).decode
_SILENT: Final = frozenset(
    {"breaker_open", "breaker_throttled", "breaker_guarded", "killed", "duplicate_effect", "in_doubt",
     "approval_needed", "trust_needs_person", "trust_horizon", "trust_observe_only", "trust_budget",
     "budget_exceeded", "cancelled", "policy_error", "policy_undefined", "policy_bad_shape", "policy_timeout",
     "policy_mismatch", "undeclared_code", "obligation_conflict", "modified_again"}
)  # fmt: skip


_UNSAVED_NS: Final = 60 * 1_000_000_000


def delegated_since(database: Database, since_ns: int | None) -> Iterator[Event]:
    """Calls of delegations that ended after a moment, and in the minute before the last record.

    What is older is saved: a gateway that saw no delegation for months need not read the records of months.
    """
    with database.reading() as connection:
        last: int = connection.execute(select(func.max(records.c.at_ns))).scalar() or 0
    calls = list(_delegated(database, max(since_ns or 0, last - _UNSAVED_NS)))
    for start in range(0, len(calls), 500):
        yield from _of_calls(database, calls[start : start + 500])


def _delegated(database: Database, since_ns: int) -> dict[str, None]:
    """Ids of the calls; from the newest record backwards, because there is no index by time."""
    found: dict[str, None] = {}
    before: int | None = None
    while True:
        query = select(records.c.seq, records.c.at_ns, records.c.call_id, records.c.chain)
        query = query.order_by(records.c.seq.desc()).limit(_LOT)
        with database.reading() as connection:
            rows = connection.execute(query if before is None else query.where(records.c.seq < before)).all()
        for row in rows:
            if row.chain and row.at_ns >= since_ns:
                found[row.call_id] = None
        # What was recorded a minute earlier cannot have ended since.
        if len(rows) < _LOT or rows[-1].at_ns < since_ns - _UNSAVED_NS:
            return found
        before = rows[-1].seq


def _of_calls(database: Database, calls: Sequence[str]) -> Iterator[Event]:
    with database.reading() as connection:
        rows = connection.execute(
            select(records).where(records.c.call_id.in_(calls)).order_by(records.c.seq)
        ).all()
    ends = {row.call_id: row for row in rows if row.phase in ("result", "in_doubt")}
    for row in rows:
        if row.verdict is not None and (made := _event(row, ends.get(row.call_id))) is not None:
            yield made


def recorded_events(
    database: Database, agent: str | None = None, session: str | None = None
) -> Iterator[Event]:
    """Hosts, recipients and what a result says are in payloads, so they are not among it."""
    ends: dict[str, tuple[Any, ...]] = {}
    after = 0
    wanted = [records.c.agent == agent] if agent is not None else []
    if session is not None:
        wanted.append(records.c.session == session)
    while True:
        query = (
            select(records)
            .where(records.c.seq > after, records.c.verdict.is_not(None), *wanted)
            .order_by(records.c.seq)
            .limit(_LOT)
        )
        with database.reading() as connection:
            rows = connection.execute(query).all()
            calls = [row.call_id for row in rows if row.phase == "intent"]
            later = select(records).where(
                records.c.call_id.in_(calls), records.c.phase.in_(("result", "in_doubt"))
            )
            ends = {row.call_id: row for row in connection.execute(later)} if calls else {}
        for row in rows:
            made = _event(row, ends.get(row.call_id))
            if made is not None:
                yield made
        if len(rows) < _LOT:
            return
        after = rows[-1].seq


def _event(row: Any, end: Any) -> Event | None:
    body = _body(row.body)
    ended = end if end is not None else row
    what: What
    if row.action in ("block", "hold"):
        code = row.code or ""
        reason = REASONS.get(code)
        quiet = reason is not None and (
            reason.unavailable or reason.retryable or reason.party is Party.GATEWAY
        )
        # Whatever became of an escalation, its record has the code of the policy.
        if row.action == "hold" or row.verdict == "escalate" or quiet or code in _SILENT:
            return None
        what = "denied"
    elif ended.status in ("ok", "withheld", "unobserved"):
        what = "ok"
    elif ended.status in ("tool_error", "rpc_error"):
        what = "error"
    else:
        return None
    said = _body(ended.body).mark if end is not None else (body.end.mark if body.end else None)
    chain: list[str] = msgspec.json.decode(row.chain) if row.chain else []
    return Event(
        call_id=row.call_id, at_ns=body.received_ns or row.at_ns, tenant=row.tenant, agent=row.agent or "",
        session=row.session or "", thread=body.thread, tool=row.target or "",
        upstream=(row.target or "").split("/")[0], what=what,
        tree=chain[0] if chain else "", depth=len(chain), args=int((row.digest or "0")[:15], 16),
        writes=row.risk != "read",
        irreversible=row.risk == "irreversible",
        bytes_out=body.args_size if row.risk != "read" and what != "denied" else 0,
        cost=said.charged.get("cost_micro_usd", 0) if said is not None else 0,
    )  # fmt: skip
