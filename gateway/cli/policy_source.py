"""Which policy a command is about, and which recorded decisions: options that several commands share."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

if TYPE_CHECKING:
    from gateway.config import Config
    from gateway.journal.query import Filter
    from gateway.policy.module import Bundle

Folder = Annotated[Path | None, typer.Argument(help="A policy folder, instead of the configured one.")]
Pack = Annotated[
    str | None, typer.Option(help="The shipped pack the folder lies over; by default the configured one.")
]
Agent = Annotated[str | None, typer.Option(help="Only of this agent.")]
Tool = Annotated[str | None, typer.Option(help="Only of this tool (upstream/name) or upstream (upstream/).")]
Since = Annotated[str | None, typer.Option(help="Only of the last 10s, 30m, 12h or 7d.")]
Limit = Annotated[int | None, typer.Option(min=1, help="Only the newest so many.")]
Reveal = Annotated[bool, typer.Option("--reveal", help="Also values that are redacted.")]

T = TypeVar("T")


def folder_of(config: Config) -> Path | None:
    """The policy folder, or the file of the bundle; with a pack it may be absent."""
    folder = config.policy.folder or config.policy.source.file
    if folder is None:
        from gateway.cli.output import fail

        fail("The configured policy is behind a url.", "Name a folder or bundle.")
    return folder if config.policy.pack is None or folder.exists() else None


def bundle_of(folder: Path | None, config: Path, pack: str | None = None) -> Bundle:
    """The policy of a folder over a pack, or else the configured one.

    A folder is laid over the configured pack, as it would be in the gateway. ``--pack`` names another one,
    or 'none'; without a folder it is that pack alone. Without a configuration a folder stands alone.
    """
    from gateway.policy.bundle import read_bundle

    return read_bundle(*source_of(folder, config, pack))


def source_of(folder: Path | None, config: Path, pack: str | None = None) -> tuple[Path | None, str | None]:
    """Folder and pack as ``read_bundle`` takes them."""
    if pack is not None or (folder is not None and not config.is_file()):
        return folder, None if pack in (None, "none") else pack
    from gateway.cli.opened import configuration

    loaded = configuration(config)
    return folder or folder_of(loaded), loaded.policy.pack


def narrowed(agent: str | None, tool: str | None, since: str | None) -> Filter:
    from gateway.cli.keys import duration
    from gateway.journal.query import Filter

    since_ns = None if since is None else time.time_ns() - int(duration(since) * 1_000_000_000)
    return Filter(agent=agent, tool=tool, since_ns=since_ns)


def shown(items: Iterable[T], total: int, what: str) -> Iterator[T]:
    """Pass items through, with a progress bar where somebody watches."""
    if not sys.stderr.isatty():
        yield from items
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(what, total=total)
        for number, item in enumerate(items):
            if number % 50 == 0:
                progress.update(task, completed=number)
            yield item


def short(values: Iterable[Any]) -> str:
    return ", ".join(str(value) for value in values)
