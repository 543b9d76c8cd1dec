"""Reads of the queue for people who look at it: a page of it with filters, counts, and what was like a call.

Nothing here decides anything. All of it blocks; run it in a thread.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec
from sqlalchemy import ColumnElement, Connection, func, or_, select

from gateway.approvals import rows
from gateway.approvals.values import Approval
from gateway.storage.tables import approval_votes
from gateway.storage.tables import approvals as table

_OVER: Final = (
    "approved",
    "executing",
    "recovering",
    "in_doubt",
    "executed",
    "failed",
    "rejected",
    "expired",
)
_SEARCHED: Final = func.lower(
    table.c.agent + " " + table.c.target + " " + table.c.owner + " " + func.coalesce(table.c.subject, "")
    + " " + table.c.session + " " + table.c.requirements
)  # fmt: skip
"""What a text is looked for in, as one: a comparison each would take three times as long."""


class Narrow(msgspec.Struct, frozen=True, kw_only=True):
    """Which approvals; what is empty does not narrow."""

    states: Sequence[str] = ()
    text: str = ""  # in the names of agent, tool, owner, user, session, or in a reason code
    agent: str = ""
    target: str = ""
    risk: str = ""
    session: str = ""


def page(
    connection: Connection, tenant: str, narrow: Narrow, *, newest: bool, limit: int, after: str
) -> list[Approval]:
    """In the order they were opened, or the newest first; ``after`` is the last id of the page before."""
    # Ids first, from the index alone: sorting ten thousand whole rows takes ten times as long.
    ids = select(table.c.id).where(*_where(tenant, narrow))
    order = table.c.id.desc() if newest else table.c.id.asc()
    if after:
        ids = ids.where(table.c.id < after if newest else table.c.id > after)
    wanted = rows.columns().where(table.c.id.in_(ids.order_by(order).limit(limit)))
    return [rows.approval(row) for row in connection.execute(wanted.order_by(order))]


def counted(connection: Connection, tenant: str, narrow: Narrow) -> dict[str, int]:
    """How many there are by state."""
    query = select(table.c.state, func.count()).where(*_where(tenant, narrow)).group_by(table.c.state)
    return {state: number for state, number in connection.execute(query)}  # noqa: C416 - rows are no pairs


def sealed(connection: Connection, ids: Sequence[str]) -> Mapping[str, Any]:
    """The sealed arguments of some approvals, where they are kept."""
    query = select(table.c.id, table.c.key_id, table.c.nonce, table.c.ciphertext)
    found = connection.execute(query.where(table.c.id.in_(ids), table.c.ciphertext.is_not(None)))
    return {row.id: row for row in found}


def voted(connection: Connection, ids: Sequence[str]) -> frozenset[str]:
    """Which of some approvals anybody has voted on."""
    query = select(approval_votes.c.approval_id).where(approval_votes.c.approval_id.in_(ids)).distinct()
    return frozenset(connection.execute(query).scalars())


def like(connection: Connection, found: Approval, limit: int) -> list[Approval]:
    """Calls of the same tool that people, or time, have decided about; the newest first."""
    query = rows.columns().where(
        table.c.tenant == found.tenant,
        table.c.target == found.target,
        table.c.state.in_(_OVER),
        table.c.id != found.id,
    )
    return [rows.approval(row) for row in connection.execute(query.order_by(table.c.id.desc()).limit(limit))]


def _where(tenant: str, narrow: Narrow) -> Sequence[ColumnElement[bool]]:
    said: list[ColumnElement[bool]] = [table.c.tenant == tenant]
    if narrow.states:
        said.append(table.c.state.in_(narrow.states))
    for column, value in (
        (table.c.agent, narrow.agent),
        (table.c.target, narrow.target),
        (table.c.risk, narrow.risk),
        (table.c.session, narrow.session),
    ):
        if value:
            said.append(column == value)
    if narrow.text:
        text = narrow.text.lower()
        said.append(
            or_(_SEARCHED.contains(text, autoescape=True), table.c.id.startswith(text, autoescape=True))
        )
    return said
