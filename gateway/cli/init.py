"""``wardgate init``: from an unguarded agent to a guarded one."""

from __future__ import annotations

import getpass
import json
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gateway.cli.output import AsJson, fail, print_json, say

if TYPE_CHECKING:
    from gateway.cli.clientfile import ClientFile, Server


def init(
    source: Annotated[
        Path | None,
        typer.Option(
            "--from", help="The file your client lists its MCP servers in; found in --dir by itself."
        ),
    ] = None,
    folder: Annotated[Path, typer.Option("--dir", help="Where to write.")] = Path(),
    agent: Annotated[str, typer.Option(help="Name of your agent in records and policies.")] = "my-agent",
    owner: Annotated[str | None, typer.Option(help="Who answers for the agent; you, by default.")] = None,
    port: Annotated[
        int, typer.Option(min=1, max=65_534, help="Port for agents; the next one for operators.")
    ] = 8700,
    force: Annotated[bool, typer.Option("--force", help="Replace what an earlier 'init' wrote.")] = False,
    as_json: AsJson = False,
) -> None:
    """Write a configuration that puts the gateway in front of the tool servers a client already uses.

    It starts in observe mode: everything is decided and recorded, and nothing is blocked. Nothing that exists
    is replaced without --force; the storage key and issued keys never are.
    """
    from gateway.cli import clientfile, scaffold

    if not re.fullmatch(r"[a-z0-9][a-z0-9_.-]{0,62}", agent):
        fail(f"'{agent}' cannot be the name of an agent.", "Use small letters, digits, '-', '_' and '.'.")
    source = source or clientfile.find(folder)
    found = clientfile.read(source) if source is not None else None
    servers = found.servers if found is not None else []
    config_path, policies = folder / "wardgate.yaml", folder / "policies"
    for path in (config_path, policies):
        if path.exists() and not force:
            fail(f"{path} exists already.", "Choose another --dir, or replace it with --force.")

    folder.mkdir(parents=True, exist_ok=True)
    owner = owner or f"{getpass.getuser()}@{os.uname().nodename}"
    _write_private(config_path, scaffold.configuration(servers, agent, owner, port))
    _copy_policies(policies)
    secrets = {name: value for server in servers for name, value in server.secrets.items()}
    _write_secrets(folder / "wardgate.env", secrets)
    _write_key(folder / "wardgate.key")
    shape = found.shape if found is not None else "claude-code"
    url = f"http://127.0.0.1:{port}"
    client_path = folder / ("wardgate.client.json")
    client_path.write_text(
        json.dumps(scaffold.client(servers, shape, url), indent=2) + "\n", encoding="utf-8"
    )
    tokens = _issue(config_path, agent, secrets)

    if as_json:
        print_json(_summary(config_path, client_path, servers, found, secrets, tokens))
        return
    _tell(folder, client_path, found, secrets, tokens)


def _issue(config_path: Path, agent: str, secrets: dict[str, str]) -> dict[str, str]:
    """One key for the agent and one for the person; shown by the caller, once."""
    from gateway.cli.opened import database
    from gateway.config import load
    from gateway.identity import keys
    from gateway.storage.credentials import Credentials

    # The configuration is read as 'serve' will read it, so that what was written is known to be valid.
    # Secrets the user has yet to fill in would stop that, and are not needed here.
    for name, value in secrets.items():
        os.environ.setdefault(name, value)
    loaded = load(config_path)
    with database(loaded) as opened:
        store = Credentials(opened)
        if any(credential.name == agent for credential in store.active()):
            return {}  # a second run with --force keeps the keys of the first
        return {
            "agent": keys.mint(store, kind="agent", tenant="default", name=agent, note="wardgate init").token,
            "operator": keys.mint(
                store,
                kind="operator",
                tenant="default",
                name=getpass.getuser(),
                role="operator",
                note="wardgate init",
            ).token,
        }


def _write_private(path: Path, text: str) -> None:
    """Write a file only its owner can read, from its first byte on."""
    temporary = path.with_name(f".{path.name}.new")
    temporary.unlink(missing_ok=True)
    with os.fdopen(
        os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8"
    ) as file:
        file.write(text)
    temporary.replace(path)


def _write_secrets(path: Path, secrets: dict[str, str]) -> None:
    """Add what is missing; a value somebody has filled in since is never replaced."""
    from gateway.cli import envfile

    known = envfile.parse(path.read_text(encoding="utf-8"), path) if path.exists() else {}
    if merged := {**secrets, **known}:
        _write_private(path, envfile.render(merged))


def _write_key(path: Path) -> None:
    from gateway.storage.crypto import new_key

    if not path.exists():  # replacing it would make every stored argument and result unreadable
        _write_private(path, new_key() + "\n")


def _copy_policies(target: Path) -> None:
    from gateway.policy.library import copy_pack

    if target.exists():
        number = 1
        while (kept := target.with_name(f"{target.name}.old-{number}")).exists():
            number += 1
        target.rename(kept)  # with --force, and still somebody's work
    copy_pack("starter", target)


def _summary(
    config_path: Path,
    client_path: Path,
    servers: list[Server],
    found: ClientFile | None,
    secrets: dict[str, str],
    tokens: dict[str, str],
) -> dict[str, Any]:
    return {
        "config": str(config_path),
        "client": str(client_path),
        "upstreams": [server.name for server in servers],
        "notes": [f"{server.name}: {note}" for server in servers for note in server.notes],
        "skipped": found.skipped if found is not None else [],
        "secrets": sorted(secrets),
        "fill_in": sorted(name for name, value in secrets.items() if not value),
        "keys": tokens,
    }


def _tell(
    folder: Path, client_path: Path, found: ClientFile | None, secrets: dict[str, str], tokens: dict[str, str]
) -> None:
    servers = found.servers if found is not None else []
    if found is not None:
        say(f"Read {found.path}: {len(servers)} tool server{'' if len(servers) == 1 else 's'}.")
        for server in servers:
            kept = "" if server.called == server.name else f" (called '{server.called}' by the client)"
            say(f"  {server.name}: {server.url or (server.command or [''])[0]}{kept}")
            for text in server.notes:
                say(f"    ! {text}")
        for text in found.skipped:
            say(f"  left out: {text}")
    say()
    say(f"Wrote in {folder.resolve()}:")
    say("  wardgate.yaml         the configuration, in observe mode: nothing is blocked yet")
    say("  policies/             the starter policies; yours to change")
    say("  wardgate.key          the storage key; keep a copy")
    if secrets:
        say("  wardgate.env          the secrets of your tool servers, out of the configuration")
        if empty := sorted(name for name, value in secrets.items() if not value):
            say(f"                        fill in: {', '.join(empty)}")
    say("  wardgate.client.json  your client's new file; it holds no key")
    say()
    if tokens:
        say("Keys, shown only now:")
        say(f"  agent     {tokens['agent']}")
        say(f"  operator  {tokens['operator']}")
        say()
    say("Next:")
    say("  1. wardgate doctor && wardgate serve")
    target = found.path if found is not None else ".mcp.json"
    say(f"  2. put {client_path} in place of {target}, with WARDGATE_KEY set to the agent key")
    say("  3. use your agent as always, look at 'wardgate decisions list', then change")
    say("     'mode: observe' to 'mode: enforce' in wardgate.yaml")
