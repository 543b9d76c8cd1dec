"""What time does to approvals: they expire, leases lapse, people are reminded, arguments are forgotten.

A lease is judged by how long this process has *seen* an attempt under way, by a clock that never jumps, and
not by what the wall clock says: a clock set forward must not take an attempt from a worker that is about to
send, and one set back must not keep it for ever.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Final

from sqlalchemy import Connection, select, union, update

from gateway.approvals import chain, grants, machine, rows
from gateway.approvals.store import Store, next_notice
from gateway.approvals.values import SYSTEM, Approval, Notice
from gateway.storage.tables import approvals, records

MARGIN_S: Final = 2.0
FORGET_S: Final = 60.0
_SECOND: Final = 1_000_000_000
_DAY: Final = 86_400 * _SECOND
_LOT: Final = 200


class Sweeper:
    """One for each process. ``sweep`` blocks and is run in a thread, every second or so.

    ``working`` names approvals whose attempt this very process is carrying out at the moment: they are in
    good hands however long they take. ``policy_revision`` is that in force; grants made under another end.
    """

    def __init__(
        self,
        store: Store,
        monotonic: Callable[[], float],
        working: Callable[[], Collection[str]] = tuple,
        policy_revision: Callable[[], str] | None = None,
    ) -> None:
        self._policy_revision = policy_revision
        self._store = store
        self._monotonic = monotonic
        self._working = working
        self._seen: dict[tuple[str, int], float] = {}
        self._forget_at = monotonic()

    def sweep(self) -> list[Notice]:
        """One round; returns what people should hear of."""
        notices: list[Notice] = []
        with self._store.database.reading() as connection:
            now = self._store.now(connection)
            due = self._due(connection, now)
        for approval_id in due:
            with self._store.database.writing() as connection:
                found = rows.load(connection, approval_id)
                if found is not None:
                    notice = self._one(connection, found, self._store.now(connection))
                    if notice is not None:
                        notices.append(notice)
        self._end_grants(now)
        if self._monotonic() >= self._forget_at:
            self._forget_at = self._monotonic() + FORGET_S
            self._forget(now)
        return notices

    def _end_grants(self, now: int) -> None:
        """Say of grants that nobody could use any more that they are over, and since when."""
        if self._policy_revision is None:
            return
        revision = self._policy_revision()
        with self._store.database.reading() as connection:
            left = grants.lost(connection, now, revision)
        if left:
            with self._store.database.writing() as connection:
                grants.over(connection, now, revision)

    def _due(self, connection: Connection, now: int) -> list[str]:
        """Approvals something may have to be done about; everything else costs nothing."""
        said = select(records.c.seq).where(
            records.c.call_id == approvals.c.attempt_call, records.c.phase == "reconciled"
        )
        of = approvals.c
        # One query for each reason, each by its own index: as one condition they read every row there is.
        due = (
            (of.state == "pending") & (of.decide_by_ns <= now),
            of.next_notice_ns <= now,  # only what is pending has one
            (of.state == "approved") & (of.execute_by_ns <= now),
            of.state.in_(("executing", "recovering")),
            (of.state == "in_doubt") & said.exists(),
        )
        found = union(*(select(of.id).where(each) for each in due)).subquery()
        query = select(found.c.id).order_by(found.c.id)
        return list(connection.execute(query).scalars())

    def _one(self, connection: Connection, found: Approval, now: int) -> Notice | None:
        if found.state == "pending":
            if now >= found.decide_by_ns:
                return self._ended(connection, found, machine.expire(found.machine), now, "expired")
            return self._remind(connection, found, now)
        if found.state == "approved" and found.execute_by_ns is not None and now >= found.execute_by_ns:
            return self._ended(connection, found, machine.expire(found.machine), now, "expired")
        if found.state == "executing":
            return self._lapse(connection, found, now)
        if found.state == "recovering":
            over = found.execute_by_ns is not None and now >= found.execute_by_ns
            if over or found.machine.attempt >= machine.MAX_ATTEMPTS:
                return self._ended(connection, found, machine.give_up(found.machine), now, "given_up")
        if found.state == "in_doubt":
            return self._resolved(connection, found, now)
        return None

    def _lapse(self, connection: Connection, found: Approval, now: int) -> Notice | None:
        key = (found.id, found.machine.attempt)
        at = self._monotonic()
        first = self._seen.setdefault(key, at)
        if found.id in self._working():
            self._seen[key] = at
            return None
        if at - first < found.lease_s + MARGIN_S:
            return None
        del self._seen[key]
        became = machine.lapse(found.machine, found.machine.attempt)
        return self._ended(connection, found, became, now, "lapsed")

    def _resolved(self, connection: Connection, found: Approval, now: int) -> Notice | None:
        """A person may have said in the journal what became of the call: 'wardgate decisions resolve'."""
        said = connection.execute(
            select(records.c.status, records.c.operator)
            .where(records.c.call_id == found.attempt_call, records.c.phase == "reconciled")
            .limit(1)
        ).one_or_none()
        if said is None:
            return None
        executed = said.status == "executed"
        if not executed and found.machine.tainted:
            return None  # of one attempt only; another may have worked
        became = machine.resolve(found.machine, executed=executed)
        return self._ended(connection, found, became, now, "resolved", by=said.operator or SYSTEM)

    def _remind(self, connection: Connection, found: Approval, now: int) -> Notice | None:
        query = select(approvals.c.next_notice_ns).where(approvals.c.id == found.id)
        due = connection.execute(query).scalar_one()
        if due is None or due > now:
            return None
        # All that fell due since: after an outage a reminder must not swallow the escalation behind it.
        escalated = [
            each
            for each in found.rules.escalations
            if due <= found.opened_ns + int(each.after_s * _SECOND) <= now
        ]
        event = "escalated" if escalated else "reminded"
        to = " or ".join(chain.described(each.to) for each in escalated)
        rows.note(connection, found.id, now, event, SYSTEM, to)
        following = next_notice(self._reminders(found), found.rules, found.opened_ns, max(now, due))
        # Not a new version: a reminder must not make what a reviewer is looking at stale.
        connection.execute(
            update(approvals).where(approvals.c.id == found.id).values(next_notice_ns=following)
        )
        return Notice(event=event, approval=found)

    def _reminders(self, found: Approval) -> tuple[float, ...]:
        named = [self._store.settings.chains.get(each.chain) for each in found.requirements]
        return tuple(sorted(at for each in named if each is not None for at in each.reminders_s))

    def _ended(
        self,
        connection: Connection,
        found: Approval,
        became: machine.Machine,
        now: int,
        event: str,
        by: str = SYSTEM,
    ) -> Notice:
        closed = {} if became.state in machine.LIVE else {"closed_ns": now, "closed_by": by}
        after = rows.save(connection, found, became, next_notice_ns=None, **closed)
        rows.note(connection, found.id, now, event, by, after.state)
        return Notice(event=after.state, approval=after)

    def _forget(self, now: int) -> None:
        """Arguments are kept as long as those of the journal, counted from the end of the approval."""
        until = now - self._store.settings.keep_days * _DAY
        old = approvals.c.ciphertext.is_not(None) & (approvals.c.closed_ns <= until)
        with self._store.database.reading() as connection:
            due = list(connection.execute(select(approvals.c.id).where(old).limit(_LOT)).scalars())
        if due:
            with self._store.database.writing() as connection:
                connection.execute(
                    update(approvals)
                    .where(approvals.c.id.in_(due))
                    .values(key_id=None, nonce=None, ciphertext=None)
                )
