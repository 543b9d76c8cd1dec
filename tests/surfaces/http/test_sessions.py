"""Sessions over HTTP: an orchestrator hands out bounded work, and nobody gets more than was given."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from typing import Any
from urllib.parse import quote

import pytest

from tests.e2e.gateway import Counting, Wardgate, talking
from tests.surfaces.http.support import Client, Got, client, configured

AGENTS = {
    "alice": {"owner": "team-a"},
    "bob": {"owner": "team-b"},
    "boss": {
        "owner": "team-b",
        "mints": {"agents": ["bob"], "tools": ["counting/*"], "budgets": {"calls": 50, "writes": 5},
                  "max_ttl_s": 3600},
    },
    "rival": {"owner": "team-b", "mints": {"agents": ["*"]}},
    "foreign": {"owner": "x", "tenant": "elsewhere"},
}  # fmt: skip
MANDATE = {"objective": "look around", "tools": ["counting/look", "counting/note"], "budgets": {"calls": 3}}


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory, server: Counting) -> Iterator[Wardgate]:
    wardgate = configured(tmp_path_factory.mktemp("gateway"), server, agents=AGENTS)
    try:
        yield wardgate.start()
    finally:
        wardgate.close()


@pytest.fixture
async def boss(gateway: Wardgate) -> AsyncIterator[Client]:
    async with client(gateway, "boss") as made:
        yield made


@pytest.fixture
async def rival(gateway: Wardgate) -> AsyncIterator[Client]:
    async with client(gateway, "rival") as made:
        yield made


async def opened(boss: Client, **wanted: Any) -> dict[str, Any]:
    got = await boss.post("/v1/sessions", {"agent": "bob", "mandate": MANDATE, **wanted})
    assert got.status == 201, got.raw
    return got.body


async def refused(boss: Client, mandate: Any, **wanted: Any) -> Got:
    return await boss.post("/v1/sessions", {"agent": "bob", "mandate": mandate, **wanted})


async def inside(who: Client, session: str, tool: str, **arguments: Any) -> Got:
    return await who.post("/v1/calls", {"tool": tool, "arguments": arguments}, wardgate_session=session)


async def now(who: Client, session: str) -> dict[str, Any]:
    return (await who.send("GET", "/v1/sessions/current", headers={"Wardgate-Session": session})).body


# -- what it is for -----------------------------------------------------------------------------------------


async def test_a_session_has_the_mandate_that_was_asked_for_completed_within_the_ceiling(boss):
    got = await opened(boss, note="for March")
    mandate = got["mandate"]
    assert got["agent"] == "bob" and got["rolling"] is False and got["status"] == "open"
    assert got["expires"] and got["expires"] == mandate["expires"]  # from max_ttl_s
    assert mandate["budgets"] == {"calls": 3, "writes": 3}  # its own, and what of the ceiling's fits it
    assert mandate["tools"] == MANDATE["tools"] and mandate["objective"] == "look around"
    assert got["budgets"]["session"]["calls"]["left"] == 3


async def test_the_agent_works_in_it_and_sees_what_is_left(boss, bob):
    session = (await opened(boss))["id"]
    for left in (2, 1, 0):
        assert (await inside(bob, session, "counting/look")).status == 200
        seen = await now(bob, session)
        assert seen["id"] == session and seen["budgets"]["session"]["calls"]["left"] == left
    assert (await inside(bob, session, "counting/look")).code == "budget_exceeded"
    seen = (await boss.get(f"/v1/sessions/{session}")).body
    assert seen["calls"] == 3 and seen["denials"] == 1
    assert [step["status"] for step in seen["last"]] == ["ok", "ok", "ok", "refused"]


async def test_without_naming_one_an_agent_is_in_the_session_it_has_anyway(alice):
    first = (await alice.get("/v1/sessions/current")).body
    await alice.call("counting/look")
    then = (await alice.get("/v1/sessions/current")).body
    assert first["id"] == then["id"] and then["rolling"] and then["calls"] == first["calls"] + 1
    assert then["mandate"] is None


async def test_whoever_opened_it_ends_it_and_ending_it_again_is_safe(boss, bob):
    session = (await opened(boss))["id"]
    for _ in range(2):
        got = await boss.post(f"/v1/sessions/{session}/close", {"note": "done"})
        assert got.status == 200 and got.body["status"] == "closed"
    assert (await inside(bob, session, "counting/look")).code == "session_closed"
    got = await bob.send("GET", "/v1/sessions/current", headers={"Wardgate-Session": session})
    assert got.code == "session_closed"


async def test_the_same_key_opens_one_session(boss):
    body = {"agent": "bob", "mandate": MANDATE}
    first = await boss.post("/v1/sessions", body, idempotency_key="open-1")
    again = await boss.post("/v1/sessions", body, idempotency_key="open-1")
    assert first.status == again.status == 201 and again.body["id"] == first.body["id"]
    assert again.headers["idempotent-replayed"] == "true"
    other = await boss.post("/v1/sessions", {**body, "note": "x"}, idempotency_key="open-1")
    assert other.code == "key_reused"


# -- nobody gets more than was given -------------------------------------------------------------------------


async def test_only_an_agent_with_mints_opens_sessions_and_only_for_agents_it_may(alice, bob, boss):
    for who in (alice, bob):
        got = await who.post("/v1/sessions", {"mandate": MANDATE})
        assert got.status == 403 and got.code == "may_not_open_sessions"
    # Not even under the session it is in, for itself.
    mine = (await alice.get("/v1/sessions/current")).body["id"]
    assert (await alice.post("/v1/sessions", {"parent": mine})).code == "may_not_open_sessions"
    assert (await refused(boss, MANDATE, agent="alice")).code == "may_not_open_sessions"
    assert (await refused(boss, MANDATE, agent="nobody")).code == "may_not_open_sessions"


async def test_an_agent_of_another_tenant_is_none(rival):
    for agent in ("foreign", "nobody"):
        got = await refused(rival, MANDATE, agent=agent)
        assert got.code == "invalid_request" and "agent" in got.body["detail"]


async def test_a_session_is_for_the_agent_and_the_user_it_was_opened_for(alice, bob, boss, rival):
    session = (await opened(boss))["id"]
    for who in (alice, boss, rival):  # the orchestrator itself may look, and not work in it
        got = await inside(who, session, "counting/look")
        assert got.status == 404 and got.code == "no_such_session"
    for who in (alice, rival):
        assert (await who.get(f"/v1/sessions/{session}")).code == "no_such_session"
        assert (await who.post(f"/v1/sessions/{session}/close", {})).code == "no_such_session"
    # Who works in it sees it, and cannot end it.
    assert (await bob.get(f"/v1/sessions/{session}")).status == 200
    assert (await bob.post(f"/v1/sessions/{session}/close", {})).code == "no_such_session"
    users = (await opened(boss, subject="user-1"))["id"]
    assert (await inside(bob, users, "counting/look")).code == "no_such_session"


async def test_an_agent_cannot_end_the_session_it_has_anyway(alice, boss):
    for who in (alice, boss):
        mine = (await who.get("/v1/sessions/current")).body["id"]
        got = await who.post(f"/v1/sessions/{mine}/close", {})
        assert got.code == "no_such_session"  # its labels would be gone


@pytest.mark.parametrize(
    ("mandate", "pointer"),
    [
        ({}, "/tools"),
        ({"tools": ["counting/look"], "risks": []}, "/risks"),
        ({"tools": ["**"]}, "/tools/0"),
        ({"tools": ["*/*"]}, "/tools/0"),
        ({"tools": ["laptop/Bash"]}, "/tools/0"),
        ({"tools": ["counting/look"], "budgets": {"calls": -1}}, "/budgets/calls"),
        ({"tools": ["counting/look"], "budgets": {"calls": 2**53 + 1}}, "/budgets/calls"),
        ({"tools": ["counting/look"], "budgets": {"calls": True}}, "/budgets/calls"),
        ({"tools": ["counting/look"], "budgets": {"calls": 1, "writes": 2}}, "/budgets/writes"),
        ({"tools": ["counting/look"], "budgets": {"calls": 51}}, "/budgets/calls"),
        ({"tools": ["counting/look"], "ttl_s": 3601}, "/expires"),
        ({"tools": ["counting/look"], "expires": "2001-01-01T00:00:00Z"}, "/expires"),
        ({"tools": ["counting/look"], "objective": "pay \u202eyap"}, "/objective"),
        ({"tools": ["counting/look"], "objective": "x" * 2000}, "/objective"),
        ({"tools": ["counting/look"], "typo": 1}, ""),
    ],
)
async def test_a_mandate_that_cannot_be_given_says_where_and_what_would_do(boss, mandate, pointer):
    got = await refused(boss, mandate)
    assert got.status == 422 and got.code == "bad_mandate"
    found = {fault["pointer"]: fault for fault in got.body["faults"]}
    assert pointer in found and found[pointer]["what"] and found[pointer]["remedy"]


async def test_without_a_mandate_nothing_is_opened(boss):
    got = await boss.post("/v1/sessions", {"agent": "bob"})
    assert got.code == "bad_mandate" and got.body["faults"][0]["what"] == "is missing"


@pytest.mark.parametrize(
    "body",
    [
        {"agent": 1}, {"agent": "bob", "mandate": []}, {"agent": "bob", "mandate": "all"},
        {"agent": "bob", "mandate": MANDATE, "id": "s-1"}, {"mandate": MANDATE, "rolling": True},
        {"agent": "bob", "mandate": MANDATE, "note": "a\u202eb"}, {"agent": "b" * 70, "mandate": MANDATE},
        {"agent": "bob", "mandate": MANDATE, "subject": ""}, {"agent": "bob", "parent": "x" * 200},
    ],
)  # fmt: skip
async def test_a_body_that_is_no_request_is_refused(boss, body):
    assert (await boss.post("/v1/sessions", body)).code == "invalid_request"


# -- delegation within delegation ------------------------------------------------------------------------


async def test_a_child_stays_within_the_session_it_is_part_of(rival):
    above = await opened(rival, agent="rival", mandate={**MANDATE, "budgets": {"calls": 2}})
    child = await opened(rival, parent=above["id"], mandate={"tools": ["counting/look"]})
    assert child["parent"] == above["id"] and child["mandate"]["budgets"]["calls"] == 2
    got = await refused(rival, {"tools": ["counting/pay"]}, parent=above["id"])
    assert got.body["faults"][0]["pointer"] == "/tools/0"
    got = await refused(rival, {"tools": ["counting/look"], "budgets": {"calls": 3}}, parent=above["id"])
    assert got.body["faults"][0]["pointer"] == "/budgets/calls"


async def test_children_share_what_the_parent_has_left(rival, bob):
    above = await opened(rival, agent="rival", mandate={**MANDATE, "budgets": {"calls": 2}})
    one, two = [(await opened(rival, parent=above["id"], mandate=None))["id"] for _ in range(2)]
    assert (await inside(bob, one, "counting/look")).status == 200
    assert (await inside(bob, two, "counting/look")).status == 200
    assert (await inside(bob, one, "counting/look")).code == "budget_exceeded"
    assert (await now(bob, two))["budgets"]["tree"]["calls"]["left"] == 0


async def test_nothing_is_opened_under_a_session_of_somebody_else_or_one_that_has_ended(boss, rival):
    theirs = (await opened(boss))["id"]
    for parent in (theirs, "s-" + "0" * 32, "nothing", "ſ-\u202e"):
        assert (await refused(rival, None, parent=parent)).code == "no_such_session"
    mine = (await opened(rival, agent="rival"))["id"]
    below = (await opened(rival, agent="rival", parent=mine, mandate=None))["id"]
    await rival.post(f"/v1/sessions/{mine}/close", {})
    for parent in (mine, below):
        got = await refused(rival, None, parent=parent)
        assert got.status == 409 and got.code == "session_closed"


async def test_what_ends_above_ends_below(rival, bob):
    mine = (await opened(rival, agent="rival"))["id"]
    below = (await opened(rival, parent=mine, mandate=None))["id"]
    assert (await inside(bob, below, "counting/look")).status == 200
    await rival.post(f"/v1/sessions/{mine}/close", {})
    assert (await inside(bob, below, "counting/look")).code == "session_closed"


async def test_chains_of_delegation_end(rival):
    parent = ""
    for _ in range(20):
        got = await refused(rival, MANDATE if not parent else None, agent="rival", parent=parent)
        if got.status != 201:
            break
        parent = got.body["id"]
    assert got.code == "bad_mandate" and "above one another" in got.body["faults"][0]["what"]


# -- names that mean nothing --------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["s-" + "f" * 32, "x" * 129, "x" * 5000, "caf\u00e9", "s-\u0301", "{}", "'"])
async def test_a_name_that_is_no_session_of_this_agent_is_refused_whatever_it_looks_like(alice, name):
    header = name.encode().decode("latin-1")
    got = await alice.send("POST", "/v1/calls", b'{"tool":"counting/look"}', {"Wardgate-Session": header})
    assert got.code == "no_such_session"
    if "/" not in name:
        got = await alice.get(f"/v1/sessions/{quote(name)}")
        assert got.code in ("no_such_session", "invalid_request")


async def test_header_and_meta_that_disagree_are_refused(gateway, boss):
    one, two = (await opened(boss))["id"], (await opened(boss))["id"]
    async with talking(gateway, gateway.key("bob")) as bob:
        for named, header, fine in ((one, one, True), (one, two, False), ("", two, True)):
            body = json.loads(bob.body("tools/call", {"name": "look", "arguments": {}}))
            if named:
                body["params"]["_meta"]["dev.wardgate/session"] = named
            headers = {"MCP-Method": "tools/call", "MCP-Name": "look", "MCP-Protocol-Version": "2026-07-28",
                       "Wardgate-Session": header}  # fmt: skip
            said = await bob.post(json.dumps(body).encode(), headers)
            assert ("result" in said.message and not said.refused) is fine, said.message


async def test_a_mandate_in_meta_needs_the_right_to_mint(gateway):
    async with talking(gateway, gateway.key("bob")) as bob:
        body = json.loads(bob.body("tools/call", {"name": "look", "arguments": {}}))
        body["params"]["_meta"] |= {"dev.wardgate/session": "mine", "dev.wardgate/mandate": {"tools": ["**"]}}
        headers = {"MCP-Method": "tools/call", "MCP-Name": "look", "MCP-Protocol-Version": "2026-07-28"}
        said = await bob.post(json.dumps(body).encode(), headers)
        assert said.reason == "may_not_open_sessions"


async def test_a_mandate_in_meta_that_cannot_be_given_says_where(gateway):
    async with talking(gateway, gateway.key("boss")) as boss:
        body = json.loads(boss.body("tools/call", {"name": "look", "arguments": {}}))
        body["params"]["_meta"] |= {"dev.wardgate/session": "mine", "dev.wardgate/mandate": {"tools": ["**"]}}
        headers = {"MCP-Method": "tools/call", "MCP-Name": "look", "MCP-Protocol-Version": "2026-07-28"}
        said = await boss.post(json.dumps(body).encode(), headers)
        assert said.reason == "bad_mandate" and "/tools/0: covers tools" in said.text


async def test_opening_many_at_once_gives_each_its_own(boss):
    ids = await asyncio.gather(*(opened(boss) for _ in range(20)))
    assert len({each["id"] for each in ids}) == 20
