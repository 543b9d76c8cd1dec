"""The fixture's tools, under the names the official suite calls them by."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final

import mcp_types as types
from jsonschema import Draft202012Validator
from mcp.server.subscriptions import (
    InMemorySubscriptionBus,
    PromptsListChanged,
    ResourceUpdated,
    ServerEvent,
    ToolsListChanged,
)

from tests.conformance.samples import PNG, WAV
from tests.conformance.turn import ToolError, Turn, form, sample, spoken

Function = Callable[[Turn], Awaitable[str | Sequence[types.ContentBlock]]]

TOOLS: Final[dict[str, types.Tool]] = {}
FUNCTIONS: Final[dict[str, Function]] = {}
NOTHING: Final[dict[str, Any]] = {"type": "object", "properties": {}}
WATCHED: Final = "test://watched-resource"
STEP_S: Final = 0.05  # between messages, so that a client sees them arrive one by one
AWAY_S: Final = 0.2  # time for a client to notice a closed stream and come back

bus: Final = InMemorySubscriptionBus()


def tool(*names: str, schema: dict[str, Any] = NOTHING) -> Callable[[Function], Function]:
    """Offer a function as a tool; its docstring is the description."""

    def offer(function: Function) -> Function:
        for name in names or (function.__name__,):
            TOOLS[name] = types.Tool(name=name, description=function.__doc__, input_schema=schema)
            FUNCTIONS[name] = function
        return function

    return offer


def one_string(name: str, **more: Any) -> dict[str, Any]:
    return {"type": "object", "properties": {name: {"type": "string", **more}}, "required": [name]}


async def call(name: str, turn: Turn) -> types.CallToolResult:
    """Run a tool that exists. Arguments that do not fit its schema are an error the model sees."""
    schema = TOOLS[name].input_schema
    wrong = next(Draft202012Validator(schema).iter_errors(dict(turn.arguments)), None)
    try:
        if wrong is not None:
            raise ToolError(f"Invalid arguments: {wrong.message}")
        content = await FUNCTIONS[name](turn)
    except ToolError as error:
        return types.CallToolResult(content=[types.TextContent(text=str(error))], is_error=True)
    return types.CallToolResult(
        content=[types.TextContent(text=content)] if isinstance(content, str) else list(content)
    )


# -------------------------------------------------------------------------------------------- content


@tool()
async def test_simple_text(turn: Turn) -> str:
    """Returns text."""
    return "This is a simple text response for testing."


@tool()
async def test_image_content(turn: Turn) -> list[types.ContentBlock]:
    """Returns a picture."""
    return [types.ImageContent(data=PNG, mime_type="image/png")]


@tool()
async def test_audio_content(turn: Turn) -> list[types.ContentBlock]:
    """Returns a sound."""
    return [types.AudioContent(data=WAV, mime_type="audio/wav")]


@tool()
async def test_embedded_resource(turn: Turn) -> list[types.ContentBlock]:
    """Returns a resource inside the result."""
    return [
        embedded("test://embedded-resource", "text/plain", "This is an embedded resource content."),
    ]


@tool()
async def test_multiple_content_types(turn: Turn) -> list[types.ContentBlock]:
    """Returns text, a picture and a resource."""
    return [
        types.TextContent(text="Multiple content types test:"),
        types.ImageContent(data=PNG, mime_type="image/png"),
        embedded("test://mixed-content-resource", "application/json", '{"test":"data","value":123}'),
    ]


def embedded(uri: str, mime_type: str, text: str) -> types.EmbeddedResource:
    contents = types.TextResourceContents(uri=uri, mime_type=mime_type, text=text)
    return types.EmbeddedResource(resource=contents)


@tool()
async def test_error_handling(turn: Turn) -> str:
    """Always fails."""
    raise ToolError("This tool intentionally returns an error for testing")


# ---------------------------------------------------------------------------------- while it is running


@tool("test_tool_with_logging", "test_logging_tool")
async def logging_tool(turn: Turn) -> str:
    """Writes three log messages on its way."""
    for text in ("Tool execution started", "Tool processing data", "Tool execution completed"):
        await turn.log(text)
        await asyncio.sleep(STEP_S)
    return "Three messages were written."


@tool()
async def test_tool_with_progress(turn: Turn) -> str:
    """Reports progress three times, if the caller asked for it."""
    for done in (0, 50, 100):
        await turn.progress(done, 100)
        await asyncio.sleep(STEP_S)
    return "Done in three steps."


@tool()
async def test_reconnection(turn: Turn) -> str:
    """Closes the stream of its own call; the result waits for the client to come back."""
    await turn.log("Before the stream is closed")
    if turn.ctx.close_sse_stream is not None:
        await turn.ctx.close_sse_stream()
        await asyncio.sleep(AWAY_S)
    await turn.log("After the stream was closed")
    return "The stream was closed and the result kept."


# -------------------------------------------------------------------------------------- asking the client


@tool(schema=one_string("prompt"))
async def test_sampling(turn: Turn) -> str:
    """Has the client's model answer."""
    prompt = turn.arguments["prompt"]
    answers = await turn.ask({"sampling": sample(prompt, 100)})
    return f"LLM response: {spoken(answers['sampling'])}"


@tool(schema=one_string("message"))
async def test_elicitation(turn: Turn) -> str:
    """Asks the user for a name and an address."""
    question = form(
        turn.arguments["message"],
        username={"type": "string", "description": "User's response"},
        email={"type": "string", "description": "User's email address"},
    )
    answers = await turn.ask({"user": question})
    return f"User response: {_told(answers['user'])}"


@tool("test_streaming_elicitation")
async def streaming_elicitation(turn: Turn) -> str:
    """Reports progress and then asks the user."""
    await turn.progress(0, 1)
    answers = await turn.ask({"go_on": form("Go on?", ok={"type": "boolean"})})
    return f"Elicitation completed: {_told(answers['go_on'])}"


@tool()
async def test_elicitation_sep1034_defaults(turn: Turn) -> str:
    """Asks with a default for every primitive type."""
    question = form(
        "Please review these values",
        name={"type": "string", "default": "John Doe"},
        age={"type": "integer", "default": 30},
        score={"type": "number", "default": 95.5},
        status={"type": "string", "enum": ["active", "inactive", "pending"], "default": "active"},
        verified={"type": "boolean", "default": True},
    )
    answers = await turn.ask({"values": question})
    return f"Elicitation completed: {_told(answers['values'])}"


@tool()
async def test_elicitation_sep1330_enums(turn: Turn) -> str:
    """Asks with each of the five ways to write a choice."""
    plain = ["option1", "option2", "option3"]
    titled = [{"const": f"value{n}", "title": f"{word} choice"} for n, word in enumerate(_ORDINALS, 1)]
    question = form(
        "Please choose",
        untitledSingle={"type": "string", "enum": plain},
        titledSingle={"type": "string", "oneOf": titled},
        legacyEnum={
            "type": "string",
            "enum": ["opt1", "opt2", "opt3"],
            "enumNames": ["Option One", "Option Two", "Option Three"],
        },
        untitledMulti={"type": "array", "items": {"type": "string", "enum": plain}},
        titledMulti={"type": "array", "items": {"anyOf": titled}},
    )
    answers = await turn.ask({"choices": question})
    return f"Elicitation completed: {_told(answers['choices'])}"


_ORDINALS: Final = ("First", "Second", "Third")


def _told(answer: types.ElicitResult) -> str:
    return f"action={answer.action}, content={json.dumps(answer.content or {})}"


@tool()
async def test_missing_capability(turn: Turn) -> str:
    """Works only for a client that declares sampling."""
    turn.require("sampling")
    return "The client declares sampling."


# ----------------------------------------------------------------------------------------------- schemas


@tool(
    schema={
        "type": "object",
        "properties": {"region": {"type": "string", "x-mcp-header": "Region"}},
    }
)
async def test_x_mcp_header(turn: Turn) -> str:
    """Has an argument that is repeated in a header."""
    return f"region={turn.arguments.get('region', '(none)')}"


@tool(
    schema={
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "type": "object",
        "$defs": {
            "address": {
                "$anchor": "addressDef",
                "type": "object",
                "properties": {"street": {"type": "string"}, "city": {"type": "string"}},
            }
        },
        "properties": {
            "name": {"type": "string"},
            "address": {"$ref": "#/$defs/address"},
            "contactMethod": {"type": "string", "enum": ["phone", "email"]},
            "phone": {"type": "string"},
            "email": {"type": "string"},
        },
        "allOf": [{"anyOf": [{"required": ["phone"]}, {"required": ["email"]}]}],
        "if": {"properties": {"contactMethod": {"const": "phone"}}, "required": ["contactMethod"]},
        "then": {"required": ["phone"]},
        "else": {"required": ["email"]},
        "additionalProperties": False,
    }
)
async def json_schema_2020_12_tool(turn: Turn) -> str:
    """Has a schema with the whole vocabulary of 2020-12."""
    return f"Contact by {turn.arguments.get('contactMethod', 'email')}."


# --------------------------------------------------------------------------------------- what has changed


@tool()
async def test_trigger_tool_change(turn: Turn) -> str:
    """Says that the list of tools has changed."""
    return await _changed(turn, ToolsListChanged())


@tool()
async def test_trigger_prompt_change(turn: Turn) -> str:
    """Says that the list of prompts has changed."""
    return await _changed(turn, PromptsListChanged())


@tool("test_trigger_resource_update")
async def trigger_resource_update(turn: Turn) -> str:
    """Says that the watched resource has changed."""
    return await _changed(turn, ResourceUpdated(uri=WATCHED))


async def _changed(turn: Turn, event: ServerEvent) -> str:
    """Tell modern listeners over the bus, and legacy sessions on their own streams."""
    await bus.publish(event)
    if isinstance(event, ResourceUpdated):
        for session in list(turn.ctx.lifespan_context.watchers.get(event.uri, {}).values()):
            await session.send_resource_updated(event.uri)
    elif not turn.modern:
        session = turn.ctx.session
        tools = isinstance(event, ToolsListChanged)
        await (session.send_tool_list_changed() if tools else session.send_prompt_list_changed())
    return f"Sent: {type(event).__name__}."
