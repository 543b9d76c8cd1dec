"""Held calls, through the whole: an agent, a gateway, reviewers with keys, and a server that counts."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import time
import urllib.request
from urllib.parse import urlencode

import aiohttp
import pytest
from aiohttp import web

from gateway.approvals.notify import sign
from gateway.identity import keys
from gateway.storage.credentials import Credentials
from tests.e2e.gateway import ALLOW_ALL, ROOT, WARDGATE, Wardgate, eventually, rule, talking
from tests.storage.at import at

HELD = rule(
    "held",
    'escalate contains {"code": "needs_person", "message": "this needs a person"}'
    ' if input.tool.name != "look"',
    codes=["needs_person"],
)
CHAINS = {
    "default": {"stages": [{"any": [{"who": {"roles": ["approver", "operator"]}}]}], "decide_s": 60},
}


class Reviewer:
    """A person with an operator key, on the admin port."""

    def __init__(self, gateway: Wardgate, name: str, role: str = "approver") -> None:
        self.gateway = gateway
        with at(gateway.database_path).open() as database:
            made = keys.mint(Credentials(database), kind="operator", tenant="default", name=name, role=role)
        self.key = made.token

    async def get(self, path: str):
        status, body = await self.gateway.admin(path, self.key)
        return status, json.loads(body)

    async def waiting(self, **query: str):
        asked = "&".join(f"{name}={value}" for name, value in query.items())
        status, found = await self.get(f"/v1/approvals?{asked}")
        assert status == 200, found
        return found["items"]

    async def do(self, verb: str, approval, *, version=None, digest=None, **said):
        headers = {
            "Authorization": f"Bearer {self.key}",
            "If-Match": f'"{approval["version"] if version is None else version}"',
        }
        body = {"digest": digest or approval["digest"], **said}
        url = f"{self.gateway.admin_url}/v1/approvals/{approval['id']}/{verb}"
        async with aiohttp.ClientSession(headers=headers) as http, http.post(url, json=body) as response:
            return response.status, await response.json()


@pytest.fixture
def held(gateway):
    def make(*names: str, approvals=None, policy=HELD, **sections):
        made = gateway(approvals={"chains": CHAINS, "hold_s": 0, **(approvals or {})}, **sections)
        made.policy("held.rego", policy)
        people = [Reviewer(made, *name.split(":")) for name in names or ("ann",)]
        made.start()
        return (made, *people)

    return make


async def test_an_escalated_call_waits_is_approved_and_is_carried_out_once(held, server):
    running, ann = held()
    async with talking(running, running.key()) as alice:
        first = await alice.call("pay", text="rent")
        assert first.refused and first.reason == "approval_needed" and "same arguments" in first.text
        assert first.facts["decision"] == "pending" and not server.effects("rent")
        (waiting,) = await ann.waiting()
        assert waiting["id"] == first.facts["approval_id"]
        again = await alice.call("pay", text="rent")
        assert again.facts["approval_id"] == waiting["id"] and len(await ann.waiting()) == 1

        status, became = await ann.do("approve", waiting, reason="ok")
        assert (status, became["state"]) == (200, "approved")
        third = await alice.call("pay", text="rent")
        assert not third.refused and len(server.effects("rent")) == 1
        fourth = await alice.call("pay", text="rent")
        assert fourth.reason == "approval_done" and len(server.effects("rent")) == 1
        assert (await ann.waiting(state="executed"))[0]["id"] == waiting["id"]
    record = await running.recorded(lambda r: r["phase"] == "intent" and r.get("action") == "allow")
    assert record["verdict"] == "escalate"


async def test_a_call_that_is_approved_while_it_waits_goes_on_by_itself(held, server):
    running, ann = held(approvals={"hold_s": 10})
    async with talking(running, running.key()) as alice:
        call = asyncio.ensure_future(alice.call("pay", text="rent"))
        while not (waiting := await ann.waiting()):
            await asyncio.sleep(0.02)
        started = time.monotonic()
        await ann.do("approve", waiting[0])
        said = await call
        assert not said.refused and len(server.effects("rent")) == 1
        assert time.monotonic() - started < 2


async def test_a_rejection_reaches_the_agent_with_its_reason_and_stays(held, server):
    running, ann = held()
    async with talking(running, running.key()) as alice:
        await alice.call("pay", text="rent")
        (waiting,) = await ann.waiting()
        status, _ = await ann.do(
            "reject", waiting, reason_code="too_risky", reason='Use\u202e the "other" one.'
        )
        assert status == 200
        for _ in range(2):
            said = await alice.call("pay", text="rent")
            assert said.reason == "approval_rejected" and said.facts["decision"] == "deny"
            assert "too_risky" in said.text and "Use the 'other' one." in said.text
        assert not server.effects() and await ann.waiting() == []


async def test_many_identical_calls_at_once_after_the_approval_are_one_effect(held, server):
    running, ann = held()
    async with talking(running, running.key()) as alice:
        await alice.call("pay", text="rent")
        await ann.do("approve", (await ann.waiting())[0])
        said = await asyncio.gather(*(alice.call("pay", text="rent") for _ in range(20)))
        assert len(server.effects("rent")) == 1
        assert sum(not each.refused for each in said) == 1
        reasons = {each.reason for each in said if each.refused}
        assert reasons <= {"approval_under_way", "approval_done", "approval_changed"}


@pytest.mark.parametrize(
    ("name", "wrong", "status", "code"),
    [
        ("ann", {"digest": "0" * 64}, 412, "approval_stale"),
        ("ann", {"version": 99}, 412, "approval_stale"),
        ("alice", {}, 403, "self_approval"),  # the agent's own name
        ("team-a", {}, 403, "self_approval"),  # its owner's
        ("Team-A", {}, 403, "self_approval"),
        ("vic:viewer", {}, 403, "wrong_role"),
        ("pat:policy-admin", {}, 403, "wrong_role"),
    ],
)
async def test_a_decision_that_does_not_hold_changes_nothing_and_shows_what_is_there(
    held, server, name, wrong, status, code
):
    running, ann, other = held("ann:operator", name)
    async with talking(running, running.key()) as alice:
        await alice.call("pay", text="rent")
        (waiting,) = await ann.waiting()
        got, said = await other.do("approve", waiting, **wrong)
        assert (got, said["code"]) == (status, code)
        if code != "wrong_role":
            assert said["approval"]["state"] == "pending"
            _, detail = await ann.get(f"/v1/approvals/{waiting['id']}")
            assert any(event["event"] == "refused" for event in detail["events"])
        assert (await alice.call("pay", text="rent")).reason == "approval_needed"
    assert not server.effects()


async def test_a_second_decision_finds_the_first(held):
    running, ann, bob = held("ann", "bob")
    async with talking(running, running.key()) as alice:
        await alice.call("pay", text="rent")
        (waiting,) = await ann.waiting()
        done = await asyncio.gather(
            ann.do("approve", waiting), bob.do("reject", waiting, reason_code="other")
        )
        assert sorted(status for status, _ in done) == [200, 409]
        (_, lost) = max(done, key=lambda each: each[0])
        assert lost["code"] == "approval_closed" and lost["approval"]["state"] in ("approved", "rejected")


async def test_an_edited_call_is_decided_again_and_needs_somebody_else_too(held, server):
    strict = rule(
        "strict",
        'deny contains {"code": "no", "message": "no"} if input.call.args.text == "evil"',
        codes=["no"],
    )
    running, ann, bob = held("ann", "bob", policy=HELD)
    running.policy("strict.rego", strict)
    await eventually(lambda: "reloaded" in running.log())
    async with talking(running, running.key()) as alice:
        await alice.call("pay", text="rent")
        (waiting,) = await ann.waiting()
        for bad in ({"text": 7}, {"text": "evil"}, {"text": "rent"}):
            status, said = await ann.do("edit", waiting, arguments=bad)
            assert status in (412, 422), (bad, said)
            assert said["approval"]["state"] == "pending"
        status, new = await ann.do("edit", waiting, arguments={"text": "half the rent"})
        assert status == 200 and new["supersedes"] == waiting["id"] and new["digest"] != waiting["digest"]
        status, _ = await bob.do("approve", waiting)
        assert status == 409
        _, once = await ann.do("approve", new)
        assert once["state"] == "pending"
        assert (await alice.call("pay", text="rent")).facts["approval_id"] == new["id"]
        _, twice = await bob.do("approve", once)
        assert twice["state"] == "approved"
        said = await alice.call("pay", text="rent")
        assert not said.refused
        assert [each["arguments"]["text"] for each in server.effects()] == ["half the rent"]


async def test_an_approval_does_not_outlive_what_policy_says(held, server):
    running, ann = held()
    async with talking(running, running.key()) as alice:
        await alice.call("pay", text="rent")
        await ann.do("approve", (await ann.waiting())[0])
        running.policy(
            "no.rego",
            rule("no", 'deny contains {"code": "closed", "message": "closed"} if true', codes=["closed"]),
        )
        await eventually(lambda: "reloaded" in running.log())
        said = await alice.call("pay", text="rent")
        assert said.reason == "closed" and not server.effects()


async def test_an_approval_covers_only_the_escalations_it_was_given_for(held, server):
    running, ann = held()
    async with talking(running, running.key()) as alice:
        await alice.call("pay", text="rent")
        (waiting,) = await ann.waiting()
        await ann.do("approve", waiting)
        more = 'escalate contains {"code": "another", "message": "another"} if true'
        running.policy("more.rego", rule("more", more, codes=["another"]))
        await eventually(lambda: "reloaded" in running.log())
        said = await alice.call("pay", text="rent")
        assert said.reason == "approval_needed" and said.facts["approval_id"] != waiting["id"]
        assert not server.effects()
        (new,) = await ann.waiting()
        assert {each["code"] for each in new["requirements"]} == {"needs_person", "another"}


async def test_policy_can_read_the_approval(held, server):
    reads = rule(
        "reads",
        'escalate contains {"code": "needs_person", "message": "person"} if not input.approval\n'
        'deny contains {"code": "wrong", "message": "wrong person"} if input.approval.by[_] == "bob"',
        codes=["needs_person", "wrong"],
    )
    running, ann, bob = held("ann", "bob", policy=reads)
    async with talking(running, running.key()) as alice:
        for who, text, ok in ((ann, "one", True), (bob, "two", False)):
            await alice.call("pay", text=text)
            await who.do("approve", (await who.waiting())[0])
            said = await alice.call("pay", text=text)
            assert said.refused is not ok
        assert [each["arguments"]["text"] for each in server.effects()] == ["one"]


async def test_a_lost_answer_is_in_doubt_until_somebody_says(held, server):
    running, olga = held("olga:operator")
    async with talking(running, running.key()) as alice:
        await alice.call("pay", text="rent", then="die")
        await olga.do("approve", (await olga.waiting())[0])
        said = await alice.call("pay", text="rent", then="die")
        assert said.refused
        (doubt,) = await olga.waiting(state="in_doubt")
        assert (await alice.call("pay", text="rent", then="die")).reason == "in_doubt"
        status, _ = await olga.do("cancel", doubt)
        assert status == 409  # what was claimed is never cancelled
        status, became = await olga.do("resolve", doubt, became="executed", note="it is on the statement")
        assert (status, became["state"]) == (200, "executed")
        assert running.in_doubt() == []
        assert len(server.effects("rent")) == 1


async def test_a_gateway_that_dies_while_it_is_carrying_out_leaves_a_doubt_and_no_second_effect(held, server):
    running, olga = held("olga:operator", upstream=None)
    async with talking(running, running.key()) as alice:
        await alice.call("pay", text="rent", then="hang")
        await olga.do("approve", (await olga.waiting())[0])
        task = asyncio.ensure_future(alice.call("pay", text="rent", then="hang"))
        await eventually(lambda: server.effects("rent"))
        running.kill()
        with pytest.raises(aiohttp.ClientError):
            await task
        running.start()
        said = await alice.call("pay", text="rent", then="hang")
        assert said.reason in ("in_doubt", "approval_under_way")
        assert len(server.effects("rent")) == 1


async def test_a_chain_that_is_not_configured_is_named(held, server):
    odd = HELD.replace(
        '"message": "this needs a person"}', '"message": "x", "approval": {"chain": "lawyers"}}'
    )
    running, ann = held(policy=odd)
    async with talking(running, running.key()) as alice:
        said = await alice.call("pay", text="rent")
        assert said.reason == "unknown_chain" and "lawyers" in said.text
        assert await ann.waiting() == [] and not server.effects()


async def test_where_nobody_could_approve_the_agent_is_told_at_once(held):
    running, _ = held("team-a")
    async with talking(running, running.key()) as alice:
        assert (await alice.call("pay", text="rent")).reason == "approval_impossible"


async def test_a_grant_permits_what_is_similar_and_nothing_else(held, server):
    running, ann = held()
    async with talking(running, running.key()) as alice:
        await alice.call("note", text="one")
        (waiting,) = await ann.waiting()
        status, said = await ann.do("grant", waiting, fields=["/text"])
        assert (status, said["code"]) == (409, "grant_refused")  # not before it is approved
        _, approved = await ann.do("approve", waiting)
        status, grant = await ann.do("grant", approved, fields=["/text"], uses=2, minutes=5)
        assert status == 200 and grant["max_uses"] == 2
        for text in ("two", "three"):
            assert not (await alice.call("note", text=text)).refused
        assert (await alice.call("note", text="four")).reason == "approval_needed"  # used up
        assert (await alice.call("note", text="five", then="error")).reason == "approval_needed"
        assert (await alice.call("pay", text="six")).reason == "approval_needed"
        assert [each["arguments"]["text"] for each in server.effects()] == ["two", "three"]

        await alice.call("pay", text="seven")
        pay = next(each for each in await ann.waiting(tool="counting/pay"))
        _, approved = await ann.do("approve", pay)
        status, said = await ann.do("grant", approved, fields=["/text"])
        assert (status, said["code"]) == (409, "grant_refused")  # never for what cannot be undone


async def test_a_grant_ends_with_the_policy_it_was_made_under_and_when_it_is_revoked(held, server):
    running, ann = held()
    async with talking(running, running.key()) as alice:
        for number, end in enumerate(("revoke", "policy")):
            await alice.call("note", text=f"first {number}")
            _, approved = await ann.do("approve", (await ann.waiting(state="pending"))[0])
            _, grant = await ann.do("grant", approved, fields=["/text"])
            assert not (await alice.call("note", text=f"second {number}")).refused
            if end == "revoke":
                status, _ = await running.admin(f"/v1/grants/{grant['id']}/revoke", ann.key, "POST")
                assert status == 200
            else:
                running.policy("all.rego", ALLOW_ALL.replace('"fine"}', '"still fine"}'))
                await eventually(lambda: "reloaded" in running.log())
            assert (await alice.call("note", text=f"third {number}")).reason == "approval_needed"
            for each in await ann.waiting(state="pending"):
                await ann.do("reject", each, reason_code="other")


async def test_several_at_once_only_of_one_low_risk_tool(held, server):
    running, ann = held()
    async with talking(running, running.key()) as alice:
        for text in ("a", "b"):
            await alice.call("note", text=text)
        await alice.call("pay", text="c")

        async def bulk(decision, items):
            body = {
                "decision": decision,
                "items": [{name: each[name] for name in ("id", "version", "digest")} for each in items],
            }
            status, said = await running.admin("/v1/approvals/bulk", ann.key, "POST", body)
            return status, json.loads(said)

        everything = await ann.waiting()
        status, said = await bulk("approve", everything)
        assert (status, said["code"]) == (422, "not_similar")
        notes = [each for each in everything if each["target"].endswith("note")]
        stale = [notes[0], {**notes[1], "digest": "0" * 64}]
        _, said = await bulk("approve", stale)
        assert [each["code"] for each in said["items"]] == [None, "approval_stale"]
        status, said = await bulk("reject", await ann.waiting(state="pending"))
        assert status == 200 and {each["state"] for each in said["items"]} == {"rejected"}


async def test_a_question_reaches_the_agent_with_the_next_call(held):
    running, ann = held()
    async with talking(running, running.key()) as alice:
        await alice.call("pay", text="rent")
        (waiting,) = await ann.waiting()
        status, _ = await ann.do("ask", waiting, question='Which month? "ignore\nall" <b>')
        assert status == 200
        said = await alice.call("pay", text="rent")
        assert "The reviewer asks: \"Which month? 'ignore all' <b>\"" in said.text


async def test_hostile_arguments_are_shown_as_data_with_what_cannot_be_seen_named(held):
    running, ann = held()
    async with talking(running, running.key()) as alice:
        await alice.call("pay", text="<script>x</script>\u202egnp.exe\x1b[31m")
        (waiting,) = await ann.waiting()
        _, detail = await ann.get(f"/v1/approvals/{waiting['id']}")
        assert detail["arguments"]["text"].startswith("<script>")
        assert detail["hidden_characters"] == [{"pointer": "/text", "characters": "U+001B U+202E"}]


async def test_over_http_a_held_call_is_a_problem_that_names_its_approval(held, server):
    running, ann = held()
    headers = {"Authorization": f"Bearer {running.key()}"}
    async with aiohttp.ClientSession(headers=headers) as http:

        async def call():
            body = {"tool": "counting/pay", "arguments": {"text": "rent"}}
            async with http.post(running.agents_url + "/v1/calls", json=body) as response:
                return response.status, await response.json()

        status, said = await call()
        assert (status, said["code"], said["effect"]) == (409, "approval_needed", "none")
        (waiting,) = await ann.waiting()
        assert said["approval_id"] == waiting["id"] and said["retryable"]
        await ann.do("approve", waiting)
        status, _ = await call()
        assert status == 200 and len(server.effects("rent")) == 1


async def test_a_chain_whose_quorum_cannot_be_met_does_not_start(gateway):
    few = {"stages": [{"any": [{"who": {"names": ["ann"]}, "approve": 2}]}]}
    code, log = gateway(approvals={"chains": {"default": few}}).refuses_to_start()
    assert code != 0 and "not enough people" in log


async def test_the_agent_answers_a_question_about_its_own_call_and_nobody_elses(held):
    running, ann = held()
    async with talking(running, running.key()) as alice:
        await alice.call("pay", text="rent")
    (waiting,) = await ann.waiting()
    await ann.do("ask", waiting, question="Which month?")
    url = f"{running.agents_url}/v1/approvals/{waiting['id']}"
    for agent, status in (("bob", 404), ("alice", 200)):
        headers = {"Authorization": f"Bearer {running.key(agent)}"}
        async with aiohttp.ClientSession(headers=headers) as http:
            async with http.get(url) as response:
                assert response.status == status
            async with http.post(url + "/answer", json={"answer": "May"}) as response:
                assert response.status == status
                said = await response.json()
    assert (said["question"], said["answer"], said["state"]) == ("Which month?", "May", "pending")
    _, detail = await ann.get(f"/v1/approvals/{waiting['id']}")
    assert detail["answer"] == "May"


async def test_the_command_line_reviews_with_the_reviewers_own_key(held, server):
    running, ann, vic = held("ann", "vic:viewer")
    running.env = {"WARDGATE_OPERATOR_KEY": ann.key, "WARDGATE_ADMIN_URL": running.admin_url}

    async def cli(*arguments: str):
        return await asyncio.to_thread(
            subprocess.run,
            [*WARDGATE, "approvals", *arguments],
            capture_output=True,
            text=True,
            timeout=60,
            env=running._environment(),
            cwd=ROOT,
        )

    async with talking(running, running.key()) as alice:
        await alice.call("pay", text="rent\u202e\nvote       bob: approve")
        listed = await cli("list", "--json")
        (waiting,) = json.loads(listed.stdout)["items"]
        shown = await cli("show", waiting["id"])
        assert "U+202E" in shown.stdout and "\u202e" not in shown.stdout
        assert "\nvote " not in shown.stdout
        blind = await cli("approve", waiting["id"], "--yes")
        assert blind.returncode == 2 and "--digest" in blind.stderr
        wrong = await cli("approve", waiting["id"], "--yes", "--digest", "0" * 64)
        assert wrong.returncode == 2
        running.env["WARDGATE_OPERATOR_KEY"] = vic.key
        refused = await cli("approve", waiting["id"], "--yes", "--digest", waiting["digest"])
        assert refused.returncode == 2 and "may not" in refused.stderr
        running.env["WARDGATE_OPERATOR_KEY"] = ann.key
        done = await cli("approve", waiting["id"], "--yes", "--digest", waiting["digest"][:16])
        assert done.returncode == 0 and "approved" in done.stdout, done.stderr
        assert not (await alice.call("pay", text="rent\u202e\nvote       bob: approve")).refused
        assert len(server.effects()) == 1
        late = await cli("reject", waiting["id"], "--code", "other", "--yes", "--digest", waiting["digest"])
        assert late.returncode == 2 and "executed" in late.stderr


async def test_in_slack_people_see_what_would_be_sent_and_click_with_their_own_rights(held, server):
    heard: list[dict] = []

    async def hear(request: web.Request) -> web.Response:
        heard.append(await request.json())
        return web.Response(text="ok")

    app = web.Application()
    app.router.add_post("/services/T0/B0/x", hear)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = site._server.sockets[0].getsockname()[1]
    hook = {
        "style": "slack", "url": f"http://127.0.0.1:{port}/services/T0/B0/x", "secret": SECRET.decode(),
        "arguments": True, "actors": {"U1": "ann", "U3": "team-a"},
    }  # fmt: skip
    url = "https://wardgate.example.com/console"
    running, *_ = held("ann", "team-a", approvals={"webhooks": {"slack": hook}}, console={"url": url})

    async def click(user: str, block: str, value: str) -> tuple[int, dict]:
        action = {"type": "button", "action_id": "approve", "block_id": block, "value": value}
        said = {"type": "block_actions", "user": {"id": user}, "actions": [action]}
        raw = urlencode({"payload": json.dumps(said)}).encode()
        at = int(time.time())
        headers = {
            "content-type": "application/x-www-form-urlencoded", "x-slack-request-timestamp": str(at),
            "x-slack-signature": sign(SECRET, at, raw, "v0"),
        }  # fmt: skip
        url = running.admin_url + "/v1/callbacks/slack"
        async with aiohttp.ClientSession() as http, http.post(url, data=raw, headers=headers) as response:
            return response.status, await response.json()

    try:
        async with talking(running, running.key()) as alice:
            await alice.call("pay", text="rent")
            await eventually(lambda: heard)
            about, shown, buttons = heard[0]["blocks"]
            assert (
                '"text": "rent"' in shown["text"]["text"] and "/console/approvals/" in about["text"]["text"]
            )
            assert [each["action_id"] for each in buttons["elements"]] == ["approve", "reject"]
            block = buttons["block_id"]
            assert (await click("U9", block, "approve"))[0] == 403
            assert (await click("U3", block, "approve"))[1]["code"] == "self_approval"
            assert (await click("U1", block.replace("|1|", "|2|"), "approve"))[0] == 412
            assert (await click("U1", block, "approve"))[1]["state"] == "approved"
            assert not (await alice.call("pay", text="rent")).refused
            assert len(server.effects()) == 1
            await eventually(lambda: len(heard) >= 3)
        assert 'wardgate_notifications_total{channel="slack",result="delivered"}' in _metrics(running)
    finally:
        await runner.cleanup()


SECRET = b"a secret of a chat plug-in, long enough"


async def test_a_chat_is_told_and_passes_on_what_people_decide_with_their_own_rights(held, server):
    heard: list[tuple[dict[str, str], bytes]] = []

    async def hear(request: web.Request) -> web.Response:
        heard.append((dict(request.headers), await request.read()))
        return web.Response()

    app = web.Application()
    app.router.add_post("/told", hear)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = site._server.sockets[0].getsockname()[1]
    hook = {
        "url": f"http://127.0.0.1:{port}/told",
        "secret": SECRET.decode(),
        "actors": {"U1": "ann", "U2": "vic", "U3": "team-a", "U4": "nobody"},
    }
    running, _, _, _ = held("ann", "vic:viewer", "team-a", approvals={"webhooks": {"chat": hook}})
    try:
        async with talking(running, running.key()) as alice:
            await alice.call("pay", text="rent-secret")
            await eventually(lambda: heard)
            headers, body = heard[0]
            headers = {name.lower(): value for name, value in headers.items()}
            at = headers["wardgate-timestamp"]
            assert headers["wardgate-signature"] == sign(SECRET, int(at), body)
            told = json.loads(body)
            assert told["event"] == "opened" and b"rent-secret" not in body

            async def decide(actor="U1", *, secret=SECRET, version="c1", at=None, key_id="1", **changed):
                about = told["approval"]
                said = {
                    "approval": about["id"], "version": about["version"], "digest": about["digest"],
                    "actor": actor, "decision": "approve", **changed,
                }  # fmt: skip
                raw = json.dumps(said).encode()
                at = int(time.time()) if at is None else at
                signed = {
                    "wardgate-key-id": key_id, "wardgate-timestamp": str(at),
                    "wardgate-signature": sign(secret, at, raw, version),
                }  # fmt: skip
                url = running.admin_url + "/v1/callbacks/chat"
                async with (
                    aiohttp.ClientSession() as http,
                    http.post(url, data=raw, headers=signed) as response,
                ):
                    return response.status, await response.json()

            forged = [
                await decide(secret=b"another secret that is long enough to be"),
                await decide(version="v1"),  # a delivery sent back
                await decide(at=int(time.time()) - 301),
                await decide(at=int(time.time()) + 301),
                await decide(key_id="2"),
            ]
            assert {status for status, _ in forged} == {401}
            assert (await decide("U2"))[0] == 403  # only looks
            assert (await decide("U3"))[1]["code"] == "self_approval"
            assert (await decide("U4"))[0] == 403
            assert (await decide("U9"))[0] == 403
            assert (await decide(digest="0" * 64))[0] == 412
            assert (await decide(more=1))[0] == 422
            assert not server.effects()
            now = int(time.time())
            assert (await decide(at=now))[1]["state"] == "approved"
            assert (await decide(at=now + 1))[1]["state"] == "approved"  # said twice
            assert (await decide(at=now))[1]["code"] == "callback_replayed"
            assert (await decide(decision="reject", reason_code="other"))[0] == 409
            assert not (await alice.call("pay", text="rent-secret")).refused
            assert len(server.effects()) == 1
    finally:
        await runner.cleanup()


async def test_reviews_are_measured_capped_and_shown_and_a_canary_finds_who_does_not_look(held, server):
    running, ann, olga = held("ann", "olga:operator", approvals={"fatigue": {"per_hour": 2}})
    running.env = {"WARDGATE_OPERATOR_KEY": olga.key, "WARDGATE_ADMIN_URL": running.admin_url}
    async with talking(running, running.key()) as alice:
        await alice.call("pay", text="rent")
        (first,) = await ann.waiting()
        await ann.get(f"/v1/approvals/{first['id']}")  # looks
        await ann.do("approve", first)
        assert not (await alice.call("pay", text="rent")).refused

        bad = running.folder / "bad.json"
        bad.write_text('{"text": "rent, to the wrong account"}')
        command = ("approvals", "canary", first["id"], str(bad), "--note", "another account", "--json")
        made = await asyncio.to_thread(
            subprocess.run, [*WARDGATE, *command], capture_output=True, text=True, timeout=60,
            env=running._environment(), cwd=ROOT,
        )  # fmt: skip
        assert made.returncode == 0, made.stderr
        (canary,) = await ann.waiting()
        assert canary["id"] == json.loads(made.stdout)["id"] and canary["canary"] is None
        status, said = await ann.do("canary", first, arguments={"text": "x"}, note="n")
        assert (status, said["code"]) == (403, "wrong_role")
        status, told = await ann.do("approve", canary)
        assert (status, told["state"], told["canary"]["note"]) == (200, "cancelled", "another account")
        assert (await alice.call("pay", text="rent, to the wrong account")).reason == "approval_needed"
        assert len(server.effects()) == 1

        (third,) = await ann.waiting(state="pending")
        status, said = await ann.do("approve", third)
        assert (status, said["code"]) == (429, "review_cap") and said["approval"]["state"] == "pending"
        status, _ = await ann.do("reject", third, reason_code="wrong_arguments")
        assert status == 200

    (done,) = await olga.waiting(state="executed")
    status, _ = await olga.do("incident", done, note="the landlord has moved")
    assert status == 200
    running.signal(signal.SIGTERM)
    running.ended(40)
    running.start()
    status, found = await olga.get("/v1/reviewers")
    (line,) = found["reviewers"]
    assert (line["name"], line["normal"]["decided"], line["normal"]["incidents"]) == ("ann", 2, 1)
    assert line["canaries_approved"] == 1 and line["capped"] and line["alarms"] == ["canary_approved"]
    assert found["rules"][0]["name"] == "test.held"
    assert found["autonomy"] == {"calls": 1, "by_person": 1, "by_grant": 0, "share": 0.0}
    _, own = await ann.get("/v1/reviewers")
    assert own["reviewers"] == found["reviewers"]
    shown = await asyncio.to_thread(
        subprocess.run, [*WARDGATE, "approvals", "reviewers", "--url", running.admin_url],
        capture_output=True, text=True, timeout=60, env=running._environment(), cwd=ROOT,
    )  # fmt: skip
    assert shown.returncode == 0 and "canary_approved" in shown.stdout, shown.stderr
    await eventually(lambda: 'wardgate_reviewers{state="capped"} 1.0' in _metrics(running))
    assert 'wardgate_rule_approval_ratio{rule_id="test.held"} 0.5' in _metrics(running)


async def test_reviews_of_an_agent_that_earns_trust_are_apart_and_an_incident_is_evidence_too(held, server):
    running, ann = held(trust={"enabled": True})
    async with talking(running, running.key()) as alice:
        await alice.call("note", text="one")
        (waiting,) = await ann.waiting()
        await ann.do("approve", waiting)
        assert not (await alice.call("note", text="one")).refused
        _, found = await ann.get("/v1/reviewers")
        (line,) = found["reviewers"]
        assert (line["normal"]["decided"], line["earning"]["decided"], line["alarms"]) == (0, 1, [])
        status, _ = await ann.do("incident", waiting, note="the wrong note")
        assert status == 200

        async def fell() -> bool:
            status, body = await running.admin("/v1/trust/alice/general/history", ann.key)
            events = json.loads(body)["events"] if status == 200 else []  # nothing known of it: 404
            return any(each["cause"] == "incident" for each in events)

        until = time.monotonic() + 10
        while not await fell():
            assert time.monotonic() < until, running.log()
            await asyncio.sleep(0.05)


def _metrics(running: Wardgate) -> str:
    with urllib.request.urlopen(running.admin_url + "/metrics", timeout=10) as answer:
        return answer.read().decode()
