"""The official Python client, 1.x: a program that calls tools itself."""

import asyncio

from driving import KEY, STEPS, URL, report, result
from mcp import ClientSession
from mcp.client.streamable_http import streamablehttp_client


async def main() -> None:
    seen = 0

    async def progressed(*_: object) -> None:
        nonlocal seen
        seen += 1

    async with (
        streamablehttp_client(URL, headers={"Authorization": f"Bearer {KEY}"}) as (read, write, _),
        ClientSession(read, write) as client,
    ):
        await client.initialize()

        async def call(tool: str, arguments: dict) -> dict:
            got = await client.call_tool(tool, arguments, progress_callback=progressed)
            return result(got.content, got.structuredContent, got.isError)

        tools = [tool.name for tool in (await client.list_tools()).tools]
        steps = {}
        for step in STEPS:
            calls = (call(each["tool"], each["arguments"]) for each in step["calls"])
            steps[step["name"]] = await asyncio.gather(*calls)
    report("mcp", tools, steps, seen)


asyncio.run(main())
