"""Whatever comes in, something well-formed goes out; and a request lives in one configuration."""

from __future__ import annotations

import asyncio
import json

import orjson
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.catalog.catalog import ToolCatalog
from gateway.config import LimitsConfig, ServerConfig
from gateway.config_upstream import UpstreamConfig
from gateway.limits import InFlight
from gateway.model import Finding, Outcome
from gateway.surfaces.mcp import McpSurface
from tests.surfaces.mcp.support import ALICE, META, Desk, authenticate, entry, ok, open_house

ATOM = st.none() | st.booleans() | st.integers(-9, 9) | st.floats(allow_nan=False) | st.text(max_size=5)
VALUE = st.recursive(
    ATOM,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
METHODS = [
    "initialize", "ping", "server/discover", "logging/setLevel", "tools/call", "tools/list", "prompts/get",
    "prompts/list", "resources/read", "resources/list", "resources/templates/list", "completion/complete",
    "notifications/initialized", "resources/subscribe", "x",
]  # fmt: skip
ENVELOPE = st.sampled_from([META, {}, {**META, "progressToken": 1}, None, 7])
PARAMS = st.fixed_dictionaries(
    {},
    optional={
        "name": st.sampled_from(["read", "files__read", ""]) | VALUE,
        "uri": VALUE,
        "arguments": VALUE,
        "cursor": VALUE,
        "ref": VALUE | st.just({"type": "ref/prompt", "name": "read"}),
        "argument": VALUE,
        "level": VALUE,
        "protocolVersion": VALUE,
        "_meta": ENVELOPE,
    },
)
MESSAGE = st.fixed_dictionaries(
    {"jsonrpc": st.just("2.0") | ATOM, "method": st.sampled_from(METHODS) | VALUE},
    optional={"id": VALUE, "params": PARAMS | VALUE},
)
HEADERS = st.fixed_dictionaries(
    {},
    optional={
        b"mcp-protocol-version": st.sampled_from([b"2026-07-28", b"2025-11-25", b"x"])
        | st.binary(max_size=8),
        b"mcp-method": st.sampled_from([method.encode() for method in METHODS]) | st.binary(max_size=8),
        b"mcp-name": st.sampled_from([b"read", b"files__read"]) | st.binary(max_size=8),
        b"mcp-session-id": st.binary(max_size=8),
        b"accept": st.binary(max_size=8),
        b"content-type": st.just(b"application/json") | st.binary(max_size=8),
        b"content-length": st.binary(max_size=4),
        b"traceparent": st.binary(max_size=8),
        b"origin": st.binary(max_size=8),
    },
)
STATUSES = {200, 202, 400, 401, 403, 404, 405, 406, 413, 415, 421}


@settings(max_examples=400, deadline=None)
@given(
    message=MESSAGE | VALUE | st.binary(max_size=40),
    headers=HEADERS,
    path=st.sampled_from(["/mcp", "/mcp/files"]),
    known=st.booleans(),
)
def test_every_request_gets_a_well_formed_answer_and_no_fault_of_ours(message, headers, path, known):
    body = message if isinstance(message, bytes) else orjson.dumps(message)
    desk = Desk([entry("tool", "files", "read"), entry("prompt", "files", "read")])
    surface = McpSurface(desk.parts, authenticate, ServerConfig(), desk.info, bytes(range(32)))
    sent = []
    token = [(b"authorization", b"Bearer alice")] if known else []
    usual = {b"host": b"localhost", b"content-type": b"application/json"} | headers

    async def receive():
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(event):
        sent.append(event)

    scope = {"type": "http", "method": "POST", "path": path, "headers": [*usual.items(), *token]}
    asyncio.run(surface(scope, receive, send))

    start, *chunks = sent
    text = b"".join(chunk.get("body", b"") for chunk in chunks)
    assert start["status"] in STATUSES and "gateway_error" not in desk.counted
    assert not chunks[-1].get("more_body", False)
    if start["status"] == 202:
        assert text == b""
    else:
        if dict(start["headers"])[b"content-type"] == b"text/event-stream":
            text = text.split(b"data: ", 1)[1]
        answer = json.loads(text)
        assert answer["jsonrpc"] == "2.0" and ("result" in answer) != ("error" in answer)
    if not known:
        assert start["status"] != 200 and desk.calls == []
    for call in desk.calls:
        assert call.tool.target == "files/read" and isinstance(call.args, dict)


FATES = [
    "denied", "escalated", "hidden", "overloaded", "too large", "no object", "header", "in_doubt", "not_sent",
    "withheld", "failed", "broken", "duplicate", "deep", "legacy",
]  # fmt: skip
SECRET = st.text(alphabet=st.characters(min_codepoint=0x4E00, max_codepoint=0x9FFF), min_size=3, max_size=12)


@settings(max_examples=120, deadline=None)
@given(
    secret=SECRET,
    fate=st.sampled_from(FATES),
    method=st.sampled_from(["tools/call", "prompts/get", "completion/complete"]),
)
def test_a_refusal_never_repeats_the_arguments_of_the_call(secret, fate, method):
    kind = {"tools/call": "tool", "prompts/get": "prompt", "completion/complete": "completion"}[method]
    desk = Desk([entry(kind, "files", "read")])
    if fate in ("denied", "escalated"):
        desk.verdict = "deny" if fate == "denied" else "escalate"
        desk.denied["files/read"] = Finding(code="closed", message="Closed.")
    elif fate == "hidden":
        desk.hidden.add(("alice", "files/read"))
    elif fate == "overloaded":
        desk.limits = InFlight(LimitsConfig(in_flight=1))
        desk.limits.enter(ALICE)
    elif fate == "too large":
        desk.limits = InFlight(LimitsConfig(policy_input_bytes=1024))
    elif fate == "broken":
        desk.answer = Outcome(status="ok", result_json=b'{"resultType":7,"echo":"%b"}' % secret.encode())
    else:
        code = "in_doubt" if fate == "in_doubt" else "upstream_error"
        desk.answer = Outcome(status="failed", code=code, detail=secret)
        if fate in ("in_doubt", "not_sent", "withheld"):
            desk.answer = Outcome(status=fate, code="upstream_timeout", detail=secret)
    values = {secret: secret, "x": [secret] * (300 if fate == "too large" else 1)}
    params = {"name": "read", "arguments": [secret] if fate == "no object" else values, "_meta": META}
    if method == "completion/complete":
        params = {"ref": {"type": "ref/prompt", "name": "read"}, "argument": values, "_meta": META}
    if fate == "legacy":
        del params["_meta"]
    body = orjson.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": params})
    if fate == "duplicate":
        body = body.replace(b'"x":', orjson.dumps(secret) + b':1,"x":')
    elif fate == "deep":
        body = body.replace(b'"x":', b'"x":' + b"[" * 70 + b"]" * 70 + b',"y":')
    named = b"write" if fate == "header" and method != "completion/complete" else b"read"
    headers = [(b"mcp-method", b"ping" if fate == "header" else method.encode()), (b"mcp-name", named)]
    if fate != "legacy":
        headers.append((b"mcp-protocol-version", b"2026-07-28"))
    answer = posted(desk, body, headers)
    text = answer.decode()
    assert secret not in text and secret not in json.dumps(json.loads(text), ensure_ascii=False)
    assert "error" in json.loads(text) or json.loads(text)["result"]["isError"]


def posted(desk: Desk, body: bytes, headers: list[tuple[bytes, bytes]]) -> bytes:
    """What the front answers to one authenticated POST, without a socket in between."""
    surface = McpSurface(desk.parts, authenticate, ServerConfig(), desk.info, bytes(range(32)))
    sent = []
    usual = [
        (b"host", b"localhost"),
        (b"content-type", b"application/json"),
        (b"authorization", b"Bearer alice"),
    ]

    async def receive():
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(event):
        sent.append(event.get("body", b""))

    scope = {"type": "http", "method": "POST", "path": "/mcp/files", "headers": usual + headers}
    asyncio.run(surface(scope, receive, send))
    return b"".join(sent)


async def test_a_request_keeps_the_parts_it_began_with_when_a_reload_swaps_them():
    old, new = Desk(), Desk()
    current = old
    swapped = asyncio.Event()

    async def handler(call, emit):
        await swapped.wait()
        return ok()

    old.handler = handler
    async with open_house(old) as house:
        house.surface._parts = lambda: current.parts()
        slow = asyncio.create_task(house.modern("tools/call", {"name": "read"}))
        while not old.calls:
            await asyncio.sleep(0.01)
        current = new
        await house.modern("tools/call", {"name": "read"})
        swapped.set()
        assert "result" in (await slow).json
    assert (len(old.calls), len(new.calls)) == (1, 1)
    assert old.recorded == new.recorded == [("allow", "allow"), ("settled", "")]


class _WithCatalog(Desk):
    """A desk whose catalog is the real one."""

    def __init__(self, catalog: ToolCatalog) -> None:
        super().__init__([])
        self._catalog = catalog
        self.resolve = catalog.resolve
        self.tools = catalog.tools
        self.revision = catalog.revision

    def info(self, upstream):
        return None


async def test_with_the_real_catalog_templates_are_read_and_uris_nobody_offers_are_unknown_on_the_aggregate():
    lists = {
        "a": {
            "resource": [{"uri": "file:///a", "name": "a"}],
            "template": [{"uriTemplate": "file:///{p}", "name": "t"}],
        },
        "b": {
            "resource": [{"uri": "note://b", "name": "b"}],
            "template": [{"uriTemplate": "{+all}", "name": "all"}],
        },
    }

    async def fetch(upstream, kind):
        return lists[upstream].get(kind)

    catalog = ToolCatalog({name: UpstreamConfig(url="http://127.0.0.1:1/mcp") for name in lists})
    for name in lists:
        assert await catalog.refresh(name, fetch)
    desk = _WithCatalog(catalog)
    desk.answer = ok(b'{"contents":[]}')
    async with open_house(desk) as house:

        async def read(uri, path="/mcp"):
            return await house.modern("resources/read", {"uri": uri}, path=path)

        assert "result" in (await read("file:///a")).json  # listed by a: b's greedy template does not get it
        assert "result" in (await read("other:///x")).json  # b's template alone
        assert (await read("file:///x")).error == (200, -32602)  # both templates: not guessed
        assert "result" in (await read("file:///x", "/mcp/a")).json
        lists["b"]["template"] = []
        await catalog.refresh("b", fetch)
        desk.revision = catalog.revision
        assert (await read("other:///x")).error == (200, -32602)  # nobody offers it
        assert "result" in (await read("file:///x")).json
    assert [call.tool.upstream for call in desk.calls] == ["a", "b", "a", "a"]
