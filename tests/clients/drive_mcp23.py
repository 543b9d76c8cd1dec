"""The official Python client, 2.x: a program that calls tools itself."""

import asyncio

import httpx2
import mcp
from driving import KEY, MODE, STEPS, URL, report, result
from mcp.client.streamable_http import streamable_http_client


async def main() -> None:
    seen = 0

    async def progressed(*_: object) -> None:
        nonlocal seen
        seen += 1

    http = httpx2.AsyncClient(headers={"Authorization": f"Bearer {KEY}"}, timeout=60)
    async with http, mcp.Client(streamable_http_client(URL, http_client=http), mode=MODE) as client:

        async def call(tool: str, arguments: dict) -> dict:
            got = await client.call_tool(tool, arguments, progress_callback=progressed)
            return result(got.content, got.structured_content, got.is_error)

        tools = [tool.name for tool in (await client.list_tools()).tools]
        steps = {}
        for step in STEPS:
            calls = (call(each["tool"], each["arguments"]) for each in step["calls"])
            steps[step["name"]] = await asyncio.gather(*calls)
    report("mcp", tools, steps, seen)


asyncio.run(main())
