"""Life of a running gateway: draining, reloading, clients that leave, one gateway a database."""

from __future__ import annotations

import asyncio
import json
import signal

import pytest

from tests.e2e.gateway import ALLOW_ALL, DENY_ALL, Wardgate, eventually, rule, talking

LIMIT = """
allow contains {"code": "fine", "message": "go"}

deny contains {"code": "over_limit", "message": "too much"} if input.call.args.amount > data.limits.amount
"""


# ---------------------------------------------------------------------------------------------- end


async def test_on_sigterm_calls_in_flight_finish_and_new_ones_are_told_to_come_back(gateway, server):
    running = gateway().start()
    async with talking(running, running.key()) as alice, talking(running, running.key("bob")) as bob:
        assert (await bob.call("look")).text == "done"  # its connection is there before the end begins
        slow = asyncio.create_task(alice.call("pay", text="slow", then="slow", seconds=2))
        await eventually(lambda: server.effects("slow"))
        running.signal(signal.SIGTERM)
        said = await bob.call("pay", text="late")
        for _ in range(50):  # the signal takes a moment to arrive
            if said.reason == "shutting_down":
                break
            await asyncio.sleep(0.02)
            said = await bob.call("pay", text="late")
        assert (said.status, said.refused, said.reason) == (200, True, "shutting_down")
        assert said.facts["retryable"] and said.facts["retry_after_ms"] > 0
        assert int(said.headers["Retry-After"]) >= 1
        status, parts = await running.readiness()
        assert (status, parts["ready"], parts["parts"]["intake"]) == (503, False, "down")
        assert (await slow).text == "done"
        assert await asyncio.to_thread(running.ended) == 0
    records = running.records()
    (intent,) = [r for r in records if r["phase"] == "intent" and r["agent"] == "alice"]
    ends = [record for record in records if record["call_id"] == intent["call_id"]]
    assert [record["phase"] for record in ends] == ["intent", "result"]
    assert running.in_doubt() == []
    assert any(record.get("code") == "shutting_down" for record in records)


async def test_a_call_cut_off_by_the_end_of_the_drain_is_in_doubt_and_not_repeated_after_it(gateway, server):
    running = gateway(server={"port": 0, "admin_port": 0, "drain_s": 0.5}).start()
    async with talking(running, running.key()) as alice:
        slow = asyncio.create_task(alice.call("pay", text="slow", then="slow", seconds=30))
        await eventually(lambda: server.effects("slow"))
        assert await asyncio.to_thread(running.stop) == 0
        await asyncio.gather(slow, return_exceptions=True)
    (doubt,) = running.in_doubt()
    assert doubt["target"] == "counting/pay"
    running.start()
    async with talking(running, running.key()) as alice:
        said = await alice.call("pay", text="slow", then="slow", seconds=30)
        assert said.reason == "in_doubt"
    assert len(server.effects("slow")) == 1


async def leave(running, server) -> dict:
    """A client calls a tool that pays slowly, and leaves when the payment has happened; the end on record."""
    async with talking(running, running.key()) as alice:
        leaving = asyncio.create_task(alice.call("pay", text="left", then="slow", seconds=1))
        await eventually(lambda: server.effects("left"))
        leaving.cancel()
    end = await running.recorded(lambda record: record["phase"] in ("result", "in_doubt"))
    assert len(server.effects("left")) == 1
    return end


async def test_a_client_that_leaves_does_not_undo_its_call_and_the_outcome_is_learnt(gateway, server):
    running = gateway().start()
    end = await leave(running, server)
    assert (end["phase"], end["status"]) == ("result", "ok") and running.in_doubt() == []


async def test_a_call_that_may_be_cut_off_is_and_its_outcome_is_in_doubt(gateway, server):
    running = gateway({"tools": {"pay": {"risk": "irreversible", "interruptible": True}}}).start()
    end = await leave(running, server)
    assert (end["phase"], end["outcome_code"]) == ("in_doubt", "cancelled") and len(running.in_doubt()) == 1


def test_a_second_gateway_on_the_same_database_is_refused(gateway, server):
    first = gateway().start()
    second = gateway(
        storage={"path": str(first.database_path), "key_file": str(first.folder / "storage.key")}
    )
    code, said = second.refuses_to_start()
    assert code != 0 and "in use by another gateway" in said and str(first.process.pid) in said
    assert "Traceback" not in said
    first.kill()
    second.start()
    assert second.stop() == 0


# ------------------------------------------------------------------------------------------- reload


class Load:
    """Agents that call without pause, and what came of it."""

    def __init__(self, running: Wardgate) -> None:
        self._running = running
        self.answers: list[str | None] = []
        self._over = False

    async def __aenter__(self) -> Load:
        self._tasks = [asyncio.create_task(self._work(number)) for number in range(4)]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._over = True
        await asyncio.gather(*self._tasks)

    async def some(self, count: int = 20) -> list[str | None]:
        """The answers to the next calls."""
        before = len(self.answers)
        await eventually(lambda: len(self.answers) >= before + count, 20)
        return self.answers[before:]

    async def _work(self, number: int) -> None:
        async with talking(self._running, self._running.key()) as agent:
            turn = 0
            while not self._over:
                turn += 1
                said = await agent.call("note", text=f"{number}.{turn}", amount=5)
                assert said.status == 200
                self.answers.append(said.reason)


def revisions(running: Wardgate) -> list[tuple[str, str | None, str | None]]:
    """``(policy revision, config revision, code)`` of every decision, in order."""
    found = []
    for record in running.exported():
        if record.get("verdict"):
            force = record["in_force"]
            found.append((force["policy_revision"], force["config_revision"], record.get("code")))
    return found


async def test_policy_and_its_data_change_under_load_without_a_failed_or_half_decided_call(gateway, server):
    running = gateway()
    running.policy("all.rego", rule("all", LIMIT, codes=["fine", "over_limit"]))
    running.policy("data.yaml", "limits: {amount: 10}")
    running.start()
    async with Load(running) as load:
        await load.some()
        running.policy("data.yaml", "limits: {amount: 1}")
        await eventually(lambda: load.answers[-1] == "over_limit")
        await load.some()
        running.policy("all.rego", ALLOW_ALL)
        await eventually(lambda: load.answers[-1] is None)
        await load.some()
        running.policy("all.rego", DENY_ALL)
        await eventually(lambda: load.answers[-1] == "closed")
    assert set(load.answers) == {None, "over_limit", "closed"}
    assert running.stop() == 0

    decided = revisions(running)
    # Each revision says one thing only: nobody was decided by half of two.
    said = {revision: {code for other, _, code in decided if other == revision} for revision, _, _ in decided}
    assert sorted(said.values(), key=str) == sorted([{"fine"}, {"over_limit"}, {"fine"}, {"closed"}], key=str)
    order = list(dict.fromkeys(revision for revision, _, _ in decided))
    assert [next(iter(said[revision])) for revision in order] == ["fine", "over_limit", "fine", "closed"]
    assert len(server.effects()) == load.answers.count(None)


async def test_a_broken_policy_or_configuration_keeps_the_last_good_one_and_says_so(gateway, server):
    running = gateway()
    operator = await running.new_operator()
    running.start()

    async def in_force() -> dict[str, str]:
        _, body = await running.admin("/v1/status", operator)
        return dict(json.loads(body)["revisions"])

    async with Load(running) as load:
        await load.some()
        good = await in_force()
        running.policy("broken.rego", rule("broken", 'deny contains {"code": "x" if', codes=["x"]))
        await eventually(lambda: "broken.rego" in running.log())
        await load.some()
        assert await in_force() == good
        status, answer = await running.admin("/v1/reload", operator, "POST")
        assert status == 409 and b"broken.rego" in answer
        (running.policies / "broken.rego").unlink()

        running.config["limits"] = {"in_flight_per_agent": -1}
        running.write_config()
        await eventually(lambda: "in_flight_per_agent" in running.log())
        await load.some()
        assert (await in_force())["config"] == good["config"]

        running.config["limits"] = {"in_flight_per_agent": 17}
        running.config["breakers"] = {"enabled": False}
        running.write_config()
        changed = asyncio.get_running_loop().time()
        while (await in_force())["config"] == good["config"]:
            assert asyncio.get_running_loop().time() - changed < 5
            await asyncio.sleep(0.05)
        await load.some()
    assert set(load.answers) == {None}
    assert "last good" in running.log()
    assert (await running.readiness())[0] == 200
    # Each record names what was there when it was made.
    there = [each["in_force"]["controls"] for each in running.exported() if each.get("in_force")]
    assert ("breakers:memory" in there[0], "breakers:off" in there[-1]) == (True, True)


async def test_sighup_reloads_what_is_not_watched(gateway, server):
    running = gateway(policy={"path": "policies", "reload": False}).start()
    async with talking(running, running.key()) as alice:
        running.policy("all.rego", DENY_ALL)
        await asyncio.sleep(0.7)
        assert (await alice.call("look")).text == "done"
        running.signal(signal.SIGHUP)
        since = asyncio.get_running_loop().time()
        while (said := await alice.call("look")).reason is None:
            assert asyncio.get_running_loop().time() - since < 3
            await asyncio.sleep(0.02)
        assert said.reason == "closed"


async def test_upstreams_change_under_load_and_calls_in_flight_finish(gateway, server, tmp_path):
    running = gateway().start()
    async with talking(running, running.key()) as alice, Load(running) as load:
        slow = asyncio.create_task(alice.call("pay", text="slow", then="slow", seconds=2))
        await eventually(lambda: server.effects("slow"))
        running.config["upstreams"]["second"] = running.config["upstreams"]["counting"]
        running.write_config()
        since = asyncio.get_running_loop().time()
        while "error" in (said := await alice.call("look", upstream="second")).message:
            assert asyncio.get_running_loop().time() - since < 5
            await asyncio.sleep(0.05)
        assert said.text == "done"
        assert (await slow).text == "done"
        await load.some()
    assert set(load.answers) == {None}
    assert len(server.effects("slow")) == 1 and running.in_doubt() == []


# ------------------------------------------------------------------------------------------ observe


async def test_observe_records_every_verdict_and_blocks_nothing_until_the_file_says_enforce(gateway, server):
    running = gateway(mode="observe")
    running.policy("all.rego", rule("all", LIMIT, codes=["fine", "over_limit"]))
    running.policy("data.yaml", "limits: {amount: 10}")
    running.start()
    async with talking(running, running.key()) as alice:
        assert (await alice.call("pay", text="small", amount=1)).text == "done"
        said = await alice.call("pay", text="large", amount=100)
        assert said.text == "done"
        observed = said.result["_meta"]["dev.wardgate/decision"]["observed"]
        assert observed == {"verdict": "deny", "reason": "over_limit"}
        # What observe still blocks: who calls, and what cannot be read.
        async with talking(running, "wgk_nobody_x") as nobody:
            assert (await nobody.call("pay", text="nobody")).status == 401

        running.config["mode"] = "enforce"
        running.write_config()
        since = asyncio.get_running_loop().time()
        turn = 0
        while (said := await alice.call("pay", text=f"turn {turn}", amount=100)).reason is None:
            assert asyncio.get_running_loop().time() - since < 5
            turn += 1
            await asyncio.sleep(0.05)
        assert said.reason == "over_limit"
    await running.recorded(lambda record: record.get("action") == "block" and record.get("verdict"))
    decided = [r for r in running.records() if r.get("verdict")]
    assert [(r["verdict"], r["action"], r["code"]) for r in decided[:2]] == [
        ("allow", "allow", "fine"),
        ("deny", "allow", "over_limit"),
    ]
    assert (decided[-1]["verdict"], decided[-1]["action"]) == ("deny", "block")
    assert len(server.effects()) == 2 + turn


# --------------------------------------------------------------------------------------- overload


async def test_one_agent_too_many_calls_does_not_cost_another_its_turn(gateway, server):
    running = gateway(limits={"in_flight_per_agent": 8}).start()
    async with talking(running, running.key()) as alice, talking(running, running.key("bob")) as bob:
        held = [
            asyncio.create_task(alice.call("note", text=f"held {n}", then="slow", seconds=4))
            for n in range(8)
        ]
        await eventually(lambda: len(server.effects()) == 8)
        before = running.memory_mb()
        gate = asyncio.Semaphore(500)

        async def attempt(number: int) -> tuple[str | None, int]:
            async with gate:
                said = await alice.call("note", text=f"extra {number}", padding="x" * 2000)
            return said.reason, said.facts["retry_after_ms"]

        said = await asyncio.gather(*(attempt(number) for number in range(2000)))
        assert {reason for reason, _ in said} == {"overloaded"}
        assert all(retry > 0 for _, retry in said)
        assert (await bob.call("note", text="bob")).text == "done"
        assert running.memory_mb() - before < 60
        assert [answer.text for answer in await asyncio.gather(*held)] == ["done"] * 8
        assert (await alice.call("note", text="after")).text == "done"
    assert len(server.effects()) == 8 + 2
    refused = [record for record in running.records() if record.get("code") == "overloaded"]
    assert 1 <= len(refused) <= 2000


async def test_a_gateway_without_an_upstream_still_serves_the_others(gateway, server):
    """Start does not depend on upstreams: one that is down shows as degraded, not as not ready."""
    running = gateway()
    dead = {**running.config["upstreams"]["counting"], "url": "http://127.0.0.1:9/mcp"}
    running.config["upstreams"]["dead"] = dead
    running.write_config()
    running.start()
    status, parts = await running.readiness()
    assert (status, parts["parts"]["upstream:dead"]) == (200, "degraded")
    async with talking(running, running.key()) as alice:
        assert (await alice.call("look")).text == "done"
        said = await alice.call("pay", upstream="dead", text="x")
        assert said.message["error"]["message"] == "Unknown tool: pay"  # nobody could be asked what it has


@pytest.mark.slow
async def test_an_idle_connection_outlives_what_clients_keep(gateway, server):
    """A fault there was: both ends gave up after five seconds, so a request could meet a closed connection,
    and clients must not repeat a POST."""
    running = gateway().start()
    async with talking(running, running.key()) as alice:
        connector = alice._http.connector
        connector._keepalive_timeout = 60  # as a load balancer
        for _ in range(2):
            assert (await alice.call("look")).text == "done"
            (idle,) = connector._conns.values()
            assert len(idle) == 1
            await asyncio.sleep(6)
            assert idle[0][0].is_connected()
