"""A tool server that fails: the agent is told what is known, and what is unknown stays unknown."""

from __future__ import annotations

import asyncio
import time

from tests.e2e.gateway import talking

FAULTS = {
    # what the server does after the effect: the code the agent gets
    "hang": "upstream_timeout",
    "die": "upstream_lost",
    "wrong_id": "upstream_bad_answer",
    "garbage": "upstream_bad_answer",
    "flood_events": "upstream_timeout",
}


async def test_after_every_fault_the_outcome_is_in_doubt_and_a_repeat_is_not_sent(gateway, server):
    """One gateway for all faults: that one call is in doubt must not hold up another."""
    running = gateway({"deadline_s": 1.0}).start()
    async with talking(running, running.key()) as alice:
        answers = await asyncio.gather(*(alice.call("pay", text=then, then=then) for then in FAULTS))
        for (then, code), said in zip(FAULTS.items(), answers, strict=True):
            assert (said.status, said.refused, said.reason) == (200, True, code), then
            assert said.facts["decision"] == "in_doubt" and not said.facts["retryable"]
        assert len(server.effects()) == len(FAULTS)

        for then in FAULTS:
            again = await alice.call("pay", text=then, then=then)
            assert again.reason == "in_doubt", then
            assert len(server.effects(then)) == 1
        ends = {record["outcome_code"] for record in running.records() if record["phase"] == "in_doubt"}
        assert ends == set(FAULTS.values())
        assert len(running.in_doubt()) == len(FAULTS)

        listed = (await running.cli_json("decisions", "list", "--in-doubt"))["items"]
        assert {record["outcome_code"] for record in listed} == set(FAULTS.values())
        assert (await alice.call("pay", text="another")).text == "done"


async def test_resolving_frees_the_call_within_a_second(gateway, server):
    running = gateway().start()
    async with talking(running, running.key()) as alice:
        assert (await alice.call("pay", text="x", then="die")).reason == "upstream_lost"
        for effects, became in enumerate(("not-executed", "executed"), start=2):
            (doubt,) = running.in_doubt()
            done = await running.cli("decisions", "resolve", doubt["call_id"], "--became", became)
            resolved = time.monotonic()
            assert done.returncode == 0, done.stderr
            while (said := await alice.call("pay", text="x", then="die")).reason == "in_doubt":
                assert time.monotonic() - resolved < 1.0
                await asyncio.sleep(0.05)
            assert said.reason == "upstream_lost" and len(server.effects("x")) == effects
    said = [record for record in running.records() if record["phase"] == "reconciled"]
    assert [record["status"] for record in said] == ["not_executed", "executed"]
    assert all(record["operator"] for record in said)


async def test_a_refused_connection_is_not_sent_and_may_be_repeated(gateway, server):
    running = gateway().start()
    async with talking(running, running.key()) as alice:
        assert (await alice.call("pay", text="before")).text == "done"
        port = int(server.url.rsplit(":", 1)[1].removesuffix("/mcp"))
        server.stop()
        for _ in range(2):
            said = await alice.call("pay", text="down")
            assert (said.status, said.reason) == (200, "upstream_unavailable")
            assert said.facts["retryable"] and said.facts["decision"] == "unavailable"
        assert running.in_doubt() == []
        assert [record["phase"] for record in running.records()].count("not_sent") == 2
        server.start(port=port)
        assert (await alice.call("pay", text="down")).text == "done"
        assert len(server.effects("down")) == 1


async def test_a_flood_is_cut_off_and_its_result_withheld(gateway, server):
    running = gateway(limits={"result_bytes": 100_000}).start()
    async with talking(running, running.key()) as alice:
        before = running.memory_mb()
        said = await alice.call("pay", text="flood", then="flood")
        assert (said.status, said.refused, said.reason) == (200, True, "result_too_large")
        assert running.memory_mb() - before < 30
        end = await running.recorded(lambda record: record.get("outcome_code") == "result_too_large")
        assert end["status"] == "withheld"


async def test_a_read_that_fails_is_recorded_and_may_be_repeated(gateway, server):
    """A read without an answer changed nothing: there is nothing to find out, so nothing is held."""
    running = gateway().start()
    async with talking(running, running.key()) as alice:
        for _ in range(2):
            assert (await alice.call("look", text="r", then="die")).reason == "upstream_lost"
        assert len(server.effects("r")) == 2 and running.in_doubt() == []
        end = await running.recorded(lambda record: record.get("outcome_code") == "upstream_lost")
        assert end["status"] == "in_doubt"
