"""Sessions of a running gateway: seen and acted on by people, by the command line, and by the model itself;
and a kill that forgets nothing."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from gateway.identity import keys
from gateway.storage.credentials import Credentials
from tests.e2e.gateway import (
    MODERN,
    TOOLS,
    Agent,
    Counting,
    Said,
    Wardgate,
    counting,
    rule,
    talking,
)
from tests.storage.at import at

ROLES = ("viewer", "approver", "policy-admin", "operator")
AGENTS: dict[str, Any] = {
    "alice": {"owner": "team-a", "budgets": {"calls": {"limit": 1000}}},
    "bob": {"owner": "team-b", "mandate": {"objective": "count things", "tools": ["counting/*"],
                                           "budgets": {"calls": 3}, "horizon": {"actions": 2}}},
    "foreign": {"owner": "x", "tenant": "elsewhere"},
}  # fmt: skip
MANDATE = {"objective": "look around", "tools": ["counting/*"], "budgets": {"calls": 5, "writes": 2}}
POLICY = rule(
    "calls",
    """
allow contains {"code": "fine", "message": "fine"} if true

deny contains {"code": "loud", "message": sprintf("too loud: %v", [input.call.args.text])} if {
    startswith(input.call.args.text, "LOUD")
}
""",
    codes=["fine", "loud"],
)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Counting]:
    with counting(tmp_path_factory.mktemp("server")) as running:
        yield running


class Office(Wardgate):
    """A gateway with operators, and agents with as many keys as there are tests."""

    def __init__(self, *args: Any, **sections: Any) -> None:
        super().__init__(*args, **sections)
        self.spare: dict[str, list[str]] = {}

    def another(self, agent: str) -> str:
        """A key of its own, and so a session of its own."""
        return self.spare[agent].pop()

    def operator(self, role: str = "operator") -> str:
        return self.spare[role][0]


def made(folder: Path, server: Counting) -> Office:
    wardgate = Office(folder, {"counting": {"url": server.url, "tools": TOOLS}}, agents=AGENTS)
    wardgate.policy("all.rego", POLICY)
    # Minted before it starts, because each key by the command line costs a second.
    with at(wardgate.database_path).open() as database:
        store = Credentials(database)
        for role in ROLES:
            wardgate.spare[role] = [
                keys.mint(store, kind="operator", tenant="default", name="olga", role=role).token
            ]
        stranger = keys.mint(store, kind="operator", tenant="elsewhere", name="eve", role="operator")
        wardgate.spare["stranger"] = [stranger.token]
        for agent in ("alice", "bob"):
            wardgate.spare[agent] = [
                keys.mint(store, kind="agent", tenant="default", name=agent).token for _ in range(20)
            ]
    return wardgate


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory, server: Counting) -> Iterator[Office]:
    wardgate = made(tmp_path_factory.mktemp("gateway"), server)
    try:
        yield wardgate.start()
    finally:
        wardgate.close()


@pytest.fixture
async def alice(gateway: Office) -> AsyncIterator[Agent]:
    key = gateway.another("alice")  # a rolling session of its own for each test
    async with talking(gateway, key) as agent:
        yield agent


async def call(agent: Agent, tool: str, session: str = "", upstream: str = "counting", **args: Any) -> Said:
    body = json.loads(agent.body("tools/call", {"name": tool, "arguments": args}))
    headers = {"MCP-Method": "tools/call", "MCP-Name": tool, "MCP-Protocol-Version": MODERN}
    if session:
        headers["Wardgate-Session"] = session
    return await agent.post(json.dumps(body).encode(), headers, upstream=upstream)


async def own(agent: Agent, session: str = "", **args: Any) -> dict[str, Any]:
    """What the gateway's own tool says."""
    said = await call(agent, "wardgate__session", session, upstream="", **args)
    assert not said.refused, said.message
    told: dict[str, Any] = said.result["structuredContent"]
    assert json.loads(said.text) == told
    return told


async def admin(
    gateway: Office, key: str, path: str, body: Any = None, method: str = "GET"
) -> tuple[int, Any]:
    status, raw = await gateway.admin(path, key, "POST" if body is not None else method, body)
    return status, json.loads(raw)


# -- people -------------------------------------------------------------------------------------------------


async def test_an_operator_sees_what_an_agent_is_at(gateway, alice):
    viewer = gateway.operator("viewer")
    await call(alice, "look", text="hello")
    mine = (await own(alice))["session"]
    status, listed = await admin(gateway, viewer, "/v1/sessions?agent=alice&open=true")
    assert status == 200 and mine in [each["id"] for each in listed["items"]]
    status, found = await admin(gateway, viewer, f"/v1/sessions/{mine}")
    assert status == 200 and found["calls"] == 2 and found["integrity"] == "untrusted"
    assert found["sources"] == ["counting/look"] and found["credential"]
    assert found["budgets"]["agent"]["calls"]["used"] >= 1
    assert (await admin(gateway, viewer, "/v1/sessions?agent=nobody"))[1]["items"] == []


async def test_pages_of_sessions_show_each_once(gateway):
    viewer = gateway.operator("viewer")
    for _ in range(4):
        key = gateway.another("alice")
        async with talking(gateway, key) as agent:
            await call(agent, "look", text="x")
    seen: list[str] = []
    path = "/v1/sessions?agent=alice&limit=2"
    cursor = ""
    while True:
        status, page = await admin(gateway, viewer, path + (f"&cursor={cursor}" if cursor else ""))
        assert status == 200 and len(page["items"]) <= 2
        seen += [each["id"] for each in page["items"]]
        cursor = page["cursor"]
        if not cursor:
            break
    assert len(seen) == len(set(seen)) >= 4


async def test_roles_decide_who_may_do_what(gateway, alice):
    await call(alice, "look", text="x")
    mine = (await own(alice))["session"]
    may = {"viewer": set(), "approver": {"checkpoint"}, "policy-admin": set(),
           "operator": {"checkpoint", "declassify", "close"}}  # fmt: skip
    for role, acts in may.items():
        key = gateway.operator(role)
        assert (await admin(gateway, key, f"/v1/sessions/{mine}"))[0] == 200
        for act in ("checkpoint", "declassify", "close"):
            body = {"note": "looked", **({"labels": ["untrusted"]} if act == "declassify" else {})}
            status, said = await admin(gateway, key, f"/v1/sessions/{mine}/{act}", body)
            assert (status == 200) is (act in acts), said
            assert status == 200 or said["code"] == "wrong_role"
        opened = {"agent": "bob", "mandate": MANDATE}
        status, said = await admin(gateway, key, "/v1/sessions", opened)
        assert (status == 201) is (role == "operator"), said


async def test_an_operator_of_another_tenant_sees_and_does_nothing(gateway, alice):
    await call(alice, "look", text="x")
    mine = (await own(alice))["session"]
    key = gateway.operator("stranger")
    assert (await admin(gateway, key, "/v1/sessions"))[1]["items"] == []
    assert (await admin(gateway, key, f"/v1/sessions/{mine}"))[1]["code"] == "no_such_session"
    for act in ("close", "checkpoint"):
        status, said = await admin(gateway, key, f"/v1/sessions/{mine}/{act}", {"note": "x"})
        assert status == 404 and said["code"] == "no_such_session"
    status, said = await admin(gateway, key, "/v1/sessions", {"agent": "bob", "mandate": MANDATE})
    assert status == 422 and said["code"] == "invalid_request"
    status, said = await admin(
        gateway, key, "/v1/sessions", {"agent": "foreign", "mandate": MANDATE, "parent": mine}
    )
    assert said["code"] == "no_such_session"


async def test_broad_work_must_be_meant(gateway):
    operator = gateway.operator()
    body = {"agent": "bob", "mandate": {"tools": ["**"]}}
    status, said = await admin(gateway, operator, "/v1/sessions", body)
    assert status == 422 and said["code"] == "bad_mandate" and said["faults"][0]["pointer"] == "/tools/0"
    status, said = await admin(gateway, operator, "/v1/sessions", {**body, "broad": True})
    assert status == 201 and said["mandate"]["tools"] == ["**"] and said["opened_by"] == "operator olga"


async def test_declassifying_needs_a_reason_and_is_on_record(gateway, alice):
    operator = gateway.operator()
    await call(alice, "look", text="x")
    mine = (await own(alice))["session"]
    for body in (
        {"labels": ["untrusted"]},
        {"labels": ["untrusted"], "note": ""},
        {"labels": [], "note": "x"},
    ):
        status, said = await admin(gateway, operator, f"/v1/sessions/{mine}/declassify", body)
        assert status == 422 and said["code"] == "invalid_request"
    assert (await own(alice))["integrity"] == "untrusted"
    body = {"labels": ["untrusted"], "note": "it was the weather"}
    status, said = await admin(gateway, operator, f"/v1/sessions/{mine}/declassify", body)
    assert status == 200 and said["integrity"] == "trusted"
    act = said["acts"][-1]
    assert (act["act"], act["by"], act["note"]) == ("declassify", "operator olga", "it was the weather")
    assert act["detail"] == {"labels": ["untrusted"]}
    assert (await own(alice))["integrity"] == "trusted"  # at once


async def test_ending_the_session_an_agent_has_anyway_starts_it_anew_and_refills_nothing(gateway):
    operator = gateway.operator()
    key = gateway.another("bob")
    async with talking(gateway, key) as bob:
        await call(bob, "look", text="x")
        before = await own(bob)
        assert before["left"]["session"]["calls"]["left"] == 2 and before["integrity"] == "untrusted"
        status, said = await admin(
            gateway, operator, f"/v1/sessions/{before['session']}/close", {"note": "enough"}
        )
        assert status == 200 and said["status"] == "closed" and said["successor"]
        after = await own(bob)
        assert after["session"] == said["successor"] and after["integrity"] == "trusted"
        assert after["left"]["session"]["calls"]["left"] == 2
        status, said = await admin(
            gateway, operator, f"/v1/sessions/{before['session']}/checkpoint", {"note": "x"}
        )
        assert status == 409 and said["code"] == "session_closed"


# -- the command line ---------------------------------------------------------------------------------------


async def test_the_command_line_shows_what_is_so_at_this_moment(gateway, alice):
    for number in range(3):
        await call(alice, "look", text=str(number))
        mine = (await own(alice))["session"]
        # Saved or not: what is not saved yet is in the records.
        for _ in range(50):
            shown = await gateway.cli_json("sessions", "show", mine)
            if shown["calls"] == 2 * (number + 1):
                break
        assert shown["calls"] == 2 * (number + 1)
        assert shown["integrity"] == "untrusted" and shown["sources"] == ["counting/look"]
    listed = await gateway.cli_json("sessions", "list", "--agent", "alice")
    assert mine in [each["id"] for each in listed["items"]]
    assert (await gateway.cli("sessions", "list")).returncode == 0


async def test_what_the_command_line_does_is_in_force_within_a_moment(gateway, alice, tmp_path):
    await call(alice, "look", text="x")
    mine = (await own(alice))["session"]
    other = await gateway.cli("sessions", "declassify", mine, "--label", "untrustd", "--note", "weather")
    assert other.returncode == 2 and "It has: untrusted" in other.stderr
    done = await gateway.cli("sessions", "declassify", mine, "--label", "untrusted", "--note", "weather")
    assert done.returncode == 0, done.stderr
    for _ in range(100):
        told = await own(alice)
        if told["integrity"] == "trusted":
            break
        await asyncio.sleep(0.05)
    assert told["integrity"] == "trusted"
    file = tmp_path / "mandate.yaml"
    file.write_text("objective: look around\ntools: ['counting/*']\nbudgets: {calls: 1}\n")
    opened = await gateway.cli("sessions", "open", "--agent", "alice", "--mandate", str(file))
    assert opened.returncode == 0, opened.stderr
    session = opened.stdout.strip()
    assert not (await call(alice, "look", session, text="x")).refused
    assert (await call(alice, "look", session, text="x")).reason == "budget_exceeded"
    assert (await gateway.cli("sessions", "close", session)).returncode == 0
    for _ in range(100):
        said = await call(alice, "look", session, text="x")
        if said.reason == "session_closed":
            break
        await asyncio.sleep(0.05)
    assert said.reason == "session_closed"
    shown = await gateway.cli_json("sessions", "show", session)
    assert [act["act"] for act in shown["acts"]] == ["open", "close"]


async def test_the_command_line_says_what_is_wrong(gateway, tmp_path):
    missing = await gateway.cli("sessions", "show", "s-" + "0" * 32)
    assert missing.returncode == 3 and "no such session" in missing.stderr
    assert (await gateway.cli("sessions", "close", "../../x")).returncode == 3
    file = tmp_path / "bad.yaml"
    file.write_text("tools: ['**']\nbudgets: {calls: -1}\nobjective: \"a\\e[31mb\"\n")
    bad = await gateway.cli("sessions", "open", "--agent", "alice", "--mandate", str(file))
    assert bad.returncode == 2 and "/budgets/calls" in bad.stderr and "\x1b" not in bad.stderr
    file.write_text("- a\n")
    assert (await gateway.cli("sessions", "open", "--agent", "alice", "--mandate", str(file))).returncode == 2
    nobody = await gateway.cli("sessions", "open", "--agent", "nobody", "--mandate", str(file))
    assert nobody.returncode in (2, 3)
    assert (await gateway.cli("sessions", "declassify", "s-1", "--label", "x", "--note", " ")).returncode == 2


async def test_looking_writes_nothing(gateway):
    with at(gateway.database_path).open(read_only=True) as database, database.reading() as connection:
        before = connection.exec_driver_sql("select count(*), max(seq) from session_acts").one()
    await gateway.cli("sessions", "list", "--all")
    with at(gateway.database_path).open(read_only=True) as database, database.reading() as connection:
        assert connection.exec_driver_sql("select count(*), max(seq) from session_acts").one() == before


# -- the model ----------------------------------------------------------------------------------------------


async def test_the_model_sees_its_mandate_and_what_is_left_when_nothing_is(gateway):
    key = gateway.another("bob")
    async with talking(gateway, key) as bob:
        for left in (2, 1, 0):
            await call(bob, "look", text="x")
            told = await own(bob)
            assert told["left"]["session"]["calls"]["left"] == left
        assert told["mandate"]["objective"] == "count things" and told["mandate"]["tools"] == ["counting/*"]
        said = await call(bob, "counting__look", upstream="", text="x")
        assert said.reason == "budget_exceeded" and "wardgate__session" in said.text
        elsewhere = await call(bob, "look", text="x")  # an endpoint without the tool
        assert elsewhere.reason == "budget_exceeded" and "wardgate" not in elsewhere.facts["remedy"]
        why = await own(bob, call=said.facts["decision_id"])
        assert why["code"] == "budget_exceeded" and why["remedy"] and why["tool"] == "counting/look"


async def test_looking_puts_no_label_on_the_session_and_costs_nothing(gateway, alice):
    before = await own(alice)
    after = await own(alice)
    assert after["integrity"] == before["integrity"] == "trusted"
    assert after["left"] == before["left"]


async def test_why_a_rule_refused_is_told_without_the_words_it_made_of_an_argument(gateway, alice):
    said = await call(alice, "note", text="LOUD mallory@evil.example")
    assert said.reason == "loud"
    for _ in range(50):
        why = await own(alice, call=said.facts["decision_id"])
        if why["known"]:
            break
    assert why["code"] == "loud" and why["rule"] == "test.calls"
    assert "mallory" not in json.dumps(why)


async def test_nobody_learns_why_somebody_else_was_refused(gateway, alice):
    said = await call(alice, "note", text="LOUD")
    key = gateway.another("bob")
    async with talking(gateway, key) as bob:
        why = await own(bob, call=said.facts["decision_id"])
    unknown = await own(alice, call="0193a5b2-7c1e-7d4e-9f2a-3b1c5d7e9f01")
    assert why["known"] is unknown["known"] is False and why.keys() == unknown.keys()


async def test_the_tool_is_listed_where_it_is_and_takes_nothing_else(gateway, alice):
    listed = await alice.ask("tools/list", {}, upstream="")
    names = [tool["name"] for tool in listed.result["tools"]]
    assert names[-1] == "wardgate__session" and "counting__look" in names
    alone = await alice.ask("tools/list", {}, upstream="wardgate")
    assert [tool["name"] for tool in alone.result["tools"]] == ["session"]
    assert not (await call(alice, "session", upstream="wardgate")).refused
    other = await alice.ask("tools/list", {}, upstream="counting")
    assert "wardgate" not in json.dumps(other.result)
    for arguments in ({"call": 1}, {"call": "x" * 65}, {"other": "x"}):
        said = await call(alice, "session", upstream="wardgate", **arguments)
        assert said.reason == "invalid_arguments"


async def test_an_upstream_of_the_gateways_own_name_is_refused(tmp_path, server):
    wardgate = Wardgate(tmp_path / "w", {"wardgate": {"url": server.url}})
    code, log = wardgate.refuses_to_start()
    assert code == 2 and "the gateway's own" in log


async def test_where_nothing_is_delegated_there_is_no_such_tool(tmp_path, server):
    wardgate = Wardgate(tmp_path / "w", {"counting": {"url": server.url}})
    try:
        wardgate.start()
        async with talking(wardgate, wardgate.key("alice")) as agent:
            listed = await agent.ask("tools/list", {}, upstream="")
            assert "wardgate" not in json.dumps(listed.result)
    finally:
        wardgate.close()


# -- what a crash leaves ------------------------------------------------------------------------------------


async def test_a_kill_right_after_a_tainting_read_forgets_nothing(tmp_path, server):
    wardgate = made(tmp_path / "w", server).start()
    try:
        operator = wardgate.operator()
        status, opened = await admin(
            wardgate, operator, "/v1/sessions", {"agent": "alice", "mandate": MANDATE}
        )
        assert status == 201
        session = opened["id"]
        async with talking(wardgate, wardgate.key("alice")) as alice:
            said = await call(alice, "note", session, text="before")
            assert not said.refused
            said = await call(alice, "look", session, text="tainting")
            wardgate.kill()  # the answer was there; nothing was saved
            assert not said.refused
        wardgate.start()
        async with talking(wardgate, wardgate.key("alice")) as alice:
            told = await own(alice, session)
            assert told["integrity"] == "untrusted" and told["calls"] == 2
            assert told["left"]["session"]["calls"]["left"] == 3
            assert told["left"]["session"]["writes"]["left"] == 1
            assert told["left"]["agent"]["calls"]["left"] == 998
        status, found = await admin(wardgate, operator, f"/v1/sessions/{session}")
        assert found["sources"] == ["counting/note"] or "counting/look" in found["sources"]
    finally:
        wardgate.close()


async def test_a_session_opened_under_one_that_was_never_saved_survives_a_kill(tmp_path, server):
    wardgate = made(tmp_path / "w", server).start()
    try:
        operator = wardgate.operator()
        async with talking(wardgate, wardgate.key("bob")) as bob:
            above = (await own(bob))["session"]
            status, child = await admin(wardgate, operator, "/v1/sessions", {"agent": "bob", "parent": above})
            assert status == 201, child
            await call(bob, "look", child["id"], text="x")
            wardgate.kill()
        wardgate.start()
        async with talking(wardgate, wardgate.key("bob")) as bob:
            told = await own(bob, child["id"])
            assert told["integrity"] == "untrusted" and told["left"]["tree"]["calls"]["left"] == 2
            assert (await own(bob))["integrity"] == "untrusted"  # what a child reads comes up with its answer
    finally:
        wardgate.close()


async def test_what_budgets_refuse_and_who_opens_sessions_is_counted(gateway):
    operator = gateway.operator()
    status, opened = await admin(
        gateway, operator, "/v1/sessions", {"agent": "bob", "mandate": {**MANDATE, "budgets": {"calls": 0}}}
    )
    assert status == 201, opened
    async with talking(gateway, gateway.another("bob")) as bob:
        assert (await call(bob, "look", opened["id"], text="x")).reason == "budget_exceeded"
    _, scraped = await gateway.admin("/metrics", operator)
    seen = dict(line.rsplit(" ", 1) for line in scraped.decode().splitlines() if line[:1] != "#")
    assert float(seen['wardgate_budget_refusals_total{metric="calls",scope="session"}']) >= 1
    assert float(seen['wardgate_sessions_opened_total{by="operator"}']) >= 1
    assert float(seen["wardgate_sessions_live"]) >= 1
