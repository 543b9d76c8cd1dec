"""Google's Agent Development Kit, with a scripted model."""

import asyncio
import json
from collections.abc import AsyncGenerator
from typing import Any

from driving import KEY, URL, Turns, report
from google.adk.agents import LlmAgent
from google.adk.models.base_llm import BaseLlm
from google.adk.models.llm_response import LlmResponse
from google.adk.runners import InMemoryRunner
from google.adk.tools.mcp_tool import McpToolset, StreamableHTTPConnectionParams
from google.genai import types

TURNS = Turns()


class Scripted(BaseLlm):
    """Makes the calls of the steps, and keeps what it is given."""

    async def generate_content_async(self, llm_request: Any, stream: bool = False) -> AsyncGenerator[Any]:
        TURNS.tools = list(llm_request.tools_dict)
        for content in llm_request.contents:
            for part in content.parts:
                if part.function_response is not None:
                    TURNS.saw(part.function_response.id, json.dumps(part.function_response.response))
        calls = [
            types.Part(function_call=types.FunctionCall(id=call_id, name=tool, args=args))
            for call_id, tool, args in TURNS.next()
        ]
        yield LlmResponse(content=types.Content(role="model", parts=calls or [types.Part(text="done")]))


async def main() -> None:
    toolset = McpToolset(
        connection_params=StreamableHTTPConnectionParams(url=URL, headers={"Authorization": f"Bearer {KEY}"})
    )
    agent = LlmAgent(name="agent", model=Scripted(model="scripted"), tools=[toolset])
    runner = InMemoryRunner(agent=agent, app_name="clients")
    session = await runner.session_service.create_session(app_name="clients", user_id="user")
    go = types.Content(role="user", parts=[types.Part(text="go")])
    async for _ in runner.run_async(user_id="user", session_id=session.id, new_message=go):
        pass
    await runner.close()
    report("google-adk", TURNS.tools, TURNS.steps())


asyncio.run(main())
