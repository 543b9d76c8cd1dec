"""The official client, in every mode it has, against the front over real HTTP."""

from __future__ import annotations

import contextlib

import httpx2
import mcp
import orjson
import pytest
from mcp.client.streamable_http import streamable_http_client

from gateway.model import Finding
from tests.surfaces.mcp.support import Desk, entry, ok, open_house

MODES = ["auto", "2026-07-28", "legacy"]


@contextlib.asynccontextmanager
async def client(house, mode, *, path="/mcp/files", token="alice", **more):
    headers = {"Authorization": f"Bearer {token}"}
    async with httpx2.AsyncClient(headers=headers, timeout=10) as http:
        transport = streamable_http_client(house.url + path, http_client=http)
        async with mcp.Client(transport, mode=mode, **more) as session:
            yield session


def full_desk() -> Desk:
    template = orjson.dumps({"name": "t", "uriTemplate": "file:///{p}"})
    schema = {"type": "object", "properties": {"path": {"type": "string"}}}
    tool = orjson.dumps({"name": "read", "inputSchema": schema, "description": "Reads."})
    return Desk(
        [
            entry("tool", "files", "read", tool),
            entry("prompt", "files", "ask", orjson.dumps({"name": "ask", "arguments": [{"name": "x"}]})),
            entry("resource", "files", "file:///a"),
            entry("resource", "files", "file:///{p}", template),
        ]
    )


@pytest.mark.parametrize("mode", MODES)
async def test_the_official_client_lists_and_calls(mode):
    desk = full_desk()

    async def handler(call, emit):
        results = {
            "tool": b'{"content":[{"type":"text","text":"hello"}]}',
            "prompt": b'{"messages":[{"role":"user","content":{"type":"text","text":"hi"}}]}',
            "resource": b'{"contents":[{"uri":"file:///a","text":"body"}]}',
            "completion": b'{"completion":{"values":["one"]}}',
        }
        return ok(results[call.tool.kind])

    desk.handler = handler
    async with open_house(desk) as house, client(house, mode) as session:
        assert [tool.name for tool in (await session.list_tools()).tools] == ["read"]
        result = await session.call_tool("read", {"path": "a"})
        assert not result.is_error and result.content[0].text == "hello"
        assert [prompt.name for prompt in (await session.list_prompts()).prompts] == ["ask"]
        assert (await session.get_prompt("ask", {"x": "1"})).messages[0].content.text == "hi"
        assert [str(r.uri) for r in (await session.list_resources()).resources] == ["file:///a"]
        templates = (await session.list_resource_templates()).resource_templates
        assert [t.uri_template for t in templates] == ["file:///{p}"]
        assert (await session.read_resource("file:///a")).contents[0].text == "body"
        done = await session.complete(mcp.types.PromptReference(name="ask"), {"name": "x", "value": "o"})
        assert done.completion.values == ["one"]
    assert [call.tool.kind for call in desk.calls] == ["tool", "prompt", "resource", "completion"]


@pytest.mark.parametrize("mode", MODES)
async def test_the_official_client_reads_a_denial_as_a_result_and_goes_on(mode):
    desk = full_desk()
    desk.denied["files/read"] = Finding(code="closed", message="Closed today.", rule="r", remedy="Come back.")
    async with open_house(desk) as house, client(house, mode) as session:
        denied = await session.call_tool("read", {"path": "a"})
        assert denied.is_error and "Closed today. Come back." in denied.content[0].text
        assert denied.meta["dev.wardgate/decision"]["reason"] == "closed"
        with pytest.raises(mcp.MCPError) as unknown:
            await session.call_tool("absent", {})
        assert unknown.value.error.message == "Unknown tool: absent"
        desk.denied.clear()
        assert not (await session.call_tool("read", {"path": "a"})).is_error
    assert len(desk.calls) == 1


@pytest.mark.parametrize("mode", MODES)
async def test_the_official_client_sees_progress(mode):
    desk = full_desk()

    async def handler(call, emit):
        token = orjson.loads(call.client_meta_json)["progressToken"]
        for at in (1, 2):
            note = {"progressToken": token, "progress": at, "total": 2}
            message = {"jsonrpc": "2.0", "method": "notifications/progress", "params": note}
            await emit.notify(orjson.dumps(message))
        return ok()

    desk.handler = handler
    seen = []

    async def on_progress(progress, total, message):
        seen.append((progress, total))

    async with open_house(desk) as house, client(house, mode) as session:
        await session.call_tool("read", {}, progress_callback=on_progress)
    assert seen == [(1.0, 2.0), (2.0, 2.0)]


@pytest.mark.parametrize("mode", MODES)
async def test_the_official_client_works_on_the_aggregate(mode):
    desk = full_desk()
    async with open_house(desk) as house, client(house, mode, path="/mcp") as session:
        (tool,) = (await session.list_tools()).tools
        assert tool.name == "files__read"
        assert not (await session.call_tool(tool.name, {"path": "a"})).is_error
    assert desk.calls[0].tool.target == "files/read"


@pytest.mark.parametrize("mode", MODES)
async def test_the_official_client_without_a_key_gets_nowhere(mode):
    desk = full_desk()
    async with open_house(desk) as house:
        with pytest.raises(Exception):  # noqa: B017  # which one is the client's affair
            async with client(house, mode, token="nobody") as session:
                await session.call_tool("read", {})
    assert desk.calls == []
