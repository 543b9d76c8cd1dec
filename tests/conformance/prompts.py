"""The fixture's prompts, resources and completions."""

from __future__ import annotations

import json
import re
from typing import Any, Final

import mcp_types as types

from tests.conformance.rounds import context_prompt
from tests.conformance.samples import PNG
from tests.conformance.tools import WATCHED, embedded
from tests.conformance.turn import Turn


def _prompt(name: str, description: str, *arguments: str) -> types.Prompt:
    needed = [types.PromptArgument(name=argument, required=True) for argument in arguments]
    return types.Prompt(name=name, description=description, arguments=needed)


PROMPTS: Final = [
    _prompt("test_simple_prompt", "Says one sentence."),
    _prompt("test_prompt_with_arguments", "Repeats its arguments.", "arg1", "arg2"),
    _prompt("test_prompt_with_embedded_resource", "Encloses a resource.", "resourceUri"),
    _prompt("test_prompt_with_image", "Encloses a picture."),
    _prompt("test_input_required_result_prompt", "Asks for its context first."),
]


async def prompt(name: str, turn: Turn) -> types.GetPromptResult:
    """A prompt that exists, with its arguments there."""
    said = turn.arguments
    content: list[types.ContentBlock]
    if name == "test_simple_prompt":
        content = [types.TextContent(text="This is a simple prompt for testing.")]
    elif name == "test_prompt_with_arguments":
        text = f"Prompt with arguments: arg1='{said['arg1']}', arg2='{said['arg2']}'"
        content = [types.TextContent(text=text)]
    elif name == "test_prompt_with_embedded_resource":
        enclosed = embedded(said["resourceUri"], "text/plain", "Embedded resource content for testing.")
        content = [enclosed, types.TextContent(text="Please process the embedded resource above.")]
    elif name == "test_prompt_with_image":
        image = types.ImageContent(data=PNG, mime_type="image/png")
        content = [image, types.TextContent(text="Please analyze the image above.")]
    else:
        content = [types.TextContent(text=await context_prompt(turn))]
    return types.GetPromptResult(
        messages=[types.PromptMessage(role="user", content=block) for block in content]
    )


# --------------------------------------------------------------------------------------------- resources

TEXT: Final = "test://static-text"
BINARY: Final = "test://static-binary"

RESOURCES: Final = [
    types.Resource(uri=TEXT, name="static-text", description="A text.", mime_type="text/plain"),
    types.Resource(uri=BINARY, name="static-binary", description="A picture.", mime_type="image/png"),
    types.Resource(uri=WATCHED, name="watched-resource", description="May change.", mime_type="text/plain"),
]

TEMPLATES: Final = [
    types.ResourceTemplate(
        uri_template="test://template/{id}/data",
        name="template",
        description="Data by number.",
        mime_type="application/json",
    )
]

_TEMPLATE: Final = re.compile(r"test://template/([^/]+)/data")


def read(uri: str) -> types.ReadResourceResult | None:
    """The contents of a resource; ``None`` when there is none of this name."""
    contents: types.TextResourceContents | types.BlobResourceContents
    if uri == TEXT:
        contents = _text(uri, "This is the content of the static text resource.")
    elif uri == BINARY:
        contents = types.BlobResourceContents(uri=uri, mime_type="image/png", blob=PNG)
    elif uri == WATCHED:
        contents = _text(uri, "Watched resource content.")
    elif found := _TEMPLATE.fullmatch(uri):
        number = found.group(1)
        data: dict[str, Any] = {"id": number, "templateTest": True, "data": f"Data for ID: {number}"}
        contents = _text(uri, json.dumps(data), "application/json")
    else:
        return None
    return types.ReadResourceResult(contents=[contents])


def _text(uri: str, text: str, mime_type: str = "text/plain") -> types.TextResourceContents:
    return types.TextResourceContents(uri=uri, mime_type=mime_type, text=text)


# ------------------------------------------------------------------------------------------- completions

_WORDS: Final = ("paris", "park", "party")


def complete(typed: str) -> types.Completion:
    values = [word for word in _WORDS if word.startswith(typed)]
    return types.Completion(values=values, total=len(values), has_more=False)
