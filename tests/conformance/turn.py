"""What a tool or prompt of the fixture sees of one request, in either era.

``ask`` is the one thing the eras do differently. A legacy server sends its request to the client in the
middle of a call and waits; a modern one answers ``input_required`` and is called again with what the client
said. Tools are written once: over a modern connection ``ask`` ends the round by raising ``InputRequired``.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

import mcp_types as types
from mcp.server import ServerRequestContext
from mcp.shared.exceptions import MCPError
from mcp.shared.message import ServerMessageMetadata
from mcp_types.version import MODERN_PROTOCOL_VERSIONS

LEVELS: Final = ("debug", "info", "notice", "warning", "error", "critical", "alert", "emergency")

Answer = types.ElicitResult | types.CreateMessageResult | types.ListRootsResult

_ASKED: Final[dict[type[types.InputRequest], tuple[str, type[Answer]]]] = {
    types.ElicitRequest: ("elicitation", types.ElicitResult),
    types.CreateMessageRequest: ("sampling", types.CreateMessageResult),
    types.ListRootsRequest: ("roots", types.ListRootsResult),
}
"""Of each request to a client: the capability it needs, and what answers it."""


class InputRequired(Exception):
    """This round ends here; the client is to answer and call again."""

    def __init__(self, result: types.InputRequiredResult) -> None:
        super().__init__("input required")
        self.result = result


class ToolError(Exception):
    """What a tool says when it fails; the model is to see it."""


class Sessions:
    """What the server keeps for each legacy session: the level of its log and who watches which resource."""

    def __init__(self) -> None:
        self.levels: dict[str, str] = {}
        self.watchers: dict[str, dict[str, Any]] = {}  # by URI, then by session: where to send


class Turn:
    """One request to a tool or prompt."""

    def __init__(
        self,
        ctx: ServerRequestContext[Sessions],
        params: types.CallToolRequestParams | types.GetPromptRequestParams,
    ) -> None:
        self.ctx = ctx
        self.arguments: Mapping[str, Any] = params.arguments or {}
        self._answers = params.input_responses or {}
        self.carried: dict[str, Any] | None = (
            json.loads(params.request_state) if params.request_state else None
        )
        """What earlier rounds kept in ``requestState``; it arrives sealed and was verified on the way."""

    @property
    def modern(self) -> bool:
        return self.ctx.protocol_version in MODERN_PROTOCOL_VERSIONS

    # -- what the client can do

    def declares(self, capability: str) -> bool:
        declared = self.ctx.session.client_capabilities
        return declared is not None and getattr(declared, capability) is not None

    def require(self, capability: str) -> None:
        if self.declares(capability):
            return
        if self.modern:
            raise MCPError(
                types.MISSING_REQUIRED_CLIENT_CAPABILITY,
                f"This needs the client's capability '{capability}'",
                {"requiredCapabilities": {capability: {}}},
            )
        raise ToolError(f"The client does not declare '{capability}'")

    # -- asking it

    async def ask(
        self, wanted: Mapping[str, types.InputRequest], *, carry: dict[str, Any] | None = None
    ) -> dict[str, Any]:
        """The client's answers to all of ``wanted``, by key.

        ``carry`` travels to the next round in ``requestState``.
        An answer that is missing, or of another kind than its question, is asked for again.
        """
        for request in wanted.values():
            self.require(_ASKED[type(request)][0])
        if not self.modern:
            return {key: await self._push(request) for key, request in wanted.items()}
        given = {
            key: self._answers[key]
            for key, request in wanted.items()
            if isinstance(self._answers.get(key), _ASKED[type(request)][1])
        }
        if len(given) < len(wanted):
            state = None if carry is None else json.dumps(carry)
            raise InputRequired(types.InputRequiredResult(input_requests=dict(wanted), request_state=state))
        return given

    async def _push(self, request: types.InputRequest) -> Answer:
        return await self.ctx.session.send_request(
            request,
            _ASKED[type(request)][1],
            metadata=ServerMessageMetadata(related_request_id=self.ctx.request_id),
        )

    # -- telling it

    async def log(self, text: str, level: Any = "info") -> None:
        """A log message, if this client asked for messages of this level.

        In the modern era the SDK holds it to the level the request names; in the legacy one nobody else does.
        """
        least = self.ctx.lifespan_context.levels.get(session_key(self.ctx), "debug")
        if self.modern or LEVELS.index(level) >= LEVELS.index(least):
            await self.ctx.session.send_log_message(level, text, related_request_id=self.ctx.request_id)

    async def progress(self, done: float, total: float) -> None:
        await self.ctx.session.report_progress(done, total)


def session_key(ctx: ServerRequestContext[Any]) -> str:
    """Names the legacy session of a request; over stdio there is one."""
    return "" if ctx.request is None else ctx.request.headers.get("mcp-session-id", "")


def form(message: str, **properties: dict[str, Any]) -> types.ElicitRequest:
    """A form with these fields, all of them required unless they have a default."""
    schema = {
        "type": "object",
        "properties": properties,
        "required": [name for name, said in properties.items() if "default" not in said],
    }
    return types.ElicitRequest(params=types.ElicitRequestFormParams(message=message, requested_schema=schema))


def sample(text: str, max_tokens: int) -> types.CreateMessageRequest:
    said = types.SamplingMessage(role="user", content=types.TextContent(text=text))
    return types.CreateMessageRequest(
        params=types.CreateMessageRequestParams(messages=[said], max_tokens=max_tokens)
    )


def filled(answer: types.ElicitResult, field: str) -> str:
    """What the user put into a field, or that nothing was."""
    return str((answer.content or {}).get(field, f"({answer.action})"))


def spoken(answer: types.CreateMessageResult) -> str:
    return (
        answer.content.text if isinstance(answer.content, types.TextContent) else f"({answer.content.type})"
    )
