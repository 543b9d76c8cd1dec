"""Results are held against what their tool declares, and redacted so that they still fit it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from tests.e2e.gateway import ROOT, Counting, Wardgate, rule, talking

SCHEMA = {
    "type": "object",
    "properties": {
        "name": {"type": "string"},
        "mail": {"type": "string", "format": "email"},
        "pin": {"type": "integer"},
        "count": {"type": "integer"},
    },
    "required": ["name", "mail", "count"],
    "additionalProperties": False,
}
GOOD = {"name": "Ann", "mail": "ann@corp.example", "pin": 4711, "count": 2}


@pytest.fixture
def wardgate(gateway: Callable[..., Wardgate], server: Counting) -> Iterator[Wardgate]:
    server.offers(
        {"name": "look", "inputSchema": {"type": "object"}, "outputSchema": SCHEMA},
        {
            "name": "note",
            "inputSchema": {"type": "object"},
            "outputSchema": {"$ref": "https://evil.example/"},
        },
    )
    made = gateway()
    shipped = ROOT / "policies" / "rules" / "results" / "output_schema.rego"
    made.policy("output_schema.rego", Path(shipped).read_text())
    hide = 'obligation contains {"kind": "redact", "value": {"keys": ["mail", "pin"]}} if true'
    made.policy("hide.rego", rule("hide", hide, phase="result"))
    yield made.start()


async def look(wardgate: Wardgate, tool: str = "look", **arguments: Any) -> Any:
    async with talking(wardgate, wardgate.key()) as agent:
        return await agent.call(tool, **arguments)


async def test_what_fits_is_shown_redacted_and_still_fits_in_text_and_structure(wardgate: Wardgate) -> None:
    said = await look(wardgate, structured=GOOD, echo=json.dumps(GOOD))
    shown = said.result["structuredContent"]
    assert shown == {"name": "Ann", "mail": "redacted@redacted.invalid", "count": 2}
    jsonschema.Draft202012Validator(SCHEMA).validate(shown)
    assert json.loads(said.text) == shown
    assert b"4711" not in said.body and b"corp.example" not in said.body


async def test_what_does_not_fit_is_withheld_and_on_record_as_such(wardgate: Wardgate) -> None:
    for structured in ({**GOOD, "count": "2"}, {**GOOD, "more": 1}):
        said = await look(wardgate, structured=structured)
        assert said.reason == "result_schema_violated"
        assert "structuredContent" not in said.result
    said = await look(wardgate, echo="canary words")
    assert said.reason == "result_schema_violated"
    assert b"canary" not in said.body
    record = await wardgate.recorded(lambda record: record.get("status") == "withheld")
    end = record.get("end") or record
    assert end["result"]["code"] == "result_schema_violated"


async def test_a_schema_that_cannot_be_used_lets_nothing_through_and_is_reported(wardgate: Wardgate) -> None:
    assert (await look(wardgate, "note", structured=GOOD)).reason == "result_schema_violated"
    assert "its outputSchema cannot be used" in wardgate.log()
    assert wardgate.log().count("outputSchema cannot be used") == 1
