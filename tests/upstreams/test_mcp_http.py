"""MCP over HTTP: both eras, hostile answers, and exactly what is said about the call afterwards."""

from __future__ import annotations

import asyncio
import importlib.util
import json
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from gateway.config_upstream import UpstreamConfig
from tests.talk import Talk

DONE = b'{"content":[{"type":"text","text":"done"}]}'


async def test_a_modern_server_of_the_official_sdk_answers(
    registry: Any, run_asgi: Any, call: Any, request: pytest.FixtureRequest
) -> None:
    path = request.path.parent / "servers" / "modern.py"
    spec = importlib.util.spec_from_file_location("modern_server", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    origin = await run_asgi(module.server.streamable_http_app())
    up = registry(up=UpstreamConfig(url=origin + "/mcp"))
    outcome = await up.execute(call(args={"text": "hé"}), None)
    assert json.loads(outcome.result_json)["structuredContent"] == {"result": "hé"}
    assert up.info("up").era == "modern"
    talk = Talk()
    asked = call(name="count", args={"to": 5}, client_meta_json=b'{"progressToken":"t"}')
    assert (await up.execute(asked, talk)).status == "ok"
    assert [json.loads(note)["params"]["progress"] for note in talk.notes] == [0, 1, 2, 3, 4]
    assert (await up.execute(call(name="fail"), None)).status == "tool_error"
    read = await up.execute(call(name="test://item/é\r\nx: 1", kind="resource"), None)
    assert read.status in ("ok", "rpc_error"), read
    unknown = await up.execute(call(name="nobody", kind="prompt"), None)
    assert unknown.status == "rpc_error" and json.loads(unknown.error_json)["code"]
    assert [each["uri"] for each in await up.definitions("up", "resource")] == ["test://static"]


async def test_arguments_and_result_pass_byte_for_byte(
    registry: Any, serve: Any, call: Any, modern: Any, at_url: Any
) -> None:
    odd = b'{"content":[], "x":1.0, "big":12345678901234567890,"\\u00e9":"\\/" ,"unknown":{"a":[null]}}'

    async def answer(exchange: Any) -> None:
        await exchange.result(odd)

    server = await serve(modern(answer))
    up = registry(up=at_url(server))
    asked = call(args={"b": [1, 2.5, None], "a": "é", "id": 9007199254740993})
    outcome = await up.execute(asked, None)
    assert outcome.result_json == odd
    assert b'"arguments":' + asked.args_json in server.exchanges[-1].body


async def test_a_request_says_its_version_method_and_name_in_headers_and_meta(
    registry: Any, serve: Any, call: Any, modern: Any, at_url: Any
) -> None:
    async def answer(exchange: Any) -> None:
        await exchange.result(DONE)

    server = await serve(modern(answer))
    up = registry(up=at_url(server, headers={"Authorization": "Bearer for-the-upstream"}))
    schema = {"type": "object", "properties": {"region": {"type": "string", "x-mcp-header": "Region"}}}
    definition = json.dumps({"name": "evil", "inputSchema": schema}).encode()
    evil = 'a\r\nTransfer-Encoding: chunked\r\n\r\n{"'
    outcome = await up.execute(
        call(
            name=evil,
            args={"region": "eu\r\nx: y"},
            definition_json=definition,
            traceparent="00-" + "a" * 32 + "-" + "b" * 16 + "-01",
            client_meta_json=b'{"progressToken":7,"traceparent":"forged","vendor/x":{"y":1},'
            b'"io.modelcontextprotocol/clientCapabilities":{"sampling":{}}}',
        ),
        None,
    )
    assert outcome.status == "ok"
    sent = server.exchanges[-1]
    assert sent.header("mcp-protocol-version") == "2026-07-28"
    assert sent.header("mcp-method") == "tools/call"
    assert sent.header("mcp-name").startswith("=?base64?")
    assert sent.header("mcp-param-region").startswith("=?base64?")
    assert sent.header("authorization") == "Bearer for-the-upstream"
    assert sent.header("accept-encoding") == "identity"
    assert sent.header("transfer-encoding") is None and sent.header("x") is None
    body = json.loads(sent.body)
    assert body["params"]["name"] == evil
    meta = body["params"]["_meta"]
    assert meta["io.modelcontextprotocol/clientCapabilities"] == {}
    assert meta["io.modelcontextprotocol/protocolVersion"] == "2026-07-28"
    assert meta["traceparent"].startswith("00-aaaa")
    assert (meta["progressToken"], meta["vendor/x"]) == (7, {"y": 1})
    assert sent.body.count(b"clientCapabilities") == sent.body.count(b"traceparent") == 1


@pytest.mark.parametrize(
    ("kind", "name", "args", "method", "params"),
    [
        ("prompt", "p", {"x": "1"}, "prompts/get", {"name": "p", "arguments": {"x": "1"}}),
        ("resource", "a://b", {}, "resources/read", {"uri": "a://b"}),
        (
            "completion",
            "p",
            {
                "ref": {"type": "ref/prompt", "name": "p"},
                "argument": {"name": "x", "value": ""},
                "_meta": {"a": 1},
            },
            "completion/complete",
            {"ref": {"type": "ref/prompt", "name": "p"}, "argument": {"name": "x", "value": ""}},
        ),
    ],
)
async def test_each_kind_becomes_its_own_method(
    registry: Any,
    serve: Any,
    call: Any,
    kind: Any,
    name: str,
    args: Any,
    method: str,
    params: Any,
    modern: Any,
    at_url: Any,
) -> None:
    async def answer(exchange: Any) -> None:
        await exchange.result(b"{}")

    server = await serve(modern(answer))
    up = registry(up=at_url(server))
    assert (await up.execute(call(kind=kind, name=name, args=args), None)).status == "ok"
    sent = json.loads(server.exchanges[-1].body)
    assert sent["params"].pop("_meta").keys() == {
        f"io.modelcontextprotocol/{key}" for key in ("protocolVersion", "clientCapabilities", "clientInfo")
    }
    assert (sent["method"], sent["params"]) == (method, params)


async def test_notifications_come_in_order_and_before_the_answer(
    registry: Any, serve: Any, call: Any, modern: Any, at_url: Any
) -> None:
    async def answer(exchange: Any) -> None:
        notes = [
            b'{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":1,"progress":%d}}'
            % n
            for n in range(50)
        ]
        changed = b'{"jsonrpc":"2.0","method":"notifications/tools/list_changed"}'
        await exchange.stream(*notes, changed, exchange.answered())

    server = await serve(modern(answer))
    up = registry(up=at_url(server))
    talk = Talk()
    changed: list[str] = []
    up.on_list_changed = changed.append

    for _ in range(3):
        assert (await up.execute(call(), talk)).result_json == DONE
    assert [json.loads(note)["params"]["progress"] for note in talk.notes] == list(range(50)) * 3
    assert changed == ["up"] * 3
    assert server.connections == 1, "the connection of a stream that ended is kept"


async def test_a_stream_that_goes_on_after_the_answer_costs_its_connection_only(
    registry: Any, serve: Any, call: Any, modern: Any, at_url: Any
) -> None:
    async def answer(exchange: Any) -> None:
        await exchange.stream(exchange.answered(), end=False)
        for _ in range(10_000):
            await exchange.send(b"400\r\n" + b":" * 0x400 + b"\r\n")

    server = await serve(modern(answer))
    up = registry(up=at_url(server))
    for _ in range(3):
        assert (await up.execute(call(), None)).status == "ok"
    await asyncio.sleep(0.1)
    assert server.concurrent == 0


BAD_ANSWERS: dict[str, Callable[[Any], Awaitable[None]]] = {
    "no JSON": lambda x: x.json(b"<html>"),
    "no JSON-RPC": lambda x: x.json(b'{"result":{}}'),
    "a batch": lambda x: x.json(b"[%b]" % x.answered()),
    "another id": lambda x: x.json(b'{"jsonrpc":"2.0","id":%d,"result":{}}' % (x.id + 1)),
    "the id as text": lambda x: x.json(b'{"jsonrpc":"2.0","id":"%d","result":{}}' % x.id),
    "no id": lambda x: x.json(b'{"jsonrpc":"2.0","result":{}}'),
    "result and error": lambda x: x.json(
        b'{"jsonrpc":"2.0","id":%d,"result":{},"error":{"code":1,"message":""}}' % x.id
    ),
    "neither": lambda x: x.json(b'{"jsonrpc":"2.0","id":%d}' % x.id),
    "a result that is no object": lambda x: x.result(b"[1]"),
    "isError that is no boolean": lambda x: x.result(b'{"isError":"no"}'),
    "NaN": lambda x: x.result(b'{"a":NaN}'),
    "bytes that are not UTF-8": lambda x: x.result(b'{"a":"\xff"}'),
    "nesting without end": lambda x: x.result(b'{"a":' + b"[" * 50_000 + b"]" * 50_000 + b"}"),
    "cut JSON": lambda x: x.json(x.answered()[:-1]),
    "another media type": lambda x: x.send(
        b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 0\r\n\r\n"
    ),
    "accepted, and no answer": lambda x: x.send(b"HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n"),
    "a redirect": lambda x: x.send(b"HTTP/1.1 302 F\r\nLocation: /x\r\nContent-Length: 0\r\n\r\n"),
    "a server error": lambda x: x.json(b"{}", status="500 Oops"),
    "request time-out": lambda x: x.json(b"{}", status="408 Request Timeout"),
    "an event that is no message": lambda x: x.stream(b"hello"),
    "an answer to another request in a stream": lambda x: x.stream(
        b'{"jsonrpc":"2.0","id":%d,"result":{}}' % (x.id + 5)
    ),
    "a huge notification": lambda x: x.stream(
        b'{"jsonrpc":"2.0","method":"notifications/message","params":"%b"}' % (b"x" * 100_000)
    ),
}


@pytest.mark.parametrize("name", BAD_ANSWERS)
async def test_an_answer_that_is_none_leaves_the_call_in_doubt(
    registry: Any, serve: Any, call: Any, name: str, modern: Any, at_url: Any
) -> None:
    server = await serve(modern(BAD_ANSWERS[name]))
    up = registry(up=at_url(server), result_bytes=50_000)
    if name == "nesting without end":
        up = registry(up=at_url(server), result_bytes=500_000)
    outcome = await up.execute(call(), None)
    assert (outcome.status, outcome.code) == ("in_doubt", "upstream_bad_answer"), outcome
    assert outcome.result_json == outcome.error_json == b""
    assert server.methods() == ["server/discover", "tools/call"], "and it is never sent again"


async def test_a_stream_that_ends_without_an_answer_leaves_doubt(
    registry: Any, serve: Any, call: Any, modern: Any, at_url: Any
) -> None:
    server = await serve(modern(lambda x: x.stream(b'{"jsonrpc":"2.0","method":"n"}')))
    outcome = await registry(up=at_url(server)).execute(call(), None)
    assert (outcome.status, outcome.code) == ("in_doubt", "upstream_lost")


async def test_a_call_never_waits_beyond_its_deadline(
    registry: Any, serve: Any, call: Any, modern: Any, at_url: Any
) -> None:
    async def drip(exchange: Any) -> None:
        await exchange.stream(b'{"jsonrpc":"2.0","method":"n"}', end=False)
        while True:
            await asyncio.sleep(0.02)
            await exchange.send(b"3\r\n: \n\r\n")

    server = await serve(modern(drip))
    up = registry(up=at_url(server))
    await up.start()
    outcome = await up.execute(call(deadline_s=0.3), None)
    assert (outcome.status, outcome.code) == ("in_doubt", "upstream_timeout")
    assert 0.25e9 < outcome.upstream_ns < 1e9


@pytest.mark.parametrize("how", ["json", "stream"])
async def test_a_result_beyond_the_limit_is_withheld_and_not_in_doubt(
    registry: Any, serve: Any, call: Any, how: str, modern: Any, at_url: Any
) -> None:
    async def answer(exchange: Any) -> None:
        result = b'{"content":"%b"}' % (b"x" * int(json.loads(exchange.body)["params"]["arguments"]["size"]))
        await (exchange.result(result) if how == "json" else exchange.stream(exchange.answered(result)))

    server = await serve(modern(answer))
    up = registry(up=at_url(server), result_bytes=50_000)
    assert (await up.execute(call(args={"size": 49_000}), None)).status == "ok"
    for size in (50_000, 500_000):
        outcome = await up.execute(call(args={"size": size}), None)
        assert (outcome.status, outcome.code, outcome.result_json) == ("withheld", "result_too_large", b"")


@pytest.mark.parametrize("status", ["401 Unauthorized", "403 Forbidden", "429 Too Many", "413 Too Large"])
async def test_a_refusal_over_http_says_that_nothing_was_done(
    registry: Any, serve: Any, call: Any, status: str, modern: Any, at_url: Any
) -> None:
    server = await serve(modern(lambda x: x.json(b"{}", status=status)))
    outcome = await registry(up=at_url(server)).execute(call(), None)
    assert (outcome.status, outcome.code, outcome.detail) == (
        "failed",
        "upstream_error",
        f"HTTP {status[:3]}",
    )


async def test_an_error_of_the_upstream_is_relayed_as_it_is(
    registry: Any, serve: Any, call: Any, modern: Any, at_url: Any
) -> None:
    error = b'{"code":-32602,"message":"Unknown tool","data":{"a":[1]}}'

    async def answer(exchange: Any) -> None:
        status = "400 Bad" if exchange.header("mcp-name") == "bad" else "200 OK"
        await exchange.json(b'{"jsonrpc":"2.0","id":%d,"error":%b}' % (exchange.id, error), status=status)

    server = await serve(modern(answer))
    up = registry(up=at_url(server))
    for name in ("echo", "bad"):
        outcome = await up.execute(call(name=name), None)
        assert (outcome.status, outcome.error_json) == ("rpc_error", error)
    assert server.methods().count("server/discover") == 1, (
        "an error of the modern era says nothing against it"
    )


async def test_a_question_back_is_a_refusal_while_no_capability_is_declared(
    registry: Any, serve: Any, call: Any, modern: Any, at_url: Any
) -> None:
    server = await serve(modern(lambda x: x.result(b'{"resultType":"input_required","inputRequests":{}}')))
    outcome = await registry(up=at_url(server)).execute(call(), None)
    assert (outcome.status, outcome.code) == ("failed", "upstream_error")
    assert "input_required" in outcome.detail


async def test_an_upstream_that_is_down_was_not_sent_anything(registry: Any, call: Any) -> None:
    up = registry(up=UpstreamConfig(url="http://127.0.0.1:1/mcp"))
    outcome = await up.execute(call(), None)
    assert (outcome.status, outcome.code) == ("not_sent", "upstream_unavailable")
    assert up.info("up") is None
    assert not up.status()[0].connected and up.status()[0].last_error


async def test_a_hanging_discovery_is_not_sent_and_not_in_doubt(
    registry: Any, serve: Any, call: Any, at_url: Any
) -> None:
    async def hang(exchange: Any) -> None:
        await asyncio.sleep(5)

    server = await serve(hang)
    outcome = await registry(up=at_url(server)).execute(call(deadline_s=0.2), None)
    assert (outcome.status, outcome.code) == ("not_sent", "upstream_unavailable")
    assert "tools/call" not in server.methods()


async def test_200_calls_at_once_are_each_answered_with_their_own_result(
    registry: Any, serve: Any, call: Any, modern: Any, at_url: Any
) -> None:
    async def answer(exchange: Any) -> None:
        number = json.loads(exchange.body)["params"]["arguments"]["n"]
        await asyncio.sleep(number % 7 / 1000)
        result = b'{"n":%d}' % number
        await (exchange.stream(exchange.answered(result)) if number % 2 else exchange.result(result))

    server = await serve(modern(answer))
    up = registry(up=at_url(server, connections=16))
    outcomes = await asyncio.gather(*(up.execute(call(args={"n": n}), None) for n in range(200)))
    assert [json.loads(each.result_json)["n"] for each in outcomes] == list(range(200))
    assert server.peak <= 16
