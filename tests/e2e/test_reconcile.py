"""Calls in doubt of a tool whose manifest says how to find out: done, not done, or still in doubt."""

from __future__ import annotations

import asyncio
import time

import aiohttp
import pytest

from tests.e2e.gateway import TOOLS, Wardgate, counting, rule, talking
from tests.e2e.test_approvals import CHAINS, Reviewer

LATE_S = 2.5
HOOK = {
    "tool": "look",
    "arguments": {"of": "{arguments.keep}"},
    "done": {"/text": "{arguments.text}"},
    "not_done": {"/text": {"exists": False}},
    "late_s": LATE_S, "every_s": 1, "attempts": 2,
}  # fmt: skip
HELD = rule(
    "held",
    'escalate contains {"code": "needs_person", "message": "this needs a person"}'
    ' if startswith(input.call.args.text, "held")',
    codes=["needs_person"], scope={"tools": ["counting/pay"]},
)  # fmt: skip


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    folder = tmp_path_factory.mktemp("reconcile")
    pay = {**TOOLS["pay"], "deadline_s": 0.5, "reconcile": HOOK}
    with counting(folder) as server:
        running = Wardgate(
            folder / "gateway",
            {"counting": {"url": server.url, "tools": {**TOOLS, "pay": pay}}},
            approvals={"chains": CHAINS, "hold_s": 0},
        )
        running.policy("held.rego", HELD)
        ann = Reviewer(running, "ann", "operator")
        running.start()
        yield running, ann, server
        running.close()


async def in_doubt(agent, **arguments):
    said = await agent.call("pay", then="hang", **arguments)
    assert said.facts["decision"] == "in_doubt", said.text
    return said.facts["decision_id"]


async def reconciled(running, call_id, timeout_s=15):
    return await running.recorded(
        lambda record: record["phase"] == "reconciled" and record["call_id"] == call_id, timeout_s
    )


async def counted(running, result):
    async with aiohttp.ClientSession() as http, http.get(running.admin_url + "/metrics") as response:
        lines = (await response.text()).splitlines()
    (line,) = [
        each for each in lines if each.startswith(f'wardgate_reconciliations_total{{result="{result}"')
    ]
    return float(line.rpartition(" ")[2])


async def test_what_was_done_is_found_out_and_said_with_its_evidence(world):
    running, _, _ = world
    async with talking(running, running.key()) as alice:
        call_id = await in_doubt(alice, keep="done", text="rent")
    found = await reconciled(running, call_id)
    assert (found["status"], found["operator"]) == ("executed", "wardgate")
    assert found["detail"].startswith("counting/look says so (call ")
    read = found["detail"].partition("(call ")[2].rstrip(")")
    # A read is journalled behind its call, so it may be on disk after what was said because of it.
    record = await running.recorded(lambda each: each["call_id"] == read and "action" in each)
    assert (record["surface"], record["target"], record["agent"]) == ("verify", "counting/look", "alice")
    assert await counted(running, "done") >= 1


async def test_not_done_is_believed_only_when_an_effect_would_have_come_and_then_the_call_is_free(world):
    running, _, server = world
    async with talking(running, running.key()) as alice:
        started = time.monotonic()
        call_id = await in_doubt(alice, keep="lost", text="lost", lose=True)
        same = await alice.call("pay", then="hang", keep="lost", text="lost", lose=True)
        assert same.reason == "in_doubt"
        found = await reconciled(running, call_id)
        assert time.monotonic() - started >= LATE_S
        assert (found["status"], found["operator"]) == ("not_executed", "wardgate")
        before = len(server.effects("lost"))
        deadline = time.monotonic() + 5
        while (again := await alice.call("pay", keep="lost", text="lost")).refused:
            assert again.reason == "in_doubt" and time.monotonic() < deadline  # noticed within a second
            await asyncio.sleep(0.1)
        assert len(server.effects("lost")) == before + 1


async def test_an_effect_that_is_late_is_never_called_not_done(world):
    running, _, _ = world
    async with talking(running, running.key()) as alice:
        call_id = await in_doubt(alice, keep="late", text="late", late=2.0)
    assert (await reconciled(running, call_id))["status"] == "executed"


async def test_what_no_read_can_tell_stays_for_a_person(world):
    running, _, _ = world
    async with talking(running, running.key()) as alice:
        await alice.call("pay", keep="other", text="somebody else's")
        call_id = await in_doubt(alice, keep="other", text="mine", lose=True)
        deadline = time.monotonic() + 15
        while await counted(running, "unknown") < 1:
            assert time.monotonic() < deadline
            await asyncio.sleep(0.2)
    reads = [
        each for each in running.exported()
        if each.get("surface") == "verify" and each["phase"] != "refused" and "action" in each
    ]  # fmt: skip
    assert reads and call_id in {each["call_id"] for each in running.in_doubt()}
    await running.cli("decisions", "resolve", call_id, "--became", "not-executed", "--note", "asked the bank")
    assert (await reconciled(running, call_id))["operator"] != "wardgate"


@pytest.mark.parametrize(("lose", "state"), [(False, "executed"), (True, "failed")])
async def test_an_approval_in_doubt_follows_what_was_found_out(world, lose, state):
    running, ann, server = world
    text = f"held {state}"
    asked = {"keep": state, "text": text, "then": "hang", **({"lose": True} if lose else {})}
    async with talking(running, running.key()) as alice:
        held = (await alice.call("pay", **asked)).facts["approval_id"]
        _, found = await ann.get(f"/v1/approvals/{held}")
        assert (await ann.do("approve", found))[0] == 200
        assert (await alice.call("pay", **asked)).facts["decision"] == "in_doubt"
        assert (await ann.get(f"/v1/approvals/{held}"))[1]["state"] == "in_doubt"
        deadline = time.monotonic() + 15
        while (found := (await ann.get(f"/v1/approvals/{held}"))[1])["state"] == "in_doubt":
            assert time.monotonic() < deadline
            await asyncio.sleep(0.2)
        assert (found["state"], found["closed_by"]) == (state, "wardgate")
        assert len(server.effects(text)) == 1, "finding out did nothing"
        status, said = await ann.do("resolve", found, became="executed", note="too late")
        assert status == 409 and said["code"] == "approval_closed", said
