"""Keys of a running gateway: what the command line says holds within a second."""

from __future__ import annotations

import asyncio
import time

from tests.e2e.gateway import Agent, Said, talking


async def changes(agent: Agent, was: int, within_s: float) -> Said:
    """Call until the status is another one; fails when it is still the same after ``within_s``."""
    since = time.monotonic()
    while (said := await agent.call("look")).status == was:
        assert time.monotonic() - since < within_s, f"still {was}"
        await asyncio.sleep(0.02)
    return said


async def test_a_revoked_key_is_refused_within_a_second(gateway, server):
    running = gateway().start()
    async with talking(running, running.key()) as alice, talking(running, running.key("bob")) as bob:
        assert (await alice.call("look")).text == "done"
        key_id = running.key().split("_")[1]
        assert (await running.cli("keys", "revoke", key_id)).returncode == 0
        said = await changes(alice, was=200, within_s=1.0)
        assert (said.status, said.reason) == (401, "revoked_credential")
        assert (await bob.call("look")).text == "done"
        contacted = len(server.contacts())
        assert (await alice.call("pay", text="after")).status == 401
        assert len(server.contacts()) == contacted
    refused = await running.recorded(lambda record: record.get("code") == "revoked_credential")
    assert refused["action"] == "block"


async def test_a_new_key_works_and_a_rotated_one_ends_within_a_second_of_its_overlap(gateway, server):
    running = gateway().start()
    old = await running.new_key("alice")
    async with talking(running, old["key"]) as with_old:
        await changes(with_old, was=401, within_s=1.0)
        new = await running.cli_json("keys", "rotate", old["id"], "--overlap", "2s")
        ends = time.monotonic() + 2
        async with talking(running, new["key"]) as with_new:
            await changes(with_new, was=401, within_s=1.0)
            said = await changes(with_old, was=200, within_s=ends - time.monotonic() + 1.0)
            assert (said.status, said.reason) == (401, "revoked_credential")
            assert (await with_new.call("look")).text == "done"


async def test_an_expired_key_is_refused_without_anybody_doing_anything(gateway, server):
    running = gateway().start()
    short = await running.new_key("alice", expires="2s")
    expires = time.monotonic() + 2
    async with talking(running, short["key"]) as alice:
        said = await changes(alice, was=401, within_s=1.0)
        assert said.status == 200
        said = await changes(alice, was=200, within_s=expires - time.monotonic() + 0.5)
        assert (said.status, said.reason) == (401, "expired_credential")


async def test_a_key_of_an_agent_is_no_key_of_an_operator_and_the_other_way_round(gateway, server):
    running = gateway()
    operator = await running.new_operator("viewer")
    running.start()
    status, _ = await running.admin("/v1/status", running.key())
    assert status == 401
    assert (await running.admin("/v1/status", operator))[0] == 200
    assert (await running.admin("/v1/reload", operator, "POST"))[0] == 403
    async with talking(running, operator) as olga:
        assert (await olga.call("look")).reason == "bad_credential"
    assert server.contacts() == []


async def test_a_key_revoked_while_the_gateway_starts_is_refused_too(gateway, server):
    """A fault there was: what changed between reading the keys and the first look for changes went unseen."""
    connected = asyncio.Event()

    async def hold(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connected.set()
        await reader.read()  # until the test is over with it: never an answer
        writer.close()

    holding = await asyncio.start_server(hold, "127.0.0.1", 0)
    port = holding.sockets[0].getsockname()[1]
    running = gateway()
    running.config["upstreams"]["mute"] = {"url": f"http://127.0.0.1:{port}/mcp"}
    running.write_config()
    starting = asyncio.create_task(asyncio.to_thread(running.start))
    await asyncio.wait_for(connected.wait(), 20)  # the keys have been read by now, and it is not ready yet
    assert (await running.cli("keys", "revoke", running.key().split("_")[1])).returncode == 0
    assert not starting.done(), "it was ready before the key was revoked"
    holding.close()
    await starting
    async with talking(running, running.key()) as alice, talking(running, running.key("bob")) as bob:
        if (said := await alice.call("look")).status == 200:
            said = await changes(alice, was=200, within_s=1.0)
        assert (said.status, said.reason) == (401, "revoked_credential")
        assert (await bob.call("look")).text == "done"
