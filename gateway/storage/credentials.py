"""Keys of agents and operators: what was issued, to whom, and whether it still holds.

Only the SHA-256 of the secret part is stored. A plain hash is enough because a secret is 256 random bits:
there is nothing to guess, so a slow hash would only slow down every request.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Sequence
from hashlib import sha256
from typing import Any, Final, Literal

import msgspec
from sqlalchemy import Connection, Row, insert, or_, select, update

from gateway.storage import control
from gateway.storage.database import Database
from gateway.storage.tables import credentials as table

CredentialKind = Literal["agent", "operator"]
Role = Literal["viewer", "approver", "policy-admin", "operator"]

_MIN_SECRET: Final = 32


class Credential(msgspec.Struct, frozen=True, kw_only=True):
    """One issued key, without its secret. Times are nanoseconds since the epoch."""

    id: str
    kind: CredentialKind
    tenant: str
    name: str  # of the agent or the operator
    role: Role | None  # of an operator
    secret_hash: bytes
    created_ns: int
    expires_ns: int | None
    revoked_ns: int | None
    replaced_by: str | None
    note: str

    def state(self, now_ns: int) -> Literal["active", "expired", "revoked"]:
        if self.revoked_ns is not None and self.revoked_ns <= now_ns:
            return "revoked"
        if self.expires_ns is not None and self.expires_ns <= now_ns:
            return "expired"
        return "active"


def hash_secret(secret: bytes) -> bytes:
    """What is stored of a secret; compare with ``hmac.compare_digest``."""
    return sha256(secret).digest()


class Credentials:
    """The issued keys. Each change raises the ``credentials`` counter in its own transaction."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def insert(
        self,
        *,
        kind: CredentialKind,
        tenant: str,
        name: str,
        secret: bytes,
        role: Role | None = None,
        expires_ns: int | None = None,
        note: str = "",
    ) -> Credential:
        """Store a new key; ``secret`` must be at least 32 random bytes, shown to its owner once."""
        credential = _new(kind, tenant, name, role, secret, expires_ns, note)
        with self._database.writing() as connection:
            _insert(connection, credential)
            control.bump(connection, control.CREDENTIALS)
        return credential

    def by_id(self, credential_id: str) -> Credential | None:
        with self._database.reading() as connection:
            row = connection.execute(select(table).where(table.c.id == credential_id)).one_or_none()
        return None if row is None else _credential(row)

    def list(
        self, *, kind: CredentialKind | None = None, tenant: str | None = None, name: str | None = None
    ) -> Sequence[Credential]:
        """All that match, oldest first, whatever their state."""
        query = select(table).order_by(table.c.created_ns, table.c.id)
        for column, value in ((table.c.kind, kind), (table.c.tenant, tenant), (table.c.name, name)):
            if value is not None:
                query = query.where(column == value)
        with self._database.reading() as connection:
            return [_credential(row) for row in connection.execute(query)]

    def snapshot(self) -> tuple[int, Sequence[Credential]]:
        """The ``credentials`` counter and every key as of the same moment.

        Dead keys are included: an agent that uses one is told that it is expired or revoked rather than
        unknown.
        """
        with self._database.reading() as connection:
            epoch = control.epochs(connection).get(control.CREDENTIALS, 0)
            rows = connection.execute(select(table).order_by(table.c.created_ns, table.c.id)).all()
        return epoch, [_credential(row) for row in rows]

    def active(self) -> Sequence[Credential]:
        """All that are neither revoked nor expired now."""
        now = time.time_ns()
        return [credential for credential in self.list() if credential.state(now) == "active"]

    def revoke(self, credential_id: str) -> bool:
        """Revoke at once; ``False`` when there is no such key or it is revoked already."""
        now = time.time_ns()
        with self._database.writing() as connection:
            changed = connection.execute(
                update(table).where(table.c.id == credential_id, _not_revoked_by(now)).values(revoked_ns=now)
            ).rowcount
            if changed:
                control.bump(connection, control.CREDENTIALS)
        return bool(changed)

    def rotate(
        self, credential_id: str, secret: bytes, *, overlap_s: float = 0, expires_ns: int | None = None
    ) -> Credential | None:
        """Issue a successor for the same name and role; the old key ends after ``overlap_s``.

        ``None`` when there is no such key, or it is revoked or replaced already.
        """
        now = time.time_ns()
        with self._database.writing() as connection:
            row = connection.execute(
                select(table).where(
                    table.c.id == credential_id, table.c.replaced_by.is_(None), _not_revoked_by(now)
                )
            ).one_or_none()
            if row is None:
                return None
            old = _credential(row)
            new = _new(old.kind, old.tenant, old.name, old.role, secret, expires_ns, old.note)
            _insert(connection, new)
            connection.execute(
                update(table)
                .where(table.c.id == credential_id)
                .values(replaced_by=new.id, revoked_ns=now + int(overlap_s * 1_000_000_000))
            )
            control.bump(connection, control.CREDENTIALS)
        return new


def _not_revoked_by(now_ns: int) -> Any:
    return or_(table.c.revoked_ns.is_(None), table.c.revoked_ns > now_ns)


def _new(
    kind: CredentialKind,
    tenant: str,
    name: str,
    role: Role | None,
    secret: bytes,
    expires_ns: int | None,
    note: str,
) -> Credential:
    # A short secret could be found from its hash, which is not slow on purpose.
    if len(secret) < _MIN_SECRET:
        raise ValueError(f"a secret needs {_MIN_SECRET} random bytes, not {len(secret)}")
    if (kind == "operator") != (role is not None):
        raise ValueError("an operator has a role, an agent has none")
    return Credential(
        id=secrets.token_hex(8),
        kind=kind,
        tenant=tenant,
        name=name,
        role=role,
        secret_hash=hash_secret(secret),
        created_ns=time.time_ns(),
        expires_ns=expires_ns,
        revoked_ns=None,
        replaced_by=None,
        note=note,
    )


def _insert(connection: Connection, credential: Credential) -> None:
    connection.execute(insert(table), [msgspec.structs.asdict(credential)])


def _credential(row: Row[Any]) -> Credential:
    return Credential(**row._mapping)
