"""The fixture does what the suite will ask of it, seen by the official client in both eras.

A broken fixture is to be seen here, in seconds and without npm, not as a failure of the gateway.
"""

from __future__ import annotations

import asyncio
import base64

import mcp
import mcp_types as types
import pytest
from mcp.client.stdio import StdioServerParameters
from mcp.shared.exceptions import MCPDeprecationWarning

from tests.conformance import processes
from tests.conformance.client import MODES, talking

TOOLS = {
    "test_simple_text": "This is a simple text response for testing.",
    "test_image_content": "image/png",
    "test_audio_content": "audio/wav",
    "test_embedded_resource": "This is an embedded resource content.",
    "test_multiple_content_types": '{"test":"data","value":123}',
    "test_tool_with_logging": "Three messages",
    "test_logging_tool": "Three messages",
    "test_tool_with_progress": "Done",
    "test_sampling": "LLM response: Paris (1 message)",
    "test_elicitation": '"username": "ada"',
    "test_streaming_elicitation": 'action=accept, content={"ok": true}',
    "test_elicitation_sep1034_defaults": '"age": 30',
    "test_elicitation_sep1330_enums": '"titledMulti": ["value1"]',
    "test_error_handling": "This tool intentionally returns an error for testing",
    "test_x_mcp_header": "region=eu",
    "test_missing_capability": "declares sampling",
    "test_input_required_result_elicitation": "Hello, Ada!",
    "test_input_required_result_sampling": "Paris",
    "test_input_required_result_list_roots": "file:///srv/work",
    "test_input_required_result_request_state": "state-ok",
    "test_input_required_result_multiple_inputs": "Ada, with 1 roots",
    "test_input_required_result_multi_round": "Ada likes blue.",
    "test_input_required_result_tampered_state": "state-ok",
    "test_input_required_result_capabilities": "Answered: sample, user_name.",
    "json_schema_2020_12_tool": "Contact by email.",
    "test_reconnection": "the result kept",
    "test_trigger_tool_change": "ToolsListChanged",
    "test_trigger_prompt_change": "PromptsListChanged",
    "test_trigger_resource_update": "ResourceUpdated",
}
ARGUMENTS = {
    "test_sampling": {"prompt": "Hello?"},
    "test_elicitation": {"message": "Who are you?"},
    "test_x_mcp_header": {"region": "eu"},
    "json_schema_2020_12_tool": {"contactMethod": "email", "email": "ada@example.com"},
}
PROMPTS = {
    "test_simple_prompt": ({}, "This is a simple prompt for testing."),
    "test_prompt_with_arguments": ({"arg1": "one", "arg2": "two"}, "arg1='one', arg2='two'"),
    "test_prompt_with_embedded_resource": ({"resourceUri": "test://some"}, "test://some"),
    "test_prompt_with_image": ({}, "image/png"),
    "test_input_required_result_prompt": ({}, "Use this context: gardens"),
}

pytestmark = pytest.mark.filterwarnings(f"ignore::{MCPDeprecationWarning.__module__}.MCPDeprecationWarning")


@pytest.fixture(scope="module")
def url(tmp_path_factory):
    with processes.fixture(tmp_path_factory.mktemp("fixture") / "log") as url:
        yield url


def stdio(era):
    command = processes.command(era=era, stdio=True)
    return StdioServerParameters(command=command[0], args=command[1:], cwd=processes.ROOT)


# --------------------------------------------------------------------------------------------- both eras


@pytest.mark.parametrize("mode", MODES)
async def test_every_tool_answers_in_both_eras(url, mode):
    async with talking(url, mode) as (client, _):
        listed = await client.list_tools()
        assert {tool.name for tool in listed.tools} == set(TOOLS)
        assert all(tool.description for tool in listed.tools)
        results = await asyncio.gather(
            *(client.call_tool(name, ARGUMENTS.get(name, {})) for name in TOOLS), return_exceptions=True
        )
    for (name, said), result in zip(TOOLS.items(), results, strict=True):
        assert isinstance(result, types.CallToolResult), f"{name}: {result!r}"
        assert result.is_error == (name == "test_error_handling"), f"{name}: {result.content}"
        assert any(said in str(block) for block in result.content), f"{name}: {result.content}"


@pytest.mark.parametrize("mode", MODES)
async def test_every_prompt_resource_and_completion_answers_in_both_eras(url, mode):
    async with talking(url, mode) as (client, _):
        assert {prompt.name for prompt in (await client.list_prompts()).prompts} == set(PROMPTS)
        for name, (arguments, said) in PROMPTS.items():
            assert said in str((await client.get_prompt(name, arguments)).messages), name
        resources = {str(resource.uri) for resource in (await client.list_resources()).resources}
        assert resources == {"test://static-text", "test://static-binary", "test://watched-resource"}
        (text,) = (await client.read_resource("test://static-text")).contents
        assert text.text == "This is the content of the static text resource."
        (binary,) = (await client.read_resource("test://static-binary")).contents
        assert base64.b64decode(binary.blob).startswith(b"\x89PNG")
        (template,) = (await client.list_resource_templates()).resource_templates
        (filled,) = (await client.read_resource(template.uri_template.replace("{id}", "123"))).contents
        assert "Data for ID: 123" in filled.text
        reference = types.PromptReference(name="test_prompt_with_arguments")
        done = await client.complete(reference, {"name": "arg1", "value": "par"})
        assert done.completion.values == ["paris", "park", "party"]


@pytest.mark.parametrize("mode", MODES)
async def test_what_is_not_there_or_does_not_fit_is_refused(url, mode):
    async with talking(url, mode) as (client, _):
        for asking in (
            client.call_tool("absent", {}),
            client.get_prompt("absent", {}),
            client.get_prompt("test_prompt_with_arguments", {"arg1": "alone"}),
            client.read_resource("test://absent"),
        ):
            with pytest.raises(mcp.MCPError):
                await asking
        bad = await client.call_tool("json_schema_2020_12_tool", {"contactMethod": "phone", "email": "a@b"})
        assert bad.is_error and "Invalid arguments" in bad.content[0].text


@pytest.mark.parametrize("mode", MODES)
async def test_a_client_without_a_capability_is_told_so(url, mode):
    async with talking(url, mode, sampling_callback=None) as (client, reached):
        asking = client.call_tool("test_missing_capability", {})
        if mode == "legacy":
            assert (await asking).is_error
        else:
            with pytest.raises(mcp.MCPError) as refused:
                await asking
            assert refused.value.error.data == {"requiredCapabilities": {"sampling": {}}}
        answered = await client.call_tool("test_input_required_result_capabilities", {})
        assert answered.content[0].text == "Answered: user_name."
    assert reached.asked == ["elicitation/create"]


@pytest.mark.parametrize("mode", MODES)
async def test_log_messages_and_progress_arrive_while_a_tool_runs(url, mode):
    async with talking(url, mode, log_level=None if mode == "legacy" else "info") as (client, reached):
        await client.call_tool("test_tool_with_logging", {})
        steps = []

        async def on_progress(done, total, _message):
            steps.append((done, total))

        await client.call_tool("test_tool_with_progress", {}, progress_callback=on_progress)
        if mode == "legacy":  # later, so that a level set too high is seen to silence it
            await client.set_logging_level("error")
            await client.call_tool("test_tool_with_logging", {})
    assert reached.logged == ["Tool execution started", "Tool processing data", "Tool execution completed"]
    assert steps == [(0, 100), (50, 100), (100, 100)]


# ------------------------------------------------------------------------------------ what only one has


async def test_a_legacy_session_hears_of_a_watched_resource_until_it_unsubscribes(url):
    async with talking(url, "legacy") as (client, reached):
        await client.subscribe_resource("test://watched-resource")
        await _until(client, "test_trigger_resource_update", reached, "notifications/resources/updated")
        await client.unsubscribe_resource("test://watched-resource")
        reached.notes.clear()
        await client.call_tool("test_trigger_resource_update", {})
        await _until(client, "test_trigger_tool_change", reached, "notifications/tools/list_changed")
        assert "notifications/resources/updated" not in reached.notes


async def _until(client, trigger, reached, method):
    """Pull a trigger until it is heard: the session's own stream may not be open yet."""
    async with asyncio.timeout(5):
        while method not in reached.notes:
            await client.call_tool(trigger, {})
            await asyncio.sleep(0.05)


async def test_a_modern_listener_hears_what_it_listens_for(url):
    async with (
        talking(url, "2026-07-28") as (client, _),
        client.listen(tools_list_changed=True, resource_subscriptions=["test://watched-resource"]) as heard,
    ):
        for trigger in (
            "test_trigger_prompt_change",
            "test_trigger_resource_update",
            "test_trigger_tool_change",
        ):
            await client.call_tool(trigger, {})
        async with asyncio.timeout(5):
            events = {type(await anext(heard)).__name__ for _ in range(2)}
    assert events == {"ResourceUpdated", "ToolsListChanged"}


# --------------------------------------------------------------------------------------------- one era


@pytest.mark.parametrize(("era", "mode", "other"), [("legacy", *MODES), ("modern", *reversed(MODES))])
async def test_a_server_of_one_era_refuses_the_other_over_http(tmp_path, era, mode, other):
    with processes.fixture(tmp_path / "log", era=era) as url:
        async with talking(url, mode) as (client, _):
            assert not (await client.call_tool("test_simple_text", {})).is_error
        async with talking(url, "auto") as (client, _):
            expected = "2025-11-25" if era == "legacy" else "2026-07-28"
            assert client.protocol_version == expected
        with pytest.raises(Exception):  # noqa: B017  # which one is the client's affair
            async with talking(url, other) as (client, _):
                await client.call_tool("test_simple_text", {})


@pytest.mark.parametrize(("era", "mode", "other"), [("legacy", *MODES), ("modern", *reversed(MODES))])
async def test_a_server_of_one_era_refuses_the_other_over_stdio(era, mode, other):
    async with talking(stdio(era), mode) as (client, _):
        answered = await client.call_tool("test_input_required_result_elicitation", {})
        assert answered.content[0].text == "Hello, Ada!"
    with pytest.raises(Exception):  # noqa: B017
        async with talking(stdio(era), other) as (client, _):
            await client.call_tool("test_simple_text", {})
