"""A modern client in front of a legacy upstream: the call waits here while the client fetches its answers."""

from __future__ import annotations

import asyncio

import orjson
import pytest

from gateway.model import Finding, Outcome
from gateway.ports import Unanswered
from gateway.surfaces.mcp import parked
from tests.surfaces.mcp import streams
from tests.surfaces.mcp.streams import until
from tests.surfaces.mcp.support import Desk, Info, entry, ok, open_house

CAPABLE = {"io.modelcontextprotocol/clientCapabilities": {"elicitation": {}}}
CALL = {"name": "read", "arguments": {"path": "/a"}}
ADA = {"action": "accept", "content": {"name": "Ada"}}
ELICIT = "elicitation/create"


class Asking:
    """A legacy upstream: ``script`` is how many questions it puts at once, step by step."""

    def __init__(self, *script: int) -> None:
        self.script = script or (1,)
        self.heard: list[object] = []
        self.gone = asyncio.Event()
        self.work: asyncio.Event | None = None  # when set, it works on until this is
        self.desk = Desk([entry("tool", "files", "read"), entry("tool", "files", "write")])
        self.desk.infos["files"] = Info({"tools": {}}, era="legacy")
        self.desk.handler = self

    async def _one(self, dialogue, text: str) -> None:
        try:
            self.heard.append(orjson.loads(await dialogue.ask(ELICIT, orjson.dumps({"message": text}))))
        except Unanswered as unanswered:
            self.heard.append(unanswered.code)

    async def __call__(self, call, dialogue):
        assert not dialogue.rounds
        dialogue.hook = self.gone.set
        for step, questions in enumerate(self.script):
            await asyncio.gather(*(self._one(dialogue, f"{step}.{number}") for number in range(questions)))
        if self.work is not None:
            done = [asyncio.ensure_future(each.wait()) for each in (self.work, self.gone)]
            await asyncio.wait(done, return_when=asyncio.FIRST_COMPLETED)
            for each in done:
                each.cancel()
        return Outcome(status="in_doubt", code="cancelled") if self.gone.is_set() else ok()


async def start(house, **more):
    answer = await house.modern("tools/call", CALL, meta=CAPABLE, **more)
    return answer.json["result"]


async def again(house, result, responses=None, params=None, **more):
    params = {**(params or CALL), "requestState": result["requestState"]}
    if responses is not None:
        params["inputResponses"] = responses
    return await house.modern("tools/call", params, meta=CAPABLE, id=2, **more)


def held(house):
    return house.surface._front.parked


async def test_the_call_goes_on_with_the_answer_and_stays_one_call_with_one_record():
    up = Asking()
    async with open_house(up.desk) as house:
        result = await start(house)
        assert result["resultType"] == "input_required"
        ((key, question),) = result["inputRequests"].items()
        assert question == {"method": ELICIT, "params": {"message": "0.0"}}
        answer = await again(house, result, {key: ADA, "other": {"action": "cancel"}})
        assert answer.json["result"]["content"][0]["text"] == "done"
    assert up.heard == [ADA] and len(up.desk.calls) == 1
    assert [kind for kind, _ in up.desk.recorded].count("settled") == 2, "the call and its one question"
    assert len(held(house)) == 0 and up.desk.limits.total == 0


async def test_questions_of_several_steps_are_rounds_of_one_call():
    up = Asking(1, 2, 1)
    async with open_house(up.desk) as house:
        result, seen = await start(house), []
        while result["resultType"] == "input_required":
            seen.append(sorted(each["params"]["message"] for each in result["inputRequests"].values()))
            result = (await again(house, result, dict.fromkeys(result["inputRequests"], ADA))).json["result"]
    assert up.heard == [ADA] * 4 and len(up.desk.calls) == 1
    assert sorted(message for step in seen for message in step) == ["0.0", "1.0", "1.1", "2.0"]


@pytest.mark.parametrize("answered", [{}, None, "odd"])
async def test_what_is_missing_is_asked_again(answered):
    up = Asking(2)
    async with open_house(up.desk) as house:
        result = await start(house)
        if len(result["inputRequests"]) == 1:  # the second came a moment later
            result = (await again(house, result)).json["result"]
        first, second = result["inputRequests"]
        responses = {first: ADA} if answered is None else {first: ADA, second: answered or None}
        asked = (await again(house, result, responses)).json["result"]
        assert list(asked["inputRequests"]) == [second]
        assert (await again(house, asked, {second: ADA})).json["result"]["resultType"] == "complete"
    assert up.heard == [ADA, ADA]


async def test_a_claim_is_for_its_request_alone_and_opens_once():
    up = Asking()
    async with open_house(up.desk) as house:
        result = await start(house)
        (key,) = result["inputRequests"]
        for wrong in (
            await again(house, result, {key: ADA}, token="bob"),
            await again(house, result, {key: ADA}, {**CALL, "name": "write"}),
            await again(house, result, {key: ADA}, {**CALL, "arguments": {"path": "/b"}}),
        ):
            assert wrong.error == (200, -32602)
        assert up.heard == []
        assert (await again(house, result, {key: ADA})).json["result"]["resultType"] == "complete"
        replayed = await again(house, result, {key: ADA})
        assert replayed.error == (200, -32602) and len(up.desk.calls) == 1


async def test_two_requests_for_one_parked_call_are_one_and_a_refusal():
    up = Asking()
    up.work = asyncio.Event()
    async with open_house(up.desk) as house:
        result = await start(house)
        (key,) = result["inputRequests"]
        both = [asyncio.create_task(again(house, result, {key: ADA})) for _ in range(2)]
        await until(lambda: any(task.done() for task in both))
        up.work.set()
        answers = [await task for task in both]
    assert sorted("error" in answer.json for answer in answers) == [False, True]
    assert up.heard == [ADA] and len(up.desk.calls) == 1


async def test_a_claim_on_a_call_that_is_over_leads_nowhere(monkeypatch):
    monkeypatch.setattr(parked, "LINGER_S", 0.0)
    up = Asking()
    async with open_house(up.desk, ask_timeout_s=0.05) as house:
        result = await start(house)
        await until(lambda: not len(held(house)))
        answer = await again(house, result, dict.fromkeys(result["inputRequests"], ADA))
        assert answer.error == (200, -32602) and "over" in answer.json["error"]["message"]
    assert up.heard == ["client_declined"] and len(up.desk.calls) == 1


async def test_a_client_that_comes_back_late_gets_the_answer_that_was_kept_for_it():
    up = Asking()
    async with open_house(up.desk, ask_timeout_s=0.05) as house:
        result = await start(house)
        await until(lambda: up.desk.limits.total == 0)
        answer = await again(house, result, dict.fromkeys(result["inputRequests"], ADA))
        assert answer.json["result"]["content"][0]["text"] == "done"
        assert len(held(house)) == 0


async def test_calls_that_are_abandoned_end_by_themselves_and_leave_nothing(monkeypatch):
    monkeypatch.setattr(parked, "LINGER_S", 0.05)
    up = Asking()
    async with open_house(up.desk, ask_timeout_s=0.1) as house:
        for _ in range(10):
            await start(house)
        assert len(held(house)) == 10
        await until(lambda: not len(held(house)))
    assert up.heard == ["client_declined"] * 10 and up.desk.limits.total == 0
    assert [kind for kind, _ in up.desk.recorded].count("settled") == 20, "each call and each question"


async def test_calls_that_ask_nothing_leave_nothing_behind():
    up = Asking(0)
    async with open_house(up.desk) as house:
        loop = asyncio.get_running_loop()
        later = []
        there, loop.call_later = (
            loop.call_later,
            lambda delay, *what: later.append(delay) or there(delay, *what),
        )
        for _ in range(5):
            assert (await start(house))["resultType"] == "complete"
        del loop.call_later
        assert len(held(house)) == 0 and parked.LINGER_S not in later


async def test_what_is_parked_is_bounded_and_the_refusal_keeps_the_client_alive(monkeypatch):
    monkeypatch.setattr(parked, "MAX_PARKED", 2)
    up = Asking()
    async with open_house(up.desk, ask_timeout_s=5) as house:
        results = [await start(house), await start(house)]
        full = await house.modern("tools/call", CALL, meta=CAPABLE)
        assert full.status == 200 and full.json["error"]["data"]["reason"] == "overloaded"
        for result in results:
            await again(house, result, dict.fromkeys(result["inputRequests"], ADA))
        assert (await start(house))["resultType"] == "input_required"
        held(house).close()


async def test_the_upstream_is_told_when_the_client_leaves_while_it_waits():
    up = Asking(0)
    up.work = asyncio.Event()
    async with open_house(up.desk) as house:
        async with streams.modern(house, "tools/call", CALL, meta=CAPABLE):
            await until(lambda: up.desk.calls)
        await asyncio.wait_for(up.gone.wait(), 0.5)
        await until(lambda: not len(held(house)))


async def test_the_upstream_is_told_when_the_client_leaves_in_a_later_round():
    up = Asking()
    up.work = asyncio.Event()
    async with open_house(up.desk) as house:
        result = await start(house)
        params = {
            **CALL, "requestState": result["requestState"],
            "inputResponses": dict.fromkeys(result["inputRequests"], ADA),
        }  # fmt: skip
        await asyncio.sleep(0.1)
        assert not up.gone.is_set(), "between two rounds nobody has left"
        async with streams.modern(house, "tools/call", params, 2, meta=CAPABLE):
            await until(lambda: up.heard)
        await asyncio.wait_for(up.gone.wait(), 0.5)


async def test_notifications_reach_the_request_that_waits_and_nobody_in_between():
    note = b'{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":"p","progress":%d}}'
    desk = Asking().desk

    async def handler(call, dialogue):
        await dialogue.notify(note % 1)
        answer = dialogue.ask(ELICIT, b"{}")
        await answer
        await dialogue.notify(note % 2)
        return ok()

    desk.handler = handler
    async with open_house(desk) as house:
        meta = {**CAPABLE, "progressToken": "p"}
        first = await house.modern("tools/call", CALL, meta=meta)
        result = first.events[-1]["result"]
        params = {
            **CALL, "requestState": result["requestState"],
            "inputResponses": dict.fromkeys(result["inputRequests"], ADA),
        }  # fmt: skip
        second = await house.modern("tools/call", params, meta=meta, id=2)
    assert [event["params"]["progress"] for event in first.events[:-1]] == [1]
    assert [event["params"]["progress"] for event in second.events[:-1]] == [2]


async def test_a_question_that_policy_refuses_is_never_parked():
    up = Asking()
    up.desk.denied["files/elicitation/create"] = Finding(code="no_questions", message="no")
    async with open_house(up.desk) as house:
        assert (await start(house))["resultType"] == "complete"
    assert up.heard == ["no_questions"]


async def test_a_stopping_gateway_ends_the_questions_so_that_the_calls_end_with_an_outcome():
    up = Asking(1, 1)
    async with open_house(up.desk, ask_timeout_s=60) as house:
        await start(house)
        up.desk.limits.close()
        house.surface.close()
        await asyncio.wait_for(up.desk.limits.idle.wait(), 1)
    assert up.heard == ["shutting_down", "shutting_down"]
    assert [kind for kind, _ in up.desk.recorded].count("settled") == 3, "both questions and the call"
