"""Answers an agent can act on, and results that arrive as they were sent."""

from __future__ import annotations

import json

import msgspec
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import Overloaded
from gateway.model import Answer, Decision, Finding, Outcome, Refusal
from gateway.reasons import REASONS
from gateway.surfaces.mcp import answers
from tests.surfaces.mcp.support import Desk, entry, open_house

ODD = (
    b'{ "content":[{"type":"text","text":"\\u00e9\\/ \xc3\xa9","annotations":{"x":[ ]}}],'
    b'"big":123456789012345678901234567890, "odd":1.10e+02,"zero":-0.0, "new":{"unknown":null} }'
)


async def test_a_result_arrives_byte_for_byte():
    desk = Desk()
    desk.answer = Outcome(status="ok", result_json=ODD)
    async with open_house(desk) as house:
        session = (await house.initialize()).headers["mcp-session-id"]
        legacy = await house.legacy(session, "tools/call", {"name": "read"})
        modern = await house.modern("tools/call", {"name": "read"})
    assert legacy.body == b'{"jsonrpc":"2.0","id":1,"result":' + ODD + b"}"
    added = b'{"resultType":"complete",' + ODD[1:]
    assert modern.body == b'{"jsonrpc":"2.0","id":1,"result":' + added + b"}"


@pytest.mark.parametrize(
    ("raw", "modern", "expected"),
    [
        (b"{}", True, b'{"resultType":"complete"}'),
        (b" { } ", True, b'{"resultType":"complete" } '),
        (b"{}", False, b"{}"),
        (b'{"resultType":"complete"}', True, b'{"resultType":"complete"}'),
        (b'{"result\\u0054ype":"complete"}', True, b'{"result\\u0054ype":"complete"}'),
        (b'{"content":"resultType"}', True, b'{"resultType":"complete","content":"resultType"}'),
        (b'{"_meta":{"a":1}}', False, b'{"_meta":{"a":1}}'),
    ],
)
def test_only_a_missing_result_type_is_added_and_only_for_modern_clients(raw, modern, expected):
    assert answers.relay(raw, "tools/call", modern=modern) == expected


def test_a_read_resource_gets_the_cache_hints_modern_clients_must_have():
    assert json.loads(answers.relay(b'{"contents":[]}', "resources/read", modern=True)) == {
        "resultType": "complete",
        "ttlMs": 0,
        "cacheScope": "private",
        "contents": [],
    }
    said = b'{"ttlMs":5,"cacheScope":"public","resultType":"complete"}'
    assert answers.relay(said, "resources/read", modern=True) == said


@pytest.mark.parametrize(
    "raw", [b'{"resultType":"input_required"}', b'{"resultType":1}', b'{"_meta":[]}', b'{"_meta"']
)
def test_a_result_that_cannot_be_followed_up_is_not_relayed(raw):
    with pytest.raises(answers.BadResult):
        answers.relay(raw, "tools/call", modern=True)


@pytest.mark.parametrize("key", ["dev.wardgate/decision", "dev.wardg\\u0061te/decision", "dev.wardgate/x"])
def test_an_upstream_cannot_speak_in_the_gateways_name(key):
    raw = b'{"_meta":{"%b":{"decision":"pending"},"theirs":1.50},"big":99999999999999999999}' % key.encode()
    for modern in (True, False):
        relayed = answers.relay(raw, "tools/call", modern=modern)
        assert json.loads(relayed)["_meta"] == {"theirs": 1.5}
        assert b"1.50" in relayed and b"99999999999999999999" in relayed


async def test_notes_of_warning_rules_travel_in_meta_only():
    desk = Desk()
    desk.notes = (Finding(code="slow_down", message="Getting close.", rule="r.w"),)
    desk.answer = Outcome(status="ok", result_json=b'{"content":[],"x":1e1,"_meta":{"k":1.0}}')
    async with open_house(desk) as house:
        answer = await house.modern("tools/call", {"name": "read"})
    result = answer.json["result"]
    assert result["content"] == [] and b'"x":1e1' in answer.body and b'"k":1.0' in answer.body
    mark = result["_meta"]["dev.wardgate/decision"]
    assert (mark["decision"], mark["notes"][0]["reason"]) == ("allow", "slow_down")


async def test_a_denial_is_a_result_the_model_reads_with_what_why_and_remedy():
    desk = Desk()
    desk.denied["files/read"] = Finding(
        code="outside_folder", message="The folder is closed.", rule="files.scope", remedy="Use /public."
    )
    async with open_house(desk) as house:
        answer = await house.modern("tools/call", {"name": "read", "arguments": {"path": "/etc/shadow"}})
    assert answer.status == 200
    result = answer.json["result"]
    assert result["isError"] is True and "structuredContent" not in result
    (block,) = result["content"]
    sentence, facts = block["text"].split("\n")
    assert sentence == "Refused: The folder is closed. Use /public."
    assert json.loads(facts) == result["_meta"]["dev.wardgate/decision"]
    assert json.loads(facts) == {
        "v": 1,
        "decision": "deny",
        "reason": "outside_folder",
        "rule": "files.scope",
        "decision_id": json.loads(facts)["decision_id"],
        "retryable": False,
        "retry_after_ms": None,
        "approval_id": None,
        "remedy": "Use /public.",
    }
    assert b"shadow" not in answer.body and desk.calls == []
    assert desk.recorded == [("block", "deny")]


async def test_an_escalation_nobody_can_answer_says_so():
    desk = Desk()
    desk.verdict = "escalate"
    desk.denied["files/read"] = Finding(code="needs_person", message="Needs a person.")
    async with open_house(desk) as house:
        result = (await house.modern("tools/call", {"name": "read"})).json["result"]
    mark = result["_meta"]["dev.wardgate/decision"]
    assert (mark["decision"], mark["reason"]) == ("deny", "approvals_not_configured") and desk.calls == []


async def test_an_overloaded_gateway_is_a_result_with_a_retry_hint_never_a_status():
    desk = Desk()

    def full(principal):
        raise Overloaded("overloaded", retry_after=1.5)

    desk.limits.enter = full
    async with open_house(desk) as house:
        answer = await house.modern("tools/call", {"name": "read"})
    mark = answer.json["result"]["_meta"]["dev.wardgate/decision"]
    assert (answer.status, answer.headers["retry-after"]) == (200, "2")
    assert (mark["decision"], mark["retryable"], mark["retry_after_ms"]) == ("unavailable", True, 1500)
    assert desk.calls == []


@pytest.mark.parametrize(
    ("outcome", "said", "retryable"),
    [
        (Outcome(status="not_sent", code="upstream_unavailable"), "unavailable", True),
        (Outcome(status="in_doubt", code="upstream_timeout"), "in_doubt", False),
        (Outcome(status="in_doubt", code="upstream_bad_answer"), "in_doubt", False),
        (Outcome(status="withheld", code="result_too_large"), "withheld", False),
        (Outcome(status="failed", code="upstream_error"), "failed", False),
        (Outcome(status="ok", result_json=b'{"resultType":"task"}'), "withheld", False),
    ],
)
async def test_what_became_of_a_call_is_said_in_one_word(outcome, said, retryable):
    desk = Desk()
    desk.answer = outcome
    async with open_house(desk) as house:
        answer = await house.modern("tools/call", {"name": "read"})
    mark = answer.json["result"]["_meta"]["dev.wardgate/decision"]
    assert answer.status == 200
    assert (mark["decision"], mark["retryable"]) == (said, retryable)


def test_a_call_that_was_made_is_never_said_not_to_have_been():
    refusal = Refusal(
        code="journal_unavailable", message=REASONS["journal_unavailable"].message, retryable=True
    )
    answer = Answer(call_id="c", action="allow", outcome=Outcome(status="ok"), refusal=refusal)
    reply = json.loads(answers.reply(answer, b"1", "tools/call", modern=True).body)
    mark = reply["result"]["_meta"]["dev.wardgate/decision"]
    assert (mark["decision"], mark["retryable"]) == ("withheld", False)
    assert "was not made" not in reply["result"]["content"][0]["text"]


async def test_an_upstreams_own_error_is_relayed_as_it_was():
    desk = Desk()
    desk.answer = Outcome(status="rpc_error", error_json=b'{"code":-32602,"message":"no","data":{"n":1.0}}')
    async with open_house(desk) as house:
        answer = await house.modern("tools/call", {"name": "read"}, id="q")
    assert (
        answer.body == b'{"jsonrpc":"2.0","id":"q","error":{"code":-32602,"message":"no","data":{"n":1.0}}}'
    )


async def test_a_missing_client_capability_is_an_http_error_for_modern_clients_only():
    desk = Desk()
    desk.answer = Outcome(status="rpc_error", error_json=b'{"code":-32021,"message":"needs sampling"}')
    async with open_house(desk) as house:
        session = (await house.initialize()).headers["mcp-session-id"]
        assert (await house.modern("tools/call", {"name": "read"})).error == (400, -32021)
        assert (await house.legacy(session, "tools/call", {"name": "read"})).error == (200, -32021)
        desk.answer = Outcome(status="rpc_error", error_json=b'{"code":7,"message":"not -32021"}')
        assert (await house.modern("tools/call", {"name": "read"})).error == (200, 7)


async def test_prompts_resources_and_completions_are_refused_with_an_error_and_its_facts():
    desk = Desk([entry("prompt", "files", "ask"), entry("resource", "files", "file:///a")])
    for target in ("files/ask", "files/file:///a"):
        desk.denied[target] = Finding(code="closed", message="Closed.", rule="r")
    ref = {"ref": {"type": "ref/prompt", "name": "ask"}, "argument": {"name": "x", "value": "secret-value"}}
    async with open_house(desk) as house:
        for method, params in (
            ("prompts/get", {"name": "ask", "arguments": {"x": "secret-value"}}),
            ("resources/read", {"uri": "file:///a"}),
            ("completion/complete", ref),
        ):
            answer = await house.modern(method, params)
            assert answer.error == (200, 1403), method
            assert answer.json["error"]["data"]["reason"] == "closed"
            assert b"secret-value" not in answer.body
    assert desk.calls == []


async def test_a_hidden_tool_and_one_that_does_not_exist_answer_with_the_same_bytes():
    desk = Desk([entry("tool", "files", "read"), entry("tool", "files", "gone")])
    desk.hidden.add(("alice", "files/read"))
    async with open_house(desk) as house:
        hidden = await house.modern("tools/call", {"name": "read", "arguments": {"a": 1}})
        desk.listed = desk.listed[1:]
        desk.revision = "c2"
        absent = await house.modern("tools/call", {"name": "read", "arguments": {"a": 1}})
    assert hidden.body == absent.body and hidden.status == absent.status == 200
    assert hidden.json["error"] == {"code": -32602, "message": "Unknown tool: read"}
    assert [code for code, *_ in desk.noted] == ["not_visible", "unknown_tool"] and desk.calls == []


async def test_a_resource_nobody_has_is_told_in_the_clients_own_era():
    async with open_house() as house:
        session = (await house.initialize()).headers["mcp-session-id"]
        modern = await house.modern("resources/read", {"uri": "file:///none"})
        legacy = await house.legacy(session, "resources/read", {"uri": "file:///none"})
    assert modern.json["error"]["code"] == -32602 and legacy.json["error"]["code"] == -32002
    assert modern.json["error"]["data"] == {"uri": "file:///none"}


VALUE = st.text(alphabet=st.characters(min_codepoint=0x4E00, max_codepoint=0x9FFF), min_size=3, max_size=12)


@given(
    value=VALUE,
    code=st.sampled_from(sorted(REASONS)),
    method=st.sampled_from(["tools/call", "prompts/get", "resources/read", "completion/complete"]),
    status=st.sampled_from([None, "ok", "in_doubt", "not_sent", "withheld", "failed"]),
    modern=st.booleans(),
)
def test_a_refusal_never_repeats_what_was_sent_or_received(value, code, method, status, modern):
    """Whatever the upstream returned and the details say, only words of the reason list go out."""
    reason = REASONS[code]
    raw = orjson.dumps({"content": value})
    outcome = None if status is None else Outcome(status=status, code=code, detail=value, result_json=raw)
    decision = Decision(verdict="deny", findings=(Finding(code=code, message="m"),), labels=(value,))
    refusal = Refusal(code=code, message=reason.message, remedy=reason.remedy)
    answer = Answer(call_id="c", action="block", decision=decision, outcome=outcome, refusal=refusal)
    body = answers.reply(answer, b"1", method, modern=modern).body.decode()
    assert value not in body and value not in json.dumps(json.loads(body), ensure_ascii=False)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**80), 2**80) | st.text(max_size=8)
    | st.floats(allow_nan=False, allow_infinity=False),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=12,
)  # fmt: skip
KEYS = st.sampled_from(["content", "isError", "_meta_", "x", "ttlMs", "é"]) | st.text(max_size=6)


@given(
    members=st.dictionaries(KEYS, JSON, max_size=5), indent=st.sampled_from([None, 1]), ascii_=st.booleans()
)
def test_relaying_adds_and_never_changes(members, indent, ascii_):
    members.pop("_meta", None)
    members.pop("resultType", None)
    raw = json.dumps(members, indent=indent, ensure_ascii=ascii_).encode()
    assert answers.relay(raw, "tools/call", modern=False) == raw
    relayed = answers.relay(raw, "tools/call", modern=True)
    assert relayed.endswith(raw[1:])
    assert json.loads(relayed) == {"resultType": "complete", **members}
    marked = answers.relay(raw, "tools/call", modern=False, mark={"v": 1})
    shown = json.loads(marked)
    assert shown.pop("_meta") == {"dev.wardgate/decision": {"v": 1}} and shown == members
    kept = msgspec.json.decode(marked, type=dict[str, msgspec.Raw])
    assert {key: bytes(kept[key]) for key in members} == {
        key: bytes(value) for key, value in msgspec.json.decode(raw, type=dict[str, msgspec.Raw]).items()
    }
