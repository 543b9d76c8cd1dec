"""``wardgate stdio`` in front of a real gateway and the conformance server: what passes besides calls."""

from __future__ import annotations

import asyncio
import json
import sys
from contextlib import ExitStack, asynccontextmanager, suppress
from typing import Any

import httpx
import pytest
from mcp import StdioServerParameters
from mcp.shared.exceptions import MCPDeprecationWarning

from gateway.cli import bridge as bridging
from gateway.cli import tool_headers
from gateway.cli.tool_headers import ToolHeaders
from tests.cli.running import WARDGATE
from tests.conformance import processes
from tests.conformance.client import MODES, talking
from tests.e2e.gateway import ROOT, Wardgate

pytestmark = pytest.mark.filterwarnings(f"ignore::{MCPDeprecationWarning.__module__}.MCPDeprecationWarning")

UPSTREAMS = ("legacy", "modern")
WATCHED = "test://watched-resource"
cells = pytest.mark.parametrize(
    ("upstream", "mode"), [(upstream, mode) for upstream in UPSTREAMS for mode in MODES]
)


@pytest.fixture(scope="module")
def wardgate(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bridge")
    with ExitStack() as stack:
        upstreams = {}
        for era in UPSTREAMS:
            url = stack.enter_context(processes.fixture(folder / f"{era}.log", era=era))
            upstreams[era] = {"url": url, "tools": {"*": {"risk": "read"}}}
        made = Wardgate(folder / "gateway", upstreams)
        stack.callback(made.close)
        yield made.start()


@pytest.fixture
def bridged(wardgate):
    def connect(upstream, mode, **options):
        url = f"{wardgate.agents_url}/mcp/{upstream}"
        server = StdioServerParameters(
            command=WARDGATE[0],
            args=[*WARDGATE[1:], "stdio", "--url", url],
            env={"WARDGATE_KEY": wardgate.key(), "PYTHONPATH": str(ROOT)},
        )
        return talking(server, mode, **options)

    return connect


@cells
async def test_questions_log_messages_and_progress_pass_through(bridged, upstream, mode):
    async with bridged(upstream, mode, log_level=None if mode == "legacy" else "info") as (client, reached):
        result = await client.call_tool("test_elicitation", {"message": "Who are you?"})
        assert '"username": "ada"' in str(result.content)
        result = await client.call_tool("test_sampling", {"prompt": "The capital?"})
        assert "Paris" in str(result.content)
        assert reached.asked == ["elicitation/create", "sampling/createMessage"]
        if mode == "legacy":
            await client.set_logging_level("info")
        await client.call_tool("test_tool_with_logging", {})
        steps = []

        async def on_progress(done, total, _message):
            steps.append((done, total))

        await client.call_tool("test_tool_with_progress", {}, progress_callback=on_progress)
    assert reached.logged == ["Tool execution started", "Tool processing data", "Tool execution completed"]
    assert steps == [(0, 100), (50, 100), (100, 100)]


@pytest.mark.parametrize("upstream", UPSTREAMS)
async def test_a_legacy_client_hears_of_a_resource_it_watches(bridged, upstream):
    async with bridged(upstream, "legacy") as (client, reached):
        await client.subscribe_resource(WATCHED)
        async with asyncio.timeout(10):
            while "notifications/resources/updated" not in reached.notes:
                await client.call_tool("test_trigger_resource_update", {})
                await asyncio.sleep(0.1)


@pytest.mark.parametrize("upstream", UPSTREAMS)
async def test_a_modern_client_hears_of_a_resource_it_listens_for(bridged, upstream):
    async with (
        bridged(upstream, "2026-07-28") as (client, _),
        client.listen(resource_subscriptions=[WATCHED]) as heard,
    ):
        event = None
        async with asyncio.timeout(10):
            while event is None:
                await client.call_tool("test_trigger_resource_update", {})
                with suppress(TimeoutError):
                    event = await asyncio.wait_for(anext(heard), 0.3)
    assert type(event).__name__ == "ResourceUpdated"


# ---------------------------------------------------------------------------- arguments in headers

META = {
    "io.modelcontextprotocol/protocolVersion": "2026-07-28",
    "io.modelcontextprotocol/clientCapabilities": {},
}


class Lines:
    """The bridge as a bare process: one message a line."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process

    async def ask(self, number: Any, method: str, **params: Any) -> dict[str, Any]:
        assert self.process.stdin is not None and self.process.stdout is not None
        message = {"jsonrpc": "2.0", "id": number, "method": method, "params": {**params, "_meta": META}}
        self.process.stdin.write(json.dumps(message).encode() + b"\n")
        async with asyncio.timeout(10):
            while (answer := json.loads(await self.process.stdout.readline())).get("id") != number:
                pass
        return answer


@asynccontextmanager
async def lines(wardgate, upstream="modern"):
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "gateway.cli", "stdio", "--url", f"{wardgate.agents_url}/mcp/{upstream}",
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, cwd=ROOT,
        env={"WARDGATE_KEY": wardgate.key(), "PYTHONPATH": str(ROOT), "PATH": ""},
    )  # fmt: skip
    try:
        yield Lines(process)
    finally:
        with suppress(ProcessLookupError):
            process.terminate()
        await process.wait()


@pytest.mark.parametrize("listed", [True, False])
async def test_an_argument_that_a_tool_wants_in_a_header_is_written_there(wardgate, listed):
    async with lines(wardgate) as bridge:
        if listed:
            assert "result" in await bridge.ask("list", "tools/list")
        for number, region in enumerate(("eu-west", "zürich\r\nx: y", " padded ", "")):
            answer = await bridge.ask(
                number, "tools/call", name="test_x_mcp_header", arguments={"region": region}
            )
            assert "result" in answer and not answer["result"].get("isError"), answer


async def test_a_tool_that_nobody_lists_is_called_and_refused_as_without_the_bridge(wardgate):
    async with lines(wardgate) as bridge:
        answer = await bridge.ask(1, "tools/call", name="nothing", arguments={})
        assert answer["error"]["code"] == -32602
        assert "result" in await bridge.ask(2, "tools/call", name="test_simple_text", arguments={})


def listed(*tools: Any, cursor: str | None = None) -> dict[str, Any]:
    return {"tools": list(tools), **({"nextCursor": cursor} if cursor else {})}


def annotated(name: str, header: str = "Region") -> dict[str, Any]:
    properties = {"region": {"type": "string", "x-mcp-header": header}}
    return {"name": name, "inputSchema": {"type": "object", "properties": properties}}


async def test_a_tool_that_wants_another_header_than_it_was_listed_with_is_listed_again_once():
    """The gateway refuses before anything becomes a call, so the same line may be sent again."""
    header, sent, written = "Region", [], []

    async def gateway(request: httpx.Request) -> httpx.Response:
        message = json.loads(request.content)
        sent.append((message["method"], dict(request.headers)))
        base = {"jsonrpc": "2.0", "id": message["id"]}
        if message["method"] == "tools/list":
            first = "cursor" not in message["params"]
            page = listed({"name": "other"}, cursor="2") if first else listed(annotated("call", header))
            return httpx.Response(200, json={**base, "result": page})
        if request.headers.get(f"mcp-param-{header}") != "eu":
            error = {"code": -32020, "message": "mismatch"}
            return httpx.Response(400, json={**base, "error": error})
        return httpx.Response(200, json={**base, "result": {"content": []}})

    async def write(line: bytes) -> None:
        written.append(json.loads(line))

    made = bridging.Bridge("http://127.0.0.1:1/mcp", "k", write, written.append)
    made._http = httpx.AsyncClient(transport=httpx.MockTransport(gateway))

    async def call(number: int) -> None:
        params = {"name": "call", "arguments": {"region": "eu"}, "_meta": META}
        message = {"jsonrpc": "2.0", "id": number, "method": "tools/call", "params": params}
        await made._accept(json.dumps(message).encode())
        await asyncio.gather(*(each.task for each in made._under_way.values()))

    await call(1)
    assert [method for method, _ in sent] == ["tools/list", "tools/list", "tools/call"]
    header = "Zone"
    await call(2)
    assert [method for method, _ in sent[3:]] == ["tools/call", "tools/list", "tools/list", "tools/call"]
    assert "mcp-param-region" not in sent[-1][1]
    header = "No Token"  # no header that can be written: the refusal is passed on, and nothing goes round
    await call(3)
    assert [method for method, _ in sent[7:]].count("tools/call") == 2
    assert ["error" in answer for answer in written] == [False, False, True]
    await made.close()


@pytest.mark.parametrize("odd", [None, [], {"tools": None}, {"tools": [None, 1, {}, {"name": 7}]}, "x"])
def test_a_list_of_another_shape_teaches_nothing(odd):
    assert ToolHeaders().learn(odd) is None


def test_what_is_remembered_is_bounded_and_the_last_list_counts(monkeypatch):
    monkeypatch.setattr(tool_headers, "MAX_TOOLS", 2)
    seen = ToolHeaders()
    seen.learn(listed(annotated("a"), annotated("b"), annotated("c")))
    assert [seen.knows(name) for name in "abc"] == [True, True, False]
    assert seen.of({"name": "a", "arguments": {"region": "eu"}}) == {"mcp-param-Region": "eu"}
    seen.learn(listed({"name": "a", "inputSchema": {"type": "object"}}))
    assert seen.of({"name": "a", "arguments": {"region": "eu"}}) == {}


async def test_an_open_subscription_does_not_keep_the_bridge_from_ending(wardgate):
    async with lines(wardgate) as bridge:
        listen = {"notifications": {"toolsListChanged": True}, "_meta": META}
        message = {"jsonrpc": "2.0", "id": "s", "method": "subscriptions/listen", "params": listen}
        bridge.process.stdin.write(json.dumps(message).encode() + b"\n")
        acknowledged = json.loads(await asyncio.wait_for(bridge.process.stdout.readline(), 10))
        assert acknowledged["method"] == "notifications/subscriptions/acknowledged"
        bridge.process.stdin.close()
        assert await asyncio.wait_for(bridge.process.wait(), 2) == 0
