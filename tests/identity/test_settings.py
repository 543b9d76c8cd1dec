"""Identity settings that are weak, or contradict each other, do not start and say why."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from gateway.config import load
from gateway.errors import ConfigError

ISSUER = {"issuer": "https://login.example.com", "audience": ["https://gw.example.com/mcp"], "agent": "bot"}
PROXY = {"networks": ["10.0.0.1/32"], "subjects": {"spiffe://corp/bot": "bot"}}


def write(folder: Path, issuer: dict | None = None, **more) -> Path:
    identity = more.pop("identity", {})
    if issuer is not None:
        identity = {**identity, "issuers": {"corp": {**ISSUER, **issuer}}}
    agents = {"bot": {"owner": "x"}, "foreign": {"owner": "x", "tenant": "other"}}
    path = folder / "wardgate.yaml"
    path.write_text(yaml.safe_dump({"agents": agents, "identity": identity, **more}))
    return path


@pytest.mark.parametrize(
    ("issuer", "says"),
    [
        ({"issuer": "http://login.example.com"}, "must be https"),
        ({"issuer": "ftp://127.0.0.1"}, "must be https"),
        ({"issuer": "login.example.com"}, "not a URL"),
        ({"issuer": "https://user:pass@login.example.com"}, "no user"),
        ({"issuer": "https://login.example.com/?x=1"}, "query"),
        ({"issuer": "https://login.example.com#x"}, "fragment"),
        ({"issuer": "https://login.example.com:99999"}, "not a URL"),
        ({"issuer": "https://login.example .com"}, "not a URL"),
        ({"jwks_url": "http://keys.example.com"}, "must be https"),
        ({"jwks_url": "https://keys.example.com", "jwks_file": "x"}, "at most one"),
        ({"audience": []}, "audience"),
        ({"audience": [""]}, "audience"),
        ({"algorithms": []}, "algorithms"),
        ({"algorithms": ["none"]}, "algorithms"),
        ({"algorithms": ["HS512"]}, "algorithms"),
        ({"algorithms": ["HS256"]}, "HS256 needs 'secret'"),
        ({"algorithms": ["HS256", "RS256"], "secret": "x" * 40}, "cannot be mixed"),
        ({"secret": "x" * 40}, "'secret' needs HS256"),
        ({"algorithms": ["HS256"], "secret": "x" * 31}, "at least 32 bytes"),
        ({"algorithms": ["HS256"], "secret": "${WG_TEST_NOT_SET}"}, "WG_TEST_NOT_SET is not set"),
        ({"agent": None}, "exactly one of 'agent' and 'agent_claim'"),
        ({"agent_claim": "azp"}, "exactly one of 'agent' and 'agent_claim'"),
        ({"agents": {"c": "bot"}}, "'agents' needs 'agent_claim'"),
        ({"agent": "nobody"}, "no agent 'nobody'"),
        ({"agent": "foreign"}, "another tenant"),
        ({"agent": None, "agent_claim": "azp", "agents": {"c": "nobody"}}, "no agent 'nobody'"),
        ({"step_up": True}, "'step_up' needs 'required_scopes'"),
        ({"required_scopes": ['a"b']}, "required_scopes"),
        ({"required_scopes": ["a b"]}, "required_scopes"),
        ({"leeway_s": 301}, "leeway_s"),
        ({"max_age_s": 0}, "max_age_s"),
        ({"stale": 1}, "stale"),
    ],
)
def test_an_issuer_that_is_weak_or_unclear_is_refused_with_its_key(tmp_path, issuer, says):
    with pytest.raises(ConfigError) as refused:
        load(write(tmp_path, issuer))
    assert says in str(refused.value) and "identity" in str(refused.value)


@pytest.mark.parametrize(
    ("proxy", "says"),
    [
        ({"networks": ["0.0.0.0/0"]}, "everybody"),
        ({"networks": ["::/0"]}, "everybody"),
        ({"networks": ["10.0.0.1/8"]}, "host bits"),
        ({"networks": ["proxy.local"]}, "networks"),
        ({"networks": []}, "both 'networks' and 'subjects'"),
        ({"subjects": {}}, "both 'networks' and 'subjects'"),
        ({"subjects": {"x": "nobody"}}, "no agent 'nobody'"),
        ({"header": "authorization"}, "headers of their own"),
        ({"secret_header": "x-forwarded-client-cert"}, "headers of their own"),
        ({"header": "X-Client"}, "header"),
        ({"secret": "short"}, "at least 32 bytes"),
    ],
)
def test_a_proxy_that_anybody_could_be_is_refused(tmp_path, proxy, says):
    with pytest.raises(ConfigError) as refused:
        load(write(tmp_path, identity={"proxy": {**PROXY, **proxy}}))
    assert says in str(refused.value)


def test_two_issuers_whose_users_could_be_mistaken_are_refused(tmp_path):
    two = {"a": ISSUER, "b": ISSUER}
    with pytest.raises(ConfigError, match="the same issuer"):
        load(write(tmp_path, identity={"issuers": two}))
    other = {**ISSUER, "issuer": "https://other.example.com", "subject_prefix": "a:"}
    with pytest.raises(ConfigError, match="the same subject_prefix"):
        load(write(tmp_path, identity={"issuers": {"a": ISSUER, "b": other}}))


@pytest.mark.parametrize(
    "url", ["http://gw.example.com", "gw.example.com", "https://gw.example.com/?a", "https://g w"]
)
def test_the_public_url_is_a_plain_https_url(tmp_path, url):
    with pytest.raises(ConfigError, match="public_url"):
        load(write(tmp_path, server={"public_url": url}))


def test_metadata_needs_to_know_where_the_gateway_is(tmp_path):
    with pytest.raises(ConfigError, match=r"identity.metadata needs server.public_url"):
        load(write(tmp_path, {}, identity={"metadata": True}))


def test_what_is_right_is_accepted_and_paths_are_relative_to_the_file(tmp_path, monkeypatch):
    monkeypatch.setenv("WG_TEST_SECRET", "x" * 32)
    config = load(
        write(
            tmp_path,
            {"issuer": "http://127.0.0.1:8080/realms/x", "jwks_file": "keys/jwks.json"},
            identity={"proxy": {**PROXY, "secret": "${WG_TEST_SECRET}"}, "metadata": True},
            server={"public_url": "https://gw.example.com/base/"},
        )
    )
    issuer = config.identity.issuers["corp"]
    assert issuer.jwks_file == tmp_path / "keys" / "jwks.json"
    assert config.server.public_url == "https://gw.example.com/base"
    assert "x" * 32 not in config.model_dump_json(), "the secret itself stays in the environment"
