"""All four pairs of client and server, over HTTP and stdio: through the gateway everything is as without it.

The same client that drives the fixture directly drives it here through ``wardgate serve``. Whatever the two
sides' eras, what a server asks is answered by this client, and what a client is told comes from this server.
"""

from __future__ import annotations

import asyncio
from contextlib import ExitStack, suppress

import mcp
import mcp_types as types
import pytest
from mcp.shared.exceptions import MCPDeprecationWarning

from tests.conformance import processes
from tests.conformance.client import MODES, talking
from tests.conformance.test_fixture import ARGUMENTS, PROMPTS, TOOLS
from tests.e2e.gateway import Wardgate

UPSTREAMS = ("http-legacy", "http-modern", "stdio-legacy", "stdio-modern")

pytestmark = pytest.mark.filterwarnings(f"ignore::{MCPDeprecationWarning.__module__}.MCPDeprecationWarning")


@pytest.fixture(scope="module")
def wardgate(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cells")
    tools = {"*": {"risk": "read"}}
    with ExitStack() as stack:
        upstreams = {}
        for era in ("legacy", "modern"):
            url = stack.enter_context(processes.fixture(folder / f"{era}.log", era=era))
            upstreams[f"http-{era}"] = {"url": url, "tools": tools}
            command = processes.command(era=era, stdio=True)
            upstreams[f"stdio-{era}"] = {"command": command, "cwd": str(processes.ROOT), "tools": tools}
        made = Wardgate(folder / "gateway", upstreams)
        stack.callback(made.close)
        yield made.start()


@pytest.fixture
def through(wardgate):
    def connect(upstream, mode, **options):
        headers = {"authorization": f"Bearer {wardgate.key('alice')}"}
        return talking(f"{wardgate.agents_url}/mcp/{upstream}", mode, headers=headers, **options)

    return connect


cells = pytest.mark.parametrize(
    ("upstream", "mode"), [(upstream, mode) for upstream in UPSTREAMS for mode in MODES]
)


@cells
async def test_every_tool_answers_as_it_does_without_the_gateway(through, upstream, mode):
    async with through(upstream, mode) as (client, _):
        listed = await client.list_tools()
        assert {tool.name for tool in listed.tools} == set(TOOLS)
        for name, said in TOOLS.items():
            result = await client.call_tool(name, ARGUMENTS.get(name, {}))
            assert result.is_error == (name == "test_error_handling"), f"{name}: {result.content}"
            assert any(said in str(block) for block in result.content), f"{name}: {result.content}"


@cells
async def test_questions_reach_the_client_that_is_asked_also_when_many_ask_at_once(through, upstream, mode):
    async def one(number):
        async with through(upstream, mode) as (client, reached):
            message = f"Who are you, number {number}?"
            result = await client.call_tool("test_elicitation", {"message": message})
            assert '"username": "ada"' in str(result.content)
            assert reached.asked == ["elicitation/create"]

    await asyncio.gather(*(one(number) for number in range(4)))


@cells
async def test_every_prompt_resource_and_completion_answers(through, upstream, mode):
    async with through(upstream, mode) as (client, _):
        for name, (arguments, said) in PROMPTS.items():
            assert said in str((await client.get_prompt(name, arguments)).messages), name
        (text,) = (await client.read_resource("test://static-text")).contents
        assert text.text == "This is the content of the static text resource."
        (filled,) = (await client.read_resource("test://template/123/data")).contents
        assert "Data for ID: 123" in filled.text
        reference = types.PromptReference(name="test_prompt_with_arguments")
        done = await client.complete(reference, {"name": "arg1", "value": "par"})
        assert done.completion.values == ["paris", "park", "party"]


@cells
async def test_a_server_is_told_no_capability_that_its_client_lacks(through, upstream, mode):
    async with through(upstream, mode, sampling_callback=None) as (client, reached):
        asking = client.call_tool("test_missing_capability", {})
        if upstream.endswith("legacy"):
            assert (await asking).is_error
        else:
            with pytest.raises(mcp.MCPError) as refused:
                await asking
            assert refused.value.error.data == {"requiredCapabilities": {"sampling": {}}}
        answered = await client.call_tool("test_input_required_result_capabilities", {})
        assert answered.content[0].text == "Answered: user_name."
    assert reached.asked == ["elicitation/create"]


@cells
async def test_log_messages_and_progress_arrive_while_a_tool_runs(through, upstream, mode):
    async with through(upstream, mode, log_level=None if mode == "legacy" else "info") as (client, reached):
        if mode == "legacy":
            await client.set_logging_level("info")
        await client.call_tool("test_tool_with_logging", {})
        steps = []

        async def on_progress(done, total, _message):
            steps.append((done, total))

        await client.call_tool("test_tool_with_progress", {}, progress_callback=on_progress)
        if mode == "legacy":
            await client.set_logging_level("error")
            await client.call_tool("test_tool_with_logging", {})
    assert reached.logged == ["Tool execution started", "Tool processing data", "Tool execution completed"]
    assert steps == [(0, 100), (50, 100), (100, 100)]


@pytest.mark.parametrize("upstream", UPSTREAMS)
async def test_a_legacy_client_hears_of_a_resource_it_watches_until_it_unsubscribes(through, upstream):
    async with through(upstream, "legacy") as (client, reached):
        await client.subscribe_resource("test://watched-resource")
        async with asyncio.timeout(10):
            while "notifications/resources/updated" not in reached.notes:
                await client.call_tool("test_trigger_resource_update", {})
                await asyncio.sleep(0.1)
        await client.unsubscribe_resource("test://watched-resource")
        await asyncio.sleep(0.5)
        reached.notes.clear()
        await client.call_tool("test_trigger_resource_update", {})
        await asyncio.sleep(0.5)
        assert reached.notes == []


@pytest.mark.parametrize("upstream", UPSTREAMS)
async def test_a_modern_client_hears_of_a_resource_it_listens_for(through, upstream):
    async with (
        through(upstream, "2026-07-28") as (client, _),
        client.listen(resource_subscriptions=["test://watched-resource"]) as heard,
    ):
        event = None
        async with asyncio.timeout(10):
            while event is None:
                await client.call_tool("test_trigger_resource_update", {})
                with suppress(TimeoutError):
                    event = await asyncio.wait_for(anext(heard), 0.3)
    assert type(event).__name__ == "ResourceUpdated"
