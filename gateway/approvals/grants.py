"""Grants: a standing, narrow, expiring permission that a reviewer makes from one approved call.

The reviewer ticks the fields that may vary. Everything else must be as it was, the set of fields too. A
ticked string may be any other of at most ``MAX_STRING`` characters, a ticked number anything from zero to the
approved one; a ticked field keeps its type. A grant ends after at most an hour or twenty uses, when its own
budget is spent, when the policy or the tool's definition changes, and when any authority is taken back
(kill, trip, demotion, revoked key). There are none for what cannot be undone, and none for sending private
data out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from hashlib import sha256
from typing import Any, Final

import msgspec
import orjson
from sqlalchemy import Connection, insert, select, update

from gateway import strictjson
from gateway.approvals import rows
from gateway.approvals.values import Approval, Blocked, Requirement, Reviewer
from gateway.digest import new_id
from gateway.model import Facts, Json, Tool
from gateway.storage import control
from gateway.storage.tables import approval_grants as table

MAX_S: Final = 3600
MAX_USES: Final = 20
MAX_FIELDS: Final = 8
MAX_STRING: Final = 1000
PRIVATE: Final = 2
"""From this confidentiality on, what a session has seen is private."""

_SECOND: Final = 1_000_000_000
_requirements = msgspec.json.Decoder(tuple[Requirement, ...])


class Matcher(msgspec.Struct, frozen=True, kw_only=True):
    """What a call of a grant looks like: the hash of its fixed part, and the fields that may vary."""

    fixed: str  # SHA-256 of the canonical arguments with the free fields emptied
    free: Mapping[str, Json]  # JSON pointer → the approved value


class Grant(msgspec.Struct, frozen=True, kw_only=True):
    """One grant as it is stored."""

    id: str
    tenant: str
    agent: str
    session: str | None
    target: str
    schema_hash: str
    matcher: Matcher
    requirements: tuple[Requirement, ...]
    max_uses: int
    uses: int
    budget_micro_usd: int
    spent_micro_usd: int
    made_ns: int
    made_by: str
    made_from: str
    expires_ns: int
    policy_revision: str
    epoch: int
    revoked_ns: int | None
    revoked_by: str | None

    def fact(self) -> dict[str, Any]:
        """``input.approval`` of a call that uses it."""
        return {
            "id": self.id,
            "kind": "grant",
            "codes": sorted({each.code for each in self.requirements}),
            "chains": sorted({each.chain for each in self.requirements}),
            "by": [self.made_by],
            "edited": False,
            "uses_left": self.max_uses - self.uses,
        }


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """What a reviewer asks for."""

    fields: tuple[str, ...]
    minutes: int
    uses: int
    budget_micro_usd: int = 0
    any_session: bool = False


def matcher(args: Json, fields: Sequence[str]) -> Matcher:
    """What the approved arguments and the ticked fields make; raises ``Blocked``."""
    if not 0 <= len(fields) <= MAX_FIELDS or len(set(fields)) != len(fields):
        raise Blocked("grant_refused", detail=f"at most {MAX_FIELDS} different fields")
    free: dict[str, Json] = {}
    for pointer in fields:
        value = _at(args, pointer)
        if not isinstance(value, str | int | float | bool):
            raise Blocked("grant_refused", detail=f"{pointer} is no single value of the arguments")
        free[pointer] = value
    return Matcher(fixed=_fixed(args, fields), free=free)


def matches(wanted: Matcher, args: Json) -> bool:
    """Whether a call's arguments are of the kind a grant was made for."""
    for pointer, approved in wanted.free.items():
        value = _at(args, pointer)
        if type(value) is not type(approved):
            return False
        if isinstance(value, str) and len(value) > MAX_STRING:
            return False
        # More of something than was approved is another decision.
        if isinstance(value, int | float) and not isinstance(value, bool):
            low, high = sorted((0, approved))
            if not low <= value <= high:
                return False
    return _fixed(args, tuple(wanted.free)) == wanted.fixed


def forbidden(risk: str, effects: Sequence[str], confidentiality: int) -> str:
    """Why there can be no grant for such a call; "" when there can."""
    if risk not in ("read", "reversible"):
        return "what cannot simply be undone is decided each time"
    if "egress" in effects and confidentiality >= PRIVATE:
        return "sending data out of a session that has seen private data is decided each time"
    return ""


def confidentiality(tool: Tool, facts: Facts) -> int:
    """The most private of what the tool gives and what the session has seen."""
    session = facts.fast.get("session") or facts.slow.get("session") or {}
    seen = session.get("confidentiality", 0) if isinstance(session, Mapping) else 0
    return max(tool.manifest.confidentiality, seen if isinstance(seen, int) else PRIVATE)


def make(
    connection: Connection, now: int, of: Approval, by: Reviewer, wanted: Wanted, args: Json, tool: Tool,
    facts: Facts, policy_revision: str,
) -> Grant:  # fmt: skip
    """Make a grant from an approval; raises ``Blocked`` with ``grant_refused`` and why."""
    why = forbidden(of.risk, tool.manifest.effects, confidentiality(tool, facts))
    if why:
        raise Blocked("grant_refused", of, why)
    if of.canary is not None:
        raise Blocked("grant_refused", of, "it was a canary")
    if of.editors:
        raise Blocked("grant_refused", of, "what a reviewer has edited is decided each time")
    if (
        not 1 <= wanted.minutes * 60 <= MAX_S
        or not 1 <= wanted.uses <= MAX_USES
        or wanted.budget_micro_usd < 0
    ):
        raise Blocked("grant_refused", of, f"at most {MAX_S // 60} minutes and {MAX_USES} uses")
    grant = Grant(
        id=new_id(), tenant=of.tenant, agent=of.agent, session=None if wanted.any_session else of.session,
        target=of.target, schema_hash=of.schema_hash, matcher=matcher(args, wanted.fields),
        requirements=of.requirements, max_uses=wanted.uses, uses=0,
        budget_micro_usd=wanted.budget_micro_usd, spent_micro_usd=0, made_ns=now, made_by=by.name,
        made_from=of.id, expires_ns=now + wanted.minutes * 60 * _SECOND, policy_revision=policy_revision,
        epoch=control.authority(connection), revoked_ns=None, revoked_by=None,
    )  # fmt: skip
    connection.execute(insert(table).values(_row(grant)))
    rows.note(connection, of.id, now, "granted", by.name, grant.id)
    control.bump(connection, control.APPROVALS)
    return grant


def listed(connection: Connection, tenant: str, *, now: int | None = None) -> list[Grant]:
    """The newest first; with ``now`` only those that still hold by their own terms."""
    query = select(table).where(table.c.tenant == tenant).order_by(table.c.id.desc()).limit(500)
    found = [_grant(row) for row in connection.execute(query)]
    return found if now is None else [each for each in found if holds(each, now)]


def candidates(
    connection: Connection, now: int, tenant: str, agent: str, session: str, tool: Tool
) -> list[Grant]:
    """Grants a call could use, the oldest first."""
    query = select(table).where(
        table.c.tenant == tenant,
        table.c.agent == agent,
        table.c.target == tool.target,
        table.c.schema_hash == tool.schema_hash,
        table.c.revoked_ns.is_(None),
        table.c.expires_ns > now,
        table.c.uses < table.c.max_uses,
    )
    found = [_grant(row) for row in connection.execute(query.order_by(table.c.id))]
    return [each for each in found if each.session in (None, session)]


def holds(grant: Grant, now: int) -> bool:
    return grant.revoked_ns is None and now < grant.expires_ns and grant.uses < grant.max_uses


def use(connection: Connection, now: int, grant_id: str, *, cost: int, policy_revision: str) -> None:
    """Count one use, in the transaction of the intent; raises ``Blocked``."""
    row = connection.execute(select(table).where(table.c.id == grant_id)).one_or_none()
    if row is None:
        raise Blocked("approval_changed", detail="no such grant")
    grant = _grant(row)
    if not holds(grant, now):
        raise Blocked("approval_changed", detail="the grant is over")
    if grant.policy_revision != policy_revision or grant.epoch != control.authority(connection):
        raise Blocked("approval_changed", detail="the grant ended with what it was made under")
    if grant.spent_micro_usd + cost > grant.budget_micro_usd and cost > 0:
        raise Blocked("approval_changed", detail="the grant's budget is spent")
    done = connection.execute(
        update(table)
        .where(table.c.id == grant_id, table.c.uses == grant.uses)
        .values(uses=grant.uses + 1, spent_micro_usd=grant.spent_micro_usd + cost)
    )
    if done.rowcount != 1:
        raise Blocked("approval_changed")


def revoke(connection: Connection, now: int, grant_id: str, tenant: str, by: str) -> Grant:
    """End a grant at once; again is the same. Raises ``Blocked`` with ``not_found``."""
    query = select(table).where(table.c.id == grant_id, table.c.tenant == tenant)
    row = connection.execute(query).one_or_none()
    if row is None:
        raise Blocked("not_found")
    if row.revoked_ns is None:
        connection.execute(update(table).where(table.c.id == grant_id).values(revoked_ns=now, revoked_by=by))
        rows.note(connection, row.made_from, now, "grant_revoked", by, grant_id)
        control.bump(connection, control.APPROVALS)
    return _grant(connection.execute(query).one())


def tripped(connection: Connection, now: int, tenant: str, agent: str) -> int:
    """End every grant of an agent whose breaker opened; how many that were."""
    theirs = (table.c.tenant == tenant, table.c.agent == agent, table.c.revoked_ns.is_(None))
    ended = connection.execute(update(table).where(*theirs).values(revoked_ns=now, revoked_by="breaker"))
    if ended.rowcount:
        control.bump(connection, control.APPROVALS)
    return ended.rowcount


def lost(connection: Connection, now: int, policy_revision: str) -> bool:
    """Whether there are grants whose policy or control epoch is gone."""
    query = select(table.c.id).where(*_lost(connection, now, policy_revision)).limit(1)
    return connection.execute(query).scalar() is not None


def over(connection: Connection, now: int, policy_revision: str) -> None:
    """Mark grants whose policy or control epoch is gone; they could not be used any more anyway."""
    wanted = _lost(connection, now, policy_revision)
    ended = connection.execute(update(table).where(*wanted).values(revoked_ns=now, revoked_by="wardgate"))
    if ended.rowcount:
        control.bump(connection, control.APPROVALS)


def _lost(connection: Connection, now: int, policy_revision: str) -> tuple[Any, ...]:
    gone = (table.c.policy_revision != policy_revision) | (table.c.epoch != control.authority(connection))
    return table.c.revoked_ns.is_(None), table.c.expires_ns > now, gone


def _row(grant: Grant) -> dict[str, Any]:
    values: dict[str, Any] = msgspec.structs.asdict(grant)
    values["matcher"] = msgspec.json.encode(grant.matcher).decode()
    values["requirements"] = msgspec.json.encode(grant.requirements).decode()
    return values


def _grant(row: Any) -> Grant:
    values = dict(row._mapping)
    values["matcher"] = msgspec.json.decode(values["matcher"], type=Matcher)
    values["requirements"] = _requirements.decode(values["requirements"])
    return Grant(**values)


def _at(value: Json, pointer: str) -> Json:
    """The value at a JSON pointer (RFC 6901); ``None`` when there is none."""
    if not pointer.startswith("/"):
        return None
    for part in pointer[1:].split("/"):
        key = part.replace("~1", "/").replace("~0", "~")
        if isinstance(value, Mapping) and key in value:
            value = value[key]
        elif isinstance(value, list) and key.isdigit() and int(key) < len(value):
            value = value[int(key)]
        else:
            return None
    return value


def _fixed(args: Json, fields: Sequence[str]) -> str:
    """The hash of everything but the ticked fields, which stay as empty places."""
    value = orjson.loads(strictjson.canonical(args))
    for pointer in fields:
        path = [part.replace("~1", "/").replace("~0", "~") for part in pointer[1:].split("/")]
        holder = _at(value, "/" + "/".join(pointer[1:].split("/")[:-1])) if len(path) > 1 else value
        if isinstance(holder, dict) and path[-1] in holder:
            holder[path[-1]] = None
        elif isinstance(holder, list) and path[-1].isdigit() and int(path[-1]) < len(holder):
            holder[int(path[-1])] = None
    return sha256(strictjson.canonical(value)).hexdigest()
