"""What must happen at most once, while the command line changes things beside the running gateway."""

from __future__ import annotations

import asyncio
import time
from collections import Counter

from gateway.identity import keys
from gateway.storage.credentials import Credentials
from tests.e2e.gateway import talking
from tests.storage.at import at


async def test_reading_keys_again_forgets_no_effect_that_has_just_happened(gateway, server):
    """A fault there was: what finished while the journal was being read again was forgotten until the next
    time, so that its repeat was sent."""
    running = gateway().start()
    until = time.monotonic() + 4

    def issue_keys() -> None:
        with at(running.database_path).open() as database:
            while time.monotonic() < until:
                keys.mint(Credentials(database), kind="agent", tenant="default", name="bob")
                time.sleep(0.05)

    async def work(number: int) -> None:
        turn = 0
        async with talking(running, running.key()) as agent:
            while time.monotonic() < until:
                turn += 1
                text = f"{number}.{turn}"
                assert (await agent.call("send", text=text)).text == "done"
                await asyncio.sleep(0.1)
                assert (await agent.call("send", text=text)).reason == "duplicate_effect", text

    await asyncio.gather(asyncio.to_thread(issue_keys), *(work(number) for number in range(24)))
    assert max(Counter(effect["arguments"]["text"] for effect in server.effects()).values()) == 1
