"""A process with a journal that tests trace, kill and starve of disk: ``python -m tests.journal.child``."""

from __future__ import annotations

import asyncio
import itertools
import json
import resource
import socket
import sys
from pathlib import Path

from gateway.errors import JournalError
from gateway.journal.journal import Journal
from gateway.model import Call
from tests.journal.support import ALLOW, FACTS, LOOK, PAY, call, carry_out, ok, running, until

WORKERS = 8


async def send_around_intents(path: Path, port: int) -> None:
    """Say on a socket when each intent begins and, as the pipeline would, send once it returns."""
    async with running(path, read_batch_ms=300) as (journal, _):
        with socket.create_connection(("127.0.0.1", port)) as wire:
            for made in (call(PAY), call(LOOK), call(PAY)):
                await journal.intent(made, FACTS, ALLOW, "allow")  # the file has its final size of settings
                await journal.settle(made, ALLOW, "allow", ok(), None)
            await asyncio.sleep(0.4)
            for name, tool in (("write", PAY), ("read", LOOK)):
                made = call(tool)
                wire.send(f"BEGIN {name}\n".encode())
                await journal.intent(made, FACTS, ALLOW, "allow")
                wire.send(f"REQUEST {name}\n".encode())
                await journal.settle(made, ALLOW, "allow", ok(), None)


async def make_effects(path: Path, port: int) -> None:
    """Ask a server for effects, journalled before and after, until killed."""

    async def work(journal: Journal) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for number in itertools.count():
            made = call(PAY, {"number": number})
            await journal.intent(made, FACTS, ALLOW, "allow")
            writer.write(made.id.encode() + b"\n")
            await reader.readline()
            await journal.settle(made, ALLOW, "allow", ok(), None)

    async with running(path) as (journal, _):
        await asyncio.gather(*(work(journal) for _ in range(WORKERS)))


async def fill_the_disk(path: Path) -> None:
    """Meet the end of the disk in the middle of work, then get room again; report what was promised."""
    report: dict[str, list[str]] = {"accepted": [], "settled": [], "refused": [], "read": []}
    hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
    async with running(path) as (journal, _):

        async def one(made: Call) -> None:
            try:
                await journal.intent(made, FACTS, ALLOW, "allow")
            except JournalError:
                report["refused"].append(made.id)
                return
            report["accepted"].append(made.id)
            await journal.settle(made, ALLOW, "allow", ok(), None)
            report["settled"].append(made.id)

        for _ in range(5):
            await one(call(PAY))
        under_way, read = call(PAY), call(LOOK)
        await journal.intent(under_way, FACTS, ALLOW, "allow")
        await carry_out(journal, read)
        report["accepted"].append(under_way.id)
        report["read"].append(read.id)
        # From here no file may grow: every write beyond the end fails as on a full disk.
        size = path.with_name(path.name + "-wal").stat().st_size
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
        try:
            await journal.settle(under_way, ALLOW, "allow", ok(), None)
            raise SystemExit("the outcome was called durable on a full disk")
        except JournalError:
            pass
        assert not journal.writable
        await one(call(PAY))
        await one(call(LOOK))
        await asyncio.sleep(1.2)  # two probes, both in vain
        assert not journal.writable
        resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
        await until(lambda: journal.writable)
        await one(call(PAY))
        report["settled"].append(under_way.id)
    print(json.dumps(report))


if __name__ == "__main__":
    what, database, *port = sys.argv[1:]
    if what == "fill":
        asyncio.run(fill_the_disk(Path(database)))
    elif what == "send":
        asyncio.run(send_around_intents(Path(database), int(port[0])))
    else:
        asyncio.run(make_effects(Path(database), int(port[0])))
