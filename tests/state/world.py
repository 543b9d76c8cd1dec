"""A gateway's memory on a real file: calls go through state and journal as the pipeline sends them."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from gateway import strictjson
from gateway.clock import SystemClock
from gateway.digest import call_digest, effect_key, new_id
from gateway.journal.recovery import recover
from gateway.model import Ask, Call, Facts, Manifest, Outcome, Principal, Settled, Tool
from gateway.ports import NOTHING_SHOWN, Shown
from gateway.remembered import Remembered
from gateway.sessions.monitors import Monitors
from gateway.sessions.rules import SessionRules
from gateway.state.sessions import NO_MONITORS
from gateway.storage.database import Database
from tests.journal.support import ALLOW, DENY, KEY, running

AGENT = Principal(tenant="t", agent="bot", owner="o", credential="key-1")
OK = Outcome(status="ok", result_json=b'{"content":[{"type":"text","text":"fine"}]}')
DOUBT = Outcome(status="in_doubt", code="upstream_lost")
NOT_SENT = Outcome(status="not_sent", code="upstream_unavailable")
SEEN = Shown(OK.result_json, True)


USUAL = SessionRules()


class Time(SystemClock):
    """A wall clock that a test can set, beside a monotonic one that it can push forward."""

    def __init__(self, now_ns: int = 1_800_000_000_000_000_000) -> None:
        self.wall_ns = now_ns
        self.passed_s = 1000.0

    def now_ns(self) -> int:  # type: ignore[override]
        return self.wall_ns

    def monotonic(self) -> float:  # type: ignore[override]
        return self.passed_s

    def passes(self, seconds: float) -> None:
        self.passed_s += seconds
        self.wall_ns += int(seconds * 1e9)


def tool(name: str = "look", risk: str = "read", **manifest: Any) -> Tool:
    return Tool(
        kind="tool", upstream="u", name=name, target=f"u/{name}", schema_hash="h",
        manifest=Manifest(risk=risk, **{"integrity": "trusted", **manifest}),
    )  # fmt: skip


class World:
    """One life of a gateway."""

    def __init__(self, remembered: Remembered, journal: Any, database: Database, clock: Time) -> None:
        self.remembered = remembered
        self.state = remembered.state
        self.journal = journal
        self.database = database
        self.clock = clock
        self.last: Call  # that was begun

    def ask(
        self, principal: Principal = AGENT, session: str = "", mandate: Mapping[str, Any] | None = None
    ) -> Ask:
        return Ask(
            principal=principal, surface="test", kind="tool", upstream="u", name="n", args={},
            session=session, mandate_json=strictjson.canonical(mandate) if mandate is not None else b"",
        )  # fmt: skip

    async def begin(
        self,
        of: Tool,
        args: Mapping[str, Any] | None = None,
        *,
        principal: Principal = AGENT,
        session: str = "",
    ) -> tuple[Call, Facts]:
        entered = await self.state.enter(self.ask(principal, session))
        args = dict(args or {})
        args_json = strictjson.canonical(args)
        call_id = new_id()
        call = Call(
            id=call_id, principal=principal, tool=of, args=args, args_json=args_json,
            digest=call_digest(principal, entered, of, args_json), session=entered, thread="", surface="test",
            effect_key=effect_key(of.manifest.effect_key, call_id, args) or call_id,
            received_ns=self.clock.now_ns(),
        )  # fmt: skip
        self.last = call
        return call, await self.state.begin(call)

    async def end(self, call: Call, facts: Facts, outcome: Outcome | None, shown: Shown) -> Settled:
        if outcome is None:
            settled = await self.state.settle(call, "block", None)
            await self.journal.intent(call, facts, DENY, "block", "no_rule_allows", settled)
            return settled
        await self.journal.intent(call, facts, ALLOW, "allow")
        settled = await self.state.settle(call, "allow", outcome, shown)
        await self.journal.settle(call, ALLOW, "allow", outcome, None, settled)
        return settled

    async def call(
        self, of: Tool, args: Mapping[str, Any] | None = None, *, outcome: Outcome | None = OK,
        shown: Shown | None = None, principal: Principal = AGENT, session: str = "",
    ) -> Facts:  # fmt: skip
        """One whole call; refused when the state refuses it. Returns the facts it was decided with."""
        call, facts = await self.begin(of, args, principal=principal, session=session)
        if facts.refusal is not None or facts.effect != "free":
            outcome = None
        if shown is None:
            shown = SEEN if outcome is not None and outcome.status == "ok" else NOTHING_SHOWN
        await self.end(call, facts, outcome, shown)
        return facts

    async def facts(
        self, of: Tool | None = None, *, principal: Principal = AGENT, session: str = ""
    ) -> Facts:
        """What the next call would be decided with, without making it."""
        call, facts = await self.begin(of or tool("peek"), principal=principal, session=session)
        self.state.sessions.of(call.session).account.release(call.id)
        for _, holder in self.state.holders.of(principal):
            holder.account.release(call.id)
        for above in self.state.sessions.of(call.session).ancestors:
            above.account.release(call.id)
        self.state.effects.settle(call, None)
        return facts


@asynccontextmanager
async def living(
    path: Path,
    rules: SessionRules = USUAL,
    clock: Time | None = None,
    monitors: Monitors = NO_MONITORS,
) -> AsyncIterator[World]:
    """A gateway from start to an orderly end; the path is that of its database."""
    clock = clock or Time()
    async with running(path, read_batch_ms=1) as (journal, database):
        recover(database)
        remembered = await Remembered.open(database, KEY, clock, rules, monitors)
        yield World(remembered, journal, database, clock)


def crashed(path: Path, to: Path) -> Path:
    """The file as a crash would leave it now: what is on disk, and nothing of what is in memory."""
    to.mkdir(parents=True, exist_ok=True)
    for file in path.parent.glob(path.name + "*"):
        if not file.name.endswith(".lock"):
            shutil.copy(file, to / file.name)
    return to / path.name


async def written(world: World) -> None:
    """Wait until the journal has nothing in hand."""
    while world.journal.depth:
        await asyncio.sleep(0.002)
