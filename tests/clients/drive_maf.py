"""Microsoft Agent Framework, with a scripted chat client."""

import asyncio
import json
from collections.abc import Mapping, Sequence
from typing import Any

from agent_framework import (
    Agent,
    BaseChatClient,
    ChatResponse,
    Content,
    FunctionInvocationLayer,
    MCPStreamableHTTPTool,
    Message,
)
from driving import KEY, URL, Elsewhere, Turns, report

TURNS = Turns()
ELSEWHERE = Elsewhere(TURNS)


class Scripted(FunctionInvocationLayer, BaseChatClient):
    """Makes the calls of the steps, and keeps what it is given."""

    async def _inner_get_response(
        self, *, messages: Sequence[Message], stream: bool, options: Mapping[str, Any], **_: Any
    ) -> ChatResponse:
        TURNS.tools = [tool.name for tool in options["tools"]]
        for message in messages:
            for content in message.contents:
                if content.type == "function_result":
                    TURNS.saw(content.call_id, json.dumps(content.to_dict()))
        calls = [
            Content.from_function_call(call_id, tool, arguments=json.dumps(args))
            for call_id, tool, args in await ELSEWHERE.next()
        ]
        return ChatResponse(messages=Message("assistant", calls or ["done"]))


async def main() -> None:
    tools = MCPStreamableHTTPTool(
        name="wardgate", url=URL, header_provider=lambda _: {"Authorization": f"Bearer {KEY}"}
    )
    async with tools, Agent(client=Scripted(), tools=[tools]) as agent:
        await agent.run("go")
    report("agent-framework-core", TURNS.tools, TURNS.steps())


asyncio.run(main())
