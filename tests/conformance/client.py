"""The official client, with a user, a model and roots behind it; what reached it is kept.

It drives the fixture directly in its own tests, and through a gateway wherever both eras are to be held to
the same answers.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any, Final

import httpx2
import mcp
import mcp_types as types
from mcp.client.stdio import StdioServerParameters
from mcp.client.streamable_http import streamable_http_client

MODES: Final = ("legacy", "2026-07-28")

ANSWERS: Final[dict[str, Any]] = {
    "name": "Ada", "color": "blue", "context": "gardens", "ok": True,
    "username": "ada", "email": "ada@example.com",
}  # fmt: skip
"""What the user puts into a form, by field, where the field has no default."""


class Reached:
    """What a server sent to the client besides answers."""

    def __init__(self) -> None:
        self.asked: list[str] = []  # methods of its requests, in order
        self.logged: list[str] = []
        self.notes: list[str] = []  # methods of its notifications


@asynccontextmanager
async def talking(
    server: str | StdioServerParameters,
    mode: str,
    *,
    headers: Mapping[str, str] | None = None,
    **options: Any,
) -> AsyncIterator[tuple[mcp.Client, Reached]]:
    """A client that can answer everything a server may ask; ``options`` replace what it is made with."""
    reached = Reached()

    async def fill(_context: Any, params: types.ElicitRequestParams) -> types.ElicitResult:
        reached.asked.append("elicitation/create")
        fields = (
            params.requested_schema["properties"] if isinstance(params, types.ElicitRequestFormParams) else {}
        )
        content = {name: _filled(name, said) for name, said in fields.items()}
        return types.ElicitResult(action="accept", content=content)

    async def sample(_context: Any, params: types.CreateMessageRequestParams) -> types.CreateMessageResult:
        reached.asked.append("sampling/createMessage")
        said = types.TextContent(text=f"Paris ({len(params.messages)} message)")
        return types.CreateMessageResult(role="assistant", content=said, model="test-model")

    async def roots(_context: Any) -> types.ListRootsResult:
        reached.asked.append("roots/list")
        return types.ListRootsResult(roots=[types.Root(uri="file:///srv/work", name="work")])

    async def log(params: types.LoggingMessageNotificationParams) -> None:
        reached.logged.append(str(params.data))

    async def note(message: Any) -> None:
        reached.notes.append(message.method if hasattr(message, "method") else repr(message))

    made: dict[str, Any] = {
        "elicitation_callback": fill, "sampling_callback": sample, "list_roots_callback": roots,
        "logging_callback": log, "message_handler": note, **options,
    }  # fmt: skip
    if not isinstance(server, str):
        async with mcp.Client(server, mode=mode, **made) as client:
            yield client, reached
        return
    async with (
        httpx2.AsyncClient(headers=dict(headers or {}), timeout=20) as http,
        mcp.Client(streamable_http_client(server, http_client=http), mode=mode, **made) as client,
    ):
        yield client, reached


def _filled(name: str, said: dict[str, Any]) -> Any:
    if "default" in said:
        return said["default"]
    if name in ANSWERS:
        return ANSWERS[name]
    choices = said.get("enum") or said.get("oneOf")
    if said["type"] == "array":
        choices = said["items"].get("enum") or said["items"]["anyOf"]
    if choices is None:
        return {"string": "text", "boolean": True}.get(said["type"], 1)
    first = choices[0]["const"] if isinstance(choices[0], dict) else choices[0]
    return [first] if said["type"] == "array" else first
