"""Revoked tokens: by their id, by their subject, or all that an agent was issued up to a moment.

A row is never deleted; lifting it is a time of its own, so what was in force when stays on record.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Sequence
from typing import Any, Final, Literal

import msgspec
from sqlalchemy import Row, and_, insert, or_, select, update

from gateway.storage import control
from gateway.storage.database import Database
from gateway.storage.tables import token_revocations as table

LONGEST_LIFE_S: Final = 31 * 86_400
"""Older tokens are refused whatever the configuration: the greatest ``max_age_s``, and a day for clocks."""

RevocationKind = Literal["token", "subject", "agent"]


class TokenRevocation(msgspec.Struct, frozen=True, kw_only=True):
    """One revocation. Times are nanoseconds since the epoch."""

    id: str
    tenant: str
    kind: RevocationKind
    issuer: str  # name in the configuration; "" for an agent, whoever issued the token
    value: str  # jti, sub, or name of the agent
    issued_before_ns: int | None  # tokens issued up to then; ``None``: whenever they were issued
    created_ns: int
    lifted_ns: int | None
    note: str


class TokenRevocations:
    """The revocations. Each change raises the ``tokens`` counter in its own transaction."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def insert(
        self,
        *,
        tenant: str,
        kind: RevocationKind,
        issuer: str,
        value: str,
        issued_before_ns: int | None = None,
        note: str = "",
    ) -> TokenRevocation:
        # The tokens an agent will get belong to it as much as those it has: only an end makes sense.
        if kind == "agent" and issued_before_ns is None:
            raise ValueError("a revocation of an agent's tokens needs a time")
        made = TokenRevocation(
            id=secrets.token_hex(8), tenant=tenant, kind=kind, issuer=issuer, value=value,
            issued_before_ns=issued_before_ns, created_ns=time.time_ns(), lifted_ns=None, note=note,
        )  # fmt: skip
        with self._database.writing() as connection:
            connection.execute(insert(table), [msgspec.structs.asdict(made)])
            control.bump(connection, control.TOKENS)
        return made

    def list(self, *, tenant: str | None = None, lifted: bool = False) -> Sequence[TokenRevocation]:
        """Those in force, oldest first; with ``lifted`` also those that no longer are."""
        query = _ALL
        if tenant is not None:
            query = query.where(table.c.tenant == tenant)
        if not lifted:
            query = query.where(table.c.lifted_ns.is_(None))
        with self._database.reading() as connection:
            return [_revocation(row) for row in connection.execute(query)]

    def current(self) -> Sequence[TokenRevocation]:
        """Those that can still refuse a token, oldest first: what a gateway keeps in memory."""
        since = time.time_ns() - LONGEST_LIFE_S * 1_000_000_000
        id_matters = and_(table.c.kind == "token", table.c.created_ns > since)
        time_matters = and_(
            table.c.kind != "token", or_(table.c.issued_before_ns.is_(None), table.c.issued_before_ns > since)
        )
        query = _ALL.where(table.c.lifted_ns.is_(None), or_(id_matters, time_matters))
        with self._database.reading() as connection:
            return [_revocation(row) for row in connection.execute(query)]

    def lift(self, revocation_id: str) -> bool:
        """End a revocation; ``False`` when there is none in force with this id."""
        with self._database.writing() as connection:
            changed = connection.execute(
                update(table)
                .where(table.c.id == revocation_id, table.c.lifted_ns.is_(None))
                .values(lifted_ns=time.time_ns())
            ).rowcount
            if changed:
                control.bump(connection, control.TOKENS)
        return bool(changed)


def _revocation(row: Row[Any]) -> TokenRevocation:
    return TokenRevocation(**dict(zip(_FIELDS, row, strict=True)))  # a tenth of the cost of a row's mapping


_FIELDS: Final = TokenRevocation.__struct_fields__
_ALL: Final = select(*(table.c[name] for name in _FIELDS)).order_by(table.c.created_ns, table.c.id)
