"""LangChain's MCP adapters under ``create_agent``, with a scripted chat model."""

import asyncio
import json
from typing import Any

from driving import KEY, URL, Turns, report
from langchain.agents import create_agent
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage, ToolMessage
from langchain_core.outputs import ChatGeneration, ChatResult
from langchain_mcp_adapters.client import MultiServerMCPClient

TURNS = Turns()


class Scripted(BaseChatModel):
    """Makes the calls of the steps, and keeps what it is given."""

    @property
    def _llm_type(self) -> str:
        return "scripted"

    def bind_tools(self, tools: Any, **_: Any) -> "Scripted":
        TURNS.tools = [tool.name for tool in tools]
        return self

    def _generate(self, messages: list[BaseMessage], *_: Any, **__: Any) -> ChatResult:
        for message in messages:
            if isinstance(message, ToolMessage):
                parts = message.content if isinstance(message.content, list) else [message.content]
                text = "\n".join(
                    part.get("text", json.dumps(part)) if isinstance(part, dict) else part for part in parts
                )
                TURNS.saw(message.tool_call_id, text)
        calls = [{"id": call_id, "name": tool, "args": args} for call_id, tool, args in TURNS.next()]
        said = AIMessage(content="" if calls else "done", tool_calls=calls)
        return ChatResult(generations=[ChatGeneration(message=said)])


async def main() -> None:
    client = MultiServerMCPClient(
        {"wardgate": {"transport": "http", "url": URL, "headers": {"Authorization": f"Bearer {KEY}"}}}
    )
    agent = create_agent(Scripted(), await client.get_tools())
    work = {"messages": [{"role": "user", "content": "go"}]}
    await agent.ainvoke(work, {"recursion_limit": 100})
    report("langchain-mcp-adapters", TURNS.tools, TURNS.steps())


asyncio.run(main())
