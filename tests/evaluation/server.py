"""The tool servers of all suites as one process part: real HTTP, MCP 2026-07-28, one path a suite.

They run in a thread of the evaluation, so that it can look at what really happened without asking anybody.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from tests.evaluation.worlds.kit import World

Json = Any
MODERN = "2026-07-28"


@contextmanager
def serving(worlds: dict[str, World]) -> Iterator[dict[str, str]]:
    """Serve the worlds until the context ends; yields the URL of each by its name."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        wbufsize = -1  # one write an answer
        disable_nagle_algorithm = True

        def do_POST(self) -> None:
            message = json.loads(self.rfile.read(int(self.headers["content-length"])))
            world = worlds[self.path.split("/")[1]]
            body = json.dumps({"jsonrpc": "2.0", "id": message.get("id"), **_answer(world, message)}).encode()
            self.send_response(200)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            """Nobody reads it."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, name="tool-servers", daemon=True)
    thread.start()
    try:
        yield {name: f"http://127.0.0.1:{server.server_address[1]}/{name}/mcp" for name in worlds}
    finally:
        server.shutdown()
        server.server_close()
        thread.join(10)


def _answer(world: World, message: Json) -> dict[str, Json]:
    method, params = message["method"], message.get("params", {})
    if method == "server/discover":
        result: Json = {
            "supportedVersions": [MODERN],
            "capabilities": {"tools": {}},
            "_meta": {"io.modelcontextprotocol/serverInfo": {"name": "evaluation", "version": "1"}},
        }
    elif method == "tools/list":
        result = {"tools": [tool.definition for tool in world.tools.values()]}
    elif method == "tools/call" and params["name"] in world.tools:
        result = world.call(params["name"], params["arguments"])
    else:
        return {"error": {"code": -32601, "message": "no such method or tool"}}
    return {"result": {**result, "resultType": "complete"}}
