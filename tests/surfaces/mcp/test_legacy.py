"""Revisions with a handshake: sessions that belong to one principal, and end."""

from __future__ import annotations

import asyncio

import pytest

from gateway.rolling import rolling_session
from gateway.surfaces.mcp import listeners
from gateway.surfaces.mcp.envelope import Rejected
from gateway.surfaces.mcp.sessions import Sessions, owner_of
from tests.surfaces.mcp.support import ALICE, BOB, Desk, entry, open_house, read_answer


async def opened(house, **more) -> str:
    answer = await house.initialize(**more)
    assert answer.status == 200, answer.body
    return answer.headers["mcp-session-id"]


@pytest.mark.parametrize(
    ("asked", "agreed"),
    [
        ("2025-11-25", "2025-11-25"),
        ("2025-06-18", "2025-06-18"),
        ("2025-03-26", "2025-03-26"),
        ("2024-11-05", "2025-11-25"),
        ("2099-01-01", "2025-11-25"),
        (None, "2025-11-25"),
        ({"a": 1}, "2025-11-25"),
    ],
)
async def test_the_gateway_answers_the_handshake_itself(asked, agreed):
    async with open_house() as house:
        answer = await house.initialize(protocolVersion=asked)
    result = answer.json["result"]
    assert result["protocolVersion"] == agreed and result["serverInfo"]["name"] == "wardgate"
    assert set(result["capabilities"]) == {"tools", "prompts", "resources", "completions"}
    assert len(answer.headers["mcp-session-id"]) >= 43
    assert house.desk.calls == []


async def test_a_session_calls_lists_pings_and_ends():
    async with open_house() as house:
        session = await opened(house)
        note = {"jsonrpc": "2.0", "method": "notifications/initialized"}
        accepted = await house.post(note, headers={"Mcp-Session-Id": session})
        assert (accepted.status, accepted.body) == (202, b"")
        assert (await house.legacy(session, "ping")).json["result"] == {}
        assert (await house.legacy(session, "logging/setLevel", {"level": "error"})).json["result"] == {}
        listed = (await house.legacy(session, "tools/list")).json["result"]
        assert [tool["name"] for tool in listed["tools"]] == ["read"] and "ttlMs" not in listed
        called = (await house.legacy(session, "tools/call", {"name": "read"})).json["result"]
        assert called == {"content": [{"type": "text", "text": "done"}]}
        end = await house.post(b"", method="DELETE", headers={"Mcp-Session-Id": session})
        assert end.status == 204
        assert (await house.legacy(session, "ping")).error == (404, -32600)
    assert len(house.desk.calls) == 1


async def test_a_session_id_is_worth_nothing_to_another_principal_or_endpoint():
    desk = Desk([entry("tool", "files", "read"), entry("tool", "mail", "send")])
    async with open_house(desk) as house:
        session = await opened(house)
        call = {"name": "read"}
        stolen = await house.legacy(session, "tools/call", call, token="bob")
        elsewhere = await house.legacy(session, "tools/call", {"name": "send"}, path="/mcp/mail")
        guessed = await house.legacy("A" * 43, "tools/call", call)
        ended = await house.post(b"", method="DELETE", token="bob", headers={"Mcp-Session-Id": session})
        watched = await house.post(b"", method="GET", token="bob", headers={"Mcp-Session-Id": session})
        assert {a.status for a in (stolen, elsewhere, guessed, ended, watched)} == {404}
        assert stolen.json["error"] == guessed.json["error"]
        assert desk.calls == []
        assert "result" in (await house.legacy(session, "tools/call", call)).json


async def test_without_a_session_only_the_handshake_is_served():
    async with open_house() as house:
        call = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "read"}}
        assert (await house.post(call)).error == (400, -32600)
        note = {"jsonrpc": "2.0", "method": "notifications/initialized"}
        assert (await house.post(note)).status == 400
    assert house.desk.calls == []


async def test_two_session_headers_are_refused():
    async with open_house() as house:
        session = await opened(house)
        answer = await house.legacy(session, "ping", extra=[("Mcp-Session-Id", session)])
    assert answer.status == 400


async def test_the_version_header_is_held_to_the_versions_there_are():
    async with open_house() as house:
        session = await opened(house)
        for version in ("2025-06-18", ""):
            answer = await house.legacy(session, "ping", headers={"MCP-Protocol-Version": version})
            assert answer.status == 200
        for version in ("2024-11-05", "nonsense", "2026-07-28"):
            answer = await house.legacy(session, "ping", headers={"MCP-Protocol-Version": version})
            assert answer.status == 400


async def test_modern_headers_on_a_legacy_body_must_still_agree_with_it():
    async with open_house() as house:
        session = await opened(house)
        for headers in ({"Mcp-Name": "write"}, {"Mcp-Method": "tools/list"}):
            answer = await house.legacy(session, "tools/call", {"name": "read"}, headers=headers)
            assert answer.error == (400, -32020)
    assert house.desk.calls == []


@pytest.mark.parametrize(
    "method", ["subscriptions/listen", "server/oops", "sampling/createMessage", "tasks/list"]
)
async def test_unknown_methods_are_refused_in_the_legacy_way(method):
    async with open_house() as house:
        session = await opened(house)
        answer = await house.legacy(session, method, {})
    assert answer.error == (200, -32601) and house.desk.calls == []


async def test_unknown_notifications_are_counted_and_dropped():
    async with open_house() as house:
        session = await opened(house)
        note = {"jsonrpc": "2.0", "method": "notifications/odd"}
        assert (await house.post(note, headers={"Mcp-Session-Id": session})).status == 202
    assert [code for code, *_ in house.desk.noted] == ["unknown_method"]


async def test_cancelling_is_accepted_and_does_not_stop_a_call_that_was_made():
    async with open_house() as house:
        session = await opened(house)
        note = {"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": 1}}
        assert (await house.post(note, headers={"Mcp-Session-Id": session})).status == 202


async def test_an_idle_session_ends():
    async with open_house(session_idle_s=0.05) as house:
        session = await opened(house)
        await asyncio.sleep(0.1)
        assert (await house.legacy(session, "ping")).status == 404
    assert len(house.surface.sessions) == 0


def test_an_agent_that_opens_sessions_without_end_pushes_out_its_own():
    sessions = Sessions(8, 100, lambda ended: None)
    bob = owner_of(BOB, None)
    bobs = sessions.open(BOB, None, {}, 0)
    alice = owner_of(ALICE, None)
    keys = [sessions.open(ALICE, None, {}, i) for i in range(50)]
    assert len(sessions) <= 8 and sessions.find(bobs, bob, 50)
    assert sessions.find(keys[-1], alice, 50)
    with pytest.raises(Rejected):
        sessions.find(keys[0], alice, 50)


def test_sessions_kept_alive_by_a_stream_do_not_hide_idle_ones_behind_them():
    sessions = Sessions(2, 10, lambda ended: None)
    alice = owner_of(ALICE, None)
    key = sessions.open(ALICE, None, {}, 0)
    sessions.open(ALICE, "files", {}, 0)
    sessions.touch(key, sessions.find(key, alice, 1), 20)
    assert sessions.open(BOB, None, {}, 20) and sessions.find(key, alice, 21)


def test_a_full_table_turns_newcomers_away_instead_of_taking_a_place_from_others():
    sessions = Sessions(2, 100, lambda ended: None)
    for upstream in ("a", "b"):
        sessions.open(ALICE, upstream, {}, 0)
    with pytest.raises(Rejected) as full:
        sessions.open(BOB, None, {}, 1)
    assert full.value.status == 503
    assert sessions.open(BOB, None, {}, 102)  # the idle ones are gone by then


async def test_a_stream_can_be_listened_to_and_ends_with_its_session(monkeypatch):
    monkeypatch.setattr(listeners, "KEEP_ALIVE_S", 0.05)
    async with open_house() as house:
        session = await opened(house)
        reader, writer = await asyncio.open_connection("127.0.0.1", house.port)
        head = (
            f"GET /mcp/files HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer alice\r\n"
            f"Accept: text/event-stream\r\nMcp-Session-Id: {session}\r\n\r\n"
        )
        writer.write(head.encode())
        started = await reader.readuntil(b": alive")
        assert b"200 OK" in started and b"text/event-stream" in started
        second = await house.post(b"", method="GET", headers={"Mcp-Session-Id": session})
        assert second.status == 409
        await house.post(b"", method="DELETE", headers={"Mcp-Session-Id": session})
        await asyncio.wait_for(reader.readuntil(b"0\r\n\r\n"), 2)
        writer.close()


async def test_a_stream_ends_when_the_gateway_stops():
    async with open_house() as house:
        session = await opened(house)
        reader, writer = await asyncio.open_connection("127.0.0.1", house.port)
        writer.write(
            f"GET /mcp/files HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer alice\r\n"
            f"Accept: text/event-stream\r\nMcp-Session-Id: {session}\r\n\r\n".encode()
        )
        await reader.readuntil(b": listening")
        house.surface.close()
        await asyncio.wait_for(reader.readuntil(b"0\r\n\r\n"), 2)
        writer.close()


async def test_a_stream_whose_client_left_can_be_opened_again():
    async with open_house() as house:
        session = await opened(house)
        for _ in range(2):
            reader, writer = await asyncio.open_connection("127.0.0.1", house.port)
            writer.write(
                f"GET /mcp/files HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer alice\r\n"
                f"Accept: text/event-stream\r\nMcp-Session-Id: {session}\r\n\r\n".encode()
            )
            assert b"200" in await reader.readuntil(b": listening")
            writer.close()
            await asyncio.sleep(0.05)


async def test_the_session_that_budgets_are_kept_in_cannot_be_left_by_reconnecting():
    async with open_house() as house:
        for _ in range(2):
            await house.legacy(await opened(house), "tools/call", {"name": "read"})
        await house.modern("tools/call", {"name": "read"}, meta={"dev.wardgate/thread": "work-1"})
        await house.modern("tools/call", {"name": "read"}, token="bob")
    first, second, modern, bobs = house.desk.calls
    assert first.session == second.session == modern.session != bobs.session
    assert first.thread != second.thread and modern.thread == "work-1" and bobs.thread == ""
    assert first.session == rolling_session(ALICE)


async def test_a_listening_request_that_is_not_answered_leaves_the_reader_free():
    async with open_house() as house:
        reader, writer = await asyncio.open_connection("127.0.0.1", house.port)
        writer.write(b"GET /mcp/files HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer alice\r\n\r\n")
        answer = await read_answer(reader)
        writer.close()
    assert answer.status == 405
