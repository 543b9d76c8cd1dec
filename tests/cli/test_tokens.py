"""``wardgate tokens``: it says what the gateway would, and never repeats a token."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.cli.running import WARDGATE, wardgate, wardgate_json
from tests.identity.issuing import AUDIENCE, KEY, OTHER


@pytest.fixture
def config(tmp_path: Path) -> Iterator[Path]:
    (tmp_path / "jwks.json").write_text(json.dumps({"keys": [KEY.jwk]}))
    issuer = {
        "issuer": "https://login.example.com", "audience": [AUDIENCE], "jwks_file": "jwks.json",
        "agent_claim": "azp", "agents": {"client-7": "bot"}, "required_scopes": ["call"],
    }  # fmt: skip
    path = tmp_path / "wardgate.yaml"
    agents = {"bot": {"owner": "ada@example.com"}, "other": {"owner": "ada@example.com"}}
    path.write_text(yaml.safe_dump({"agents": agents, "identity": {"issuers": {"corp": issuer}}}))
    yield path


def token(folder: Path, key: Any = KEY, **claims: Any) -> Path:
    now = int(time.time())
    usual = {
        "iss": "https://login.example.com", "aud": AUDIENCE, "sub": "user-1", "azp": "client-7", "iat": now,
        "exp": now + 300, "jti": "t1", "scope": "call",
    }  # fmt: skip
    path = folder / "token"
    path.write_text(key.sign({**usual, **claims}) + "\n")
    return path


def inspected(config: Path, file: Path) -> tuple[int, dict[str, Any], str]:
    done = wardgate("tokens", "inspect", file, "--config", config, "--json")
    text = wardgate("tokens", "inspect", file, "--config", config)
    for part in file.read_text().strip().split("."):
        assert part not in done.stdout + done.stderr + text.stdout + text.stderr
    assert done.returncode == text.returncode
    return done.returncode, json.loads(done.stdout), text.stdout


def test_a_good_token_is_shown_with_what_it_stands_for(config: Path) -> None:
    code, said, text = inspected(config, token(config.parent))
    assert (code, said["code"], said["agent"], said["subject"]) == (0, "", "bot", "corp:user-1")
    assert said["keys"] == "1 usable" and said["header"]["kid"] == "k1"
    assert "accepted as agent 'bot'" in text and "user-1" in text


@pytest.mark.parametrize(
    ("change", "code", "detail"),
    [
        ({"aud": "https://other.example"}, "wrong_audience", "aud"),
        ({"iss": "https://evil.example"}, "wrong_issuer", "evil.example"),
        ({"exp": 1_700_000_000}, "expired_credential", "exp was"),
        ({"azp": "client-8"}, "unknown_agent", "client-8"),
        ({"scope": "read"}, "insufficient_scope", "lacks call"),
        ({"key": OTHER}, "bad_credential", "kid 'k2'"),
    ],
)
def test_a_refused_token_is_told_exactly_why(
    config: Path, change: dict[str, Any], code: str, detail: str
) -> None:
    exit_code, said, text = inspected(config, token(config.parent, **change))
    assert (exit_code, said["code"]) == (1, code)
    assert detail in said["detail"] and code in text and "→" in text


def test_a_token_on_stdin_is_read_and_one_on_the_command_line_is_not_taken(config: Path) -> None:
    raw = token(config.parent).read_text()
    arguments = [*WARDGATE, "tokens", "inspect", "--config", str(config), "--json"]
    done = subprocess.run(arguments, input="Bearer " + raw, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0 and json.loads(done.stdout)["agent"] == "bot"
    done = wardgate("tokens", "inspect", raw.strip(), "--config", config)
    assert done.returncode == 3 and raw.strip()[:20] not in done.stderr


def test_what_is_no_token_is_said_to_be_none(config: Path) -> None:
    file = config.parent / "token"
    for text in ("", "hello", "a.b.c", "x" * 40_000, "\x00\xff"):
        file.write_text(text)
        done = wardgate("tokens", "inspect", file, "--config", config, "--json")
        assert done.returncode == 1 and json.loads(done.stdout)["code"] == "bad_credential", text[:20]


def test_revocations_are_made_listed_and_taken_back(config: Path) -> None:
    file = token(config.parent)
    made = wardgate_json(
        "tokens", "revoke", "--issuer", "corp", "--jti", "t1", "--note", "leaked", "--config", config
    )
    assert (made["kind"], made["issuer"], made["value"], made["issued_before"]) == (
        "token",
        "corp",
        "t1",
        None,
    )
    assert inspected(config, file)[1]["code"] == "revoked_credential"
    [listed] = wardgate_json("tokens", "list", "--config", config)
    assert listed["id"] == made["id"] and listed["note"] == "leaked"
    assert wardgate("tokens", "restore", made["id"], "--config", config).returncode == 0
    assert wardgate_json("tokens", "list", "--config", config) == []
    [lifted] = wardgate_json("tokens", "list", "--all", "--config", config)
    assert lifted["state"] == "lifted"
    assert inspected(config, file)[0] == 0
    before = wardgate_json("tokens", "revoke", "--agent", "bot", "--config", config)
    assert before["issued_before"] is not None
    assert inspected(config, file)[1]["code"] == "revoked_credential"
    later = token(config.parent, iat=int(time.time()) + 2)
    assert inspected(config, later)[0] == 0
    wardgate_json("tokens", "revoke", "--issuer", "corp", "--subject", "user-1", "--config", config)
    assert inspected(config, later)[1]["code"] == "revoked_credential"


@pytest.mark.parametrize(
    ("arguments", "code", "sentence"),
    [
        (("revoke",), 2, "give exactly one of --jti, --subject and --agent"),
        (("revoke", "--jti", "a", "--agent", "bot"), 2, "exactly one"),
        (("revoke", "--jti", "a"), 3, "give --issuer (there is: corp)"),
        (("revoke", "--subject", "a", "--issuer", "nobody"), 3, "give --issuer"),
        (("revoke", "--agent", "nobody"), 3, "has no agent 'nobody'"),
        (("revoke", "--agent", "bot", "--issuer", "corp"), 2, "leave --issuer out"),
        (("revoke", "--agent", "bot", "--issued-before", "soon"), 2, "'soon' is not a time"),
        (
            ("revoke", "--jti", "a", "--issuer", "corp", "--issued-before", "2026-01-01"),
            2,
            "does not go with --jti",
        ),
        (("restore", "nothing"), 3, "no revocation 'nothing'"),
        (("inspect", "/nowhere"), 3, "/nowhere"),
    ],
)
def test_mistakes_are_one_sentence_and_never_a_traceback(
    config: Path, arguments: tuple[str, ...], code: int, sentence: str
) -> None:
    done = wardgate("tokens", *arguments, "--config", config)
    assert (done.returncode, "Traceback" in done.stderr) == (code, False), done.stderr
    assert sentence in done.stderr
