"""``wardgate assertion``: keys that only the gateway reads, published before they sign."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cli.running import wardgate, wardgate_json


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "wardgate.yaml"
    path.write_text("assertion: {key_file: keys.json}\n")
    return path


def test_the_private_half_is_in_the_file_alone(config: Path) -> None:
    said = [wardgate("assertion", "new", "--config", config)]
    said += [wardgate("assertion", name, "--config", config) for name in ("list", "jwks", "rotate", "list")]
    assert [each.returncode for each in said] == [0] * 5
    stored = json.loads((config.parent / "keys.json").read_text())["keys"]
    assert len(stored) == 2
    for key in stored:
        assert not [each for each in said if key["d"] in each.stdout + each.stderr]


def test_a_rotated_key_is_published_at_once_and_signs_later(config: Path) -> None:
    first = wardgate_json("assertion", "new", "--config", config)["kid"]
    second = wardgate_json("assertion", "rotate", "--config", config)["kid"]
    listed = wardgate_json("assertion", "list", "--config", config)
    assert [(key["kid"], key["state"]) for key in listed] == [(first, "signs"), (second, "next")]
    published = json.loads(wardgate("assertion", "jwks", "--config", config).stdout)["keys"]
    assert [key["kid"] for key in published] == [first, second]


def test_taking_back_the_only_key_makes_another(config: Path) -> None:
    first = wardgate_json("assertion", "new", "--config", config)["kid"]
    assert wardgate("assertion", "revoke", first, "--config", config).returncode == 0
    [left] = wardgate_json("assertion", "list", "--config", config)
    assert left["kid"] != first and left["state"] == "signs"


@pytest.mark.parametrize(
    ("command", "code", "says"),
    [
        (["rotate"], 2, "assertion new"),
        (["list"], 2, "assertion new"),
        (["rotate", "--lead", "soon"], 2, "length of time"),
        (["revoke", "nobody"], 3, "no key 'nobody'"),
    ],
)
def test_what_cannot_be_done_says_what_can(config: Path, command: list[str], code: int, says: str) -> None:
    if command != ["rotate"] and command != ["list"]:
        wardgate("assertion", "new", "--config", config)
    done = wardgate("assertion", *command, "--config", config)
    assert done.returncode == code and says in done.stderr


def test_without_a_file_for_keys_it_says_which_setting_is_missing(tmp_path: Path) -> None:
    path = tmp_path / "wardgate.yaml"
    path.write_text("mode: enforce\n")
    done = wardgate("assertion", "new", "--config", path)
    assert done.returncode == 3 and "key_file" in done.stderr


def test_too_many_keys_are_not_written(config: Path) -> None:
    wardgate("assertion", "new", "--config", config)
    results = [wardgate("assertion", "rotate", "--config", config) for _ in range(16)]
    assert results[-1].returncode == 2
    assert wardgate("assertion", "list", "--config", config).returncode == 0
