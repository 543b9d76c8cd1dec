"""An MCP server with everything the official conformance suite asks of one, to stand behind a gateway.

    python -m tests.conformance.server --port 0          # prints its URL, then serves until it is ended
    python -m tests.conformance.server --stdio --era legacy

Both eras are served unless ``--era`` names one. The names of tools, resources and prompts are the suite's.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import socket
import warnings
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

import mcp_types as types
import uvicorn
from mcp.server import NotificationOptions, Server, ServerRequestContext
from mcp.server.caching import CACHEABLE_METHODS, CacheHint
from mcp.server.models import InitializationOptions
from mcp.server.request_state import RequestStateBoundary, RequestStateSecurity
from mcp.server.runner import serve_loop
from mcp.server.stdio import stdio_server
from mcp.server.subscriptions import ListenHandler
from mcp.shared.exceptions import MCPDeprecationWarning, MCPError
from mcp_types.version import MODERN_PROTOCOL_VERSIONS

from tests.conformance import prompts, rounds, tools
from tests.conformance.eras import ERAS, Era, OneEra, modern_only
from tests.conformance.replay import Replay
from tests.conformance.turn import InputRequired, Sessions, Turn, session_key

NAME: Final = "conformance-fixture"
RESOURCE_NOT_FOUND: Final = -32002  # the legacy code; the modern one is that of invalid parameters
RETRY_MS: Final = 100  # when a client whose stream was closed is to come back

Context = ServerRequestContext[Sessions]
_ = rounds  # imported for the tools it offers


class Fixture(Server[Sessions]):
    """The SDK's server, which also says in the legacy era that its lists can change."""

    def create_initialization_options(
        self, notification_options: NotificationOptions | None = None, *args: Any, **kwargs: Any
    ) -> InitializationOptions:
        changing = notification_options or NotificationOptions(prompts_changed=True, tools_changed=True)
        return super().create_initialization_options(changing, *args, **kwargs)


@asynccontextmanager
async def _sessions(_server: Server[Sessions]) -> AsyncIterator[Sessions]:
    yield Sessions()


def build(era: Era = "both") -> Fixture:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", MCPDeprecationWarning)  # old and still served: that is the point
        server = Fixture(
            NAME,
            version="1.0.0",
            lifespan=_sessions,
            cache_hints={method: CacheHint(ttl_ms=60_000, scope="public") for method in CACHEABLE_METHODS},
            get_tool_input_schema=lambda name: (
                tools.TOOLS[name].input_schema if name in tools.TOOLS else None
            ),
            on_list_tools=_list_tools,
            on_call_tool=_call_tool,
            on_list_resources=_list_resources,
            on_list_resource_templates=_list_templates,
            on_read_resource=_read_resource,
            on_subscribe_resource=_subscribe,
            on_unsubscribe_resource=_unsubscribe,
            on_subscriptions_listen=ListenHandler(tools.bus),
            on_list_prompts=_list_prompts,
            on_get_prompt=_get_prompt,
            on_completion=_complete,
            on_set_logging_level=_set_level,
        )
    server.middleware.append(RequestStateBoundary(RequestStateSecurity.ephemeral(), default_audience=NAME))
    if era == "modern":
        server.middleware.append(modern_only)
    return server


# ---------------------------------------------------------------------------------------------- handlers


async def _list_tools(_ctx: Context, _params: Any) -> types.ListToolsResult:
    return types.ListToolsResult(tools=list(tools.TOOLS.values()))


async def _call_tool(
    ctx: Context, params: types.CallToolRequestParams
) -> types.CallToolResult | types.InputRequiredResult:
    if params.name not in tools.TOOLS:
        raise MCPError(types.INVALID_PARAMS, f"Unknown tool: {params.name}")
    try:
        return await tools.call(params.name, Turn(ctx, params))
    except InputRequired as round_ended:
        return round_ended.result


async def _list_resources(_ctx: Context, _params: Any) -> types.ListResourcesResult:
    return types.ListResourcesResult(resources=prompts.RESOURCES)


async def _list_templates(_ctx: Context, _params: Any) -> types.ListResourceTemplatesResult:
    return types.ListResourceTemplatesResult(resource_templates=prompts.TEMPLATES)


async def _read_resource(ctx: Context, params: types.ReadResourceRequestParams) -> types.ReadResourceResult:
    found = prompts.read(str(params.uri))
    if found is None:
        raise _unknown_resource(ctx, str(params.uri))
    return found


async def _subscribe(ctx: Context, params: types.SubscribeRequestParams) -> types.EmptyResult:
    uri = str(params.uri)
    if prompts.read(uri) is None:
        raise _unknown_resource(ctx, uri)
    ctx.lifespan_context.watchers.setdefault(uri, {})[session_key(ctx)] = ctx.session
    return types.EmptyResult()


async def _unsubscribe(ctx: Context, params: types.UnsubscribeRequestParams) -> types.EmptyResult:
    ctx.lifespan_context.watchers.get(str(params.uri), {}).pop(session_key(ctx), None)
    return types.EmptyResult()


def _unknown_resource(ctx: Context, uri: str) -> MCPError:
    modern = ctx.protocol_version in MODERN_PROTOCOL_VERSIONS
    return MCPError(
        types.INVALID_PARAMS if modern else RESOURCE_NOT_FOUND, "Resource not found", {"uri": uri}
    )


async def _list_prompts(_ctx: Context, _params: Any) -> types.ListPromptsResult:
    return types.ListPromptsResult(prompts=prompts.PROMPTS)


async def _get_prompt(
    ctx: Context, params: types.GetPromptRequestParams
) -> types.GetPromptResult | types.InputRequiredResult:
    known = next((prompt for prompt in prompts.PROMPTS if prompt.name == params.name), None)
    if known is None:
        raise MCPError(types.INVALID_PARAMS, f"Unknown prompt: {params.name}")
    missing = [a.name for a in known.arguments or () if a.name not in (params.arguments or {})]
    if missing:
        raise MCPError(types.INVALID_PARAMS, f"Missing arguments: {', '.join(missing)}")
    try:
        return await prompts.prompt(params.name, Turn(ctx, params))
    except InputRequired as round_ended:
        return round_ended.result


async def _complete(_ctx: Context, params: types.CompleteRequestParams) -> types.CompleteResult:
    return types.CompleteResult(completion=prompts.complete(params.argument.value))


async def _set_level(ctx: Context, params: types.SetLevelRequestParams) -> types.EmptyResult:
    ctx.lifespan_context.levels[session_key(ctx)] = params.level
    return types.EmptyResult()


# ------------------------------------------------------------------------------------------------ serving


def serve_http(port: int, era: Era) -> None:
    app: Any = build(era).streamable_http_app(event_store=Replay(), retry_interval=RETRY_MS)
    if era != "both":
        app = OneEra(app, era)
    listening = socket.create_server(("127.0.0.1", port))
    print(f"http://127.0.0.1:{listening.getsockname()[1]}/mcp", flush=True)
    config = uvicorn.Config(
        app,
        http="h11",  # strips the white space around header values, which httptools leaves at their end
        log_level="warning",
        access_log=False,
        timeout_graceful_shutdown=1,
    )
    uvicorn.Server(config).run(sockets=[listening])


async def serve_stdio(era: Era) -> None:
    server = build(era)
    async with stdio_server() as (read, write):
        if era == "legacy":
            async with server.lifespan(server) as state:
                await serve_loop(server, read, write, lifespan_state=state)
        else:
            await server.run(read, write, server.create_initialization_options())


def main() -> None:
    parser = argparse.ArgumentParser(prog="tests.conformance.server", description=__doc__.partition("\n")[0])
    parser.add_argument("--port", type=int, default=0, help="0 takes a free one")
    parser.add_argument("--stdio", action="store_true", help="serve stdin and stdout instead of HTTP")
    parser.add_argument("--era", choices=ERAS, default="both", help="what to serve; both by default")
    options = parser.parse_args()
    warnings.simplefilter("ignore", MCPDeprecationWarning)
    logging.basicConfig(level=logging.WARNING)
    if options.stdio:
        asyncio.run(serve_stdio(options.era))
    else:
        serve_http(options.port, options.era)


if __name__ == "__main__":
    main()
