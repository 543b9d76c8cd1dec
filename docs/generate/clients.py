"""Writes ``docs/reference/clients.md`` below its mark from the table of clients that the tests drive."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from typing import Final

from tests.clients import story
from tests.clients.clients import CLIENTS, Client

PAGE: Final = Path(__file__).parents[1] / "reference" / "clients.md"
MARK: Final = "<!-- Generated from here on by docs/generate/clients.py (make docs). -->\n"


def main() -> None:
    PAGE.write_text(page(), encoding="utf-8")
    sys.stdout.write("docs/reference/clients.md\n")


def page() -> str:
    """The page as it should be: what people wrote, and what the table says."""
    top, mark, _ = PAGE.read_text(encoding="utf-8").partition(MARK)
    if not mark:
        raise SystemExit("docs/reference/clients.md has no line that says where the generated part begins")
    return f"{top}{MARK}\n" + "\n".join([*_clients(), *_promises(), *_changes()]).rstrip() + "\n"


def _clients() -> Iterator[str]:
    yield "## Clients\n"
    yield "| client | package | speaks | seen from | name in `CLIENTS` | in CI |"
    yield "|---|---|---|---|---|---|"
    for client in CLIENTS:
        package = f"`{client.package}` {client.version}"
        seen = "its model" if client.framework else "the program"
        often = "yes" if client.ci else "–"
        yield f"| {client.title} | {package} | {client.era} | {seen} | `{client.name}` | {often} |"
    yield ""


def _promises() -> Iterator[str]:
    yield "## What each of them has shown\n"
    for promise in story.PROMISES:
        yield f"- {promise}"
    yield ""


def _changes() -> Iterator[str]:
    yield "## The change for each\n"
    for adopt, group in groupby(CLIENTS, key=lambda client: client.adopt):
        alike = list(group)
        families = list(dict.fromkeys(map(_family, alike)))
        yield f"### {' and '.join(families)}\n"
        yield f"```{'python' if alike[0].driver.endswith('.py') else 'js'}\n{adopt}\n```\n"
        for client in alike:
            if client.note:
                yield f"{f'{_family(client)}: ' if len(families) > 1 else ''}{client.note}\n"


def _family(client: Client) -> str:
    """The title without the mode it was tried in."""
    return client.title.partition(", ")[0]


if __name__ == "__main__":
    main()
