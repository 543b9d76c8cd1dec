"""``wardgate keys``: shown once, kept as hashes, ended at once."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.running import wardgate, wardgate_json


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("keys")
    path = folder / "wardgate.yaml"
    path.write_text("agents:\n  bot: {owner: ada@example.com}\n")
    return path


def test_the_key_alone_goes_to_stdout(config: Path) -> None:
    done = wardgate("keys", "new", "--agent", "bot", "--config", config)
    assert done.returncode == 0
    assert done.stdout.startswith("wgk_")
    assert done.stdout.count("\n") == 1
    assert "shown only now" in done.stderr


def test_no_secret_is_stored(config: Path) -> None:
    key = wardgate_json("keys", "new", "--agent", "bot", "--config", config)["key"]
    secret = key.split("_", 2)[2].encode()
    stored = b"".join(path.read_bytes() for path in config.parent.glob("wardgate.db*"))
    assert key.split("_")[1].encode() in stored
    assert secret not in stored


def test_rotation_names_a_successor_and_revocation_ends_a_key(config: Path) -> None:
    first = wardgate_json("keys", "new", "--operator", "ada", "--role", "viewer", "--config", config)
    second = wardgate_json("keys", "rotate", first["id"], "--config", config)
    states = {key["id"]: key["state"] for key in wardgate_json("keys", "list", "--all", "--config", config)}
    assert (states[first["id"]], states[second["id"]]) == ("revoked", "active")
    assert wardgate("keys", "revoke", second["id"], "--config", config).returncode == 0
    again = wardgate("keys", "revoke", second["id"], "--config", config)
    assert again.returncode == 3
    assert "no valid key" in again.stderr


@pytest.mark.parametrize(
    ("arguments", "code", "sentence"),
    [
        (("new",), 2, "give either --agent or --operator"),
        (("new", "--agent", "nobody"), 3, "has no agent 'nobody' (it has: bot)"),
        (("new", "--agent", "bot", "--expires", "soon"), 2, "'soon' is not a length of time"),
        (("revoke", "nothing"), 3, "There is no valid key 'nothing'"),
    ],
)
def test_mistakes_are_one_sentence_and_a_remedy_and_never_a_traceback(
    config: Path, arguments: tuple[str, ...], code: int, sentence: str
) -> None:
    done = wardgate("keys", *arguments, "--config", config)
    assert done.returncode == code
    assert sentence in done.stderr
    assert "→" in done.stderr
    assert "Traceback" not in done.stderr
