"""What clients are told without asking again: lists that look different to them, resources that changed."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager

import msgspec
import pytest

from gateway.model import Finding, Outcome
from gateway.ports import Subscriber
from gateway.surfaces.mcp import changes, listeners
from tests.surfaces.mcp import streams, support
from tests.surfaces.mcp.streams import in_session, until
from tests.surfaces.mcp.support import ALICE, BOB, Desk, Info, definition, entry, ok, open_house

ACKNOWLEDGED = "notifications/subscriptions/acknowledged"
UPDATED = "notifications/resources/updated"
ID = "io.modelcontextprotocol/subscriptionId"
A, B = "file:///a", "file:///b"
ALL = {
    "toolsListChanged": True, "promptsListChanged": True, "resourcesListChanged": True,
    "resourceSubscriptions": [A],
}  # fmt: skip


def a_desk() -> Desk:
    desk = Desk([
        entry("tool", "files", "read"), entry("tool", "files", "write"), entry("prompt", "files", "ask"),
        entry("resource", "files", A), entry("resource", "files", B), entry("resource", "other", B),
    ])  # fmt: skip
    desk.infos["files"] = Info({"tools": {}, "prompts": {}, "resources": {"subscribe": True}})
    return desk


@asynccontextmanager
async def listening(house, wanted, number=1, **more):
    params = {"notifications": wanted}
    async with streams.modern(house, "subscriptions/listen", params, number, **more) as stream:
        yield await stream.head()


def who(token="alice", thread="", capabilities=b""):
    principal = {"alice": ALICE, "bob": BOB}[token]
    return Subscriber(principal.tenant, principal.agent, principal.credential, "", thread, capabilities)


async def the_session(house, token="alice", path="/mcp/files"):
    return (await house.initialize(token=token, path=path)).headers["mcp-session-id"]


def changed(house, name="read", **more):
    """The definition of a tool is another one, as after a refresh of the catalog."""
    house.desk.listed = [
        msgspec.structs.replace(tool, schema_hash=tool.schema_hash + "'", definition_json=definition(name))
        if tool.name == name
        else tool
        for tool in house.desk.listed
    ]
    house.surface.changes.catalog_changed()


# ------------------------------------------------------------------------------------------- the stream


@pytest.mark.parametrize("number", [1, 0, "a-string", "1", 2**53])
async def test_the_acknowledgement_comes_first_and_names_the_request_as_it_was_sent(number):
    async with open_house(a_desk()) as house, listening(house, ALL, number) as stream:
        first = await stream.event()
        assert stream.headers["content-type"] == "text/event-stream"
        assert first["method"] == ACKNOWLEDGED and first["params"]["notifications"] == ALL
        said = first["params"]["_meta"][ID]
        assert said == number and type(said) is type(number)
        house.surface.changes.updated("files", who(), A)
        told = await stream.event()
        assert told["params"] == {"uri": A, "_meta": {ID: number}} and told["method"] == UPDATED


async def test_only_what_was_asked_for_is_told():
    async with (
        open_house(a_desk()) as house,
        listening(house, {"promptsListChanged": True, "toolsListChanged": False}) as stream,
    ):
        assert (await stream.event())["params"]["notifications"] == {"promptsListChanged": True}
        changed(house)
        house.surface.changes.updated("files", who(), A)
        assert await stream.silent(0.1)
        changed(house, "ask")
        assert (await stream.event())["method"] == "notifications/prompts/list_changed"


async def test_a_stream_for_nothing_is_a_stream():
    async with open_house(a_desk()) as house, listening(house, {}) as stream:
        assert (await stream.event())["params"]["notifications"] == {}


async def test_what_is_refused_is_left_out_and_the_rest_holds():
    desk = a_desk()
    desk.denied[f"files/{B}"] = Finding(code="no", message="no")
    wanted = {"resourceSubscriptions": [B, "file:///nothing", A, A]}
    async with open_house(desk) as house, listening(house, wanted) as stream:
        assert (await stream.event())["params"]["notifications"] == {"resourceSubscriptions": [A]}
        house.surface.changes.updated("files", who(), B)
        house.surface.changes.updated("files", who(), A)
        assert (await stream.event())["params"]["uri"] == A
        assert ("block", "deny") in desk.recorded


async def test_what_the_upstream_refuses_is_left_out():
    desk = a_desk()

    async def handler(call, dialogue):
        return Outcome(status="rpc_error", error_json=b'{"code":-32002,"message":"no"}')

    desk.handler = handler
    async with open_house(desk) as house, listening(house, {"resourceSubscriptions": [A]}) as stream:
        assert (await stream.event())["params"]["notifications"] == {}
    assert desk.unsubscribed == []


async def test_a_slow_upstream_does_not_keep_the_acknowledgement_back_for_ever(monkeypatch):
    monkeypatch.setattr(listeners, "AGREE_S", 0.1)
    desk = a_desk()

    async def slow(call, dialogue):
        await asyncio.sleep(0.15)
        return ok()

    desk.handler = slow
    async with open_house(desk) as house, listening(house, {"resourceSubscriptions": [A, B]}) as stream:
        assert (await stream.event())["params"]["notifications"] == {"resourceSubscriptions": [A]}


async def test_a_resource_of_two_upstreams_is_left_out_of_the_aggregate():
    async with (
        open_house(a_desk()) as house,
        listening(house, {"resourceSubscriptions": [B, A]}, path="/mcp") as stream,
    ):
        assert (await stream.event())["params"]["notifications"] == {"resourceSubscriptions": [A]}


@pytest.mark.parametrize(
    "notifications",
    [
        None, [], "all", {"resourceSubscriptions": A}, {"resourceSubscriptions": [1]},
        {"resourceSubscriptions": [A, None]}, {"resourceSubscriptions": [f"x:{n}" for n in range(257)]},
    ],
)  # fmt: skip
async def test_what_is_no_filter_is_refused_and_nothing_is_subscribed(notifications):
    async with open_house(a_desk()) as house:
        answer = await house.modern("subscriptions/listen", {"notifications": notifications})
        assert answer.error == (200, -32602) and house.desk.calls == []
        assert len(house.surface.changes) == 0


async def test_a_client_that_takes_no_stream_is_told_so():
    async with open_house(a_desk()) as house:
        headers = {"Accept": "application/json"}
        answer = await house.modern("subscriptions/listen", {"notifications": {}}, headers=headers)
        assert answer.status == 406


async def test_streams_are_bounded_by_principal_and_a_place_comes_free_again(monkeypatch):
    monkeypatch.setattr(listeners, "MAX_STREAMS", 2)
    async with open_house(a_desk()) as house:
        async with listening(house, {}) as first, listening(house, {}, 2) as second:
            await first.event(), await second.event()
            full = await house.modern("subscriptions/listen", {"notifications": {}})
            assert full.status == 200 and full.json["error"]["data"]["reason"] == "overloaded"
            async with listening(house, {}, token="bob") as bobs:
                assert (await bobs.event())["method"] == ACKNOWLEDGED
        await until(lambda: not len(house.surface.changes))
        async with listening(house, {}) as again:
            assert (await again.event())["method"] == ACKNOWLEDGED


async def test_the_end_of_the_gateway_is_the_result_of_the_stream():
    async with open_house(a_desk()) as house, listening(house, ALL, "x") as stream:
        await stream.event()
        house.surface.close()
        last = await stream.event()
        assert last["id"] == "x" and last["result"]["resultType"] == "complete"
        assert last["result"]["_meta"][ID] == "x"
        assert await stream.event() is None
        assert len(house.surface.changes) == 0


async def test_a_revoked_key_hears_no_more_within_two_seconds(monkeypatch):
    tokens = dict(support.TOKENS)
    monkeypatch.setattr(support, "TOKENS", tokens)
    async with open_house(a_desk()) as house:
        session = await the_session(house)
        async with listening(house, ALL) as modern, streams.listening(house, session) as legacy:
            await modern.event()
            del tokens[b"Bearer alice"]
            async with asyncio.timeout(2):
                assert (await modern.event())["result"]["resultType"] == "complete"
                assert await legacy.event() is None


async def test_a_key_that_is_somebody_elses_now_hears_no_more(monkeypatch):
    tokens = dict(support.TOKENS)
    monkeypatch.setattr(support, "TOKENS", tokens)
    monkeypatch.setattr(listeners, "CHECK_S", 0.05)
    async with open_house(a_desk()) as house, listening(house, ALL) as stream:
        await stream.event()
        tokens[b"Bearer alice"] = BOB
        assert "result" in await stream.event()


async def test_silence_is_broken_so_that_nobody_takes_the_stream_for_dead(monkeypatch):
    monkeypatch.setattr(listeners, "CHECK_S", 0.02)
    monkeypatch.setattr(listeners, "KEEP_ALIVE_S", 0.05)
    async with open_house(a_desk()) as house, listening(house, {}) as stream:
        async with asyncio.timeout(2):
            await stream._reader.readuntil(b": alive\n")


# ------------------------------------------------------------------------------------------------ lists


async def test_only_clients_whose_list_looks_different_are_told():
    desk = a_desk()
    desk.hidden.add(("bob", "files/read"))
    wanted = {"toolsListChanged": True}
    async with open_house(desk) as house:
        sessions = {token: await the_session(house, token) for token in ("alice", "bob")}
        headers = {**in_session(sessions["bob"], "bob"), "Accept": "text/event-stream"}
        async with (
            listening(house, wanted) as alice,
            listening(house, wanted, token="bob") as bob,
            streams.listening(house, sessions["alice"]) as alices,
            streams.requested(house, "GET", "/mcp/files", b"", headers) as bobs,
        ):
            await alice.event(), await bob.event(), await bobs.head()
            await until(lambda: len(house.surface.changes) == 4)
            changed(house, "read")
            assert (await alice.event())["method"] == "notifications/tools/list_changed"
            assert (await alices.event())["method"] == "notifications/tools/list_changed"
            assert await bob.silent(0.1) and await bobs.silent(0.05)
            desk.hidden.clear()  # policy shows it to him now
            house.surface.changes.catalog_changed()
            assert (await bob.event())["method"] == "notifications/tools/list_changed"
            assert (await bobs.event())["method"] == "notifications/tools/list_changed"
            assert await alice.silent(0.1), "nothing looks different to her"


async def test_changes_of_another_upstream_are_told_on_the_aggregate_only():
    async with (
        open_house(a_desk()) as house,
        listening(house, {"resourcesListChanged": True}) as own,
        listening(house, {"resourcesListChanged": True}, 2, path="/mcp") as aggregate,
    ):
        await own.event(), await aggregate.event()
        house.desk.listed.append(entry("resource", "other", "file:///new"))
        house.surface.changes.catalog_changed()
        assert (await aggregate.event())["method"] == "notifications/resources/list_changed"
        assert await own.silent(0.1)


async def test_an_agent_that_an_operator_changed_is_shown_its_lists_anew(monkeypatch):
    """Its labels, its mode: what policy reads of it is what holds now, not when the stream began."""
    tokens = dict(support.TOKENS)
    monkeypatch.setattr(support, "TOKENS", tokens)
    monkeypatch.setattr(listeners, "CHECK_S", 0.05)

    class ByLabel(support._Policy):
        def sees(self, principal, tool, facts):
            return tool.name != "write" or "trusted" in principal.labels

    monkeypatch.setattr(support, "_Policy", ByLabel)
    async with open_house(a_desk()) as house, listening(house, {"toolsListChanged": True}) as stream:
        await stream.event()
        tokens[b"Bearer alice"] = msgspec.structs.replace(ALICE, labels=("trusted",))
        assert (await stream.event())["method"] == "notifications/tools/list_changed"


async def test_many_changes_are_one_message_for_a_client_that_does_not_read():
    desk = a_desk()
    outbox = changes.Outbox(ALICE, "files")
    async with open_house(desk) as house:
        house.surface.changes.add(outbox, ("tools",))
        for _ in range(50):
            changed(house)
        for _ in range(50):
            outbox.updated(A)
        assert len(outbox.take()) == 2 and outbox.take() == []
        house.surface.changes.remove(outbox)


# ------------------------------------------------------------------------------------------- resources


async def test_the_last_unsubscribe_reaches_the_upstream_once():
    async with open_house(a_desk()) as house:
        sessions = [await the_session(house) for _ in range(2)]
        for session in sessions:
            assert (await house.legacy(session, "resources/subscribe", {"uri": A})).json["result"] == {
                "content": [{"type": "text", "text": "done"}]
            }
        async with listening(house, {"resourceSubscriptions": [A]}) as stream:
            await stream.event()
            assert len(house.desk.calls) == 3, "each is a governed call"
            await house.legacy(sessions[0], "resources/unsubscribe", {"uri": A})
            await house.legacy(sessions[0], "resources/unsubscribe", {"uri": A})
            await house.post(b"", method="DELETE", headers=in_session(sessions[1]))
            assert house.desk.unsubscribed == []
        await until(lambda: house.desk.unsubscribed)
        await asyncio.sleep(0.05)
        assert house.desk.unsubscribed == [(who(), "files", A)]
        assert not house.surface.changes._subscribed


async def test_a_session_hears_of_what_it_subscribed_and_others_do_not():
    async with open_house(a_desk()) as house:
        mine, other = await the_session(house), await the_session(house, "bob")
        await house.legacy(mine, "resources/subscribe", {"uri": A})
        headers = {**in_session(other, "bob"), "Accept": "text/event-stream"}
        async with (
            streams.listening(house, mine) as stream,
            streams.requested(house, "GET", "/mcp/files", b"", headers) as bobs,
        ):
            await bobs.head()
            house.surface.changes.updated("files", who("bob"), A)
            house.surface.changes.updated("files", who(), B)
            assert await stream.silent(0.1)
            house.surface.changes.updated("files", who(), A)
            assert (await stream.event())["params"] == {"uri": A}
            assert await bobs.silent(0.1)


async def test_what_happens_while_a_session_does_not_listen_waits_for_it_once():
    async with open_house(a_desk()) as house:
        session = await the_session(house)
        await house.legacy(session, "resources/subscribe", {"uri": A})
        for _ in range(10):
            house.surface.changes.updated("files", who(), A)
        async with streams.listening(house, session) as stream:
            assert (await stream.event())["method"] == UPDATED
            assert await stream.silent(0.1)


async def test_a_subscription_that_policy_refuses_or_that_is_not_there_is_an_error():
    desk = a_desk()
    desk.denied[f"files/{A}"] = Finding(code="no", message="no")
    async with open_house(desk) as house:
        session = await the_session(house)
        refused = await house.legacy(session, "resources/subscribe", {"uri": A})
        assert refused.json["error"]["data"]["reason"] == "no"
        unknown = await house.legacy(session, "resources/subscribe", {"uri": "file:///none"})
        assert unknown.error == (200, -32002) and desk.calls == []
        desk.infos["files"] = Info({"tools": {}, "resources": {}})
        assert (await house.legacy(session, "resources/subscribe", {"uri": B})).error[1] == -32601


async def test_subscriptions_of_one_client_are_bounded(monkeypatch):
    monkeypatch.setattr(changes, "MAX_URIS", 1)
    async with open_house(a_desk()) as house:
        session = await the_session(house)
        assert "result" in (await house.legacy(session, "resources/subscribe", {"uri": A})).json
        assert "result" in (await house.legacy(session, "resources/subscribe", {"uri": A})).json
        full = await house.legacy(session, "resources/subscribe", {"uri": B})
        assert full.status == 200 and full.json["error"]["data"]["reason"] == "overloaded"
        await house.legacy(session, "resources/unsubscribe", {"uri": A})
        assert "result" in (await house.legacy(session, "resources/subscribe", {"uri": B})).json


class Gate:
    """An upstream whose answers to subscriptions the test lets go."""

    def __init__(self, desk: Desk) -> None:
        self.desk = desk
        self.wire: list[str] = []  # what the upstream gets to see, in order
        self.subscribe, self.end = asyncio.Event(), asyncio.Event()
        desk.handler = self.subscribed
        desk.unsubscribe = self.unsubscribed

    async def subscribed(self, call, dialogue):
        self.wire.append("subscribe")
        await self.subscribe.wait()
        return ok()

    async def unsubscribed(self, subscriber, upstream, uri):
        await self.end.wait()
        self.wire.append("unsubscribe")


async def test_a_client_that_subscribes_while_the_last_one_leaves_keeps_its_subscription():
    desk = a_desk()
    gate = Gate(desk)
    gate.subscribe.set()
    async with open_house(desk) as house:
        first, second = await the_session(house), await the_session(house)
        await house.legacy(first, "resources/subscribe", {"uri": A})
        await house.legacy(first, "resources/unsubscribe", {"uri": A})  # on its way, and slow
        joining = asyncio.create_task(house.legacy(second, "resources/subscribe", {"uri": A}))
        await asyncio.sleep(0.05)
        gate.end.set()
        assert "result" in (await joining).json
        assert gate.wire == ["subscribe", "unsubscribe", "subscribe"]
        async with streams.listening(house, second) as stream:
            house.surface.changes.updated("files", who(), A)
            assert (await stream.event())["method"] == UPDATED


async def test_a_client_that_leaves_does_not_end_what_another_is_just_subscribing_to():
    desk = a_desk()
    gate = Gate(desk)
    gate.subscribe.set()
    gate.end.set()
    async with open_house(desk) as house:
        first, second = await the_session(house), await the_session(house)
        await house.legacy(first, "resources/subscribe", {"uri": A})
        gate.subscribe.clear()
        joining = asyncio.create_task(house.legacy(second, "resources/subscribe", {"uri": A}))
        await until(lambda: len(gate.wire) == 2)
        await house.legacy(first, "resources/unsubscribe", {"uri": A})
        gate.subscribe.set()
        await joining
        await asyncio.sleep(0.05)
        assert gate.wire == ["subscribe", "subscribe"]


async def test_a_session_that_ends_while_it_subscribes_leaves_no_subscription():
    desk = a_desk()
    gate = Gate(desk)
    gate.end.set()
    async with open_house(desk) as house:
        session = await the_session(house)
        joining = asyncio.create_task(house.legacy(session, "resources/subscribe", {"uri": A}))
        await until(lambda: gate.wire)
        await house.post(b"", method="DELETE", headers=in_session(session))
        gate.subscribe.set()
        await joining
        await until(lambda: gate.wire == ["subscribe", "unsubscribe"])
        await until(lambda: not house.surface.changes._subscribed)


async def test_a_client_that_looks_different_to_the_upstream_is_subscribed_once():
    """A legacy client that takes a stream in one request and none in the next is told of in two ways."""
    async with open_house(a_desk()) as house:
        answer = await house.initialize(capabilities={"elicitation": {}})
        session = answer.headers["mcp-session-id"]
        await house.legacy(session, "resources/subscribe", {"uri": A})
        json_only = {"Accept": "application/json"}
        await house.legacy(session, "resources/subscribe", {"uri": A}, headers=json_only)
        await until(lambda: len(house.desk.unsubscribed) == 1)
        await house.legacy(session, "resources/unsubscribe", {"uri": A})
        await until(lambda: len(house.desk.unsubscribed) == 2)
        assert not house.surface.changes._subscribed


async def test_a_reload_subscribes_again_and_drops_what_policy_no_longer_allows():
    desk = a_desk()
    async with open_house(desk) as house, listening(house, {"resourceSubscriptions": [A, B]}) as stream:
        assert len((await stream.event())["params"]["notifications"]["resourceSubscriptions"]) == 2
        desk.denied[f"files/{B}"] = Finding(code="no", message="no")
        await house.surface.changes.renew()
        assert [call.tool.name for call in desk.calls] == [A, B, A]
        assert (await stream.event())["params"]["uri"] == A, "what happened in between was not heard"
        house.surface.changes.updated("files", who(), B)
        assert await stream.silent(0.1)
        assert [key.uri for key in house.surface.changes._subscribed] == [A]
        assert desk.unsubscribed == [], "the upstream that knew of it is gone"
