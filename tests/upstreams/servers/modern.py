"""A modern MCP server made with the official SDK; over stdio when run, as ``app`` over HTTP."""

from mcp.server.mcpserver import Context, MCPServer

server = MCPServer("modern", version="1.2", instructions="Echoes.")


@server.tool()
def echo(text: str) -> str:
    """Say it again."""
    return text


@server.tool()
def fail() -> str:
    """Raise."""
    raise ValueError("no luck")


@server.tool()
async def count(ctx: Context, to: int) -> str:
    """Report progress on the way."""
    for step in range(to):
        await ctx.report_progress(step, to)
    return "done"


@server.prompt()
def greet(name: str) -> str:
    """Greet somebody."""
    return f"Hello {name}"


@server.resource("test://static")
def static() -> str:
    return "static text"


@server.resource("test://item/{number}")
def item(number: str) -> str:
    return f"item {number}"


if __name__ == "__main__":
    server.run("stdio")
