"""``wardgate incident``: what went wrong once as tests that stay, for policy and for detectors."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gateway.cli.output import (
    DEFAULT_CONFIG,
    FOUND_SOMETHING,
    NOT_FOUND,
    AsJson,
    ConfigPath,
    fail,
    note,
    print_json,
    printable,
    say,
)

if TYPE_CHECKING:
    from gateway.breakers.event import Event
    from gateway.breakers.trip import Trip
    from gateway.config import Config
    from gateway.recorded import Recorded
    from gateway.storage.database import Database

app = typer.Typer(help="Make tests of incidents.", no_args_is_help=True)

CASES = "_cases.yaml"
COURSE = "_course.yaml"


@app.command()
def export(
    what: Annotated[str, typer.Argument(help="Id of a trip, of a call (decision) or of a session.")],
    to: Annotated[Path, typer.Option("--to", help="Folder to write to, such as the policy's.")] = Path(),
    expect: Annotated[
        str | None,
        typer.Option(
            help="What should have come out, such as 'deny recipient_unknown'; by default what did."
        ),
    ] = None,
    keep: Annotated[
        list[str] | None,
        typer.Option("--keep", help="JSON pointer into the arguments that is not replaced, such as /path."),
    ] = None,
    reveal: Annotated[bool, typer.Option("--reveal", help="Replace nothing.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Write over what is there.")] = False,
    config: ConfigPath = DEFAULT_CONFIG,
    as_json: AsJson = False,
) -> None:
    """Write an incident as test cases, ready to be committed.

    NAME_cases.yaml is for 'wardgate policy test': the calls with the facts they had and the verdict. With
    --expect it says what should have come out, so that it fails until the policy is mended. NAME_course.yaml
    is for 'wardgate incident test': the order of events and the first move of the exact detectors.
    """
    from gateway.cli.opened import configuration, database
    from gateway.cli.policy_source import bundle_of
    from gateway.incident import as_yaml, course, policy_table
    from gateway.policy import cases as policy_cases
    from gateway.policy.policy import EmbeddedPolicy

    loaded = configuration(config)
    policy = EmbeddedPolicy(bundle_of(None, config))
    with database(loaded, read_only=True) as opened:
        trip, decisions, events = _gathered(what, opened, loaded)
    about = f"trip {trip.id}: {trip.sentence}" if trip is not None else f"from {what}"
    title = f"Incident {what}"
    table = policy_table(
        policy, decisions, title, about, expect=expect, keep=keep or (), reveal=reveal
    )  # fmt: skip
    name = "incident_" + "".join(each if each.isalnum() else "_" for each in what)
    written: list[str] = []
    if table.cases:
        if problems := [str(each) for each in policy_cases.faults(table.text)]:
            fail("What was asked to be expected cannot be tested: " + "; ".join(problems))
        written.append(_write(to / (name + CASES), table.text, force))
    told = course(events, about, loaded.breakers.settings())
    if events:
        written.append(_write(to / (name + COURSE), as_yaml(told), force))
    if as_json:
        print_json(
            {"files": written, "cases": table.cases, "events": len(told.events), "kept": list(table.kept),
             "left_out": dict(table.left_out), "changed": table.changed,
             "course": None if told.expect is None else told.expect.detector}
        )  # fmt: skip
    else:
        _tell(written, table, told.expect is not None, trip)
    if not written:
        raise typer.Exit(FOUND_SOMETHING)


@app.command()
def test(
    files: Annotated[list[Path], typer.Argument(help="Files NAME_course.yaml, or folders with such files.")],
    config: ConfigPath = DEFAULT_CONFIG,
    as_json: AsJson = False,
) -> None:
    """Let the exact detectors look at incidents again, with the configured thresholds."""
    from gateway.cli.opened import configuration
    from gateway.errors import ConfigError
    from gateway.incident import first_move, read_course

    settings = configuration(config).breakers.settings()
    paths = [
        path for each in files for path in (sorted(each.rglob(f"*{COURSE}")) if each.is_dir() else [each])
    ]
    if not paths:
        fail(f"There are no files *{COURSE} there.", "See 'wardgate incident export'.", NOT_FOUND)
    results: list[dict[str, Any]] = []
    for path in paths:
        try:
            told = read_course(path.read_text())
        except (OSError, UnicodeDecodeError, ConfigError) as error:
            fail(f"{path}: {error}")
        found = first_move(told, settings)
        results.append({"file": str(path), "passed": found == told.expect, "wanted": _move(told.expect),
                        "found": _move(found)})  # fmt: skip
    failed = [each for each in results if not each["passed"]]
    if as_json:
        print_json({"results": results})
    else:
        for each in failed:
            say(f"{printable(each['file'])}: {each['found']}; expected is {each['wanted']}")
        say(f"{len(results) - len(failed)} of {len(results)} passed.")
    if failed:
        raise typer.Exit(FOUND_SOMETHING)


def _gathered(what: str, opened: Database, loaded: Config) -> tuple[Trip | None, list[Recorded], list[Event]]:
    """The trip, when it is one; the decisions it is about; and the events of the session until then."""
    from gateway.guard import places_of
    from gateway.incident import MOST_EVENTS, whole
    from gateway.journal.events import recorded_events
    from gateway.journal.query import Filter
    from gateway.journal.recorded import Inputs
    from gateway.storage.breakers import BreakerStore
    from gateway.storage.crypto import load_key

    inputs = Inputs(opened, load_key(loaded.storage.key_file))
    trip: Trip | None = None
    if what.startswith("trip_"):
        told = BreakerStore(opened).trip(what)
        if told is None:
            fail(f"There is no trip '{printable(what)}'.", "See 'wardgate breaker trips'.", NOT_FOUND)
        trip = told.trip
        decisions = [found for call in trip.calls if (found := inputs.one(call)) is not None]
        session = trip.session
    elif (one := inputs.one(what)) is not None:
        return None, [one], []
    else:
        session = what
        decisions = list(inputs.read(Filter(session=session), MOST_EVENTS))
    events = list(recorded_events(opened, session=session)) if session else []
    if not decisions and not events:
        fail(f"There is no trip, call or session '{printable(what)}'.", "", NOT_FOUND)
    if trip is not None and trip.calls:
        last = max(
            (n for n, each in enumerate(events) if each.call_id in trip.calls), default=len(events) - 1
        )
        events = events[: last + 1]
    known = (
        {each.call_id: each for each in inputs.read(Filter(session=session), MOST_EVENTS)} if session else {}
    )
    return (
        trip,
        decisions,
        [whole(each, known.get(each.call_id), places_of) for each in events[-MOST_EVENTS:]],
    )


def _write(path: Path, text: str, force: bool) -> str:
    if path.exists() and not force:
        fail(f"{path} is there already.", "--force writes over it.")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return str(path)


def _tell(written: list[str], table: Any, moved: bool, trip: Trip | None) -> None:
    for path in written:
        say(f"wrote {printable(path)}")
    if table.changed:
        note(f"{table.changed} calls are decided otherwise by the policy of today.")
    if table.kept:
        note(
            "The decision depends on the values at "
            + ", ".join(printable(each) for each in table.kept)
            + ": they stand there as they were."
        )
    for why, count in table.left_out.items():
        note(f"{count} calls are not in it: {why}.")
    if trip is not None and not moved:
        note(f"'{trip.detector}' needs more than this session to be reproduced; the course expects no move.")


def _move(move: Any) -> str:
    return f"{move.detector} → {move.after} at event {move.event}" if move is not None else "no move"
