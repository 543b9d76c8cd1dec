"""``wardgate decisions``: what was asked, what policy said, what was done and what became of it.

Read straight from the journal, so it works whether or not the gateway is running.
"""

from __future__ import annotations

import getpass
import sys
import time
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

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

if TYPE_CHECKING:
    from gateway.journal.query import Filter, Query, Record

app = typer.Typer(help="Look at decisions, and say what became of calls in doubt.", no_args_is_help=True)

_TAIL_S: Final = 0.5

Agent = Annotated[str | None, typer.Option(help="Only of this agent.")]
Tool = Annotated[str | None, typer.Option(help="Only of this tool (upstream/name) or upstream (upstream/).")]
Since = Annotated[str | None, typer.Option(help="Only of the last 10s, 30m, 12h or 7d.")]
Limit = Annotated[int, typer.Option(min=1, max=10_000, help="How many at most.")]


@app.command("list")
def list_decisions(
    agent: Agent = None,
    tool: Tool = None,
    verdict: Annotated[
        Literal["allow", "deny", "escalate"] | None, typer.Option(help="What policy said.")
    ] = None,
    action: Annotated[
        Literal["allow", "block", "hold", "modify"] | None, typer.Option(help="What was done.")
    ] = None,
    code: Annotated[str | None, typer.Option(help="Only with this reason code.")] = None,
    since: Since = None,
    would_deny: Annotated[
        bool,
        typer.Option("--would-deny", help="Only what was carried out and would be refused in enforce mode."),
    ] = False,
    in_doubt: Annotated[
        bool, typer.Option("--in-doubt", help="Only calls whose outcome nobody knows.")
    ] = False,
    limit: Limit = 50,
    cursor: Annotated[int | None, typer.Option(help="Continue after the page that gave this number.")] = None,
    config: ConfigPath = DEFAULT_CONFIG,
    as_json: AsJson = False,
) -> None:
    """List decisions, newest first."""
    from gateway.cli.opened import journal
    from gateway.journal.query import Filter

    narrow = Filter(
        agent=agent,
        tool=tool,
        verdict=verdict,
        action=action,
        code=code,
        since_ns=_since(since),
        in_doubt=in_doubt,
    )
    with journal(config) as query:
        found, following = (
            _would_deny(query, narrow, limit, cursor) if would_deny else _page(query, narrow, limit, cursor)
        )
    if as_json:
        print_json({"items": found, "cursor": following})
        return
    print_table("", _HEADINGS, [_row(record) for record in found])
    if following is not None:
        say(f"There are more: --cursor {following}")


@app.command()
def show(
    call_id: Annotated[str, typer.Argument(help="Id of the call.")],
    reveal: Annotated[
        bool, typer.Option("--reveal", help="Also what is redacted in arguments and results.")
    ] = False,
    config: ConfigPath = DEFAULT_CONFIG,
    as_json: AsJson = False,
) -> None:
    """Show everything on record about one call, with its arguments and result where they are kept."""
    from gateway.cli.opened import configuration, database
    from gateway.journal.query import Query
    from gateway.storage.crypto import load_key

    loaded = configuration(config)
    with database(loaded, read_only=True) as opened:
        shown = Query(opened).show(call_id, key=load_key(loaded.storage.key_file), reveal=reveal)
    if shown is None:
        fail(f"There is no call {call_id}.", "See 'wardgate decisions list'.", NOT_FOUND)
    if as_json:
        print_json({"records": shown.records, "payload": shown.payload, "payload_state": shown.payload_state})
        return
    from gateway.cli.one_call import tell

    tell(shown)


@app.command()
def tail(
    agent: Agent = None,
    tool: Tool = None,
    config: ConfigPath = DEFAULT_CONFIG,
    as_json: AsJson = False,
) -> None:
    """Follow decisions and outcomes as they are recorded, until Ctrl-C."""
    from gateway.cli.opened import journal
    from gateway.cli.times import clock

    with journal(config) as query:
        last = query.last()
        while True:
            for record in query.tail(last):
                last = record["seq"]
                if not _wanted(record, agent, tool):
                    continue
                if as_json:
                    print_json(record)
                else:
                    said = " ".join(
                        str(record.get(name, "")) for name in ("phase", "verdict", "action", "status", "code")
                    )
                    who = f"{record.get('agent', ''):<16} {record.get('target', ''):<32}"
                    say(printable(f"{clock(record['at_ns'])} {who} {' '.join(said.split())}"))
            sys.stdout.flush()
            time.sleep(_TAIL_S)


@app.command()
def export(
    agent: Agent = None,
    tool: Tool = None,
    since: Since = None,
    config: ConfigPath = DEFAULT_CONFIG,
) -> None:
    """Write records as lines of JSON, oldest first. Without a filter that is every record of every call."""
    from gateway.cli.opened import journal
    from gateway.journal.query import Filter

    narrowed = any(part is not None for part in (agent, tool, since))
    narrow = Filter(agent=agent, tool=tool, since_ns=_since(since)) if narrowed else None
    with journal(config) as query:
        for line in query.export(narrow):
            sys.stdout.buffer.write(line)
    sys.stdout.buffer.flush()


@app.command()
def resolve(
    call_id: Annotated[str, typer.Argument(help="Id of a call in doubt.")],
    became: Annotated[
        Literal["executed", "not-executed"], typer.Option(help="What you found out at the tool's own end.")
    ],
    note: Annotated[str, typer.Option(help="How you know.")] = "",
    config: ConfigPath = DEFAULT_CONFIG,
    as_json: AsJson = False,
) -> None:
    """Say what became of a call in doubt. Until then identical calls are refused; it is final."""
    from gateway.cli.opened import configuration, database
    from gateway.journal import resolution

    with database(configuration(config)) as opened:
        try:
            resolution.resolve(
                opened, call_id, "executed" if became == "executed" else "not_executed", by=who(), note=note
            )
        except resolution.NotInDoubt as error:
            fail(f"{error}.".capitalize(), "See 'wardgate decisions list --in-doubt'.", NOT_FOUND)
    if as_json:
        print_json({"call_id": call_id, "became": became})
    else:
        say(f"{call_id} is on record as {became}.")


_HEADINGS: Final = ("time", "agent", "call", "risk", "verdict", "action", "outcome", "reason", "id")


def _row(record: Record) -> list[str]:
    from gateway.cli.times import short

    return [
        short(record["at_ns"]),
        record.get("agent") or "",
        record.get("target") or record.get("surface") or "",
        record.get("risk") or "",
        record.get("verdict") or "",
        record.get("action") or "",
        record.get("status") or record.get("end_phase") or "",
        record.get("code") or "",
        record["call_id"],
    ]


def _page(query: Query, narrow: Filter, limit: int, cursor: int | None) -> tuple[list[Record], int | None]:
    page = query.list_decisions(narrow, limit=limit, cursor=cursor)
    return page.decisions, page.cursor


def _would_deny(
    query: Query, narrow: Filter, limit: int, cursor: int | None
) -> tuple[list[Record], int | None]:
    """What enforcing would have refused: a verdict other than allow, and carried out all the same."""
    import msgspec

    found: list[Record] = []
    for verdict in ("deny", "escalate"):
        each = msgspec.structs.replace(narrow, verdict=verdict, action="allow")
        listed = query.list_decisions(each, limit=limit + 1, cursor=cursor).decisions
        # In enforce mode an escalated call goes on only when people have agreed to it.
        found += [record for record in listed if record.get("mode") != "enforce"]
    found.sort(key=lambda record: -int(record["seq"]))
    return found[:limit], found[limit - 1]["seq"] if len(found) > limit else None


def _wanted(record: dict[str, Any], agent: str | None, tool: str | None) -> bool:
    target = record.get("target") or ""
    if agent is not None and record.get("agent") != agent:
        return False
    return tool is None or target == tool or (tool.endswith("/") and target.startswith(tool))


def _since(text: str | None) -> int | None:
    from gateway.cli.keys import duration

    return None if text is None else time.time_ns() - int(duration(text) * 1_000_000_000)


def who() -> str:
    """Who does it, for the record: the account of this machine, which is all a command line can know."""
    return f"{getpass.getuser()}@cli"
