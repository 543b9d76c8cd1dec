"""Between an approval and its effect: the claim, the last look before the wire, and what became of it.

``claim`` runs in the transaction that inserts the intent: either both are on disk or neither. It compares
the version, looks at the deadline by the database's clock, counts the votes again from their rows, and wants
policy revision and control epoch as they were when the call was decided, which must not be long ago.
"""

from __future__ import annotations

from typing import Final

import msgspec
from sqlalchemy import Connection

from gateway.approvals import machine, rows
from gateway.approvals.store import Store
from gateway.approvals.values import SYSTEM, Approval, Blocked, Ticket
from gateway.model import Outcome
from gateway.storage import control

DECISION_S: Final = 2.0
"""How old the decision may be that a claim rests on."""

_SECOND: Final = 1_000_000_000


class Claim(msgspec.Struct, frozen=True, kw_only=True):
    """Everything one claim compares. Times are monotonic seconds of this process."""

    ticket: Ticket
    call_id: str
    digest: str  # of what would be sent
    policy_revision: str  # that the call was decided by
    decided_at: float
    send_by: float


def claim(
    store: Store,
    connection: Connection,
    wanted: Claim,
    *,
    monotonic: float,
    policy_revision: str,
    send_s: float,
) -> None:
    """Take the approval for one attempt, or raise ``Blocked``; in the caller's transaction."""
    ticket = wanted.ticket
    found = rows.load(connection, ticket.approval.id)
    now = store.now(connection)
    if found is None or found.version != ticket.approval.version:
        raise Blocked("approval_changed", found)
    # Nobody asked for it; it was made to see whether people look.
    if found.canary is not None:
        raise Blocked("approval_closed", found)
    # What was approved is what is sent, to the byte.
    if found.digest != wanted.digest:
        raise Blocked("approval_changed", found)
    if found.execute_by_ns is None or now >= found.execute_by_ns:
        raise Blocked("approval_expired", found)
    if wanted.policy_revision != policy_revision:
        raise Blocked("approval_changed", found, "another policy by now")
    # A kill, a trip, a demotion, a revoked key or pin between the decision and now.
    if control.authority(connection) != ticket.epoch:
        raise Blocked("approval_changed", found, "an authority was taken back")
    if monotonic - wanted.decided_at > DECISION_S or monotonic > wanted.send_by:
        raise Blocked("approval_changed", found, "decided too long ago")
    if store.standing_now(connection, found).verdict != "approved":
        raise Blocked("approval_changed", found, "the votes do not count any more")
    try:
        became = machine.claim(found.machine)
    except machine.Illegal as illegal:
        raise Blocked("approval_changed", found, str(illegal)) from None
    rows.save(
        connection, found, became, attempt_call=wanted.call_id, send_by_ns=now + int(send_s * _SECOND),
        lease_until_ns=now + found.lease_s * _SECOND,
    )  # fmt: skip
    rows.note(connection, found.id, now, "claimed", SYSTEM, f"attempt {became.attempt}: {wanted.call_id}")


def may_send(store: Store, wanted: Claim, *, monotonic: float) -> bool:
    """The last look before the wire: the attempt is still this one, in time, and nothing was taken back."""
    if monotonic > wanted.send_by:
        return False
    with store.database.reading() as connection:
        found = rows.load(connection, wanted.ticket.approval.id)
        epoch = control.authority(connection)
    return (
        found is not None
        and found.state == "executing"
        and found.machine.attempt == wanted.ticket.attempt
        and found.attempt_call == wanted.call_id
        and epoch == wanted.ticket.epoch
    )


def settle(
    store: Store, connection: Connection, approval_id: str, attempt: int, call_id: str, became: machine.Became
) -> Approval | None:
    """Write what became of an attempt, in the transaction of its record. Late answers are welcome.

    Only of the call that made the attempt: two may have wanted to make the same one.
    """
    found = rows.load(connection, approval_id)
    if found is None or found.attempt_call != call_id:
        return None
    now = store.now(connection)
    after = machine.answered(found.machine, attempt, became)
    said = f"attempt {attempt}: {became}"
    rows.note(
        connection, approval_id, now, "outcome" if after != found.machine else "late_outcome", SYSTEM, said
    )
    if after == found.machine:
        return found
    ended = {} if after.state in machine.LIVE else {"closed_ns": now, "closed_by": SYSTEM}
    return rows.save(connection, found, after, **ended)


def became(outcome: Outcome | None) -> machine.Became:
    """What an outcome on the wire says of an attempt.

    Only what never left, and what the upstream itself refused, counts as not having happened.
    """
    if outcome is None or outcome.status == "not_sent":
        return "unsent"
    if outcome.status == "failed":
        return "failed"
    return "in_doubt" if outcome.status == "in_doubt" else "executed"
