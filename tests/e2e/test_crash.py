"""A gateway that is killed at any moment: every effect has its intent, nothing happens twice, nothing in
doubt is forgotten.

The upstream itself is the witness: when a call reaches it, it looks into the gateway's database for the
intent, and it keeps a list of what it did. The client does what clients do: it repeats what got no answer.
"""

from __future__ import annotations

import asyncio
import os
import random
from collections import Counter

import aiohttp
import pytest

from tests.e2e.gateway import TOOLS, Agent, Counting, Wardgate, counting, talking

CALLS = 520
KILLS = 6
WORKERS = 8


class Client:
    """Makes each call until it is answered; a refusal that says ``in_doubt`` or "done" is an answer too."""

    def __init__(self, agent: Agent) -> None:
        self._agent = agent
        self.answers: dict[str, str] = {}
        self.repeats = 0

    async def work(self, texts: list[str]) -> None:
        while texts:
            text = texts.pop()
            while text not in self.answers:
                await self._attempt(text)

    async def _attempt(self, text: str) -> None:
        try:
            said = await self._agent.call("send", text=text, then="slow", seconds=0.002)
        except aiohttp.ClientError:
            self.repeats += 1
            await asyncio.sleep(0.1)  # dead, or not up again yet
            return
        if said.reason in ("upstream_unavailable", "shutting_down"):
            self.repeats += 1
            return
        self.answers[text] = said.reason or "ok"


async def kills(running: Wardgate, server: Counting, dice: random.Random) -> None:
    """Let a random number of effects happen, then kill at a random moment, and start again."""
    for _ in range(KILLS):
        wanted = len(server.effects()) + dice.randint(10, CALLS // (KILLS + 2))
        while len(server.effects()) < min(wanted, CALLS - 20):
            await asyncio.sleep(0.005)
        await asyncio.sleep(dice.uniform(0, 0.01))
        running.kill()
        await asyncio.to_thread(running.start)


@pytest.mark.slow
async def test_killed_at_random_points_nothing_happens_unrecorded_or_twice_and_doubts_are_listed(tmp_path):
    seed = int(os.environ.get("WARDGATE_TEST_SEED", random.randrange(10**9)))
    print(f"WARDGATE_TEST_SEED={seed}")
    dice = random.Random(seed)
    running = Wardgate(tmp_path / "gateway", {})
    with counting(tmp_path, witness=running.database_path) as server:
        running.config["upstreams"] = {"counting": {"url": server.url, "tools": TOOLS}}
        running.write_config()
        try:
            running.start()
            async with talking(running, running.key()) as agent:
                client = Client(agent)
                texts = [f"call {number}" for number in range(CALLS)]
                workers = [client.work(texts) for _ in range(WORKERS)]
                await asyncio.gather(kills(running, server, dice), *workers)
            assert running.stop() == 0
        finally:
            running.close()

    effects = Counter(effect["arguments"]["text"] for effect in server.effects())
    records = running.records()
    intents = {record["effect_key"]: record for record in records if record["phase"] == "intent"}
    in_doubt = {record["effect_key"] for record in running.in_doubt()}
    ended = {
        record["effect_key"]: record["phase"]
        for record in records
        if record["phase"] in ("result", "in_doubt", "not_sent")
    }
    print(f"{client.repeats} repeats, {len(in_doubt)} in doubt, answers {Counter(client.answers.values())}")

    assert client.repeats >= KILLS, "the kills hit nothing"
    assert set(client.answers.values()) <= {"ok", "in_doubt", "duplicate_effect"}
    assert all(effect["intent_seen"] for effect in server.effects()), "an effect before its intent"
    assert [text for text, times in effects.items() if times > 1] == [], "an effect happened twice"
    for text in effects:
        assert f"note:{text}" in intents
        # What happened is known to have happened, or is listed as unknown; never forgotten, never "not sent".
        assert ended[f"note:{text}"] == "result" or f"note:{text}" in in_doubt, text
    for text, answer in client.answers.items():
        if answer == "ok":
            assert effects[text] == 1 and f"note:{text}" not in in_doubt
        elif answer == "in_doubt":
            assert f"note:{text}" in in_doubt
        else:
            assert effects[text] == 1 and ended[f"note:{text}"] == "result"
