"""``wardgate sessions``: what agents are at, and how to end, check or declassify it.

Read straight from the storage, so it works whether or not the gateway is running: what was saved, and the
records since then. To look writes nothing. What is done to a session is in force in a running gateway within
a second.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, TypeVar

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
    printable,
    say,
)

if TYPE_CHECKING:
    from gateway.config import Config
    from gateway.desk import ActName, Desk
    from gateway.errors import BadMandate

app = typer.Typer(help="Look at sessions, open and end them.", no_args_is_help=True)

T = TypeVar("T")
Id = Annotated[str, typer.Argument(help="Id of the session; see 'wardgate sessions list'.")]
Note = Annotated[str, typer.Option("--note", help="Why; on record.")]

_MAX_FILE: Final = 1024 * 1024


@app.command("list")
def list_sessions(
    agent: Annotated[str | None, typer.Option(help="Only of this agent.")] = None,
    every: Annotated[bool, typer.Option("--all", help="Also those that have been ended.")] = False,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="How many at most.")] = 50,
    config: ConfigPath = DEFAULT_CONFIG,
    as_json: AsJson = False,
) -> None:
    """List sessions, those used last first."""

    async def run(desk: Desk) -> list[dict[str, Any]]:
        return await desk.all(agent, closed=every, limit=limit)

    with _opened(config, read_only=True) as asked:
        found = asked(run)
    if as_json:
        print_json({"items": found})
        return
    print_table("", _HEADINGS, [_row(each) for each in found])


@app.command()
def show(session: Id, config: ConfigPath = DEFAULT_CONFIG, as_json: AsJson = False) -> None:
    """Show everything known of a session: mandate, budgets, labels, progress and what was done to it."""

    async def run(desk: Desk) -> dict[str, Any]:
        return await desk.shown(None, session)

    with _opened(config, read_only=True) as asked:
        found = asked(run)
    if as_json:
        print_json(found)
    else:
        _tell(found)


@app.command("open")
def open_session(
    agent: Annotated[str, typer.Option(help="The agent it is for.")],
    mandate: Annotated[
        Path | None, typer.Option(help="File with the mandate, YAML or JSON. Without it, the parent's.")
    ] = None,
    subject: Annotated[str | None, typer.Option(help="The verified user it is for.")] = None,
    parent: Annotated[str, typer.Option(help="The session it is part of.")] = "",
    broad: Annotated[
        bool, typer.Option("--broad", help="It is meant to cover every tool of an upstream, or of all.")
    ] = False,
    why: Note = "",
    config: ConfigPath = DEFAULT_CONFIG,
    as_json: AsJson = False,
) -> None:
    """Open a session for an agent, and print its id."""
    raw = _mandate(mandate) if mandate is not None else None

    async def run(desk: Desk, loaded: Config) -> dict[str, Any]:
        known = loaded.agents.get(agent)
        if known is None:
            names = ", ".join(sorted(loaded.agents)) or "none"
            fail(f"{config} has no agent '{printable(agent)}' (it has: {names}).", "", NOT_FOUND)
        return await desk.open_by(
            _who(), tenant=known.tenant, agent=agent, subject=subject, mandate=raw, parent=parent, note=why,
            broad=broad,
        )  # fmt: skip

    loaded_config: list[Config] = []
    with _opened(config, loaded=loaded_config) as asked:
        found = asked(lambda desk: run(desk, loaded_config[0]))
    if as_json:
        print_json(found)
        return
    say(found["id"])
    note("The agent names it in the header 'Wardgate-Session' or in _meta as 'dev.wardgate/session'.")


@app.command()
def close(session: Id, why: Note = "", config: ConfigPath = DEFAULT_CONFIG, as_json: AsJson = False) -> None:
    """End a session, with everything opened under it.

    One that an agent has without asking starts anew: without labels, and with what it used of its budgets.
    """
    _do(config, session, "close", why, (), as_json)


@app.command()
def checkpoint(
    session: Id, why: Note = "", config: ConfigPath = DEFAULT_CONFIG, as_json: AsJson = False
) -> None:
    """Say that you looked at a session and it is on its way; its horizon begins anew."""
    _do(config, session, "checkpoint", why, (), as_json)


@app.command()
def declassify(
    session: Id,
    label: Annotated[list[str], typer.Option(help="The label to take off, such as untrusted; repeatable.")],
    why: Annotated[str, typer.Option("--note", help="Why it is safe; on record.")],
    config: ConfigPath = DEFAULT_CONFIG,
    as_json: AsJson = False,
) -> None:
    """Take labels off a session. What the agent read stays read: look at it first."""
    if not why.strip():
        fail("Say why it is safe.", "Give --note.")
    _do(config, session, "declassify", why, tuple(label), as_json)


def _do(config: Path, session: str, act: ActName, why: str, labels: tuple[str, ...], as_json: bool) -> None:
    async def run(desk: Desk) -> dict[str, Any]:
        if labels:
            has = (await desk.shown(None, session))["labels"]
            if missing := sorted(set(labels) - set(has)):
                fail(
                    f"The session has no label '{missing[0]}'.",
                    f"It has: {', '.join(has) or 'none'}; see 'wardgate sessions show'.",
                )
        await desk.act(_who(), tenant=None, session=session, act=act, note=why, labels=labels)
        return await desk.shown(None, session)

    with _opened(config) as asked:
        found = asked(run)
    if as_json:
        print_json(found)
        return
    if found["status"] == "closed" and found["successor"]:
        say(f"{session} is closed; {found['successor']} goes on in its place.")
    else:
        say(f"{session} is {found['status']}; labels: {', '.join(found['labels']) or 'none'}.")


@contextmanager
def _opened(
    path: Path, *, read_only: bool = False, loaded: list[Config] | None = None
) -> Iterator[Callable[[Callable[[Desk], Awaitable[T]]], T]]:
    """Something to ask the sessions of a configuration with, as they are at this moment."""
    from gateway.cli.opened import configuration, database
    from gateway.clock import SystemClock
    from gateway.config_sessions import session_rules
    from gateway.desk import Desk
    from gateway.errors import BadMandate, Refused, StateError
    from gateway.remembered import Remembered
    from gateway.storage.crypto import load_key

    config = configuration(path)
    if loaded is not None:
        loaded.append(config)
    key = load_key(config.storage.key_file)
    with database(config, read_only=read_only) as storage:

        async def run(what: Callable[[Desk], Awaitable[T]]) -> T:
            remembered = await Remembered.open(storage, key, SystemClock(), session_rules(config))
            remembered.state.sessions.whole = False
            return await what(Desk(remembered, lambda: config))

        def asked(what: Callable[[Desk], Awaitable[T]]) -> T:
            try:
                return asyncio.run(run(what))
            except BadMandate as bad:
                fail(f"{bad.reason.message} {_faults(bad)}", bad.reason.remedy)
            except Refused as refused:
                missing = refused.code == "no_such_session"
                fail(refused.reason.message, "See 'wardgate sessions list'.", NOT_FOUND if missing else 2)
            except StateError as error:
                fail(printable(f"{error.reason.message} {error.detail}."), error.reason.remedy)

        yield asked


def _faults(bad: BadMandate) -> str:
    return printable("; ".join(f"{each.at or '/'}: {each.what} ({each.remedy})" for each in bad.faults))


def _mandate(path: Path) -> dict[str, Any]:
    import yaml

    try:
        raw = path.read_bytes()
    except OSError as error:
        fail(f"{path}: {error.strerror}.", "Give a file with the mandate.", NOT_FOUND)
    if len(raw) > _MAX_FILE:
        fail(f"{path} is too large for a mandate.")
    try:
        said = yaml.safe_load(raw)
    except (yaml.YAMLError, UnicodeDecodeError, ValueError) as error:
        fail(printable(f"{path} is neither YAML nor JSON: {error}"))
    if not isinstance(said, dict):
        fail(f"{path} is no mandate: it must be a mapping.")
    return said


def _who() -> str:
    from gateway.cli.decisions import who

    return who()


_HEADINGS: Final = ("last use", "agent", "subject", "status", "calls", "labels", "due", "objective", "id")


def _row(each: dict[str, Any]) -> list[str]:
    mandate = each["mandate"] or {}
    used = each["last"][-1]["at"] if each["last"] else each["opened"]
    return [
        used[:19].replace("T", " "),
        each["agent"],
        each["subject"] or "",
        each["status"],
        str(each["calls"]),
        ", ".join(each["labels"]),
        "yes" if (each["progress"] or {}).get("due") else "",
        _line(mandate.get("objective", ""))[:60],
        each["id"],
    ]


def _line(text: str) -> str:
    return " ".join(text.split())


def _tell(found: dict[str, Any]) -> None:
    """For people, in the order in which they ask: whose, what for, how far, what it has touched."""
    mandate = found["mandate"] or {}
    about = [
        ("session", found["id"] + (" (without asking)" if found["rolling"] else "")),
        ("status", found["status"]),
        ("agent", f"{found['agent']} of {found['tenant']}"),
        ("user", found["subject"] or ""),
        ("opened", f"{found['opened']} by {found['opened_by'] or 'itself'}"),
        ("part of", found["parent"] or ""),
        ("goes on in", found["successor"] or ""),
        ("expires", found["expires"] or ""),
        ("objective", _line(mandate.get("objective", ""))),
        ("tools", ", ".join(mandate.get("tools", ()))),
        ("calls", f"{found['calls']}: {found['writes']} writes, {found['irreversible']} irreversible, "
                  f"{found['errors']} failed; {found['denials']} refused"),
        ("integrity", found["integrity"]),
        ("confidentiality", found["confidentiality"]),
        ("labels", ", ".join(found["labels"])),
        ("because of", ", ".join(found["sources"])),
        ("suspect since", found["suspect_since"] or ""),
        ("checkpoint", (found["progress"] or {}).get("why", "")),
    ]  # fmt: skip
    for name, value in about:
        if value:
            say(f"{name:<16}{printable(value)}")
    budgets = [
        [scope, metric, str(fact["limit"]), str(fact["used"]), str(fact["reserved"]), str(fact["left"])]
        for scope, metrics in found["budgets"].items()
        for metric, fact in metrics.items()
    ]
    if budgets:
        say()
        print_table("", ("budget of", "metric", "limit", "used", "reserved", "left"), budgets)
    if found["last"]:
        say()
        last = [[step["at"], step["target"], step["risk"], step["status"]] for step in found["last"]]
        print_table("", ("last calls", "call", "risk", "outcome"), last)
    if found.get("acts"):
        say()
        acts = [[act["at"], act["act"], act["by"], _line(act["note"])] for act in found["acts"]]
        print_table("", ("what was done", "act", "by", "note"), acts)
