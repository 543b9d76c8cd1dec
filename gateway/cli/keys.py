"""``wardgate keys``: the credentials of agents and operators. A running gateway notices changes at once."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

import typer

from gateway.cli.output import (
    DEFAULT_CONFIG,
    NOT_FOUND,
    AsJson,
    ConfigPath,
    fail,
    note,
    print_json,
    print_table,
    say,
)

if TYPE_CHECKING:
    from gateway.identity.keys import Minted
    from gateway.storage.credentials import Credential

app = typer.Typer(help="Issue, rotate, revoke and list keys.", no_args_is_help=True)

_UNITS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86_400}

RoleName = Literal["viewer", "approver", "policy-admin", "operator"]
Expires = Annotated[
    str | None, typer.Option(help="Life of the key, such as 90d, 12h or 30m. Without it, no end.")
]


@app.command()
def new(
    agent: Annotated[str | None, typer.Option(help="Issue a key for this agent of wardgate.yaml.")] = None,
    operator: Annotated[str | None, typer.Option(help="Issue a key for this person or job.")] = None,
    role: Annotated[RoleName, typer.Option(help="What the operator may do.")] = "viewer",
    expires: Expires = None,
    description: Annotated[str, typer.Option("--note", help="Where this key is used; shown in lists.")] = "",
    config: ConfigPath = DEFAULT_CONFIG,
    as_json: AsJson = False,
) -> None:
    """Issue a key. It is shown this once and cannot be shown again."""
    if (agent is None) == (operator is None):
        fail("Say for whom: give either --agent or --operator.", "wardgate keys new --agent my-agent")
    from gateway.cli.opened import configuration, database
    from gateway.identity import keys
    from gateway.storage.credentials import Credentials

    loaded = configuration(config)
    tenant = "default"
    if agent is not None:
        if agent not in loaded.agents:
            known = ", ".join(sorted(loaded.agents)) or "none"
            fail(
                f"{config} has no agent '{agent}' (it has: {known}).",
                f"Add it: agents: {{{agent}: {{owner: you@example.com}}}}",
                NOT_FOUND,
            )
        tenant = loaded.agents[agent].tenant
    with database(loaded) as opened:
        minted = keys.mint(
            Credentials(opened),
            kind="operator" if operator is not None else "agent",
            tenant=tenant,
            name=operator or agent or "",
            role=role if operator is not None else None,
            expires_ns=_expiry(expires),
            note=description,
        )
    _show_once(minted, as_json)


@app.command()
def rotate(
    key_id: Annotated[str, typer.Argument(help="Id of the key to replace; see 'wardgate keys list'.")],
    overlap: Annotated[str, typer.Option(help="How long the old key stays valid.")] = "0s",
    expires: Expires = None,
    config: ConfigPath = DEFAULT_CONFIG,
    as_json: AsJson = False,
) -> None:
    """Replace a key. Both work during the overlap, then the old one ends."""
    from gateway.cli.opened import configuration, database
    from gateway.identity import keys
    from gateway.storage.credentials import Credentials

    with database(configuration(config)) as opened:
        minted = keys.rotate(
            Credentials(opened), key_id, overlap_s=duration(overlap), expires_ns=_expiry(expires)
        )
    if minted is None:
        fail(f"There is no valid key '{key_id}' to rotate.", "See 'wardgate keys list'.", NOT_FOUND)
    _show_once(minted, as_json)


@app.command()
def revoke(
    key_id: Annotated[str, typer.Argument(help="Id of the key; see 'wardgate keys list'.")],
    config: ConfigPath = DEFAULT_CONFIG,
    as_json: AsJson = False,
) -> None:
    """End a key. A running gateway refuses it within a second."""
    from gateway.cli.opened import configuration, database
    from gateway.storage.credentials import Credentials

    with database(configuration(config)) as opened:
        revoked = Credentials(opened).revoke(key_id)
    if not revoked:
        fail(f"There is no valid key '{key_id}' to revoke.", "See 'wardgate keys list'.", NOT_FOUND)
    if as_json:
        print_json({"id": key_id, "state": "revoked"})
    else:
        say(f"{key_id} is revoked.")


@app.command("list")
def list_keys(
    every: Annotated[bool, typer.Option("--all", help="Also revoked and expired keys.")] = False,
    config: ConfigPath = DEFAULT_CONFIG,
    as_json: AsJson = False,
) -> None:
    """List keys, without their secrets."""
    import time

    from gateway.cli.opened import configuration, database
    from gateway.storage.credentials import Credentials

    with database(configuration(config), read_only=True) as opened:
        found = Credentials(opened).list()
    now = time.time_ns()
    shown = [
        _described(credential, now) for credential in found if every or credential.state(now) == "active"
    ]
    if as_json:
        print_json(shown)
        return
    rows = [
        [one["id"], one["kind"], one["name"], one["role"] or "", one["state"], one["created"],
         one["expires"] or "never", one["note"]]
        for one in shown
    ]  # fmt: skip
    print_table("", ["id", "kind", "name", "role", "state", "created", "expires", "note"], rows)


def duration(text: str) -> float:
    """Seconds of ``90d``, ``12h``, ``30m`` or ``10s``."""
    match = re.fullmatch(r"(\d{1,6})([smhd])", text.strip())
    if match is None:
        fail(f"'{text}' is not a length of time.", "Write a number and a unit: 10s, 30m, 12h or 90d.")
    return int(match[1]) * _UNITS[match[2]]


def _expiry(text: str | None) -> int | None:
    import time

    return None if text is None else time.time_ns() + int(duration(text)) * 1_000_000_000


def _described(credential: Credential, now_ns: int) -> dict[str, Any]:
    from gateway.cli.times import local

    return {
        "id": credential.id,
        "kind": credential.kind,
        "tenant": credential.tenant,
        "name": credential.name,
        "role": credential.role,
        "state": credential.state(now_ns),
        "created": local(credential.created_ns),
        "expires": local(credential.expires_ns) if credential.expires_ns is not None else None,
        "note": credential.note,
    }


def _show_once(minted: Minted, as_json: bool) -> None:
    """The key on stdout, alone, so that it can be piped into a secret store; words on stderr."""
    credential = minted.credential
    if as_json:
        print_json(
            {"id": credential.id, "kind": credential.kind, "name": credential.name, "key": minted.token}
        )
        return
    note(f"Key {credential.id} of {credential.kind} '{credential.name}'. It is shown only now:")
    say(minted.token)
