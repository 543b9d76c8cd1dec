"""A gateway with tools of both kinds, and a client that sends exactly what a test says."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import aiohttp

from tests.e2e.gateway import TOOLS, Counting, Wardgate, rule

POLICY: Final = rule(
    "calls",
    """
allow contains {"code": "fine", "message": "fine"} if not input.call.args.forbidden

deny contains {"code": "over_limit", "message": "above the limit", "remedy": "ask for less"} if {
    input.call.args.forbidden
}

escalate contains {"code": "ask_somebody", "message": "a person decides"} if input.call.args.escalate

obligation contains {"kind": "cap", "value": {"pointer": "/amount", "max": 100}} if {
    input.call.args.amount > 100
}
""",
    codes=["fine", "over_limit", "ask_somebody"],
)
RESULTS: Final = rule(
    "results",
    """
deny contains {"code": "secret_result", "message": "it holds a secret"} if {
    contains(input.result.text, "top secret")
}

obligation contains {"kind": "redact", "value": {"patterns": {"card": "[0-9]{16}"}}} if true
""",
    codes=["secret_result"],
    phase="result",
    scope={"tools": ["laptop/Judged", "counting/look"]},
)
HIDDEN: Final = rule(
    "hidden",
    """
deny contains {"code": "out_of_sight", "message": "hidden"} if input.tool.name == "Hidden"
""",
    codes=["out_of_sight"],
    phase="list",
)

LAPTOP: Final[dict[str, Any]] = {
    "elsewhere": True,
    "tools": {
        "Bash": {"risk": "irreversible", "effects": ["write"]},
        "Read": {"risk": "read"},
        "Judged": {"risk": "reversible"},
        "Hidden": {"risk": "read"},
        "Short*": {"risk": "irreversible", "deadline_s": 0.3},
        "Pay": {"risk": "irreversible", "effect_key": "pay:{id}", "deadline_s": 0.3},
        "PayLong": {"risk": "irreversible", "effect_key": "paylong:{id}"},
    },
}
SHOP: Final[dict[str, Any]] = {
    "elsewhere": True,
    "tools": {
        "pay": {"risk": "irreversible", "effects": ["write", "money"]},
        "refund": {"risk": "irreversible", "effect_key": "refund:{id}"},
        "list": {"risk": "read"},
    },
    "routes": [
        {"method": "POST", "path": "/payments/{id}", "tool": "pay", "body": "json"},
        {"method": "POST", "path": "/refunds/{id}", "tool": "refund"},
        {"method": "GET", "path": "/payments", "tool": "list"},
        {"method": "GET", "path": "/", "tool": "home"},
    ],
}


def configured(folder: Path, counting: Counting, **sections: Any) -> Wardgate:
    tools = {**TOOLS, "look": {"risk": "read"}, "pay": {"risk": "irreversible", "deadline_s": 0.3}}
    sections["limits"] = {"policy_input_bytes": 1_000_000, **sections.get("limits", {})}
    wardgate = Wardgate(
        folder,
        {"counting": {"url": counting.url, "tools": tools}, "laptop": LAPTOP, "shop": SHOP},
        **sections,
    )
    wardgate.policy("all.rego", POLICY)
    wardgate.policy("results.rego", RESULTS)
    wardgate.policy("hidden.rego", HIDDEN)
    return wardgate


class Got:
    """One response."""

    def __init__(self, status: int, headers: Mapping[str, str], body: bytes) -> None:
        self.status = status
        self.headers = headers
        self.raw = body
        self.body: dict[str, Any] = json.loads(body) if body else {}

    @property
    def code(self) -> str:
        assert self.headers["content-type"] == "application/problem+json", self.raw
        assert self.body["status"] == self.status and self.body["type"].endswith(self.body["code"])
        return str(self.body["code"])


class Client:
    """An agent over HTTP."""

    def __init__(self, http: aiohttp.ClientSession, wardgate: Wardgate, key: str) -> None:
        self.http = http
        self.wardgate = wardgate
        self.key = key

    async def send(
        self, method: str, path: str, body: bytes | None = None, headers: Mapping[str, str] | None = None
    ) -> Got:
        sent = {"authorization": f"Bearer {self.key}"} if self.key else {}
        if body is not None:
            sent["content-type"] = "application/json"
        # Encoded already: what a test writes is what goes on the wire.
        from yarl import URL

        url = URL(self.wardgate.agents_url + path, encoded=True)
        async with self.http.request(method, url, data=body, headers={**sent, **(headers or {})}) as response:
            return Got(response.status, response.headers, await response.read())

    async def get(self, path: str) -> Got:
        return await self.send("GET", path)

    async def post(self, path: str, body: Any, **headers: str) -> Got:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return await self.send("POST", path, json.dumps(body).encode(), named)

    async def call(self, tool: str, *, key: str = "", **arguments: Any) -> Got:
        headers = {"idempotency_key": key} if key else {}
        return await self.post("/v1/calls", {"tool": tool, "arguments": arguments}, **headers)

    async def decide(self, tool: str, *, key: str = "", **arguments: Any) -> Got:
        headers = {"idempotency_key": key} if key else {}
        return await self.post("/v1/decide", {"tool": tool, "arguments": arguments}, **headers)

    async def settle(self, decision: Got | str, outcome: str = "ok", **more: Any) -> Got:
        decision_id = decision if isinstance(decision, str) else decision.body["decision_id"]
        return await self.post("/v1/settle", {"decision_id": decision_id, "outcome": outcome, **more})


@asynccontextmanager
async def client(wardgate: Wardgate, agent: str) -> AsyncIterator[Client]:
    async with aiohttp.ClientSession() as http:
        yield Client(http, wardgate, wardgate.key(agent))
