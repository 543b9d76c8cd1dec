"""Sessions over HTTP: an orchestrator hands out bounded work, and nobody gets more than was given."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest

from tests.e2e.gateway import Counting, Wardgate
from tests.surfaces.http.support import Client, Got, client, configured

AGENTS = {
    "alice": {"owner": "team-a"},
    "bob": {"owner": "team-b"},
    "boss": {
        "owner": "team-b",
        "mints": {"agents": ["bob"], "tools": ["counting/*"], "budgets": {"calls": 50, "writes": 5},
                  "max_ttl_s": 3600},
    },
    "other-boss": {"owner": "team-b", "mints": {"agents": ["*"]}},
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


async def opened(boss: Client, **wanted: object) -> Got:
    got = await boss.post("/v1/sessions", {"agent": "bob", "mandate": MANDATE, **wanted})
    assert got.status == 201, got.raw
    return got


async def in_session(who: Client, session: str, tool: str, **arguments: object) -> Got:
    return await who.post("/v1/calls", {"tool": tool, "arguments": arguments}, wardgate_session=session)


async def test_a_session_has_the_mandate_that_was_asked_for_completed_within_the_ceiling(boss):
    got = (await opened(boss, note="for March")).body
    mandate = got["mandate"]
    assert got["agent"] == "bob" and got["rolling"] is False and got["status"] == "open"
    assert got["expires"] and got["expires"] == mandate["expires"]  # from max_ttl_s
    assert mandate["budgets"] == {"calls": 3, "writes": 3}  # its own, and what of the ceiling's fits it
    assert mandate["tools"] == MANDATE["tools"] and mandate["objective"] == "look around"
    assert got["budgets"]["session"]["calls"]["left"] == 3


async def test_the_agent_works_in_it_and_sees_what_is_left(boss, bob):
    session = (await opened(boss)).body["id"]
    for left in (2, 1, 0):
        assert (await in_session(bob, session, "counting/look")).status == 200
        now = (await bob.send("GET", "/v1/sessions/current", headers={"Wardgate-Session": session})).body
        assert now["id"] == session and now["budgets"]["session"]["calls"]["left"] == left
    assert (await in_session(bob, session, "counting/look")).code == "budget_exceeded"
    seen = (await boss.get(f"/v1/sessions/{session}")).body
    assert seen["calls"] == 3 and seen["denials"] == 1
    assert [step["status"] for step in seen["last"]] == ["ok", "ok", "ok", "refused"]
