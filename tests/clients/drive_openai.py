"""The OpenAI Agents SDK, with a scripted model."""

import asyncio
import json
from typing import Any

from agents import Agent, ModelResponse, Runner, Usage, set_tracing_disabled
from agents.mcp import MCPServerStreamableHttp
from agents.models.interface import Model
from driving import KEY, URL, Elsewhere, Turns, report
from openai.types.responses import ResponseFunctionToolCall, ResponseOutputMessage, ResponseOutputText

TURNS = Turns()
ELSEWHERE = Elsewhere(TURNS)


class Scripted(Model):
    """Makes the calls of the steps, and keeps what it is given."""

    async def get_response(self, system_instructions: Any, input: Any, model_settings: Any, tools: Any,  # noqa: A002
                           *_: Any, **__: Any) -> ModelResponse:  # fmt: skip
        TURNS.tools = [tool.name for tool in tools]
        for item in input if isinstance(input, list) else []:
            if item.get("type") == "function_call_output":
                TURNS.saw(item["call_id"], _text(item["output"]))
        calls: list[Any] = [
            ResponseFunctionToolCall(
                call_id=call_id, name=tool, arguments=json.dumps(args), type="function_call"
            )
            for call_id, tool, args in await ELSEWHERE.next()
        ]
        done = ResponseOutputMessage(
            id="end", role="assistant", status="completed", type="message",
            content=[ResponseOutputText(text="done", type="output_text", annotations=[])],
        )  # fmt: skip
        return ModelResponse(output=calls or [done], usage=Usage(), response_id=None)

    def stream_response(self, *_: Any, **__: Any) -> Any:
        raise NotImplementedError


def _text(output: Any) -> str:
    parts = output if isinstance(output, list) else [output]
    return "\n".join(part.get("text", str(part)) if isinstance(part, dict) else str(part) for part in parts)


async def main() -> None:
    set_tracing_disabled(True)
    server = MCPServerStreamableHttp(
        params={"url": URL, "headers": {"Authorization": f"Bearer {KEY}"}}, client_session_timeout_seconds=60
    )
    async with server:
        agent = Agent(name="agent", model=Scripted(), mcp_servers=[server])
        await Runner.run(agent, "go", max_turns=50)
    report("openai-agents", TURNS.tools, TURNS.steps())


asyncio.run(main())
