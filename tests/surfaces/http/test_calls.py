"""Running a tool over HTTP: the same way as over MCP, and answers a program can act on."""

from __future__ import annotations

import asyncio

import pytest

from tests.surfaces.http.support import client, configured


async def test_a_result_is_what_the_tool_server_said(alice, server):
    got = await alice.call("counting/note", text="plain")
    assert got.status == 200 and got.body["outcome"] == "ok" and got.body["action"] == "allow"
    assert got.body["result"]["content"] == [{"type": "text", "text": "done"}]
    assert len(server.effects("plain")) == 1


async def test_a_tool_can_be_named_by_its_two_names(alice):
    body = {"tool": {"upstream": "counting", "name": "note"}, "arguments": {"text": "two names"}}
    assert (await alice.post("/v1/calls", body)).status == 200


async def test_a_denied_call_says_why_and_what_would_be_accepted(alice, server):
    got = await alice.call("counting/note", text="denied", forbidden=True)
    assert got.status == 403 and got.code == "over_limit"
    assert got.body["detail"] == "Above the limit." and got.body["remedy"] == "Ask for less."
    assert got.body["rule"] == "test.calls" and got.body["decision_id"] and got.body["effect"] == "none"
    assert not server.effects("denied")


async def test_an_escalated_call_is_refused_and_on_record(alice):
    got = await alice.call("counting/note", text="x", escalate=True)
    assert got.status == 403 and got.body["effect"] == "none"


async def test_what_policy_changed_is_what_is_sent(alice, server):
    got = await alice.call("counting/note", text="capped", amount=500)
    assert got.body["action"] == "modify"
    assert server.effects("capped")[0]["arguments"]["amount"] == 100


async def test_a_result_is_redacted_and_a_forbidden_one_withheld(alice):
    got = await alice.call("counting/look", echo="card 1234567812345678")
    assert "1234567812345678" not in got.raw.decode() and got.status == 200
    got = await alice.call("counting/look", echo="top secret")
    assert got.status == 403 and got.code == "secret_result"
    assert got.body["effect"] == "done" and not got.body["retryable"]


@pytest.mark.parametrize("tool", ["counting/nothing", "nowhere/note", "laptop/Hidden"])
async def test_what_is_not_there_and_what_is_hidden_look_the_same(alice, tool):
    got = await alice.call(tool)
    other = await alice.call("counting/nonsense")
    assert got.status == 404 and got.raw == other.raw


async def test_a_tool_that_runs_elsewhere_is_not_run_here(alice):
    got = await alice.call("laptop/Bash", command="ls")
    assert got.status == 409 and got.code == "runs_elsewhere"


@pytest.mark.parametrize(
    ("then", "status", "code"),
    [("die", 502, "upstream_lost"), ("garbage", 502, "upstream_bad_answer")],
)
async def test_an_outcome_nobody_knows_is_said_to_be_unknown_and_not_sent_again(
    alice, server, then, status, code
):
    got = await alice.call("counting/note", text=then, then=then)
    assert (got.status, got.code) == (status, code)
    assert got.body["effect"] == "unknown" and not got.body["retryable"]
    again = await alice.call("counting/note", text=then, then=then)
    assert again.status == 409 and again.code == "in_doubt" and again.body["effect"] == "unknown"
    assert len(server.effects(then)) == 1


async def test_an_effect_happens_once_for_its_key(alice, server):
    assert (await alice.call("counting/send", text="once")).status == 200
    got = await alice.call("counting/send", text="once")
    assert got.status == 409 and got.code == "duplicate_effect"
    assert len(server.effects("once")) == 1


# ------------------------------------------------------------------------------------ idempotency keys


async def test_the_same_key_and_request_give_the_same_answer_and_one_effect(alice, server):
    first = await alice.call("counting/note", key="k-same", text="k-same")
    again = await alice.call("counting/note", key='"k-same"', text="k-same")
    assert first.raw == again.raw and again.headers["idempotent-replayed"] == "true"
    assert "idempotent-replayed" not in first.headers
    assert len(server.effects("k-same")) == 1


async def test_white_space_does_not_make_another_request(alice, server):
    body = b'{"tool":"counting/note","arguments":{"text":"k-space"}}'
    for sent in (body, body.replace(b":", b" : ")):
        got = await alice.send("POST", "/v1/calls", sent, {"idempotency-key": "k-space"})
        assert got.status == 200
    assert len(server.effects("k-space")) == 1


async def test_the_same_key_with_another_request_is_refused(alice, server):
    await alice.call("counting/note", key="k-other", text="k-other")
    got = await alice.call("counting/note", key="k-other", text="k-other-2")
    assert got.status == 422 and got.code == "key_reused"
    assert not server.effects("k-other-2")


async def test_a_key_is_the_callers_own(alice, bob, server):
    for who in (alice, bob):
        assert (await who.call("counting/note", key="k-own", text="k-own")).status == 200
    assert len(server.effects("k-own")) == 2


async def test_another_key_of_the_same_agent_has_idempotency_keys_of_its_own(alice, gateway, server):
    made = await gateway.new_key("alice")
    await alice.call("counting/note", key="k-cred", text="k-cred")
    alice.key = made["key"]
    for _ in range(100):  # the gateway looks for new keys twice a second
        got = await alice.call("counting/note", key="k-cred", text="k-cred")
        if got.status != 401:
            break
        await asyncio.sleep(0.05)
    assert got.status == 200 and "idempotent-replayed" not in got.headers


async def test_while_the_first_is_under_way_the_second_is_told_to_wait(alice, server):
    first = asyncio.create_task(
        alice.call("counting/note", key="k-wait", text="k-wait", then="slow", seconds=0.6)
    )
    await asyncio.sleep(0.2)
    second = await alice.call("counting/note", key="k-wait", text="k-wait", then="slow", seconds=0.6)
    assert second.status == 409 and second.code == "key_in_use"
    assert second.headers["retry-after"] == "1" and second.body["retryable"]
    other = await alice.call("counting/note", key="k-wait", text="something else")
    assert other.status == 422
    assert (await first).status == 200
    assert len(server.effects("k-wait")) == 1


async def test_erasing_a_call_erases_the_answer_kept_for_its_key(alice, gateway, server):
    first = await alice.call("counting/note", key="k-erase", text="k-erase", echo="personal")
    done = await gateway.cli("records", "erase", "--call", first.body["decision_id"], "--yes")
    assert done.returncode == 0, done.stderr
    again = await alice.call("counting/note", key="k-erase", text="k-erase", echo="personal")
    assert again.code == "answer_not_kept" and "personal" not in again.raw.decode()
    assert len(server.effects("k-erase")) == 1


async def test_of_many_at_once_one_is_carried_out(alice, server):
    got = await asyncio.gather(
        *(
            alice.call("counting/note", key="k-many", text="k-many", then="slow", seconds=0.2)
            for _ in range(20)
        )
    )
    assert sorted({each.status for each in got}) == [200, 409]
    assert sum(each.status == 200 for each in got) == 1
    assert len(server.effects("k-many")) == 1


async def test_a_call_in_doubt_is_answered_so_again_and_never_sent_again(alice, server):
    first = await alice.call("counting/note", key="k-doubt", text="k-doubt", then="die")
    again = await alice.call("counting/note", key="k-doubt", text="k-doubt", then="die")
    assert first.raw == again.raw and again.body["effect"] == "unknown"
    assert len(server.effects("k-doubt")) == 1


async def test_a_refusal_that_may_end_otherwise_gives_the_key_back(tmp_path, server):
    wardgate = configured(tmp_path / "own", server, limits={"in_flight_per_agent": 1})
    try:
        wardgate.start()
        async with client(wardgate, "alice") as agent:
            busy = asyncio.create_task(agent.call("counting/note", text="busy", then="slow", seconds=0.5))
            while not server.effects("busy"):
                await asyncio.sleep(0.01)
            full = await agent.call("counting/note", key="k-full", text="k-full")
            assert full.status == 503 and full.code == "overloaded" and full.headers["retry-after"] == "1"
            await busy
            assert (await agent.call("counting/note", key="k-full", text="k-full")).status == 200
        assert len(server.effects("k-full")) == 1
    finally:
        wardgate.close()


async def test_what_was_never_decided_is_no_answer_to_keep_and_a_denial_is(alice):
    for _ in range(2):
        got = await alice.call("counting/nothing", key="k-404")
        assert got.status == 404 and "idempotent-replayed" not in got.headers
    first, again = [await alice.call("counting/note", key="k-deny", forbidden=True) for _ in range(2)]
    assert first.raw == again.raw and again.headers["idempotent-replayed"] == "true"


async def test_a_result_too_large_to_keep_is_not_repeated_and_the_call_not_either(alice, server):
    first = await alice.call("counting/note", key="k-large", text="k-large", echo="x" * 300_000)
    assert first.status == 200
    again = await alice.call("counting/note", key="k-large", text="k-large", echo="x" * 300_000)
    assert again.status == 409 and again.code == "answer_not_kept" and again.body["effect"] == "done"
    assert again.body["decision_id"] == first.body["decision_id"]
    assert len(server.effects("k-large")) == 1


@pytest.mark.parametrize("key", ['"unclosed', '"a"b"', '"a\\"b"', '""', "x" * 256, "ä", "tab\tkey"])
async def test_a_key_that_two_readers_could_read_differently_is_refused(alice, key):
    got = await alice.call("counting/note", key=key, text="k-bad")
    assert got.status == 400 and got.code == "invalid_request"


async def test_after_a_crash_the_answer_is_the_same_and_the_call_is_not_made_again(tmp_path, server):
    wardgate = configured(tmp_path / "crash", server)
    try:
        wardgate.start()
        async with client(wardgate, "alice") as agent:
            first = await agent.call("counting/note", key="k-crash", text="k-crash")
            out = asyncio.create_task(
                agent.call("counting/note", key="k-out", text="k-out", then="slow", seconds=5)
            )
            while not server.effects("k-out"):
                await asyncio.sleep(0.01)
            wardgate.kill()
            await asyncio.gather(out, return_exceptions=True)
            await asyncio.to_thread(wardgate.start)
            again = await agent.call("counting/note", key="k-crash", text="k-crash")
            lost = await agent.call("counting/note", key="k-out", text="k-out", then="slow", seconds=5)
        assert again.raw == first.raw and again.headers["idempotent-replayed"] == "true"
        assert lost.status == 409 and lost.code == "in_doubt" and lost.body["effect"] == "unknown"
        assert len(server.effects("k-crash")) == len(server.effects("k-out")) == 1
        assert [record["call_id"] for record in wardgate.in_doubt()] == [lost.body["decision_id"]]
    finally:
        wardgate.close()


# ------------------------------------------------------------------------------------------ reading


async def test_an_agent_sees_the_tools_it_may_see_with_their_schemas(alice):
    items = {item["tool"]: item for item in (await alice.get("/v1/tools")).body["items"]}
    assert items["counting/note"]["definition"]["inputSchema"]["type"] == "object"
    assert items["laptop/Bash"]["elsewhere"] and items["laptop/Bash"]["risk"] == "irreversible"
    assert "laptop/Hidden" not in items and not items["counting/note"]["elsewhere"]
    only = (await alice.get("/v1/tools?upstream=laptop")).body["items"]
    assert {item["upstream"] for item in only} == {"laptop"}


async def test_an_agent_sees_its_own_decisions_and_nobody_elses(alice, bob, gateway):
    mine = (await alice.call("counting/note", text="mine")).body["decision_id"]
    assert (await alice.get(f"/v1/decisions/{mine}")).body["status"] == "ok"
    theirs, missing = await bob.get(f"/v1/decisions/{mine}"), await bob.get("/v1/decisions/none")
    assert theirs.status == missing.status == 404 and theirs.raw == missing.raw
    listed = [item["decision_id"] for item in (await alice.get("/v1/decisions?limit=200")).body["items"]]
    assert mine in listed
    assert mine not in [item["decision_id"] for item in (await bob.get("/v1/decisions")).body["items"]]


async def test_decisions_come_in_pages(alice):
    for number in range(3):
        await alice.call("counting/note", text=f"page {number}")
    first = (await alice.get("/v1/decisions?limit=2")).body
    second = (await alice.get(f"/v1/decisions?limit=2&cursor={first['cursor']}")).body
    seen = [item["decision_id"] for item in first["items"] + second["items"]]
    assert len(seen) == len(set(seen)) == 4
    assert (await alice.get("/v1/decisions?cursor=nonsense")).status == 422


async def test_reading_the_journal_takes_a_place_like_any_other_work(tmp_path, server):
    wardgate = configured(tmp_path / "own", server, limits={"in_flight_per_agent": 1})
    try:
        wardgate.start()
        async with client(wardgate, "alice") as agent, client(wardgate, "bob") as other:
            busy = asyncio.create_task(agent.call("counting/note", text="at work", then="slow", seconds=0.5))
            while not server.effects("at work"):
                await asyncio.sleep(0.01)
            full = await agent.get("/v1/decisions")
            assert full.status == 503 and full.headers["retry-after"] == "1"
            assert (await other.get("/v1/decisions")).status == 200
            await busy
            assert (await agent.get("/v1/decisions")).status == 200
    finally:
        wardgate.close()
