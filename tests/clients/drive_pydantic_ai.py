"""pydantic-ai, with its own FunctionModel as the scripted model."""

import asyncio
import json

from driving import KEY, URL, Turns, report
from pydantic_ai import Agent
from pydantic_ai.mcp import MCPToolset
from pydantic_ai.messages import ModelMessage, ModelRequest, ModelResponse, TextPart, ToolCallPart
from pydantic_ai.models.function import AgentInfo, FunctionModel

TURNS = Turns()


def scripted(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
    TURNS.tools = [tool.name for tool in info.function_tools]
    for message in messages:
        for part in message.parts if isinstance(message, ModelRequest) else []:
            if part.part_kind in ("tool-return", "retry-prompt") and part.tool_call_id:
                content = part.content
                TURNS.saw(part.tool_call_id, content if isinstance(content, str) else json.dumps(content))
    calls = [ToolCallPart(tool, args, tool_call_id=call_id) for call_id, tool, args in TURNS.next()]
    return ModelResponse(parts=calls or [TextPart("done")])


async def main() -> None:
    # As it comes, a second refusal of a tool ends the run, whatever was done in between.
    toolset = MCPToolset(URL, headers={"Authorization": f"Bearer {KEY}"}, tool_error_behavior="failed")
    agent = Agent(FunctionModel(scripted), toolsets=[toolset])
    async with agent:
        await agent.run("go")
    report("pydantic-ai-slim", TURNS.tools, TURNS.steps())


asyncio.run(main())
