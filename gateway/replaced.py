"""What a reload replaces: made ready before anybody uses it, and let go when nobody does any more.

A request takes its parts before it reads its body, and may reach policy and upstream only after that; so what
was in force is kept for as long as a body may take.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from typing import Final

from gateway.config import Config
from gateway.model import Kind
from gateway.outside import Outside
from gateway.policy.opa import OpaPolicy
from gateway.policy.policy import EmbeddedPolicy

_WARMED: Final[tuple[Kind, ...]] = ("tool", "prompt", "resource")
_STEP_S: Final = 0.002


async def warm(policy: EmbeddedPolicy, outside: Outside) -> None:
    """Make the engines of a policy before anybody is decided by it, without making anybody wait."""
    tools = [tool for kind in _WARMED for tool in outside.catalog.tools(kind)]
    await _in_steps(policy.warm(tools))


async def cool(policy: EmbeddedPolicy, config: Config) -> None:
    """Let go of a policy that was replaced, when the requests that began before it are done with it."""
    await asyncio.sleep(config.server.body_timeout_s)
    await _in_steps(policy.cool())


async def withdraw(policy: OpaPolicy, config: Config, in_force: Callable[[], str]) -> None:
    """Take what a reload replaced out of OPA, when no call can be decided by it any more."""
    try:
        await asyncio.sleep(config.server.body_timeout_s + config.server.drain_s)
    finally:
        await policy.close(remove=policy.revision != in_force())


async def retire(outside: Outside, config: Config) -> None:
    """Close connections that a reload replaced, when the requests that began before it are done with them."""
    try:
        # Judging by pins of the old configuration must end with it.
        await outside.refresher.close()
        await asyncio.sleep(config.server.body_timeout_s)
        await outside.close(config.server.drain_s)
    except asyncio.CancelledError:
        await outside.close(0)  # the gateway itself ends: no child may outlive it
        raise


async def _in_steps(steps: Iterator[None]) -> None:
    """Work on the event loop in pieces of a few milliseconds, with everybody else's turn in between."""
    until = time.perf_counter() + _STEP_S
    for _ in steps:
        if time.perf_counter() > until:
            await asyncio.sleep(0.001)
            until = time.perf_counter() + _STEP_S
