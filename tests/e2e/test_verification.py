"""After the answer, a read says whether a call had its effect; whatever it says, the answer was given."""

from __future__ import annotations

import asyncio
import json
import signal
import time
from collections.abc import Callable
from typing import Any

import aiohttp
import pytest

from tests.e2e.gateway import TOOLS, Counting, Wardgate, eventually, rule, talking

VERIFY: dict[str, Any] = {
    "tool": "look",
    "arguments": {"of": "{arguments.keep}", "then": "{arguments.check}"},
    "match": {"/text": "{arguments.text}", "/version": {"exists": True}},
    "attempts": 1,
    "within_s": 5,
}

Make = Callable[..., Wardgate]


def verifying(make: Make, **changes: Any) -> Wardgate:
    """A gateway in which every ``note`` is verified by a ``look``."""
    note = {**TOOLS["note"], "verify": {**VERIFY, **changes}}
    return make({"tools": {**TOOLS, "note": note}}).start()


async def note(gateway: Wardgate, **arguments: Any) -> Any:
    async with talking(gateway, gateway.key()) as agent:
        said = await agent.call("note", **{"keep": "a", "text": "one", "check": "answer", **arguments})
    assert said.text == "done", said.message
    return said


async def verified(gateway: Wardgate, timeout_s: float = 10) -> dict[str, Any]:
    return await gateway.recorded(lambda record: record["phase"] == "verified", timeout_s)


async def test_what_was_verified_is_on_record_and_shown_wherever_the_call_is(gateway: Make) -> None:
    wardgate = verifying(gateway)
    operator = await wardgate.new_operator("viewer")  # known within a moment
    await note(wardgate)
    found = await verified(wardgate)
    assert (found["status"], found["verifier"], found["reads"]) == ("verified", "counting/look", 1)
    assert "detail" not in found

    shown = await wardgate.cli("decisions", "show", found["call_id"])
    assert "verified" in shown.stdout and "counting/look" in shown.stdout and found["read"] in shown.stdout
    listed = await wardgate.cli_json("decisions", "list", "--tool", "counting/note")
    (item,) = listed["items"]
    assert (item["verification"], item["status"], item["end_phase"]) == ("verified", "ok", "result")

    status, body = await wardgate.admin(f"/v1/decisions/{found['call_id']}", operator)
    detail = json.loads(body)
    assert status == 200, body
    assert (detail["verification"], detail["status"]) == ("verified", "ok")
    assert detail["end_phase"] == "result"
    assert [step["phase"] for step in detail["history"]] == ["intent", "result", "verified"]
    async with aiohttp.ClientSession() as http, http.get(wardgate.admin_url + "/metrics") as response:
        metrics = await response.text()
    assert 'wardgate_verifications_total{result="verified"} 1.0' in metrics


async def test_the_read_is_a_call_of_its_own_by_the_same_principal_in_the_same_session(gateway: Make) -> None:
    wardgate = verifying(gateway)
    await note(wardgate)
    found = await verified(wardgate)
    records = {record["call_id"]: record for record in wardgate.exported() if "action" in record}
    read, call = records[found["read"]], records[found["call_id"]]
    assert (read["surface"], read["target"], read["verdict"]) == ("verify", "counting/look", "allow")
    for name in ("agent", "tenant", "session"):
        assert read[name] == call[name]
    assert read["agent_snapshot"] == call["agent_snapshot"]


@pytest.mark.parametrize("edge", [{"lose": True}, {"text": "two", "keep": "b"}])
async def test_an_effect_that_did_not_happen_is_refuted(gateway: Make, edge: dict[str, Any]) -> None:
    """The tool answered ``done`` all the same: that is the point."""
    wardgate = verifying(gateway, match={"/text": "one", "/version": {"min": 1}})
    await note(wardgate, **edge)
    found = await verified(wardgate)
    assert found["status"] == "refuted"
    assert found["detail"].startswith("not as expected: /text")


async def test_an_effect_that_takes_a_while_is_waited_for(gateway: Make) -> None:
    wardgate = verifying(gateway, attempts=6, within_s=20)
    await note(wardgate, late=0.4)
    found = await verified(wardgate)
    assert found["status"] == "verified"
    assert found["reads"] > 1


async def test_a_read_that_hangs_says_nothing_and_holds_up_nobody(gateway: Make) -> None:
    wardgate = verifying(gateway, within_s=1)
    started = time.monotonic()
    await note(wardgate, check="hang")
    assert time.monotonic() - started < 1, "the answer does not wait"
    found = await verified(wardgate)
    assert (found["status"], found["detail"]) == ("unknown", "no answer within 1 s")
    await note(wardgate, keep="b")
    await eventually(lambda: [r["status"] for r in wardgate.records() if r["phase"] == "verified"][1:])
    assert [r["status"] for r in wardgate.records() if r["phase"] == "verified"] == ["unknown", "verified"]


async def test_policy_decides_the_read_too(gateway: Make) -> None:
    wardgate = verifying(gateway, attempts=3)
    closed = 'deny contains {"code": "no_looking", "message": "no"} if input.call.surface == "verify"'
    wardgate.stop()
    wardgate.policy("closed.rego", rule("closed", closed, codes=["no_looking"]))
    wardgate.start()
    await note(wardgate)
    found = await verified(wardgate)
    assert (found["status"], found["reads"]) == ("unknown", 1), "a refusal is not asked again"
    assert found["detail"] == "the read was refused: no_looking"
    async with talking(wardgate, wardgate.key()) as agent:
        assert json.loads((await agent.call("look", of="a")).text) == {"text": "one", "version": 1}


async def test_a_read_that_needs_a_person_asks_nobody(gateway: Make) -> None:
    wardgate = verifying(gateway)
    asking = 'escalate contains {"code": "ask", "message": "ask"} if input.tool.name == "look"'
    wardgate.stop()
    wardgate.policy("asking.rego", rule("asking", asking, codes=["ask"]))
    wardgate.start()
    await note(wardgate)
    found = await verified(wardgate)
    assert (found["status"], found["detail"]) == ("unknown", "the read was refused: approvals_not_configured")


async def test_a_read_that_fails_and_an_upstream_that_is_gone_say_nothing(
    gateway: Make, server: Counting
) -> None:
    wardgate = verifying(gateway, after_s=0.5, attempts=2)
    await note(wardgate, check="die")
    found = await verified(wardgate)
    assert (found["status"], found["reads"], found["detail"]) == (
        "unknown",
        2,
        "the read failed: upstream_lost",
    )
    await note(wardgate, keep="b")
    server.stop()
    found = await wardgate.recorded(lambda record: "upstream_unavailable" in record.get("detail", ""))
    assert (found["status"], found["reads"]) == ("unknown", 2)


async def test_a_template_without_a_value_is_no_guess(gateway: Make, server: Counting) -> None:
    wardgate = verifying(gateway)
    async with talking(wardgate, wardgate.key()) as agent:
        await agent.call("note", keep="a", check="answer")
    found = await verified(wardgate)
    assert (found["status"], found["detail"]) == ("unknown", "arguments.text is not there")
    assert "read" not in found
    assert [each["tool"] for each in server.effects()] == ["note"]


async def test_a_call_that_did_not_end_well_is_not_verified(gateway: Make, server: Counting) -> None:
    wardgate = verifying(gateway)
    async with talking(wardgate, wardgate.key()) as agent:
        await agent.call("note", keep="a", text="one", check="answer", then="die")
    await note(wardgate, keep="b")
    found = await verified(wardgate)
    assert [each["arguments"].get("of") for each in server.effects() if each["tool"] == "look"] == ["b"]
    assert len([record for record in wardgate.records() if record["phase"] == "verified"]) == 1
    assert found["status"] == "verified"


async def test_a_result_that_policy_withholds_had_its_effect_all_the_same(gateway: Make) -> None:
    wardgate = verifying(gateway)
    hidden = 'deny contains {"code": "hidden", "message": "no"} if input.tool.name == "note"'
    wardgate.stop()
    wardgate.policy("hidden.rego", rule("hidden", hidden, codes=["hidden"], phase="result"))
    wardgate.start()
    async with talking(wardgate, wardgate.key()) as agent:
        said = await agent.call("note", keep="a", text="one", check="answer")
    assert said.reason == "hidden"
    assert (await verified(wardgate))["status"] == "verified"


@pytest.mark.parametrize(("lose", "status"), [(False, "verified"), (True, "unknown")])
async def test_a_gateway_that_stops_looks_at_once_and_says_what_it_cannot_know(
    gateway: Make, lose: bool, status: str
) -> None:
    """What is there early is there; what is not there yet may have come, had it waited."""
    wardgate = verifying(gateway, after_s=60, within_s=120, attempts=3)
    await note(wardgate, lose=lose)
    started = time.monotonic()
    assert await asyncio.to_thread(wardgate.stop) == 0
    assert time.monotonic() - started < 10
    (found,) = [record for record in wardgate.records() if record["phase"] == "verified"]
    assert (found["status"], found.get("detail")) == (status, "the gateway was stopping" if lose else None)


async def test_a_gateway_that_stops_does_not_wait_for_a_read_that_hangs(gateway: Make) -> None:
    wardgate = verifying(gateway, within_s=120)
    wardgate.stop()
    wardgate.config["server"]["drain_s"] = 1
    wardgate.write_config()
    wardgate.start()
    await note(wardgate, check="hang")
    await asyncio.sleep(0.3)
    assert await asyncio.to_thread(wardgate.stop) == 0
    (found,) = [record for record in wardgate.records() if record["phase"] == "verified"]
    assert (found["status"], found["detail"]) == ("unknown", "the gateway was stopping")


async def test_after_a_crash_a_call_that_was_not_verified_has_no_record_of_it(gateway: Make) -> None:
    wardgate = verifying(gateway, after_s=60, within_s=120)
    await note(wardgate)
    wardgate.kill()
    wardgate.start()
    await note(wardgate, keep="b")
    listed = (await wardgate.cli_json("decisions", "list", "--tool", "counting/note"))["items"]
    assert [(item["status"], item.get("verification")) for item in listed] == [("ok", None)] * 2
    wardgate.signal(signal.SIGTERM)
    wardgate.ended()


async def test_a_replay_reads_verified_calls_like_any_other(gateway: Make) -> None:
    wardgate = verifying(gateway)
    await note(wardgate)
    await verified(wardgate)
    done = await wardgate.cli("policy", "replay", str(wardgate.policies), "--json")
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["total"] == report["counts"]["unchanged"] == 2, "the call, and the read that verified it"


async def test_the_agent_can_look_up_what_came_of_its_call(gateway: Make) -> None:
    wardgate = verifying(gateway)
    await note(wardgate, lose=True)
    found = await verified(wardgate)
    headers = {"Authorization": f"Bearer {wardgate.key()}"}
    address = f"{wardgate.agents_url}/v1/decisions/{found['call_id']}"
    async with aiohttp.ClientSession(headers=headers) as http, http.get(address) as response:
        detail = await response.json()
    assert (detail["status"], detail["end_phase"], detail["verification"]) == ("ok", "result", "refuted")
