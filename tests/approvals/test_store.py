"""Approvals in the database: what is refused, what it is answered with, and what is on record."""

from __future__ import annotations

import itertools
import json
import threading

import msgspec
import pytest
from sqlalchemy import insert, text
from sqlalchemy.exc import DBAPIError

from gateway.approvals import claim as claims
from gateway.approvals import grants
from gateway.approvals.chain import Escalation, Threshold, Who
from gateway.approvals.claim import Claim
from gateway.approvals.queue import GrantPermit
from gateway.approvals.sweeper import Sweeper
from gateway.approvals.values import Blocked, Expected
from gateway.journal.doubts import Doubts
from gateway.model import Call, Cost, Decision, Facts, Manifest, Principal, Tool
from gateway.sessions.budgets import MAX_AMOUNT
from gateway.storage import control
from gateway.storage.tables import records
from tests.approvals.support import (
    KEY,
    Now,
    approve,
    events,
    one_stage,
    opening,
    people,
    reviewer,
    seen,
    store_at,
)
from tests.storage.at import sqlite_only, unprotected


@pytest.fixture
def now():
    return Now()


@pytest.fixture
def store(tmp_path, now):
    made = store_at(tmp_path / "w.db", now)
    people(made.database, "ann", "bob", "cat:operator", "vic:viewer", "alice", "team-a")
    yield made
    made.database.close()


numbers = itertools.count(2)


def take(store, approval, *, at=0.0, revision="r1", **changed):
    """Claim it as the gateway does; the clock of the process stands at 0 unless said."""
    ticket = store.ticket(approval.id)
    assert ticket is not None
    wanted = Claim(
        ticket=ticket, call_id=f"c{next(numbers)}", digest=ticket.approval.digest, policy_revision="r1",
        decided_at=0.0, send_by=5.0,
    )  # fmt: skip
    wanted = msgspec.structs.replace(wanted, **changed)
    with store.database.writing() as connection:
        claims.claim(store, connection, wanted, monotonic=at, policy_revision=revision, send_s=5)
    return wanted


def settle(store, wanted, became):
    with store.database.writing() as connection:
        ticket = wanted.ticket
        claims.settle(store, connection, ticket.approval.id, ticket.attempt, wanted.call_id, became)
    return store.show(ticket.approval.id, "default").approval


def state(store, approval):
    return store.show(approval.id, "default").approval.state


def test_a_call_waits_once_however_often_it_is_made(store):
    first, second = store.open(opening()), store.open(opening(call_id="c2"))
    assert first.new and not second.new and first.approval.id == second.approval.id
    assert first.approval.call_id == second.approval.call_id == "c1"


@sqlite_only
def test_its_arguments_are_sealed_and_shown_to_reviewers_only_through_the_key(store):
    made = store.open(opening(args_json=b'{"iban":"DE89370400440532013000"}')).approval
    assert b"DE8937" in store.show(made.id, "default").args_json
    assert b"DE8937" not in store.database.path.read_bytes()


def test_a_vote_approves_and_the_same_vote_again_changes_nothing(store):
    made = store.open(opening()).approval
    approved = store.vote(made.id, reviewer("ann"), "approve", seen(made))
    again = store.vote(made.id, reviewer("ann"), "approve", seen(made))
    assert approved.state == again.state == "approved" and approved.version == again.version


def test_a_second_vote_that_says_the_opposite_is_a_conflict_and_is_noted(store):
    two = one_stage(Threshold(who=Who(roles=("approver",)), approve=2))
    made = store.open(opening(two)).approval
    once = store.vote(made.id, reviewer("ann"), "approve", seen(made))
    with pytest.raises(Blocked) as blocked:
        store.vote(made.id, reviewer("ann"), "reject", seen(once), reason_code="other")
    assert blocked.value.code == "vote_conflict" and blocked.value.approval.state == "pending"
    assert "refused" in events(store, made)


@pytest.mark.parametrize("name", ["vic", "nobody"])
def test_who_may_not_decide_is_refused(store, name):
    made = store.open(opening()).approval
    with pytest.raises(Blocked) as blocked:
        store.vote(made.id, reviewer(name), "approve", seen(made))
    assert blocked.value.code == "not_entitled"


@pytest.mark.parametrize(
    ("name", "of"),
    [
        ("alice", {}),  # the agent's own name
        ("team-a", {}),  # its owner's
        ("ann", {"owner": "Ann@example.com"}),
        ("ann", {"subject": "corp:ann"}),
        ("ann", {"delegation": ("planner", "ann")}),
    ],
)
def test_nobody_approves_what_comes_from_themselves(store, name, of):
    made = store.open(opening(**of)).approval
    with pytest.raises(Blocked) as blocked:
        store.vote(made.id, reviewer(name), "approve", seen(made))
    assert blocked.value.code == "self_approval" and state(store, made) == "pending"
    assert "refused" in events(store, made)


@pytest.mark.parametrize("wrong", [{"version": 7}, {"digest": "e" * 64}])
def test_a_vote_about_something_else_than_what_is_there_is_refused(store, wrong):
    made = store.open(opening()).approval
    expected = msgspec.structs.replace(seen(made), **wrong)
    with pytest.raises(Blocked) as blocked:
        store.vote(made.id, reviewer("ann"), "approve", expected)
    assert blocked.value.code == "approval_stale" and state(store, made) == "pending"


def test_another_tenant_sees_and_decides_nothing(store):
    made = store.open(opening()).approval
    assert store.show(made.id, "other") is None and store.list("other") == []
    with pytest.raises(Blocked) as blocked:
        store.vote(made.id, reviewer("ann", tenant="other"), "approve", seen(made))
    assert blocked.value.code == "not_found"


def test_after_the_deadline_nobody_decides_even_before_the_sweeper_comes(store, now):
    made = store.open(opening()).approval
    now.pass_s(900)
    with pytest.raises(Blocked) as blocked:
        store.vote(made.id, reviewer("ann"), "approve", seen(made))
    assert blocked.value.code == "approval_expired"
    Sweeper(store, lambda: 0.0).sweep()
    assert state(store, made) == "expired"


def test_an_approval_that_nobody_carried_out_in_time_expires(store, now):
    made = approve(store, store.open(opening()).approval, "ann")
    now.pass_s(300)
    with pytest.raises(Blocked) as blocked:
        take(store, made)
    assert blocked.value.code == "approval_expired"
    Sweeper(store, lambda: 0.0).sweep()
    assert state(store, made) == "expired"


@pytest.mark.parametrize("ended", ["rejected", "cancelled", "superseded"])
def test_what_has_ended_is_decided_no_more_and_says_how_it_ended(store, ended):
    made = store.open(opening()).approval
    if ended == "rejected":
        store.vote(made.id, reviewer("ann"), "reject", seen(made), reason_code="too_risky", reason="no")
    elif ended == "cancelled":
        store.cancel(made.id, reviewer("cat", "operator"), seen(made))
    else:
        store.edit(made.id, reviewer("ann"), seen(made), opening(digest="e" * 64, editors=("ann",)))
    with pytest.raises(Blocked) as blocked:
        store.vote(made.id, reviewer("bob"), "approve", seen(made))
    assert blocked.value.code == "approval_closed" and blocked.value.approval.state == ended


def test_a_rejection_needs_a_code_of_the_list(store):
    made = store.open(opening()).approval
    with pytest.raises(Blocked) as blocked:
        store.vote(made.id, reviewer("ann"), "reject", seen(made), reason_code="because")
    assert blocked.value.code == "reason_required"


def test_what_nobody_could_approve_is_refused_at_once(store):
    nobody = one_stage(Threshold(who=Who(names=("zoe",))))
    with pytest.raises(Blocked) as blocked:
        store.open(opening(nobody))
    assert blocked.value.code == "approval_impossible" and store.list("default") == []


def test_a_flood_of_held_calls_of_one_agent_is_bounded(store):
    store.settings = msgspec.structs.replace(store.settings, max_pending_per_agent=2)
    for number in range(2):
        store.open(opening(asked_digest=str(number), digest=str(number)))
    with pytest.raises(Blocked) as blocked:
        store.open(opening())
    assert blocked.value.code == "approvals_full"


# ----------------------------------------------------------------------------------------------- claims


def test_an_approval_is_claimed_once(store):
    made = approve(store, store.open(opening()).approval, "ann")
    ticket = store.ticket(made.id)
    take(store, made)
    assert store.ticket(made.id) is None and state(store, made) == "executing"
    again = Claim(
        ticket=ticket, call_id="c3", digest=made.digest, policy_revision="r1", decided_at=0, send_by=5
    )
    with pytest.raises(Blocked) as blocked, store.database.writing() as connection:
        claims.claim(store, connection, again, monotonic=0, policy_revision="r1", send_s=5)
    assert blocked.value.code == "approval_changed"


@pytest.mark.parametrize("voter", ["ann", "cat"])
def test_policy_is_told_that_people_approved_their_own_call_also_under_another_name(store, voter):
    store.settings = msgspec.structs.replace(store.settings, aliases={"Owner": ("ann", "someone")})
    wanted = opening(owner="someone")
    alone = msgspec.structs.replace(wanted.rules, excluded=("alice",))  # a chain with self_review
    made = store.open(msgspec.structs.replace(wanted, rules=alone)).approval
    store.vote(made.id, reviewer(voter, "operator"), "approve", seen(made))
    assert store.ticket(made.id).fact()["self_reviewed"] is (voter == "ann")


@pytest.mark.parametrize(
    "wrong",
    [
        {"digest": "e" * 64},
        {"revision": "r2"},
        {"at": 2.1},
        {"at": 6.0, "decided_at": 5.9},
    ],
)
def test_a_claim_for_other_bytes_another_policy_or_an_old_decision_takes_nothing(store, wrong):
    made = approve(store, store.open(opening()).approval, "ann")
    with pytest.raises(Blocked):
        take(store, made, **wrong)
    assert state(store, made) == "approved"


def test_a_kill_between_decision_and_claim_stops_it(store):
    made = approve(store, store.open(opening()).approval, "ann")
    ticket = store.ticket(made.id)
    with store.database.writing() as connection:
        control.bump(connection, control.CONTROL)
    with pytest.raises(Blocked):
        take(store, made, ticket=ticket)
    assert state(store, made) == "approved"


def test_a_kill_between_claim_and_wire_stops_it(store):
    wanted = take(store, approve(store, store.open(opening()).approval, "ann"))
    assert claims.may_send(store, wanted, monotonic=1.0)
    assert not claims.may_send(store, wanted, monotonic=5.1)  # too late to send
    with store.database.writing() as connection:
        control.bump(connection, control.CONTROL)
    assert not claims.may_send(store, wanted, monotonic=1.0)


def test_the_vote_of_a_revoked_operator_does_not_carry_a_claim(store):
    made = approve(store, store.open(opening()).approval, "ann")
    with store.database.writing() as connection:
        connection.execute(text("UPDATE credentials SET revoked_ns = 1 WHERE name = 'ann'"))
    with pytest.raises(Blocked):
        take(store, made)


def test_votes_cannot_be_changed_and_a_forged_one_is_noticed(store):
    made = approve(store, store.open(opening()).approval, "ann")
    with pytest.raises(DBAPIError, match="append-only"), store.database.writing() as connection:
        connection.execute(text("UPDATE approval_votes SET principal = 'bob'"))
    with store.database.writing() as connection:
        connection.execute(text(unprotected("approval_votes")))
        connection.execute(text("UPDATE approval_votes SET reason = 'other words'"))
    with pytest.raises(Blocked) as blocked:
        take(store, made)
    assert blocked.value.code == "approval_votes_altered"


@pytest.mark.parametrize(
    ("became", "then"),
    [("executed", "executed"), ("failed", "failed"), ("in_doubt", "in_doubt"), ("unsent", "recovering")],
)
def test_what_became_of_the_attempt(store, became, then):
    wanted = take(store, approve(store, store.open(opening()).approval, "ann"))
    assert settle(store, wanted, became).state == then


def test_what_was_proven_not_sent_may_be_tried_again_and_ends_as_failed(store, now):
    made = approve(store, store.open(opening()).approval, "ann")
    for _ in range(2):
        assert settle(store, take(store, made), "unsent").state == "recovering"
    assert settle(store, take(store, made), "unsent").state == "failed"


def test_a_late_answer_of_the_current_attempt_ends_the_doubt_and_an_older_one_does_not(store):
    made = approve(store, store.open(opening(idempotent=True)).approval, "ann")
    first = take(store, made)
    assert settle(store, first, "in_doubt").state == "recovering"  # one effect however often it is sent
    second = take(store, made)
    assert settle(store, first, "executed").state == "executing"  # only noted
    assert settle(store, second, "in_doubt").state == "recovering"
    third = take(store, made)
    assert settle(store, third, "in_doubt").state == "in_doubt"  # no more attempts
    assert settle(store, third, "executed").state == "executed"


def test_a_lease_lapses_by_the_clock_that_never_jumps(store, now):
    made = approve(store, store.open(opening()).approval, "ann")
    take(store, made)
    at = [0.0]
    sweeper = Sweeper(store, lambda: at[0])
    sweeper.sweep()
    now.pass_s(86_400)  # the wall clock jumps by a day
    sweeper.sweep()
    assert state(store, made) == "executing"
    now.pass_s(-86_400)
    at[0] = 33.0
    sweeper.sweep()
    assert state(store, made) == "in_doubt"


def test_what_this_process_is_carrying_out_is_not_taken_from_it(store):
    made = approve(store, store.open(opening()).approval, "ann")
    take(store, made)
    at = [0.0]
    sweeper = Sweeper(store, lambda: at[0], lambda: {made.id})
    for second in range(0, 100, 10):
        at[0] = float(second)
        sweeper.sweep()
    assert state(store, made) == "executing"


@pytest.mark.parametrize(("executed", "then"), [(True, "executed"), (False, "failed")])
def test_a_person_says_what_became_of_it(store, executed, then):
    wanted = take(store, approve(store, store.open(opening()).approval, "ann"))
    doubt = settle(store, wanted, "in_doubt")
    assert (
        store.resolve(
            doubt.id, reviewer("cat", "operator"), seen(doubt), executed=executed, note="the bank says so"
        ).state
        == then
    )


def doubted(store, call_id):
    """The journal has a call in doubt."""
    with store.database.writing() as connection:
        connection.execute(
            insert(records).values(call_id=call_id, phase="in_doubt", tenant="default", at_ns=1)
        )


@pytest.mark.parametrize(("executed", "then"), [(True, "executed"), (False, "failed")])
def test_a_doubt_that_a_read_ended_in_the_journal_ends_here_too(store, executed, then):
    wanted = take(store, approve(store, store.open(opening()).approval, "ann"))
    doubt = settle(store, wanted, "in_doubt")
    doubted(store, doubt.attempt_call)
    assert Doubts(store.database, KEY, "wardgate").say(doubt.attempt_call, executed, "find says so")
    assert [notice.event for notice in Sweeper(store, lambda: 0.0).sweep()] == [then]
    found = store.show(doubt.id, "default").approval
    assert (found.state, found.closed_by) == (then, "wardgate")
    assert not Doubts(store.database, KEY, "wardgate").say(doubt.attempt_call, not executed, "again")


def test_the_late_answer_of_the_attempt_comes_before_what_a_read_says(store):
    wanted = take(store, approve(store, store.open(opening()).approval, "ann"))
    doubt = settle(store, wanted, "in_doubt")
    doubted(store, doubt.attempt_call)
    assert settle(store, wanted, "executed").state == "executed"
    Doubts(store.database, KEY, "wardgate").say(doubt.attempt_call, False, "find says so")
    assert Sweeper(store, lambda: 0.0).sweep() == []
    assert state(store, doubt) == "executed"


def test_what_was_claimed_is_never_cancelled_rejected_or_expired(store, now):
    made = approve(store, store.open(opening()).approval, "ann")
    wanted = take(store, made)
    current = store.show(made.id, "default").approval
    with pytest.raises(Blocked) as blocked:
        store.cancel(made.id, reviewer("cat", "operator"), seen(current))
    assert blocked.value.code == "approval_closed"
    settle(store, wanted, "in_doubt")
    store.drifted(made.id, "no_rule_allows")
    now.pass_s(10_000)
    Sweeper(store, lambda: 0.0).sweep()
    assert state(store, made) == "in_doubt"


# ------------------------------------------------------------------------------------------ edits, time


def test_an_edit_is_another_approval_without_votes_and_the_old_one_is_over(store):
    made = store.open(opening()).approval
    wanted = opening(digest="e" * 64, args_json=b'{"amount":1}', editors=("ann",))
    edited = store.edit(made.id, reviewer("ann"), seen(made), wanted)
    assert edited.supersedes == made.id and edited.asked_digest == made.asked_digest
    assert state(store, made) == "superseded"
    alone = store.vote(edited.id, reviewer("ann"), "approve", seen(edited))
    assert alone.state == "pending"  # the editor is never the only one
    both = store.vote(edited.id, reviewer("bob"), "approve", seen(alone))
    assert both.state == "approved"
    assert store.ticket(edited.id).args_json == b'{"amount":1}'
    assert store.find("default", made.asked_digest).id == edited.id


def test_people_are_reminded_and_more_are_asked_as_time_passes(store, now):
    chain = one_stage(
        Threshold(who=Who(names=("ann",))),
        reminders_s=(60,),
        escalations=(Escalation(after_s=120, to=Who(names=("bob",))),),
    )
    store.settings = msgspec.structs.replace(store.settings, chains={"default": chain})
    made = store.open(opening(chain)).approval
    sweeper = Sweeper(store, lambda: 0.0)
    with pytest.raises(Blocked):
        store.vote(made.id, reviewer("bob"), "approve", seen(made))
    told = []
    for _ in range(4):
        now.pass_s(59.9 if not told else 60)
        told += [notice.event for notice in sweeper.sweep()] or ["-"]
    assert told == ["-", "reminded", "escalated", "-"]
    assert store.vote(made.id, reviewer("bob"), "approve", seen(made)).state == "approved"


def test_the_arguments_are_forgotten_some_days_after_the_end(store, now):
    made = store.open(opening()).approval
    ended = store.vote(made.id, reviewer("ann"), "reject", seen(made), reason_code="other")
    assert store.show(ended.id, "default").args_json
    now.pass_s(31 * 86_400)
    Sweeper(store, lambda: 0.0).sweep()
    assert store.show(ended.id, "default").args_json is None


def test_a_question_is_answered_by_the_agent_it_was_put_to(store):
    made = store.open(opening()).approval
    asked = store.ask(made.id, reviewer("ann"), seen(made), "Which invoice?")
    with pytest.raises(Blocked):
        store.answer(made.id, "default", "mallory", "42")
    assert store.answer(asked.id, "default", "alice", "No 42").answer == "No 42"


def test_two_reviewers_at_once_are_two_votes_or_one_refusal_and_never_a_lost_one(store):
    """Ten at once from ten threads, a quorum of two: it is approved once, and every vote is on record."""
    people(store.database, *(f"r{n}" for n in range(10)))
    two = one_stage(Threshold(who=Who(roles=("approver",)), approve=2))
    made = store.open(opening(two)).approval
    outcomes: list[str] = []

    def one(name: str) -> None:
        expected = Expected(version=made.version, digest=made.digest)
        for _ in range(20):
            try:
                outcomes.append(store.vote(made.id, reviewer(name), "approve", expected).state)
                return
            except Blocked as blocked:
                if blocked.code != "approval_stale":
                    outcomes.append(blocked.code)
                    return
                expected = seen(blocked.approval)

    threads = [threading.Thread(target=one, args=(f"r{n}",)) for n in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    full = store.show(made.id, "default")
    assert full.approval.state == "approved" and len(full.votes) == 2
    assert sorted(outcomes) == ["approval_closed"] * 8 + ["approved", "pending"]


def test_an_agent_whose_breaker_opened_keeps_no_grant_and_another_does(store, now):
    ids = {}
    for agent in ("bot", "other"):
        approval = store.open(opening(agent=agent, asked_digest=f"d-{agent}")).approval
        tool = Tool(
            kind="tool", upstream="bank", name="pay", target=approval.target,
            schema_hash=approval.schema_hash, manifest=Manifest(risk="reversible"),
        )  # fmt: skip
        wanted = grants.Wanted(fields=(), minutes=5, uses=3)
        low = msgspec.structs.replace(approval, risk="reversible")
        with store.database.writing() as connection:
            made = grants.make(
                connection,
                store.now(connection),
                low,
                reviewer("ann"),
                wanted,
                {"a": 1},
                tool,
                Facts(),
                "r1",
            )
        ids[agent] = made.id
    assert store.tripped(approval.tenant, "bot") == 1
    with store.database.reading() as connection:
        found = {each.id: each.revoked_by for each in grants.listed(connection, approval.tenant)}
    assert found == {ids["bot"]: "breaker", ids["other"]: None}


def test_after_an_outage_a_reminder_does_not_swallow_the_escalation_behind_it(store, now):
    chain = one_stage(
        Threshold(who=Who(names=("ann",))),
        reminders_s=(60,),
        escalations=(Escalation(after_s=120, to=Who(names=("bob",))),),
    )
    store.settings = msgspec.structs.replace(store.settings, chains={"default": chain})
    made = store.open(opening(chain)).approval
    now.pass_s(200)
    sweeper = Sweeper(store, lambda: 0.0)
    assert [each.event for each in sweeper.sweep()] == ["escalated"]
    assert [each.event for each in sweeper.sweep()] == []
    assert "escalated" in events(store, made)


def test_a_grant_is_shown_to_be_over_as_soon_as_its_policy_is_another(store):
    approval = store.open(opening()).approval
    tool = Tool(
        kind="tool", upstream="bank", name="pay", target=approval.target,
        schema_hash=approval.schema_hash, manifest=Manifest(risk="reversible"),
    )  # fmt: skip
    low = msgspec.structs.replace(approval, risk="reversible")
    with store.database.writing() as connection:
        grants.make(
            connection, store.now(connection), low, reviewer("ann"),
            grants.Wanted(fields=(), minutes=5, uses=3), {"a": 1}, tool, Facts(), "r1",
        )  # fmt: skip

    def ended():
        with store.database.reading() as connection:
            return [each.revoked_by for each in grants.listed(connection, "default")]

    Sweeper(store, lambda: 0.0, policy_revision=lambda: "r1").sweep()
    assert ended() == [None]
    Sweeper(store, lambda: 0.0, policy_revision=lambda: "r2").sweep()
    assert ended() == ["wardgate"]


@pytest.mark.parametrize(
    ("args", "spent"), [({"amount": 2}, 2_000_000), ({}, MAX_AMOUNT), ({"amount": "two"}, MAX_AMOUNT)]
)
def test_a_use_of_a_grant_costs_what_stands_in_the_arguments_and_what_cannot_be_read_fits_no_budget(
    args, spent
):
    manifest = Manifest(risk="reversible", cost=Cost(arguments="/amount"))
    tool = Tool(kind="tool", upstream="b", name="pay", target="b/pay", schema_hash="h", manifest=manifest)
    principal = Principal(tenant="default", agent="bot", owner="team", credential="k")
    raw = json.dumps(args).encode()
    call = Call(
        id="c", principal=principal, tool=tool, args=args, args_json=raw, digest="d", session="s",
        thread="", surface="mcp", effect_key="c", received_ns=1,
    )  # fmt: skip
    permit = GrantPermit(None, None, 0)  # type: ignore[arg-type]
    permit.bind(call, Decision(verdict="escalate", findings=()), 0.0)
    assert permit._cost == spent
