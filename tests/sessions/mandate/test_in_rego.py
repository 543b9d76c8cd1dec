"""Rego says of a mandate what Python says of it: the library's rules beside ``covers`` and ``outside``."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.model import Facts
from gateway.policy import EmbeddedPolicy
from gateway.policy.library import library_path
from gateway.sessions.mandate import Mandate, covers, facts, outside, parse
from tests.policy.helpers import call, decide, policy_of, rule, tool
from tests.sessions.mandate.generated import ANY, NOW, calls, documents, some


@lru_cache
def policy() -> EmbeddedPolicy:
    rules = library_path() / "rules" / "access"
    files = {name: (rules / f"{name}.rego").read_text() for name in ("mandate_allowed", "mandate_arguments")}
    files["all"] = rule("all", 'allow contains {"code": "fine", "message": "x"}')
    files["data.yaml"] = (library_path() / "data.yaml").read_text()
    return policy_of(Path(mkdtemp()), files)


def agrees(one: Mandate, target: str, risk: Any, args: dict[str, Any]) -> None:
    wanted = set() if covers(one, target, risk) else {"outside_mandate"}
    wanted |= {
        f"{item.pointer} is not within the mandate ({item.word})" for item in outside(one, target, args)
    }
    asked = call(args, on=tool(target, risk=risk))
    for seen in (facts(one), facts(one, target)):
        decision = decide(policy(), asked, Facts(slow={"mandate": seen}))
        said = {item.message if item.code == "mandate_argument" else item.code for item in decision.findings}
        assert said == (wanted or {"fine"})


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(documents, st.lists(calls, min_size=3, max_size=6))
def test_any_call_under_any_mandate(raw: dict[str, Any], asked: list[Any]) -> None:
    one = some({"tools": ["a/*"], **raw})
    for target, risk, args in asked:
        agrees(one, target, risk, args)


NUMBERS = [0, -1, 1.5, -0.5, 2**53, 2**53 + 1, -(2**53) - 1, 2**63, 2**64 - 1, -(2**63), 1e15, 0.1 + 0.2]


@pytest.mark.parametrize(
    "bound", [{"max": 2**53}, {"min": -(2**53)}, {"max": 0.3}, {"one_of": [2**53, 1.5, 0]}]
)
def test_numbers_at_the_edge(bound: dict[str, Any]) -> None:
    one = parse({"tools": ["a/x"], "arguments": {"a/x": {"/n": bound}}}, now_ns=NOW)
    for number in NUMBERS:
        agrees(one, "a/x", "read", {"n": number})


TEXTS = [
    "",
    "é",
    "éé",
    "e\u0301",
    "👩‍💻",
    "a\nb",
    "a\n",
    "\na",
    "A",
    "a",
    "(",
    "1",
    "\u2028",
    "aé",
    "x" * 300,
]


@pytest.mark.parametrize(
    "bound",
    [
        {"pattern": "a"}, {"pattern": "a.b"}, {"pattern": "(?s)a.b"}, {"pattern": "(?i)a"},
        {"pattern": "[^a]"}, {"pattern": r"\w*"}, {"pattern": "a|"}, {"pattern": r"\Q(\E"},
        {"pattern": "(?m)^a$"}, {"pattern": r"\d"}, {"max_length": 1}, {"one_of": ["é", "", "a"]},
    ],
)  # fmt: skip
def test_texts_that_readers_like_to_read_differently(bound: dict[str, Any]) -> None:
    one = parse({"tools": ["a/x"], "arguments": {"a/x": {"/t": bound}}}, now_ns=NOW)
    for text in TEXTS:
        agrees(one, "a/x", "read", {"t": text})


@pytest.mark.parametrize(
    "pointer", ["/a/0", "/a~1b", "/~0", "/", "/a/00", "/a/-1", "/a/b/c/d", "/a/9999999999"]
)
@pytest.mark.parametrize(
    "args",
    [
        {"a": [9]}, {"a": {"0": 9}}, {"a/b": 9, "~": 9, "": 9}, {"a": {"b": {"c": {"d": 9}}}},
        {"a~1b": 1, "a/b": 9}, {"~0": 1, "~": 9}, {"a/b/c/d": 1, "a": {"b": {"c": {"d": 9}}}},
        {"a": "text"}, {"a": None}, {"a": {"00": 9, "-1": 9}}, {"a": [[9], 9]},
    ],
)  # fmt: skip
def test_pointers_reach_the_same_place(pointer: str, args: dict[str, Any]) -> None:
    for bound in ({"max": 5}, {"required": True}, {"forbidden": True}):
        one = parse({"tools": ["a/x"], "arguments": {"a/x": {pointer: bound}}}, now_ns=NOW)
        agrees(one, "a/x", "read", args)


@pytest.mark.parametrize("pattern", ["a/*", "*/x", "a/**", "**", "a/x.*", "a/*-é", "a/x+*", "a/(x|y)"])
@pytest.mark.parametrize(
    "target", ["a/x", "a/x/y", "ab/x", "a/", "a/x.y", "a/xy", "a/x-é", "a/x+y", "a/(x|y)", "a/y"]
)
def test_patterns_match_the_same_tools(pattern: str, target: str) -> None:
    agrees(parse({"tools": [pattern]}, now_ns=NOW, ceiling=ANY), target, "read", {})
