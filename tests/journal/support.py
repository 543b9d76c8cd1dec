"""Calls, decisions and journals for tests, each in one line."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from gateway import strictjson
from gateway.config import StorageConfig
from gateway.digest import call_digest, new_id
from gateway.journal.journal import Journal
from gateway.model import (
    Call,
    Decision,
    Facts,
    Finding,
    Manifest,
    Outcome,
    Principal,
    Revisions,
    Risk,
    Tool,
)
from gateway.storage.crypto import StorageKey
from gateway.storage.database import Database
from tests.storage.at import ON_POSTGRESQL, at

KEY = StorageKey(bytes(range(32)))
ALICE = Principal(tenant="default", agent="alice-bot", owner="alice", credential="c0ffee", labels=("prod",))
ALLOW = Decision(
    verdict="allow",
    findings=(Finding(code="within_limits", message="within the limits", rule="payments.limit"),),
    engine="regorus 0.13.0",
    revision="bundle-7",
    entry="data.wardgate.call",
    rules=("payments.limit", "starter.reads"),
    elapsed_ns=97_000,
)
DENY = Decision(
    verdict="deny",
    findings=(Finding(code="amount_over_limit", message="too much", remedy="send less"),),
    revision="bundle-7",
)
FACTS = Facts(fast={"session": {"calls": 3, "writes": 1}})
REVISIONS = Revisions(config="cfg-1", keys="keys-1", policy="bundle-7", catalog="cat-1")
CONTROLS = ("approvals:absent", "breakers:absent")


class SystemClock:
    def now_ns(self) -> int:
        return time.time_ns()

    def monotonic(self) -> float:
        return time.monotonic()


def tool(risk: Risk = "irreversible", name: str = "pay", **manifest: Any) -> Tool:
    return Tool(
        kind="tool",
        upstream="bank",
        name=name,
        target=f"bank/{name}",
        manifest=Manifest(risk=risk, **manifest),
        schema_hash="5c" * 32,
    )


PAY = tool()
LOOK = tool("read", "look")


def call(
    of: Tool = PAY,
    args: dict[str, Any] | None = None,
    *,
    principal: Principal = ALICE,
    session: str = "s-1",
    effect_key: str | None = None,
) -> Call:
    args = {"amount_micro_usd": 5_000_000, "to": "bob"} if args is None else args
    args_json = strictjson.canonical(args)
    call_id = new_id()
    return Call(
        id=call_id,
        principal=principal,
        tool=of,
        args=args,
        args_json=args_json,
        digest=call_digest(principal, session, of, args_json),
        session=session,
        thread="t-1",
        surface="mcp",
        effect_key=effect_key or call_id,
        received_ns=time.time_ns(),
    )


def ok(result: bytes = b'{"content":[{"text":"done","type":"text"}]}') -> Outcome:
    return Outcome(status="ok", result_json=result, started_ns=time.time_ns(), upstream_ns=1_200_000)


def journal(database: Database, **settings: Any) -> Journal:
    """Not started; ``settings`` are those of ``storage`` in ``wardgate.yaml``."""
    return Journal(
        database,
        KEY,
        clock=SystemClock(),
        settings=StorageConfig(**settings),
        revisions=lambda: REVISIONS,
        controls=CONTROLS,
    )


@cache
def empty_database() -> bytes:
    """A migrated file without rows: migrating takes longer than most tests, and has tests of its own."""
    with TemporaryDirectory() as folder:
        with Database(Path(folder) / "w.db").open() as database:
            database.checkpoint()
        return (Path(folder) / "w.db").read_bytes()


@asynccontextmanager
async def running(path: Path, **settings: Any) -> AsyncIterator[tuple[Journal, Database]]:
    """A gateway's journal on a file, stopped and closed at the end."""
    if not (ON_POSTGRESQL or path.exists()):
        path.write_bytes(empty_database())
    with at(path).open(gateway=True) as database:
        opened = journal(database, **settings)
        opened.start()
        try:
            yield opened, database
        finally:
            await opened.stop()


async def carry_out(opened: Journal, made: Call, outcome: Outcome | None = None) -> None:
    """One allowed call from intent to end."""
    await opened.intent(made, FACTS, ALLOW, "allow")
    await opened.settle(made, ALLOW, "allow", outcome or ok(), None)


def in_doubt(code: str = "upstream_timeout") -> Outcome:
    return Outcome(status="in_doubt", code=code, detail="no answer within 60 s")


async def until(condition: Any, timeout_s: float = 10) -> None:
    """Wait for something the writer thread does."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        await asyncio.sleep(0.01)
