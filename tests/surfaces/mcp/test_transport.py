"""What is refused before a body means anything, and bodies that mean nothing good."""

from __future__ import annotations

import asyncio

import pytest

from tests.surfaces.mcp.support import ACCEPT, META, VERSION, Desk, open_house

PING = {"jsonrpc": "2.0", "id": 1, "method": "server/discover", "params": {"_meta": META}}
HEADERS = {"MCP-Protocol-Version": VERSION, "Mcp-Method": "server/discover"}
CALL = (
    b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"read","arguments":%b,"_meta":'
    b'{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{}}}}'
)
CALL_HEADERS = {"MCP-Protocol-Version": VERSION, "Mcp-Method": "tools/call", "Mcp-Name": "read"}


async def status(house, **more) -> int:
    more["headers"] = HEADERS | more.get("headers", {})
    return (await house.post(PING, **more)).status


async def test_without_a_credential_nothing_is_answered_but_the_challenge():
    async with open_house() as house:
        answer = await house.modern("tools/call", {"name": "read"}, token=None)
    assert answer.status == 401 and answer.headers["www-authenticate"] == "Bearer"
    assert answer.json["error"]["data"]["reason"] == "no_credential"
    assert house.desk.noted == [("no_credential", None, "")] and house.desk.calls == []


@pytest.mark.parametrize("token", ["mallory", "alice x", "", "ALICE"])
async def test_a_wrong_credential_is_told_apart_from_none(token):
    async with open_house() as house:
        answer = await house.modern("tools/call", {"name": "read"}, token=token)
    assert answer.status == 401
    assert answer.headers["www-authenticate"] == 'Bearer error="invalid_token"'
    assert house.desk.calls == [] and house.desk.counted == ["bad_credential"]


async def test_two_credentials_in_one_request_are_refused():
    async with open_house() as house:
        answer = await house.modern("tools/call", {"name": "read"}, extra=[("Authorization", "Bearer bob")])
    assert answer.status == 400 and house.desk.calls == []


async def test_hosts_that_are_this_gateway_come_in_and_no_others():
    async with open_house(allowed_hosts=("gw.example", "tls.example:8443")) as house:
        for host in ("localhost", f"localhost:{house.port}", "[::1]:9", "LOCALHOST", "gw.example",
                     "gw.example:1", "Gw.Example:443", "tls.example:8443"):  # fmt: skip
            assert await status(house, headers={"Host": host}) == 200, host
        for host in ("evil.example", "localhost.evil.example", "gw.example.", "tls.example", "tls.example:1",
                     "127.0.0.1@evil", "evil:80:127.0.0.1", "localhost:", "::1"):  # fmt: skip
            assert await status(house, headers={"Host": host}) == 421, host
        assert await status(house, headers={"Host": ""}) in (400, 421)
        assert await status(house, extra=[("Host", "localhost")]) in (400, 403)
    assert {code for code, *_ in house.desk.noted} == {"origin_refused"}


async def test_browsers_come_in_from_configured_origins_and_from_this_server_only():
    async with open_house(allowed_origins=("https://app.example",)) as house:
        here = f"http://127.0.0.1:{house.port}"
        for origin in ("https://app.example", here, here.replace("http", "https")):
            assert await status(house, headers={"Origin": origin}) == 200, origin
        for origin in ("null", "https://evil.example", "https://app.example.evil", "http://localhost:3000",
                       "http://app.example", "https://app.example/x"):  # fmt: skip
            assert await status(house, headers={"Origin": origin}) == 403, origin
        twice = [("Origin", here), ("Origin", here)]
        assert await status(house, extra=twice) == 403


@pytest.mark.parametrize(
    ("content_type", "expected"),
    [
        ("application/json", 200),
        ("Application/JSON; charset=UTF-8", 200),
        ('application/json;charset="utf-8"', 200),
        ("application/json; charset=utf-16", 415),
        ("application/jsonx", 415),
        ("text/plain", 415),
        ("text/plain; application/json", 415),
        ("", 415),
    ],
)
async def test_the_body_must_be_declared_as_json(content_type, expected):
    async with open_house() as house:
        assert await status(house, headers={"Content-Type": content_type}) == expected


@pytest.mark.parametrize(
    ("accept", "expected", "form"),
    [
        (ACCEPT, 200, "application/json"),
        ("application/json", 200, "application/json"),
        ("*/*", 200, "application/json"),
        ("", 200, "application/json"),
        ("text/event-stream", 200, "text/event-stream"),
        ("application/json;q=0, text/event-stream", 200, "text/event-stream"),
        ("text/html", 406, "application/json"),
    ],
)
async def test_clients_are_answered_in_a_form_they_accept(accept, expected, form):
    async with open_house() as house:
        answer = await house.post(PING, headers=HEADERS | {"Accept": accept})
    assert (answer.status, answer.headers["content-type"]) == (expected, form)


async def test_compressed_bodies_are_refused():
    async with open_house() as house:
        assert await status(house, headers={"Content-Encoding": "gzip"}) == 415
        assert await status(house, headers={"Content-Encoding": "identity"}) == 200


async def test_a_body_announced_too_large_is_not_read():
    async with open_house() as house:
        reader, writer = await asyncio.open_connection("127.0.0.1", house.port)
        writer.write(
            b"POST /mcp HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer alice\r\n"
            b"Content-Type: application/json\r\nContent-Length: 4194305\r\n\r\n"
        )
        head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 2)
        writer.close()
    assert head.startswith(b"HTTP/1.1 413") and b"connection: close" in head.lower()


async def test_a_body_that_grows_too_large_is_cut_off_while_it_is_read():
    async with open_house(max_body_bytes=1024) as house:
        reader, writer = await asyncio.open_connection("127.0.0.1", house.port)
        writer.write(
            b"POST /mcp HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer alice\r\n"
            b"Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
        )
        for _ in range(3):
            writer.write(b"200\r\n" + b" " * 512 + b"\r\n")
            await writer.drain()
        head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 2)
        writer.close()
    assert head.startswith(b"HTTP/1.1 413") and house.desk.noted[0][0] == "too_large"


@pytest.mark.parametrize("sent", [b"", b'{"jsonrpc":'])
async def test_a_client_that_stops_sending_is_not_waited_for(sent):
    async with open_house(body_timeout_s=0.1) as house:
        reader, writer = await asyncio.open_connection("127.0.0.1", house.port)
        writer.write(
            b"POST /mcp HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer alice\r\n"
            b"Content-Type: application/json\r\nContent-Length: 100\r\n\r\n" + sent
        )
        head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 2)
        writer.close()
    assert head.startswith(b"HTTP/1.1 408")


async def test_a_client_that_leaves_while_sending_is_forgotten():
    async with open_house() as house:
        _, writer = await asyncio.open_connection("127.0.0.1", house.port)
        writer.write(
            b"POST /mcp HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer alice\r\n"
            b"Content-Type: application/json\r\nContent-Length: 100\r\n\r\n{"
        )
        await asyncio.sleep(0.05)
        writer.close()
        await asyncio.sleep(0.05)
        assert await status(house) == 200
    assert house.desk.noted == []


DEEP = b"[" * 63 + b"]" * 63


@pytest.mark.parametrize(
    ("body", "code", "reason"),
    [
        (b"", -32700, "malformed_json"),
        (b"{", -32700, "malformed_json"),
        (b"\xff\xfe{}", -32700, "malformed_json"),
        (CALL % b'{"a":NaN}', -32700, "malformed_json"),
        (CALL % b'{"a":Infinity}', -32700, "malformed_json"),
        (CALL % b'{"a":1e999}', -32700, None),
        (CALL % b'{"a":"\\ud800"}', -32700, "malformed_json"),
        (CALL % b'{"a":1,"a":2}', -32700, "duplicate_key"),
        (CALL % b'{"a":1,"\\u0061":2}', -32700, "duplicate_key"),
        (CALL % b'{"a":18446744073709551616}', -32700, "number_out_of_range"),
        (CALL % (b'{"a":' + DEEP + b"}"), -32700, "too_deep"),
        (CALL % (b'{"a":' + b"[" * 5000 + b"]" * 5000 + b"}"), -32700, "too_deep"),
        (CALL % b"{}" + b"{}", -32700, "malformed_json"),
        (b"[" + CALL % b"{}" + b"]", -32600, "batch_refused"),
        (b"[]", -32600, "batch_refused"),
        (b'"tools/call"', -32600, "invalid_request"),
        (b"null", -32600, "invalid_request"),
        (b'{"id":1,"method":"tools/list"}', -32600, "invalid_request"),
        (b'{"jsonrpc":"1.0","id":1,"method":"tools/list"}', -32600, "invalid_request"),
        (b'{"jsonrpc":"2.0","id":1,"result":{}}', -32600, "invalid_request"),
        (b'{"jsonrpc":"2.0","id":null,"method":"tools/list"}', -32600, "invalid_request"),
        (b'{"jsonrpc":"2.0","id":true,"method":"tools/list"}', -32600, "invalid_request"),
        (b'{"jsonrpc":"2.0","id":[1],"method":"tools/list"}', -32600, "invalid_request"),
        (b'{"jsonrpc":"2.0","id":1,"method":7}', -32600, "invalid_request"),
        (b'{"jsonrpc":"2.0","id":1,"method":"tools/list","params":[]}', -32600, "invalid_request"),
        (b'{"jsonrpc":"2.0","id":1,"method":"tools/list","params":{"_meta":[]}}', -32602, "invalid_request"),
    ],
)
async def test_a_body_two_readers_could_understand_differently_is_refused(body, code, reason):
    async with open_house() as house:
        answer = await house.post(body, headers=CALL_HEADERS)
    assert answer.error == (400, code)
    if reason is not None:
        assert answer.json["error"]["data"]["reason"] == reason
    assert house.desk.calls == [] and house.desk.noted[0][1] == "alice"


async def test_arguments_that_are_no_object_never_leave():
    async with open_house() as house:
        for arguments in (b"[1]", b'"x"', b"7", b"true"):
            answer = await house.post(CALL % arguments, headers=CALL_HEADERS)
            assert answer.status == 200 and answer.json["result"]["isError"] is True
    assert house.desk.calls == []


async def test_paths_and_verbs_that_are_not_served_say_so():
    async with open_house() as house:
        assert await status(house, path="/mcp/files/x") == 404
        assert await status(house, path="/") == 404
        assert await status(house, path="/mcpx") == 404
        assert await status(house, path="/mcp/nowhere") == 404
        assert await status(house, path="/mcp/") == 200
        for verb in ("GET", "DELETE", "PUT", "PATCH", "OPTIONS"):
            answer = await house.post(b"", method=verb, headers={"Content-Length": "0"})
            assert answer.status == 405 and answer.headers["allow"] == "POST"


async def test_a_fault_of_our_own_is_an_answer_that_says_nothing_of_it(caplog):
    class Broken(Desk):
        def info(self, upstream):
            raise RuntimeError("secret path /etc/wardgate")

    async with open_house(Broken()) as house:
        answer = await house.modern("server/discover")
    assert answer.error == (200, -32603) and b"secret" not in answer.body
    assert house.desk.noted[0][0] == "gateway_error"
