"""``wardgate records``: erasing the arguments and results that are kept beside the records."""

from __future__ import annotations

from typing import Annotated

import typer

from gateway.cli.output import (
    DEFAULT_CONFIG,
    FOUND_SOMETHING,
    AsJson,
    ConfigPath,
    fail,
    note,
    print_json,
    say,
)

app = typer.Typer(help="Erase kept arguments and results.", no_args_is_help=True)


@app.callback()
def records() -> None:
    """Keeps 'erase' a command of its own, although it is the only one."""


@app.command()
def erase(
    call: Annotated[str | None, typer.Option(help="Of this call.")] = None,
    agent: Annotated[str | None, typer.Option(help="Of this agent.")] = None,
    subject: Annotated[str | None, typer.Option(help="Of this end user.")] = None,
    older_than: Annotated[str | None, typer.Option(help="Older than 30d, 12h, …")] = None,
    because: Annotated[str, typer.Option("--note", help="Why; stays on record.")] = "",
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    config: ConfigPath = DEFAULT_CONFIG,
    as_json: AsJson = False,
) -> None:
    """Erase what calls said and got back. All conditions must match. It cannot be undone.

    The records stay, with digests, and say that it was erased. Backups of the file are out of reach.
    """
    import time

    from gateway.cli.decisions import who
    from gateway.cli.keys import duration
    from gateway.cli.opened import configuration, database
    from gateway.journal import resolution

    before = None if older_than is None else time.time_ns() - int(duration(older_than) * 1_000_000_000)
    whose = resolution.Erase(call=call, agent=agent, subject=subject, before_ns=before)
    if whose == resolution.Erase():
        fail("Say whose payloads to erase.", "Give --call, --agent, --subject or --older-than.")
    if not yes and not typer.confirm(
        "Erase the kept arguments and results? This cannot be undone.", err=True
    ):
        fail("Nothing was erased.")
    with database(configuration(config)) as opened:
        erased = resolution.erase(opened, whose, by=who(), note=because)
    if as_json:
        print_json({"calls": erased.calls, "payloads": erased.payloads, "complete": erased.complete})
    else:
        say(f"Erased {erased.payloads} payload(s) of {erased.calls} call(s).")
    if not erased.complete:
        note(opened.leftovers)
        raise typer.Exit(FOUND_SOMETHING)
