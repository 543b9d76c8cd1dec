"""The published schema of the input is what the pipeline really sends, in every kind and phase."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args

import jsonschema_rs
import msgspec
import orjson
import pytest

from gateway import pipeline
from gateway.model import Ask, Facts, Kind, Manifest, Outcome, Pin, Principal, Tool
from gateway.policy import EmbeddedPolicy, load, schema
from gateway.policy.combine import Contribution
from gateway.policy.contract import CONTRACT
from gateway.policy.embedded import EmbeddedEngine, Encode, Group
from gateway.policy.input import Sections
from gateway.policy.metadata import PHASES, Phase
from gateway.policy.module import Bundle
from tests.play import Stage
from tests.policy.helpers import rule, write

PRINCIPALS = (
    Principal(tenant="t", agent="bot", owner="team", credential="k"),
    Principal(
        tenant="t", agent="bot", owner="team", credential="k", subject="corp:user-1", chain=("root", "bot"),
        labels=("dev",), environment="production", mode="observe",
    ),
)  # fmt: skip
OUTCOMES = (
    Outcome(status="ok", result_json=b'{"content":[{"type":"text","text":"fine"}]}'),
    Outcome(status="tool_error", result_json=b'{"isError":true}'),
    Outcome(status="rpc_error", error_json=b'{"code":-1,"message":"no"}'),
    Outcome(status="input_required", result_json=b'{"resultType":"input_required"}'),
    Outcome(status="ok", result_json=b"null"),
)
FACTS = (
    Facts(),
    Facts(
        slow={"trust": {"tier": 2}, "mandate": {"tools": []}, "breaker": {"state": "closed"}},
        fast={"session": {"calls": 3}, "budget": {"left": 1}}, stale=("budget",),
    ),
)  # fmt: skip
_FINE = 'allow contains {"code": "fine"} if input.call.args.x'
_CAP = 'obligation contains {"kind": "cap", "value": {"pointer": "/x", "max": 3}}'
FILES = {
    "call": rule("call", f"{_FINE}\n\n{_CAP} if input.call.args.x > 3"),
    "result": rule("result", 'deny contains {"code": "stop"} if input.result.text == "no"', phase="result"),
    "list": rule("list", 'deny contains {"code": "stop"} if "hidden" in input.agent.labels', phase="list"),
}  # fmt: skip


class WatchedEngine(EmbeddedEngine):
    """The real engine; every input the pipeline has it encode is also encoded whole and kept."""

    def __init__(self, bundle: Bundle) -> None:
        super().__init__(bundle)
        self.inputs: list[tuple[Phase, bytes]] = []

    def ask(self, group: Group, encode: Encode) -> tuple[Sequence[Contribution], int]:
        phase = group.modules[0].custom.phase
        whole = Sections(path for path, field in CONTRACT.items() if phase in field.phases)
        self.inputs.append((phase, encode(whole)))
        return super().ask(group, encode)


class Watched(EmbeddedPolicy):
    def __init__(self, bundle: Bundle) -> None:
        super().__init__(bundle)
        self._engine = engine = WatchedEngine(bundle)
        self.inputs = engine.inputs


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[Phase, Kind, dict[str, Any]]]:
    folder = write(tmp_path_factory.mktemp("policy"), FILES)
    found = []
    for kind in get_args(Kind):
        policy = Watched(load(folder).bundle)
        asyncio.run(_every(policy, kind))
        found += [(phase, kind, orjson.loads(each)) for phase, each in policy.inputs]
    return found


async def _every(policy: EmbeddedPolicy, kind: Kind) -> None:
    """Calls of one kind through the real pipeline, with every outcome, principal and set of facts."""
    for principal in PRINCIPALS:
        for outcome in OUTCOMES:
            for facts in FACTS:
                tool = Tool(
                    kind=kind, upstream="up", name="act", target="up/act", schema_hash="h",
                    manifest=Manifest(risk="read", effects=("egress",), extra={"undo": "x"}),
                    pin=Pin(state="changed", flags=("suspicious",)),
                )  # fmt: skip
                stage = Stage(tool=tool, outcome=outcome, facts=facts)
                parts = msgspec.structs.replace(stage.parts(), policy=policy)
                for x in (1, 9):
                    await pipeline.call(parts, Ask(
                        principal=principal, surface="mcp", kind=kind, upstream="up", name="act",
                        args={"x": x}, session="s",
                    ))  # fmt: skip


def test_every_phase_and_every_kind_was_asked_about(inputs: Any) -> None:
    assert {(phase, kind) for phase, kind, _ in inputs} == {(p, k) for p in PHASES for k in get_args(Kind)}


@pytest.mark.parametrize("phase", PHASES)
def test_what_is_sent_fits_the_schema_of_its_phase_and_the_published_one(inputs: Any, phase: Phase) -> None:
    published = jsonschema_rs.validator_for(schema.published())
    own = jsonschema_rs.validator_for(schema.of(phase))
    checked = 0
    for asked, _, each in inputs:
        if asked == phase:
            assert not list(own.iter_errors(each)), each
            assert not list(published.iter_errors(each)), each
            checked += 1
    assert checked >= 8


def test_every_path_of_the_table_is_really_sent_at_least_once(inputs: Any) -> None:
    """Otherwise a rule could read a path that the schema promises and nobody fills."""
    unseen = {path for path in CONTRACT if not any(_has(each, path) for _, _, each in inputs)}
    assert unseen == {("approval",)}  # known only when a call is decided again with an approval


def _has(value: Any, path: tuple[str, ...]) -> bool:
    for part in path:
        if not isinstance(value, dict) or part not in value:
            return False
        value = value[part]
    return True


def test_a_path_that_is_not_in_the_table_does_not_fit(inputs: Any) -> None:
    validator = jsonschema_rs.validator_for(schema.published())
    _, _, each = inputs[0]
    assert validator.is_valid(each)
    for broken in ({**each, "extra": 1}, {**each, "tool": {**each["tool"], "risk": "mild"}},
                   {**each, "agent": {**each["agent"], "labels": "dev"}}):  # fmt: skip
        assert not validator.is_valid(broken)


def test_the_schema_is_a_valid_schema_and_is_committed() -> None:
    published = json.loads(json.dumps(schema.published()))
    jsonschema_rs.meta.validate(published)
    file = Path(__file__).parents[2] / "docs" / "reference" / "policy-input.json"
    assert json.loads(file.read_text()) == published
