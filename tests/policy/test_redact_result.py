"""What is taken out of a result leaves something that fits what the tool declares, or nothing is shown."""

from __future__ import annotations

import json
from typing import Any

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import Refused
from gateway.model import Manifest, Outcome, Tool
from gateway.policy.redact import CannotRedact, Redaction
from gateway.policy.redact_result import redacted

SECRET = "SECRET1"
WANTED = Redaction.of((), ("pin",), {"s": "SECRET[0-9]*"})
TEXT = {"type": "string"}
UUID = "6f6e0d94-1c58-4b5c-9d6a-1f6a50f1ff00"


def tool(schema: Any = None) -> Tool:
    definition = {"name": "t", **({} if schema is None else {"outputSchema": schema})}
    return Tool(
        kind="tool", upstream="up", name="t", target="up/t", manifest=Manifest(), schema_hash="h",
        definition_json=json.dumps(definition).encode(),
    )  # fmt: skip


def shown(result: Any, schema: Any = None, wanted: Redaction = WANTED, status: Any = "ok") -> Any:
    raw = json.dumps(result).encode()
    return json.loads(redacted(tool(schema), Outcome(status=status, result_json=raw), wanted)[0])


def structure(value: Any, schema: Any = None, wanted: Redaction = WANTED) -> Any:
    return shown({"content": [], "structuredContent": value}, schema, wanted)["structuredContent"]


def obj(required: bool = True, **properties: Any) -> dict[str, Any]:
    closed = {"type": "object", "properties": properties, "additionalProperties": False}
    return {**closed, "required": sorted(properties)} if required else closed


@pytest.mark.parametrize(
    ("bound", "old", "new"),
    [
        (TEXT, "x", "[redacted]"),
        ({**TEXT, "format": "email"}, "ann@corp.example", "redacted@redacted.invalid"),
        ({**TEXT, "format": "uuid"}, UUID, "00000000-0000-0000-0000-000000000000"),
        ({**TEXT, "format": "date-time"}, "2026-11-28T01:00:00Z", "0001-01-01T00:00:00Z"),
        ({**TEXT, "format": "uri"}, "https://a.example/k", "https://redacted.invalid/"),
        ({"type": ["string", "null"], "enum": ["a", "b", None]}, "a", None),
        ({"type": ["integer", "null"]}, 4711, None),
        ({**TEXT, "maxLength": 6}, "hunter", "[redac"),
        ({**TEXT, "minLength": 14}, "hunter2hunter2", "[redacted]****"),
        ({**TEXT, "pattern": r"^\d{4}-[a-z]{2}$"}, "4711-ab", "0000-xx"),
    ],
)
def test_a_bound_member_gets_the_best_replacement_that_fits(bound: Any, old: Any, new: Any) -> None:
    schema = obj(pin=bound)
    got = structure({"pin": old}, schema)
    assert got == {"pin": new}
    jsonschema.Draft202012Validator(schema).validate(got)


@pytest.mark.parametrize(
    ("bound", "old"),
    [({"enum": ["open", "closed"]}, "open"), ({"type": "integer"}, 4711), ({"const": "k"}, "k")],
)
def test_what_only_a_lie_could_replace_is_left_out_or_nothing_is_shown(bound: Any, old: Any) -> None:
    """A number that was invented, or another member of an enum, would be acted on."""
    assert structure({"pin": old, "n": 1}, obj(required=False, pin=bound, n={"type": "integer"})) == {"n": 1}
    with pytest.raises(CannotRedact):
        structure({"pin": old}, obj(pin=bound))


def test_elements_are_never_left_out() -> None:
    """How many there were is part of the answer."""
    with pytest.raises(CannotRedact):
        structure({"pin": ["a", "b"]}, obj(pin={"type": "array", "items": {"enum": ["a", "b"]}}))
    rows = obj(rows={"type": "array", "minItems": 2, "items": obj(required=False, pin={"type": "integer"})})
    assert structure({"rows": [{"pin": 1}, {"pin": 2}]}, rows) == {"rows": [{}, {}]}


@pytest.mark.parametrize("way", ["ref", "anyOf", "allOf"])
def test_bounds_are_found_however_they_are_written(way: str) -> None:
    bound: Any = {"type": ["string", "null"], "maxLength": 8}
    schema = {
        "ref": {"properties": {"x": {"$ref": "#/$defs/x"}}, "$defs": {"x": bound}},
        "anyOf": {"properties": {"x": {"anyOf": [{"type": "null"}, bound]}}},
        "allOf": {"allOf": [{"properties": {"x": bound}}]},
    }[way]
    assert structure({"x": SECRET}, schema) == {"x": None}


def test_a_pattern_takes_out_only_its_match_where_that_fits() -> None:
    assert structure({"x": f"a {SECRET} b"}, obj(x=TEXT)) == {"x": "a [redacted:s] b"}


def test_below_a_key_texts_are_marked_and_numbers_are_null_where_that_fits() -> None:
    schema = obj(pin=obj(a=TEXT, b={"type": ["integer", "null"]}))
    assert structure({"pin": {"a": "x", "b": 7}}, schema) == {"pin": {"a": "[redacted]", "b": None}}


def test_a_pointer_must_fit_like_everything_else() -> None:
    pointed = Redaction.of(("/structuredContent/rows/*/n",), (), {})
    rows = obj(rows={"type": "array", "items": obj(required=False, n={"type": "integer"}, m=TEXT)})
    got = structure({"rows": [{"n": 1, "m": "a"}, {"n": 2, "m": "b"}]}, rows, pointed)
    assert got == {"rows": [{"m": "a"}, {"m": "b"}]}


def test_nothing_binds_a_tool_that_declares_nothing_or_a_result_that_says_it_failed() -> None:
    assert structure({"pin": 4711}) == {"pin": "[redacted]"}
    failed = {"content": [], "isError": True, "structuredContent": {"pin": 4711}}
    got = shown(failed, obj(pin={"type": "integer"}), status="tool_error")
    assert got["structuredContent"] == {"pin": "[redacted]"}


def test_what_did_not_fit_before_is_redacted_all_the_same() -> None:
    """Whether it may be shown at all is for the rule on schemas to say."""
    schema = obj(pin={"type": "integer"}, n={"type": "integer"})
    assert structure({"pin": 4711, "n": "wrong"}, schema) == {"pin": "[redacted]", "n": "wrong"}


def test_a_result_with_nothing_to_take_out_is_the_same_bytes() -> None:
    raw = b'{"content":[], "structuredContent": {"x": 1.0}}'
    for wanted in (WANTED, Redaction.of(("/structuredContent/y",), (), {})):
        assert redacted(tool(obj(x=TEXT)), Outcome(status="ok", result_json=raw), wanted) == (raw, b"")


# --------------------------------------------------------------------------------------------- texts


@pytest.mark.parametrize("indent", [None, 2])
def test_text_that_repeats_the_structure_says_what_is_left_of_it(indent: int | None) -> None:
    value = {"pin": 4711, "name": "Ann", "n": 1}
    mirror = {"type": "text", "text": json.dumps(value, indent=indent)}
    schema = obj(required=False, pin={"type": "integer"}, name=TEXT, n={"type": "integer"})
    got = shown({"content": [mirror], "structuredContent": value}, schema)
    assert got["structuredContent"] == {"name": "Ann", "n": 1}
    assert json.loads(got["content"][0]["text"]) == got["structuredContent"]
    mail = obj(pin={**TEXT, "format": "email"})
    value = {"pin": "ann@corp.example"}
    got = shown({"content": [{"type": "text", "text": json.dumps(value)}], "structuredContent": value}, mail)
    assert json.loads(got["content"][0]["text"]) == {"pin": "redacted@redacted.invalid"}


def test_a_pointer_is_followed_into_text_that_repeats_only_some_of_it() -> None:
    pointed = Redaction.of(("/structuredContent/a/*/b",), (), {})
    part = {"type": "text", "text": json.dumps({"a": [{"b": 4711, "c": "shown"}]})}
    value = {"a": [{"b": 4711, "c": "shown"}], "more": 1}
    got = shown({"content": [part], "structuredContent": value}, None, pointed)
    assert json.loads(got["content"][0]["text"]) == {"a": [{"b": "[redacted]", "c": "shown"}]}


def test_values_that_were_taken_out_are_taken_out_of_prose() -> None:
    value = {"pin": {"code": 471123, "word": 'tre"e'}, "order": 4711234}
    said = 'Your code 471123 ("tre"e") opens order 4711234, not 1471123.'
    got = shown({"content": [{"type": "text", "text": said}], "structuredContent": value})
    assert (
        got["content"][0]["text"] == 'Your code [redacted] ("[redacted]") opens order 4711234, not 1471123.'
    )


def test_short_values_are_left_in_prose_because_they_are_in_many_words() -> None:
    got = shown({"content": [{"type": "text", "text": "A no is no."}], "structuredContent": {"pin": "no"}})
    assert got["content"][0]["text"] == "A no is no."


def test_text_that_two_readers_read_differently_is_not_shown() -> None:
    twice = {"type": "text", "text": '{"pin": 1, "pin": 2}'}
    with pytest.raises(Refused):
        shown({"content": [twice], "structuredContent": {"pin": 1}})


# ---------------------------------------------------------------------------------------- any schema

_LEAF = st.sampled_from(
    [
        TEXT, {"type": "integer"}, {"type": ["string", "null"]}, {"enum": ["a", SECRET, 3]},
        {**TEXT, "maxLength": 7}, {**TEXT, "pattern": "^[A-Z]+[0-9]*$"}, {**TEXT, "format": "email"}, {},
    ]
)  # fmt: skip
_NAMES = st.sampled_from(["pin", "x", "y"])


@st.composite
def _schemas(draw: st.DrawFn, depth: int = 2) -> Any:
    if not depth or draw(st.booleans()):
        return draw(_LEAF)
    if draw(st.booleans()):
        return {"type": "array", "items": draw(_schemas(depth - 1))}
    properties = {name: draw(_schemas(depth - 1)) for name in draw(st.sets(_NAMES, min_size=1))}
    required = draw(st.lists(st.sampled_from(sorted(properties)), unique=True))
    return {"type": "object", "properties": properties, "required": required}


_VALUES = st.recursive(
    st.sampled_from(["a", SECRET, f"x {SECRET}", "ann@corp.example", 3, 4711, None, True]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_NAMES, inner, max_size=3),
    max_leaves=6,
)


@given(schema=_schemas(), value=_VALUES)
def test_what_fitted_before_fits_after_and_no_secret_is_left(schema: Any, value: Any) -> None:
    validator = jsonschema.Draft202012Validator(schema)
    try:
        got = structure(value, schema)
    except CannotRedact:
        assert validator.is_valid(value), "only what is bound by its schema may have no replacement"
        return
    assert SECRET not in json.dumps(got)
    assert not any(isinstance(each, int | str) and each in ("a", 3, 4711) for each in _pins(got))
    if validator.is_valid(value):
        validator.validate(got)


def _pins(value: Any) -> list[Any]:
    """What stands below the key, without true and false."""
    found: list[Any] = []
    stack = [(value, False)]
    while stack:
        item, inside = stack.pop()
        if isinstance(item, dict):
            stack += ((each, inside or key == "pin") for key, each in item.items())
        elif isinstance(item, list):
            stack += ((each, inside) for each in item)
        elif inside and not isinstance(item, bool):
            found.append(item)
    return found
