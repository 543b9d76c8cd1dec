"""Reading what clients already have."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.cli import clientfile
from gateway.cli.output import Failure


def write(folder: Path, name: str, document: object) -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(document if isinstance(document, str) else json.dumps(document))
    return path


def test_a_stdio_server_keeps_its_command_and_runs_where_the_client_ran_it(tmp_path: Path) -> None:
    path = write(
        tmp_path, ".mcp.json", {"mcpServers": {"files": {"command": "npx", "args": ["-y", "srv", "./data"]}}}
    )
    [server] = clientfile.read(path).servers
    assert server.command == ["npx", "-y", "srv", "./data"]
    assert server.cwd == str(tmp_path)


def test_no_literal_value_of_env_or_headers_stays_in_clear(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        ".mcp.json",
        {
            "mcpServers": {
                "git hub": {
                    "type": "http",
                    "url": "https://example.com/mcp",
                    "headers": {"Authorization": "Bearer s3cret"},
                },
                "db": {"command": "db-mcp", "env": {"DB_PASSWORD": "hunter2"}},
            }
        },
    )
    hub, db = clientfile.read(path).servers
    assert (hub.name, hub.called) == ("git-hub", "git hub")
    assert hub.headers == {"Authorization": "Bearer ${GIT_HUB_AUTHORIZATION}"}
    assert hub.secrets == {"GIT_HUB_AUTHORIZATION": "s3cret"}
    assert db.env == {"DB_PASSWORD": "${DB_DB_PASSWORD}"}
    assert db.secrets == {"DB_DB_PASSWORD": "hunter2"}


def test_references_of_the_client_become_references_of_ours(tmp_path: Path) -> None:
    env = {"A": "${HOME_TOKEN}", "B": "${env:OTHER}", "C": "${REGION:-eu}"}
    path = write(tmp_path, ".cursor/mcp.json", {"mcpServers": {"x": {"command": "x", "env": env}}})
    found = clientfile.read(path)
    [server] = found.servers
    assert found.shape == "cursor"
    assert server.env == {"A": "${HOME_TOKEN}", "B": "${OTHER}", "C": "${REGION}"}
    assert server.secrets == {"REGION": "eu"}
    assert server.cwd == str(tmp_path), "the project, not the folder .cursor"


def test_vs_code_files_may_have_comments_trailing_commas_and_prompts(tmp_path: Path) -> None:
    text = """{
      // what the team uses
      "inputs": [{"type": "promptString", "id": "api-key", "password": true}],
      "servers": {
        "search": {
          "type": "http",
          "url": "https://example.com/mcp", /* not // a comment in the string */
          "headers": {"X-Api-Key": "${input:api-key}"},
        },
      },
    }"""
    found = clientfile.read(write(tmp_path, ".vscode/mcp.json", text))
    [server] = found.servers
    assert found.shape == "vscode"
    assert server.url == "https://example.com/mcp"
    assert server.headers == {"X-Api-Key": "${SEARCH_API_KEY}"}
    assert server.secrets == {"SEARCH_API_KEY": ""}, "to be filled in by the user"


def test_what_cannot_be_imported_is_left_out_and_named(tmp_path: Path) -> None:
    servers = {"off": {"command": "x", "disabled": True}, "odd": {"kind": "?"}, "worse": 3}
    found = clientfile.read(write(tmp_path, ".mcp.json", {"mcpServers": servers}))
    assert found.servers == []
    assert [text.split("'")[1] for text in found.skipped] == ["off", "odd", "worse"]


def test_names_that_collide_after_cleaning_stay_apart(tmp_path: Path) -> None:
    servers = {"My Server": {"command": "a"}, "my-server": {"command": "b"}}
    found = clientfile.read(write(tmp_path, ".mcp.json", {"mcpServers": servers}))
    assert [server.name for server in found.servers] == ["my-server", "my-server-2"]


def test_a_secret_in_an_argument_is_pointed_out(tmp_path: Path) -> None:
    servers = {
        "x": {"command": "x", "args": ["--api-key", "sk-12345678"]},
        "y": {"command": "y", "args": ["data"]},
    }
    x, y = clientfile.read(write(tmp_path, ".mcp.json", {"mcpServers": servers})).servers
    assert x.notes and "process lists" in x.notes[0]
    assert y.notes == []


@pytest.mark.parametrize(
    ("document", "problem"),
    [("{not json", "not valid JSON"), ([], "no 'mcpServers'"), ({"mcp": {}}, "no 'mcpServers'")],
)
def test_a_file_that_is_none_is_refused_in_one_sentence(
    tmp_path: Path, document: object, problem: str
) -> None:
    with pytest.raises(Failure, match=problem):
        clientfile.read(write(tmp_path, ".mcp.json", document))


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    )
)
def test_stripping_comments_never_changes_plain_json(value: object) -> None:
    assert json.loads(clientfile._plain(json.dumps(value))) == value
