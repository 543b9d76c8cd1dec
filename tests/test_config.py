"""Configuration that is wrong does not start, and says which key, what, and where."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from gateway.config import expand, load
from gateway.config_sessions import offers_tool
from gateway.errors import ConfigError


def write(folder: Path, text: str) -> Path:
    path = folder / "wardgate.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def problem(folder: Path, text: str) -> str:
    with pytest.raises(ConfigError) as refused:
        load(write(folder, text))
    return str(refused.value)


def test_an_empty_file_is_the_defaults_and_they_enforce(tmp_path):
    config = load(write(tmp_path, ""))
    assert config.mode == "enforce"
    assert config.server.host == "127.0.0.1" and config.server.admin_host == "127.0.0.1"
    assert not config.agents and not config.upstreams


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("modes: observe", "modes"),
        ("mode: permissive", "mode"),
        ("server: {port: 70000}", "server.port"),
        ("server: {max_depth: 1000}", "server.max_depth"),
        ("upstreams: {git: {}}", "exactly one of 'url', 'command', 'python' and 'elsewhere: true'"),
        ("upstreams: {git: {url: 'http://x/', command: [x]}}", "exactly one of"),
        ("upstreams: {git: {url: 'file:///etc/passwd'}}", "http:// or https://"),
        ("upstreams: {git: {command: []}}", "empty"),
        ("upstreams: {'Git Server': {url: 'http://x/'}}", "upstreams"),
        ("upstreams: {git: {url: 'http://x/', tools: {a: {risk: low}}}}", "upstreams.git.tools.a.risk"),
        ("upstreams: {git: {url: 'http://x/', tools: {a: {sensitive: [iban]}}}}", "JSON pointer"),
        ("upstreams: {git: {url: 'http://x/', tools: {a: {cost_micro_usd: -1}}}}", "cost_micro_usd"),
        ("agents: {bot: {}}", "agents.bot.owner"),
        ("telemetry: {sample: 2}", "telemetry.sample"),
        ("- a list", "mapping"),
        ("a: [", "not valid YAML"),
    ],
)
def test_a_problem_is_named_with_its_key(tmp_path, text, names):
    message = problem(tmp_path, text)
    assert names in message and "wardgate.yaml" in message


def test_all_problems_are_named_at_once(tmp_path):
    message = problem(tmp_path, "mode: x\nserver: {port: -1}\n")
    assert "mode" in message and "server.port" in message


def test_a_missing_file_says_how_to_make_one(tmp_path):
    with pytest.raises(ConfigError, match="wardgate init"):
        load(tmp_path / "none.yaml")


def test_a_secret_that_is_not_in_the_environment_is_never_an_empty_one(tmp_path, monkeypatch):
    text = "upstreams: {git: {url: 'http://x/', headers: {authorization: 'Bearer ${WG_TEST_TOKEN}'}}}"
    monkeypatch.delenv("WG_TEST_TOKEN", raising=False)
    assert "WG_TEST_TOKEN" in problem(tmp_path, text)
    monkeypatch.setenv("WG_TEST_TOKEN", "s3cret")
    config = load(write(tmp_path, text))
    assert config.upstreams["git"].headers["authorization"] == "Bearer ${WG_TEST_TOKEN}"
    assert expand(config.upstreams["git"].headers["authorization"], "x") == "Bearer s3cret"


def test_paths_are_relative_to_the_file_and_not_to_the_working_directory(tmp_path, monkeypatch):
    monkeypatch.chdir("/")
    config = load(write(tmp_path, "storage: {key_file: k}\nupstreams: {a: {command: [x], cwd: work}}"))
    assert config.storage.path == tmp_path / "wardgate.db"
    assert config.storage.key_file == tmp_path / "k"
    assert config.policy.path == tmp_path / "policies"
    assert config.upstreams["a"].cwd == tmp_path / "work"


@pytest.mark.parametrize(
    ("policy", "said"),
    [
        ({"engine": "opa"}, "needs 'opa.url' or 'opa.socket'"),
        ({"opa": {"socket": "opa.sock"}}, "does nothing without 'engine: opa'"),
        ({"engine": "opa", "opa": {"socket": "a", "url": "http://127.0.0.1:1"}}, "only one of 'url'"),
        ({"engine": "opa", "opa": {"url": "http://opa.example:8181"}}, "https, or http on loopback"),
        ({"engine": "opa", "opa": {"socket": "a", "ca_file": "b"}}, "for an https 'url'"),
        ({"engine": "opa", "opa": {"socket": "a", "deadline_ms": 0}}, "deadline_ms"),
        ({"engine": "opa", "opa": {"socket": "a", "token_file": "b", "token_env": "C"}}, "of 'token_file'"),
        ({"engine": "opa", "opa": {"socket": "a", "token_env": "NOT_THERE_AT_ALL"}}, "NOT_THERE_AT_ALL"),
        ({"engine": "opa", "opa": {"socket": "a", "retries": 2}}, "retries"),
    ],
)
def test_an_opa_that_is_half_configured_is_refused(tmp_path: Path, policy: object, said: str) -> None:
    path = tmp_path / "wardgate.yaml"
    path.write_text(json.dumps({"policy": policy}))
    with pytest.raises(ConfigError, match=re.escape(said)):
        load(path)


@pytest.mark.parametrize(
    ("document", "said"),
    [
        ({"tenants": {"nobody": {"budgets": {"calls": {"limit": 1}}}}}, "nobody: no agent belongs to it"),
        (
            {"agents": {"a": {"owner": "o", "mints": {"agents": ["b"]}}}},
            "agents.a.mints: there is no agent",
        ),
        (
            {"agents": {"a": {"owner": "o", "mints": {"agents": ["b"]}}, "b": {"owner": "o", "tenant": "x"}}},
            "agents.a.mints: agent 'b' belongs to another tenant",
        ),
        ({"upstreams": {"wardgate": {"elsewhere": True}}}, "this name is the gateway's own"),
        (
            {"agents": {"a": {"owner": "o", "budgets": {"calls": {"limit": -1}}}}},
            "agents.a.budgets.calls.limit",
        ),
        ({"agents": {"a": {"owner": "o", "budgets": {"calls": {"limit": 2**60}}}}}, "budgets.calls.limit"),
        ({"agents": {"a": {"owner": "o", "budgets": {"tokens": {"limit": 1}}}}}, "agents.a.budgets.tokens"),
        (
            {"agents": {"a": {"owner": "o", "mandate": {"tools": ["**"]}}}},
            "covers tools that nobody has named",
        ),
    ],
)
def test_bounds_of_nobody_or_that_bound_nothing_are_refused(
    tmp_path: Path, document: object, said: str
) -> None:
    path = tmp_path / "wardgate.yaml"
    path.write_text(json.dumps(document))
    with pytest.raises(ConfigError, match=re.escape(said)):
        load(path)


def test_the_gateways_own_tool_is_there_where_something_is_delegated(tmp_path: Path) -> None:
    path = tmp_path / "wardgate.yaml"
    bounded = {"agents": {"a": {"owner": "o", "budgets": {"calls": {"limit": 9}}}}}
    for document, offered in (
        ({"agents": {"a": {"owner": "o"}}}, False),
        (bounded, True),
        ({"agents": {"a": {"owner": "o", "mandate": {"tools": ["u/*"]}}}}, True),
        ({"agents": {"a": {"owner": "o", "mints": {}}}}, True),
        ({**bounded, "sessions": {"tool": False}}, False),
        ({"sessions": {"tool": True}}, True),
    ):
        path.write_text(json.dumps(document))
        assert offers_tool(load(path)) is offered, document
