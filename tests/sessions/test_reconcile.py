"""What a read says of a call in doubt: done, not done, or nothing."""

from __future__ import annotations

import json
from typing import Any

import pytest

from gateway.sessions.reconcile import filled, judged, parse
from gateway.sessions.verify import BadVerify, Unfillable

HOOK: dict[str, Any] = {
    "tool": "find",
    "arguments": {"reference": "{arguments.invoice}"},
    "done": {"/status": "paid", "/amount": "{arguments.amount}"},
    "not_done": {"/status": {"one_of": ["open", "void"]}},
}
CALL = {"invoice": "INV-1", "amount": 5}


def result(**content: Any) -> bytes:
    return json.dumps({"content": [], "structuredContent": content}).encode()


@pytest.mark.parametrize(
    ("read", "found"),
    [
        (result(status="paid", amount=5), "done"),
        (result(status="open"), "not_done"),
        (result(status="void", amount=5), "not_done"),
        (result(status="paid", amount=6), "unknown"),  # of somebody else's payment
        (result(status="refused"), "unknown"),
        (result(), "unknown"),
        (b'{"content":[{"type":"text","text":"not found"}]}', "unknown"),
        (b'{"content":[]}', "unknown"),
        (b"", "unknown"),
    ],
)
def test_a_read_says_one_of_three_things(read, found):
    wanted = filled(parse(HOOK), CALL)
    assert wanted.arguments == {"reference": "INV-1"}
    assert judged(wanted, read) == found


def test_what_fits_both_says_nothing_and_without_not_done_nothing_is_not_done():
    both = filled(parse({**HOOK, "done": {"/status": {"exists": True}}}), CALL)
    assert judged(both, result(status="open")) == "unknown"
    only = filled(parse({name: value for name, value in HOOK.items() if name != "not_done"}), CALL)
    assert judged(only, result(status="open")) == "unknown"
    assert judged(only, result(status="paid", amount=5)) == "done"


def test_what_a_caller_sends_is_a_value_and_no_operator():
    hook = parse({"tool": "find", "done": {"/text": "{arguments.text}"}})
    wanted = filled(hook, {"text": {"exists": True}})
    assert judged(wanted, result(text="anything")) == "unknown"
    with pytest.raises(Unfillable, match="amount"):
        filled(parse(HOOK), {"invoice": "INV-1"})


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"done": {}}, "'done' says"),
        ({"done": {"status": "paid"}}, "done: .*no JSON pointer"),
        ({"not_done": {"/a": {"like": 1}}}, "not_done: .*some of"),
        ({"done": {"/id": "{result.id}"}}, "no result"),
        ({"arguments": {"id": "{result.id}"}}, "no result"),
        ({"arguments": {"id": "{argument.id}"}}, "templates are"),
        ({"not_done": HOOK["done"]}, "are the same"),
        ({"tool": ""}, "'tool' names"),
        ({"late_s": -1}, "'late_s' must be"),
        ({"every_s": 0}, "'every_s' must be"),
        ({"attempts": 0}, "'attempts' must be"),
        ({"match": {"/a": 1}}, "unknown: 'match'"),
    ],
)
def test_what_cannot_be_meant_is_refused_with_what_to_write(change, said):
    with pytest.raises(BadVerify, match=said):
        parse({**HOOK, **change})
