"""Which bundle decides, which is tried beside it, and what the trial found.

Bundles are kept whole, by content; ``policy_rollout`` names them by the part they play. Every step is one
transaction that also raises the counter a running gateway polls, so a promotion holds or does not, and is
the same after a restart.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any, Final, Literal

import msgspec
from sqlalchemy import Connection, delete, func, select
from sqlalchemy.dialects.postgresql import insert

from gateway.storage import control
from gateway.storage.database import Database
from gateway.storage.tables import policy_bundles, policy_differences, policy_rollout

Part = Literal["active", "source", "candidate", "before"]

KEPT_DIFFERENCES: Final = 10_000


class Played(msgspec.Struct, frozen=True, kw_only=True):
    """One part and the bundle that plays it; no digest means what the configuration says."""

    digest: str | None
    percent: int = 0
    by: str = ""
    at_ns: int = 0
    seen_ns: int | None = None
    origin: str = ""
    revision: str = ""


class Difference(msgspec.Struct, frozen=True, kw_only=True):
    """A call that the candidate would have decided otherwise."""

    at_ns: int
    candidate: str
    active: str
    call_id: str
    tenant: str
    agent: str
    target: str
    change: str
    verdict: str
    code: str
    candidate_verdict: str
    candidate_code: str
    rule: str


class Stored(msgspec.Struct, frozen=True, kw_only=True):
    """A bundle to keep."""

    digest: str
    raw: bytes
    origin: str
    revision: str


class NothingThere(ValueError):
    """There is no candidate to promote, or nothing to go back to."""


class Rollouts:
    """The stored side of a roll-out. Blocking; used in threads and by the command line."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def parts(self) -> dict[str, Played]:
        with self._database.reading() as connection:
            return _parts(connection)

    def bundle(self, digest: str) -> bytes | None:
        query = select(policy_bundles.c.bytes).where(policy_bundles.c.digest == digest)
        with self._database.reading() as connection:
            found: bytes | None = connection.execute(query).scalar()
        return found

    def epoch(self) -> int:
        with self._database.reading() as connection:
            return control.epochs(connection).get(control.ROLLOUT, 0)

    def source_good(self, bundle: Stored, *, step: bool) -> None:
        """The configured source brought this and it is in force; a step back returns to what was before."""
        with self._database.writing() as connection:
            parts = _parts(connection)
            old = parts.get("source")
            _store(connection, bundle)
            if step and "active" not in parts and old is not None and old.digest != bundle.digest:
                _play(connection, "before", old.digest, "source")
            _play(connection, "source", bundle.digest, "source", seen_ns=time.time_ns())
            _forget(connection)

    def source_seen(self) -> None:
        """The configured source was asked, and what it has is what is known and still vouched for."""
        with self._database.writing() as connection:
            connection.execute(
                policy_rollout.update()
                .where(policy_rollout.c.part == "source")
                .values(seen_ns=time.time_ns())
            )

    def start(self, bundle: Stored, percent: int, by: str) -> None:
        """Try a bundle beside the active one; the one tried before is forgotten with its differences."""
        with self._database.writing() as connection:
            before = _parts(connection).get("candidate")
            _store(connection, bundle)
            if before is None or before.digest != bundle.digest:
                connection.execute(delete(policy_differences))
            _play(connection, "candidate", bundle.digest, by, percent=percent)
            _forget(connection)
            control.bump(connection, control.ROLLOUT)

    def promote(self, by: str) -> Played:
        """The candidate decides from now on; what decided before is kept to go back to."""
        with self._database.writing() as connection:
            parts = _parts(connection)
            candidate = parts.get("candidate")
            if candidate is None:
                raise NothingThere("there is no candidate")
            active = parts.get("active")
            _play(connection, "before", active.digest if active else None, by)
            _play(connection, "active", candidate.digest, by)
            _drop(connection, "candidate")
            _forget(connection)
            control.bump(connection, control.ROLLOUT)
        return candidate

    def back(self, by: str) -> Played:
        """What decided before decides again, and the other way round, so that a second step undoes it."""
        with self._database.writing() as connection:
            parts = _parts(connection)
            before = parts.get("before")
            if before is None:
                raise NothingThere("there is nothing to go back to")
            active = parts.get("active")
            _play(connection, "before", active.digest if active else None, by)
            if before.digest is None:
                _drop(connection, "active")
            else:
                _play(connection, "active", before.digest, by)
            control.bump(connection, control.ROLLOUT)
        return before

    def follow(self, by: str) -> Played:
        """The configured source decides again; a step back returns to what was promoted."""
        with self._database.writing() as connection:
            active = _parts(connection).get("active")
            if active is None:
                raise NothingThere("the configured source decides already")
            _play(connection, "before", active.digest, by)
            _drop(connection, "active")
            _forget(connection)
            control.bump(connection, control.ROLLOUT)
        return active

    def stop(self) -> Played:
        """End the trial; its differences stay to be looked at."""
        with self._database.writing() as connection:
            candidate = _parts(connection).get("candidate")
            if candidate is None:
                raise NothingThere("there is no candidate")
            _drop(connection, "candidate")
            _forget(connection)
            control.bump(connection, control.ROLLOUT)
        return candidate

    def record(self, found: Sequence[Difference]) -> None:
        """Keep differences, of which the newest stay."""
        with self._database.writing() as connection:
            connection.execute(policy_differences.insert(), [msgspec.structs.asdict(each) for each in found])
            last: int = connection.execute(select(func.max(policy_differences.c.seq))).scalar_one()
            connection.execute(
                delete(policy_differences).where(policy_differences.c.seq <= last - KEPT_DIFFERENCES)
            )

    def differences(self, *, tenant: str | None = None, limit: int = 50) -> list[Difference]:
        """The newest first."""
        query = select(policy_differences).order_by(policy_differences.c.seq.desc()).limit(limit)
        if tenant is not None:
            query = query.where(policy_differences.c.tenant == tenant)
        with self._database.reading() as connection:
            rows = connection.execute(query).mappings().all()
        return [Difference(**{name: row[name] for name in Difference.__struct_fields__}) for row in rows]

    def counted(self, *, tenant: str | None = None) -> list[dict[str, Any]]:
        """How many there are of each change, rule and tool, most first."""
        columns = (policy_differences.c.change, policy_differences.c.rule, policy_differences.c.target)
        number = func.count().label("calls")
        query = select(*columns, number).group_by(*columns).order_by(number.desc()).limit(200)
        if tenant is not None:
            query = query.where(policy_differences.c.tenant == tenant)
        with self._database.reading() as connection:
            return [dict(row) for row in connection.execute(query).mappings()]


def _parts(connection: Connection) -> dict[str, Played]:
    query = select(policy_rollout, policy_bundles.c.origin, policy_bundles.c.revision).select_from(
        policy_rollout.outerjoin(policy_bundles, policy_rollout.c.digest == policy_bundles.c.digest)
    )
    return {
        row.part: Played(
            digest=row.digest, percent=row.percent, by=row.by, at_ns=row.at_ns, seen_ns=row.seen_ns,
            origin=row.origin or "", revision=row.revision or "",
        )
        for row in connection.execute(query)
    }  # fmt: skip


def _store(connection: Connection, bundle: Stored) -> None:
    row = insert(policy_bundles).values(
        digest=bundle.digest, bytes=bundle.raw, origin=bundle.origin, revision=bundle.revision,
        stored_ns=time.time_ns(),
    )  # fmt: skip
    changed = {"origin": bundle.origin, "revision": bundle.revision}
    connection.execute(row.on_conflict_do_update(index_elements=[policy_bundles.c.digest], set_=changed))


def _play(connection: Connection, part: Part, digest: str | None, by: str, **more: Any) -> None:
    values = {"digest": digest, "by": by, "at_ns": time.time_ns(), "percent": 0, "seen_ns": None, **more}
    row = insert(policy_rollout).values(part=part, **values)
    connection.execute(row.on_conflict_do_update(index_elements=[policy_rollout.c.part], set_=values))


def _drop(connection: Connection, part: Part) -> None:
    connection.execute(delete(policy_rollout).where(policy_rollout.c.part == part))


def _forget(connection: Connection) -> None:
    """Bundles that play no part any more."""
    named = select(policy_rollout.c.digest).where(policy_rollout.c.digest.is_not(None))
    connection.execute(delete(policy_bundles).where(policy_bundles.c.digest.not_in(named)))
