"""Configuration that is wrong does not start, and says which key, what, and where."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.config import expand, load
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
