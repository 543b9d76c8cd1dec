"""A legacy MCP server (2025-11-25) on stdio, written by hand so that it can also misbehave.

Flags: ``crash`` ends at once, ``mute-discover`` never answers what it does not know, ``die-on-discover``,
``oldest`` speaks 2024-11-05.
"""

import json
import os
import subprocess
import sys
import threading
import time

lock = threading.Lock()


def send(message: object) -> None:
    with lock:
        print(json.dumps(message), flush=True)


def raw(text: str) -> None:
    with lock:
        sys.stdout.write(text)
        sys.stdout.flush()


def answer(number: object, text: str) -> None:
    send({"jsonrpc": "2.0", "id": number, "result": {"content": [{"type": "text", "text": text}]}})


def call(message: dict) -> None:
    number, params = message["id"], message["params"]
    name, args = params["name"], params.get("arguments", {})
    if name == "echo":
        answer(number, args.get("text", ""))
    elif name == "sleep":
        time.sleep(args["seconds"])
        answer(number, str(args.get("text", "")))
    elif name == "pid":
        answer(number, str(os.getpid()))
    elif name == "env":
        answer(number, json.dumps(dict(os.environ)))
    elif name == "params":
        answer(number, json.dumps(params))
    elif name == "die":
        os._exit(3)
    elif name == "grandchild":
        ignoring = "import signal,time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(300)"
        answer(number, str(subprocess.Popen([sys.executable, "-c", ignoring]).pid))
    elif name == "garbage":
        raw("not json\n" * args["lines"])
        answer(number, "after garbage")
    elif name == "big":
        answer(number, "x" * args["bytes"])
    elif name == "big-note":
        send({"jsonrpc": "2.0", "method": "notifications/message", "params": {"data": "x" * args["bytes"]}})
        answer(number, "after a big note")
    elif name == "progress":
        token = params["_meta"]["progressToken"]
        for step in range(args["steps"]):
            note = {"progressToken": token, "progress": step}
            send({"jsonrpc": "2.0", "method": "notifications/progress", "params": note})
        answer(number, "done")
    elif name == "log":
        send({"jsonrpc": "2.0", "method": "notifications/message", "params": {"data": args["text"]}})
        answer(number, "logged")
    elif name == "changed":
        send({"jsonrpc": "2.0", "method": "notifications/tools/list_changed"})
        answer(number, "changed")
    elif name == "ask":
        waiting[77] = number
        send({"jsonrpc": "2.0", "id": 77, "method": "sampling/createMessage", "params": {}})
    elif name == "twice":
        answer(number, "first")
        answer(number, "second")
    elif name == "wrong-id":
        answer(number + 1000, "for somebody else")
    elif name == "stderr":
        sys.stderr.write(args["text"] + "\n")
        sys.stderr.flush()
        answer(number, "written")
    else:
        send({"jsonrpc": "2.0", "id": number, "error": {"code": -32602, "message": "Unknown tool"}})


waiting: dict = {}
cancelled: list = []


def main() -> None:
    if "crash" in sys.argv:
        print("no licence found", file=sys.stderr)
        sys.exit(1)
    for line in sys.stdin:
        message = json.loads(line)
        method, number = message.get("method"), message.get("id")
        if method == "initialize":
            capabilities = {"tools": {"listChanged": True}}
            server = {"name": "legacy", "version": "0.9"}
            version = "2024-11-05" if "oldest" in sys.argv else "2025-11-25"
            result = {"protocolVersion": version, "capabilities": capabilities, "serverInfo": server}
            send({"jsonrpc": "2.0", "id": number, "result": result})
        elif method == "tools/list":
            tool = {"name": "echo", "inputSchema": {"type": "object"}}
            send({"jsonrpc": "2.0", "id": number, "result": {"tools": [tool]}})
        elif method == "tools/call":
            threading.Thread(target=call, args=(message,), daemon=True).start()
        elif method == "notifications/cancelled":
            cancelled.append(message["params"]["requestId"])
        elif method == "test/cancelled":
            send({"jsonrpc": "2.0", "id": number, "result": {"cancelled": cancelled}})
        elif method is None and number in waiting:
            answer(waiting.pop(number), json.dumps(message.get("error", message.get("result"))))
        elif number is not None and "die-on-discover" in sys.argv and method == "server/discover":
            os._exit(4)
        elif number is not None and "mute-discover" not in sys.argv:
            send({"jsonrpc": "2.0", "id": number, "error": {"code": -32601, "message": "Method not found"}})


main()
