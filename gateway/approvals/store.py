"""Approvals in the database: opening, deciding, and everything that changes one. Blocking; run in threads.

Every change is one transaction that reads the row, asks ``machine.py`` what follows, and writes it under
compare-and-set. What is refused is answered with the state as it is, and noted.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple

import msgspec
import orjson
from sqlalchemy import Connection, func, select

from gateway.approvals import attention, canaries, chain, grants, machine, openings, rows
from gateway.approvals.attention import Attention
from gateway.approvals.chain import Circle, Standing
from gateway.approvals.fatigue import Review
from gateway.approvals.overseen import Clock, Overseen
from gateway.approvals.values import (
    REJECT_CODES,
    SYSTEM,
    Approval,
    Blocked,
    Decide,
    Expected,
    Opening,
    Reviewer,
    Settings,
    Stored,
    Ticket,
)
from gateway.digest import new_id
from gateway.storage import control
from gateway.storage.crypto import Sealed, StorageKey, Unreadable
from gateway.storage.database import Database
from gateway.storage.tables import approvals, records

_SECOND: Final = 1_000_000_000
_UNKNOWN: Final = Attention()
_MAX_CANARIES: Final = 10


class Opened(NamedTuple):
    approval: Approval
    new: bool


class Full(NamedTuple):
    """Every answer about one approval that a reviewer needs."""

    approval: Approval
    standing: Standing
    votes: Sequence[Stored]
    events: Sequence[Any]
    circle: Circle
    args_json: bytes | None


class Store(Overseen):
    """The durable side of the queue. ``settings`` may be replaced when the configuration is reloaded."""

    def __init__(
        self, database: Database, key: StorageKey, settings: Settings, *, clock: Clock = rows.now_ns
    ) -> None:
        super().__init__(database, settings, clock)
        self._key = key

    # ------------------------------------------------------------------------------------- the agent's side

    def open(self, wanted: Opening) -> Opened:
        """Open an approval, or find the one that waits for this digest already.

        Raises ``Blocked``: ``approvals_full``; ``approval_impossible`` when nobody could decide it.
        """
        with self.database.writing() as connection:
            found = rows.live(connection, wanted.tenant, wanted.asked_digest)
            if found is not None:
                return Opened(found, False)
            self._room(connection, wanted)
            return Opened(self._insert(connection, wanted, self.now(connection)), True)

    def find(self, tenant: str, asked_digest: str) -> Approval | None:
        """The approval of a digest: one that lives, or the last that ended a short while ago."""
        with self.database.reading() as connection:
            found = rows.live(connection, tenant, asked_digest)
            if found is not None:
                return found
            return self._ended(connection, tenant, asked_digest, self.now(connection))

    def _ended(self, connection: Connection, tenant: str, asked_digest: str, now: int) -> Approval | None:
        """The last approval of a digest that ended a short while ago, by which the same call is answered."""
        since = now - int(self.settings.sticky_s * _SECOND)
        return rows.newest_closed(connection, tenant, asked_digest, since)

    def discharge(self, wanted: Opening) -> Approval | None:
        """Approve a held call under an open envelope that it is inside of; ``None`` where there is none.

        It becomes an approval like any other, without votes and with a mark. What a reviewer has edited, or
        decided, stays with the reviewers.
        """
        with self.database.reading() as connection:
            everyone = rows.circle(connection, wanted.tenant, self.settings)
            now = self.now(connection)
            if openings.covering(connection, now, self.settings, wanted, everyone) is None:
                return None
        with self.database.writing() as connection:
            now = self.now(connection)
            everyone = rows.circle(connection, wanted.tenant, self.settings)
            opening = openings.covering(connection, now, self.settings, wanted, everyone)
            found = rows.live(connection, wanted.tenant, wanted.asked_digest)
            if opening is None or (found is not None and found.state != "pending"):
                return None
            if found is None:
                last = self._ended(connection, wanted.tenant, wanted.asked_digest, now)
                # People have said no while this came: an envelope stands in for them, not above them.
                if last is not None and last.state != "failed":
                    return None
                found = self._insert(connection, wanted, now)
            elif found.digest != wanted.digest or found.editors:
                return None
            openings.use(connection, opening)
            by = f"{opening.asked_by} and {opening.seconded_by}"
            rows.note(
                connection, found.id, now, "discharged", SYSTEM,
                f"envelope {opening.name} ({opening.id}), opened by {by}: {opening.reason}",
            )  # fmt: skip
            return rows.save(
                connection, found, machine.approve(found.machine), envelope=opening.id,
                execute_by_ns=now + found.execute_s * _SECOND, next_notice_ns=None,
            )  # fmt: skip

    def envelope_of(self, approval: Approval) -> str | None:
        """The name of the envelope that lets an approval through at this moment."""
        if approval.envelope is None:
            return None
        with self.database.reading() as connection:
            found = openings.holds(
                connection, self.now(connection), self.settings, approval.envelope, approval.tenant
            )
        return found.name if found is not None else None

    def epoch(self) -> int:
        """Moves with every change of an approval; what is counted stays while it does."""
        with self.database.reading() as connection:
            return control.epochs(connection).get(control.APPROVALS, 0)

    def counts(self) -> dict[str, int]:
        """How many approvals are in each state that is not over."""
        query = select(approvals.c.state, func.count()).group_by(approvals.c.state)
        # Nobody waits for a canary. Counted apart and taken off, because both are in an index as they are.
        planted = select(approvals.c.state).where(approvals.c.canary.is_not(None))
        with self.database.reading() as connection:
            found = connection.execute(query.where(approvals.c.state.in_(machine.LIVE)))
            counted = {state: number for state, number in found}  # noqa: C416 - rows are no pairs to dict()
            for state in connection.execute(planted).scalars():
                if state in counted:
                    counted[state] -= 1
        return counted

    def pending(self) -> list[tuple[str, int, float]]:
        """Chain, how many wait in it, and when the oldest was opened in seconds since the epoch.

        Rows with the same requirements are counted by the database; those with two chains count in both.
        """
        asked = approvals.c.requirements
        query = select(asked, func.count(), func.min(approvals.c.opened_ns)).group_by(asked)
        with self.database.reading() as connection:
            found = connection.execute(query.where(approvals.c.state == "pending")).all()
        return [
            (chain, number, oldest / 1e9)
            for requirements, number, oldest in found
            for chain in {each["chain"] for each in orjson.loads(requirements)}
        ]

    def tripped(self, tenant: str, agent: str) -> int:
        """An agent's breaker opened: what was granted to it for a while is not any more."""
        with self.database.writing() as connection:
            return grants.tripped(connection, self.now(connection), tenant, agent)

    def reconciled(self, call_id: str) -> str | None:
        """What a person has said in the journal of a call that was in doubt."""
        query = select(records.c.status).where(records.c.call_id == call_id, records.c.phase == "reconciled")
        with self.database.reading() as connection:
            return connection.execute(query.limit(1)).scalar()

    def state_of(self, approval_id: str) -> str | None:
        """The state alone, for those who wait."""
        query = select(approvals.c.state).where(approvals.c.id == approval_id)
        with self.database.reading() as connection:
            return connection.execute(query).scalar()

    def replace(self, approval_id: str, wanted: Opening) -> Approval:
        """Policy asks for more than was approved: another approval in its place, with no votes."""
        with self.database.writing() as connection:
            found = rows.load(connection, approval_id)
            if found is None or found.state not in machine.UNCLAIMED:
                raise Blocked("in_doubt" if found and found.state in machine.CLAIMED else "approval_changed")
            now, new = self.now(connection), new_id()
            gone = machine.supersede(found.machine)
            self._close(connection, found, gone, now, SYSTEM, superseded_by=new)
            rows.note(connection, approval_id, now, "replaced", SYSTEM, new)
            self._room(connection, wanted)
            return self._insert(connection, wanted, now, approval_id=new, supersedes=approval_id)

    def ticket(self, approval_id: str) -> Ticket | None:
        """What a claim would start from; ``None`` while it cannot be claimed."""
        with self.database.reading() as connection:
            found = rows.load(connection, approval_id)
            if found is None or found.state not in ("approved", "recovering") or found.canary is not None:
                return None
            epoch = control.authority(connection)
            standing = self._standing(connection, found)
            named = ""
            if found.envelope is not None:
                named = openings.load(connection, found.envelope, found.tenant).name
            args = self._arguments(connection, found) if found.editors else None
        own, aliases = chain.names_of(found.owner, found.subject), self.settings.aliases
        return Ticket(
            approval=found,
            epoch=epoch,
            attempt=found.machine.attempt + 1,
            approvers=standing.approvers,
            args_json=args,
            envelope=named,
            self_reviewed=any(
                not chain.names_of(each, *chain.also_known_as(each, aliases)).isdisjoint(own)
                for each in standing.approvers
            ),
        )

    def drifted(self, approval_id: str, code: str) -> Approval | None:
        """Decided again, policy says no. What nobody claimed is over; what was claimed stays in doubt."""
        with self.database.writing() as connection:
            found = rows.load(connection, approval_id)
            if found is None or found.state not in ("approved", "recovering"):
                return None
            now = self.now(connection)
            became = machine.drift(found.machine)
            rows.note(connection, approval_id, now, "refused_by_policy", SYSTEM, code)
            return self._close(connection, found, became, now, SYSTEM, reason_code=code)

    def answer(self, approval_id: str, tenant: str, agent: str, text: str) -> Approval:
        """The agent's answer to the question it was asked."""
        with self.database.writing() as connection:
            found = rows.load(connection, approval_id)
            if found is None or found.tenant != tenant or found.agent != agent:
                raise Blocked("not_found")
            if found.state != "pending" or found.question is None:
                raise Blocked("approval_closed", found)
            now = self.now(connection)
            after = rows.save(connection, found, found.machine, answer=text[: rows.MAX_TEXT])
            rows.note(connection, approval_id, now, "answered", agent, text)
            return after

    def withdraw(self, approval_id: str, agent: str) -> Approval:
        """Its agent does not want the call any more. What is being carried out goes on to its outcome."""
        with self.database.writing() as connection:
            found = rows.load(connection, approval_id)
            if found is None or found.state not in machine.LIVE:
                raise Blocked("not_found" if found is None else "approval_closed", found)
            if found.state not in machine.UNCLAIMED:
                return found
            now = self.now(connection)
            rows.note(connection, approval_id, now, "withdrawn", agent)
            return self._close(connection, found, machine.cancel(found.machine), now, agent)

    # ---------------------------------------------------------------------------------- the reviewer's side

    def show(self, approval_id: str, tenant: str) -> Full | None:
        with self.database.reading() as connection:
            found = rows.load(connection, approval_id)
            if found is None or found.tenant != tenant:
                return None
            everyone = rows.circle(connection, tenant, self.settings)
            stored = rows.votes(connection, approval_id)
            return Full(
                found,
                chain.evaluate(found.rules, rows.counted(stored), everyone),
                stored,
                rows.events(connection, approval_id),
                everyone,
                self._arguments(connection, found),
            )

    def list(
        self, tenant: str, *, states: Sequence[str] = (), agent: str | None = None, target: str | None = None,
        limit: int = 50, after: str | None = None,
    ) -> list[Approval]:  # fmt: skip
        """The newest first; ``after`` is the id of the last one of the page before."""
        # Ids first, from the index alone: sorting ten thousand whole rows takes ten times as long.
        query = select(approvals.c.id).where(approvals.c.tenant == tenant)
        if states:
            query = query.where(approvals.c.state.in_(states))
        if agent is not None:
            query = query.where(approvals.c.agent == agent)
        if target is not None:
            query = query.where(approvals.c.target == target)
        if after is not None:
            query = query.where(approvals.c.id < after)
        with self.database.reading() as connection:
            page = query.order_by(approvals.c.id.desc()).limit(limit)
            wanted = rows.columns().where(approvals.c.id.in_(page)).order_by(approvals.c.id.desc())
            found = connection.execute(wanted).all()
        return [rows.approval(row) for row in found]

    def vote(
        self, approval_id: str, by: Reviewer, decision: Decide, expected: Expected, *,
        reason_code: str = "", reason: str = "", seen: Attention = _UNKNOWN,
        measured: Callable[[Review], None] = lambda _: None,
    ) -> Approval:  # fmt: skip
        """Count one vote. The same vote again is answered as the first was; another one is a conflict.

        ``measured`` is told what was measured of a vote that is new.
        """
        reviews: list[Review] = []

        def change(connection: Connection, found: Approval, now: int) -> Approval:
            before = rows.votes(connection, found.id)
            own = [vote for vote in before if vote.principal == by.name]
            if any(vote.decision == decision and vote.shown_digest == expected.digest for vote in own):
                return found  # delivered twice
            if own:
                raise Blocked("vote_conflict", found)
            self._undecided(found, expected, now)
            everyone = rows.circle(connection, found.tenant, self.settings)
            standing = chain.evaluate(found.rules, rows.counted(before), everyone)
            place = self._place(found, by, standing.stage, everyone, now)
            sitting = everyone.people[place]
            if not reason.strip() and chain.needs_reason(found.rules, standing.stage, sitting, now):
                raise Blocked("reason_required", found)
            if decision == "reject" and reason_code not in REJECT_CODES:
                raise Blocked("reason_required", found, f"one of {', '.join(REJECT_CODES)}")
            if decision == "approve":
                # Nobody looks at the thirty-first of an hour as at the first.
                attention.bounded(connection, found, by.name, everyone, self.settings.fatigue, now)
            vote = rows.add_vote(
                connection, found.id, before, stage=standing.stage, principal=by.name,
                on_behalf="" if place == by.name else place, credential=by.credential, decision=decision,
                reason_code=reason_code, reason=reason[: rows.MAX_TEXT], shown_digest=expected.digest,
                at_ns=now,
            )  # fmt: skip
            reviews.append(attention.measure(connection, found, vote, everyone, seen))
            rows.note(connection, found.id, now, "voted", by.name, f"{decision}, stage {standing.stage + 1}")
            standing = chain.evaluate(found.rules, rows.counted(rows.votes(connection, found.id)), everyone)
            if standing.verdict == "approved" and found.canary is not None:
                became = machine.cancel(machine.approve(found.machine))
                return self._close(connection, found, became, now, SYSTEM, reason_code="canary")
            if standing.verdict == "approved":
                until = now + found.execute_s * _SECOND
                return rows.save(
                    connection,
                    found,
                    machine.approve(found.machine),
                    execute_by_ns=until,
                    next_notice_ns=None,
                )
            if standing.verdict == "rejected":
                became = machine.reject(found.machine)
                return self._close(
                    connection, found, became, now, by.name, reason_code=reason_code,
                    reason_text=reason[: rows.MAX_TEXT],
                )  # fmt: skip
            return rows.save(connection, found, found.machine)

        after = self._change(approval_id, by, decision, change)
        for review in reviews:
            measured(review)
        return after

    def cancel(self, approval_id: str, by: Reviewer, expected: Expected, reason: str = "") -> Approval:
        """End an approval that was not carried out yet. Afterwards it can only be compensated."""

        def change(connection: Connection, found: Approval, now: int) -> Approval:
            self._as_expected(found, expected)
            rows.note(connection, found.id, now, "cancelled", by.name, reason)
            became = machine.cancel(found.machine)
            return self._close(connection, found, became, now, by.name, reason_text=reason[: rows.MAX_TEXT])

        return self._change(approval_id, by, "cancel", change)

    def ask(self, approval_id: str, by: Reviewer, expected: Expected, question: str) -> Approval:
        """Put a question to the agent; it is told when it calls again."""

        def change(connection: Connection, found: Approval, now: int) -> Approval:
            self._undecided(found, expected, now)
            asked = {"question": question[: rows.MAX_TEXT], "asked_by": by.name, "answer": None}
            rows.note(connection, found.id, now, "asked", by.name, question)
            return rows.save(connection, found, found.machine, **asked)

        return self._change(approval_id, by, "ask", change)

    def edit(self, approval_id: str, by: Reviewer, expected: Expected, wanted: Opening) -> Approval:
        """Put another call in its place, with no votes. ``wanted`` has been decided by policy already."""

        def change(connection: Connection, found: Approval, now: int) -> Approval:
            self._undecided(found, expected, now)
            if wanted.digest == found.digest:
                raise Blocked("approval_stale", found, "the arguments are the same")
            everyone = rows.circle(connection, found.tenant, self.settings)
            standing = chain.evaluate(found.rules, rows.counted(rows.votes(connection, found.id)), everyone)
            self._place(found, by, standing.stage, everyone, now)
            if found.canary is not None:  # it is not approved as it was, which is all there was to see
                gone = machine.cancel(found.machine)
                return self._close(connection, found, gone, now, by.name, reason_code="canary")
            gone = machine.supersede(found.machine)
            new = new_id()
            after = self._close(connection, found, gone, now, by.name, superseded_by=new)
            rows.note(connection, found.id, now, "edited", by.name, new)
            if not chain.possible(wanted.rules, everyone.people.values()):
                raise Blocked("approval_impossible", found)
            return self._insert(connection, wanted, now, approval_id=new, supersedes=after.id)

        return self._change(approval_id, by, "edit", change)

    def resolve(
        self, approval_id: str, by: Reviewer, expected: Expected, *, executed: bool, note: str
    ) -> Approval:
        """Say what became of a call in doubt. The journal's record of it is the caller's to write."""

        def change(connection: Connection, found: Approval, now: int) -> Approval:
            self._as_expected(found, expected)
            became = machine.resolve(found.machine, executed=executed)
            rows.note(connection, found.id, now, "resolved", by.name, f"{became.state}: {note}")
            return self._close(connection, found, became, now, by.name)

        return self._change(approval_id, by, "resolve", change)

    def plant(self, source: str, by: Reviewer, args_json: bytes, note: str) -> Approval:
        """Put a canary into the queue: a copy of an approval with arguments that must be rejected.

        Raises ``Blocked``. No call can ever meet it: its digests are those of no call.
        """
        with self.database.writing() as connection:
            found = rows.load(connection, source)
            if found is None or found.tenant != by.tenant:
                raise Blocked("not_found")
            waiting = select(func.count()).where(
                approvals.c.tenant == by.tenant, approvals.c.canary.is_not(None),
                approvals.c.state == "pending",
            )  # fmt: skip
            if connection.execute(waiting).scalar_one() >= _MAX_CANARIES:
                raise Blocked("approvals_full", found)
            wanted = canaries.opening(found, by.name, args_json, self.settings)
            if not chain.possible(
                wanted.rules, rows.circle(connection, by.tenant, self.settings).people.values()
            ):
                raise Blocked("approval_impossible", found)
            return self._insert(
                connection, wanted, self.now(connection), canary=canaries.marked(by.name, note, source)
            )

    def incident(self, approval_id: str, by: Reviewer, digest: str, note: str) -> Approval:
        """An approved call turned out to be wrong. It may be said more than once."""

        def change(connection: Connection, found: Approval, now: int) -> Approval:
            if found.digest != digest:
                raise Blocked("approval_stale", found)
            if found.state not in ("executing", "recovering", "in_doubt", "executed") or found.canary:
                raise Blocked("approval_closed", found, "it was not carried out")
            attention.reported(connection, found, now, by.name, note)
            return found

        return self._change(approval_id, by, "incident", change)

    # ------------------------------------------------------------------------------------------- in common

    def _change(
        self,
        approval_id: str,
        by: Reviewer,
        verb: str,
        change: Callable[[Connection, Approval, int], Approval],
    ) -> Approval:
        try:
            with self.database.writing() as connection:
                found = rows.load(connection, approval_id)
                if found is None or found.tenant != by.tenant:
                    raise Blocked("not_found")
                try:
                    return change(connection, found, self.now(connection))
                except machine.Illegal as illegal:
                    raise Blocked("approval_closed", found, str(illegal)) from None
        except Blocked as blocked:
            self._refused(approval_id, by, verb, blocked)
            raise

    def _refused(self, approval_id: str, by: Reviewer, verb: str, blocked: Blocked) -> None:
        """An attempt that was refused is something to know of: it may be a race, or somebody trying."""
        if blocked.approval is None:
            return
        with self.database.writing() as connection:
            rows.note(
                connection, approval_id, self.now(connection), "refused", by.name, f"{verb}: {blocked.code}"
            )

    @staticmethod
    def _as_expected(found: Approval, expected: Expected) -> None:
        # What somebody decided about must be what is there: a vote for other arguments is no vote for these.
        if found.digest != expected.digest or found.version != expected.version:
            raise Blocked("approval_stale", found)

    def _undecided(self, found: Approval, expected: Expected, now: int) -> None:
        if found.state != "pending":
            raise Blocked("approval_closed", found)
        # The sweeper comes every second; a vote between the deadline and the sweep is too late all the same.
        if now >= found.decide_by_ns:
            raise Blocked("approval_expired", found)
        self._as_expected(found, expected)

    def _place(self, found: Approval, by: Reviewer, stage: int, everyone: Circle, now: int) -> str:
        voter = everyone.people.get(by.name)
        if voter is None:
            raise Blocked("not_entitled", found)
        if chain.is_excluded(voter, found.rules.excluded):
            raise Blocked("self_approval", found)
        place = chain.seat(found.rules, stage, voter, everyone, now)
        if place is None:
            raise Blocked("not_entitled", found)
        return place

    def _standing(self, connection: Connection, found: Approval) -> Standing:
        if found.envelope is not None:
            # In place of the votes: closed, run out, or opened by somebody who has lost their key, it counts
            # no more than a vote taken back.
            opening = openings.holds(
                connection, self.now(connection), self.settings, found.envelope, found.tenant
            )
            if opening is None:
                return Standing(verdict="pending", missing="its envelope is not open any more")
            return Standing(verdict="approved", approvers=(opening.asked_by, opening.seconded_by or ""))
        everyone = rows.circle(connection, found.tenant, self.settings)
        return chain.evaluate(found.rules, rows.counted(rows.votes(connection, found.id)), everyone)

    def standing_now(self, connection: Connection, found: Approval) -> Standing:
        """The votes counted again from their rows, for the claim."""
        return self._standing(connection, found)

    def _close(
        self, connection: Connection, was: Approval, became: machine.Machine, now: int, by: str, **said: Any
    ) -> Approval:
        ended = {} if became.state in machine.LIVE else {"closed_ns": now, "closed_by": by}
        return rows.save(connection, was, became, next_notice_ns=None, **ended, **said)

    def _room(self, connection: Connection, wanted: Opening) -> None:
        waiting = select(func.count()).where(
            approvals.c.tenant == wanted.tenant,
            approvals.c.state.in_(machine.UNCLAIMED),
        )
        # A flood of held calls must not fill the disk, nor hide the one that matters among thousands.
        everybody = connection.execute(waiting).scalar_one()
        own = connection.execute(waiting.where(approvals.c.agent == wanted.agent)).scalar_one()
        if everybody >= self.settings.max_pending or own >= self.settings.max_pending_per_agent:
            raise Blocked("approvals_full")
        everyone = rows.circle(connection, wanted.tenant, self.settings)
        # What nobody could approve would only expire: better said at once.
        if not chain.possible(wanted.rules, everyone.people.values()):
            raise Blocked("approval_impossible")

    def _insert(
        self, connection: Connection, wanted: Opening, now: int, *,
        approval_id: str | None = None, supersedes: str | None = None, canary: str | None = None,
    ) -> Approval:  # fmt: skip
        approval_id = approval_id or new_id()
        # Kept while people decide in any case: what nobody can look at, nobody can decide about.
        name = f"approval/{approval_id}"
        key_id, nonce, ciphertext = self._key.sealer(now).seal(name, wanted.args_json)
        sealed = {"key_id": key_id, "nonce": nonce, "ciphertext": ciphertext}
        rules = msgspec.structs.replace(wanted.rules, opened_ns=now)
        values = {
            "id": approval_id, "tenant": wanted.tenant, "agent": wanted.agent, "owner": wanted.owner,
            "subject": wanted.subject, "chain": orjson.dumps(wanted.chain).decode(),
            "session": wanted.session,
            "call_id": wanted.call_id, "target": wanted.target, "schema_hash": wanted.schema_hash,
            "risk": wanted.risk, "asked_digest": wanted.asked_digest, "digest": wanted.digest,
            "effect_key": wanted.effect_key,
            "requirements": msgspec.json.encode(wanted.requirements).decode(),
            "rules": msgspec.json.encode(rules).decode(), "reasons": wanted.reasons_json,
            "facts": wanted.facts_json, "policy_revision": wanted.policy_revision, "opened_ns": now,
            "decide_by_ns": now + int(wanted.decide_s * _SECOND), "execute_s": int(wanted.execute_s),
            "lease_s": int(wanted.lease_s), "supersedes": supersedes,
            "editors": orjson.dumps(wanted.editors).decode(),
            "next_notice_ns": next_notice(wanted.reminders_s, rules, now, now), "canary": canary, **sealed,
        }  # fmt: skip
        rows.add(connection, values, machine.Machine(idempotent=wanted.idempotent))
        rows.note(connection, approval_id, now, "opened", wanted.agent, supersedes or "")
        made = rows.load(connection, approval_id)
        assert made is not None
        return made

    def _arguments(self, connection: Connection, found: Approval) -> bytes | None:
        row = connection.execute(
            select(approvals.c.key_id, approvals.c.nonce, approvals.c.ciphertext).where(
                approvals.c.id == found.id
            )
        ).one()
        if row.ciphertext is None:
            return None
        try:
            return self._key.open(f"approval/{found.id}", Sealed(row.key_id, row.nonce, row.ciphertext))
        except Unreadable:
            return None


def next_notice(reminders_s: Sequence[float], rules: chain.Rules, opened_ns: int, now: int) -> int | None:
    """When somebody is to hear of an approval next: a reminder, or more people who may decide."""
    moments = [*reminders_s, *(each.after_s for each in rules.escalations)]
    later = [at for each in moments if (at := opened_ns + int(each * _SECOND)) > now]
    return min(later, default=None)
