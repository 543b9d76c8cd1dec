"""Openings of envelopes as rows: asked for by one person, seconded by another, used, and over.

An opening is good while its envelope is declared as it was, its time is not over, it has uses left, and both
people could still open it. It is looked at again for each call, in the transaction that approves the call and
in the one that claims it, so that closing it takes back what was not sent yet.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Literal

import msgspec
from sqlalchemy import Connection, insert, select, update

from gateway.approvals import chain, rows
from gateway.approvals.chain import Circle, Person
from gateway.approvals.envelope import MAX_S, Envelope
from gateway.approvals.values import Blocked, Reviewer, Settings
from gateway.approvals.values import Opening as Held
from gateway.digest import new_id
from gateway.storage.tables import approval_openings as table

State = Literal["asked", "open", "lapsed", "over", "closed"]

_SECOND: Final = 1_000_000_000
_SHOWN: Final = 100


class Opening(msgspec.Struct, frozen=True, kw_only=True):
    """One opening as it is stored. Times are nanoseconds since the epoch."""

    id: str
    tenant: str
    name: str  # of the envelope
    revision: str  # of the envelope, when it was asked for
    reason: str
    duration_s: int
    asked_by: str
    asked_ns: int
    second_by_ns: int
    seconded_by: str | None
    opened_ns: int | None
    expires_ns: int | None
    closed_ns: int | None
    closed_by: str | None
    uses: int
    max_uses: int

    def state(self, now_ns: int) -> State:
        if self.closed_ns is not None:
            return "closed"
        if self.expires_ns is None:
            return "asked" if now_ns < self.second_by_ns else "lapsed"
        return "open" if now_ns < self.expires_ns and self.uses < self.max_uses else "over"


def ask(
    connection: Connection,
    now: int,
    settings: Settings,
    name: str,
    by: Reviewer,
    reason: str,
    duration_s: int,
) -> Opening:
    """One person asks for an envelope to be opened. Raises ``Blocked``."""
    envelope = settings.envelopes.get(name)
    if envelope is None:
        raise Blocked("not_found")
    _entitled(connection, settings, envelope, by)
    if not reason.strip():
        raise Blocked("reason_required")
    if not 60 <= duration_s <= min(envelope.max_s, MAX_S):
        raise _refused(f"from 1 to {int(min(envelope.max_s, MAX_S)) // 60} minutes")
    # One at a time: two that overlap would be one of twice the uses.
    for each in _of(connection, by.tenant, name):
        if (state := each.state(now)) in ("asked", "open"):
            raise _refused(f"it is {state} already: {each.id}")
    made = Opening(
        id=new_id(), tenant=by.tenant, name=name, revision=envelope.revision,
        reason=reason[: rows.MAX_TEXT], duration_s=duration_s, asked_by=by.name, asked_ns=now,
        second_by_ns=now + int(envelope.second_s * _SECOND), seconded_by=None, opened_ns=None,
        expires_ns=None, closed_ns=None, closed_by=None, uses=0, max_uses=envelope.max_uses,
    )  # fmt: skip
    connection.execute(insert(table).values(msgspec.structs.asdict(made)))
    rows.note(connection, made.id, now, "asked", by.name, f"{name}: {reason}")
    return made


def second(connection: Connection, now: int, settings: Settings, opening_id: str, by: Reviewer) -> Opening:
    """Another person agrees, and it is open. Raises ``Blocked``."""
    found = load(connection, opening_id, by.tenant)
    envelope = settings.envelopes.get(found.name)
    if (state := found.state(now)) != "asked":
        raise _refused(f"it is {state}")
    if envelope is None or envelope.revision != found.revision:
        raise _refused("the envelope is declared otherwise by now")
    circle = rows.circle(connection, by.tenant, settings)
    person = _entitled(connection, settings, envelope, by)
    first = circle.people.get(found.asked_by)
    if first is None:
        raise _refused(f"{found.asked_by} could not open it any more")
    # Two names of one person are one person.
    if not _names(first).isdisjoint(_names(person)):
        raise Blocked("self_approval")
    changed = {"seconded_by": by.name, "opened_ns": now, "expires_ns": now + found.duration_s * _SECOND}
    done = connection.execute(
        update(table).where(table.c.id == found.id, table.c.opened_ns.is_(None)).values(changed)
    )
    if done.rowcount != 1:
        raise Blocked("approval_changed")
    rows.note(connection, found.id, now, "opened", by.name, found.name)
    return load(connection, opening_id, by.tenant)


def close(connection: Connection, now: int, opening_id: str, by: Reviewer) -> Opening:
    """End it, or take back what was asked for; anybody who may decide may do that."""
    found = load(connection, opening_id, by.tenant)
    if (state := found.state(now)) not in ("asked", "open"):
        raise _refused(f"it is {state}")
    connection.execute(update(table).where(table.c.id == found.id).values(closed_ns=now, closed_by=by.name))
    rows.note(connection, found.id, now, "closed", by.name, found.name)
    return load(connection, opening_id, by.tenant)


def listed(connection: Connection, tenant: str) -> list[Opening]:
    """The newest first."""
    query = select(table).where(table.c.tenant == tenant).order_by(table.c.id.desc()).limit(_SHOWN)
    return [Opening(**row._mapping) for row in connection.execute(query)]


def load(connection: Connection, opening_id: str, tenant: str) -> Opening:
    row = connection.execute(
        select(table).where(table.c.id == opening_id, table.c.tenant == tenant)
    ).one_or_none()
    if row is None:
        raise Blocked("not_found")
    return Opening(**row._mapping)


def count_open(connection: Connection, now: int) -> int:
    """How many are open, of all tenants."""
    query = select(table).where(table.c.closed_ns.is_(None), table.c.expires_ns > now)
    return sum(Opening(**row._mapping).state(now) == "open" for row in connection.execute(query))


def covering(
    connection: Connection, now: int, settings: Settings, wanted: Held, circle: Circle
) -> Opening | None:
    """An open envelope that a held call is inside of, opened by people it does not come from."""
    chains = {each.chain for each in wanted.requirements}
    for envelope in settings.envelopes.values():
        if not envelope.covers(wanted.agent, wanted.target, chains):
            continue
        for each in _of(connection, wanted.tenant, envelope.name):
            if each.state(now) != "open" or not _holds(each, settings, circle):
                continue
            people = (circle.people[each.asked_by], circle.people[each.seconded_by or ""])
            # Opening it for a call of one's own would be approving that call.
            if not any(chain.is_excluded(person, wanted.rules.excluded) for person in people):
                return each
    return None


def holds(
    connection: Connection, now: int, settings: Settings, opening_id: str, tenant: str
) -> Opening | None:
    """The opening, if what it let through may still be sent. That use is counted, so none need be left."""
    found = load(connection, opening_id, tenant)
    over = found.closed_ns is not None or found.expires_ns is None or now >= found.expires_ns
    if over or not _holds(found, settings, rows.circle(connection, tenant, settings)):
        return None
    return found


def use(connection: Connection, opening: Opening) -> None:
    """Count one call; raises ``Blocked`` when somebody else was quicker with the last one."""
    done = connection.execute(
        update(table)
        .where(table.c.id == opening.id, table.c.uses < table.c.max_uses, table.c.closed_ns.is_(None))
        .values(uses=table.c.uses + 1)
    )
    if done.rowcount != 1:
        raise Blocked("approval_changed")


def _of(connection: Connection, tenant: str, name: str) -> Sequence[Opening]:
    query = select(table).where(table.c.tenant == tenant, table.c.name == name, table.c.closed_ns.is_(None))
    newest = query.order_by(table.c.id.desc()).limit(2)
    return [Opening(**row._mapping) for row in connection.execute(newest)]


def _holds(opening: Opening, settings: Settings, circle: Circle) -> bool:
    envelope = settings.envelopes.get(opening.name)
    if envelope is None or envelope.revision != opening.revision:
        return False
    first, other = (circle.people.get(name or "") for name in (opening.asked_by, opening.seconded_by))
    if first is None or other is None or not chain.fits(envelope.openers, first):
        return False
    # Two that turned out to be one person since are no two people any more.
    return chain.fits(envelope.openers, other) and _names(first).isdisjoint(_names(other))


def _entitled(connection: Connection, settings: Settings, envelope: Envelope, by: Reviewer) -> Person:
    person = rows.circle(connection, by.tenant, settings).people.get(by.name)
    if person is None or not chain.fits(envelope.openers, person):
        raise Blocked("not_entitled")
    return person


def _names(person: Person) -> frozenset[str]:
    return chain.names_of(person.name, *person.aliases)


def _refused(detail: str) -> Blocked:
    return Blocked("envelope_refused", detail=detail)
