"""Plays the story with the official MCP client and shows what became of each call.

Three agents, three ways in, because agents differ: finance-bot speaks the newest protocol over HTTP,
support-bot the older one with sessions, and dev-bot can only start a process, so it uses ``wardgate stdio``.
"""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Any, Final

import msgspec

from gateway.demo.story import Step
from gateway.demo.world import World
from gateway.reasons import sentence

if TYPE_CHECKING:
    from mcp import Client

DECISION: Final = "dev.wardgate/decision"
REDACTED: Final = "[redacted"  # what the gateway puts in place of a value
_ESCALATED: Final = ("approval_needed", "approvals_not_configured")


class Played(msgspec.Struct, frozen=True, kw_only=True):
    """One step and what really became of it."""

    step: Step
    outcome: str  # allowed, redacted, escalated, denied, failed
    code: str
    reason: str
    remedy: str
    text: str  # what the agent got to read

    @property
    def as_told(self) -> bool:
        """Whether it went as the story says."""
        return (
            self.outcome == self.step.outcome
            and self.step.code in ("", self.code)
            and all(shown in self.text for shown in self.step.shows)
            and not any(hidden in self.text for hidden in self.step.hides)
        )


async def play(world: World, story: Sequence[Step]) -> AsyncIterator[Played]:
    """Play the steps in order, each agent keeping its one connection."""
    async with AsyncExitStack() as stack:
        clients: dict[str, Client] = {}
        for step in story:
            if step.agent not in clients:
                clients[step.agent] = await stack.enter_async_context(_connected(world, step.agent))
            yield await _played(clients[step.agent], step)


@asynccontextmanager
async def _connected(world: World, agent: str) -> AsyncIterator[Client]:
    from mcp import Client, StdioServerParameters
    from mcp.client.streamable_http import streamable_http_client
    from mcp.shared._httpx_utils import create_mcp_http_client

    url, key = f"{world.agents_url}/mcp", world.keys[agent]
    if agent == "dev-bot":
        bridge = StdioServerParameters(
            command=sys.executable,
            args=["-m", "gateway.cli", "stdio", "--url", url],
            env={"WARDGATE_KEY": key},
        )
        async with Client(bridge) as client:
            yield client
        return
    async with create_mcp_http_client(headers={"Authorization": f"Bearer {key}"}) as http:
        transport = streamable_http_client(url, http_client=http)
        async with Client(transport, mode="legacy" if agent == "support-bot" else "auto") as client:
            yield client


async def _played(client: Client, step: Step) -> Played:
    from mcp import MCPError

    arguments = dict(step.args)
    try:
        result = await client.call_tool(f"{step.upstream}__{step.tool}", arguments)
    except MCPError as error:
        # A tool that policy hides answers like one that does not exist.
        return Played(step=step, outcome="denied", code="not_visible", reason=str(error), remedy="", text="")
    text = "\n".join(getattr(block, "text", "") for block in result.content)
    said: dict[str, Any] = (result.meta or {}).get(DECISION) or {}
    if not result.is_error:
        outcome = "redacted" if REDACTED in text else "allowed"
        return Played(step=step, outcome=outcome, code="", reason="", remedy="", text=text)
    if not said:
        return Played(step=step, outcome="failed", code="", reason=text, remedy="", text=text)
    code = said["reason"]
    return Played(
        step=step,
        outcome="escalated" if code in _ESCALATED else "denied",
        code=code,
        reason=text.partition("\n")[0].removesuffix(sentence(said.get("remedy") or "")).strip(),
        remedy=said.get("remedy") or "",
        text=text,
    )
