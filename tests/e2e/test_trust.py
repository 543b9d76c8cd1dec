"""Trust on a running gateway: earned by verified work, signed by people, lost before the next call."""

from __future__ import annotations

import asyncio
import json
from typing import Any, Final

import pytest

from tests.e2e.gateway import TOOLS, Wardgate, talking
from tests.e2e.test_approvals import CHAINS, Reviewer
from tests.e2e.test_verification import VERIFY

BUILD: Final = {"model": "m-1", "prompt": "sha256:aa", "tools": "sha256:bb"}
TRUST: Final[dict[str, Any]] = {
    # One verified outcome is enough here; how much it takes by default is in tests/trust.
    "enabled": True, "grace_s": 0, "days": 1, "sessions": 1, "template_share": 1.0,
    "tiers": {2: {"enter": 0.2, "hold": 0.1}},
}  # fmt: skip


@pytest.fixture
def trusting(gateway):
    """A gateway in front of tools of the domain ``books``, ``note`` with a verifier; and two reviewers."""

    def make(**trust: Any) -> tuple[Wardgate, Reviewer, Reviewer]:
        note = {**TOOLS["note"], "domain": "books", "verify": VERIFY}
        pay = {**TOOLS["pay"], "domain": "books"}
        made = gateway(
            {"tools": {**TOOLS, "note": note, "pay": pay}},
            trust={**TRUST, **trust}, approvals={"chains": CHAINS, "hold_s": 0},
            agents={"alice": {"owner": "team-a", "build": BUILD}, "bob": {"owner": "team-b"}},
        )  # fmt: skip
        ann, olga = Reviewer(made, "ann"), Reviewer(made, "olga", "operator")
        return made.start(), ann, olga

    return make


class Signer:
    def __init__(self, gateway: Wardgate, person: Reviewer) -> None:
        self.gateway, self.key = gateway, person.key

    async def post(self, path: str, **body: Any) -> tuple[int, dict[str, Any]]:
        status, said = await self.gateway.admin(f"/v1/trust/{path}", self.key, "POST", body)
        return status, json.loads(said)

    async def stands(self, agent: str = "alice", domain: str = "books") -> dict[str, Any]:
        status, said = await self.gateway.admin(f"/v1/trust/{agent}?domain={domain}", self.key)
        assert status == 200, said
        return json.loads(said)


def noted(number: int) -> dict[str, str]:
    return {"keep": f"k{number}", "text": f"text {number}", "check": "answer"}


async def earned(running: Wardgate, agent: Any, ann: Reviewer, who: Signer) -> None:
    """One call that people approved and the gateway verified."""
    assert (await agent.call("note", **noted(1))).reason == "approval_needed"
    (waiting,) = await ann.waiting()
    assert [each["code"] for each in waiting["requirements"]] == ["trust_needs_person"]
    status, _ = await ann.do("approve", waiting)
    assert status == 200
    assert (await agent.call("note", **noted(1))).text == "done"
    await running.recorded(lambda record: record["phase"] == "verified")
    for _ in range(200):
        if (await who.stands())["next"]["outcomes"]:
            return
        await asyncio.sleep(0.05)
    raise AssertionError("the verified outcome was not taken into account")


async def test_an_agent_earns_t2_in_one_domain_and_loses_it_at_once(trusting, server):
    running, ann, olga = trusting()
    who, boss = Signer(running, ann), Signer(running, olga)
    async with talking(running, running.key()) as alice:
        assert (await alice.call("look", text="a")).text == "done"  # looking needs no trust
        refused = await who.post("alice/books/promote", reason="too early")
        assert refused[0] == 409 and "more verified outcomes" in refused[1]["detail"]
        await earned(running, alice, ann, who)
        stands = await who.stands()
        assert (stands["tier"], stands["next"]["eligible"], stands["next"]["people"]) == (1, True, 1)

        status, said = await who.post("alice/books/promote", tier=2, reason="looked at ten notes")
        assert (status, said) == (200, {"tier": 2, "signed": ["ann"], "missing": ""})
        first = await alice.call("note", **noted(2))
        assert first.text == "done"  # alone now
        assert (await alice.call("note", **noted(2) | {"keep": "k9"})).text == "done"
        # Only in this domain, and only what can be undone.
        assert (await alice.call("send", text="elsewhere")).reason == "approval_needed"
        assert (await alice.call("pay", text="big")).reason == "approval_needed"
        assert (await boss.stands("alice", "general"))["tier"] == 1

        wrote = await running.recorded(
            lambda r: r.get("target") == "counting/note" and r["phase"] == "intent"
        )
        call = wrote["call_id"]
        status, said = await boss.post("reports", call=call, reason="wrote into the wrong books")
        assert (status, said["tier"], said["known"]) == (201, 0, False)
        refused_call = await alice.call("note", **noted(3))
        assert refused_call.reason == "trust_observe_only"
        assert (await alice.call("look", text="b")).text == "done"
        status, said = await boss.post("reports", call=call, reason="told twice")
        assert (status, said["known"]) == (201, True)
    assert [each["tool"] for each in server.effects()].count("note") == 3

    running.stop()
    running.start()
    who = Signer(running, ann)
    assert (await who.stands())["tier"] == 0
    status, body = await running.admin("/v1/trust/alice/books/history", ann.key)
    events = json.loads(body)["events"]
    assert [each["kind"] for each in events] == ["signed", "promoted", "fell"]
    assert events[-1]["cause"] == "incident"


async def test_a_trip_takes_a_tier_before_the_next_call(trusting, server):
    running, _, olga = trusting()
    running.stop()
    running.config["breakers"] = {"enabled": True, "no_progress": 1000}
    running.write_config()
    running.start()
    boss = Signer(running, olga)
    status, said = await boss.post("alice/books/vouch", tier=2, days=10, reason="ran for a year elsewhere")
    assert (status, said["tier"]) == (200, 2)
    async with talking(running, running.key()) as alice:
        assert (await alice.call("note", **noted(1))).text == "done"
        for _ in range(6):
            said = await alice.call("look", text="again")
        assert said.reason == "breaker_open"
        # Looking is of another domain, so one tier is lost here.
        stands = await boss.stands()
        assert (stands["tier"], stands["falls"]) == (1, 1)
        assert stands["events"][-1]["cause"] == "elsewhere"


async def test_who_may_sign_and_what(trusting, server):
    running, _, olga = trusting()
    viewer = Reviewer(running, "vic", "viewer")
    boss, nobody = Signer(running, olga), Signer(running, viewer)
    assert (await nobody.post("alice/books/demote", tier=0, reason="x"))[0] in (401, 403)
    assert (await boss.post("nobody/books/promote", reason="x"))[0] == 404
    assert (await boss.post("alice/nowhere/promote", reason="x"))[0] == 404
    assert (await boss.post("alice/books/promote", reason="  "))[0] == 422
    assert (await boss.post("reports", call="no-such-call", reason="x"))[0] == 404
    assert (await boss.post("evidence", call="c", outcome="verified"))[0] in (404, 405)
    # Two people for T3, one of them from outside the team; and once each.
    status, said = await boss.post("alice/books/vouch", tier=3, days=5, reason="proven in the bank")
    assert (status, said["tier"], bool(said["missing"])) == (200, 1, True)
    status, said = await boss.post("alice/books/vouch", tier=3, days=5, reason="once more")
    assert status == 409 and "signed this already" in said["detail"]
    other = Signer(running, Reviewer(running, "otto", "operator"))
    for _ in range(100):
        status, said = await other.post("alice/books/vouch", tier=3, days=5, reason="looked at it too")
        if status != 401:
            break
        await asyncio.sleep(0.05)
    assert (status, said["tier"], said["missing"]) == (200, 3, "")
    status, said = await boss.post("alice/books/demote", tier=1, reason="not any more")
    assert (status, said["tier"]) == (200, 1)
    status, said = await boss.post("alice/books/vouch", tier=2, days=5, reason="again")
    assert status == 409 and "fallen" in said["detail"]


async def test_without_trust_nothing_is_asked_and_it_says_so(gateway, server):
    running = gateway(approvals={"chains": CHAINS, "hold_s": 0}).start()
    olga = Signer(running, Reviewer(running, "olga", "operator"))
    async with talking(running, running.key()) as alice:
        assert (await alice.call("pay", text="a")).text == "done"
    for _ in range(100):
        status, said = await olga.post("alice/books/promote", reason="x")
        if status != 401:
            break
        await asyncio.sleep(0.05)
    assert status == 404 and "trust.enabled" in said["detail"]
    _, status_body = await running.admin("/v1/status", olga.key)
    assert "trust:absent" in json.loads(status_body)["controls"]
