"""An MCP server (2026-07-28) that remembers everything that reaches it and misbehaves on request.

Every request is one line in a file, written before anything else happens, and so is every effect: an
effect counts from the moment the line is there, whatever becomes of the answer. The file outlives this
process, so a test can compare what happened here with what the gateway has on record.

A tool call says in its argument ``then`` what is to become of the answer; the effect happens in any case.
With ``keep: NAME`` its text is stored, and a call with ``of: NAME`` returns what is stored there; what is
given as ``structured`` is returned as structured content.

    python -m tests.e2e.upstream LOG            HTTP, on a free port (or $PORT), at /mcp
    python -m tests.e2e.upstream LOG --stdio    the same server on stdio

With LISTS=<a JSON file> the file's members, by method, stand in for the lists below; it is read at each
request, so that a test can change what is offered meanwhile. ``then: "changed"`` says so before answering.

With WITNESS=<the gateway's database> each effect also says whether, at that moment, the intent of an effect
key ``note:<text>`` was already in that file.
"""

from __future__ import annotations

import asyncio
import json
import os
import sqlite3
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

MODERN: Final = "2026-07-28"
CANARY_RESULT: Final = "canary-result-3f9c"

_SCHEMA: Final = {"type": "object", "properties": {"text": {"type": "string"}, "then": {"type": "string"}}}
_TOOLS: Final = ("look", "note", "pay", "send")
_LISTS: Final[dict[str, dict[str, Any]]] = {
    "tools/list": {"tools": [{"name": name, "inputSchema": _SCHEMA} for name in _TOOLS]},
    "prompts/list": {"prompts": [{"name": "greet", "arguments": [{"name": "who"}]}]},
    "resources/list": {"resources": [{"uri": "note://today", "name": "today"}]},
    "resources/templates/list": {"resourceTemplates": []},
}
_USES: Final[dict[str, dict[str, Any]]] = {
    "prompts/get": {"messages": [{"role": "user", "content": {"type": "text", "text": "hello"}}]},
    "resources/read": {"contents": [{"uri": "note://today", "text": "sunny"}]},
    "completion/complete": {"completion": {"values": ["one"], "hasMore": False}},
}


class Log:
    """One line an event, appended whole: readable at any moment from another process."""

    def __init__(self, path: str) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def write(self, event: str, **more: Any) -> None:
        line = json.dumps({"event": event, "at_ns": time.time_ns(), **more})
        os.write(self._file, line.encode() + b"\n")


def discovered() -> dict[str, Any]:
    return {
        "resultType": "complete",
        "supportedVersions": [MODERN],
        "capabilities": {"tools": {}, "prompts": {}, "resources": {}, "completions": {}},
        "_meta": {"io.modelcontextprotocol/serverInfo": {"name": "counting", "version": "1"}},
    }


def answer(log: Log, message: dict[str, Any]) -> dict[str, Any]:
    """The JSON-RPC answer; the effect of a tool call is in the log when this returns."""
    method, params = message["method"], message.get("params", {})
    result: dict[str, Any]
    if method == "server/discover":
        result = discovered()
    elif method == "tools/call":
        log.write("effect", tool=params["name"], arguments=params["arguments"], intent_seen=witnessed(params))
        text = params["arguments"].get("echo", "done")
        if "of" in params["arguments"]:
            text = json.dumps(_KEPT.get(params["arguments"]["of"], {}))
        elif "keep" in params["arguments"]:
            keep(params["arguments"])
        result = {"content": [{"type": "text", "text": text}], "resultType": "complete"}
        if "structured" in params["arguments"]:
            result["structuredContent"] = params["arguments"]["structured"]
    elif method in _LISTS:
        result = {**lists()[method], "resultType": "complete"}
    elif method in _USES:
        result = {**_USES[method], "resultType": "complete"}
    else:
        return {"jsonrpc": "2.0", "id": message["id"], "error": {"code": -32601, "message": "no such method"}}
    return {"jsonrpc": "2.0", "id": message["id"], "result": result}


_KEPT: Final[dict[str, dict[str, Any]]] = {}


def keep(arguments: dict[str, Any]) -> None:
    """Store a text under a name, or only say so (``lose``), or do it a while later (``late``)."""

    def store() -> None:
        version = _KEPT.get(arguments["keep"], {}).get("version", 0) + 1
        _KEPT[arguments["keep"]] = {"text": arguments.get("text"), "version": version}

    if "late" in arguments:
        threading.Timer(arguments["late"], store).start()
    elif not arguments.get("lose"):
        store()


def lists() -> dict[str, dict[str, Any]]:
    path = Path(os.environ.get("LISTS", ""))
    return {**_LISTS, **json.loads(path.read_text())} if path.is_file() else _LISTS


def witnessed(params: dict[str, Any]) -> bool | None:
    path = os.environ.get("WITNESS")
    if path is None:
        return None
    with sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=10) as database:
        query = "SELECT count(*) FROM records WHERE phase = 'intent' AND effect_key = ?"
        found = database.execute(query, (f"note:{params['arguments'].get('text')}",)).fetchone()
    database.close()
    return bool(found[0])


def wish(message: dict[str, Any]) -> tuple[str, float]:
    """What is to become of the answer, and after how long."""
    arguments = message.get("params", {}).get("arguments") or {}
    return arguments.get("then", "answer"), float(arguments.get("seconds", 0))


# ------------------------------------------------------------------------------------------------ HTTP


async def serve_http(log: Log) -> None:
    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while (request := await _request(reader)) is not None:
                path, head, body = request
                message = json.loads(body)
                params = message.get("params", {})
                log.write(
                    "contact", path=path, method=message["method"], name=params.get("name", ""), head=head
                )
                if not await _respond(writer, message, answer(log, message)):
                    break
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(connected, "127.0.0.1", int(os.environ.get("PORT", "0")), backlog=512)
    port = server.sockets[0].getsockname()[1]
    print(json.dumps({"url": f"http://127.0.0.1:{port}/mcp", "pid": os.getpid()}), flush=True)
    await server.serve_forever()


async def _request(reader: asyncio.StreamReader) -> tuple[str, str, bytes] | None:
    try:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    except asyncio.IncompleteReadError:
        return None
    lines = head.split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:])}
    body = await reader.readexactly(int(headers.get("content-length", "0")))
    return lines[0].split(" ")[1], head, body


async def _respond(writer: asyncio.StreamWriter, message: dict[str, Any], reply: dict[str, Any]) -> bool:
    """Send the answer the way the call wished for; whether the connection can go on."""
    then, seconds = wish(message)
    body = json.dumps(reply).encode()
    head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n"
    if then in ("answer", "slow"):
        await asyncio.sleep(seconds)
        writer.write(head + b"content-length: %d\r\n\r\n" % len(body) + body)
        await writer.drain()
        return True
    if then == "changed":
        note = {"jsonrpc": "2.0", "method": "notifications/tools/list_changed"}
        events = b"".join(b"data: " + json.dumps(each).encode() + b"\n\n" for each in (note, reply))
        writer.write(
            b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncontent-length: %d\r\n\r\n%b"
            % (len(events), events)
        )
        await writer.drain()
        return True
    if then == "hang":
        await asyncio.sleep(3600)
    elif then == "die":
        writer.write(head + b"content-length: %d\r\n\r\n" % len(body) + body[: len(body) // 2])
        await writer.drain()
        writer.transport.abort()
    elif then == "exit":
        os._exit(1)
    elif then == "wrong_id":
        body = json.dumps({**reply, "id": 987_654}).encode()
        writer.write(head + b"content-length: %d\r\n\r\n" % len(body) + body)
        await writer.drain()
    elif then == "garbage":
        body = b'{"jsonrpc":"2.0","result":{"content":[' + b"?" * 20
        writer.write(head + b"content-length: %d\r\n\r\n" % len(body) + body)
        await writer.drain()
    elif then == "flood":
        await _flood(writer, head, b"x" * 65_536)
    elif then == "flood_events":
        note = {
            "jsonrpc": "2.0",
            "method": "notifications/message",
            "params": {"level": "info", "data": "x" * 900},
        }
        event = b"event: message\ndata: " + json.dumps(note).encode() + b"\n\n"
        head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n"
        await _flood(writer, head, event * 16)
    return False


async def _flood(writer: asyncio.StreamWriter, head: bytes, piece: bytes) -> None:
    writer.write(head + b"transfer-encoding: chunked\r\n\r\n")
    while True:
        writer.write(b"%x\r\n%b\r\n" % (len(piece), piece))
        await writer.drain()
        await asyncio.sleep(0)


# ----------------------------------------------------------------------------------------------- stdio


def serve_stdio(log: Log) -> None:
    for line in sys.stdin:
        message = json.loads(line)
        params = message.get("params", {})
        log.write("contact", path="stdio", method=message["method"], name=params.get("name", ""))
        if "id" not in message:
            continue
        reply = answer(log, message)
        then, seconds = wish(message)
        time.sleep(seconds)
        said: dict[str, Callable[[], str]] = {
            "wrong_id": lambda reply=reply: json.dumps({**reply, "id": 987_654}),
            "garbage": lambda: '{"jsonrpc": "2.0", "result"',
            "hang": lambda: "",
        }
        if then in ("die", "exit"):
            os._exit(1)
        print(said.get(then, lambda reply=reply: json.dumps(reply))(), flush=True)


if __name__ == "__main__":
    journal = Log(sys.argv[1])
    if "--stdio" in sys.argv:
        serve_stdio(journal)
    else:
        asyncio.run(serve_http(journal))
