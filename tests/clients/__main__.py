"""Every MCP client against the real gateway: ``make test-clients [CLIENTS="NAME …"]``.

    python -m tests.clients [--ci] [--lock] [NAME …]

Names are those of the table in ``clients.py``, or how they begin: ``mcp23`` is all three of its modes. The
result is a table, and ``build/clients.json``. The exit code is 0 only when every client kept every promise.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import time
from collections.abc import Sequence
from typing import Any, Final

import msgspec
from rich.console import Console
from rich.table import Table

from tests.clients import environments
from tests.clients.clients import CLIENTS, NODE, Client
from tests.clients.environments import NotBuilt
from tests.clients.stage import Stage, staged

TARGET: Final = environments.BUILD.with_name("clients.json")
_AT_ONCE: Final = 2


class Result(msgspec.Struct, frozen=True, kw_only=True):
    client: str
    version: str
    era: str
    seconds: float
    wrong: dict[str, str | None]  # by promise; None where it is kept

    @property
    def kept(self) -> bool:
        return not any(self.wrong.values())


def main() -> int:
    options = argparse.ArgumentParser(prog="python -m tests.clients", description=__doc__)
    options.add_argument("names", nargs="*", metavar="NAME", help="clients to try; all when none is named")
    options.add_argument("--ci", action="store_true", help="those that every run of CI tries")
    options.add_argument("--lock", action="store_true", help="renew the locks instead (needs uv and npm)")
    chosen = options.parse_args()
    clients = pick(chosen.names, ci=chosen.ci)
    if not clients:
        options.error(f"no client is named {' '.join(chosen.names)}: {' '.join(c.name for c in CLIENTS)}")
    console, progress = Console(width=120, emoji=False), Console(stderr=True, highlight=False)
    used = {client.environment for client in clients}
    if any(environment.npm for environment in used):
        used.add(NODE)
    try:
        for environment in sorted(used, key=lambda each: each.name):
            started = time.monotonic()
            (environments.lock if chosen.lock else environments.build)(environment)
            progress.print(f"[dim]{environment.name}: {time.monotonic() - started:.1f} s")
    except NotBuilt as problem:
        progress.print(f"The clients could not be installed: {problem}", style="red", markup=False)
        return 2
    if chosen.lock:
        return 0
    results = asyncio.run(_all(clients, progress))
    show(results, console)
    TARGET.write_bytes(msgspec.json.format(msgspec.json.encode(results)))
    failed = sum(not result.kept for result in results)
    console.print(f"{len(results) - failed} passed, {failed} failed")
    return 1 if failed else 0


def pick(names: Sequence[str], *, ci: bool = False) -> list[Client]:
    """The clients of these names or beginnings of names; nothing when a name means none."""
    known = [client for client in CLIENTS if client.ci or not ci]
    if any(not any(client.name.startswith(name) for client in known) for name in names):
        return []
    return [client for client in known if not names or client.name.startswith(tuple(names))]


async def _all(clients: Sequence[Client], progress: Console) -> list[Result]:
    turn = asyncio.Semaphore(_AT_ONCE)
    with staged(clients) as stage:
        return list(await asyncio.gather(*(_one(stage, client, turn, progress) for client in clients)))


async def _one(stage: Stage, client: Client, turn: asyncio.Semaphore, progress: Console) -> Result:
    async with turn:
        started = time.monotonic()
        wrong = await stage.play(client, environments.command(client, "{url}"))
        seconds = round(time.monotonic() - started, 1)
    result = Result(client=client.name, version=client.version, era=client.era, seconds=seconds, wrong=wrong)
    progress.print(f"[dim]{client.name}: {'as promised' if result.kept else 'FAILED'}, {seconds} s")
    return result


def show(results: Sequence[Result], console: Console) -> None:
    table = Table("client", "version", "speaks", "seconds", "promises")
    for result in results:
        broken = [f"{promise}: {what}" for promise, what in result.wrong.items() if what]
        said: Any = "\n".join(broken) if broken else f"all {len(result.wrong)}"
        table.add_row(result.client, result.version, result.era, f"{result.seconds}", said)
    console.print(table, markup=False)


if __name__ == "__main__":
    sys.exit(main())
