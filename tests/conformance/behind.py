"""The gateway as the client the suite tests, which runs ``python -m tests.conformance.behind URL``.

The suite serves a scenario at that URL. A gateway is put in front of it and a plain client lists, calls,
reads and gets what is there, so that what the suite sees of a client is what the gateway sends upstream.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

import mcp
from mcp_types.version import HANDSHAKE_PROTOCOL_VERSIONS

from tests.conformance import processes
from tests.conformance.client import talking

_ANSWER_S = 10  # a mock that answers on the wrong stream is not waited for
ECHO = "json_schema_echo"  # wants the schema of the other tool, as it arrived
_STUBS: dict[str, Any] = {
    "string": "text", "number": 5, "integer": 5, "boolean": True, "array": [], "object": {}, "null": None,
}  # fmt: skip


async def drive(client: mcp.Client, wanted: list[dict[str, Any]] | None) -> None:
    """Use all that a server offers once; ``wanted`` are the tool calls a scenario asks for instead.

    What the server, or the gateway, refuses is for the scenario to judge.
    """
    offered = client.server_capabilities
    tools = (await client.list_tools()).tools if offered.tools is not None else []
    schemas = {tool.name: tool.input_schema for tool in tools}
    calls = wanted or [
        {"name": name, "arguments": _arguments(name, schema, schemas)} for name, schema in schemas.items()
    ]
    asking = [lambda call=call: client.call_tool(call["name"], call["arguments"]) for call in calls]
    if offered.resources is not None:
        uris = [str(resource.uri) for resource in (await client.list_resources()).resources]
        asking += [lambda uri=uri: client.read_resource(uri) for uri in uris]
    if offered.prompts is not None:
        names = [prompt.name for prompt in (await client.list_prompts()).prompts]
        asking += [lambda name=name: client.get_prompt(name, {}) for name in names]
    for ask in asking:
        try:
            print(await ask())
        except mcp.MCPError as error:
            print(f"refused: {error}")


def _arguments(name: str, schema: dict[str, Any], schemas: dict[str, Any]) -> dict[str, Any]:
    if name == ECHO:
        return {"schema": next(other for tool, other in schemas.items() if tool != ECHO)}
    properties = schema.get("properties", {})
    return {
        each: _STUBS.get(properties.get(each, {}).get("type"), "text") for each in schema.get("required", ())
    }


async def main(url: str) -> None:
    revision = os.environ.get("MCP_CONFORMANCE_PROTOCOL_VERSION", "")
    context = json.loads(os.environ.get("MCP_CONFORMANCE_CONTEXT") or "{}")
    mode = "legacy" if revision in HANDSHAKE_PROTOCOL_VERSIONS else "auto"
    with tempfile.TemporaryDirectory(prefix="wardgate-conformance-") as scratch:
        folder = Path(scratch)
        with processes.gateway(folder / "gateway", {"url": url}, folder / "gateway.log") as (gateway, key):
            headers = {"Authorization": f"Bearer {key}"}
            async with talking(gateway, mode, headers=headers, read_timeout_seconds=_ANSWER_S) as (client, _):
                await drive(client, context.get("toolCalls"))
        print((folder / "gateway.log").read_text(), file=sys.stderr)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[-1]))
