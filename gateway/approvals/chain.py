"""Chains: who must agree to a call, and whether they have. Pure.

A chain is a list of stages, all of which must be met, in their order. A stage is a list of thresholds, one
of which is enough: so many approvals by people of a kind. A vote counts for every threshold of its stage
that its voter fits. (Vault's control groups are the AND, Teleport's thresholds the OR.)

What never counts is the vote of somebody the call comes from: the agent, its owner, the end user, and
everyone in the delegation chain, under any of their names.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Collection, Iterable, Mapping, Sequence
from hashlib import sha256
from itertools import product
from typing import Final, Literal

import msgspec

VOTERS: Final = ("approver", "operator")
"""Roles that may decide at all; a viewer or a policy-admin whom a chain names still may not."""


class Who(msgspec.Struct, frozen=True, kw_only=True):
    """Operators by name, by role, or by group; any of them fits."""

    names: tuple[str, ...] = ()
    roles: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()


class Threshold(msgspec.Struct, frozen=True, kw_only=True):
    """So many approvals (or denials) of these people decide the stage."""

    who: Who
    approve: int = 1
    deny: int = 1
    require_reason: bool = False


class Escalation(msgspec.Struct, frozen=True, kw_only=True):
    """From so long after the opening on, these people may decide too, in every stage."""

    after_s: float
    to: Who


class Chain(msgspec.Struct, frozen=True, kw_only=True):
    """One chain of the configuration."""

    name: str
    stages: tuple[tuple[Threshold, ...], ...]
    decide_s: float
    execute_s: float
    reminders_s: tuple[float, ...] = ()
    escalations: tuple[Escalation, ...] = ()
    self_review: bool = False

    @property
    def revision(self) -> str:
        """Changes with anything that could change what a vote for it means."""
        return sha256(msgspec.json.encode(self, order="deterministic")).hexdigest()[:16]


class Person(msgspec.Struct, frozen=True, kw_only=True):
    """An operator who could vote, with what the configuration says of them."""

    name: str
    role: str
    groups: tuple[str, ...] = ()
    aliases: tuple[str, ...] = ()
    kin: tuple[str, ...] = ()  # groups of any of their names: these keep from voting and entitle to nothing


class Vote(msgspec.Struct, frozen=True, kw_only=True):
    """One vote as it is stored."""

    stage: int
    principal: str
    decision: Literal["approve", "reject"]
    on_behalf: str = ""  # of the absent person whose place the voter took
    reason: str = ""
    at_ns: int = 0


class Absence(msgspec.Struct, frozen=True, kw_only=True):
    """``who`` is away, and ``to`` decides in their place. Only one step: the place cannot be passed on."""

    who: str
    to: str
    from_ns: int
    until_ns: int


class Rules(msgspec.Struct, frozen=True, kw_only=True):
    """What votes of one approval are judged by, as it was when it was opened."""

    stages: tuple[tuple[Threshold, ...], ...]
    escalations: tuple[Escalation, ...] = ()
    opened_ns: int = 0
    excluded: tuple[str, ...] = ()  # names, as ``names_of`` gives them
    editors: tuple[str, ...] = ()  # who changed the arguments: never the only ones to approve them


class Standing(msgspec.Struct, frozen=True, kw_only=True):
    """How far the votes have brought an approval."""

    verdict: Literal["pending", "approved", "rejected"]
    stage: int = 0  # the one that is open
    missing: str = ""  # in words, for people
    approvers: tuple[str, ...] = ()


class Circle(msgspec.Struct, frozen=True, kw_only=True):
    """Everyone who could vote at a moment, by name, and who is away."""

    people: Mapping[str, Person]
    absences: tuple[Absence, ...] = ()


def names_of(*identities: str | None) -> frozenset[str]:
    """All forms under which somebody could be known: ``corp:Ann@example.com`` is also ``ann``.

    Wide on purpose: it only ever keeps people from voting.
    """
    found: set[str] = set()
    for identity in identities:
        if not identity:
            continue
        whole = unicodedata.normalize("NFKC", identity).casefold().strip()
        for form in (whole, whole.rpartition(":")[2], whole.rpartition("/")[2]):
            found |= {form, form.partition("@")[0]}
    return frozenset(found - {""})


def is_excluded(person: Person, excluded: Collection[str]) -> bool:
    """Whether a person is one of those the call comes from, under any name, or one of an owning team."""
    return not names_of(person.name, *person.aliases, *person.groups, *person.kin).isdisjoint(excluded)


def known_as(person: Person) -> frozenset[str]:
    """Every name the configuration gives one person: two keys under two of them are still one person."""
    return frozenset(map(_plain, (person.name, *person.aliases)))


def families(aliases: Mapping[str, Iterable[str]]) -> dict[str, set[str]]:
    """Of each name that is listed, in plain letters, all names of that person.

    Whichever of them the others are listed under: who holds a key is no less the same person for its being
    under one of the others. One name in two lists makes one person of both.
    """
    found: dict[str, set[str]] = {}
    for main, others in aliases.items():
        listed = {main, *others}
        family = listed.union(*(found.get(_plain(each), ()) for each in listed))
        found |= {_plain(each): family for each in family}
    return found


def also_known_as(name: str, aliases: Mapping[str, Iterable[str]]) -> tuple[str, ...]:
    """All other names of a person."""
    return tuple(sorted(families(aliases).get(_plain(name), set()) - {name}))


def person(
    name: str, role: str, groups: Mapping[str, Collection[str]], families: Mapping[str, set[str]]
) -> Person:
    """An operator as the configuration knows them; ``families`` as the function of that name gives them."""
    aliases = tuple(sorted(families.get(_plain(name), set()) - {name}))
    return Person(
        name=name,
        role=role,
        groups=groups_of((name,), groups),
        aliases=aliases,
        kin=groups_of(aliases, groups),
    )


def groups_of(names: Collection[str], groups: Mapping[str, Collection[str]]) -> tuple[str, ...]:
    """The groups that any of these names is in."""
    return tuple(sorted(group for group, of in groups.items() if any(name in of for name in names)))


def fits(who: Who, person: Person) -> bool:
    if person.role not in VOTERS:
        return False
    return (
        person.name in who.names or person.role in who.roles or not set(person.groups).isdisjoint(who.groups)
    )


def seat(rules: Rules, stage: int, voter: Person, circle: Circle, now_ns: int) -> str | None:
    """Whose place somebody can vote in: their own name, an absent person's, or ``None``."""
    if is_excluded(voter, rules.excluded) or voter.role not in VOTERS:
        return None
    if entitled(rules, stage, voter, now_ns):
        return voter.name
    for absence in circle.absences:
        if absence.to != voter.name or not absence.from_ns <= now_ns < absence.until_ns:
            continue
        absent = circle.people.get(absence.who)
        # The absent one's own right is looked at again, and a place taken is not passed on.
        if absent and not is_excluded(absent, rules.excluded) and entitled(rules, stage, absent, now_ns):
            return absent.name
    return None


def entitled(rules: Rules, stage: int, person: Person, now_ns: int) -> bool:
    """Whether a person may vote in a stage by their own right."""
    return any(_counts(rules, threshold, person, now_ns) for threshold in rules.stages[stage])


def needs_reason(rules: Rules, stage: int, person: Person, now_ns: int) -> bool:
    """Whether every threshold a vote of theirs would count for asks for a reason."""
    of = [each for each in rules.stages[stage] if _counts(rules, each, person, now_ns)]
    return bool(of) and all(each.require_reason for each in of)


def evaluate(rules: Rules, votes: Sequence[Vote], circle: Circle) -> Standing:
    """Count the votes again, from nothing.

    A vote whose voter is no operator any more, or may not vote there any more, does not count. One person
    is one vote under all their names, and so is one place: neither a delegate, nor an alias with a key of
    its own, nor a second stage makes two of it.
    """
    used: set[str] = set()
    edited = _known(rules.editors, circle.people)
    others = False  # whether somebody approved who did not edit
    approvers: list[str] = []
    for number, stage in enumerate(rules.stages):
        valid: list[tuple[Vote, Person]] = []
        taken: set[str] = set()
        for vote in votes:
            sitting = _valid(rules, number, vote, circle)
            if sitting is None:
                continue
            names = known_as(circle.people[vote.principal]) | known_as(sitting)
            if used & names or taken & names:
                continue
            taken |= names
            valid.append((vote, sitting))
        for threshold in stage:
            no = sum(_counted(rules, threshold, vote, person, "reject") for vote, person in valid)
            if no >= threshold.deny:
                return Standing(verdict="rejected", stage=number)
        met = next((each for each in stage if _yes(rules, each, valid) >= each.approve), None)
        if met is None:
            best = min(stage, key=lambda each: each.approve - _yes(rules, each, valid))
            left = best.approve - _yes(rules, best, valid)
            return Standing(
                verdict="pending",
                stage=number,
                missing=f"stage {number + 1} of {len(rules.stages)}: {left} more of {described(best.who)}",
                approvers=tuple(approvers),
            )
        for vote, person in valid:
            if _counted(rules, met, vote, person, "approve"):
                voter = known_as(circle.people[vote.principal])
                approvers.append(vote.principal)
                used |= voter | known_as(person)
                others |= not voter & edited
    if rules.editors and not others:
        return Standing(
            verdict="pending",
            stage=len(rules.stages) - 1,
            missing="somebody other than who edited it",
            approvers=tuple(approvers),
        )
    return Standing(verdict="approved", stage=len(rules.stages) - 1, approvers=tuple(approvers))


def possible(rules: Rules, people: Iterable[Person]) -> bool:
    """Whether these people could meet every stage, each of them once, escalations included."""
    voters = [each for each in people if each.role in VOTERS and not is_excluded(each, rules.excluded)]
    persons = _persons(voters)
    editors = _known(rules.editors, {each.name: each for each in voters})
    late = rules.opened_ns + int(max((each.after_s for each in rules.escalations), default=0) * 1e9)
    for chosen in product(*rules.stages):
        if sum(each.approve for each in chosen) > len(set(persons)):
            continue
        seats = [each for each in chosen for _ in range(each.approve)]
        options = [
            sorted({persons[n] for n, voter in enumerate(voters) if _counts(rules, each, voter, late)})
            for each in seats
        ]
        if editors and not any(
            _counts(rules, each, voter, late) for voter in voters if not known_as(voter) & editors
            for each in chosen
        ):  # fmt: skip
            continue  # who edited it would be alone
        if _matched(options):
            return True
    return False


def described(who: Who) -> str:
    parts = [*who.names, *(f"role {each}" for each in who.roles), *(f"group {each}" for each in who.groups)]
    return " or ".join(parts)


def combined(chains: Sequence[Chain]) -> tuple[tuple[tuple[Threshold, ...], ...], tuple[Escalation, ...]]:
    """Several chains for one call: all stages of all of them, in the order of their names."""
    ordered = sorted(chains, key=lambda each: each.name)
    return (
        tuple(stage for each in ordered for stage in each.stages),
        tuple(escalation for each in ordered for escalation in each.escalations),
    )


def _valid(rules: Rules, stage: int, vote: Vote, circle: Circle) -> Person | None:
    """The person whose place a vote takes in a stage; ``None`` when it does not count there."""
    if vote.stage != stage:
        return None
    voter = circle.people.get(vote.principal)
    sitting = circle.people.get(vote.on_behalf) if vote.on_behalf else voter
    if voter is None or sitting is None or voter.role not in VOTERS:
        return None
    if is_excluded(voter, rules.excluded) or is_excluded(sitting, rules.excluded):
        return None
    # The place was theirs to take when they took it, and nobody has taken it back since.
    if vote.on_behalf and not any(
        each.who == vote.on_behalf
        and each.to == vote.principal
        and each.from_ns <= vote.at_ns < each.until_ns
        for each in circle.absences
    ):
        return None
    return sitting if entitled(rules, stage, sitting, vote.at_ns) else None


def _counts(rules: Rules, threshold: Threshold, person: Person, now_ns: int) -> bool:
    if fits(threshold.who, person):
        return True
    return any(
        now_ns >= rules.opened_ns + int(each.after_s * 1e9) and fits(each.to, person)
        for each in rules.escalations
    )


def _counted(rules: Rules, threshold: Threshold, vote: Vote, person: Person, decision: str) -> bool:
    if vote.decision != decision or (threshold.require_reason and not vote.reason.strip()):
        return False
    return _counts(rules, threshold, person, vote.at_ns)


def _yes(rules: Rules, threshold: Threshold, valid: Sequence[tuple[Vote, Person]]) -> int:
    return sum(_counted(rules, threshold, vote, person, "approve") for vote, person in valid)


def _plain(name: str) -> str:
    return unicodedata.normalize("NFKC", name).casefold().strip()


def _known(names: Iterable[str], people: Mapping[str, Person]) -> frozenset[str]:
    """All names of the people of these names, also of those who are no operators any more."""
    found: frozenset[str] = frozenset()
    for name in names:
        found |= known_as(people.get(name) or Person(name=name, role=""))
    return found


def _persons(voters: Sequence[Person]) -> list[int]:
    """Of each voter, the number of the first one who is the same person under another name."""
    of: dict[str, int] = {}
    found: list[int] = []
    for number, voter in enumerate(voters):
        names = known_as(voter)
        first = min((of[name] for name in names if name in of), default=number)
        for name in names:
            of[name] = first
        found.append(first)
    return found


def _matched(options: Sequence[Sequence[int]]) -> bool:
    """Whether every seat gets a person of its own: augmenting paths (Kuhn 1955)."""
    taken: dict[int, int] = {}

    def place(number: int, tried: set[int]) -> bool:
        for person in options[number]:
            if person in tried:
                continue
            tried.add(person)
            if person not in taken or place(taken[person], tried):
                taken[person] = number
                return True
        return False

    return all(place(number, set()) for number in range(len(options)))
