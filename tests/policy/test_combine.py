"""The one combiner: deny wins, order does not matter, odd answers deny."""

from __future__ import annotations

import random
from typing import Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from gateway.model import Mode, Obligation
from gateway.policy.combine import Combined, Contribution, Rule, Said, combine, contribution, fault
from gateway.policy.obligations import CALL_DUTIES, Conflict, labels, merge

CODES = frozenset({"c1", "c2", "c3"})
DUTIES = [
    ("label", ["a"]), ("label", ["b", "a"]), ("cost", 5), ("cost", 7), ("notify", ["ops"]),
    ("cap", {"pointer": "/n", "max": 5}), ("cap", {"pointer": "/n", "max": 3}),
    ("cap", {"pointer": "/m", "max": 9}),
    ("redact", {"keys": ["k"]}), ("redact", {"patterns": {"x": "a+"}}), ("redact", {"patterns": {"x": "b+"}}),
    ("redact", {}), ("explode", 1), ("cap", {"pointer": "n", "max": 5}), ("cost", -1), ("label", "a"),
]  # fmt: skip

members = st.fixed_dictionaries(
    {"code": st.sampled_from(["c1", "c2", "c3", "undeclared"]), "message": st.text(max_size=3)}
)
duties = st.sampled_from(DUTIES).map(lambda pair: {"kind": pair[0], "value": pair[1]})
modes: st.SearchStrategy[Mode] = st.sampled_from(["observe", "warn", "enforce"])


@st.composite
def contributions(draw: st.DrawFn) -> Contribution:
    rule = Rule(
        draw(st.sampled_from(["r1", "r2", "r3"])), draw(st.sampled_from(["low", "high"])), draw(modes), CODES
    )
    if draw(st.integers(0, 9)) == 0:
        return fault(rule, draw(st.sampled_from(["policy_error", "policy_undefined", "policy_bad_shape"])))
    sets = {name: draw(st.lists(members, max_size=2)) for name in ("allow", "deny", "escalate")}
    sets["obligation"] = draw(st.lists(duties, max_size=2))
    return contribution(rule, msgspec.convert(sets, Said))


many = st.lists(contributions(), max_size=6)


def call(parts: list[Contribution]) -> Combined:
    return combine(parts, "deny", CALL_DUTIES)


@given(many, st.randoms(use_true_random=False))
def test_the_order_of_modules_does_not_matter(parts: list[Contribution], chance: random.Random) -> None:
    shuffled = list(parts)
    chance.shuffle(shuffled)
    assert call(parts) == call(shuffled)


def test_which_of_two_bad_obligations_is_named_does_not_depend_on_the_order() -> None:
    """Regression: the first module in line was named."""
    said = msgspec.convert({"obligation": [{"kind": "explode", "value": 1}]}, Said)
    parts = [contribution(Rule(name, "low", "enforce", CODES), said) for name in ("r2", "r1")]
    assert call(parts) == call(parts[::-1])


@given(many)
def test_a_deny_or_a_fault_of_an_enforced_module_always_wins(parts: list[Contribution]) -> None:
    combined = call(parts)
    enforced = [part for part in parts if part.rule.mode == "enforce"]
    if any(part.deny for part in enforced):
        assert combined.verdict == "deny" and combined.duties == ()
    if combined.verdict == "allow":
        assert any(part.allow for part in enforced)
        assert not any(part.deny or part.escalate or part.fault for part in enforced)


@given(many, contributions())
def test_one_more_module_can_make_a_verdict_stricter_only_or_be_the_one_that_allows(
    parts: list[Contribution], more: Contribution
) -> None:
    rank = {"allow": 0, "escalate": 1, "deny": 2}
    before, after = call(parts), call([*parts, more])
    if rank[after.verdict] < rank[before.verdict]:
        assert before.findings[0].code == "no_rule_allows"


@given(many)
def test_modules_that_do_not_enforce_decide_nothing(parts: list[Contribution]) -> None:
    enforced = [part for part in parts if part.rule.mode == "enforce"]
    one, other = call(parts), call(enforced)
    assert (one.verdict, one.findings, one.duties) == (other.verdict, other.findings, other.duties)


@given(many)
def test_every_refusal_has_a_reason(parts: list[Contribution]) -> None:
    combined = call(parts)
    assert combined.verdict == "allow" or combined.findings


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=4),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["code", "deny", "allow", "x"]), inner)
    ),
    max_leaves=6,
)


@given(json_values)
def test_an_answer_of_unknown_shape_is_refused_by_its_type(value: Any) -> None:
    try:
        said = msgspec.convert(value, Said, strict=True)
    except msgspec.ValidationError:
        return
    assert isinstance(value, dict) and set(value) <= {"allow", "deny", "escalate", "obligation"}
    assert all(isinstance(member.code, str) for member in (*said.allow, *said.deny, *said.escalate))


asked = st.lists(
    st.builds(
        lambda d, r: Obligation(kind=d["kind"], value=d["value"], rule=r), duties, st.sampled_from("ab")
    )
)


@given(asked, st.randoms(use_true_random=False))
def test_obligations_merge_in_any_order_or_conflict_in_every_order(
    given_: list[Obligation], chance: random.Random
) -> None:
    def outcome(items: list[Obligation]) -> object:
        try:
            return merge(items, CALL_DUTIES)
        except Conflict:
            return "conflict"

    shuffled = list(given_)
    chance.shuffle(shuffled)
    assert outcome(given_) == outcome(shuffled)


def test_redactions_unite_caps_take_the_minimum_labels_join_and_costs_add() -> None:
    given_ = [
        Obligation(kind=kind, value=value, rule="r")
        for kind, value in [
            ("cap", {"pointer": "/n", "max": 5}), ("cap", {"pointer": "/n", "max": 3}),
            ("cost", 5), ("cost", 7),
            ("label", ["b"]), ("label", ["a"]), ("redact", {"keys": ["k"]}), ("redact", {"pointers": ["/p"]}),
        ]
    ]  # fmt: skip
    merged = merge(given_, CALL_DUTIES)
    assert {item.kind: item.value for item in merged} == {
        "cap": {"pointer": "/n", "max": 3}, "cost": 12, "label": ["a", "b"],
        "redact": {"keys": ["k"], "pointers": ["/p"], "patterns": {}},
    }  # fmt: skip
    assert labels(merged) == ("a", "b")
