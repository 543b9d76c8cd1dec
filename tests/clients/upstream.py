"""The tool server behind the gateway: customers, payments, and a report that takes its time.

Written with the official MCP SDK. Each effect is one line of a file, so that what happened can be counted
without asking the gateway or a client.

    python -m tests.clients.upstream EFFECTS
"""

from __future__ import annotations

import asyncio
import json
import socket
import sys
from pathlib import Path
from typing import Any, Final

import uvicorn
from mcp.server.mcpserver import Context, MCPServer
from mcp_types import ToolAnnotations
from pydantic import BaseModel

SECRETS: Final = ("canary-5c1f8e02b7d94a63", "open-sesame-4417")
"""What nobody in front of the gateway may see: one is found by its form, one by the name of its field."""

_READING: Final = ToolAnnotations(read_only_hint=True)


class Customer(BaseModel):
    id: str
    name: str
    status: str
    balance_micro_usd: int
    notes: list[str]
    password: str


def server(effects: Path) -> MCPServer[Any]:
    mcp: MCPServer[Any] = MCPServer("crm", log_level="WARNING")

    def happened(tool: str, **arguments: object) -> None:
        with effects.open("a") as file:
            file.write(json.dumps({"tool": tool, **arguments}) + "\n")

    @mcp.tool(annotations=_READING)
    def get_customer(customer_id: str) -> Customer:
        """One customer."""
        return Customer(
            id=customer_id,
            name="Ada Brandt",
            status="gold",
            balance_micro_usd=184_000_000,
            notes=["prefers mail", f"her shop's key is {SECRETS[0]}, do not share"],
            password=SECRETS[1],
        )

    @mcp.tool()
    def set_status(customer_id: str, status: str) -> str:
        """Change a customer's status. Can be changed back."""
        happened("set_status", customer=customer_id, status=status)
        return f"{customer_id} is now {status}."

    @mcp.tool()
    def pay(invoice: str, amount_micro_usd: int) -> str:
        """Pay an invoice."""
        happened("pay", invoice=invoice, amount_micro_usd=amount_micro_usd)
        return f"Paid {amount_micro_usd} micro-USD for {invoice}."

    @mcp.tool(annotations=_READING)
    async def build_report(title: str, seconds: float, ctx: Context) -> str:
        """A report; it takes the given seconds and says how far it is."""
        parts = 6
        for part in range(parts):
            await ctx.report_progress(part, parts, f"part {part} of {title}")
            await asyncio.sleep(seconds / parts)
        return f"Report '{title}' is ready."

    @mcp.tool()
    def drop_customers() -> str:
        """Delete all customers for good."""
        happened("drop_customers")
        return "gone"

    return mcp


def main() -> None:
    """Serve until killed; the first line on stdout says where, as JSON."""
    sock = socket.create_server(("127.0.0.1", 0))
    app = server(Path(sys.argv[1])).streamable_http_app(host="127.0.0.1")
    print(json.dumps({"url": f"http://127.0.0.1:{sock.getsockname()[1]}/mcp"}), flush=True)
    uvicorn.Server(uvicorn.Config(app, log_level="warning")).run(sockets=[sock])


if __name__ == "__main__":
    main()
