"""The tool servers an existing client knows, read from its own file.

Understood are ``mcpServers`` (Claude Code ``.mcp.json``, Claude Desktop, Cursor, Windsurf and others) and
``servers`` (VS Code ``.vscode/mcp.json``, also under ``mcp`` in its settings), with comments and trailing
commas, as VS Code allows them.

Every literal value of ``env`` and ``headers`` is taken for a secret: which ones are cannot be known, and
one written in clear by mistake cannot be taken back.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, Final, Literal

import msgspec

from gateway.cli.output import Failure, fail

Shape = Literal["claude-code", "claude-desktop", "cursor", "vscode"]

_STRING_OR_COMMENT: Final = re.compile(r'("(?:\\.|[^"\\])*")|//[^\n]*|/\*.*?\*/', re.DOTALL)
_STRING_OR_COMMA: Final = re.compile(r'("(?:\\.|[^"\\])*")|,(?=\s*[}\]])')
_REFERENCE: Final = re.compile(
    r"\$\{(?:(?P<kind>env|input):)?(?P<name>[A-Za-z_][A-Za-z0-9_.-]*)(?::-(?P<default>[^}]*))?\}"
)
_SECRET_ARGUMENT: Final = re.compile(
    r"(?:(?:api[-_]?key|token|secret|passw(?:or)?d|authorization|bearer)\b)|://[^/\s:@]+:[^/\s@]+@"
    r"|\b(?:sk-|ghp_|gho_|github_pat_|xox[abp]-|glpat-|AKIA)[A-Za-z0-9_-]{8,}",
    re.IGNORECASE,
)


class Server(msgspec.Struct, kw_only=True):
    """One tool server, ready for ``wardgate.yaml``; ``secrets`` belong in the environment file."""

    name: str
    called: str  # what the client's file calls it
    url: str | None = None
    command: list[str] | None = None
    cwd: str | None = None
    env: dict[str, str] = {}
    headers: dict[str, str] = {}
    secrets: dict[str, str] = {}  # variable → value; an empty value must be filled in
    notes: list[str] = []


class ClientFile(msgspec.Struct, kw_only=True):
    path: Path
    shape: Shape
    servers: list[Server]
    skipped: list[str]  # one sentence each


def read(path: Path) -> ClientFile:
    """Read a client's file; raises ``Failure`` with what is wrong and where."""
    try:
        document = json.loads(_plain(path.read_text(encoding="utf-8")))
    except OSError as error:
        fail(
            f"{path} cannot be read: {error.strerror}.", "Give the file your client lists its MCP servers in."
        )
    except ValueError as error:
        fail(f"{path} is not valid JSON: {error}.", "Mend the file, or start without '--from'.")
    entries, shape = _entries(document, path)
    servers: list[Server] = []
    skipped: list[str] = []
    for called, entry in entries.items():
        if not isinstance(entry, dict):
            skipped.append(f"'{called}' is not an object.")
        elif entry.get("disabled") is True:
            skipped.append(f"'{called}' is disabled in the client.")
        elif not (isinstance(entry.get("command"), str) or isinstance(_url(entry), str)):
            skipped.append(f"'{called}' has neither 'command' nor 'url'.")
        else:
            servers.append(_server(called, entry, path, taken={server.name for server in servers}))
    return ClientFile(path=path, shape=shape, servers=servers, skipped=skipped)


def find(folder: Path) -> Path | None:
    """The project's own client file, when there is one."""
    for candidate in (".mcp.json", ".cursor/mcp.json", ".vscode/mcp.json"):
        if (folder / candidate).is_file():
            return folder / candidate
    return None


def _entries(document: Any, path: Path) -> tuple[dict[str, Any], Shape]:
    if isinstance(document, dict):
        nested = document.get("mcp")
        for holder in (document, nested if isinstance(nested, dict) else {}):
            if isinstance(found := holder.get("mcpServers"), dict):
                if path.name == "claude_desktop_config.json":
                    return found, "claude-desktop"
                return found, "cursor" if path.parent.name == ".cursor" else "claude-code"
            if isinstance(found := holder.get("servers"), dict):
                return found, "vscode"
    raise Failure(
        f"{path} has no 'mcpServers' and no 'servers'.",
        "Give the file your client lists its MCP servers in, such as .mcp.json.",
    )


def _url(entry: dict[str, Any]) -> Any:
    return entry.get("url") or entry.get("serverUrl")  # the second is Windsurf's word


def _server(called: str, entry: dict[str, Any], path: Path, taken: set[str]) -> Server:
    server = Server(name=_slug(called, taken), called=called, env={}, headers={}, secrets={}, notes=[])
    project = path.resolve().parent
    if project.name in (".vscode", ".cursor"):
        project = project.parent
    if isinstance(entry.get("command"), str):
        arguments = [str(argument) for argument in entry.get("args") or []]
        server.command = [_placed(part, project, server) for part in (entry["command"], *arguments)]
        server.cwd = _placed(str(entry["cwd"]), project, server) if entry.get("cwd") else str(project)
        _note_secret_arguments(server)
        _referenced(entry.get("env"), server.env, server)
        if entry.get("envFile"):
            server.notes.append(
                f"Copy the variables of {entry['envFile']} into 'env' and the environment file."
            )
    else:
        server.url = _placed(str(_url(entry)), project, server)
        if _SECRET_ARGUMENT.search(server.url):
            server.notes.append(
                "Its 'url' seems to hold a secret; move it to 'headers' if the server allows."
            )
        if entry.get("type") == "sse":
            server.notes.append(
                "It is declared as the old HTTP+SSE transport, which wardgate does not speak; "
                "most such servers also offer streamable HTTP, usually at /mcp."
            )
        _referenced(entry.get("headers"), server.headers, server)
    return server


def _referenced(values: Any, target: dict[str, str], server: Server) -> None:
    """Copy ``env`` or ``headers`` with every literal value replaced by a reference."""
    for key, value in (values if isinstance(values, dict) else {}).items():
        text = str(value)
        if _REFERENCE.search(text):
            target[key] = _expanded(text, server)
            continue
        prefix, _, rest = text.partition(" ")
        scheme = prefix if prefix.lower() in ("bearer", "basic", "token") and rest else ""
        variable = _variable(server.name, key)
        server.secrets[variable] = rest if scheme else text
        target[key] = f"{scheme} ${{{variable}}}".strip()


def _expanded(text: str, server: Server) -> str:
    """Turn a client's own references into ours."""

    def replace(match: re.Match[str]) -> str:
        variable = match["name"]
        if match["kind"] == "input":
            variable = _variable(server.name, variable)
            server.secrets.setdefault(variable, "")
        else:
            variable = re.sub(r"[.-]", "_", variable)
            if match["default"] is not None:
                server.secrets.setdefault(variable, match["default"])
        return f"${{{variable}}}"

    return _REFERENCE.sub(replace, text)


def _placed(text: str, project: Path, server: Server) -> str:
    """Fill in the folders clients know by name; other references cannot be used in this place."""
    text = text.replace("${workspaceFolder}", str(project)).replace("${userHome}", str(Path.home()))
    if _REFERENCE.search(text):
        server.notes.append(
            f"'{text}' refers to a variable; wardgate expands those in 'env' and 'headers' only."
        )
    return text


def _note_secret_arguments(server: Server) -> None:
    for argument in (server.command or [])[1:]:
        if _SECRET_ARGUMENT.search(argument):
            shown = argument.partition("=")[0] if "=" in argument else argument[:12]
            server.notes.append(
                f"The argument '{shown}…' may hold or announce a secret. Arguments show in process lists: "
                "give it in 'env' if the server can read it there."
            )
            return


def _variable(server: str, key: str) -> str:
    return re.sub(r"[^A-Z0-9]+", "_", f"{server}_{key}".upper()).strip("_")


def _slug(called: str, taken: set[str]) -> str:
    """A name ``wardgate.yaml`` accepts, unique in it."""
    base = re.sub(r"[^a-z0-9_.-]+", "-", called.lower()).strip("-_.")[:56] or "server"
    name, number = base, 2
    while name in taken:
        name, number = f"{base}-{number}", number + 1
    return name


def _plain(text: str) -> str:
    """JSON with comments and trailing commas → JSON; what looks like either inside a string stays."""
    without = _STRING_OR_COMMENT.sub(lambda match: match[1] or " ", text.removeprefix("﻿"))
    return _STRING_OR_COMMA.sub(lambda match: match[1] or "", without)
