"""A verifier that cannot be meant is refused when the configuration is read, with what to write instead."""

from __future__ import annotations

import json
from typing import Any

import pytest
from pydantic import ValidationError

from gateway.catalog.manifests import Manifests
from gateway.config import load
from gateway.config_upstream import UpstreamConfig
from gateway.errors import ConfigError
from gateway.model import Reconcile, Verify

READ = {"risk": "read"}


def upstream(tools: dict[str, Any], **more: Any) -> UpstreamConfig:
    return UpstreamConfig.model_validate({"url": "https://tools.example/mcp", "tools": tools, **more})


def writing(**verify: Any) -> dict[str, Any]:
    return {"risk": "reversible", "verify": {"tool": "get", "match": {"/a": 1}, **verify}}


@pytest.mark.parametrize(
    ("tools", "more", "said"),
    [
        ({"put": writing(), "get": {"risk": "irreversible"}}, {}, "'get' is irreversible; only a read"),
        ({"put": writing(), "g*": {"risk": "reversible"}}, {}, "'get' is reversible; only a read may verify"),
        ({"put": writing(), "g*": READ, "ge*": {"risk": "reversible"}}, {}, "'get' is reversible"),
        ({"put": writing()}, {}, "describe 'get' with 'risk: read'"),
        ({"put": writing(), "get": {}}, {}, "describe 'get' with 'risk: read'"),
        ({"put": {**writing(), "risk": "read"}, "get": READ}, {}, "a read has no effect to verify"),
        ({"put": writing(), "get": READ}, {"url": None, "elsewhere": True}, "run elsewhere cannot be asked"),
        ({"put": writing(match={}), "get": READ}, {}, "nothing is verified"),
        ({"put": writing(match={"a": 1}), "get": READ}, {}, "no JSON pointer"),
        ({"put": writing(match={"/a": "{argument.x}"}), "get": READ}, {}, "templates are"),
        ({"put": writing(after_s=60), "get": READ}, {}, "no read would be made"),
        ({"put": writing(attempts=0), "get": READ}, {}, "attempts"),
        ({"put": writing(retry=1), "get": READ}, {}, "retry"),
    ],
)  # fmt: skip
def test_what_cannot_verify_is_refused(tools: Any, more: Any, said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        upstream(tools, **more)


@pytest.mark.parametrize("tools", [{"get": READ}, {"g*": READ}, {"*": {"risk": "irreversible"}, "g*": READ}])
def test_a_read_may_verify_however_it_is_described(tools: Any) -> None:
    assert upstream({"put": writing(), **tools}).tools["put"].verify is not None


def test_where_hints_are_believed_the_catalog_decides_what_is_a_read() -> None:
    assert upstream({"put": writing()}, trust_hints=True).tools["put"].verify is not None


def test_the_manifest_of_a_tool_says_how_it_is_verified() -> None:
    said = writing(arguments={"id": "{arguments.id}"}, after_s=0.5, attempts=2, within_s=10)
    manifests = Manifests(upstream({"put*": said, "get": READ}))
    assert manifests.of("tool", "put_it").verify == Verify(
        tool="get",
        arguments={"id": "{arguments.id}"},
        match={"/a": 1},
        after_s=0.5,
        attempts=2,
        within_s=10.0,
    )
    assert manifests.of("tool", "get").verify is None
    assert manifests.of("prompt", "put_it").verify is None


FOUND = {"tool": "get", "done": {"/a": 1}}


@pytest.mark.parametrize(
    ("reconcile", "at", "said"),
    [
        ({"tool": "add"}, "reconcile", "'add' is reversible; only a read may reconcile"),
        ({"tool": "nowhere"}, "reconcile", "describe 'nowhere' with 'risk: read'"),
        ({"done": {"/a": "{result.id}"}}, "done", "no result"),
        ({"not_done": {"/a": 1}}, "reconcile", "are the same"),
        ({"done": {}}, "reconcile", "'done' says what the read returns"),
        ({"late_s": -1}, "late_s", "greater than or equal to 0"),
        ({"often": 1}, "often", "Extra inputs"),
    ],
)
def test_a_reconcile_that_cannot_be_meant_is_refused_with_file_and_line(tmp_path, reconcile, at, said):
    tools = {
        "put": {"risk": "irreversible", "reconcile": {**FOUND, **reconcile}},
        "add": {"risk": "reversible"}, "get": READ,
    }  # fmt: skip
    upstreams = {"files": {"url": "https://tools.example/mcp", "tools": tools}}
    document = {"storage": {"key_file": "k"}, "upstreams": upstreams}
    path = tmp_path / "wardgate.yaml"
    path.write_text(json.dumps(document, indent=1))  # JSON is YAML
    line = next(n for n, text in enumerate(path.read_text().splitlines(), 1) if f'"{at}"' in text)
    with pytest.raises(ConfigError) as refused:
        load(path)
    assert f"wardgate.yaml:{line}: upstreams.files" in str(refused.value), refused.value
    assert said in str(refused.value)


def test_a_reconcile_reaches_the_manifest_of_its_tool():
    tools = {"put": {"risk": "irreversible", "reconcile": FOUND}, "get": READ}
    manifest = Manifests(upstream(tools)).of("tool", "put")
    assert manifest.reconcile == Reconcile(tool="get", done={"/a": 1})
