"""A modern MCP server with one tool that reports progress for as long as it is told to, and sees who leaves.

    python -m tests.e2e.streaming        prints its URL; each end of a connection before its answer is a line

Raw sockets, so that hundreds of streams cost this side next to nothing.
"""

from __future__ import annotations

import asyncio
import json
from typing import Any

STEP_S = 1.0
TEXT = "x" * 200  # of each progress message


async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while True:
            head = await reader.readuntil(b"\r\n\r\n")
            length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
            await answer(json.loads(await reader.readexactly(length)), reader, writer)
    except (asyncio.IncompleteReadError, ConnectionError):
        pass
    finally:
        writer.close()


async def answer(message: dict[str, Any], reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    result: dict[str, Any] = {"resultType": "complete"}
    if message["method"] == "server/discover":
        result |= {"supportedVersions": ["2026-07-28"], "capabilities": {"tools": {}}}
    elif message["method"] == "tools/list":
        result["tools"] = [{"name": "watch", "inputSchema": {"type": "object"}}]
    elif message["method"] == "tools/call":
        await stream(message, reader, writer)
        return
    body = json.dumps({"jsonrpc": "2.0", "id": message["id"], "result": result}).encode()
    writer.write(
        b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b"
        % (len(body), body)
    )


async def stream(message: dict[str, Any], reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    token = message["params"]["_meta"]["progressToken"]
    steps = message["params"]["arguments"]["steps"]
    writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n")
    gone = asyncio.ensure_future(reader.read(1))  # nothing is pipelined, so a byte or an end is an end
    try:
        for step in range(steps):
            params = {"progressToken": token, "progress": step, "total": steps, "message": TEXT}
            send(writer, {"jsonrpc": "2.0", "method": "notifications/progress", "params": params})
            done, _ = await asyncio.wait((gone,), timeout=STEP_S)
            if done:
                print(json.dumps({"left": token}), flush=True)
                raise ConnectionResetError
    finally:
        gone.cancel()
        await asyncio.wait((gone,))
    done_text = {"type": "text", "text": f"{steps} steps"}
    result = {"resultType": "complete", "content": [done_text]}
    send(writer, {"jsonrpc": "2.0", "id": message["id"], "result": result})
    writer.write(b"0\r\n\r\n")


def send(writer: asyncio.StreamWriter, message: dict[str, Any]) -> None:
    event = b"data: " + json.dumps(message).encode() + b"\n\n"
    writer.write(b"%x\r\n%b\r\n" % (len(event), event))


async def main() -> None:
    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    print(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/mcp", flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main())
