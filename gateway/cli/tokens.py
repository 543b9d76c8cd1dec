"""``wardgate tokens``: why a token would be refused, and which are revoked; noticed at once by the gateway.

A token never stands on a command line, where other users of the machine can read it: it comes from a file
or from stdin, and is never printed.
"""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from gateway.cli.output import (
    DEFAULT_CONFIG,
    FOUND_SOMETHING,
    NOT_FOUND,
    AsJson,
    ConfigPath,
    fail,
    print_json,
    print_table,
    printable,
    say,
)

if TYPE_CHECKING:
    from gateway.config import Config
    from gateway.identity.examination import Examined
    from gateway.storage.revocations import RevocationKind, TokenRevocation

app = typer.Typer(
    help="Look into tokens (JWT) of issuers, revoke them, list revocations.", no_args_is_help=True
)

_KINDS = {"token": "tokens with jti", "subject": "tokens of subject", "agent": "tokens of agent"}


@app.command()
def inspect(
    file: Annotated[
        Path | None,
        typer.Argument(help="File with the token alone; without it the token is read from stdin."),
    ] = None,
    config: ConfigPath = DEFAULT_CONFIG,
    as_json: AsJson = False,
) -> None:
    """Say what a token stands for, or exactly why it would be refused. Asks its issuer for keys.

    Exits 1 when the gateway would refuse it.
    """
    import asyncio

    from gateway.cli.opened import configuration, database
    from gateway.identity.examination import examine
    from gateway.storage.place import place
    from gateway.storage.revocations import TokenRevocations

    loaded = configuration(config)
    if not loaded.identity.issuers:
        fail(
            f"{config} has no issuer whose token this could be.",
            "Add one under 'identity.issuers'.",
            NOT_FOUND,
        )
    raw = _read(file)
    revocations: list[TokenRevocation] = []
    if place(loaded.storage).exists:
        with database(loaded, read_only=True) as opened:
            revocations = list(TokenRevocations(opened).list())
    examined = asyncio.run(examine(raw, loaded, revocations))
    _tell(examined, as_json)
    if examined.code:
        raise typer.Exit(FOUND_SOMETHING)


@app.command()
def revoke(
    issuer: Annotated[str | None, typer.Option(help="Issuer, by its name in the configuration.")] = None,
    jti: Annotated[str | None, typer.Option(help="Revoke the token with this id.")] = None,
    subject: Annotated[str | None, typer.Option(help="Revoke tokens with this 'sub'.")] = None,
    agent: Annotated[
        str | None, typer.Option(help="Revoke tokens of this agent, whoever issued them.")
    ] = None,
    issued_before: Annotated[
        str | None,
        typer.Option(help="Only those issued up to this time (ISO 8601). For an agent the default is now."),
    ] = None,
    description: Annotated[str, typer.Option("--note", help="Why; shown in lists.")] = "",
    config: ConfigPath = DEFAULT_CONFIG,
    as_json: AsJson = False,
) -> None:
    """Revoke tokens. A running gateway refuses them within a second."""
    import time

    from gateway.cli.opened import configuration, database
    from gateway.storage.revocations import TokenRevocations

    given = {name: value for name, value in (("token", jti), ("subject", subject), ("agent", agent)) if value}
    if len(given) != 1:
        fail(
            "Say what: give exactly one of --jti, --subject and --agent.",
            "wardgate tokens revoke --agent bot",
        )
    [(kind, value)] = given.items()
    loaded = configuration(config)
    tenant = _tenant(loaded, config, kind, issuer, value)
    if kind == "token" and issued_before is not None:
        fail("A token with an id has one time of issue: --issued-before does not go with --jti.")
    before = _moment(issued_before) if issued_before is not None else None
    if kind == "agent" and before is None:
        before = time.time_ns()
    with database(loaded) as opened:
        made = TokenRevocations(opened).insert(
            tenant=tenant,
            kind=kind,  # type: ignore[arg-type]  # one of the three above
            issuer=issuer or "",
            value=value,
            issued_before_ns=before,
            note=description,
        )
    if as_json:
        print_json(_described(made))
    else:
        say(f"{made.id}: {_said(made)} are revoked.")


@app.command()
def restore(
    revocation_id: Annotated[str, typer.Argument(help="Id of the revocation; see 'wardgate tokens list'.")],
    config: ConfigPath = DEFAULT_CONFIG,
    as_json: AsJson = False,
) -> None:
    """Take a revocation back. What it stopped works again within a second, if it is still valid."""
    from gateway.cli.opened import configuration, database
    from gateway.storage.revocations import TokenRevocations

    with database(configuration(config)) as opened:
        lifted = TokenRevocations(opened).lift(revocation_id)
    if not lifted:
        fail(f"There is no revocation '{revocation_id}' in force.", "See 'wardgate tokens list'.", NOT_FOUND)
    if as_json:
        print_json({"id": revocation_id, "state": "lifted"})
    else:
        say(f"{revocation_id} no longer holds.")


@app.command("list")
def list_revocations(
    every: Annotated[bool, typer.Option("--all", help="Also those that were taken back.")] = False,
    config: ConfigPath = DEFAULT_CONFIG,
    as_json: AsJson = False,
) -> None:
    """List revocations, oldest first."""
    from gateway.cli.opened import configuration, database
    from gateway.storage.revocations import TokenRevocations

    with database(configuration(config), read_only=True) as opened:
        shown = [_described(each) for each in TokenRevocations(opened).list(lifted=every)]
    if as_json:
        print_json(shown)
        return
    rows = [
        [one["id"], one["kind"], one["issuer"] or "any", one["value"], one["issued_before"] or "any time",
         one["created"], one["state"], one["note"]]
        for one in shown
    ]  # fmt: skip
    columns = ["id", "kind", "issuer", "value", "issued up to", "since", "state", "note"]
    print_table("", columns, rows)


def _read(file: Path | None) -> bytes:
    """The token, without a "Bearer" in front or a line end behind."""
    from gateway.identity.jws import MAX_BYTES

    if file is None:
        raw = sys.stdin.buffer.read(2 * MAX_BYTES)
    else:
        try:
            with file.open("rb") as opened:
                raw = opened.read(2 * MAX_BYTES)
        except OSError as error:
            # Somebody may have given the token itself, which must not be repeated in a log.
            name = "That argument" if file.name.startswith("eyJ") else str(file)
            fail(f"{name}: {error.strerror}.", "Give a file that holds the token alone.", NOT_FOUND)
    raw = raw.strip()
    return raw[7:].strip() if raw[:7].lower() == b"bearer " else raw


def _tenant(config: Config, path: Path, kind: str, issuer: str | None, value: str) -> str:
    if kind == "agent":
        if issuer is not None:
            fail("--agent goes for whoever issued the token: leave --issuer out.")
        if value not in config.agents:
            fail(f"{path} has no agent '{value}'.", "See 'agents' in the configuration.", NOT_FOUND)
        return config.agents[value].tenant
    if issuer is None or issuer not in config.identity.issuers:
        known = ", ".join(sorted(config.identity.issuers)) or "none"
        fail(
            f"Say whose token: give --issuer (there is: {known}).",
            "A jti and a subject mean something only together with their issuer.",
            NOT_FOUND,
        )
    return config.identity.issuers[issuer].tenant


def _moment(text: str) -> int:
    """Nanoseconds of an ISO 8601 time; without a zone it is UTC."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        fail(f"'{text}' is not a time.", "Write it like 2026-11-28T14:00:00Z.")
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return int(moment.timestamp() * 1_000_000_000)


def _said(revocation: TokenRevocation) -> str:
    from gateway.cli.times import local

    kind: RevocationKind = revocation.kind
    said = f"{_KINDS[kind]} '{revocation.value}'" + (
        f" from {revocation.issuer}" if revocation.issuer else ""
    )
    if revocation.issued_before_ns is not None:
        said += f" issued up to {local(revocation.issued_before_ns)}"
    return said


def _described(revocation: TokenRevocation) -> dict[str, Any]:
    from gateway.cli.times import local

    state: Literal["in force", "lifted"] = "in force" if revocation.lifted_ns is None else "lifted"
    before = revocation.issued_before_ns
    return {
        "id": revocation.id,
        "kind": revocation.kind,
        "tenant": revocation.tenant,
        "issuer": revocation.issuer,
        "value": revocation.value,
        "issued_before": local(before) if before is not None else None,
        "created": local(revocation.created_ns),
        "state": state,
        "note": revocation.note,
    }


def _tell(examined: Examined, as_json: bool) -> None:
    import msgspec

    from gateway.reasons import REASONS

    if as_json:
        print_json(msgspec.to_builtins(examined))
        return
    if examined.code:
        reason = REASONS[examined.code]
        say(f"✗ refused: {examined.code}. {reason.message}")
        say(f"    {printable(examined.detail)}")
        say(f"    → {reason.remedy}")
    else:
        user = f", for {examined.subject}" if examined.subject else ""
        say(printable(f"✓ accepted as agent '{examined.agent}' of tenant '{examined.tenant}'{user}."))
    for name, value in (
        ("issuer", examined.issuer), ("keys", examined.keys), ("chain", " → ".join(examined.chain)),
        ("labels", ", ".join(examined.labels)), ("lacks scopes", " ".join(examined.missing_scopes)),
    ):  # fmt: skip
        if value:
            say(printable(f"  {name:<13} {value}"))
    for title, part in (("header", examined.header), ("claims", examined.claims)):
        for key, value in part.items():
            say(printable(f"  {title} {key:<6} {value}"))
