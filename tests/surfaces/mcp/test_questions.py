"""A legacy client is asked on the stream of its own request, and nobody else can answer for it."""

from __future__ import annotations

import asyncio

import orjson
import pytest

from gateway.model import Outcome
from gateway.ports import Unanswered
from gateway.surfaces.mcp import callers
from tests.surfaces.mcp import streams, support
from tests.surfaces.mcp.streams import in_session, until
from tests.surfaces.mcp.support import Desk, entry, ok, open_house

ELICIT = "elicitation/create"
ADA = {"action": "accept", "content": {"name": "Ada"}}
CALL = {"name": "read"}


def calling(house, session, number=1):
    return streams.legacy(house, session, "tools/call", CALL, number)


def a_desk(questions: int = 1) -> Desk:
    """An upstream that asks for a name, and says what it heard."""
    desk = Desk([entry("tool", "files", "read")])
    desk.heard = []

    async def handler(call, dialogue):
        for number in range(questions):
            try:
                answer = await dialogue.ask(ELICIT, b'{"message":"name %d?"}' % number)
                desk.heard.append(orjson.loads(answer))
            except Unanswered as unanswered:
                desk.heard.append(unanswered.code)
        return ok()

    desk.handler = handler
    return desk


async def session_of(house, token="alice", **capabilities):
    answer = await house.initialize(token=token, capabilities=capabilities or {"elicitation": {}})
    return answer.headers["mcp-session-id"]


async def say(house, session, number, token="alice", **said):
    message = {"jsonrpc": "2.0", "id": number, **said}
    return await house.post(message, headers=in_session(session, token))


async def test_a_question_comes_on_the_stream_of_the_call_and_its_answer_goes_back():
    async with open_house(a_desk()) as house:
        session = await session_of(house)
        async with calling(house, session, number=9) as stream:
            question = await stream.event()
            assert question["method"] == ELICIT and question["params"] == {"message": "name 0?"}
            answer = await say(house, session, question["id"], result=ADA)
            assert (answer.status, answer.body) == (202, b"")
            assert (await stream.event())["id"] == 9
        assert house.desk.heard == [ADA]
        assert [call.tool.kind for call in house.desk.calls] == ["tool"]


async def test_nobody_else_can_answer():
    async with open_house(a_desk()) as house:
        mine, other, bobs = (
            await session_of(house), await session_of(house), await session_of(house, "bob"),
        )  # fmt: skip
        async with calling(house, mine) as stream:
            question = await stream.event()
            forged = {"action": "accept", "content": {"name": "Mallory"}}
            assert (await say(house, other, question["id"], result=forged)).status == 202
            assert (await say(house, bobs, question["id"], "bob", result=forged)).status == 202
            assert (await say(house, mine, question["id"], "bob", result=forged)).status == 404
            assert (await say(house, "made-up", question["id"], result=forged)).status == 404
            assert (
                await house.post({"jsonrpc": "2.0", "id": question["id"], "result": forged})
            ).status == 400
            path = "/mcp"
            elsewhere = {"jsonrpc": "2.0", "id": question["id"], "result": forged}
            assert (await house.post(elsewhere, headers=in_session(mine), path=path)).status == 404
            assert house.desk.heard == []
            await say(house, mine, question["id"], result=ADA)
            await stream.event()
        assert house.desk.heard == [ADA]


async def test_a_second_answer_a_late_one_and_one_to_no_question_reach_nobody_and_leave_a_trace():
    async with open_house(a_desk(questions=2)) as house:
        session = await session_of(house)
        async with calling(house, session) as stream:
            first = await stream.event()
            for odd in ("wardgate-99", 1, "", None, "q1"):
                await say(house, session, odd, result={"action": "cancel"})
            await say(house, session, first["id"], result=ADA)
            second = await stream.event()
            assert second["id"] != first["id"]
            await say(
                house, session, first["id"], result={"action": "cancel"}
            )  # a second answer to the first
            await say(house, session, second["id"], result=ADA)
            await stream.event()
        await say(house, session, second["id"], result={"action": "cancel"})  # too late
        assert house.desk.heard == [ADA, ADA]
        traces = [note for note in house.desk.noted if "nobody waits" in note[2]]
        assert len(traces) == 7


@pytest.mark.parametrize(
    "odd",
    [
        {"result": ADA, "error": {"code": -1, "message": "no"}},
        {"result": None},
        {"result": "Ada"},
        {"result": [ADA]},
        {"result": ADA, "error": None},
        {"error": None},
        {"error": "no"},
    ],
)
async def test_an_answer_with_both_or_neither_of_result_and_error_is_refused_and_the_question_stays(odd):
    async with open_house(a_desk()) as house:
        session = await session_of(house)
        async with calling(house, session) as stream:
            question = await stream.event()
            assert (await say(house, session, question["id"], **odd)).status == 400
            assert house.desk.heard == []
            await say(house, session, question["id"], result=ADA)
            await stream.event()
        assert house.desk.heard == [ADA]


async def test_an_empty_object_is_a_result_like_any_other():
    async with open_house(a_desk()) as house:
        session = await session_of(house)
        async with calling(house, session) as stream:
            question = await stream.event()
            assert (await say(house, session, question["id"], result={})).status == 202
            await stream.event()
        assert house.desk.heard == [{}]


async def test_an_error_of_the_client_declines():
    async with open_house(a_desk()) as house:
        session = await session_of(house)
        async with calling(house, session) as stream:
            question = await stream.event()
            await say(house, session, question["id"], error={"code": -1, "message": "User rejected"})
            await stream.event()
        assert house.desk.heard == ["client_declined"]


async def test_a_client_that_does_not_answer_in_time_has_declined():
    async with open_house(a_desk(), ask_timeout_s=0.1) as house:
        session = await session_of(house)
        async with calling(house, session, number=4) as stream:
            question = await stream.event()
            assert (await stream.event())["id"] == 4
            assert (await say(house, session, question["id"], result=ADA)).status == 202
        assert house.desk.heard == ["client_declined"]


async def test_a_client_that_takes_json_only_is_never_asked_and_declares_nothing_upstream():
    async with open_house(a_desk()) as house:
        session = await session_of(house)
        answer = await house.legacy(session, "tools/call", CALL, headers={"Accept": "application/json"})
        assert "result" in answer.json
        assert house.desk.heard == ["unknown_method"] and house.desk.calls[0].capabilities_json == b""


async def test_a_client_is_asked_only_what_it_declared():
    async with open_house(a_desk()) as house:
        session = await session_of(house, roots={}, sampling={"tools": {}})
        await house.legacy(session, "tools/call", CALL)
        assert house.desk.heard == ["unknown_method"]
        assert orjson.loads(house.desk.calls[0].capabilities_json) == {"roots": {}, "sampling": {"tools": {}}}


async def test_a_session_that_ends_while_its_client_is_asked_declines_at_once_and_for_good():
    async with open_house(a_desk(questions=3)) as house:
        session = await session_of(house)
        async with calling(house, session) as stream:
            await stream.event()
            assert (await house.post(b"", method="DELETE", headers=in_session(session))).status == 204
            assert "result" in await stream.event()
        assert house.desk.heard == ["client_declined"] * 3
        assert len(house.desk.left) == 1


async def test_two_requests_with_one_id_are_never_under_way_together():
    async with open_house(a_desk()) as house:
        session = await session_of(house)
        async with calling(house, session, number="x") as stream:
            question = await stream.event()
            again = await house.legacy(session, "tools/call", CALL, id="x")
            assert again.error == (400, -32600) and len(house.desk.calls) == 1
            await say(house, session, question["id"], result=ADA)
            await stream.event()
        assert len(house.desk.calls) == 1


async def test_an_id_is_taken_from_the_first_moment_on_not_only_once_the_call_is_decided(monkeypatch):
    decide = asyncio.Event()

    class Slow(support._Policy):
        async def call(self, call, facts):
            await decide.wait()
            return await super().call(call, facts)

    monkeypatch.setattr(support, "_Policy", Slow)
    desk = Desk()
    async with open_house(desk) as house:
        session = await session_of(house)
        first = asyncio.create_task(house.legacy(session, "tools/call", CALL, id=5))
        await until(lambda: desk.limits.total)
        second = await house.legacy(session, "tools/call", CALL, id=5)
        decide.set()
        assert second.error == (400, -32600)
        assert "result" in (await first).json and len(desk.calls) == 1


# ---------------------------------------------------------------------------------------- cancellation


class Held:
    """An upstream that works until it is told that nobody wants the answer."""

    def __init__(self) -> None:
        self.desk = Desk()
        self.dialogues = []
        self.release = asyncio.Event()
        self.desk.handler = self

    async def __call__(self, call, dialogue):
        self.dialogues.append(dialogue)
        dialogue.hook = self.release.set
        if dialogue.cancelled:
            return Outcome(status="not_sent", code="cancelled")
        await self.release.wait()
        return Outcome(status="in_doubt", code="cancelled")


async def cancel(house, session, number, token="alice"):
    params = {"requestId": number, "reason": "no longer needed"}
    note = {"jsonrpc": "2.0", "method": "notifications/cancelled", "params": params}
    return await house.post(note, headers=in_session(session, token))


async def test_a_client_gives_up_its_own_request_and_no_other():
    held = Held()
    async with open_house(held.desk) as house:
        session, other, bobs = (
            await session_of(house), await session_of(house), await session_of(house, "bob"),
        )  # fmt: skip
        request = asyncio.create_task(house.legacy(session, "tools/call", CALL, id=7))
        await until(lambda: held.dialogues)
        for from_, number, token in (
            (other, 7, "alice"), (bobs, 7, "bob"), (session, "7", "alice"), (session, 8, "alice"),
            (session, True, "alice"), (session, None, "alice"), (session, [7], "alice"),
        ):  # fmt: skip
            assert (await cancel(house, from_, number, token)).status == 202
        assert (await cancel(house, session, 7, "bob")).status == 404
        assert not held.dialogues[0].cancelled
        assert (await cancel(house, session, 7)).status == 202
        assert held.dialogues[0].cancelled
        answer = await request
        assert "cancelled" in answer.body.decode()
        assert (await cancel(house, session, 7)).status == 202  # over, so nothing


async def test_a_cancellation_while_the_call_is_decided_is_not_lost(monkeypatch):
    decide = asyncio.Event()

    class Slow(support._Policy):
        async def call(self, call, facts):
            await decide.wait()
            return await super().call(call, facts)

    monkeypatch.setattr(support, "_Policy", Slow)
    held = Held()
    async with open_house(held.desk) as house:
        session = await session_of(house)
        request = asyncio.create_task(house.legacy(session, "tools/call", CALL, id=7))
        await until(lambda: held.desk.limits.total)
        await cancel(house, session, 7)
        decide.set()
        answer = await asyncio.wait_for(request, 2)
        assert "cancelled" in answer.body.decode() and held.dialogues[0].cancelled


async def test_giving_a_request_up_ends_its_questions_and_leaves_those_of_others():
    async with open_house(a_desk()) as house:
        session = await session_of(house)
        async with calling(house, session, number=1) as first, calling(house, session, number=2) as second:
            await first.event()
            question = await second.event()
            await cancel(house, session, 1)
            assert (await first.event())["id"] == 1
            assert house.desk.heard == ["client_declined"]
            await say(house, session, question["id"], result=ADA)
            assert (await second.event())["id"] == 2
        assert house.desk.heard == ["client_declined", ADA]


# ----------------------------------------------------------------------------------------------- bounds


async def test_questions_of_one_session_are_bounded_and_forgotten(monkeypatch):
    monkeypatch.setattr(callers, "MAX_ASKED", 8)
    desk = Desk()
    desk.heard = []

    async def handler(call, dialogue):
        async def one(number):
            try:
                await dialogue.ask(ELICIT, b'{"message":"%d"}' % number)
            except Unanswered as unanswered:
                desk.heard.append(unanswered.code)

        await asyncio.gather(*(one(number) for number in range(100)))
        return ok()

    desk.handler = handler
    async with open_house(desk, ask_timeout_s=0.3) as house:
        session = await session_of(house)
        async with calling(house, session, number="flood") as stream:
            asked = 0
            while (await stream.event()).get("id") != "flood":
                asked += 1
        assert len(desk.heard) == 100 and asked == 8
        (held,) = house.surface.sessions._held.values()
        assert not held.conversation._asked and not held.conversation.running
