"""Obligations change what is sent or shown, or the call does not happen."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.model import Outcome
from gateway.policy.redact import CannotRedact, Redaction, redact, replace_at
from tests.policy.helpers import call, decide, inspect, policy_of, rule, tool

ALLOW = 'allow contains {"code": "fine"} if input.tool.risk == "read"\n'


def obliging(folder: Path, *duties: str, phase: str = "call") -> Any:
    body = "\n".join(f"obligation contains {duty}" for duty in duties)
    files = {"a": rule("a", ALLOW), "b": rule("b", body, phase=phase)}
    return policy_of(folder, files)


def test_a_cap_lowers_a_number_and_leaves_a_smaller_one(tmp_path: Path) -> None:
    policy = obliging(tmp_path, '{"kind": "cap", "value": {"pointer": "/limit", "max": 10}}')
    asked = call({"limit": 50})
    assert policy.modify(asked, decide(policy, asked)) == {"limit": 10}
    for args in ({"limit": 10}, {"limit": 3}, {}):
        asked = call(args)
        assert policy.modify(asked, decide(policy, asked)) is None


@pytest.mark.parametrize("value", ["50", True, [50], {"n": 50}])
def test_a_cap_on_what_is_no_number_refuses(tmp_path: Path, value: Any) -> None:
    policy = obliging(tmp_path, '{"kind": "cap", "value": {"pointer": "/limit", "max": 10}}')
    decision = decide(policy, call({"limit": value}))
    assert (decision.verdict, decision.code, decision.obligations) == ("deny", "obligation_conflict", ())


def test_arguments_are_redacted_by_pointer_key_and_pattern_and_stay_so_when_decided_again(
    tmp_path: Path,
) -> None:
    policy = obliging(
        tmp_path,
        '{"kind": "redact", "value": {"pointers": ["/a/0"], "keys": ["PIN"], '
        '"patterns": {"card": `\\b\\d{16}\\b`}}}',
    )
    asked = call({"a": ["x", "y"], "pin": "12", "text": "card 1234567812345678."})
    changed = policy.modify(asked, decide(policy, asked))
    assert changed == {"a": ["[redacted]", "y"], "pin": "[redacted]", "text": "card [redacted:card]."}
    again = call(changed)
    assert policy.modify(again, decide(policy, again)) is None


@pytest.mark.parametrize(
    "duty",
    [
        '{"kind": "teleport", "value": 1}', '{"kind": "cap", "value": 3}', '{"kind": "redact", "value": {}}',
        '{"kind": "redact", "value": {"patterns": {"x": "("}}}', '{"kind": "cost", "value": -3}',
        '{"kind": "label", "value": "untrusted"}',
    ],
)  # fmt: skip
def test_an_obligation_nobody_can_meet_refuses(tmp_path: Path, duty: str) -> None:
    assert decide(obliging(tmp_path, duty), call({"a": "b"})).code == "obligation_conflict"


def test_two_meanings_of_one_redaction_refuse(tmp_path: Path) -> None:
    policy = obliging(
        tmp_path,
        '{"kind": "redact", "value": {"patterns": {"x": "a"}}}',
        '{"kind": "redact", "value": {"patterns": {"x": "b"}}}',
    )
    assert decide(policy, call()).code == "obligation_conflict"


def test_labels_and_costs_stand_in_the_decision(tmp_path: Path) -> None:
    policy = obliging(tmp_path, '{"kind": "label", "value": ["untrusted"]}', '{"kind": "cost", "value": 30}')
    decision = decide(policy, call())
    assert decision.labels == ("untrusted",)
    assert [(item.kind, item.value, item.rule) for item in decision.obligations] == [
        ("cost", 30, "b"), ("label", ["untrusted"], "b"),
    ]  # fmt: skip


def test_a_cap_makes_no_sense_for_a_result_and_withholds_it(tmp_path: Path) -> None:
    policy = obliging(tmp_path, '{"kind": "cap", "value": {"pointer": "/x", "max": 1}}', phase="result")
    shown = inspect(policy, call(), Outcome(status="ok", result_json=b'{"x": 5}'))
    assert (shown.decision.code, shown.result_json) == ("obligation_conflict", b"")


# --------------------------------------------------------------------------------------------- results

HIDE = '{"kind": "redact", "value": {"patterns": {"s": "SECRET[0-9]*"}, "keys": ["pin"]}}'


def result_of(folder: Path, body: Any, schema: Any = None, raw: bytes | None = None) -> Any:
    definition = json.dumps({"name": "t", "outputSchema": schema}).encode() if schema else b""
    policy = obliging(folder, HIDE, phase="result")
    outcome = Outcome(status="ok", result_json=raw if raw is not None else json.dumps(body).encode())
    return inspect(policy, call(on=tool(risk="read", definition=definition)), outcome)


def test_a_free_string_is_redacted_in_text_and_structure_and_types_stay(tmp_path: Path) -> None:
    schema = {
        "properties": {"x": {"anyOf": [{"type": "string"}, {"type": "null"}]}, "n": {"type": "integer"}}
    }
    body = {
        "content": [{"type": "text", "text": "a SECRET1 b"}],
        "structuredContent": {"x": "SECRET1", "n": 3},
    }
    shown = json.loads(result_of(tmp_path, body, schema).result_json)
    assert shown["structuredContent"] == {"x": "[redacted:s]", "n": 3}
    assert shown["content"] == [{"type": "text", "text": "a [redacted:s] b"}]


def test_a_pointer_into_the_structure_is_followed_into_its_text(tmp_path: Path) -> None:
    duty = '{"kind": "redact", "value": {"pointers": ["/structuredContent/a/*/b"]}}'
    policy = obliging(tmp_path, duty, phase="result")
    said = {"a": [{"b": "hidden", "c": "shown"}]}
    body = {"content": [{"type": "text", "text": json.dumps(said)}], "structuredContent": said}
    shown = inspect(policy, call(), Outcome(status="ok", result_json=json.dumps(body).encode()))
    assert b"hidden" not in shown.result_json and shown.result_json.count(b"shown") == 2


def test_a_secret_hidden_by_escapes_is_found(tmp_path: Path) -> None:
    shown = result_of(tmp_path, None, raw=b'{"content":[{"type":"text","text":"\\u0053ECRET7"}]}')
    assert b"SECRET" not in shown.result_json and b"\\u0053" not in shown.result_json
    assert json.loads(shown.result_json)["content"][0]["text"] == "[redacted:s]"


@pytest.mark.parametrize(
    "raw",
    [b'{"text":"SECRET1","text":"fine"}', b'{"SECRET1":"x"}', b'{"pin":1234}', b'{"x":"\\ud800"}', b"{"],
    ids=["duplicate key", "in a field's name", "a number", "lone surrogate", "not JSON"],
)
def test_what_cannot_be_redacted_is_withheld(tmp_path: Path, raw: bytes) -> None:
    shown = result_of(tmp_path, None, raw=raw)
    assert (shown.decision.verdict, shown.result_json) == ("deny", b"")


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ('{"pin": "12 \\" 34", "n": 1}', '{"pin": "[redacted]", "n": 1}'),
        ('{\n  "a": [{"PIN" : 1234}]\n}', '{\n  "a": [{"PIN" : "[redacted]"}]\n}'),
        ('Two: {"pin":"1"}\n{"pin":"2"}', 'Two: {"pin":"[redacted]"}\n{"pin":"[redacted]"}'),
        ('{"n": 1, "pin": "cut o', '{"n": 1, "pin": "[redacted]"'),
        ('{"pin": "cut \\', '{"pin": "[redacted]"'),
        ('{"pin": "SECRET1", "x": "SECRET2"}', '{"pin": "[redacted]", "x": "[redacted:s]"}'),
        ('{"pin": ["1", {"a": "]"}], "n": 1}', '{"pin": "[redacted]", "n": 1}'),
        ('{"pin": {"a": [None, "b"', '{"pin": "[redacted]"'),
        ('{"log": "{\\"pin\\": \\"1\\"}", "n": 1}', '{"log": "{\\"pin\\": \\"[redacted]\\"}", "n": 1}'),
        ('{"pin": true, "pins": "x"}', '{"pin": true, "pins": "x"}'),
        ('{"pin": "[redacted]"}', '{"pin": "[redacted]"}'),
        ("the pin is: 4", "the pin is: 4"),
    ],
)
def test_a_key_is_redacted_in_the_text_copy_of_a_structured_result_too(
    tmp_path: Path, text: str, shown: str
) -> None:
    body = {"content": [{"type": "text", "text": text}]}
    raw = json.dumps(body).encode()
    result = result_of(tmp_path, body).result_json
    assert json.loads(result)["content"][0]["text"] == shown
    assert (result == raw) is (text == shown), "what need not change is relayed as it is"


# Pieces that a scanner of quotes and brackets could stumble over.
_AWKWARD = st.text(alphabet='a"\\{}[],: é', max_size=12)


@given(
    secret=st.builds("{}hunter2{}".format, _AWKWARD, _AWKWARD),
    shape=st.sampled_from(["%s", "[1, %s]", '{"a": {"c": %s}}', '["]", [%s]]']),
    levels=st.integers(0, 3),
)
def test_what_a_key_holds_is_gone_from_a_text_however_deep_it_is_written(
    secret: str, shape: str, levels: int
) -> None:
    """JSON in a string of JSON in a string …: whatever the secret is made of, what stands around it stays."""
    text = '{"x": 1, "pin": %s, "y": "z"}' % (shape % json.dumps(secret))
    for _ in range(levels):
        text = json.dumps({"log": text})
    cleaned = redact(text, Redaction.of((), ("pin",), {}))
    for _ in range(levels):
        cleaned = json.loads(cleaned)["log"]
    assert json.loads(cleaned) == {"x": 1, "pin": "[redacted]", "y": "z"}


def test_a_key_is_found_in_text_that_escapes_what_is_not_ascii() -> None:
    wanted = Redaction.of((), ("contraseña",), {})
    for ascii_only in (True, False):
        text = json.dumps({"contraseña": "hunter2"}, ensure_ascii=ascii_only)
        assert "hunter2" not in str(redact(text, wanted))


def test_a_switch_named_like_a_secret_is_no_secret(tmp_path: Path) -> None:
    assert result_of(tmp_path, None, raw=b'{"pin":true}').result_json == b'{"pin":true}'


def test_errors_are_redacted_too(tmp_path: Path) -> None:
    policy = obliging(tmp_path, HIDE, phase="result")
    outcome = Outcome(status="rpc_error", error_json=b'{"code":-32000,"message":"at SECRET1"}')
    shown = inspect(policy, call(), outcome)
    assert json.loads(shown.error_json) == {"code": -32000, "message": "at [redacted:s]"}


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(0, 9) | st.text(alphabet="ab1", max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["x", "y"]), inner, max_size=2)
    ),
    max_leaves=8,
)


def shape(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: shape(item) for key, item in value.items()}
    if isinstance(value, list):
        return [shape(item) for item in value]
    return type(value)


@given(json_values)
def test_redaction_keeps_the_shape_leaves_no_match_and_is_done_once(value: Any) -> None:
    wanted = Redaction.of((), (), {"one": "1+"})
    cleaned = redact(value, wanted)
    assert shape(cleaned) == shape(value)
    assert not _strings_with_one(cleaned)
    assert redact(cleaned, wanted) is cleaned
    if not _strings_with_one(value):
        assert cleaned is value


def _strings_with_one(value: Any) -> bool:
    if isinstance(value, str):
        return "1" in value
    if isinstance(value, dict):
        return any(_strings_with_one(item) for item in value.values())
    return isinstance(value, list) and any(_strings_with_one(item) for item in value)


def test_pointers_follow_rfc_6901_and_star_means_every_element() -> None:
    value = {"a/b": [{"~": "x"}, {"~": "y"}]}
    assert replace_at(value, "/a~1b/*/~0", lambda _: "z") == {"a/b": [{"~": "z"}, {"~": "z"}]}
    assert replace_at(value, "/a~1b/7/~0", lambda _: "z") is value
    with pytest.raises(CannotRedact):
        redact({"n": 1}, Redaction.of(("/n",), (), {}))
