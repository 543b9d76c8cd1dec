"""The FastMCP client: a program that calls tools itself."""

import asyncio

from driving import KEY, STEPS, URL, report, result
from fastmcp import Client


async def main() -> None:
    seen = 0

    async def progressed(*_: object) -> None:
        nonlocal seen
        seen += 1

    async with Client(URL, auth=KEY) as client:

        async def call(tool: str, arguments: dict) -> dict:
            got = await client.call_tool(tool, arguments, progress_handler=progressed, raise_on_error=False)
            return result(got.content, got.structured_content, got.is_error)

        tools = [tool.name for tool in await client.list_tools()]
        steps = {}
        for step in STEPS:
            calls = (call(each["tool"], each["arguments"]) for each in step["calls"])
            steps[step["name"]] = await asyncio.gather(*calls)
    report("fastmcp-slim", tools, steps, seen)


asyncio.run(main())
