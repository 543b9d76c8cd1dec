"""Breakers and the kill switch on a running gateway: stopped within a second, through a restart, in words."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import aiohttp
import pytest

from gateway import overview
from gateway.app import Gateway
from gateway.approvals.notify import sign
from tests.e2e.gateway import BREAKERS, TOOLS, Agent, Json, Said, eventually, rule, talking
from tests.e2e.test_client import client


def listening() -> tuple[Json, list[bytes], Callable[[], None]]:
    """A party that is told by webhook: its section, what it heard, and how to end it."""
    heard: list[bytes] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            heard.append(self.rfile.read(int(self.headers["content-length"])))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            return

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return {"url": f"http://127.0.0.1:{server.server_port}/", "secret": "s" * 32}, heard, server.shutdown


async def until(agent: Agent, reason: str, within_s: float = 1.0, tool: str = "look") -> Said:
    """Call until the refusal is this one, or ("") until there is none."""
    since = time.monotonic()
    number = 0
    while True:
        number += 1
        said = await agent.call(tool, text=f"{reason} {number}")
        if (said.reason or "") == reason:
            return said
        assert time.monotonic() - since < within_s, f"still {said.reason!r}, not {reason!r}: {said.text}"
        await asyncio.sleep(0.02)


async def test_a_loop_is_stopped_and_the_agent_is_told_what_to_do(gateway, server):
    running = gateway(**BREAKERS).start()
    async with talking(running, running.key()) as alice, talking(running, running.key("bob")) as bob:
        for _ in range(5):
            assert (await alice.call("look", text="again")).text == "done"
        contacted = len(server.contacts())
        said = await alice.call("look", text="again")
        assert said.reason == "breaker_open"
        assert "the same call 5 times in a row" in said.text
        assert "Try again in" in said.text
        assert len(server.contacts()) == contacted
        assert (await bob.call("look", text="again")).text == "done"
    items = (await running.cli_json("breaker", "trips"))["items"]
    assert [(each["agent"], each["detector"], each["after"]) for each in items] == [
        ("alice", "repeat", "open")
    ]
    assert len(items[0]["calls"]) == 5
    shown = await running.cli("breaker", "show", items[0]["id"])
    assert "the same call 5 times in a row" in shown.stdout
    refused = await running.recorded(lambda record: record.get("code") == "breaker_open")
    assert refused["action"] == "block"


async def test_a_breaker_survives_a_restart_and_a_person_resets_it(gateway, server):
    running = gateway(**BREAKERS).start()
    async with talking(running, running.key()) as alice:
        for _ in range(5):
            await alice.call("look", text="again")
        assert (await alice.call("look", text="again")).reason == "breaker_open"
    running.stop()
    running.start()
    async with talking(running, running.key()) as alice:
        (item,) = (await running.cli_json("breaker", "list"))["items"]
        assert (item["stage"], item["detector"]) == ("open", "repeat")
        if item["scope"] == "session":
            assert (await alice.call("look", text="new")).reason == "breaker_open"
        done = await running.cli(
            "breaker",
            "reset",
            item["scope"],
            item["name"],
            "--part",
            item["part"],
            "--reason",
            "looked at it",
        )
        assert done.returncode == 0, done.stderr
        await until(alice, "")
        await asyncio.sleep(0.6)
        assert (await running.cli_json("breaker", "list"))["items"] == []


@pytest.mark.parametrize(
    ("scope", "name"),
    [("agent", "alice"), ("tool", "counting/look"), ("upstream", "counting"), ("tenant", ""), ("all", "")],
)
async def test_a_kill_holds_within_a_second_and_through_a_restart_until_it_is_lifted(
    gateway, server, scope, name
):
    running = gateway(**BREAKERS).start()
    async with talking(running, running.key()) as alice, talking(running, running.key("bob")) as bob:
        assert (await alice.call("look", text="before")).text == "done"
        done = await running.cli("kill", scope, *([name] if name else []), "--reason", "incident 7")
        assert done.returncode == 0, done.stderr
        said = await until(alice, "killed")
        assert "incident 7" in said.text
        contacted = len(server.contacts())
        assert (await alice.call("look", text="after")).reason == "killed"
        assert len(server.contacts()) == contacted
        if scope == "agent":
            assert (await bob.call("look", text="bob")).text == "done"
            assert (await bob.call("note", text="bob")).text == "done"
    running.stop()
    running.start()
    async with talking(running, running.key()) as alice:
        assert (await alice.call("look", text="later")).reason == "killed"
        (item,) = (await running.cli_json("kill"))["items"]
        done = await running.cli("kill", "--lift", item["id"], "--reason", "over")
        assert done.returncode == 0, done.stderr
        await until(alice, "")


async def test_a_kill_needs_a_reason_and_a_name(gateway, server):
    running = gateway(**BREAKERS).start()
    assert (await running.cli("kill", "agent", "alice")).returncode == 2
    assert (await running.cli("kill", "agent", "--reason", "x")).returncode == 2
    assert (await running.cli("kill", "--lift", "kill_none", "--reason", "x")).returncode == 3


async def test_a_kill_holds_for_an_agent_that_is_only_observed(gateway, server):
    running = gateway(mode="observe", **BREAKERS).start()
    async with talking(running, running.key()) as alice:
        for n in range(8):
            assert (await alice.call("look", text="again")).text == "done", n
        assert (await running.cli("kill", "all", "--reason", "stop")).returncode == 0
        await until(alice, "killed")


async def test_a_person_opens_a_breaker_and_closes_it(gateway, server):
    running = gateway(**BREAKERS).start()
    async with talking(running, running.key()) as alice:
        done = await running.cli("breaker", "trip", "agent", "alice", "--reason", "strange")
        assert done.returncode == 0, done.stderr
        said = await until(alice, "breaker_open")
        assert "strange" in said.text
        assert "only an operator can reset it" in said.text
        assert (await running.cli("breaker", "reset", "agent", "alice", "--reason", "fine")).returncode == 0
        await until(alice, "")


async def test_calls_that_policy_refuses_in_a_row_make_writes_wait_for_a_person(gateway, server):
    closed = rule(
        "pay",
        'deny contains {"code": "closed", "message": "closed"} if input.tool.name == "pay"',
        codes=["closed"],
    )
    running = gateway(**BREAKERS)
    running.policy("pay.rego", closed)
    running.start()
    async with talking(running, running.key()) as alice:
        for n in range(5):
            assert (await alice.call("pay", text=f"{n}")).reason == "closed"
        assert (await alice.call("look", text="x")).text == "done"
        said = await alice.call("note", text="y")
        assert said.reason in ("breaker_guarded", "approvals_not_configured", "approval_needed")
    items = (await running.cli_json("breaker", "trips"))["items"]
    assert ("denied", "guarded") in [(each["detector"], each["after"]) for each in items]


async def test_what_a_stopped_agent_did_is_suspect_until_a_reviewer_says_it_was_nothing(gateway, server):
    """After the breaker is closed, after a restart, in policy and for people; and its owner is told."""
    wary = rule(
        "wary",
        'deny contains {"code": "suspect", "message": "wait"} if {\n    input.session.suspect_since > 0\n'
        '    input.tool.risk != "read"\n}',
        codes=["suspect"],
    )
    hook, told, stop = listening()
    running = gateway(approvals={"webhooks": {"pager": hook}}, **BREAKERS)
    running.policy("wary.rego", wary)
    running.start()
    try:
        async with talking(running, running.key()) as alice, talking(running, running.key("bob")) as bob:
            assert (await alice.call("note", text="before")).text == "done"
            for _ in range(6):
                await alice.call("look", text="again")
            (trip,) = (await running.cli_json("breaker", "trips"))["items"]
            await eventually(lambda: told)
            about = json.loads(told[0])
            assert about["event"] == "breaker"
            assert (about["trip"]["id"], about["trip"]["owner"]) == (trip["id"], "team-a")
            await running.cli(
                "breaker", "reset", trip["scope"], trip["name"], "--part", trip["part"], "--reason", "seen"
            )
            await until(alice, "")
            assert (await alice.call("note", text="after")).reason == "suspect"
            assert (await bob.call("note", text="after")).text == "done"
        running.stop()
        running.start()
        async with talking(running, running.key()) as alice:
            assert (await alice.call("note", text="restarted")).reason == "suspect"
            found = (await running.cli_json("sessions", "list"))["items"]
            since = {each["agent"]: each["suspect_since"] for each in found}
            assert since["alice"] is not None
            assert since.get("bob") is None
            assert (await running.cli("breaker", "label", trip["id"], "false")).returncode == 0
            # Not by calling: to be refused again and again is a pattern too.
            for _ in range(50):
                found = (await running.cli_json("sessions", "list"))["items"]
                if all(each["suspect_since"] is None for each in found):
                    break
                await asyncio.sleep(0.1)
            assert (await alice.call("note", text="cleared")).text == "done"
            (item,) = (await running.cli_json("breaker", "trips"))["items"]
            assert item["label"] == "false"
    finally:
        stop()


async def test_a_trip_becomes_tests_that_fail_until_the_policy_is_mended(gateway, server, tmp_path):
    running = gateway(**BREAKERS)
    running.start()
    async with talking(running, running.key()) as alice:
        await alice.call("look", text="first")
        for _ in range(6):
            await alice.call("look", text="the secret place")
        (trip,) = (await running.cli_json("breaker", "trips"))["items"]
        await asyncio.sleep(0.3)
    where = running.policies / "incidents"

    async def written(*more: str) -> Json:
        found = await running.cli_json("incident", "export", trip["id"], "--to", str(where), "--force", *more)
        assert not [file for file in where.iterdir() if "secret place" in file.read_text()]
        return found

    async def tested() -> int:
        done = await running.cli("policy", "test", str(running.policies), "--pack", "none")
        assert done.returncode in (0, 1), done.stderr
        return done.returncode

    said = await written()
    assert (said["course"], said["kept"], said["left_out"]) == ("repeat", [], {})
    # As it was: the same verdicts, and the same move of the same breaker.
    assert await tested() == 0
    assert (await running.cli("incident", "test", str(where))).returncode == 0
    # As it should have been.
    await written("--expect", "deny nobody_looks")
    assert await tested() == 1
    running.policy(
        "looks.rego",
        rule(
            "looks",
            'deny contains {"code": "nobody_looks", "message": "no"} if input.tool.name == "look"',
            codes=["nobody_looks"],
        ),
    )
    assert await tested() == 0
    running.config["breakers"] = {"repeat": 9}
    running.write_config()
    assert (await running.cli("incident", "test", str(where))).returncode == 1
    assert (await running.cli("incident", "export", "trip_none")).returncode == 3
    assert (await running.cli("incident", "export", trip["id"], "--to", str(where))).returncode == 2


async def test_the_retry_loops_of_a_real_client_move_no_breaker_of_its_agent(gateway, server):
    """The official client, in both its eras, asking again while it must wait, with default thresholds."""
    chain = {"stages": [{"any": [{"who": {"roles": ["operator"]}}]}]}
    running = gateway(
        {"tools": {**TOOLS, "look": {"risk": "read", "polling": True}}},
        approvals={"chains": {"default": chain}, "hold_s": 0},
        limits={"in_flight_per_agent": 1},
        **BREAKERS,
    )
    escalates = 'escalate contains {"code": "big", "message": "ask"} if input.tool.name == "pay"'
    running.policy("pay.rego", rule("pay", escalates, codes=["big"]))
    await running.new_operator()  # who could decide, and does not
    running.start()
    met: set[str] = set()

    def reason(done: Any) -> str:
        found = done.meta["dev.wardgate/decision"]["reason"] if done.is_error else ""
        met.add(found)
        return str(found)

    for name, mode in (("alice", "auto"), ("bob", "legacy")):
        async with client(running, mode, "/mcp/counting", running.key(name)) as session:
            for _ in range(25):
                assert reason(await session.call_tool("pay", {"text": name})) == "approval_needed"
            for _ in range(25):
                assert reason(await session.call_tool("look", {"text": "is it done?"})) == ""
            sent = [reason(await session.call_tool("send", {"text": name})) for _ in range(25)]
            assert sent == ["", *["duplicate_effect"] * 24]
            for turn in range(10):  # one of three is carried out, the others have to wait
                three = [session.call_tool("note", {"text": f"{name} {turn}.{n}"}) for n in range(3)]
                for done in await asyncio.gather(*three):
                    reason(done)
    trips = (await running.cli_json("breaker", "trips"))["items"]
    assert [(each["detector"], each["sentence"]) for each in trips] == []
    server.stop()
    for name, mode in (("alice", "auto"), ("bob", "legacy")):
        async with client(running, mode, "/mcp/counting", running.key(name)) as session:
            for n in range(15):
                reason(await session.call_tool("note", {"text": f"down {n}"}))
    assert {"approval_needed", "duplicate_effect", "overloaded", "upstream_unavailable"} <= met
    # What is stopped is the upstream that is down, and nobody who asked it.
    trips = (await running.cli_json("breaker", "trips"))["items"]
    assert {(each["detector"], each["scope"]) for each in trips} <= {("health", "upstream")}


async def test_a_detector_elsewhere_stops_an_agent_by_a_signed_score(gateway, server):
    party = {"secret": "s" * 32, "enforce_percent": 100}
    running = gateway(breakers={**BREAKERS["breakers"], "scores": {"drift": party}}).start()

    async def post(secret: bytes = b"s" * 32, **changes: Json) -> tuple[int, Json]:
        said = {"id": "p1", "agent": "alice", "score": 0.97, "sentence": "drifts", **changes}
        body, at = json.dumps(said).encode(), int(time.time())
        heads = {
            "wardgate-key-id": "1", "wardgate-timestamp": str(at),
            "wardgate-signature": sign(secret, at, body, "s1"),
        }  # fmt: skip
        url = running.admin_url + "/v1/scores/drift"
        async with aiohttp.ClientSession() as http, http.post(url, data=body, headers=heads) as answer:
            return answer.status, await answer.json()

    async with talking(running, running.key()) as alice, talking(running, running.key("bob")) as bob:
        assert (await post(b"x" * 32))[0] == 401
        assert (await post(agent="nobody"))[0] == 404
        assert (await post(score=7))[0] == 422
        assert (await alice.call("look", text="before")).text == "done"
        await asyncio.sleep(1)  # what is signed in the second of the start may be from before it
        status, said = await post()
        assert (status, len(said["trips"])) == (200, 1)
        refused = await alice.call("look", text="after")
        assert refused.reason == "breaker_open"
        assert "drifts" in refused.text
        assert (await bob.call("look", text="bob")).text == "done"
        assert (await post())[1]["repeated"] is True


async def test_operators_see_and_use_all_of_it_over_the_admin_api(gateway, server):
    running = gateway(**BREAKERS).start()
    operator, viewer = await running.new_operator(), await running.new_operator("viewer")

    async def asks(path: str, body: Json = None, key: str = operator) -> tuple[int, Json]:
        status, said = await running.admin(path, key, "POST" if body is not None else "GET", body)
        return status, json.loads(said)

    for key in (operator, viewer):  # a new key may take a moment to be known
        while (await running.admin("/v1/status", key))[0] != 200:
            await asyncio.sleep(0.05)
    async with talking(running, running.key()) as alice:
        for _ in range(6):
            await alice.call("look", text="again")
        _, found = await asks("/v1/breakers", key=viewer)
        (item,) = found["items"]
        assert (item["stage"], item["detector"], item["name"]) == ("open", "repeat", "alice")
        _, found = await asks("/v1/breakers/trips")
        (trip,) = found["items"]
        assert (await asks(f"/v1/breakers/trips/{trip['id']}"))[1]["calls"] == trip["calls"]
        assert (await asks("/v1/breakers/trips/trip_none"))[0] == 404

        which = {"scope": item["scope"], "name": item["name"], "part": item["part"], "reason": "seen"}
        assert (await asks("/v1/breakers/reset", which, key=viewer))[0] == 403
        assert (await asks("/v1/breakers/reset", which))[0] == 200
        assert (await alice.call("look", text="other")).text == "done"
        assert (await asks(f"/v1/breakers/trips/{trip['id']}/label", {"label": "true"}))[0] == 200

        assert (await asks("/v1/kills", {"scope": "agent", "name": "alice"}))[0] == 422
        status, kill = await asks("/v1/kills", {"scope": "agent", "name": "alice", "reason": "INC-7"})
        assert status == 201
        # In force when it was answered, not at the next poll.
        assert (await alice.call("look", text="x")).reason == "killed"
        assert len((await asks("/v1/kills"))[1]["items"]) == 1
        assert (await asks(f"/v1/kills/{kill['id']}/lift", {"reason": "over"}))[0] == 200
        assert (await alice.call("look", text="y")).text == "done"
        status, metrics = await running.admin("/metrics", operator)
        assert b'wardgate_breaker_trips_total{detector="repeat",enforced="yes",state="open"} 1.0' in metrics


async def test_calibration_says_when_there_is_too_little_to_go_by(gateway, server):
    running = gateway(**BREAKERS).start()
    assert (await running.cli("breaker", "calibrate")).returncode == 3
    async with talking(running, running.key()) as alice:
        for n in range(20):
            await alice.call("look", text=f"{n % 3} {n}")
    await asyncio.sleep(0.2)
    done = await running.cli("breaker", "calibrate")
    assert done.returncode == 2
    assert "too little recorded traffic" in done.stderr


async def test_a_detector_of_ones_own_that_fails_is_taken_out_and_readiness_names_it(gateway, server):
    class Fails:
        def observe(self, event):
            raise ValueError("no such column")

    running = gateway(**BREAKERS)
    async with Gateway(running.config_path) as opened:
        breakers = opened.guarded.guard.breakers
        breakers.detectors["night"] = Fails()
        assert "detectors" not in overview.ready(opened)
        assert breakers._plugged(None) == [] and "night" not in breakers.detectors
        part = overview.ready(opened)["detectors"]
        assert part.state == "degraded" and "night" in part.detail and not part.essential
