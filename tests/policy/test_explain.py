"""Explain names exactly the rules that fired, and of the others the condition that stopped them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.model import Facts, Outcome
from gateway.policy import EmbeddedPolicy, load
from gateway.policy.explain import Explanation, Rule, explain_call
from gateway.policy.policy import at_once
from tests.policy.helpers import call, policy_of, principal, rule, tool


def explained(tmp_path: Path, body: str, args: dict[str, Any], **more: Any) -> Explanation:
    policy = policy_of(tmp_path, {"a": rule("a", body), "data.yaml": "limits: {top: 5}\n"})
    return explain_call(policy, "call", call(args), Facts(), **more)


def only(found: Explanation) -> Rule:
    assert not found.fired
    [stopped] = found.stopped
    return stopped


def test_the_condition_that_stopped_a_rule_is_named_with_its_line_and_values(tmp_path: Path) -> None:
    body = """
deny contains {"code": "stop"} if {
	input.tool.risk == "read"
	input.call.args.n > data.limits.top # the limit
	input.call.args.never
}
"""
    stop = only(explained(tmp_path, body, {"n": 5})).stop
    assert stop is not None
    assert (stop.held, stop.conditions, stop.line) == (1, 3, 14)
    assert stop.condition.startswith("input.call.args.n > data.limits.top")
    assert {(v.name, v.value) for v in stop.values} == {("input.call.args.n", 5), ("data.limits.top", 5)}


def test_an_undefined_path_is_said_to_be_undefined_and_null_is_null(tmp_path: Path) -> None:
    body = 'deny contains {"code": "stop"} if input.call.args.n'
    for args, undefined in (({}, True), ({"n": False}, False)):
        stop = only(explained(tmp_path / str(undefined), body, args)).stop
        assert stop is not None
        [value] = stop.values
        assert (value.undefined, value.value) == (undefined, None if undefined else False)


def test_variables_are_shown_as_the_conditions_before_bound_them(tmp_path: Path) -> None:
    body = """
deny contains {"code": "stop"} if {
	some word in input.call.args.words
	count(word) > 3
}
"""
    stop = only(explained(tmp_path, body, {"words": ["a", "bb"]})).stop
    assert stop is not None
    assert (stop.held, stop.bound) == (1, ({"word": "a"}, {"word": "bb"}))
    fired = explained(tmp_path, body, {"words": ["a", "long one"]}).fired
    assert [each.members for each in fired] == [({"code": "stop"},)]


def test_a_helper_without_a_value_is_followed_to_what_stopped_it(tmp_path: Path) -> None:
    body = """
deny contains {"code": "stop"} if big

big if amount > 3

amount := input.call.args.n if is_number(input.call.args.n)
"""
    stop = only(explained(tmp_path, body, {"n": "4"})).stop
    assert stop is not None
    [big] = stop.because
    [amount] = big.stop.because
    assert (big.name, amount.name) == ("big", "amount")
    assert amount.stop.condition == "is_number(input.call.args.n)"
    assert amount.stop.values[0].value == "4"


def test_negation_shows_what_holds_although_it_should_not(tmp_path: Path) -> None:
    body = 'deny contains {"code": "stop"} if not known\n\nknown if input.call.args.n == 1'
    stop = only(explained(tmp_path, body, {"n": 1})).stop
    assert stop is not None
    assert (stop.condition, stop.because) == ("not known", ())
    assert [(value.name, value.value) for value in stop.values] == [("known", True)]


def test_conditions_in_another_order_than_they_are_evaluated_are_still_understood(tmp_path: Path) -> None:
    body = """
deny contains {"code": "stop"} if {
	x > 3
	x = input.call.args.n
}
"""
    assert [each.line for each in explained(tmp_path, body, {"n": 4}).fired] == [12]
    stop = only(explained(tmp_path, body, {"n": 3})).stop
    assert stop is not None and stop.conditions == 2


def test_a_rule_whose_contribution_has_no_value_is_told_apart(tmp_path: Path) -> None:
    body = 'deny contains {"code": "stop", "message": input.call.args.absent} if input.tool.risk == "read"'
    stop = only(explained(tmp_path, body, {})).stop
    assert stop is not None
    assert (stop.held, stop.conditions, stop.condition) == (1, 1, "(what it contributes has no value)")
    assert [value.name for value in stop.values] == ["input.call.args.absent"]


def test_a_condition_that_fails_says_how(tmp_path: Path) -> None:
    body = 'deny contains {"code": "stop"} if to_number(input.call.args.word) > 1'
    stop = only(explained(tmp_path, body, {"word": "x"})).stop
    assert stop is not None and "number" in stop.error


def test_nothing_that_is_to_stay_hidden_is_shown(tmp_path: Path) -> None:
    body = """
deny contains {"code": "stop"} if {
	some word in input.call.args.words
	count(word) > 300
	input.call.args.words != secret
}

deny contains {"code": "stop"} if secret != input.call.args.words

secret := input.call.args.words
"""
    args = {"words": ["hunter2"]}
    found = explained(tmp_path, body, args, shown_args={"words": "[redacted]"})
    assert "hunter2" not in str(found)
    assert "hunter2" in str(explained(tmp_path, body, args))


def test_a_result_that_was_kept_back_is_not_shown_either(tmp_path: Path) -> None:
    body = 'deny contains {"code": "stop"} if input.result.text == "other"'
    policy = policy_of(tmp_path, {"a": rule("a", body, phase="result")})
    outcome = Outcome(status="ok", result_json=b'{"content":[{"type":"text","text":"hunter2"}]}')
    asked = call()
    hidden = explain_call(policy, "result", asked, Facts(), outcome, show_result=False)
    assert "hunter2" not in str(hidden)
    assert "hunter2" in str(explain_call(policy, "result", asked, Facts(), outcome))


def test_modules_that_do_not_look_at_the_call_are_listed_with_why(tmp_path: Path) -> None:
    body = 'deny contains {"code": "stop"} if true'
    policy = policy_of(
        tmp_path,
        {
            "a": rule("a", body, scope="{tools: [bank/*]}"),
            "b": rule("b", body, scope="{risks: [irreversible]}"),
            "c": rule("c", body, scope="{arguments: [sql]}"), "d": rule("d", body),
        },
    )  # fmt: skip
    found = explain_call(policy, "call", call({"x": 1}), Facts())
    assert [each.rule for each in found.fired] == ["d"]
    assert {each.rule: each.why for each in found.outside} == {
        "a": "tools: bank/*", "b": "risks: irreversible", "c": "no argument named sql",
    }  # fmt: skip


_CONDITIONS = [
    'input.tool.risk == "read"', "input.call.args.n > 2", "input.call.args.n < 7", "not input.call.args.off",
    "some x in input.call.args.xs", "count(input.call.args.xs) == 2",
    "every y in input.call.args.xs { y > 0 }", '"dev" in input.agent.labels', 'input.agent.id == "ann"',
    'startswith(input.call.target, "git/")', "helper", "not helper",
]  # fmt: skip
_RULES = st.lists(
    st.tuples(
        st.sampled_from(["allow", "deny", "escalate"]),
        st.lists(st.sampled_from(_CONDITIONS), max_size=4),
        st.booleans(),  # a single condition without braces
    ),
    min_size=1, max_size=5,
)  # fmt: skip
_ARGS = st.fixed_dictionaries(
    {},
    optional={"n": st.integers(0, 9), "off": st.booleans(), "xs": st.lists(st.integers(-1, 2), max_size=3)},
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rules=_RULES, args=_ARGS)
def test_exactly_the_rules_that_fired_are_named(tmp_path_factory: Any, rules: Any, args: Any) -> None:
    """Each rule says its own number, so what the engine contributed names the rules that fired."""
    lines = ["helper if input.call.args.n == 3"]
    for number, (name, conditions, bare) in enumerate(rules):
        body = "\n".join(f"\t{condition}" for condition in dict.fromkeys(conditions))
        said = f'{name} contains {{"code": "fine", "message": "{number}"}}'
        braces = body and not (bare and len(conditions) == 1)
        lines.append(f"{said} if {{\n{body}\n}}" if braces else f"{said} if {body}" if body else said)
    policy = policy_of(tmp_path_factory.mktemp("p"), {"a": rule("a", "\n\n".join(lines))})
    asked = call(args)
    [module] = policy.bundle.rules
    contributed, _ = policy._engine.ask(policy.group("call", asked), _encoder(asked))
    truly = {f.message for part in contributed for f in (*part.allow, *part.deny, *part.escalate)}
    found = explain_call(policy, "call", asked, Facts())
    assert {member["message"] for each in found.fired for member in each.members} == truly  # type: ignore[index]
    assert len(found.fired) + len(found.stopped) == len(rules)
    for each in found.stopped:
        assert each.stop is not None
        assert each.stop.held < each.stop.conditions
        assert not each.stop.error
    assert module.id == "a"


def _encoder(asked: Any) -> Any:
    return lambda sections: sections.encode(asked, Facts())


@pytest.mark.parametrize("label", ["accounting", "developer"])
def test_the_shipped_library_explains_what_it_decides(label: str) -> None:
    policy: EmbeddedPolicy = load(None, "strict")
    on = tool("office/pay_invoice", risk="irreversible", effects=("money",))
    for amount in (1, 60_000_000, 10**11, "x"):
        asked = call({"amount_micro_usd": amount}, on=on, by=principal(labels=(label,)))
        decision = at_once(policy.call(asked, Facts()))
        found = explain_call(policy, "call", asked, Facts())
        fired = {(each.rule, member["code"]) for each in found.fired for member in each.members}  # type: ignore[index]
        assert {(finding.rule, finding.code) for finding in decision.findings if finding.rule} <= fired
