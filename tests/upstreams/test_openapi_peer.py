"""An HTTP API behind the registry: what it answers becomes, and what its faults say of the effect."""

from __future__ import annotations

import asyncio
import base64
import gzip
import json
import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from gateway.catalog.entries import build
from gateway.catalog.manifests import Manifests
from gateway.config import Config, load
from gateway.config_upstream import ToolConfig, UpstreamConfig
from gateway.errors import ConfigError, UpstreamError
from tests.talk import Talk

THING = {"type": "object", "required": ["id"], "properties": {"id": {"type": "integer"}}}
ID = {"name": "id", "in": "path", "required": True, "schema": {"type": "string"}}


def answered(schema: Any) -> dict[str, Any]:
    return {"200": {"description": "", "content": {"application/json": {"schema": schema}}}}


DOCUMENT: dict[str, Any] = {
    "openapi": "3.1.0",
    "info": {"title": "Things", "version": "7"},
    "servers": [{"url": "http://169.254.169.254/"}],
    "paths": {
        "/things/{id}": {
            "get": {"operationId": "getThing", "parameters": [ID], "responses": answered(THING)},
            "delete": {"operationId": "dropThing", "parameters": [ID]},
        },
        "/things": {
            "post": {
                "operationId": "makeThing",
                "requestBody": {
                    "required": True,
                    "content": {"application/json": {"schema": {"type": "object"}}},
                },
            }
        },
    },
}


@pytest.fixture
def document(tmp_path: Path) -> Path:
    path = tmp_path / "things.json"
    path.write_text(json.dumps(DOCUMENT))
    return path


@pytest.fixture
def api(document: Path, serve: Any, registry: Any) -> Callable[..., Awaitable[tuple[Any, Any]]]:
    """``await api(answer, …)``: the registry in front of a server that answers so, and the server."""

    async def start(answer: Any, **more: Any) -> tuple[Any, Any]:
        server = await serve(answer)
        url = server.url.removesuffix("/mcp") + more.pop("base", "/api/")
        result_bytes = more.pop("result_bytes", 1 << 20)
        up = registry(result_bytes=result_bytes, up=UpstreamConfig(url=url, openapi=document, **more))
        await up.start()
        return up, server

    return start


def head(status: str, media: str = "application/json", length: int = 2, more: str = "") -> bytes:
    return f"HTTP/1.1 {status}\r\ncontent-type: {media}\r\ncontent-length: {length}\r\n{more}\r\n".encode()


def says(status: str, body: bytes = b"{}", media: str = "application/json", more: str = "") -> Any:
    async def answer(exchange: Any) -> None:
        await exchange.send(head(status, media, len(body), more) + body)

    return answer


def result(outcome: Any) -> Any:
    return json.loads(outcome.result_json)


GET = {"name": "getThing", "args": {"id": "7"}}
POST = {"name": "makeThing", "args": {"body": {"name": "x"}}}


# -- requests ----------------------------------------------------------------------------------------------


async def test_a_call_is_the_request_the_document_describes(api: Any, call: Any, monkeypatch: Any) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    up, server = await api(says("200 OK", b'{"id":7}'), headers={"Authorization": "Bearer upstream"})
    outcome = await up.execute(call(**GET, traceparent="00-" + "a" * 32 + "-" + "b" * 16 + "-01"), None)
    assert (outcome.status, outcome.code) == ("ok", "")
    assert result(outcome) == {
        "content": [{"type": "text", "text": '{"id":7}'}],
        "structuredContent": {"id": 7},
    }
    (exchange,) = server.exchanges
    lines = exchange.head.decode().split("\r\n")
    assert lines[0] == "GET /api/things/7 HTTP/1.1"
    assert exchange.header("authorization") == "Bearer upstream"
    assert exchange.header("accept-encoding") == "identity"
    assert exchange.header("traceparent") == "00-" + "a" * 32 + "-" + "b" * 16 + "-01"
    assert {line.partition(":")[0].lower() for line in lines[1:] if line} == {
        "host", "accept", "accept-encoding", "authorization", "user-agent", "traceparent",
    }  # fmt: skip


async def test_the_body_is_the_decided_arguments_byte_for_byte(api: Any, call: Any) -> None:
    up, server = await api(says("201 Created"))
    body = {"z": [1.0, 2**63, "é\u2028"], "a": {"b": None}}
    outcome = await up.execute(call(name="makeThing", args={"body": body}), None)
    assert outcome.status == "ok"
    (exchange,) = server.exchanges
    assert exchange.body == '{"a":{"b":null},"z":[1.0,9223372036854775808,"é\u2028"]}'.encode()
    assert exchange.header("content-type") == "application/json"


async def test_one_connection_serves_many_calls(api: Any, call: Any) -> None:
    up, server = await api(says("200 OK", b'{"id":7}'))
    for _ in range(5):
        assert (await up.execute(call(**GET), None)).status == "ok"
    assert server.connections == 1


@pytest.mark.parametrize(
    ("args", "remedy"),
    [
        ({}, '"id" is a required property'),
        ({"id": "7", "verbose": True}, "'verbose' was unexpected"),
        ({"id": ".."}, "'id' must not lead to another path"),
        ({"id": 7}, 'id: the value is not of type "string"'),
    ],
)
async def test_arguments_that_do_not_fit_are_not_sent_and_the_agent_learns_why(
    api: Any, call: Any, args: Any, remedy: str
) -> None:
    up, server = await api(says("200 OK"))
    outcome = await up.execute(call(name="getThing", args=args), None)
    assert (outcome.status, outcome.code) == ("not_sent", "invalid_arguments")
    assert remedy in outcome.remedy
    assert server.exchanges == []


async def test_an_operation_that_is_not_there_is_an_error_of_the_protocol(api: Any, call: Any) -> None:
    up, server = await api(says("200 OK"))
    outcome = await up.execute(call(name="other"), None)
    assert outcome.status == "rpc_error" and server.exchanges == []


# -- answers -----------------------------------------------------------------------------------------------


async def test_an_answer_that_does_not_fit_the_document_is_text_only(api: Any, call: Any) -> None:
    for body in (
        b'{"id":"seven"}',
        b"[1]",
        b'{"id":1,"id":2}',
        b'{"id":',
        b'{"a":' * 400 + b"1" + b"}" * 400,
    ):
        up, _ = await api(says("200 OK", body))
        outcome = await up.execute(call(**GET), None)
        assert outcome.status == "ok"
        assert result(outcome) == {"content": [{"type": "text", "text": body.decode()}]}


async def test_no_content_is_said_in_words(api: Any, call: Any) -> None:
    async def answer(exchange: Any) -> None:
        await exchange.send(b"HTTP/1.1 204 No Content\r\n\r\n")

    up, _ = await api(answer)
    outcome = await up.execute(call(name="dropThing", args={"id": "7"}), None)
    assert outcome.status == "ok"
    assert "204" in result(outcome)["content"][0]["text"]


async def test_what_is_no_text_comes_as_a_resource_up_to_a_size(api: Any, call: Any) -> None:
    up, _ = await api(says("200 OK", b"\x89PNG\x00", "image/png"))
    (content,) = result(await up.execute(call(**GET), None))["content"]
    assert content["type"] == "resource"
    assert content["resource"]["mimeType"] == "image/png"
    assert base64.b64decode(content["resource"]["blob"]) == b"\x89PNG\x00"
    up, _ = await api(says("200 OK", b"\xff" * (1024 * 1024 + 1), "application/zip"), result_bytes=1 << 22)
    outcome = await up.execute(call(**GET), None)
    assert (outcome.status, outcome.code, outcome.result_json) == ("withheld", "result_too_large", b"")


@pytest.mark.parametrize("media", ["text/plain; charset=utf-8", "application/problem+xml", "text/html"])
async def test_text_is_text(api: Any, call: Any, media: str) -> None:
    up, _ = await api(says("200 OK", "schön".encode(), media))
    assert result(await up.execute(call(**GET), None))["content"] == [{"type": "text", "text": "schön"}]


async def test_text_in_another_encoding_is_not_guessed_at(api: Any, call: Any) -> None:
    up, _ = await api(says("200 OK", b"sch\xf6n", "text/plain; charset=latin-1"))
    assert result(await up.execute(call(**GET), None))["content"][0]["type"] == "resource"


@pytest.mark.parametrize("request_", [GET, POST], ids=["get", "post"])
@pytest.mark.parametrize(
    "status", ["400 Bad Request", "404 Not Found", "409 Conflict", "422 X", "429 X", "499 X"]
)
async def test_a_refusal_of_the_api_is_an_error_the_agent_can_read(
    api: Any, call: Any, request_: Any, status: str
) -> None:
    up, _ = await api(
        says(status, b'{"error":"no such thing"}', more="x-internal: secret\r\nset-cookie: a=b\r\n")
    )
    outcome = await up.execute(call(**request_), None)
    assert (outcome.status, outcome.code) == ("tool_error", "upstream_error")
    said = result(outcome)
    assert said["isError"] and "structuredContent" not in said
    assert said["content"][0]["text"].startswith(f"HTTP {status[:3]}")
    assert said["content"][1]["text"] == '{"error":"no such thing"}'
    assert b"secret" not in outcome.result_json and b"a=b" not in outcome.result_json
    assert said["_meta"] == {"http/status": int(status[:3])}


async def test_the_text_of_a_refusal_is_bounded(api: Any, call: Any) -> None:
    up, _ = await api(says("404 Not Found", b"x" * 200_000, "text/plain"))
    said = result(await up.execute(call(**GET), None))["content"]
    assert said[1]["text"] == "(The text of 200000 characters is left out.)"


@pytest.mark.parametrize(
    "status", ["500 X", "502 X", "503 X", "408 X", "301 X", "302 X", "303 X", "307 X", "308 X", "600 X"]
)
async def test_what_is_neither_yes_nor_no_leaves_a_write_in_doubt_and_is_an_error_of_a_read(
    api: Any, call: Any, status: str
) -> None:
    more = "location: http://169.254.169.254/latest\r\n"
    up, server = await api(says(status, b'{"see":"http://169.254.169.254"}', more=more))
    outcome = await up.execute(call(**POST), None)
    assert (outcome.status, outcome.code) == ("in_doubt", "upstream_bad_answer")
    outcome = await up.execute(call(**GET), None)
    assert (outcome.status, outcome.code) == ("tool_error", "upstream_error")
    text = result(outcome)["content"][0]["text"]
    assert text.startswith(f"HTTP {status[:3]}")
    if status.startswith("3"):
        assert b"169.254" not in outcome.result_json, "where to is not repeated"
    elif status != "600 X":
        assert "The API failed" in text
    assert len(server.exchanges) == 2, "nothing is followed or sent again"


async def test_an_event_stream_is_read_to_its_end(api: Any, call: Any) -> None:
    up, _ = await api(lambda exchange: exchange.stream(b"1", b"2"))
    text = result(await up.execute(call(**GET), None))["content"][0]["text"]
    assert text == "event: message\r\ndata: 1\r\n\r\nevent: message\r\ndata: 2\r\n\r\n"


# -- faults ------------------------------------------------------------------------------------------------


async def bomb(exchange: Any) -> None:
    packed = gzip.compress(b"0" * 50_000_000)
    await exchange.send(head("200 OK", length=len(packed), more="content-encoding: gzip\r\n") + packed)


async def endless(exchange: Any) -> None:
    await exchange.send(b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ntransfer-encoding: chunked\r\n\r\n")
    while True:
        await exchange.send(b"2710\r\n" + b"x" * 10_000 + b"\r\n")


async def endless_events(exchange: Any) -> None:
    await exchange.stream(b"x", end=False)
    while True:
        await exchange.events(b"x" * 10_000, end=False)


async def hang(exchange: Any) -> None:
    await asyncio.sleep(30)


async def trickle(exchange: Any) -> None:
    await exchange.send(head("200 OK", length=10_000))
    while True:
        await exchange.send(b"x")
        await asyncio.sleep(0.05)


async def die(exchange: Any) -> None:
    exchange.writer.transport.abort()


async def cut(exchange: Any) -> None:
    await exchange.send(head("200 OK", length=100) + b"half")
    exchange.writer.close()


async def smuggle(exchange: Any) -> None:
    await exchange.send(head("200 OK") + b"{}HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}")


async def two_lengths(exchange: Any) -> None:
    await exchange.send(
        b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\ntransfer-encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n"
    )


async def no_length(exchange: Any) -> None:
    await exchange.send(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n\r\n{}")
    exchange.writer.close()


async def headers_for_ever(exchange: Any) -> None:
    await exchange.send(b"HTTP/1.1 200 OK\r\n" + b"x: %b\r\n" % (b"y" * 8000) * 20 + b"\r\n")


async def garbage(exchange: Any) -> None:
    await exchange.send(b"SSH-2.0-OpenSSH_9.9\r\n")
    exchange.writer.close()


FAULTS: list[tuple[Any, str, str]] = [
    (bomb, "in_doubt", "upstream_bad_answer"),
    (endless, "withheld", "result_too_large"),
    (endless_events, "withheld", "result_too_large"),
    (hang, "in_doubt", "upstream_timeout"),
    (trickle, "in_doubt", "upstream_timeout"),
    (die, "in_doubt", "upstream_lost"),
    (cut, "in_doubt", "upstream_lost"),
    (smuggle, "in_doubt", "upstream_bad_answer"),
    (two_lengths, "in_doubt", "upstream_bad_answer"),
    (no_length, "in_doubt", "upstream_bad_answer"),
    (headers_for_ever, "in_doubt", "upstream_bad_answer"),
    (garbage, "in_doubt", "upstream_bad_answer"),
]


@pytest.mark.parametrize(("fault", "status", "code"), FAULTS, ids=lambda each: getattr(each, "__name__", ""))
async def test_a_write_that_is_not_answered_is_in_doubt(
    api: Any, call: Any, fault: Any, status: str, code: str
) -> None:
    up, server = await api(fault, result_bytes=100_000)
    outcome = await up.execute(call(**POST, deadline_s=0.5), None)
    assert (outcome.status, outcome.code) == (status, code), outcome.detail
    assert outcome.result_json == b"" and len(server.exchanges) == 1


async def test_a_server_that_is_not_there_was_not_sent_to(document: Path, registry: Any, call: Any) -> None:
    up = registry(up=UpstreamConfig(url="http://127.0.0.1:9/", openapi=document))
    await up.start()
    outcome = await up.execute(call(**POST), None)
    assert (outcome.status, outcome.code) == ("not_sent", "upstream_unavailable")
    (status,) = up.status()
    assert not status.connected and status.last_error


async def test_a_name_that_resolves_inwards_is_not_connected_to(
    document: Path, registry: Any, call: Any, monkeypatch: Any
) -> None:
    async def getaddrinfo(*_: Any, **__: Any) -> list[Any]:
        return [(2, 1, 6, "", ("127.0.0.1", 80))]

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", getaddrinfo)
    up = registry(
        closed=UpstreamConfig(url="http://api.example:9/", openapi=document),
        opened=UpstreamConfig(url="http://api.example:9/", openapi=document, allow_private=True),
        mcp=UpstreamConfig(url="http://api.example:9/"),
    )
    closed = await up.execute(call("closed", **POST), None)
    assert closed.status == "not_sent" and "not a public address" in closed.detail
    opened = await up.execute(call("opened", **POST), None)
    assert opened.status == "not_sent" and "address that may be" not in opened.detail
    mcp = await up.execute(call("mcp"), None)
    assert mcp.status == "not_sent" and "address that may be" not in mcp.detail


# -- the document ------------------------------------------------------------------------------------------


async def test_the_list_is_that_of_the_document_and_there_is_nothing_else(api: Any, call: Any) -> None:
    up, server = await api(says("200 OK"))
    listed = await up.definitions("up", "tool")
    assert [each["name"] for each in listed] == ["getThing", "dropThing", "makeThing"]
    for kind in ("prompt", "resource", "template"):
        assert await up.definitions("up", kind) is None
    info = up.info("up")
    assert (info.title, info.server_version, list(info.capabilities)) == ("Things", "7", ["tools"])
    (status,) = up.status()
    assert status.transport == "openapi" and status.connected
    outcome = await up.execute(call(name="x", kind="prompt"), None)
    assert outcome.status == "rpc_error" and server.exchanges == []


async def test_a_changed_document_is_in_force_with_the_next_list_and_a_broken_one_never(
    api: Any, call: Any, document: Path
) -> None:
    up, _ = await api(says("200 OK"))
    changed = json.loads(json.dumps(DOCUMENT).replace("dropThing", "removeThing"))
    document.write_text(json.dumps(changed))
    assert "removeThing" in [each["name"] for each in await up.definitions("up", "tool")]
    document.write_text('{"swagger": "2.0"}')
    with pytest.raises(UpstreamError) as caught:
        await up.definitions("up", "tool")
    assert "2.0 (Swagger)" in caught.value.detail
    (status,) = up.status()
    assert not status.connected and "Swagger" in status.last_error
    outcome = await up.execute(call(name="removeThing", args={"id": "1"}), None)
    assert outcome.status == "ok", "the last good document is still in force"
    assert "Swagger" in up.status()[0].last_error, "and that the new one is broken stays visible"
    document.write_text(json.dumps(changed))
    await up.definitions("up", "tool")
    assert up.status()[0].connected


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"swagger": "2.0"}', "2.0 (Swagger) is not read here; convert it to 3.0 or 3.1"),
        ("openapi: 3.0.0\nx: ]", "not valid YAML: line 2"),
        ('{"openapi": "4.0.0"}', "3.0.x or 3.1.x"),
    ],
)
async def test_a_document_that_cannot_be_used_stops_the_start_and_leaves_no_child(
    document: Path, registry: Any, child: Any, text: str, said: str
) -> None:
    document.write_text(text)
    up = registry(
        api=UpstreamConfig(url="http://127.0.0.1:9/", openapi=document), child=child("modern.py", shared=True)
    )
    with pytest.raises(ConfigError) as caught:
        await up.start()
    assert "upstreams.api: " in str(caught.value) and said in str(caught.value)
    assert sum(each.children for each in up.status()) == 0


def test_a_missing_file_or_an_odd_base_is_refused(document: Path, registry: Any) -> None:
    for url, path in (
        ("http://x.example/", document.with_name("none.json")),
        ("http://x.example/?k=v", document),
    ):
        with pytest.raises(ConfigError):
            registry(up=UpstreamConfig(url=url, openapi=path))


async def test_a_pipe_or_a_device_is_no_document(tmp_path: Path, registry: Any) -> None:
    os.mkfifo(tmp_path / "pipe.json")
    with pytest.raises(ConfigError):
        registry(up=UpstreamConfig(url="http://x.example/", openapi=tmp_path / "pipe.json"))


def test_the_document_is_beside_the_configuration_and_the_settings_fit_together(tmp_path: Path) -> None:
    def problem(upstream: str) -> str:
        (tmp_path / "wardgate.yaml").write_text(f"upstreams: {{crm: {upstream}}}\n")
        with pytest.raises(ConfigError) as caught:
            load(tmp_path / "wardgate.yaml")
        return str(caught.value)

    assert "'openapi' needs 'url'" in problem("{openapi: ./crm.yaml, command: [x]}")
    assert "exactly one of" in problem("{openapi: ./crm.yaml}")
    assert "exactly one of" in problem("{python: 'a:b', url: 'http://x'}")
    assert "'allow_private' is for 'openapi'" in problem("{url: 'http://x', allow_private: true}")
    (tmp_path / "wardgate.yaml").write_text(
        "upstreams: {crm: {openapi: ./crm.yaml, url: 'https://crm.example/api'}}\n"
    )
    config: Config = load(tmp_path / "wardgate.yaml")
    assert config.upstreams["crm"].openapi == tmp_path / "crm.yaml"


async def test_the_catalog_takes_the_tools_with_the_operators_manifests(
    document: Path, registry: Any
) -> None:
    config = UpstreamConfig(
        url="http://127.0.0.1:9/",
        openapi=document,
        trust_hints=True,
        tools={"makeThing": ToolConfig(risk="reversible")},
    )
    listed = await registry(things=config).definitions("things", "tool")
    tools, problems = build("things", "tool", listed, Manifests(config), "enforce")
    assert problems == []
    risks = {tool.name: tool.manifest.risk for tool in tools}
    assert risks == {"getThing": "read", "dropThing": "irreversible", "makeThing": "reversible"}


async def test_a_call_that_the_client_gives_up_ends_at_once(api: Any, call: Any) -> None:
    up, server = await api(hang)
    for request_, status in ((POST, "in_doubt"), (GET, "in_doubt")):
        client = Talk()
        under_way = asyncio.create_task(up.execute(call(**request_, deadline_s=20), client))
        await asyncio.sleep(0.1)
        client.cancel()
        outcome = await under_way
        assert (outcome.status, outcome.code) == (status, "cancelled")
        assert client.hook is None
    before = len(server.exchanges)
    outcome = await up.execute(call(**POST), Talk(cancelled=True))
    assert (outcome.status, outcome.code) == ("not_sent", "cancelled")
    assert len(server.exchanges) == before


async def test_the_credential_of_the_principal_goes_out_and_a_refused_one_is_renewed_once(
    api: Any, call: Any, principal: Any, tmp_path: Path
) -> None:
    secret = tmp_path / "token"
    secret.write_text("old")
    secret.chmod(0o600)

    async def answer(exchange: Any) -> None:
        if exchange.header("authorization") == "Bearer old":
            secret.write_text("new")
            await exchange.json(b"{}", "401 Unauthorized")
        else:
            await exchange.json(b'{"id":7}')

    credentials = {"secret": {"file": str(secret)}}
    up, server = await api(answer, credentials=credentials)
    assert (await up.execute(call(**GET), None)).status == "ok"
    assert [each.header("authorization") for each in server.exchanges] == ["Bearer old", "Bearer new"]
    assert [
        line.lower().startswith("authorization") for line in server.exchanges[1].head.decode().split("\r\n")
    ].count(True) == 1


async def test_a_principal_without_a_credential_is_not_sent(api: Any, call: Any, monkeypatch: Any) -> None:
    monkeypatch.setenv("BOB_TOKEN", "t")
    up, server = await api(says("200 OK"), credentials={"agents": {"bob": {"env": "BOB_TOKEN"}}})
    outcome = await up.execute(call(**GET), None)
    assert (outcome.status, outcome.code) == ("not_sent", "credential_unavailable")
    assert server.exchanges == []
