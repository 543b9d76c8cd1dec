"""``wardgate kill``: stop something, from one call to everything, and let go."""

from __future__ import annotations

import getpass
from typing import Annotated, Literal

import typer

from gateway.cli.output import (
    DEFAULT_CONFIG,
    NOT_FOUND,
    AsJson,
    ConfigPath,
    fail,
    print_json,
    print_table,
    printable,
    say,
)

KillName = Literal["call", "session", "agent", "tool", "upstream", "tenant", "all"]


def kill(
    scope: Annotated[
        KillName | None, typer.Argument(help="What to stop; nothing lists what is stopped.")
    ] = None,
    name: Annotated[str, typer.Argument(help="Its id or name; none of a tenant or all.")] = "",
    reason: Annotated[str, typer.Option(help="Why; shown to the agent and on record.")] = "",
    lift: Annotated[str | None, typer.Option("--lift", help="Id of a kill to lift instead.")] = None,
    tenant: Annotated[str, typer.Option(help="Whose.")] = "default",
    config: ConfigPath = DEFAULT_CONFIG,
    as_json: AsJson = False,
) -> None:
    """Stop something until it is lifted. A running gateway refuses within a second, in every mode."""
    from gateway.cli.opened import configuration, database
    from gateway.cli.times import local
    from gateway.storage.breakers import BreakerStore

    loaded = configuration(config)
    if scope is None and lift is None:
        with database(loaded, read_only=True) as opened:
            found = BreakerStore(opened).kills()
        if as_json:
            print_json({"items": [{f: getattr(each, f) for f in each.__struct_fields__} for each in found]})
            return
        rows = [[k.id, k.scope, k.tenant, k.name, k.by, local(k.at_ns), k.reason] for k in found]
        print_table("", ["id", "scope", "tenant", "name", "by", "since", "reason"], rows)
        return
    if not reason.strip():
        fail("Say why: --reason.", "wardgate kill agent my-agent --reason 'incident 7'")
    if lift is not None:
        with database(loaded) as opened:
            lifted = BreakerStore(opened).lift(lift, reason, getpass.getuser())
        if not lifted:
            fail(f"Nothing is stopped by '{printable(lift)}'.", "See 'wardgate kill'.", NOT_FOUND)
        if as_json:
            print_json({"id": lift, "state": "lifted"})
        else:
            say(f"{lift} is lifted.")
        return
    assert scope is not None
    if not name and scope not in ("tenant", "all"):
        fail(f"Say which {scope}.", f"wardgate kill {scope} NAME --reason …")
    with database(loaded) as opened:
        made = BreakerStore(opened).kill(scope, tenant, name, reason, getpass.getuser())
    if as_json:
        print_json({"id": made.id, "scope": made.scope, "tenant": made.tenant, "name": made.name})
    else:
        what = made.scope if made.scope in ("all", "tenant") else f"{made.scope} {printable(made.name)}"
        say(f"{what} is stopped ({made.id}). To let go: wardgate kill --lift {made.id} --reason …")
