"""A read that verifies a call is charged, and is no act of the agent, now or after a crash."""

from __future__ import annotations

from pathlib import Path

from msgspec.structs import replace

from gateway.model import VERIFY
from gateway.ports import NOTHING_SHOWN
from gateway.sessions.budgets import Limit
from gateway.sessions.rules import SessionRules
from tests.state.world import AGENT, OK, World, crashed, living, tool, written

LIMITED = SessionRules(agent_limits={("t", "bot"): (Limit("calls", 100, 3600),)})
WEB = tool("web", integrity="untrusted", confidentiality=3)


async def verifies(world: World, *, refused: bool = False) -> None:
    """One such read, as the pipeline sends it."""
    call, facts = await world.begin(WEB)
    outcome = None if refused else OK
    await world.end(replace(call, surface=VERIFY), facts, outcome, NOTHING_SHOWN)


async def used(world: World) -> int:
    return (await world.facts()).fast["budget"]["agent"]["calls"]["used"]


async def test_it_is_charged_and_the_session_is_as_it_was(tmp_path: Path) -> None:
    async with living(tmp_path / "w.db", LIMITED) as world:
        await world.call(tool("note", "reversible"))
        before = (await world.facts()).fast["session"]
        await verifies(world)
        await verifies(world, refused=True)
        assert (await world.facts()).fast["session"] == before
        assert await used(world) == 2
        await written(world)
        image = crashed(tmp_path / "w.db", tmp_path / "after")
    async with living(image, LIMITED) as again:
        assert (await again.facts()).fast["session"] == before
        assert await used(again) == 2


async def test_the_same_read_by_the_agent_itself_does_count(tmp_path: Path) -> None:
    """Or the test above would prove nothing."""
    async with living(tmp_path / "w.db", LIMITED) as world:
        await world.call(WEB, principal=AGENT)
        seen = (await world.facts()).fast["session"]
        assert (seen["calls"], seen["integrity"], seen["confidentiality"]) == (1, "untrusted", 3)
