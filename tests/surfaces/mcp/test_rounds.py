"""Input rounds: a modern client carries what the gateway sealed, and can do nothing else with it."""

from __future__ import annotations

import json
from contextlib import asynccontextmanager

import msgspec
import orjson
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from gateway.model import Ask, Finding, Outcome, Principal
from gateway.ports import ResultDecision
from gateway.surfaces.mcp import seal
from gateway.surfaces.mcp.envelope import Rejected
from gateway.surfaces.mcp.rounds import binding
from gateway.surfaces.mcp.seal import Seal
from tests.surfaces.mcp import support
from tests.surfaces.mcp.support import Desk, entry, ok, open_house

CAPABLE = {"io.modelcontextprotocol/clientCapabilities": {"elicitation": {}, "roots": {}}}
NAME = {"method": "elicitation/create", "params": {"message": "Your name?"}}
CALL = {"name": "read", "arguments": {"path": "/a"}}
ADA = {"action": "accept", "content": {"name": "Ada"}}


def asking(requests=None, state="upstream state", **more) -> Outcome:
    """What a modern upstream answers that wants to know something first."""
    result = {
        "resultType": "input_required",
        "inputRequests": {"who": NAME} if requests is None else requests,
    }
    if state is not None:
        result["requestState"] = state
    return Outcome(status="input_required", result_json=orjson.dumps({**result, **more}))


def a_desk(*questions: Outcome) -> Desk:
    """An upstream that asks, and answers when it has been answered."""
    desk = Desk(
        [entry("tool", "files", "read"), entry("tool", "files", "write"), entry("tool", "other", "read")]
    )
    left = list(questions or (asking(),))

    async def handler(call, dialogue):
        return left.pop(0) if left else ok()

    desk.handler = handler
    return desk


@asynccontextmanager
async def asked(desk: Desk | None = None, params=None, **more):
    """A house whose upstream has asked; and the ``input_required`` result."""
    desk = desk or a_desk()
    async with open_house(desk) as house:
        answer = await house.modern("tools/call", params or CALL, meta=CAPABLE, **more)
        assert answer.json["result"]["resultType"] == "input_required", answer.json
        yield house, answer.json["result"]


async def again(house, result, params=None, responses=None, **more):
    params = {**(params or CALL), "requestState": result["requestState"]}
    params["inputResponses"] = {"who": ADA} if responses is None else responses
    return await house.modern("tools/call", params, meta=more.pop("meta", CAPABLE), id=2, **more)


def refused_state(answer) -> bool:
    return answer.error == (200, -32602) and answer.json["error"]["data"]["reason"] == "bad_request_state"


# ------------------------------------------------------------------------------------ the way it should go


async def test_the_question_goes_out_sealed_and_the_answer_reaches_the_upstream_with_its_own_state():
    async with asked() as (house, result):
        assert result["inputRequests"] == {"who": NAME}
        assert "upstream state" not in json.dumps(result)
        answer = await again(house, result)
        assert answer.json["result"]["content"][0]["text"] == "done"
        first, second = house.desk.calls
    assert first.inputs_json == b""
    assert orjson.loads(second.inputs_json) == {
        "inputResponses": {"who": ADA}, "requestState": "upstream state",
    }  # fmt: skip
    assert first.digest != second.digest and first.args_json == second.args_json


async def test_a_state_without_questions_is_sealed_and_comes_back_without_answers():
    desk = a_desk(asking({}, "later"))
    async with asked(desk) as (house, result):
        assert "inputRequests" not in result
        params = {**CALL, "requestState": result["requestState"]}
        await house.modern("tools/call", params, meta=CAPABLE)
        assert orjson.loads(desk.calls[1].inputs_json) == {"requestState": "later"}


async def test_a_question_without_an_upstream_state_comes_back_without_one():
    desk = a_desk(asking(state=None))
    async with asked(desk) as (house, result):
        await again(house, result)
        assert orjson.loads(desk.calls[1].inputs_json) == {"inputResponses": {"who": ADA}}


async def test_what_was_not_asked_is_dropped_and_what_is_missing_is_asked_again():
    two = {"who": NAME, "where": {"method": "roots/list"}}
    desk = a_desk(asking(two), asking({"where": two["where"]}, "second"))
    async with asked(desk) as (house, result):
        extra = {"who": ADA, "admin": {"action": "accept"}, "__proto__": {}, "where": "no object"}
        answer = await again(house, result, responses=extra)
        assert answer.json["result"]["inputRequests"] == {"where": {"method": "roots/list", "params": {}}}
        assert orjson.loads(desk.calls[1].inputs_json)["inputResponses"] == {"who": ADA}
        last = await again(house, answer.json["result"], responses={"where": {"roots": []}})
        assert last.json["result"]["content"][0]["text"] == "done"
        assert orjson.loads(desk.calls[2].inputs_json) == {
            "inputResponses": {"where": {"roots": []}}, "requestState": "second",
        }  # fmt: skip


# -------------------------------------------------------------------------------------- what is no state


@pytest.mark.parametrize(
    "spoil",
    [
        lambda state: "",
        lambda state: "AAAA",
        lambda state: state[:-4],
        lambda state: state[4:],
        lambda state: state + "AAAA",
        lambda state: " " + state,
        lambda state: state + "\n",
        lambda state: state.rstrip("=") + "====",
        lambda state: state.swapcase(),
        lambda state: "ü" + state[1:],
        lambda state: None,
        lambda state: 7,
        lambda state: [state],
        lambda state: {"state": state},
    ],
)
async def test_a_state_that_is_not_exactly_ours_is_refused_and_reaches_nobody(spoil):
    async with asked() as (house, result):
        spoilt = {**result, "requestState": spoil(result["requestState"])}
        assert refused_state(await again(house, spoilt))
        assert len(house.desk.calls) == 1
        assert house.desk.noted[-1][0] == "bad_request_state"
        assert "result" in (await again(house, result)).json, "the true one was not used up by that"


async def test_an_upstreams_own_state_is_no_state_of_the_gateway():
    async with asked() as (house, result):
        assert refused_state(await again(house, {**result, "requestState": "upstream state"}))


async def test_a_state_opens_once():
    async with asked() as (house, result):
        assert "result" in (await again(house, result)).json
        assert refused_state(await again(house, result))
        assert len(house.desk.calls) == 2


async def test_a_state_is_worth_nothing_after_its_time(monkeypatch):
    monkeypatch.setattr(seal, "LIFE_S", -1.0)
    async with asked() as (house, result):
        answer = await again(house, result)
        assert refused_state(answer) and "time" in answer.json["error"]["message"]


async def test_a_state_of_another_principal_tool_endpoint_or_with_other_arguments_is_refused():
    async with asked() as (house, result):
        other_arguments = {"name": "read", "arguments": {"path": "/b"}}
        for answer in (
            await again(house, result, token="bob"),
            await again(house, result, {**CALL, "name": "write"}),
            await again(house, result, other_arguments),
            await again(house, result, {"name": "read"}),
            await again(house, result, path="/mcp/other"),
        ):
            assert refused_state(answer)
        assert len(house.desk.calls) == 1
        assert "result" in (await again(house, result)).json


async def test_a_state_can_not_be_taken_to_another_method():
    desk = a_desk()
    desk.listed.append(entry("prompt", "files", "read"))
    async with asked(desk) as (house, result):
        params = {**CALL, "requestState": result["requestState"], "inputResponses": {"who": ADA}}
        assert refused_state(await house.modern("prompts/get", params, meta=CAPABLE))
        assert len(desk.calls) == 1


async def test_answers_without_a_state_are_refused():
    async with open_house(a_desk()) as house:
        params = {**CALL, "inputResponses": {"who": ADA}}
        assert refused_state(await house.modern("tools/call", params, meta=CAPABLE))
        assert house.desk.calls == []


async def test_answers_that_are_no_object_are_refused_without_using_the_state_up():
    async with asked() as (house, result):
        for odd in ([ADA], "who", 1, True):
            answer = await again(house, result, responses=odd)
            assert answer.error == (200, -32602)
        assert len(house.desk.calls) == 1
        assert "result" in (await again(house, result)).json


async def test_answers_too_large_to_be_passed_on_reach_nobody():
    async with asked() as (house, result):
        answer = await again(house, result, responses={"who": {"action": "accept", "content": "x" * 300_000}})
        assert answer.json["result"]["isError"]
        assert "args_too_large" in answer.body.decode()
        assert len(house.desk.calls) == 1


async def test_rounds_are_for_tools_prompts_and_resources_only():
    desk = a_desk()
    desk.listed.append(entry("prompt", "files", "read"))
    async with open_house(desk) as house:
        params = {"ref": {"type": "ref/prompt", "name": "read"}, "argument": {"name": "a", "value": "b"}}
        answer = await house.modern("completion/complete", {**params, "requestState": "x"}, meta=CAPABLE)
        assert answer.error == (200, -32602) and desk.calls == []
        session = (await house.initialize()).headers["mcp-session-id"]
        answer = await house.legacy(session, "tools/call", {**CALL, "requestState": "x"})
        assert answer.error == (200, -32602) and desk.calls == []


# ------------------------------------------------------------------------------ what an upstream may not


@pytest.mark.parametrize(
    "outcome",
    [
        asking({"who": {"method": "sampling/createMessage", "params": {}}}),  # not declared
        asking({"who": {"method": "tools/list", "params": {}}}),
        asking({"who": {"method": "ping"}}),
        asking({"who": {"method": 7}}),
        asking({"who": {}}),
        asking({"who": "elicitation/create"}),
        asking([NAME]),
        asking({str(number): NAME for number in range(17)}),
        asking(state="x" * (64 * 1024 + 1)),
        asking(state=7),
        asking(state={"a": 1}),
        Outcome(
            status="input_required", result_json=b'{"resultType":"input_required","inputRequests":{"a":1'
        ),
        Outcome(
            status="input_required",
            result_json=b'{"resultType":"input_required","requestState":"a","requestState":"b"}',
        ),
    ],
)
async def test_a_question_the_client_can_not_be_asked_never_reaches_it(outcome):
    async with open_house(a_desk(outcome)) as house:
        answer = await house.modern("tools/call", CALL, meta=CAPABLE)
    assert answer.json["result"]["isError"] is True
    assert "upstream_bad_answer" in answer.body.decode() and "Your name?" not in answer.body.decode()
    assert "requestState" not in answer.json["result"]


async def test_a_client_that_declares_nothing_is_asked_nothing():
    async with open_house(a_desk()) as house:
        answer = await house.modern("tools/call", CALL)
    assert answer.json["result"]["isError"] is True and "Your name?" not in answer.body.decode()


async def test_what_is_too_large_to_be_kept_by_the_client_ends_the_call():
    large = {"who": {"method": "elicitation/create", "params": {"message": "x" * 150_000}}}
    async with open_house(a_desk(asking(large, "x" * 60_000))) as house:
        answer = await house.modern("tools/call", CALL, meta=CAPABLE)
    assert answer.json["result"]["isError"] is True and "result_too_large" in answer.body.decode()


async def test_an_upstream_does_not_speak_in_the_gateways_name_with_a_question():
    forged = asking(_meta={"dev.wardgate/decision": {"decision": "allow"}, "com.example/a": 1})
    async with asked(a_desk(forged)) as (_, result):
        assert result["_meta"] == {"com.example/a": 1}


async def test_capabilities_of_any_size_are_not_kept_for_a_modern_client():
    async with open_house(a_desk()) as house:
        large = {"io.modelcontextprotocol/clientCapabilities": {"elicitation": {"x": "y" * 20_000}}}
        answer = await house.modern("tools/call", CALL, meta=large)
        assert answer.status == 413 and house.desk.calls == []


# --------------------------------------------------------------------------------------------- policy

NO = Finding(code="no_questions", message="nobody is asked here", rule="r")


async def test_a_question_that_policy_refuses_ends_the_call_with_that_reason():
    desk = a_desk()
    desk.denied["files/elicitation/create"] = NO
    async with open_house(desk) as house:
        answer = await house.modern("tools/call", CALL, meta=CAPABLE)
        assert answer.json["result"]["isError"] and "no_questions" in answer.body.decode()
        assert "Your name?" not in answer.body.decode() and len(desk.calls) == 1
        assert ("block", "deny") in desk.recorded


async def test_an_answer_that_policy_refuses_ends_the_call_with_that_reason_and_no_contact():
    async with asked() as (house, result):
        house.desk.denied["files/elicitation/create"] = NO
        answer = await again(house, result)
        facts = answer.json["result"]["_meta"]["dev.wardgate/decision"]
        assert (facts["decision"], facts["reason"]) == ("deny", "no_questions")
        assert len(house.desk.calls) == 1


class Judging(support._Policy):
    """Result policy: ``secret`` is replaced, ``poison`` is withheld."""

    def wants_result(self, call):
        return True

    async def result(self, call, facts, outcome):
        said = await self.call(call, facts)
        if b"poison" in outcome.result_json:
            said = msgspec.structs.replace(said, verdict="deny", findings=(NO,))
        return ResultDecision(decision=said, result_json=outcome.result_json.replace(b"secret", b"[gone]"))


@pytest.fixture
def judged(monkeypatch):
    monkeypatch.setattr(support, "_Policy", Judging)


async def test_redacting_a_question_never_corrupts_the_upstreams_own_state(judged):
    ask = {"who": {"method": "elicitation/create", "params": {"message": "the secret word?"}}}
    async with asked(a_desk(asking(ask, "a secret state"))) as (house, result):
        assert result["inputRequests"]["who"]["params"]["message"] == "the [gone] word?"
        await again(house, result)
        assert orjson.loads(house.desk.calls[1].inputs_json)["requestState"] == "a secret state"


async def test_an_answer_is_redacted_before_the_upstream_sees_it(judged):
    async with asked() as (house, result):
        await again(house, result, responses={"who": {"action": "accept", "content": {"name": "secret"}}})
        sent = orjson.loads(house.desk.calls[1].inputs_json)["inputResponses"]["who"]
        assert sent == {"action": "accept", "content": {"name": "[gone]"}}


async def test_an_answer_that_is_withheld_is_not_told_as_a_call_that_was_made(judged):
    async with asked() as (house, result):
        answer = await again(house, result, responses={"who": {"action": "accept", "content": "poison"}})
        facts = answer.json["result"]["_meta"]["dev.wardgate/decision"]
        assert (facts["decision"], facts["reason"]) == ("deny", "no_questions")
        assert len(house.desk.calls) == 1


# ------------------------------------------------------------------------------------ for every state

SEAL = Seal(bytes(range(32)))
NOW = 10**18


@given(at=st.integers(0, 10_000), to=st.characters(max_codepoint=255))
@example(at=10_000, to="A")
@settings(max_examples=300, deadline=None)
def test_any_change_of_any_byte_of_a_state_is_refused(at, to):
    state = SEAL.close({"asked": {}, "state": "s"}, b"alice", NOW)
    at %= len(state)
    changed = state[:at] + to + state[at + 1 :]
    if changed != state:
        with pytest.raises(Rejected):
            SEAL.open(changed, b"alice", "alice", NOW)
    SEAL.open(state, b"alice", "alice", NOW)


def test_another_spelling_of_the_same_bytes_is_refused():
    spelt = 0
    for _ in range(200):
        state = SEAL.close({"asked": {}}, b"alice", NOW)
        # "-" and "_" as ordinary base64 writes them, and bits of the last character that stand for nothing.
        others = [state.translate(str.maketrans("-_", "+/"))]
        if state.endswith("="):
            last = state.rstrip("=")
            others += [last[:-1] + other + state[len(last) :] for other in "ABCDEFGHwxyz0123-_"]
        for other in others:
            if other != state:
                spelt += 1
                with pytest.raises(Rejected):
                    SEAL.open(other, b"alice", "alice", NOW)
    assert spelt > 200


principals = st.builds(
    Principal,
    tenant=st.sampled_from(["t", "u", 't","a']),
    agent=st.sampled_from(["a", "b", 'a","b']),
    owner=st.just("o"),
    credential=st.sampled_from(["k", "l"]),
    subject=st.sampled_from([None, "", "s", "null"]),
)


def identity(who: Principal):
    return who.tenant, who.agent, who.credential, who.subject


@given(first=principals, second=principals)
@settings(max_examples=200, deadline=None)
def test_two_principals_states_never_open_for_each_other(first, second):
    def bound(who):
        return binding(
            Ask(principal=who, surface="mcp", kind="tool", upstream="u", name="n", args={}, session="s")
        )

    state = SEAL.close({"asked": {}}, bound(first), NOW)
    if identity(first) != identity(second):
        with pytest.raises(Rejected):
            SEAL.open(state, bound(second), second, NOW)
    assert SEAL.open(state, bound(first), first, NOW) == {"asked": {}}


def test_what_can_not_be_remembered_is_not_opened_and_what_is_over_is_forgotten(monkeypatch):
    monkeypatch.setattr(seal, "MAX_TAKEN", 2)
    one = Seal(bytes(32))
    states = [one.close(number, b"", NOW) for number in range(3)]
    assert [one.open(state, b"", "a", NOW) for state in states[:2]] == [0, 1]
    with pytest.raises(Rejected) as full:
        one.open(states[2], b"", "a", NOW)
    assert full.value.code == "overloaded"
    assert one.open(one.close("of another", b"", NOW), b"", "b", NOW) == "of another"
    later = NOW + int((seal.LIFE_S + 1) * 1e9)
    fresh = one.close("fresh", b"", later)
    assert one.open(fresh, b"", "a", later) == "fresh"
    assert len(one._taken["a"]) == 1
