"""``wardgate init``: what it writes, what it never writes, and what it never replaces."""

from __future__ import annotations

import json
import stat
from pathlib import Path

import pytest
import yaml

from gateway.config import load
from tests.cli.running import wardgate, wardgate_json

CLIENT = {
    "mcpServers": {
        "Git Hub": {
            "type": "http",
            "url": "https://example.com/mcp",
            "headers": {"Authorization": "Bearer s3cret"},
        },
        "files": {"command": "files-mcp", "args": ["."], "env": {"PASSWORD": "hunter two"}},
    }
}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    folder = tmp_path_factory.mktemp("init")
    (folder / ".mcp.json").write_text(json.dumps(CLIENT))
    done = wardgate("init", "--dir", folder, "--owner", "ada@example.com")
    assert done.returncode == 0, done.stderr
    return folder, done.stdout


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_no_secret_of_the_client_is_in_the_configuration_the_new_client_file_or_on_the_screen(
    made: tuple[Path, str],
) -> None:
    folder, shown = made
    for text in (
        (folder / "wardgate.yaml").read_text(),
        (folder / "wardgate.client.json").read_text(),
        shown,
    ):
        assert "s3cret" not in text
        assert "hunter" not in text
    assert "GIT_HUB_AUTHORIZATION=s3cret" in (folder / "wardgate.env").read_text()


def test_files_with_secrets_are_for_their_owner_only(made: tuple[Path, str]) -> None:
    folder, _ = made
    assert [mode(folder / name) for name in ("wardgate.env", "wardgate.key", "wardgate.db")] == [0o600] * 3


def test_what_it_wrote_is_valid_with_the_secrets_beside_it_and_not_without(made: tuple[Path, str]) -> None:
    folder, _ = made
    checked = wardgate_json("config", "check", "--config", folder / "wardgate.yaml")
    assert checked["upstreams"] == ["files", "git-hub"]
    (folder / "elsewhere").mkdir()
    (folder / "elsewhere" / "wardgate.yaml").write_text((folder / "wardgate.yaml").read_text())
    alone = wardgate("config", "check", "--config", folder / "elsewhere" / "wardgate.yaml")
    assert alone.returncode == 2
    assert "GIT_HUB_AUTHORIZATION is not set" in alone.stderr


def test_it_starts_in_observe_mode_and_one_word_changes_that(
    made: tuple[Path, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, _ = made
    for name in ("GIT_HUB_AUTHORIZATION", "FILES_PASSWORD"):
        monkeypatch.setenv(name, "x")
    path = folder / "wardgate.yaml"
    assert load(path).mode == "observe"
    other = folder / "enforced.yaml"
    other.write_text(path.read_text().replace("mode: observe\n", "mode: enforce\n"))
    assert load(other).mode == "enforce"


def test_the_new_client_file_keeps_names_and_reaches_each_server_through_the_gateway(
    made: tuple[Path, str],
) -> None:
    folder, _ = made
    servers = json.loads((folder / "wardgate.client.json").read_text())["mcpServers"]
    assert {name: entry["url"] for name, entry in servers.items()} == {
        "Git Hub": "http://127.0.0.1:8700/mcp/git-hub",
        "files": "http://127.0.0.1:8700/mcp/files",
    }
    assert servers["files"]["headers"] == {"Authorization": "Bearer ${WARDGATE_KEY}"}


def test_the_keys_it_shows_are_the_keys_in_force(made: tuple[Path, str]) -> None:
    folder, shown = made
    keys = wardgate_json("keys", "list", "--config", folder / "wardgate.yaml")
    assert (keys[0]["kind"], keys[0]["name"]) == ("agent", "my-agent")
    for key in keys:
        assert key["id"] in shown


def test_nothing_is_replaced_without_force_and_keys_never_are(tmp_path: Path) -> None:
    first = wardgate_json("init", "--dir", tmp_path)
    storage_key = (tmp_path / "wardgate.key").read_text()
    (tmp_path / "policies" / "ours.rego").write_text("package wardgate.rules.ours\n")

    again = wardgate("init", "--dir", tmp_path)
    assert again.returncode == 2
    assert "exists already" in again.stderr and "--force" in again.stderr

    forced = wardgate_json("init", "--dir", tmp_path, "--force")
    assert first["keys"].keys() == {"agent", "operator"}
    assert forced["keys"] == {}, "the keys of the first run stay valid, and no more are made"
    assert (tmp_path / "wardgate.key").read_text() == storage_key
    assert (tmp_path / "policies.old-1" / "ours.rego").exists()


def test_without_a_client_file_the_result_says_how_to_add_upstreams(tmp_path: Path) -> None:
    wardgate_json("init", "--dir", tmp_path)
    text = (tmp_path / "wardgate.yaml").read_text()
    assert yaml.safe_load(text)["upstreams"] == {}
    assert "# github:" in text


@pytest.mark.parametrize(
    ("name", "document", "expected"),
    [
        ("claude_desktop_config.json", {"mcpServers": {"x": {"command": "x"}}}, "stdio"),
        (".vscode/mcp.json", {"servers": {"x": {"command": "x"}}}, "${input:wardgate-key}"),
        (".cursor/mcp.json", {"mcpServers": {"x": {"command": "x"}}}, "${env:WARDGATE_KEY}"),
    ],
)
def test_each_client_gets_a_file_in_its_own_words(
    tmp_path: Path, name: str, document: object, expected: str
) -> None:
    source = tmp_path / name
    source.parent.mkdir(exist_ok=True)
    source.write_text(json.dumps(document))
    wardgate_json("init", "--from", source, "--dir", tmp_path / "out")
    assert expected in (tmp_path / "out" / "wardgate.client.json").read_text()


def test_a_name_that_cannot_be_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    done = wardgate("init", "--dir", tmp_path / "new", "--agent", "My Agent")
    assert done.returncode == 2
    assert not (tmp_path / "new").exists()
