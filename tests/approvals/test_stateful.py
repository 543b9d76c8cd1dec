"""The machine and the store together, under every sequence of what people, workers and time can do.

A plain model runs beside the store: which attempts were handed to the wire, and whether the effect happened.
Two promises hold after every step: no second effect, and no record that denies an effect that happened.
"""

from __future__ import annotations

import itertools
import shutil
import tempfile
from pathlib import Path

import msgspec
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    initialize,
    invariant,
    precondition,
    rule,
)

from gateway.approvals import claim as claims
from gateway.approvals import machine
from gateway.approvals.chain import Threshold, Who
from gateway.approvals.claim import Claim
from gateway.approvals.sweeper import Sweeper
from gateway.approvals.values import Blocked, Expected, Ticket
from gateway.storage import control
from tests.approvals.support import Now, approve, one_stage, opening, people, reviewer, store_at

NAMES = ("ann", "bob", "cat", "alice", "vic", "mallory")
SEND_S = 5.0


class Attempt(msgspec.Struct, frozen=True):
    claim: Claim
    sent: bool | None = None  # None: not yet; then whether the effect happened by it


class Approvals(RuleBasedStateMachine):
    tickets = Bundle("tickets")
    claimed = Bundle("claimed")
    sent = Bundle("sent")

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="wardgate-stateful-"))
        self.now = Now()
        self.at = 0.0
        self.store = store_at(self.folder / "w.db", self.now)
        people(self.store.database, "ann", "bob", "cat:operator", "vic:viewer", "alice")
        self.sweeper = Sweeper(self.store, lambda: self.at)
        self.effects = 0
        self.was_claimed = False
        self.versions: list[Expected] = []
        self.calls = itertools.count()

    def teardown(self) -> None:
        self.store.database.close()
        shutil.rmtree(self.folder)

    @initialize(
        quorum=st.integers(1, 2),
        idempotent=st.booleans(),
        approved=st.sampled_from([True, True, True, False]),
    )
    def opened(self, quorum: int, idempotent: bool, approved: bool) -> None:
        chain = one_stage(Threshold(who=Who(roles=("approver", "operator")), approve=quorum))
        self.idempotent = idempotent
        made = self.store.open(opening(chain, idempotent=idempotent)).approval
        self.id = made.id
        self.remember()
        if approved:  # what is interesting comes after that
            approve(self.store, made, *("ann", "bob")[:quorum])
            self.remember()

    def approval(self):
        full = self.store.show(self.id, "default")
        assert full is not None
        return full.approval

    def remember(self) -> None:
        found = self.approval()
        self.versions.append(Expected(version=found.version, digest=found.digest))

    def try_(self, change) -> None:
        """A write is done, or refused without a trace in the state."""
        before = self.approval()
        try:
            change()
        except Blocked:
            assert self.approval() == before
        self.remember()

    def expected(self, data, fresh: bool) -> Expected:
        return self.versions[-1] if fresh else data.draw(st.sampled_from(self.versions))

    @rule(
        data=st.data(),
        what=st.sampled_from(["vote", "vote", "cancel", "policy says no", "kill", "clock", "resolve"]),
        fresh=st.booleans(),
    )
    def people_and_accidents(self, data, what, fresh) -> None:
        """Whatever others do at any moment, knowing what is there or what was."""
        expected = self.expected(data, fresh)
        if what == "vote":
            name = data.draw(st.sampled_from(NAMES))
            decision = data.draw(st.sampled_from(["approve", "reject"]))
            self.try_(
                lambda: self.store.vote(self.id, reviewer(name), decision, expected, reason_code="other")
            )
        elif what == "cancel":
            self.try_(lambda: self.store.cancel(self.id, reviewer("cat"), expected))
        elif what == "policy says no":
            self.store.drifted(self.id, "closed")
        elif what == "kill":
            with self.store.database.writing() as connection:
                control.bump(connection, control.CONTROL)
        elif what == "clock":
            self.now.pass_s(data.draw(st.sampled_from([1, 100, 400, 1000, -500])))
            self.sweeper.sweep()
        else:  # truthfully: they look at the upstream
            seen = self.effects > 0
            self.try_(
                lambda: self.store.resolve(self.id, reviewer("cat"), expected, executed=seen, note="looked")
            )
        self.remember()

    @rule(seconds=st.sampled_from([1.0, 3.0, 50.0, 50.0]))
    def time_passes(self, seconds) -> None:
        # As in the real thing: what may be sent is sent, or found too late, long before the lease ends.
        self.sweeper.sweep()
        self.at += seconds
        self.sweeper.sweep()
        self.remember()

    @rule(target=tickets)
    def look(self) -> Ticket | None:
        return self.store.ticket(self.id)

    @rule(target=claimed, ticket=tickets, digest=st.sampled_from(["same", "same", "other"]))
    def claim_what_was_seen(self, ticket, digest) -> Attempt | None:
        return self.claim(ticket, digest)

    @rule(target=claimed)
    def look_and_claim(self) -> Attempt | None:
        return self.claim(self.store.ticket(self.id), "same")

    def claim(self, ticket: Ticket | None, digest: str) -> Attempt | None:
        if ticket is None:
            return None
        wanted = Claim(
            ticket=ticket, call_id=f"c{next(self.calls)}",
            digest=ticket.approval.digest if digest == "same" else "e" * 64, policy_revision="r1",
            decided_at=self.at, send_by=self.at + SEND_S,
        )  # fmt: skip
        try:
            with self.store.database.writing() as connection:
                claims.claim(
                    self.store, connection, wanted, monotonic=self.at, policy_revision="r1", send_s=SEND_S
                )
        except Blocked:
            return None
        assert digest == "same" and self.approval().state == "executing"
        self.was_claimed = True
        self.remember()
        return Attempt(wanted)

    @rule(
        target=sent, attempt=consumes(claimed), how=st.sampled_from(["done", "done", "lost", "unreachable"])
    )
    def send(self, attempt, how) -> Attempt | None:
        """The last look and the wire, with no pause in between that a lease would not outlast."""
        if attempt is None:
            return None
        if how == "unreachable" or not claims.may_send(self.store, attempt.claim, monotonic=self.at):
            return Attempt(attempt.claim, sent=False)
        if how == "done":
            self.effects = 1 if self.idempotent else self.effects + 1
        return Attempt(attempt.claim, sent=True)

    @rule(attempt=sent, answer=st.booleans())
    def settle(self, attempt, answer) -> None:
        """At any later time, and more than once; what was sent and had no effect never gets an answer."""
        if attempt is None:
            return
        became = "unsent" if not attempt.sent else "executed" if answer and self.effects else "in_doubt"
        ticket = attempt.claim.ticket
        with self.store.database.writing() as connection:
            claims.settle(self.store, connection, self.id, ticket.attempt, attempt.claim.call_id, became)  # type: ignore[arg-type]
        self.remember()

    @invariant()
    def there_is_one_effect_and_no_record_denies_it(self) -> None:
        if not hasattr(self, "id"):
            return
        state = self.approval().state
        assert self.effects <= 1
        assert not (self.effects and state in machine.DENIES), state

    @precondition(lambda self: self.was_claimed)
    @invariant()
    def what_was_claimed_never_says_that_nothing_was(self) -> None:
        said = (*machine.UNCLAIMED, "rejected", "expired", "cancelled", "superseded")
        assert self.approval().state not in said


TestApprovals = Approvals.TestCase
TestApprovals.settings = settings(
    max_examples=60,
    stateful_step_count=25,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
