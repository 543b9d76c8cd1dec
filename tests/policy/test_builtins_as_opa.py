"""Built-ins that replace the engine's own answer as a real OPA does, on texts chosen to part them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import httpx
import orjson
import pytest

from gateway.policy.engine import new_engine
from gateway.policy.module import Module
from gateway.policy.numbers import whole
from gateway.policy.opa_modules import moved
from gateway.policy.syntax import read
from tests.policy.opa_server import opa
from tests.requires import requires

TEXTS = [
    "", "a", "ABC", "é", "e\u0301", "🥲", "a🥲b", "İΣ", "ΑΣ", "ß", "ŉᾳ", "\u00a0x\u2003", "a.b.c", "a/b",
    "1.5", " 12", "1e3", "٣", "a\x00b", "\n\t x\r", "aaa", '"\\', "\x7f\u200b",
]  # fmt: skip
PATTERNS = [
    *TEXTS, "*", "?*", "[a-c]*", "{a,🥲}", "**", "a*b", "(a)(b)?", r"\d+", ".", r"\b", "(?i)ss", "^$",
    "x*", "a{2}", r"\*",
]  # fmt: skip
VALUES = [
    *TEXTS, 1, 0.1, 2.5, 1e-7, 5e-324, 123456789.123, 1234567.5, 0.0001, -0.5, 50_000_000.0, 2**53, 2**63,
    -(2**63), True, None, [1, "a", 2.5], {"b": [None], "a": {}}, [], {},
]  # fmt: skip

ONE = ["lower(a)", "upper(a)", "to_number(a)"]
TWO = ["indexof(a, b)", 'strings.replace_n({b: "-", "a": "b"}, a)']
WITH_PATTERN = [
    'glob.match(b, ["/"], a)', 'glob.match(b, ["."], a)', "regex.match(b, a)", "regex.split(b, a)",
    "regex.find_n(b, a, -1)", "regex.find_n(b, a, 2)", 'regex.replace(a, b, "-")',
    "regex.find_all_string_submatch_n(b, a, -1)",
]  # fmt: skip


class Both:
    def __init__(self, client: httpx.Client) -> None:
        self._client = client

    def answers(self, expression: str, inputs: list[dict[str, Any]]) -> Iterator[tuple[Any, Any, Any]]:
        """The input, what OPA says and what the embedded engine says; ``"error"`` for an error."""
        text = f"package t\nimport rego.v1\nr := {expression}\n"
        engine = new_engine()
        engine.add_policy("t.rego", text)
        assert self._client.put("/v1/policies/t", content=text).status_code == 200
        for given in inputs:
            raw = orjson.dumps(given)
            body = b'{"input":' + whole(raw) + b"}"
            said = self._client.post("/v1/data/t/r?strict-builtin-errors=true", content=body)
            theirs = said.json().get("result", "error") if said.status_code == 200 else "error"
            engine.set_input_json(raw.decode())
            try:
                ours = json.loads(engine.eval_rule_as_json("data.t.r"))
            except RuntimeError:
                ours = "error"
            yield given, theirs, ours


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Both]:
    with (
        opa(tmp_path_factory.mktemp("opa")) as server,
        httpx.Client(transport=httpx.HTTPTransport(uds=str(server.socket)), base_url="http://opa") as client,
    ):
        yield Both(client)


def differences(both: Both, expression: str, inputs: list[dict[str, Any]]) -> list[Any]:
    expression = expression.replace("(a", "(input.a").replace("(b", "(input.b").replace(" a)", " input.a)")
    expression = (
        expression.replace(" b)", " input.b)").replace(" a,", " input.a,").replace(" b,", " input.b,")
    )
    expression = expression.replace("{b:", "{input.b:")
    return [found for found in both.answers(expression, inputs) if found[1] != found[2]]


@requires("opa")
@pytest.mark.parametrize("expression", ONE)
def test_of_one_text(both: Both, expression: str) -> None:
    assert differences(both, expression, [{"a": text} for text in TEXTS]) == []


@requires("opa")
@pytest.mark.parametrize("expression", TWO)
def test_of_two_texts(both: Both, expression: str) -> None:
    inputs = [{"a": a, "b": b} for a in TEXTS for b in TEXTS if b not in ("", "a") or "indexof" in expression]
    assert differences(both, expression, inputs) == []


@requires("opa")
@pytest.mark.parametrize("expression", WITH_PATTERN)
def test_of_a_text_and_a_pattern(both: Both, expression: str) -> None:
    assert differences(both, expression, [{"a": a, "b": b} for a in TEXTS for b in PATTERNS]) == []


@requires("opa")
@pytest.mark.parametrize("template", ["%v", "%s", "%d", "%q", "%t", "a%%b %v", "%v %v", "none"])
def test_of_sprintf(both: Both, template: str) -> None:
    assert differences(both, f'sprintf("{template}", [input.a])', [{"a": value} for value in VALUES]) == []


@requires("opa")
def test_of_every_character_in_a_quoted_text(both: Both) -> None:
    """Which characters are printable is a question of the Unicode version."""
    points = [point for point in range(0x32400) if not 0xD800 <= point < 0xE000]
    inputs = [{"a": ["".join(map(chr, points[at : at + 2000]))]} for at in range(0, len(points), 2000)]
    assert differences(both, 'sprintf("%v", [input.a])', inputs) == []


def test_only_references_are_moved_to_another_root() -> None:
    text = """# data.x and input.y in a comment, é
package wardgate.rules.a

import data.limits.x as input_x
import input.call.args as args

deny contains {"code": "data.x", "input": `input.y`} if {
	some k, v in input.call.args["data"]
	some w in data.list[input.tool["na]me"]].all
	some u in [1, 2]
	v == input_x; args.data.input
}
"""
    engine = new_engine()
    engine.add_policy("a.rego", text)
    tree = orjson.loads(engine.get_ast_as_json())[0]
    module = Module(file="a.rego", name="a.rego", text=text, role="rule", syntax=read(tree))
    given, each = "data.r.wardgate.entry.given", "data.r.wardgate.entry.each"
    assert (
        moved(module, "r")
        == f"""# data.x and input.y in a comment, é
package r.wardgate.rules.a

import data.r.limits.x as input_x
import {given}.call.args as args

deny contains {{"code": "data.x", "input": `input.y`}} if {{
	some k, v in {each}({given}.call.args["data"])
	some w in {each}(data.r.list[{given}.tool["na]me"]].all)
	some u in [1, 2]
	v == input_x; args.data.input
}}
"""
    )
