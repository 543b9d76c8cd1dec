"""A post-condition says what it means, is filled from one call, and holds or does not."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.model import Verify
from gateway.sessions.verify import BadVerify, Unfillable, differs, fill, matches, parse


def said(value: Any, **more: Any) -> bytes:
    return json.dumps({"content": [], "structuredContent": value, **more}).encode()


def text(*texts: str) -> bytes:
    return json.dumps({"content": [{"type": "text", "text": each} for each in texts]}).encode()


def expecting(match: dict[str, Any], **more: Any) -> Verify:
    return parse({"tool": "get", "match": match, **more})


def holds(match: dict[str, Any], result: bytes) -> bool | None:
    return matches(fill(expecting(match), {}, b""), result)


# ------------------------------------------------------------------------------------------- parsing


@pytest.mark.parametrize(
    ("raw", "said_of_it"),
    [
        ({"match": {"/a": 1}}, "tool"),
        ({"tool": "", "match": {"/a": 1}}, "tool"),
        ({"tool": "get", "match": {}}, "nothing is verified"),
        ({"tool": "get", "match": {"a": 1}}, "JSON pointer"),
        ({"tool": "get", "match": {"/a": {"equal": 1}}}, "equals"),
        ({"tool": "get", "match": {"/a": {}}}, "equals"),
        ({"tool": "get", "match": {"/a": {"exists": "yes"}}}, "true or false"),
        ({"tool": "get", "match": {"/a": {"exists": False, "min": 1}}}, "must not exist"),
        ({"tool": "get", "match": {"/a": {"one_of": "abc"}}}, "list"),
        ({"tool": "get", "match": {"/a": {"min": "1"}}}, "number"),
        ({"tool": "get", "match": {"/a": {"max": True}}}, "number"),
        ({"tool": "get", "match": {"/a": {"pattern": "("}}}, "RE2"),
        ({"tool": "get", "match": {"/a": {"pattern": "(?=a)"}}}, "RE2"),
        ({"tool": "get", "match": {"/a": {"pattern": "{arguments.x}"}}}, "no templates"),
        ({"tool": "get", "match": {"/a": "{argument.x}"}}, "templates are"),
        ({"tool": "get", "match": {"/a": 1}, "arguments": {"x": ["{id}"]}}, "templates are"),
        ({"tool": "get", "match": {"/a": 1}, "attempts": 0}, "attempts"),
        ({"tool": "get", "match": {"/a": 1}, "after_s": 31}, "no read would be made"),
        ({"tool": "get", "match": {"/a": 1}, "after_s": -1}, "after_s"),
        ({"tool": "get", "match": {"/a": 1}, "within_s": 1e9}, "within_s"),
        ({"tool": "get", "match": {"/a": 1}, "retries": 3}, "retries"),
        ({"tool": "get", "match": {f"/{n}": 1 for n in range(33)}}, "conditions"),
    ],
)
def test_what_cannot_be_meant_is_refused_with_what_to_write_instead(raw: Any, said_of_it: str) -> None:
    with pytest.raises(BadVerify, match=said_of_it):
        parse(raw)


def test_a_milestone_has_no_call_to_take_anything_from() -> None:
    with pytest.raises(BadVerify, match="no call here"):
        parse({"tool": "ci/status", "match": {"/state": "{arguments.state}"}}, templates=False)
    green = parse({"tool": "ci/status", "match": {"/state": "green"}}, templates=False)
    assert matches(green, said({"state": "green"})) is True
    assert matches(green, said({"state": "red"})) is False


# ------------------------------------------------------------------------------------------- filling


def test_a_whole_template_keeps_the_type_and_one_in_a_text_becomes_text() -> None:
    verify = expecting(
        {"/value": "{arguments.value}", "/version": {"min": "{result.version}"}},
        arguments={
            "id": "{arguments.id}",
            "path": "/r/{arguments.id}/{result/meta/a.b}",
            "deep": ["{arguments.value}"],
        },
    )
    filled = fill(verify, {"id": 7, "value": {"a": [1, None]}}, said({"version": 3, "meta": {"a.b": "x"}}))
    assert filled.arguments == {"id": 7, "path": "/r/7/x", "deep": [{"a": [1, None]}]}
    assert matches(filled, said({"value": {"a": [1, None]}, "version": 4})) is True
    assert matches(filled, said({"value": {"a": [1, None]}, "version": 2})) is False


@pytest.mark.parametrize("value", [{"exists": True}, {"one_of": [1, 2]}, {"min": 0}])
def test_what_a_caller_sends_is_never_read_as_an_operator(value: Any) -> None:
    """Or an agent would send ``{"exists": true}`` and have anything count as what it asked for."""
    filled = fill(expecting({"/value": "{arguments.value}"}), {"value": value}, b"")
    assert matches(filled, said({"value": "something else"})) is False
    assert matches(filled, said({"value": value})) is True


@pytest.mark.parametrize(
    ("arguments", "result", "named"),
    [
        ({}, said({"id": 1}), "arguments.id is not there"),
        ({"id": 1}, said({}), "result.id is not there"),
        ({"id": 1}, b"", "result.id is not there"),
        ({"id": 1}, text("plain"), "result.id is not there"),
        ({"id": [1]}, said({"id": 1}), "no text"),
        ({"id": True}, said({"id": 1}), "no text"),
    ],
)
def test_nothing_is_guessed_where_a_template_has_no_value(arguments: Any, result: bytes, named: str) -> None:
    verify = expecting({"/a": 1}, arguments={"a": "r-{arguments.id}", "b": "{result.id}"})
    with pytest.raises(Unfillable, match=named):
        fill(verify, arguments, result)


def test_a_bound_that_is_no_number_cannot_be_held_against_anything() -> None:
    with pytest.raises(Unfillable, match="bound"):
        fill(expecting({"/a": {"min": "{arguments.n}"}}), {"n": "10"}, b"")


# ------------------------------------------------------------------------------------------ matching


@pytest.mark.parametrize(
    ("match", "value", "expected"),
    [
        ({"/a": 1}, {"a": 1}, True), ({"/a": 1}, {"a": 1.0}, True), ({"/a": 1}, {"a": True}, False),
        ({"/a": 1}, {"a": "1"}, False), ({"/a": None}, {"a": None}, True), ({"/a": None}, {}, False),
        ({"/a": {"exists": True}}, {"a": None}, True), ({"/a": {"exists": True}}, {}, False),
        ({"/a": {"exists": False}}, {}, True), ({"/a": {"exists": False}}, {"a": None}, False),
        ({"/a": {"one_of": ["x", 2]}}, {"a": 2}, True), ({"/a": {"one_of": ["x"]}}, {"a": "y"}, False),
        ({"/a": {"min": 1, "max": 3}}, {"a": 3}, True), ({"/a": {"min": 1, "max": 3}}, {"a": 4}, False),
        ({"/a": {"min": 1}}, {"a": "5"}, False), ({"/a": {"min": 0}}, {"a": True}, False),
        ({"/a": {"pattern": "^ok"}}, {"a": "ok!"}, True), ({"/a": {"pattern": "1"}}, {"a": 1}, False),
        ({"/a": {"pattern": "^ok"}}, {"a": "not ok"}, False),
        ({"/a": {"equals": {"min": 1}}}, {"a": {"min": 1}}, True),
        ({"/a/1/b~1c": 5}, {"a": [0, {"b/c": 5}]}, True), ({"/a/9": 5}, {"a": [5]}, False),
        ({"/a/-1": 5}, {"a": [5]}, False), ({"": {"equals": {"a": 1}}}, {"a": 1}, True),
        ({"/a": 1, "/b": 2}, {"a": 1, "b": 3}, False),
        ({"/a": [1, {"b": True}]}, {"a": [1, {"b": True}]}, True),
    ],
)  # fmt: skip
def test_what_holds(match: dict[str, Any], value: Any, expected: bool) -> None:
    assert holds(match, said(value)) is expected


def test_json_in_a_text_is_read_and_plain_text_is_matched_as_a_whole() -> None:
    assert holds({"/a": 1}, text("see below", '{"a": 1}')) is True
    assert holds({"": {"pattern": "^merged$"}}, text("merged")) is True
    assert holds({"/a": {"exists": False}}, text("error: not found")) is None


@pytest.mark.parametrize(
    "result",
    [
        b"", b"nonsense", b"[]", b"{}", text(), text("one", "two"), text('{"a": 1, "a": 2}'),
        b'{"structuredContent": {"a": 1}, "structuredContent": {"a": 2}}',
    ],
)  # fmt: skip
def test_what_cannot_be_read_says_neither(result: bytes) -> None:
    assert holds({"/a": {"exists": False}}, result) is None


def test_what_differs_is_named_by_place_and_never_by_value() -> None:
    filled = fill(expecting({"/a": 1, "/b": "{arguments.b}"}), {"b": "secret"}, b"")
    assert differs(filled, said({"a": 1, "b": "other"})) == ["/b"]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.floats(-9, 9) | st.text("ab", max_size=2),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("ab", max_size=1), inner, max_size=2),
    max_leaves=6,
)


@given(value=JSON, other=JSON)
def test_a_call_that_did_what_it_was_asked_matches_and_another_value_does_not(value: Any, other: Any) -> None:
    filled = fill(expecting({"/value": "{arguments.value}"}), {"value": value}, b"")
    assert matches(filled, said({"value": value})) is True
    same = json.dumps(value, sort_keys=True) == json.dumps(other, sort_keys=True)
    if not same and not _alike(value, other):
        assert matches(filled, said({"value": other})) is False


def _alike(one: Any, other: Any) -> bool:
    """Whether Python, to which true is 1 and 1 is 1.0, calls them equal."""
    return bool(one == other)
