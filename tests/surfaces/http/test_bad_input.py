"""What reaches the HTTP front from somebody who means no good, or does not know better."""

from __future__ import annotations

import asyncio
import json

import aiohttp
import pytest

from tests.surfaces.http.support import Client, client, configured

GOOD = {"tool": "counting/note", "arguments": {"text": "bad input"}}
POSTS = ("/v1/calls", "/v1/decide", "/v1/settle")


def as_body(value) -> bytes:
    return json.dumps(value).encode()


@pytest.mark.parametrize("path", [*POSTS, "/v1/ext_authz/shop/"])
@pytest.mark.parametrize(
    ("authorization", "code"),
    [
        (None, "no_credential"),
        ("Bearer nonsense", "bad_credential"),
        ("Basic YWxpY2U6eA==", "bad_credential"),
        ("Bearer ", "bad_credential"),
    ],
)
async def test_without_a_key_nothing_is_done_or_read(gateway, path, authorization, code):
    async with client(gateway, "alice") as nobody:
        nobody.key = ""
        headers = {"authorization": authorization} if authorization else {}
        got = await nobody.send("POST", path, b"not even json", headers)
        assert got.status == 401 and got.code == code
        assert got.headers["www-authenticate"].startswith("Bearer")


async def test_an_operator_key_runs_no_tools(gateway, alice):
    alice.key = await gateway.new_operator()
    assert (await alice.call("counting/note", text="x")).status == 401


@pytest.mark.parametrize("path", POSTS)
@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (b"", 400, "malformed_json"),
        (b"{", 400, "malformed_json"),
        (b'{"tool":"a/b","tool":"c/d"}', 400, "duplicate_key"),
        (b'{"tool":"counting/note","arguments":{"a":1,"a":2}}', 400, "duplicate_key"),
        (b'{"tool":"counting/note","arguments":{"a":18446744073709551616}}', 400, "number_out_of_range"),
        (b'{"tool":"counting/note","arguments":{"a":1e999}}', 400, "number_out_of_range"),
        (b'{"tool":"counting/note","arguments":{"a":NaN}}', 400, "malformed_json"),
        (b'{"tool":"counting/note","arguments":{"a":"\\ud800"}}', 400, "malformed_json"),
        (b'\xef\xbb\xbf{"tool":"counting/note"}', 400, "malformed_json"),
        (b'{"tool":"counting/note","arguments":{"a":' + b"[" * 70 + b"]" * 70 + b"}}", 400, "too_deep"),
        (b"[]", 422, "invalid_request"),
        (b"null", 422, "invalid_request"),
        (b'"text"', 422, "invalid_request"),
        (b'{"tool":7}', 422, "invalid_request"),
        (b'{"tool":"counting/note","surprise":1}', 422, "invalid_request"),
        (b'{"outcome":"ok"}', 422, "invalid_request"),
        (b'{"outcome":"ok","decision_id":"a","idempotency_key":"b"}', 422, "invalid_request"),
        (b'{"outcome":"done","decision_id":"a"}', 422, "invalid_request"),
    ],
)
async def test_a_body_two_readers_could_read_differently_is_refused(alice, path, body, status, code):
    got = await alice.send("POST", path, body)
    assert (got.status, got.code) == (status, code)


@pytest.mark.parametrize("arguments", [[], "text", 7, None])
async def test_arguments_must_be_an_object(alice, arguments):
    got = await alice.post("/v1/calls", {"tool": "counting/note", "arguments": arguments})
    assert got.status == 422


@pytest.mark.parametrize("tool", ["note", "/note", "counting/", "", "a/" + "x" * 400])
async def test_a_tool_needs_both_its_names(alice, tool):
    assert (await alice.post("/v1/calls", {"tool": tool})).status == 422


@pytest.mark.parametrize(
    ("content_type", "status"),
    [
        ("application/json", 200),
        ("APPLICATION/JSON", 200),
        ("application/json; charset=utf-8", 200),
        ("Application/Json ;charset=UTF-8", 200),
        ("application/json; charset=utf-16", 415),
        ("text/plain", 415),
        ("text/json", 415),
        ("application/jsonx", 415),
        ("application/x-www-form-urlencoded", 415),
        ("application/problem+json", 415),
        ("", 415),
    ],
)
async def test_only_plain_json_is_read(alice, content_type, status):
    got = await alice.send("POST", "/v1/calls", as_body(GOOD), {"content-type": content_type})
    assert got.status == status


async def test_compressed_bodies_are_refused(alice):
    got = await alice.send("POST", "/v1/calls", as_body(GOOD), {"content-encoding": "gzip"})
    assert got.status == 415


@pytest.mark.parametrize("name", ["authorization", "content-type", "idempotency-key", "traceparent", "host"])
async def test_what_decides_may_stand_only_once(gateway, alice, name):
    lines = {
        "host": "localhost",
        "authorization": f"Bearer {alice.key}",
        "content-type": "application/json",
        "idempotency-key": "twice",
        "traceparent": "00-" + "1" * 32 + "-" + "2" * 16 + "-01",
    }
    head = "".join(f"{key}: {value}\r\n" for key, value in lines.items()) + f"{name}: {lines[name]}\r\n"
    status, code = await raw(gateway, head, as_body(GOOD))
    assert status in (400, 421, 422) and code in ("invalid_request", "origin_refused")


async def raw(gateway, head: str, body: bytes, path: str = "/v1/calls") -> tuple[int, str]:
    host, port = gateway.agents_url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    try:
        request = f"POST {path} HTTP/1.1\r\n{head}content-length: {len(body)}\r\nconnection: close\r\n\r\n"
        writer.write(request.encode("latin-1") + body)
        await writer.drain()
        answer = await asyncio.wait_for(reader.read(), 10)
    finally:
        writer.close()
    top, _, rest = answer.partition(b"\r\n\r\n")
    said = json.loads(rest) if rest.startswith(b"{") else {}
    return int(top.split(b" ")[1]), said.get("code", "")


@pytest.mark.parametrize("host", ["evil.example", "evil.example:8700", "localhost.evil.example", ""])
async def test_a_page_that_rebound_its_name_is_refused(gateway, alice, host):
    head = f"host: {host}\r\nauthorization: Bearer {alice.key}\r\ncontent-type: application/json\r\n"
    assert await raw(gateway, head, as_body(GOOD)) == (421, "origin_refused")


@pytest.mark.parametrize("origin", ["http://evil.example", "null"])
async def test_a_foreign_page_is_refused(alice, origin):
    got = await alice.send("POST", "/v1/calls", as_body(GOOD), {"origin": origin})
    assert got.code == "origin_refused"


async def test_a_body_that_is_too_large_or_too_slow_is_not_waited_for(tmp_path, server):
    wardgate = configured(tmp_path / "own", server, server={"max_body_bytes": 2048, "body_timeout_s": 0.5})
    try:
        wardgate.start()
        async with client(wardgate, "alice") as agent:
            got = await agent.call("counting/note", text="x" * 3000)
            assert got.status == 413 and got.code == "too_large"

            async def drip():
                yield b'{"tool":'
                await asyncio.sleep(5)
                yield b"1}"

            sent = {"authorization": f"Bearer {agent.key}", "content-type": "application/json"}
            url = wardgate.agents_url + "/v1/calls"
            async with agent.http.post(url, data=drip(), headers=sent) as slow:
                assert slow.status == 408
            async with agent.http.post(url, data=endless(), headers=sent) as large:
                assert large.status == 413
    finally:
        wardgate.close()


async def endless():
    """More than the bound, in pieces and without an end: the answer must not wait for it."""
    for _ in range(3):
        yield b"[" * 1000
    await asyncio.sleep(5)


async def test_arguments_too_large_to_decide_are_refused(alice):
    got = await alice.call("counting/note", text="x" * 1_100_000)
    assert got.status == 413 and got.code == "args_too_large"


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/", 404, "not_found"),
        ("GET", "/v1/nothing", 404, "not_found"),
        ("GET", "/v1/calls", 405, "unknown_method"),
        ("DELETE", "/v1/tools", 405, "unknown_method"),
        ("GET", "/v1/../v1/tools", 404, "not_found"),
        ("GET", "/v1//tools", 404, "not_found"),
        ("GET", "/v1/tools/", 404, "not_found"),
        ("GET", "/v1/decisions?limit=0", 422, "invalid_request"),
        ("GET", "/v1/decisions?limit=x", 422, "invalid_request"),
        ("GET", "/v1/decisions/" + "a" * 65, 422, "invalid_request"),
    ],
)
async def test_addresses_that_are_none(alice, method, path, status, code):
    got = await alice.send(method, path)
    assert got.status == status
    assert got.code == code


async def test_refusals_are_on_record_and_counted(alice, gateway):
    await alice.send("POST", "/v1/calls", b"{", None)
    record = await gateway.recorded(
        lambda r: r["phase"] == "refused" and r["code"] == "malformed_json" and r.get("surface") == "http"
    )
    assert record["agent"] == "alice"
    metrics = (await gateway.admin("/metrics", ""))[1].decode()
    assert 'wardgate_requests_total{outcome="block",surface="http"}' in metrics


async def test_secrets_and_values_are_not_repeated(alice):
    got = await alice.post("/v1/calls", {"tool": "counting/note", "arguments": "hunter2-secret"})
    assert "hunter2" not in got.raw.decode()
    got = await alice.send("POST", "/v1/calls", as_body(GOOD), {"idempotency-key": '"hunter2'})
    assert "hunter2" not in got.raw.decode() and alice.key not in got.raw.decode()


async def test_the_description_needs_no_key_and_is_whole(gateway):
    async with aiohttp.ClientSession() as http, http.get(gateway.agents_url + "/openapi.json") as response:
        document = await response.json()
    assert response.status == 200
    assert set(document["paths"]) == {
        "/v1/calls", "/v1/decide", "/v1/settle", "/v1/tools", "/v1/decisions", "/v1/decisions/{decision_id}",
        "/v1/sessions", "/v1/sessions/current", "/v1/sessions/{session}", "/v1/sessions/{session}/close",
    }  # fmt: skip
    for item in document["paths"].values():
        for operation in item.values():
            assert operation["summary"] and operation["tags"] and operation["security"]
            for status, answer in operation["responses"].items():
                if status not in ("200", "201"):
                    assert list(answer["content"]) == ["application/problem+json"]


async def test_a_trace_goes_on_and_nonsense_in_its_header_does_no_harm(alice, gateway):
    trace = "4bf92f3577b34da6a3ce929d0e0e4736"
    got = await alice.send(
        "POST", "/v1/calls", as_body(GOOD), {"traceparent": f"00-{trace}-00f067aa0ba902b7-01"}
    )
    record = await gateway.recorded(
        lambda r: r["call_id"] == got.body["decision_id"] and r["phase"] == "intent"
    )
    assert trace in record["traceparent"]
    got = await alice.send("POST", "/v1/calls", as_body(GOOD), {"traceparent": "x" * 5000})
    record = await gateway.recorded(
        lambda r: r["call_id"] == got.body["decision_id"] and r["phase"] == "intent"
    )
    assert len(record["traceparent"]) == 55


async def test_mcp_and_http_share_a_port_and_not_their_answers(alice: Client):
    got = await alice.send("POST", "/mcpx", b"{}")
    assert got.status == 404 and got.body["jsonrpc"] == "2.0"
