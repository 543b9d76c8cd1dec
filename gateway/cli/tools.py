"""``wardgate tools``: what upstreams list, what was accepted, and the difference.

It works on the database, whether or not the gateway runs; a running one follows within a second. What an
upstream wrote is shown with what cannot be seen spelled out.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

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
    say,
)

if TYPE_CHECKING:
    from gateway.config import Config
    from gateway.model import Pin
    from gateway.pins import PinRow
    from gateway.storage.pins import Pins

app = typer.Typer(help="Look at tools that changed, and accept or reject them.", no_args_is_help=True)

_MIN_HASH: Final = 8

KindName = Literal["tool", "prompt", "resource", "template"]
Target = Annotated[str, typer.Argument(help="upstream/name, as 'wardgate tools list' shows it.")]
OneKind = Annotated[KindName | None, typer.Option("--kind", help="When several kinds have that name.")]
OneUpstream = Annotated[str | None, typer.Option(help="Only of this upstream.")]
Hash = Annotated[
    str | None, typer.Option("--hash", help="Of the definition you looked at, at least 8 digits of it.")
]
By = Annotated[str | None, typer.Option("--by", help="Who says so; your user name when left out.")]


@app.command("list")
def list_tools(
    upstream: OneUpstream = None,
    quarantined: Annotated[bool, typer.Option("--quarantined", help="Only what is in quarantine.")] = False,
    config: ConfigPath = DEFAULT_CONFIG,
    as_json: AsJson = False,
) -> None:
    """List tools, prompts and templates with their pins.

    Exits 1 when something in quarantine waits for a person.
    """
    from gateway.pins import waiting

    with _read(config) as (loaded, _, rows):
        judged = [(row, _judged(loaded, row)) for row in rows if upstream in (None, row.upstream)]
    shown = [(row, pin) for row, pin in judged if pin.quarantined or not quarantined]
    if as_json:
        print_json([_described(row, pin) for row, pin in shown])
    else:
        rows_shown = [
            [_written(row), row.kind, pin.state + (" (held)" if pin.quarantined else ""),
             " ".join(pin.flags), row.listed_hash[:12], row.accepted_by or ""]
            for row, pin in shown
        ]  # fmt: skip
        print_table("", ["target", "kind", "state", "flags", "hash", "accepted by"], rows_shown)
    if any(waiting(pin) for _, pin in judged):
        raise typer.Exit(FOUND_SOMETHING)


@app.command()
def show(
    target: Target, kind: OneKind = None, config: ConfigPath = DEFAULT_CONFIG, as_json: AsJson = False
) -> None:
    """Show one definition as it is listed, and what is wrong with it."""
    with _read(config) as (loaded, pins, rows):
        row = _one(rows, target, kind)
        definition = _parsed(pins, row)[1]
    found = _concealed(definition)
    described = _described(row, _judged(loaded, row))
    if as_json:
        print_json({**described, "concealed": found, "definition": definition})
        return
    for key, value in described.items():
        if value not in (None, [], ""):
            say(f"{key + ':':<15}{_visible(value if isinstance(value, str) else _flat(value))}")
    for finding in found:
        say(f"{'conceals:':<15}{finding}")
    say("")
    for line in _lines(definition):
        say(line)


@app.command()
def diff(
    target: Annotated[
        str | None, typer.Argument(help="upstream/name; everything that waits, if left out.")
    ] = None,
    kind: OneKind = None,
    upstream: OneUpstream = None,
    config: ConfigPath = DEFAULT_CONFIG,
    as_json: AsJson = False,
) -> None:
    """Show what is listed against what was accepted, with invisible characters spelled out.

    Exits 1 when there is a difference, or something in quarantine waits for a person.
    """
    from gateway.pins import waiting

    with _read(config) as (loaded, pins, rows):
        if target is not None:
            wanted = [_one(rows, target, kind)]
        else:
            wanted = [
                row for row in rows if upstream in (None, row.upstream) and waiting(_judged(loaded, row))
            ]
        found = [_difference(loaded, pins, row, rows) for row in wanted]
    differences = [each for each in found if each["diff"] or target is None]
    if as_json:
        print_json(differences)
    else:
        for each in differences:
            flags = f", {' '.join(each['flags'])}" if each["flags"] else ""
            say(f"# {each['shown']} ({each['kind']}): {each['state']}{flags}; hash {each['hash']}")
            if each["renamed_from"]:
                say(f"# was called {each['renamed_from']}")
            for finding in each["concealed"]:
                say(f"# conceals: {finding}")
            for line in each["diff"]:
                say(line)
            say("")
        if not differences:
            say("Nothing differs from what was accepted.")
    if differences:
        raise typer.Exit(FOUND_SOMETHING)


@app.command()
def accept(
    target: Annotated[str | None, typer.Argument(help="upstream/name; or --all.")] = None,
    hash_prefix: Hash = None,
    every: Annotated[bool, typer.Option("--all", help="Everything that waits in quarantine now.")] = False,
    kind: OneKind = None,
    upstream: OneUpstream = None,
    by: By = None,
    config: ConfigPath = DEFAULT_CONFIG,
    as_json: AsJson = False,
) -> None:
    """Accept definitions, so that they are offered and can be called.

    Refused with exit code 2 when another definition is listed by now than the one named by its hash. With
    --all nothing is named: what is accepted is what is listed at this moment, and its hashes are printed.
    """
    from gateway.pins import waiting

    if (target is None) != every or (every and hash_prefix is not None):
        fail("Name one tool and its hash, or give --all.", "wardgate tools diff")
    with _read(config) as (loaded, _, rows):
        if target is None:
            chosen = [
                row for row in rows if upstream in (None, row.upstream) and waiting(_judged(loaded, row))
            ]
        else:
            chosen = [_named(rows, target, kind, hash_prefix)]
    _say_so(loaded, chosen, "accept", by, as_json)


@app.command()
def reject(
    target: Target,
    hash_prefix: Hash = None,
    kind: OneKind = None,
    by: By = None,
    config: ConfigPath = DEFAULT_CONFIG,
    as_json: AsJson = False,
) -> None:
    """Refuse a definition, also one that was accepted.

    It stays in quarantine and no longer waits for anybody.
    """
    with _read(config) as (loaded, _, rows):
        chosen = [_named(rows, target, kind, hash_prefix)]
    _say_so(loaded, chosen, "reject", by, as_json)


# ------------------------------------------------------------------------------------------- storage


@contextmanager
def _read(config_path: Path) -> Iterator[tuple[Config, Pins, Sequence[PinRow]]]:
    """Configuration, open storage and the pins of upstreams that are configured."""
    from gateway.cli.opened import configuration, database
    from gateway.storage.pins import Pins

    loaded = configuration(config_path)
    with database(loaded, read_only=True) as opened:
        pins = Pins(opened)
        yield loaded, pins, [row for row in pins.load()[1] if row.upstream in loaded.upstreams]


def _say_so(
    config: Config, rows: Sequence[PinRow], what: Literal["accept", "reject"], by: str | None, as_json: bool
) -> None:
    from gateway.cli.opened import database
    from gateway.storage.pins import Pins

    who = by or _user()
    done: list[dict[str, str]] = []
    with database(config) as opened:
        pins = Pins(opened)
        for row in rows:
            if not (pins.accept if what == "accept" else pins.reject)(row, who):
                if as_json and done:
                    print_json(done)
                fail(
                    f"'{_written(row)}' has another definition by now, which was not {what}ed.",
                    "Look again: wardgate tools diff",
                )
            done.append({"target": row.target, "kind": row.kind, "hash": row.listed_hash, "by": who})
            if not as_json:
                say(f"{what}ed {_written(row)} {row.listed_hash}")
    if as_json:
        print_json(done)
    elif not done:
        say("Nothing waits in quarantine.")


def _one(rows: Sequence[PinRow], target: str, kind: str | None) -> PinRow:
    """The pin of a name, given as it is or as lists show it."""
    found = [
        row for row in rows if target in (row.target, _written(row)) and kind in (None, row.kind)
    ]  # fmt: skip
    if not found:
        fail(f"No upstream has listed '{_visible(target)}'.", "See 'wardgate tools list'.", NOT_FOUND)
    if len(found) > 1:
        kinds = ", ".join(row.kind for row in found)
        fail(f"'{_visible(target)}' is several things: {kinds}.", f"Say which: --kind {found[0].kind}")
    return found[0]


def _named(rows: Sequence[PinRow], target: str, kind: str | None, prefix: str | None) -> PinRow:
    """The pin of a name, provided that the definition listed is the one that was looked at."""
    row = _one(rows, target, kind)
    look = f"Look at it first: wardgate tools diff {_written(row)}"
    if prefix is None or len(prefix) < _MIN_HASH:
        fail(f"Say which definition: --hash and at least {_MIN_HASH} digits of it.", look)
    if not row.listed_hash.startswith(prefix.lower()):
        fail(f"'{_written(row)}' is listed with another definition by now: {row.listed_hash[:12]}.", look)
    return row


def _user() -> str:
    import getpass

    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a user id without a name, as in many containers
        import os

        return f"uid {os.getuid()}"


def _judged(config: Config, row: PinRow) -> Pin:
    from gateway.pins import judged

    return judged(row, config.upstreams[row.upstream].pins)


# ------------------------------------------------------------------------------------------- showing


def _described(row: PinRow, pin: Pin) -> dict[str, Any]:
    from gateway.cli.times import local

    def when(ns: int | None) -> str | None:
        return local(ns) if ns is not None else None

    return {
        "target": row.target,
        "kind": row.kind,
        "state": pin.state,
        "flags": list(pin.flags),
        "quarantined": pin.quarantined,
        "hash": row.listed_hash,
        "seen": when(row.seen_ns),
        "removed": when(row.removed_ns),
        "accepted_hash": row.accepted_hash,
        "accepted_by": row.accepted_by,
        "accepted": when(row.accepted_ns),
        "rejected_by": row.rejected_by,
        "rejected": when(row.rejected_ns),
    }


def _difference(config: Config, pins: Pins, row: PinRow, rows: Sequence[PinRow]) -> dict[str, Any]:
    import difflib

    pin = _judged(config, row)
    accepted, listed = _parsed(pins, row)
    # Of what was renamed, the difference is that to what it was.
    was = next((other for other in rows if "renamed" in pin.flags and _became(other, row)), None)
    if accepted is None and was is not None:
        accepted = _parsed(pins, was)[0]
    before = _lines(accepted) if accepted is not None else []
    after = _lines(listed) if row.listed else []
    lines = difflib.unified_diff(before, after, "accepted", "listed", lineterm="", n=3)
    return {
        "target": row.target,
        "shown": _written(row),
        "kind": row.kind,
        "state": pin.state,
        "flags": list(pin.flags),
        "hash": row.listed_hash,
        "accepted_hash": row.accepted_hash,
        "renamed_from": _written(was) if was is not None else None,
        "concealed": _concealed(listed),
        "diff": list(lines),
    }


def _became(old: PinRow, new: PinRow) -> bool:
    same = (old.upstream, old.kind, old.shape) == (new.upstream, new.kind, new.shape)
    return same and not old.listed


def _parsed(pins: Pins, row: PinRow) -> tuple[Any, Any]:
    import orjson

    accepted, listed = pins.definitions(row)
    return (orjson.loads(accepted) if accepted is not None else None), orjson.loads(listed)


def _concealed(definition: Any) -> list[str]:
    from gateway.catalog import concealed

    return concealed.findings(definition)


def _lines(definition: Any) -> list[str]:
    """A definition for reading: sorted, one member a line, long texts broken where they break themselves."""
    import json

    text = json.dumps(definition, indent=2, sort_keys=True, ensure_ascii=False)
    lines = [_visible(line) for line in text.replace("\\n", "\\n\n").split("\n")]
    # The name in ASCII: there a look-alike must not pass, while a text may well be in another script.
    return [
        line if line[:9] != '  "name":' else line.encode("ascii", "backslashreplace").decode()
        for line in lines
    ]


def _written(row: PinRow) -> str:
    """The name for tables and messages: escaped, so that one look-alike cannot be taken for the other."""
    return f"{row.upstream}/{ascii(row.name)[1:-1]}"


def _flat(value: Any) -> str:
    return ", ".join(value) if isinstance(value, list) else str(value)


def _visible(text: str) -> str:
    """``text`` with each character that has no shape of its own written as ``\\u{…}``."""
    from gateway.catalog.concealed import unseen

    hidden = set(unseen(text))
    return "".join(
        f"\\u{{{ord(char):x}}}"
        if at in hidden or not (char.isprintable() or char in "\ufe0f\u200d\u200c")
        else char
        for at, char in enumerate(text)
    )
