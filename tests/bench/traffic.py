"""The bytes of one realistic call: MCP 2026-07-28, 1.5 KB, as the SDKs send it.

Each request differs from the one before (id, one argument) so that nothing is answered from a memory that
real traffic would not hit, and all have the same length so that building one costs the client a join.
"""

from __future__ import annotations

from collections.abc import Callable

import orjson

PROTOCOL = "2026-07-28"
_SERIAL = "000000000000"
_NOTE = (
    "The customer wrote in on Monday that the second shipment had not arrived and asked whether the part "
    "order could be changed. "
) * 8


def arguments(serial: str = _SERIAL) -> dict[str, object]:
    """About 1.2 KB of what tools are called with: ids, a list, a nested object, some prose."""
    return {
        "reference": f"case-{serial}",
        "customer": {"id": "c-20417", "segment": "retail", "country": "PT", "since": 2019},
        "amount_micro_usd": 1_250_000,
        "lines": [{"sku": f"A-{n:04}", "quantity": n, "unit": "piece"} for n in range(1, 5)],
        "note": _NOTE,
    }


def requests(host: str, path: str, key: str, tools: tuple[str, ...]) -> Callable[[int], bytes]:
    """Return a function that makes the HTTP request number ``n``; the tools take turns."""
    parts = [_template(host, path, key, tool) for tool in tools]

    def request(n: int) -> bytes:
        serial = b"%012d" % n
        return serial.join(parts[n % len(parts)])

    return request


def _template(host: str, path: str, key: str, tool: str) -> list[bytes]:
    body = orjson.dumps(
        {
            "jsonrpc": "2.0",
            "id": f"call-{_SERIAL}",
            "method": "tools/call",
            "params": {
                "name": tool,
                "arguments": arguments(),
                "_meta": {
                    "io.modelcontextprotocol/protocolVersion": PROTOCOL,
                    "io.modelcontextprotocol/clientCapabilities": {},
                    "io.modelcontextprotocol/clientInfo": {"name": "bench", "version": "1.0"},
                },
            },
        }
    )
    head = (
        f"POST {path} HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {key}\r\n"
        "Content-Type: application/json\r\nAccept: application/json, text/event-stream\r\n"
        f"MCP-Protocol-Version: {PROTOCOL}\r\nMcp-Method: tools/call\r\nMcp-Name: {tool}\r\n"
        f"User-Agent: wardgate-bench/1.0\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return (head.encode() + body).split(_SERIAL.encode())
