"""Revision 2026-07-28: every request explains itself, and its headers repeat it."""

from __future__ import annotations

import base64

import orjson
import pytest

from gateway.model import Finding
from tests.surfaces.mcp.support import META, VERSION, Desk, entry, open_house


async def test_a_call_reaches_the_upstream_and_its_result_the_client():
    async with open_house() as house:
        answer = await house.modern("tools/call", {"name": "read", "arguments": {"path": "a"}}, id="x-1")
    assert answer.status == 200 and answer.headers["content-type"] == "application/json"
    assert answer.json == {
        "jsonrpc": "2.0",
        "id": "x-1",
        "result": {"resultType": "complete", "content": [{"type": "text", "text": "done"}]},
    }
    (call,) = house.desk.calls
    assert (call.tool.target, call.args_json, call.surface) == ("files/read", b'{"path":"a"}', "mcp")


async def test_discovery_names_the_version_the_capabilities_and_the_upstream():
    desk = Desk()
    from tests.surfaces.mcp.support import Info

    desk.infos["files"] = Info({"tools": {"listChanged": True}, "resources": {"subscribe": True}, "odd": {}})
    async with open_house(desk) as house:
        answer = await house.modern("server/discover")
        aggregate = await house.modern("server/discover", path="/mcp")
    result = answer.json["result"]
    assert result["supportedVersions"] == [VERSION]
    assert result["capabilities"] == {
        "tools": {"listChanged": True},
        "resources": {"subscribe": True, "listChanged": True},
    }
    assert result["instructions"] == "Be kind to files."
    assert result["_meta"]["io.modelcontextprotocol/serverInfo"]["name"] == "files"
    assert (result["resultType"], result["cacheScope"]) == ("complete", "private")
    assert aggregate.json["result"]["_meta"]["io.modelcontextprotocol/serverInfo"]["name"] == "wardgate"


@pytest.mark.parametrize("missing", ["protocolVersion", "clientCapabilities", None])
async def test_a_request_without_its_envelope_is_refused(missing):
    meta = {k: v for k, v in META.items() if missing is not None and not k.endswith(missing)}
    params = {"_meta": meta} if missing is not None else {}
    message = {"jsonrpc": "2.0", "id": 7, "method": "server/discover", "params": params}
    headers = {"MCP-Protocol-Version": VERSION, "Mcp-Method": "server/discover"}
    async with open_house() as house:
        answer = await house.post(message, headers=headers)
    assert answer.error == (400, -32602) and answer.json["id"] == 7


@pytest.mark.parametrize(
    ("headers", "code"),
    [
        ({"MCP-Protocol-Version": ""}, -32020),
        ({"MCP-Protocol-Version": "2025-11-25"}, -32020),
        ({"Mcp-Method": ""}, -32020),
        ({"Mcp-Method": "tools/list"}, -32020),
        ({"Mcp-Method": "TOOLS/CALL"}, -32020),
        ({"Mcp-Name": ""}, -32020),
        ({"Mcp-Name": "write"}, -32020),
        ({"Mcp-Name": "=?base64?d3JpdGU=?="}, -32020),
        ({"Mcp-Name": "=?base64?cmVhZB==?="}, -32020),  # not the canonical spelling of "read"
        ({"Mcp-Name": "=?base64?%%%?="}, -32020),
        ({"Mcp-Name": "réad"}, -32020),
    ],
)
async def test_a_header_that_does_not_repeat_the_body_is_refused(headers, code):
    async with open_house() as house:
        answer = await house.modern("tools/call", {"name": "read", "arguments": {}}, headers=headers)
    assert answer.error == (400, code)
    assert answer.json["error"]["data"]["reason"] == "header_mismatch"
    assert house.desk.calls == [] and house.desk.noted[0][:2] == ("header_mismatch", "alice")


async def test_a_name_may_be_encoded_and_padded_with_white_space():
    encoded = "=?base64?" + base64.b64encode(b"read").decode() + "?="
    async with open_house() as house:
        for name in (encoded, "  read  "):
            answer = await house.modern("tools/call", {"name": "read"}, headers={"Mcp-Name": name})
            assert "result" in answer.json


@pytest.mark.parametrize("name", ["MCP-Protocol-Version", "Mcp-Method", "Mcp-Name"])
async def test_a_protocol_header_sent_twice_is_refused_even_when_both_agree(name):
    values = {"MCP-Protocol-Version": VERSION, "Mcp-Method": "tools/call", "Mcp-Name": "read"}
    async with open_house() as house:
        answer = await house.modern("tools/call", {"name": "read"}, extra=[(name, values[name])])
    assert answer.error == (400, -32020) and house.desk.calls == []


async def test_an_unknown_version_is_answered_with_the_known_ones():
    async with open_house() as house:
        answer = await house.modern(
            "server/discover",
            meta={"io.modelcontextprotocol/protocolVersion": "v999"},
            headers={"MCP-Protocol-Version": "v999"},
        )
    assert answer.error == (400, -32022)
    data = answer.json["error"]["data"]
    assert data["supported"] == [VERSION] and data["requested"] == "v999"


@pytest.mark.parametrize(
    "method", ["initialize", "ping", "logging/setLevel", "resources/subscribe", "tasks/get", "x/y", ""]
)
async def test_a_method_nobody_thought_about_is_refused(method):
    async with open_house() as house:
        answer = await house.modern(method, headers={"Mcp-Method": method or '""'})
    assert answer.status in (400, 404) and house.desk.calls == []
    if method:
        assert answer.error == (404, -32601)


ANNOTATED = orjson.dumps(
    {
        "name": "query",
        "inputSchema": {
            "type": "object",
            "properties": {
                "region": {"type": "string", "x-mcp-header": "Region"},
                "at": {"type": "object", "properties": {"row": {"type": "integer", "x-mcp-header": "Row"}}},
            },
        },
    }
)


@pytest.mark.parametrize(
    ("arguments", "headers", "accepted"),
    [
        ({"region": "eu"}, [("Mcp-Param-Region", "eu")], True),
        ({"region": "eu", "at": {"row": 42}}, [("mcp-param-region", "eu"), ("Mcp-Param-Row", "42.0")], True),
        ({"region": "ü"}, [("Mcp-Param-Region", "=?base64?w7w=?=")], True),
        ({}, [], True),
        ({"region": None}, [], True),
        ({"region": "eu"}, [("Mcp-Param-Region", "eu"), ("Mcp-Param-Other", "x")], True),
        ({"region": "eu"}, [], False),
        ({"region": "eu"}, [("Mcp-Param-Region", "us")], False),
        ({"region": "eu"}, [("Mcp-Param-Region", "eu"), ("Mcp-Param-Region", "eu")], False),
        ({}, [("Mcp-Param-Region", "eu")], False),
        ({"region": "eu"}, [("Mcp-Param-Region", "=?base64?!?=")], False),
        ({"at": {"row": 1}}, [("Mcp-Param-Row", "1e0")], False),
        ({"at": "no object"}, [("Mcp-Param-Row", "1")], False),
    ],
)
async def test_arguments_that_clients_repeat_in_headers_must_agree(arguments, headers, accepted):
    async with open_house(Desk([entry("tool", "files", "query", ANNOTATED)])) as house:
        params = {"name": "query", "arguments": arguments}
        answer = await house.modern("tools/call", params, extra=headers)
    if accepted:
        assert "result" in answer.json and len(house.desk.calls) == 1
    else:
        assert answer.error == (400, -32020) and house.desk.calls == []


async def test_a_header_complaint_does_not_give_a_hidden_tool_away():
    desk = Desk([entry("tool", "files", "query", ANNOTATED)])
    desk.hidden.add(("alice", "files/query"))
    async with open_house(desk) as house:
        hidden = await house.modern("tools/call", {"name": "query", "arguments": {"region": "eu"}})
    assert hidden.error == (200, -32602)
    assert hidden.json["error"]["message"] == "Unknown tool: query"


async def test_input_rounds_are_refused_because_no_policy_has_seen_them():
    async with open_house() as house:
        params = {"name": "read", "inputResponses": {"a": {}}}
        answer = await house.modern("tools/call", params)
    assert answer.error == (200, -32602) and house.desk.calls == []


async def test_a_denied_call_says_so_with_the_era_it_was_asked_in():
    desk = Desk()
    desk.denied["files/read"] = Finding(code="too_big", message="Too big.", rule="r.one", remedy="Send less.")
    async with open_house(desk) as house:
        result = (await house.modern("tools/call", {"name": "read"})).json["result"]
    assert result["isError"] is True and result["resultType"] == "complete"
    assert house.desk.calls == []
