"""What people and scripts see: tables or JSON on stdout, one sentence and its remedy on stderr.

Exit codes, the same for every command:

    0   done
    1   done, and something was found that deserves attention
    2   not done: wrong usage, invalid configuration, or problems found
    3   what was asked for does not exist
    4   something this command depends on is missing or cannot be reached
    130 interrupted
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Final, NoReturn

import typer

FOUND_SOMETHING: Final = 1
NOT_DONE: Final = 2
NOT_FOUND: Final = 3
UNREACHABLE: Final = 4
INTERRUPTED: Final = 130

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]
ConfigPath = Annotated[
    Path,
    typer.Option("--config", "-c", envvar="WARDGATE_CONFIG", help="The gateway's configuration file."),
]
DEFAULT_CONFIG: Final = Path("wardgate.yaml")


class Failure(Exception):
    """A command that could not do what was asked, said in one sentence with what to do about it."""

    def __init__(self, sentence: str, remedy: str = "", code: int = NOT_DONE) -> None:
        super().__init__(sentence)
        self.sentence = sentence
        self.remedy = remedy
        self.code = code


def fail(sentence: str, remedy: str = "", code: int = NOT_DONE) -> NoReturn:
    raise Failure(sentence, remedy, code)


def say(text: str = "") -> None:
    """A line for people, on stdout."""
    print(text)


def note(text: str) -> None:
    """A line for people, on stderr, so that stdout stays what a script asked for."""
    print(text, file=sys.stderr)


def print_json(value: Any) -> None:
    """One JSON document; indented for a terminal, one line for a pipe, whose reader may be waiting for it."""
    indent = 2 if sys.stdout.isatty() else None
    print(json.dumps(value, indent=indent, ensure_ascii=False, default=str), flush=True)


def print_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """A table as wide as the terminal, or as wide as its content when there is none to fit."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    width = int(os.environ.get("COLUMNS") or 200)
    console = Console() if sys.stdout.isatty() else Console(width=width, no_color=True)
    table = Table(title=title or None, title_justify="left", header_style="bold", box=None, pad_edge=False)
    for column in columns:
        table.add_column(column, overflow="fold", no_wrap=column == "id")  # an id is there to be copied
    for row in rows:
        # Text, not str: what agents and tools call themselves must not be read as markup of ours.
        table.add_row(*(Text(printable(cell)) for cell in row))
    console.print(table)


def printable(text: str) -> str:
    """Without control characters: names from a tool server must not drive the operator's terminal."""
    return "".join(char if char.isprintable() or char == "\n" else "�" for char in text)
