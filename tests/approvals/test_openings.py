"""Break-glass: two people, what was declared, for a while. Everything else is held as ever."""

from __future__ import annotations

import msgspec
import pytest

from gateway.approvals import claim as claims
from gateway.approvals import openings
from gateway.approvals.chain import Who
from gateway.approvals.claim import Claim
from gateway.approvals.envelope import Envelope
from gateway.approvals.values import Blocked, Requirement
from gateway.storage.credentials import Credentials
from tests.approvals.support import Now, one_stage, opening, people, reviewer, seen, store_at

OUTAGE = Envelope(
    name="outage", title="the approvers' chat is down", openers=Who(names=("ann", "bob", "ann2", "alice")),
    agents=("alice",), tools=("bank/*",), chains=("default",), max_s=1800, max_uses=2, second_s=600,
)  # fmt: skip


@pytest.fixture
def now():
    return Now()


@pytest.fixture
def store(tmp_path, now):
    made = store_at(
        tmp_path / "w.db", now, envelopes={"outage": OUTAGE}, aliases={"ann2": ("ann",)},
        chains={"default": one_stage(), "other": one_stage(name="other")},
    )  # fmt: skip
    people(made.database, "ann", "bob", "ann2", "cat", "alice", "vic:viewer")
    return made


def writing(store, work):
    with store.database.writing() as connection:
        return work(connection, store.now(connection))


def ask(store, who="ann", minutes=10, reason="the chat is down"):
    return writing(
        store,
        lambda c, now: openings.ask(c, now, store.settings, "outage", reviewer(who), reason, minutes * 60),
    )


def second(store, asked, who="bob"):
    return writing(store, lambda c, now: openings.second(c, now, store.settings, asked.id, reviewer(who)))


def close(store, opened, who="cat"):
    return writing(store, lambda c, now: openings.close(c, now, opened.id, reviewer(who)))


def opened(store, **more):
    return second(store, ask(store, **more))


def take(store, approval, at=0.0):
    ticket = store.ticket(approval.id)
    wanted = Claim(
        ticket=ticket, call_id=f"call-{ticket.attempt}", digest=approval.digest,
        policy_revision=approval.policy_revision, decided_at=at, send_by=at + 5,
    )  # fmt: skip
    with store.database.writing() as connection:
        claims.claim(
            store, connection, wanted, monotonic=at, policy_revision=approval.policy_revision, send_s=5
        )
    return wanted


def another(number):
    return opening(digest=f"{number}" * 64, asked_digest=f"{number}" * 64)


def refused(code, work, *arguments, **named):
    with pytest.raises(Blocked) as blocked:
        work(*arguments, **named)
    assert blocked.value.code == code, blocked.value.detail
    return blocked.value.detail


def test_nothing_goes_through_before_a_second_person_and_then_it_is_marked_and_carried_out_once(store):
    assert store.discharge(opening()) is None
    asked = ask(store)
    assert store.discharge(opening()) is None, "one person is not two"
    second(store, asked)
    approval = store.discharge(opening())
    assert (approval.state, approval.envelope) == ("approved", asked.id)
    assert store.ticket(approval.id).fact()["kind"] == "envelope"
    assert store.ticket(approval.id).fact()["envelope"] == "outage"
    assert store.ticket(approval.id).approvers == ("ann", "bob")
    event = store.show(approval.id, "default").events[-1]
    assert event.event == "discharged" and "ann and bob" in event.detail and "chat is down" in event.detail
    assert not store.show(approval.id, "default").votes
    take(store, approval)
    assert store.discharge(opening()) is None, "what is under way is not begun again"


@pytest.mark.parametrize(
    ("who", "code"),
    [
        ("ann", "self_approval"),
        ("ann2", "self_approval"),  # another name of the same person
        ("cat", "not_entitled"),
        ("vic", "not_entitled"),
        ("nobody", "not_entitled"),
    ],
)
def test_the_second_person_is_another_one_and_an_opener(store, who, code):
    asked = ask(store)
    refused(code, second, store, asked, who)
    assert store.discharge(opening()) is None


def test_who_may_not_open_it_may_not_ask_and_a_reason_and_a_time_are_wanted(store):
    for who in ("cat", "vic", "nobody"):
        refused("not_entitled", ask, store, who)
    refused("reason_required", ask, store, reason=" ")
    assert "from 1 to 30" in refused("envelope_refused", ask, store, minutes=31)
    ask(store)
    assert "asked already" in refused("envelope_refused", ask, store, "bob")


def test_it_ends_by_itself_by_its_uses_and_by_anybody_who_closes_it(store, now):
    asked = ask(store)
    now.pass_s(601)
    assert "lapsed" in refused("envelope_refused", second, store, asked)
    first = opened(store, minutes=1)
    now.pass_s(61)
    assert store.discharge(opening()) is None and first.uses == 0
    opened(store)
    for n in range(2):
        assert store.discharge(another(n)).envelope
    assert store.discharge(another(2)) is None, "two uses are two"
    third = opened(store)
    closed = close(store, third)
    assert (closed.closed_by, closed.state(now.ns)) == ("cat", "closed")
    assert store.discharge(another(3)) is None
    assert "closed" in refused("envelope_refused", close, store, third)


@pytest.mark.parametrize(
    "change",
    [
        {"agent": "bob"},
        {"target": "mail/send"},
        {"requirements": (Requirement(code="x", chain="other", revision="r"),)},
        {"requirements": (
            Requirement(code="x", chain="default", revision="r"),
            Requirement(code="y", chain="other", revision="r"),
        )},
    ],
)  # fmt: skip
def test_what_is_not_inside_is_not_let_through(store, change):
    opened(store)
    assert store.discharge(msgspec.structs.replace(opening(), **change)) is None


def test_nobody_opens_it_for_a_call_of_their_own(store):
    second(store, ask(store, "alice"), "bob")
    wanted = opening()
    excluded = msgspec.structs.replace(wanted.rules, excluded=("alice",))
    assert store.discharge(msgspec.structs.replace(wanted, rules=excluded)) is None


@pytest.mark.parametrize("how", ["closed", "expired", "revoked", "redeclared"])
def test_what_was_let_through_and_not_sent_is_taken_back_with_the_envelope(store, now, how):
    made = opened(store)
    approval = store.discharge(opening())
    assert store.envelope_of(approval) == "outage"
    if how == "closed":
        close(store, made)
    elif how == "expired":
        now.pass_s(601)
    elif how == "revoked":
        credentials = Credentials(store.database)
        (key,) = [each for each in credentials.list() if each.name == "bob"]
        credentials.revoke(key.id)
    else:
        other = msgspec.structs.replace(OUTAGE, max_uses=50)
        store.settings = msgspec.structs.replace(store.settings, envelopes={"outage": other})
    assert store.envelope_of(approval) is None
    if how != "expired":  # then it may be too late for the approval as well
        refused("approval_changed", take, store, approval)


@pytest.mark.parametrize("end", ["reject", "cancel"])
def test_an_envelope_does_not_let_through_what_people_have_just_refused(store, now, end):
    opened(store)
    made = store.open(opening()).approval  # it waits, and an agent's call has seen that it does
    if end == "reject":
        store.vote(made.id, reviewer("cat"), "reject", seen(made), reason_code="too_risky")
    else:
        store.cancel(made.id, reviewer("cat"), seen(made))
    assert store.discharge(opening()) is None
    assert store.find("default", "d" * 64).id == made.id
    now.pass_s(301)  # later the same call is another one
    assert store.discharge(opening()).envelope


ONCALL = {"ann": ("ann.miller", "ann-oncall")}


def test_two_aliases_of_one_person_do_not_open_an_envelope_and_none_of_them_for_a_call_of_their_own(store):
    openers = Who(names=("ann.miller", "ann-oncall", "bob"))
    outage = msgspec.structs.replace(OUTAGE, openers=openers)
    store.settings = msgspec.structs.replace(store.settings, envelopes={"outage": outage}, aliases=ONCALL)
    people(store.database, "ann.miller", "ann-oncall")
    asked = ask(store, "ann.miller")
    refused("self_approval", second, store, asked, "ann-oncall")
    second(store, asked, "bob")
    assert store.discharge(opening(owner="ann")) is None
    assert store.discharge(another(1)).envelope


def test_an_envelope_is_open_no_more_when_its_two_openers_turn_out_to_be_one_person(store):
    opened(store)
    approval = store.discharge(opening())
    store.settings = msgspec.structs.replace(store.settings, aliases={"ann-oncall": ("bob", "ann")})
    assert store.envelope_of(approval) is None and store.discharge(another(1)) is None
    refused("approval_changed", take, store, approval)


def test_what_people_hold_in_their_hands_stays_with_them(store):
    made = store.open(opening()).approval
    edited = opening(digest="e" * 64, args_json=b'{"amount":1}', editors=("ann",))
    store.edit(made.id, reviewer("ann"), seen(made), edited)
    opened(store)
    assert store.discharge(opening()) is None
