"""A gateway that is killed at any moment while clients repeat their requests: one effect for each key.

The tool has no effect key of its own, so nothing but the idempotency key keeps a repetition from happening
twice. The upstream keeps the list of what it did.
"""

from __future__ import annotations

import asyncio
import os
import random
from collections import Counter

import aiohttp
import pytest

from tests.e2e.gateway import TOOLS, Wardgate, counting

CALLS = 240
KILLS = 5
WORKERS = 8


class Client:
    """Repeats each request, under its one key, until it has an answer that is final."""

    def __init__(self, http: aiohttp.ClientSession, wardgate: Wardgate) -> None:
        self.http = http
        self.wardgate = wardgate
        self.answers: dict[str, tuple[str, str]] = {}
        self.repeats = 0

    async def work(self, texts: list[str]) -> None:
        while texts:
            text = texts.pop()
            while text not in self.answers:
                await self.attempt(text)

    async def attempt(self, text: str) -> None:
        body = {"tool": "counting/note", "arguments": {"text": text, "then": "slow", "seconds": 0.002}}
        headers = {
            "authorization": f"Bearer {self.wardgate.key()}",
            "idempotency-key": text.replace(" ", "-"),
        }
        url = self.wardgate.agents_url + "/v1/calls"
        try:
            async with self.http.post(url, json=body, headers=headers) as response:
                said = await response.json(content_type=None)
        except aiohttp.ClientError:
            self.repeats += 1
            await asyncio.sleep(0.1)  # dead, or not up again yet
            return
        if said.get("retryable") or said.get("code") == "unknown_tool":  # the list is not there yet
            self.repeats += 1
            await asyncio.sleep(0.02)
            return
        self.answers[text] = (said.get("code", "ok"), said.get("effect", "done"))


async def kills(running: Wardgate, server, dice: random.Random) -> None:
    for _ in range(KILLS):
        wanted = len(server.effects()) + dice.randint(10, CALLS // (KILLS + 2))
        while len(server.effects()) < min(wanted, CALLS - 20):
            await asyncio.sleep(0.005)
        await asyncio.sleep(dice.uniform(0, 0.01))
        running.kill()
        await asyncio.to_thread(running.start)


@pytest.mark.slow
async def test_killed_at_random_points_each_key_has_at_most_one_effect_and_an_honest_answer(tmp_path):
    seed = int(os.environ.get("WARDGATE_TEST_SEED", random.randrange(10**9)))
    print(f"WARDGATE_TEST_SEED={seed}")
    with counting(tmp_path) as server:
        running = Wardgate(tmp_path / "gateway", {"counting": {"url": server.url, "tools": TOOLS}})
        try:
            running.start()
            async with aiohttp.ClientSession() as http:
                client = Client(http, running)
                texts = [f"call {number}" for number in range(CALLS)]
                workers = [client.work(texts) for _ in range(WORKERS)]
                await asyncio.gather(kills(running, server, random.Random(seed)), *workers)
            assert running.stop() == 0
        finally:
            running.close()

    effects = Counter(effect["arguments"]["text"] for effect in server.effects())
    print(f"{client.repeats} repeats, answers {Counter(client.answers.values())}")
    assert client.repeats >= KILLS, "the kills hit nothing"
    assert [text for text, times in effects.items() if times > 1] == [], "an effect happened twice"
    for text, (code, effect) in client.answers.items():
        assert (code, effect) in (("ok", "done"), ("answer_not_kept", "done"), ("in_doubt", "unknown")), text
        if effect == "done":
            assert effects[text] == 1
