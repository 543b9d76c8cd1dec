"""A gateway around the MCP front: the real pipeline, state and bounds, a scripted upstream, real uvicorn.

What the front is judged by is on both sides of it: what went out on the socket, and what reached the
upstream. ``Desk.calls`` is the list of everything that did; most tests of bad input end by asserting that
it is empty.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import orjson
import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from gateway.approvals.absent import NoApprovals
from gateway.clock import SystemClock
from gateway.config import LimitsConfig, ServerConfig
from gateway.digest import call_digest  # noqa: F401  # the digest is the real one
from gateway.errors import Refused, Unauthenticated
from gateway.limits import InFlight
from gateway.model import (
    QUESTIONS,
    Call,
    Decision,
    Facts,
    Finding,
    Manifest,
    Outcome,
    Presented,
    Principal,
    Tool,
)
from gateway.ports import Parts, ResultDecision
from gateway.state.memory import MemoryState
from gateway.surfaces.mcp import McpSurface
from tests.state.fresh import fresh_state

ALICE = Principal(tenant="t", agent="alice", owner="team", credential="k-alice")
BOB = Principal(tenant="t", agent="bob", owner="team", credential="k-bob")
TOKENS = {b"Bearer alice": ALICE, b"Bearer bob": BOB}

VERSION = "2026-07-28"
META = {
    "io.modelcontextprotocol/protocolVersion": VERSION,
    "io.modelcontextprotocol/clientCapabilities": {},
}
ACCEPT = "application/json, text/event-stream"

Handler = Callable[[Call, Any], Awaitable[Outcome]]


def ok(result: bytes = b'{"content":[{"type":"text","text":"done"}]}') -> Outcome:
    return Outcome(status="ok", result_json=result)


def definition(name: str, **more: Any) -> bytes:
    return orjson.dumps({"name": name, "inputSchema": {"type": "object"}, **more})


def entry(kind: str, upstream: str, name: str, raw: bytes | None = None, **manifest: Any) -> Tool:
    if raw is None:
        raw = definition(name) if kind != "resource" else orjson.dumps({"name": name, "uri": name})
    return Tool(
        kind=kind,  # type: ignore[arg-type]  # test data
        upstream=upstream,
        name=name,
        target=f"{upstream}/{name}",
        manifest=Manifest(**{"risk": "read", **manifest}),
        schema_hash="h",
        definition_json=raw,
    )


class Info:
    def __init__(self, capabilities: dict[str, Any], era: str = "modern") -> None:
        self.name = "files"
        self.title = "Files"
        self.server_version = "1.2"
        self.instructions = "Be kind to files."
        self.capabilities = capabilities
        self.era = era


class Desk:
    """The parts behind the front, in memory and honest; ``calls`` is what reached the upstream."""

    def __init__(self, tools: list[Tool] | None = None) -> None:
        self.revision = "c1"
        self.listed = tools if tools is not None else [entry("tool", "files", "read")]
        self.calls: list[Call] = []
        self.noted: list[tuple[str, str | None, str]] = []
        self.counted: list[str] = []
        self.recorded: list[tuple[str, str]] = []
        self.denied: dict[str, Finding] = {}  # by target
        self.notes: tuple[Finding, ...] = ()
        self.verdict: str = "deny"
        self.hidden: set[tuple[str, str]] = set()  # (agent, target)
        self.handler: Handler | None = None
        self.answer = ok()
        self.limits = InFlight(LimitsConfig())
        self.infos: dict[str, Info | None] = {}
        self.unsubscribed: list[tuple[tuple[str, str, str, str], str, str]] = []
        self.questions: dict[tuple[str, str], Tool] = {}
        self.left: list[str] = []  # threads of clients that are gone

    def parts(self) -> Parts:
        return Parts(
            clock=SystemClock(), catalog=self, state=self.state, policy=_Policy(self),
            approvals=NoApprovals(), journal=_Journal(self), upstreams=self, telemetry=_Telemetry(self),
            limits=self.limits, controls=("approvals:absent",),
        )  # fmt: skip

    @property
    def state(self) -> MemoryState:
        if not hasattr(self, "_state"):
            self._state = fresh_state()
        return self._state

    def info(self, upstream: str) -> Info | None:
        if not any(tool.upstream == upstream for tool in self.listed):
            raise Refused("unknown_upstream")
        return self.infos.get(upstream)

    # -- catalog
    def resolve(self, kind: str, upstream: str, name: str) -> Tool:
        for tool in self.listed:
            if (tool.kind, tool.upstream, tool.name) == (kind, upstream, name):
                return tool
        if kind == "completion":
            for tool in self.listed:
                if tool.upstream == upstream and tool.name == name:
                    return entry("completion", upstream, name)
        if kind == "subscription" and self.resolve("resource", upstream, name):
            return entry("subscription", upstream, name)
        if QUESTIONS.get(name) == kind:
            return self.questions.setdefault((upstream, name), entry(kind, upstream, name))
        raise Refused("unknown_tool")

    def tools(self, kind: str, upstream: str | None = None) -> list[Tool]:
        mine = [t for t in self.listed if t.kind == kind and upstream in (None, t.upstream)]
        return [t for t in mine if not t.pin.quarantined]

    def held(self) -> list[Tool]:
        return [t for t in self.listed if t.pin.quarantined]

    # -- upstreams
    async def execute(self, call: Call, dialogue: Any) -> Outcome:
        self.calls.append(call)
        return self.answer if self.handler is None else await self.handler(call, dialogue)

    async def unsubscribe(self, who: tuple[str, str, str, str], upstream: str, uri: str) -> None:
        self.unsubscribed.append((who, upstream, uri))

    def ended(self, thread: str) -> None:
        self.left.append(thread)


class _Policy:
    revision = "p1"

    def __init__(self, desk: Desk) -> None:
        self.desk = desk

    async def call(self, call: Call, facts: Facts) -> Decision:
        finding = self.desk.denied.get(call.tool.target)
        if finding is None:
            fine = Finding(code="allowed", message="fine")
            return Decision(verdict="allow", findings=(fine,), notes=self.desk.notes)
        return Decision(verdict=self.desk.verdict, findings=(finding,))  # type: ignore[arg-type]  # scripted

    def wants_result(self, call: Call) -> bool:
        return False

    async def result(self, call: Call, facts: Facts, outcome: Outcome) -> ResultDecision:
        raise AssertionError("no result policy here")

    def visible(self, principal: Principal, tools: Any, facts: Facts) -> list[Tool]:
        return [tool for tool in tools if self.sees(principal, tool, facts)]

    def sees(self, principal: Principal, tool: Tool, facts: Facts) -> bool:
        return (principal.agent, tool.target) not in self.desk.hidden

    def modify(self, call: Call, decision: Decision) -> None:
        return None


class _Journal:
    writable = True

    def __init__(self, desk: Desk) -> None:
        self.desk = desk

    async def intent(
        self,
        call: Call,
        facts: Facts,
        decision: Decision,
        action: str,
        code: str = "",
        settled: Any = None,
        permit: Any = None,
    ) -> None:
        self.desk.recorded.append((action, decision.verdict))

    async def settle(self, *record: Any, permit: Any = None) -> None:
        self.desk.recorded.append(("settled", ""))

    def refused(self, code: str, surface: str, principal: Principal | None, detail: str) -> None:
        assert surface == "mcp"
        self.desk.noted.append((code, principal.agent if principal else None, detail))


class _Telemetry:
    def __init__(self, desk: Desk) -> None:
        self.desk = desk

    def call_started(self, call: Call) -> Call:
        return call

    def traceparent(self, token: Call) -> str:
        return token.traceparent

    def refused(self, code: str, surface: str) -> None:
        self.desk.counted.append(code)

    def call_ended(self, *what: Any) -> None: ...
    def waits(self, *what: Any) -> None: ...
    def decided(self, *what: Any) -> None: ...
    def inspected(self, *what: Any) -> None: ...
    def unenforced(self, *what: Any) -> None: ...


async def authenticate(presented: Presented) -> Principal:
    header = presented.authorization
    if header is None:
        raise Unauthenticated("no_credential")
    if header not in TOKENS:
        raise Unauthenticated("bad_credential")
    return TOKENS[header]


class House:
    """A running front: its desk, its surface and where it listens."""

    def __init__(self, desk: Desk, surface: McpSurface, port: int) -> None:
        self.desk = desk
        self.surface = surface
        self.port = port

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def raw(self, request: bytes, *, until_close: bool = False) -> Answer:
        """Send bytes as they are and read one response."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        try:
            writer.write(request)
            return await read_answer(reader)
        finally:
            writer.close()

    async def post(
        self,
        body: Any,
        *,
        path: str = "/mcp/files",
        token: str | None = "alice",
        headers: dict[str, str] | None = None,
        extra: list[tuple[str, str]] | None = None,
        method: str = "POST",
    ) -> Answer:
        """One request on its own connection; ``headers`` replace or (with ``""``) remove the usual ones."""
        payload = body if isinstance(body, bytes) else json.dumps(body, separators=(",", ":")).encode()
        usual = {
            "Host": f"127.0.0.1:{self.port}",
            "Content-Type": "application/json",
            "Accept": ACCEPT,
            "Content-Length": str(len(payload)),
        }
        if token is not None:
            usual["Authorization"] = f"Bearer {token}"
        usual |= headers or {}
        lines = [f"{method} {path} HTTP/1.1"]
        lines += [f"{name}: {value}" for name, value in usual.items() if value]
        lines += [f"{name}: {value}" for name, value in extra or []]
        head = "\r\n".join(lines) + "\r\nConnection: close\r\n\r\n"
        return await self.raw(head.encode("utf-8") + payload)

    async def modern(self, method: str, params: dict[str, Any] | None = None, **more: Any) -> Answer:
        """A well-formed 2026-07-28 request; ``meta`` is merged, ``headers`` override."""
        params = dict(params or {})
        params["_meta"] = {**META, **more.pop("meta", {})}
        headers = {"MCP-Protocol-Version": VERSION, "Mcp-Method": method}
        name = params.get("uri") if method == "resources/read" else params.get("name")
        if isinstance(name, str) and method in ("tools/call", "prompts/get", "resources/read"):
            headers["Mcp-Name"] = name
        headers |= more.pop("headers", {})
        message = {"jsonrpc": "2.0", "id": more.pop("id", 1), "method": method, "params": params}
        return await self.post(message, headers=headers, **more)

    async def initialize(self, *, token: str = "alice", path: str = "/mcp/files", **params: Any) -> Answer:
        params = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "x"}, **params}
        message = {"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": params}
        return await self.post(message, token=token, path=path)

    async def legacy(self, session: str, method: str, params: Any = None, **more: Any) -> Answer:
        message: dict[str, Any] = {"jsonrpc": "2.0", "id": more.pop("id", 1), "method": method}
        if params is not None:
            message["params"] = params
        headers = {"Mcp-Session-Id": session, "MCP-Protocol-Version": "2025-11-25"} | more.pop("headers", {})
        return await self.post(message, headers=headers, **more)


class Answer:
    """One HTTP response as it was on the wire."""

    def __init__(self, status: int, headers: dict[str, str], body: bytes) -> None:
        self.status = status
        self.headers = headers
        self.body = body

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def error(self) -> tuple[int, int]:
        return self.status, self.json["error"]["code"]

    @property
    def events(self) -> list[Any]:
        assert self.headers["content-type"] == "text/event-stream"
        blocks = [block for block in self.body.decode().split("\n\n") if block.strip()]
        return [json.loads(block.split("data: ", 1)[1]) for block in blocks if "data: " in block]


async def read_answer(reader: asyncio.StreamReader) -> Answer:
    head = await reader.readuntil(b"\r\n\r\n")
    first, *lines = head.decode("latin-1").strip().split("\r\n")
    headers = {k.lower(): v.strip() for k, _, v in (line.partition(":") for line in lines)}
    status = int(first.split()[1])
    if "content-length" in headers:
        body = await reader.readexactly(int(headers["content-length"]))
    elif headers.get("transfer-encoding") == "chunked":
        body = b""
        while size := int(await reader.readline(), 16):
            body += await reader.readexactly(size)
            await reader.readline()
    else:
        body = await reader.read() if status != 202 else b""
    return Answer(status, headers, body)


@contextlib.asynccontextmanager
async def open_house(desk: Desk | None = None, **config: Any) -> AsyncIterator[House]:
    """A front on a free port of loopback, stopped at the end."""
    desk = desk or Desk()
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port = sock.getsockname()[1]
        surface = McpSurface(
            desk.parts, authenticate, ServerConfig(port=port, **config), desk.info, bytes(range(32))
        )
        settings = uvicorn.Config(
            surface, loop="none", http="httptools", ws="none", lifespan="off", log_config=None,
            access_log=False,
        )  # fmt: skip
        settings.load()
        state = ServerState()
        # uvicorn's own protocol on a plain asyncio server: its main loop would add 0.2 s to every test.
        server = await asyncio.get_running_loop().create_server(
            lambda: HttpToolsProtocol(config=settings, server_state=state, app_state={}), sock=sock
        )
        try:
            yield House(desk, surface, port)
        finally:
            surface.close()
            server.close()
            for connection in list(state.connections):
                connection.shutdown()
            await asyncio.gather(*state.tasks, return_exceptions=True)
