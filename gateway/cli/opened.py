"""What several commands open: configuration, storage, keys."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gateway.config import Config
    from gateway.journal.query import Query
    from gateway.storage.database import Database


def configuration(path: Path) -> Config:
    """The configuration as ``serve`` would read it, with the secrets beside it."""
    from gateway.cli import envfile
    from gateway.config import load

    envfile.apply(path)
    return load(path)


@contextmanager
def database(config: Config, *, read_only: bool = False) -> Iterator[Database]:
    """The gateway's storage, whether or not the gateway is running."""
    from gateway.cli.output import NOT_FOUND, fail
    from gateway.storage.place import place

    found = place(config.storage)
    # To look must not create: a mistyped path would show an empty journal instead of an error.
    if read_only and not found.exists:
        fail(f"There is no storage at {config.storage.path} yet.", "Start the gateway once.", NOT_FOUND)
    with found.open(read_only=read_only) as opened:
        yield opened


@contextmanager
def journal(path: Path) -> Iterator[Query]:
    """The read side of the journal of a configuration."""
    from gateway.journal.query import Query

    with database(configuration(path), read_only=True) as opened:
        yield Query(opened)
