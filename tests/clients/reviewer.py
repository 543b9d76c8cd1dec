"""The person who is asked about held calls: approves one kind of payment and rejects another.

Decides only what its agent has been told is pending, by the bytes on the wire; so every client sees the
pending answer before it sees the decision.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any, Final

import aiohttp

from gateway.identity import keys
from gateway.storage.credentials import Credentials
from gateway.storage.database import Database
from tests.clients import story
from tests.e2e.gateway import Wardgate

CHAINS: Final = {"default": {"stages": [{"any": [{"who": {"roles": ["approver"]}}]}]}}
_NAME: Final = "rita"
_LOOK_S: Final = 0.1


class Reviewer:
    """One person with an operator key, for all clients of a run. Made before the gateway starts."""

    def __init__(self, gateway: Wardgate) -> None:
        self._gateway = gateway
        with Database(gateway.database_path).open() as database:
            made = keys.mint(
                Credentials(database), kind="operator", tenant="default", name=_NAME, role="approver"
            )
        self._key = made.token

    @asynccontextmanager
    async def deciding(self, agent: str, told: Callable[[], bytes]) -> AsyncIterator[None]:
        """Decide what ``agent`` has been told is pending, until the block ends. ``told`` is all it got."""
        task = asyncio.create_task(self._decide(agent, told))
        try:
            yield
        finally:
            if task.done():
                task.result()  # what went wrong with it is what went wrong with the run
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task

    async def queue(self, agent: str) -> list[tuple[str, str]]:
        """Id and state of everything the agent has had in the queue."""
        found = []
        for state in ("pending", "approved", "rejected", "executed", "failed", "in_doubt", "expired"):
            found += await self._listed(agent, state)
        return [(each["id"], each["state"]) for each in found]

    async def _decide(self, agent: str, told: Callable[[], bytes]) -> None:
        while True:
            await asyncio.sleep(_LOOK_S)
            for waiting in await self._listed(agent, "pending"):
                if waiting["id"].encode() in told():
                    await self._one(waiting)

    async def _one(self, waiting: dict[str, Any]) -> None:
        status, raw = await self._gateway.admin(f"/v1/approvals/{waiting['id']}", self._key)
        assert status == 200, raw
        amount = json.loads(raw)["arguments"]["amount_micro_usd"]
        verb, said = "approve", {}
        if amount == story.UNWANTED * story.USD:
            verb, said = "reject", {"reason_code": story.REJECTED_AS, "reason": story.REJECTED_WITH}
        headers = {"Authorization": f"Bearer {self._key}", "If-Match": f'"{waiting["version"]}"'}
        url = f"{self._gateway.admin_url}/v1/approvals/{waiting['id']}/{verb}"
        body = {"digest": waiting["digest"], **said}
        async with aiohttp.ClientSession(headers=headers) as http, http.post(url, json=body) as response:
            assert response.status == 200, await response.text()

    async def _listed(self, agent: str, state: str) -> list[dict[str, Any]]:
        status, raw = await self._gateway.admin(f"/v1/approvals?state={state}&agent={agent}", self._key)
        assert status == 200, raw
        items: list[dict[str, Any]] = json.loads(raw)["items"]
        return items
