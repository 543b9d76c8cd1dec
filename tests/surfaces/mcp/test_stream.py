"""Streams open when there is something to stream, and a client that does not read holds nobody up."""

from __future__ import annotations

import asyncio

import orjson

from gateway.model import Outcome
from gateway.surfaces.mcp import stream
from tests.surfaces.mcp.support import Desk, ok, open_house


def progress(token: object, at: int = 1) -> bytes:
    params = {"progressToken": token, "progress": at}
    return orjson.dumps({"jsonrpc": "2.0", "method": "notifications/progress", "params": params})


def log(level: str, text: str) -> bytes:
    params = {"level": level, "data": text}
    return orjson.dumps({"jsonrpc": "2.0", "method": "notifications/message", "params": params})


def emitting(*notifications: bytes, result: Outcome | None = None):
    async def handler(call, emit):
        for notification in notifications:
            if emit is not None:
                await emit.notify(notification)
        return result or ok()

    desk = Desk()
    desk.handler = handler
    return desk


CALL = {"name": "read"}
TOKEN = {"progressToken": "p1"}


async def test_the_first_notification_opens_the_stream_and_the_result_ends_it():
    desk = emitting(progress("p1", 1), progress("p1", 2), result=ok(b'{\n "content": []\r\n}'))
    async with open_house(desk) as house:
        answer = await house.modern("tools/call", CALL, meta=TOKEN, id=9)
    assert answer.headers["x-accel-buffering"] == "no"
    first, second, last = answer.events
    assert [first["params"]["progress"], second["params"]["progress"]] == [1, 2]
    assert last == {"jsonrpc": "2.0", "id": 9, "result": {"resultType": "complete", "content": []}}
    assert answer.body.count(b"data: ") == 3


async def test_a_call_without_notifications_stays_one_json_answer():
    async with open_house(emitting()) as house:
        answer = await house.modern("tools/call", CALL, meta=TOKEN)
    assert answer.headers["content-type"] == "application/json"


async def test_a_client_that_takes_no_stream_gets_no_notifications():
    async with open_house(emitting(progress("p1"))) as house:
        answer = await house.modern("tools/call", CALL, meta=TOKEN, headers={"Accept": "application/json"})
    assert answer.headers["content-type"] == "application/json" and "result" in answer.json


async def test_only_notifications_of_this_call_pass_and_never_requests():
    desk = emitting(
        progress("somebody else's"),
        progress(1),
        b"not json",
        b'{"jsonrpc":"2.0","id":4,"method":"sampling/createMessage","params":{}}',
        b'{"jsonrpc":"2.0","id":null,"method":"notifications/progress","params":{"progressToken":"p1"}}',
        b'{"jsonrpc":"2.0","method":"notifications/tools/list_changed"}',
        b'{"jsonrpc":"2.0","method":"notifications/elicitation/complete","params":{}}',
        log("error", "modern clients did not ask for logs"),
    )
    async with open_house(desk) as house:
        answer = await house.modern("tools/call", CALL, meta=TOKEN)
    assert answer.headers["content-type"] == "application/json"


async def test_logs_pass_from_the_level_that_was_asked_for():
    desk = emitting(log("debug", "a"), log("warning", "b"), log("odd", "c"), log("error", "d"))
    async with open_house(desk) as house:
        modern = await house.modern("tools/call", CALL, meta={"io.modelcontextprotocol/logLevel": "warning"})
        session = (await house.initialize()).headers["mcp-session-id"]
        before = await house.legacy(session, "tools/call", CALL)
        await house.legacy(session, "logging/setLevel", {"level": "error"})
        after = await house.legacy(session, "tools/call", CALL)
        wrong = await house.legacy(session, "logging/setLevel", {"level": "loud"})
    assert [event["params"]["data"] for event in modern.events[:-1]] == ["b", "d"]
    assert [event["params"]["data"] for event in before.events[:-1]] == ["a", "b", "d"]
    assert [event["params"]["data"] for event in after.events[:-1]] == ["d"]
    assert wrong.error == (200, -32602)


async def test_an_event_can_not_be_broken_in_two_by_line_ends():
    params = b'{"progressToken":"p1","message":"a\\n\\nb"}'
    raw = b'{"jsonrpc":"2.0",\r\n\n"method":"notifications/progress","params":' + params + b"}"
    async with open_house(emitting(raw)) as house:
        answer = await house.modern("tools/call", CALL, meta=TOKEN)
    assert answer.events[0]["params"]["message"] == "a\n\nb" and len(answer.events) == 2


async def test_a_client_that_leaves_does_not_take_the_call_with_it():
    done = asyncio.Event()
    started = asyncio.Event()

    async def handler(call, emit):
        started.set()
        await asyncio.sleep(0.2)
        if emit is not None:
            await emit.notify(progress("p1"))
        done.set()
        return ok()

    desk = Desk()
    desk.handler = handler
    async with open_house(desk) as house:
        request = asyncio.create_task(house.modern("tools/call", CALL, meta=TOKEN))
        await started.wait()
        request.cancel()
        await asyncio.wait_for(done.wait(), 2)
        await asyncio.sleep(0.05)
        assert desk.recorded[-1] == ("settled", "")
        assert "result" in (await house.modern("server/discover")).json


async def test_a_client_that_does_not_read_loses_its_events_and_not_the_gateways_time(monkeypatch):
    monkeypatch.setattr(stream, "STALL_S", 0.2)
    sent = 0

    async def handler(call, emit):
        nonlocal sent
        big = orjson.dumps(
            {"jsonrpc": "2.0", "method": "notifications/progress",
             "params": {"progressToken": "p1", "message": "x" * 200_000}}
        )  # fmt: skip
        for _ in range(200):
            await emit.notify(big)
            sent += 1
        return ok()

    desk = Desk()
    desk.handler = handler
    async with open_house(desk) as house:
        reader, writer = await asyncio.open_connection("127.0.0.1", house.port, limit=1024)
        body = orjson.dumps(
            {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "read", "_meta": {
                "io.modelcontextprotocol/protocolVersion": "2026-07-28",
                "io.modelcontextprotocol/clientCapabilities": {}, "progressToken": "p1"}}}
        )  # fmt: skip
        writer.write(
            b"POST /mcp/files HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer alice\r\n"
            b"Content-Type: application/json\r\nAccept: application/json, text/event-stream\r\n"
            b"MCP-Protocol-Version: 2026-07-28\r\nMcp-Method: tools/call\r\nMcp-Name: read\r\n"
            b"Content-Length: %d\r\n\r\n" % len(body) + body
        )
        async with asyncio.timeout(5):
            while sent < 200:
                await asyncio.sleep(0.02)
        await asyncio.sleep(0.1)
        assert desk.recorded[-1] == ("settled", "")
        # The connection is closed without an end of the stream, so nobody takes it for complete.
        rest = b""
        async with asyncio.timeout(5):
            while chunk := await reader.read(1 << 20):
                rest = (rest + chunk)[-200:]
        assert not rest.endswith(b"0\r\n\r\n")
        writer.close()
