"""What a client sees of a held call that can do more than call again: a task, or a page for its user."""

from __future__ import annotations

import asyncio
import json
import time
from contextlib import asynccontextmanager

import httpx2
import mcp
import mcp_types as types
import pytest
from mcp.client.streamable_http import streamable_http_client

from gateway.identity import keys
from gateway.storage.credentials import Credentials
from tests.e2e.gateway import Wardgate, counting, rule, talking
from tests.e2e.test_approvals import Reviewer
from tests.storage.at import at

TASKS = "io.modelcontextprotocol/tasks"
DECLARED = {"extensions": {TASKS: {}}}
HELD = rule(
    "held",
    'escalate contains {"code": "needs_person", "message": "this needs a person"}'
    ' if input.tool.name != "look"',
    codes=["needs_person"], scope={"tools": ["counting/*"]},
)  # fmt: skip
PAGES = "https://wardgate.example/gate/console"
CHAINS = {
    "default": {
        "stages": [{"any": [{"who": {"roles": ["approver", "operator"]}}]}], "decide_s": 60,
        "self_review": True,
    },
}  # fmt: skip


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """One gateway, its reviewers, and the counting server, for all tests of this file."""
    folder = tmp_path_factory.mktemp("tasks")
    with counting(folder) as server:
        running = Wardgate(
            folder / "gateway",
            {"counting": {"url": server.url}},
            agents={"alice": {"owner": "team-a"}, "bob": {"owner": "ann"}, "carol": {"owner": "team-c"}},
            approvals={"chains": CHAINS, "hold_s": 0.3, "sticky_s": 1},
            console={"url": PAGES},
        )
        running.policy("held.rego", HELD)
        ann, bea = Reviewer(running, "ann"), Reviewer(running, "bea")
        with at(running.database_path).open() as database:
            second = keys.mint(Credentials(database), kind="agent", tenant="default", name="alice")
        running.second_key = second.token
        running.start()
        yield running, ann, bea, server
        running.close()


@asynccontextmanager
async def task_client(running, agent="alice"):
    async with talking(running, running.key(agent)) as client:
        client.capabilities = DECLARED
        yield client


async def got(client, task_id):
    said = await client.ask("tasks/get", {"taskId": task_id}, name=task_id)
    return said.result


async def until(client, task_id, *statuses):
    end = time.monotonic() + 10
    while (task := await got(client, task_id))["status"] not in statuses:
        assert time.monotonic() < end, task
        await asyncio.sleep(0.05)
    return task


async def the_one(ann, approval_id):
    """An approval as its reviewer sees it."""
    status, found = await ann.get(f"/v1/approvals/{approval_id}")
    assert status == 200
    return found


# ------------------------------------------------------------------------------------------------ tasks


async def test_a_held_call_is_a_task_whose_result_is_that_of_the_call_made_once(world):
    running, ann, _, server = world
    async with task_client(running) as alice:
        offered = (await alice.ask("server/discover", {})).result["capabilities"]
        assert offered["extensions"] == {TASKS: {}}
        started = time.monotonic()
        made = (await alice.call("pay", text="a task")).result
        assert time.monotonic() - started < 0.3  # it need not wait for people: its client does
        assert made["resultType"] == "task" and made["status"] == "working"
        assert "content" not in made and "result" not in made
        assert made["createdAt"].endswith("+00:00") and made["ttlMs"] > 60_000 and made["pollIntervalMs"] > 0
        assert "this needs a person" in made["statusMessage"].lower()
        task_id = made["taskId"]
        task = await got(alice, task_id)
        assert task["resultType"] == "complete" and task["status"] == "working" and "result" not in task
        waiting = await the_one(ann, task_id)
        assert not server.effects("a task")
        await ann.do("approve", waiting)
        done = await asyncio.gather(*(until(alice, task_id, "completed") for _ in range(5)))
        assert all(each["result"] == done[0]["result"] for each in done)
        assert done[0]["result"]["resultType"] == "complete" and not done[0]["result"].get("isError")
        assert len(server.effects("a task")) == 1
        assert (await the_one(ann, task_id))["state"] == "executed"
        assert (await got(alice, task_id))["result"] == done[0]["result"]


async def test_a_call_that_is_not_held_is_no_task_and_nobody_gets_one_unasked(world):
    running, *_ = world
    async with task_client(running) as alice:
        assert (await alice.call("look", text="x")).result["resultType"] == "complete"
    async with talking(running, running.key()) as plain:
        held = await plain.call("pay", text="no task")
        assert held.refused and held.facts["decision"] == "pending"
        task_id = held.facts["approval_id"]
        for method in ("tasks/get", "tasks/update", "tasks/cancel"):
            said = await plain.ask(method, {"taskId": task_id, "inputResponses": {}}, name=task_id)
            error = json.loads(said.body)["error"]
            assert said.status == 400 and error["code"] == -32021
            assert error["data"]["requiredCapabilities"] == {"extensions": {TASKS: {}}}


async def test_a_rejection_completes_the_task_with_the_reviewers_words_and_lasts(world):
    running, ann, _, server = world
    async with task_client(running) as alice:
        task_id = (await alice.call("pay", text="rejected")).result["taskId"]
        await ann.do("reject", await the_one(ann, task_id), reason_code="too_risky", reason="Ask the bank.")
        for _ in range(2):
            task = await got(alice, task_id)
            assert task["status"] == "completed" and task["result"]["isError"] is True
            text = task["result"]["content"][0]["text"]
            assert "approval_rejected" in text and "too_risky" in text and "Ask the bank." in text
            await asyncio.sleep(1.2)  # by now the same call would be asked about again; the task is not
        assert len(await ann.waiting(agent="alice", state="pending", target="counting/pay")) <= 1
        assert not server.effects("rejected")


async def test_a_task_is_its_agents_own_and_cancelled_by_it_before_it_is_carried_out(world):
    running, ann, _, server = world
    async with task_client(running) as alice, task_client(running, "bob") as bob:
        task_id = (await alice.call("pay", text="cancelled")).result["taskId"]
        for method in ("tasks/get", "tasks/update", "tasks/cancel"):
            for client, name in ((bob, task_id), (alice, "01900000-0000-7000-8000-000000000000")):
                said = await client.ask(method, {"taskId": name, "inputResponses": {}}, name=name)
                error = json.loads(said.body)["error"]
                assert error["code"] == -32602 and error["message"].endswith("Task not found")
        updated = await alice.ask("tasks/update", {"taskId": task_id, "inputResponses": {"x": {}}})
        assert updated.result == {"resultType": "complete"}
        cancelled = await alice.ask("tasks/cancel", {"taskId": task_id}, name=task_id)
        assert cancelled.result == {"resultType": "complete"}
        assert (await got(alice, task_id))["status"] == "cancelled"
        again = await alice.ask("tasks/cancel", {"taskId": task_id}, name=task_id)
        assert json.loads(again.body)["error"]["code"] == -32602
        status, said = await ann.do("approve", await the_one(ann, task_id))
        assert (status, said["code"]) == (409, "approval_closed") and not server.effects("cancelled")
        mismatch = await alice.ask("tasks/get", {"taskId": task_id}, name="another")
        assert mismatch.status == 400 and json.loads(mismatch.body)["error"]["code"] == -32020


async def test_another_key_of_the_agent_does_not_end_the_task_of_a_session_that_is_not_its_own(world):
    running, ann, _, server = world
    async with task_client(running) as alice, talking(running, running.second_key) as other:
        other.capabilities = DECLARED
        task_id = (await alice.call("pay", text="two keys")).result["taskId"]
        await ann.do("approve", await the_one(ann, task_id))
        looked = await until(other, task_id, "completed")  # with its own key the call has no such session
        assert "no_such_session" in looked["result"]["content"][0]["text"]
        task = await until(alice, task_id, "completed")
        assert not task["result"].get("isError") and len(server.effects("two keys")) == 1


async def test_a_task_follows_the_call_that_a_reviewer_put_in_its_place(world):
    running, ann, bea, server = world
    async with task_client(running, "carol") as carol:
        task_id = (await carol.call("pay", text="all of it")).result["taskId"]
        waiting = await the_one(ann, task_id)
        status, new = await ann.do("edit", waiting, arguments={"text": "half of it"})
        assert status == 200 and new["id"] != task_id
        assert (await got(carol, task_id))["status"] == "working"
        status, _ = await bea.do("approve", new)
        assert status == 200
        task = await until(carol, task_id, "completed")
        assert not task["result"].get("isError")
        assert server.effects("half of it") and not server.effects("all of it")


async def test_a_listener_is_told_of_each_change_and_of_the_result(world):
    running, ann, _, server = world
    async with task_client(running) as alice:
        task_id = (await alice.call("pay", text="listened")).result["taskId"]
        wanted = {"notifications": {"taskIds": [task_id, "not-mine"]}}
        body = alice.body("subscriptions/listen", wanted)
        headers = {"MCP-Method": "subscriptions/listen", "MCP-Protocol-Version": "2026-07-28"}
        sent = {
            "Authorization": f"Bearer {alice.key}", "Content-Type": "application/json",
            "Accept": "application/json, text/event-stream", **headers,
        }  # fmt: skip
        seen = []
        async with (
            httpx2.AsyncClient(timeout=20) as http,
            http.stream("POST", f"{running.agents_url}/mcp/counting", content=body, headers=sent) as stream,
        ):
            async for line in stream.aiter_lines():
                if not line.startswith("data:"):
                    continue
                message = json.loads(line[5:])
                if message["method"] == "notifications/subscriptions/acknowledged":
                    assert message["params"]["notifications"] == {"taskIds": [task_id]}
                    continue
                assert message["method"] == "notifications/tasks"
                seen.append(message["params"])
                if len(seen) == 1:
                    await ann.do("approve", await the_one(ann, task_id))
                if seen[-1]["status"] == "completed":
                    break
        assert seen[0]["status"] == "working" and all(each["taskId"] == task_id for each in seen)
        assert all("resultType" not in each for each in seen)
        assert seen[-1]["result"] == (await got(alice, task_id))["result"]
        assert len(server.effects("listened")) == 1
    async with talking(running, running.key()) as plain:
        said = await plain.ask("subscriptions/listen", {"notifications": {"taskIds": []}})
        assert said.status == 400 and json.loads(said.body)["error"]["code"] == -32021


# ----------------------------------------------------------------------------- answering who asks about it


@pytest.mark.parametrize(("endpoint", "tool"), [("", "wardgate__approval"), ("wardgate", "approval")])
async def test_a_reviewers_question_reaches_the_model_and_its_answer_the_reviewer(world, endpoint, tool):
    running, ann, _, server = world
    text = f"asked about at /mcp/{endpoint}"
    async with talking(running, running.key(), endpoint) as alice:
        pay = {"tool": "counting__pay", "upstream": "", "text": text}
        held = (await alice.call(**pay)).facts["approval_id"]

        async def own(**arguments):
            return (await alice.call(tool, **arguments)).result

        seen = (await own(approval=held))["structuredContent"]
        assert seen["state"] == "pending" and seen["question"] is None
        early = (await own(approval=held, answer="Nobody asked."))["structuredContent"]
        assert "Nobody waits for an answer" in early["message"]

        status, _ = await ann.do("ask", await the_one(ann, held), question="Which invoice is it?")
        assert status == 200
        again = await alice.call(**pay)
        assert "Which invoice is it?" in again.text and "'wardgate__approval' answers" in again.text
        at_upstream = await alice.call("pay", upstream="counting", text=text)
        assert "The tool 'approval' at /mcp/wardgate answers" in at_upstream.text
        assert (await own(approval=held))["structuredContent"]["question"] == "Which invoice is it?"
        answered = (await own(approval=held, answer="Number 7."))["structuredContent"]
        assert "has your answer" in answered["message"] and answered["question"] is None
        found = await the_one(ann, held)
        assert found["answer"] == "Number 7." and found["events"][-1]["by"] == "alice"
        assert "Which invoice" not in (await alice.call(**pay)).text

        await ann.do("approve", found)
        assert "same arguments" in (await own(approval=held))["structuredContent"]["message"]
        assert not (await alice.call(**pay)).refused and len(server.effects(text)) == 1


async def test_an_answer_is_only_taken_of_the_agent_that_is_asked(world):
    running, ann, *_ = world
    async with talking(running, running.key(), "") as alice, talking(running, running.key("bob"), "") as bob:
        held = (await alice.call("counting__pay", text="a question")).facts["approval_id"]
        await ann.do("ask", await the_one(ann, held), question="Why?")
        for approval in (held, "01900000-0000-7000-8000-000000000000"):
            said = await bob.call("wardgate__approval", approval=approval, answer="me")
            assert said.result["structuredContent"]["known"] is False and "Why?" not in said.text
        for bad in ({}, {"approval": 7}, {"approval": held, "answer": " "}, {"approval": held, "x": 1},
                    {"approval": held, "answer": "a" * 2001}, {"approval": "a" * 65}):  # fmt: skip
            said = await alice.call("wardgate__approval", **bad)
            assert said.reason == "invalid_arguments" and "Give 'approval'" in said.text
        assert (await the_one(ann, held))["answer"] is None


# ------------------------------------------------------------------------------------ a page for its user


@asynccontextmanager
async def with_a_user(running, agent, mode, *, action="accept", opened=None, url=True):
    """The official client, whose user opens pages; ``opened`` is called with each address."""
    asked: list[str] = []

    async def visit(_context, params):
        asked.append(params.url)
        if opened is not None:
            asyncio.get_running_loop().create_task(opened(params))
        return types.ElicitResult(action=action)

    headers = {"Authorization": f"Bearer {running.key(agent)}"}
    more = {"elicitation_callback": visit} if url else {}
    async with (
        httpx2.AsyncClient(headers=headers, timeout=30) as http,
        mcp.Client(
            streamable_http_client(f"{running.agents_url}/mcp/counting", http_client=http), mode=mode, **more
        ) as client,
    ):
        yield client, asked


@pytest.mark.parametrize("mode", ["2026-07-28", "legacy"])
async def test_a_user_who_may_decide_is_sent_to_the_page_and_the_call_goes_on(world, mode):
    running, ann, _, server = world
    text = f"by its user {mode}"

    async def reviewed(params):
        await ann.do("approve", await the_one(ann, params.url.rpartition("/")[2]))

    async with with_a_user(running, "bob", mode, opened=reviewed) as (client, asked):
        said = await client.call_tool("note", {"text": text})
        assert not said.is_error, said
        assert len(asked) == 1 and asked[0].startswith(f"{PAGES}/approvals/")
        assert "text" not in asked[0] and len(server.effects(text)) == 1


@pytest.mark.parametrize("mode", ["2026-07-28", "legacy"])
async def test_a_user_who_declines_is_not_asked_again_and_the_call_is_pending(world, mode):
    running, _, _, server = world
    text = f"declined {mode}"
    async with with_a_user(running, "bob", mode, action="decline") as (client, asked):
        for _ in range(2):
            said = await client.call_tool("note", {"text": text})
            assert said.is_error and '"decision":"pending"' in said.content[0].text
        assert len(asked) == 1 and not server.effects(text)


@pytest.mark.parametrize(
    ("agent", "tool", "url"),
    [
        ("alice", "note", True),  # its owner is nobody who may decide
        ("bob", "pay", True),  # what is irreversible its owner never approves
        ("bob", "note", False),  # its client cannot be asked
    ],
)
async def test_nobody_else_is_sent_there(world, agent, tool, url):
    running, _, _, server = world
    text = f"not sent {agent} {tool} {url}"
    async with with_a_user(running, agent, "2026-07-28", url=url) as (client, asked):
        said = await client.call_tool(tool, {"text": text})
        assert said.is_error and '"decision":"pending"' in said.content[0].text
        assert not asked and not server.effects(text)


async def test_a_task_outlives_the_process_that_made_it(world):
    """The last test of this file: it restarts the gateway."""
    running, ann, _, server = world
    async with task_client(running) as alice:
        waits = (await alice.call("pay", text="over a restart")).result["taskId"]
        done = (await alice.call("pay", text="done before")).result["taskId"]
        await ann.do("approve", await the_one(ann, done))
        await until(alice, done, "completed")
        assert running.stop() == 0
        running.start()
        assert (await got(alice, waits))["status"] == "working"
        await ann.do("approve", await the_one(ann, waits))
        task = await until(alice, waits, "completed")
        assert not task["result"].get("isError") and len(server.effects("over a restart")) == 1
        # Results are kept in memory; what happened is not forgotten with them.
        task = await got(alice, done)
        assert task["status"] == "completed" and task["result"]["isError"] is True
        assert "approval_done" in task["result"]["content"][0]["text"]
        assert len(server.effects("done before")) == 1
