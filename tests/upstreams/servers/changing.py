"""A server on stdio whose one resource changes whenever a tool is called; ``modern`` or 2025-11-25.

Flags: ``modern``; ``log FILE`` writes down every message: process, method, id of the request, and when.
The tool ``die`` ends the process, ``end`` ends a modern stream of changes in good order, ``hold`` and
``look`` are never answered.
"""

import json
import os
import sys
import time
from pathlib import Path

URI = "test://changing"
MODERN = "modern" in sys.argv
LOG = sys.argv[sys.argv.index("log") + 1]


def send(message: object) -> None:
    print(json.dumps(message), flush=True)


def changed(subscription: object) -> None:
    params: dict = {"uri": URI}
    if MODERN:
        params["_meta"] = {"io.modelcontextprotocol/subscriptionId": subscription}
    send({"jsonrpc": "2.0", "method": "notifications/resources/updated", "params": params})


def main() -> None:
    told: dict = {}  # uri, or id of a stream → id of a stream
    for line in sys.stdin:
        message = json.loads(line)
        method, number = message.get("method"), message.get("id")
        with Path(LOG).open("a") as log:
            about = message.get("params", {}).get("requestId", number)
            log.write(f"{os.getpid()} {method} {about} {time.time()}\n")
        result: dict = {"resultType": "complete"} if MODERN else {}
        if method == "server/discover" and MODERN:
            result |= {"supportedVersions": ["2026-07-28"], "capabilities": {"tools": {}, "resources": {}}}
        elif method == "initialize" and not MODERN:
            result = {
                "protocolVersion": "2025-11-25",
                "capabilities": {"tools": {}, "resources": {"subscribe": True}},
                "serverInfo": {"name": "changing", "version": "1"},
            }
        elif method == "resources/subscribe" and not MODERN:
            if message["params"]["uri"] != URI:
                send({"jsonrpc": "2.0", "id": number, "error": {"code": -32002, "message": "no such"}})
                continue
            told[URI] = None
        elif method == "resources/unsubscribe" and not MODERN:
            told.pop(message["params"]["uri"], None)
        elif method == "subscriptions/listen" and MODERN:
            told[number] = number
            params = {
                "_meta": {"io.modelcontextprotocol/subscriptionId": number},
                "notifications": message["params"]["notifications"],
            }
            send({"jsonrpc": "2.0", "method": "notifications/subscriptions/acknowledged", "params": params})
            continue
        elif method == "tools/list":
            names = ("hold", "look", "touch", "die")
            result["tools"] = [{"name": name, "inputSchema": {"type": "object"}} for name in names]
        elif method in ("resources/list", "resources/templates/list"):
            result |= {"resources": [{"uri": URI, "name": "changing"}], "resourceTemplates": []}
        elif method == "notifications/cancelled":
            told.pop(message["params"]["requestId"], None)
            continue
        elif method == "tools/call":
            name = message["params"]["name"]
            if name == "die":
                os._exit(3)
            if name in ("hold", "look"):
                continue
            for key, stream in list(told.items()):
                if name == "end":
                    del told[key]
                    send({"jsonrpc": "2.0", "id": stream, "result": {"resultType": "complete"}})
                else:
                    changed(stream)
            result["content"] = []
        elif number is not None:
            send({"jsonrpc": "2.0", "id": number, "error": {"code": -32601, "message": "Method not found"}})
            continue
        if number is not None:
            send({"jsonrpc": "2.0", "id": number, "result": result})


main()
