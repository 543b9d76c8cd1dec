"""Who must agree: what counts as a vote, and what never does."""

from __future__ import annotations

import pytest

from gateway.approvals.chain import (
    Absence,
    Circle,
    Escalation,
    Person,
    Rules,
    Threshold,
    Vote,
    Who,
    also_known_as,
    evaluate,
    families,
    names_of,
    person,
    possible,
    seat,
)

S = 1_000_000_000


def circle(*named: str, groups: dict[str, tuple[str, ...]] | None = None, **more) -> Circle:
    people = {}
    for each in named:
        name, _, role = each.partition(":")
        of = tuple(g for g, members in (groups or {}).items() if name in members)
        people[name] = Person(name=name, role=role or "approver", groups=of)
    return Circle(people=people, **more)


def yes(*names: str, stage: int = 0, reason: str = "", at_ns: int = 0) -> list[Vote]:
    return [Vote(stage=stage, principal=n, decision="approve", reason=reason, at_ns=at_ns) for n in names]


def no(*names: str) -> list[Vote]:
    return [Vote(stage=0, principal=n, decision="reject") for n in names]


ANY = Who(roles=("approver",))
TWO = Rules(stages=((Threshold(who=ANY, approve=2),),))


def test_a_quorum_is_met_by_that_many_different_people():
    everyone = circle("ann", "bob")
    assert evaluate(TWO, yes("ann"), everyone).verdict == "pending"
    assert evaluate(TWO, yes("ann", "ann"), everyone).verdict == "pending"
    assert evaluate(TWO, yes("ann", "bob"), everyone).verdict == "approved"


def test_one_of_several_thresholds_is_enough_and_all_stages_are_needed():
    lead = Threshold(who=Who(names=("lea",)))
    rules = Rules(stages=((lead, Threshold(who=ANY, approve=2)), (Threshold(who=Who(groups=("money",))),)))
    everyone = circle("lea", "ann", "bob", "cho", groups={"money": ("cho",)})
    assert evaluate(rules, yes("lea"), everyone).stage == 1
    assert evaluate(rules, yes("ann", "bob"), everyone).stage == 1
    assert evaluate(rules, yes("ann"), everyone).stage == 0
    assert evaluate(rules, yes("lea") + yes("cho", stage=1), everyone).verdict == "approved"


def test_a_vote_for_a_later_stage_does_not_count_for_an_earlier_one():
    rules = Rules(stages=((Threshold(who=ANY),), (Threshold(who=ANY),)))
    assert evaluate(rules, yes("ann", stage=1), circle("ann")).stage == 0


def test_one_person_is_one_vote_in_all_stages_together():
    rules = Rules(stages=((Threshold(who=ANY),), (Threshold(who=ANY),)))
    everyone = circle("ann", "bob")
    assert evaluate(rules, yes("ann") + yes("ann", stage=1), everyone).verdict == "pending"
    assert evaluate(rules, yes("ann") + yes("bob", stage=1), everyone).verdict == "approved"


def test_one_no_is_enough_unless_the_threshold_says_more():
    everyone = circle("ann", "bob")
    assert evaluate(TWO, no("ann"), everyone).verdict == "rejected"
    two = Rules(stages=((Threshold(who=ANY, deny=2),),))
    assert evaluate(two, no("ann"), everyone).verdict == "pending"
    assert evaluate(two, no("ann", "bob"), everyone).verdict == "rejected"


def test_a_vote_without_the_reason_that_is_asked_for_does_not_count():
    rules = Rules(stages=((Threshold(who=ANY, require_reason=True),),))
    assert evaluate(rules, yes("ann", reason="  "), circle("ann")).verdict == "pending"
    assert evaluate(rules, yes("ann", reason="ticket 7"), circle("ann")).verdict == "approved"


@pytest.mark.parametrize("role", ["viewer", "policy-admin"])
def test_who_only_looks_does_not_vote_even_when_named(role):
    rules = Rules(stages=((Threshold(who=Who(names=("ann",))),),))
    assert evaluate(rules, yes("ann"), circle(f"ann:{role}")).verdict == "pending"


def test_the_vote_of_somebody_whose_key_is_gone_does_not_count_any_more():
    assert evaluate(TWO, yes("ann", "bob"), circle("ann")).verdict == "pending"


@pytest.mark.parametrize(
    ("identity", "voter"),
    [
        ("ann", "ann"),
        ("ANN", "ann"),
        ("ann@example.com", "ann"),
        ("corp:ann", "ann"),
        ("corp:Ann@example.com", "ann"),
        ("spiffe://cluster/ns/ann", "ann"),
        ("ａｎｎ", "ann"),  # full width
        ("ann", "corp:ann"),
    ],
)
def test_nobody_approves_their_own_call_under_another_name(identity, voter):
    rules = Rules(stages=((Threshold(who=ANY),),), excluded=tuple(names_of(identity)))
    everyone = Circle(people={voter: Person(name=voter, role="approver")})
    assert evaluate(rules, yes(voter), everyone).verdict == "pending"
    assert seat(rules, 0, everyone.people[voter], everyone, 0) is None


def test_an_alias_of_an_operator_is_that_operator():
    ann = Person(name="ann", role="approver", aliases=("a.miller@example.com",))
    rules = Rules(stages=((Threshold(who=ANY),),), excluded=tuple(names_of("A.Miller@example.com")))
    assert evaluate(rules, yes("ann"), Circle(people={"ann": ann})).verdict == "pending"


def test_where_a_team_owns_the_agent_no_member_of_it_approves():
    rules = Rules(stages=((Threshold(who=ANY),),), excluded=tuple(names_of("payments")))
    everyone = circle("ann", "bob", groups={"payments": ("ann",)})
    assert evaluate(rules, yes("ann"), everyone).verdict == "pending"
    assert evaluate(rules, yes("bob"), everyone).verdict == "approved"


def test_the_editor_is_never_the_only_one_to_approve():
    rules = Rules(stages=((Threshold(who=ANY),),), editors=("ann",))
    everyone = circle("ann", "bob")
    assert evaluate(rules, yes("ann"), everyone).verdict == "pending"
    assert evaluate(rules, yes("ann", "bob"), everyone).verdict == "approved"


AWAY = (Absence(who="ann", to="dan", from_ns=10 * S, until_ns=20 * S),)
ANN = Rules(stages=((Threshold(who=Who(names=("ann",))),),))


def test_a_delegate_decides_in_the_place_of_who_is_away_and_only_then():
    everyone = circle("ann", "dan", absences=AWAY)
    dan = everyone.people["dan"]
    assert seat(ANN, 0, dan, everyone, 9 * S) is None
    assert seat(ANN, 0, dan, everyone, 10 * S) == "ann"
    assert seat(ANN, 0, dan, everyone, 20 * S) is None


def test_a_place_is_not_passed_on_by_a_delegate():
    more = (*AWAY, Absence(who="dan", to="eve", from_ns=0, until_ns=30 * S))
    everyone = circle("ann", "dan", "eve", absences=more)
    assert seat(ANN, 0, everyone.people["eve"], everyone, 15 * S) is None


def test_a_delegate_and_the_absent_one_are_one_vote():
    everyone = circle("ann", "dan", absences=AWAY)
    rules = Rules(stages=((Threshold(who=Who(names=("ann", "dan")), approve=2),),))
    votes = [*yes("ann"), Vote(stage=0, principal="dan", decision="approve", on_behalf="ann")]
    assert evaluate(rules, votes, everyone).verdict == "pending"


def test_a_delegate_of_the_owner_does_not_approve_for_the_owner():
    rules = Rules(stages=((Threshold(who=Who(names=("ann",))),),), excluded=tuple(names_of("ann")))
    everyone = circle("ann", "dan", absences=AWAY)
    assert seat(rules, 0, everyone.people["dan"], everyone, 15 * S) is None


def test_who_it_is_escalated_to_may_decide_from_then_on():
    more = (Escalation(after_s=60, to=Who(names=("boss",))),)
    rules = Rules(stages=((Threshold(who=Who(names=("ann",))),),), escalations=more, opened_ns=100 * S)
    everyone = circle("ann", "boss")
    assert seat(rules, 0, everyone.people["boss"], everyone, 159 * S) is None
    assert seat(rules, 0, everyone.people["boss"], everyone, 160 * S) == "boss"
    assert evaluate(rules, yes("boss", at_ns=159 * S), everyone).verdict == "pending"
    assert evaluate(rules, yes("boss", at_ns=160 * S), everyone).verdict == "approved"


def test_a_quorum_that_cannot_be_met_is_found_out():
    everyone = circle("ann", "bob").people.values()
    assert possible(TWO, everyone)
    assert not possible(TWO, circle("ann").people.values())
    # Two stages, each of which one person could meet, and only one person for both.
    both = Rules(stages=((Threshold(who=Who(names=("ann",))),), (Threshold(who=Who(names=("ann",))),)))
    assert not possible(both, everyone)
    # The obvious assignment (ann first) leaves nobody for the second stage; the other one works.
    tricky = Rules(stages=((Threshold(who=ANY),), (Threshold(who=Who(names=("ann",))),)))
    assert possible(tricky, everyone)


def test_two_keys_of_one_person_are_one_vote_and_the_editor_is_alone_under_each_of_them():
    everyone = circle("ann", "ann.miller", "bob")
    everyone.people["ann"] = Person(name="ann", role="approver", aliases=("Ann.Miller",))  # type: ignore[index]
    assert evaluate(TWO, yes("ann", "ann.miller"), everyone).verdict == "pending"
    assert evaluate(TWO, yes("ann", "ann.miller", "bob"), everyone).verdict == "approved"
    alone = [everyone.people["ann"], everyone.people["ann.miller"]]
    assert not possible(TWO, alone) and possible(TWO, everyone.people.values())
    edited = Rules(stages=((Threshold(who=ANY),),), editors=("ann",))
    assert evaluate(edited, yes("ann.miller"), everyone).verdict == "pending"
    assert evaluate(edited, yes("bob"), everyone).verdict == "approved"
    assert not possible(edited, alone) and possible(edited, everyone.people.values())


def test_a_place_that_was_taken_back_carries_no_vote_any_more():
    rules = Rules(stages=((Threshold(who=Who(names=("ann",))),),))
    vote = [Vote(stage=0, principal="dan", on_behalf="ann", decision="approve", at_ns=5 * S)]
    away = Absence(who="ann", to="dan", from_ns=0, until_ns=10 * S)
    assert evaluate(rules, vote, circle("ann", "dan", absences=(away,))).verdict == "approved"
    assert evaluate(rules, vote, circle("ann", "dan")).verdict == "pending"
    over = Absence(who="ann", to="dan", from_ns=0, until_ns=4 * S)
    assert evaluate(rules, vote, circle("ann", "dan", absences=(over,))).verdict == "pending"


ALIASES = {"ann": ("Ann.Miller@example.com", "ann-oncall"), "cho": ("c.lee",)}


def known(*named: str, aliases=ALIASES, groups=None) -> Circle:
    of = families(aliases)
    return Circle(people={name: person(name, "approver", groups or {}, of) for name in named})


@pytest.mark.parametrize("owner", ["ann", "ann.miller@example.com", "ann-oncall"])
@pytest.mark.parametrize("voter", ["ann", "ann.miller@example.com", "ann-oncall"])
def test_a_key_under_an_alias_does_not_approve_the_persons_own_call(owner, voter):
    rules = Rules(stages=((Threshold(who=ANY),),), excluded=tuple(names_of(owner)))
    everyone = known("ann", "ann.miller@example.com", "ann-oncall", "bob")
    assert evaluate(rules, yes(voter), everyone).verdict == "pending"
    assert seat(rules, 0, everyone.people[voter], everyone, 0) is None
    assert evaluate(rules, yes("bob"), everyone).verdict == "approved"


def test_two_keys_under_two_aliases_are_one_vote_also_without_a_key_under_the_name_they_are_listed_under():
    everyone = known("ann.miller@example.com", "ann-oncall", "bob", "c.lee")
    both = yes("ann.miller@example.com", "ann-oncall")
    assert evaluate(TWO, both, everyone).verdict == "pending"
    assert evaluate(TWO, both + yes("bob"), everyone).verdict == "approved"
    assert evaluate(TWO, yes("ann-oncall", "c.lee"), everyone).verdict == "approved"
    assert not possible(TWO, [everyone.people[name] for name in ("ann.miller@example.com", "ann-oncall")])


def test_one_name_in_two_lists_makes_one_person_of_both():
    chained = {"a": ("b",), "c": ("D",), "x": ("y",), "B": ("d",)}
    for name in "abcd":
        assert {each.casefold() for each in also_known_as(name, chained)} | {name} == set("abcd")
    assert also_known_as("y", chained) == ("x",) and also_known_as("nobody", chained) == ()


def test_a_team_keeps_its_members_from_deciding_under_every_name_and_entitles_only_the_one_it_lists():
    groups = {"payments": ("ann",)}
    everyone = known("ann-oncall", "bob", groups=groups)
    owned = Rules(stages=((Threshold(who=ANY),),), excluded=tuple(names_of("payments")))
    assert evaluate(owned, yes("ann-oncall"), everyone).verdict == "pending"
    assert evaluate(owned, yes("bob"), everyone).verdict == "approved"
    theirs = Rules(stages=((Threshold(who=Who(groups=("payments",))),),))
    assert evaluate(theirs, yes("ann-oncall"), everyone).verdict == "pending"
    assert evaluate(theirs, yes("ann"), known("ann", groups=groups)).verdict == "approved"
