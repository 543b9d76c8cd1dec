"""A schema from an upstream is checked by, and is no way to stop the gateway."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest

from gateway.model import Manifest, Outcome, Tool
from gateway.output_schema import OutputSchema, declared, fit

INT = {"type": "integer"}


def tool(schema: Any, kind: Any = "tool") -> Tool:
    definition = {"name": "t"} if schema is None else {"name": "t", "outputSchema": schema}
    return Tool(
        kind=kind, upstream="up", name="t", target="up/t", manifest=Manifest(), schema_hash="h",
        definition_json=json.dumps(definition, separators=(",", ":")).encode(),
    )  # fmt: skip


def of(n: Any) -> dict[str, Any]:
    return {"type": "object", "properties": {"n": n}, "required": ["n"]}


@pytest.mark.parametrize(
    ("schema", "result", "expected"),
    [
        (of(INT), {"structuredContent": {"n": 1}}, "conforms"),
        (of(INT), {"structuredContent": {"n": "1"}}, "violates"),
        (of(INT), {"structuredContent": {}}, "violates"),
        (of(INT), {"structuredContent": None}, "violates"),
        (of(INT), {"content": [{"type": "text", "text": '{"n": 1}'}]}, "missing"),
        (None, {"structuredContent": {"n": "1"}}, "none"),
        (None, {"content": []}, "none"),
    ],
)
def test_how_a_result_stands_to_its_schema(schema: Any, result: Any, expected: str) -> None:
    assert fit(tool(schema), Outcome(status="ok"), result) == expected


@pytest.mark.parametrize("status", ["tool_error", "rpc_error", "input_required"])
def test_a_tool_that_did_not_do_its_work_owes_no_structure(status: Any) -> None:
    assert fit(tool(of(INT)), Outcome(status=status), {"content": []}) == "none"


def test_only_tools_have_an_output_schema() -> None:
    assert fit(tool(of(INT), kind="prompt"), Outcome(status="ok"), {}) == "none"


def test_draft_7_is_read_as_draft_7() -> None:
    old = {"$schema": "http://json-schema.org/draft-07/schema#", "items": [INT], "additionalItems": False}
    assert OutputSchema(old).conforms([1]) and not OutputSchema(old).conforms([1, 2])


@pytest.mark.parametrize(
    "schema",
    [
        {"$ref": "https://evil.example/schema.json"}, {"$ref": "other.json"}, {"$ref": "#/nowhere"},
        {"properties": {"a": {"$ref": "#anchored"}}}, {"$dynamicRef": "#x"}, {"type": "nonsense"},
        {"$schema": "https://evil.example/own"}, {"$defs": {"a": {"$id": "https://b.example/"}}}, True, 5, [],
        {"$schema": "http://json-schema.org/draft-04/schema#"}, {"pattern": "("},
    ],
)  # fmt: skip
def test_a_schema_that_cannot_be_used_is_reported_and_nothing_fits_it(
    schema: Any, caplog: pytest.LogCaptureFixture
) -> None:
    on = tool(schema)
    for _ in range(3):
        assert fit(on, Outcome(status="ok"), {"structuredContent": {}}) == "violates"
        assert fit(on, Outcome(status="ok"), {"content": []}) == "missing"
    made = declared(on)
    assert made is not None and made.fault
    assert len(caplog.records) <= 1, "said once"


def test_a_definition_is_compiled_once() -> None:
    assert declared(tool(of(INT))) is declared(tool(of(INT)))


def chain(length: int) -> dict[str, Any]:
    """Each link refers to the next one twice: 2^length steps."""
    links = {f"d{n}": {"allOf": [{"$ref": f"#/$defs/d{n + 1}"}] * 2} for n in range(length)}
    return {"$ref": "#/$defs/d0", "$defs": {**links, f"d{length}": INT}}


def nested(depth: int, leaf: Any = 1) -> Any:
    value = leaf
    for _ in range(depth):
        value = {"n": value}
    return value


TWICE_PER_LEVEL: dict[str, Any] = {
    "allOf": [{"properties": {"n": {"$ref": "#"}}}, {"properties": {"n": {"$ref": "#"}}}]
}


@pytest.mark.parametrize(
    ("schema", "value"),
    [
        (chain(60), 1),
        ({"properties": {"a": {"items": chain(60)["$ref"]}}, **chain(60)}, 1),
        (TWICE_PER_LEVEL, nested(50)),
        ({"allOf": [{"$ref": "#"}, {"$ref": "#"}]}, 1),
        ({"items": {"pattern": "(?=(a+)+b)c"}}, ["a" * 40] * 100_000),
        ({"items": {"allOf": [{"enum": list(range(1000))}] * 100}}, list(range(10_000))),
    ],
)
def test_what_would_take_for_ever_does_not_fit_and_is_told_at_once(schema: Any, value: Any) -> None:
    started = time.thread_time()
    made = OutputSchema(schema)
    assert not made.conforms(value)
    assert time.thread_time() - started < 2


def test_a_chain_of_references_cannot_exhaust_the_stack() -> None:
    links = {f"d{n}": {"not": {"$ref": f"#/$defs/d{n + 1}"}} for n in range(5000)}
    backwards = {f"p{n}": {"$ref": f"#/$defs/d{n}"} for n in reversed(range(5000))}
    made = OutputSchema({"properties": backwards, "$defs": {**links, "d5000": INT}})
    assert "deep" in made.fault


def test_schemas_that_refer_to_themselves_are_checked_along_the_value() -> None:
    tree = OutputSchema({
        "$defs": {"node": {"anyOf": [
            {"type": "string"}, {"type": "array", "items": {"$ref": "#/$defs/node"}},
            {"type": "object", "additionalProperties": {"$ref": "#/$defs/node"}},
        ]}},
        "$ref": "#/$defs/node",
    })  # fmt: skip
    assert tree.conforms(nested(20, ["a", ["b"]]))
    assert not tree.conforms(nested(20, ["a", 5]))


def test_a_large_honest_result_is_checked() -> None:
    row = of(INT) | {"additionalProperties": False}
    rows = OutputSchema({"properties": {"rows": {"type": "array", "items": row}}})
    assert rows.conforms({"rows": [{"n": n} for n in range(50_000)]})
    assert not rows.conforms({"rows": [*({"n": n} for n in range(50_000)), {"n": None}]})
