"""All upstreams on one endpoint: names that come apart again, lists in pages, URIs never guessed."""

from __future__ import annotations

import re

import orjson
from hypothesis import given
from hypothesis import strategies as st

from gateway.surfaces.mcp.names import Names, exposed, is_plain
from tests.surfaces.mcp.support import Desk, Info, entry, open_house

UPSTREAM = st.from_regex(r"[a-z0-9][a-z0-9_.-]{0,62}", fullmatch=True)
TOOL = st.from_regex(r"[a-zA-Z0-9_-]{1,70}", fullmatch=True) | st.text(min_size=1, max_size=80)
PAIR = st.tuples(UPSTREAM, TOOL)


@given(st.lists(PAIR, min_size=1, max_size=6, unique=True))
def test_every_name_suits_real_clients_and_means_one_tool(pairs):
    desk = Desk([entry("tool", upstream, name, b"{}") for upstream, name in pairs])
    names = Names(desk)
    shown = [exposed(upstream, name) for upstream, name in pairs]
    assert len(set(shown)) == len(pairs)
    for pair, name in zip(pairs, shown, strict=True):
        assert re.fullmatch(r"[a-zA-Z0-9_-]{1,64}", name)
        assert names.resolve("tool", name) == pair


@given(PAIR, PAIR)
def test_a_name_does_not_depend_on_which_other_tools_there_are(one, other):
    alone = Names(Desk([entry("tool", *one, b"{}")]))
    assert alone.resolve("tool", exposed(*one)) == one
    if one != other:
        assert exposed(*one) != exposed(*other)


def test_the_plain_form_is_used_wherever_it_can_be_taken_apart():
    assert exposed("files", "read_text") == "files__read_text"
    assert exposed("a", "_b") == "a___b" and is_plain("a", "_b")
    for upstream, name in (
        ("a_", "b"),
        ("a__b", "c"),
        ("a.b", "c"),
        ("a", "x.y"),
        ("a", "é"),
        ("a", "b" * 62),
    ):
        assert not is_plain(upstream, name)
        assert "__" not in exposed(upstream, name)


def desk_of_two() -> Desk:
    return Desk(
        [
            entry("tool", "files", "read"),
            entry("tool", "files", "read.all"),
            entry("tool", "mail", "send"),
            entry("prompt", "mail", "greet"),
            entry("resource", "files", "file:///a"),
            entry("resource", "files", "shared://x"),
            entry("resource", "mail", "shared://x"),
            entry(
                "resource", "files", "file:///{p}", orjson.dumps({"name": "t", "uriTemplate": "file:///{p}"})
            ),
        ]
    )


async def test_tools_of_all_upstreams_are_listed_and_called_by_their_prefixed_names():
    desk = desk_of_two()
    async with open_house(desk) as house:
        listed = (await house.modern("tools/list", path="/mcp")).json["result"]
        names = [tool["name"] for tool in listed["tools"]]
        for name in names:
            assert "result" in (await house.modern("tools/call", {"name": name}, path="/mcp")).json
        prompts = (await house.modern("prompts/list", path="/mcp")).json["result"]["prompts"]
        await house.modern("prompts/get", {"name": "mail__greet"}, path="/mcp")
    assert names[0] == "files__read" and names[2] == "mail__send" and names[1].startswith("files_read_all-")
    assert [call.tool.target for call in desk.calls] == [
        "files/read",
        "files/read.all",
        "mail/send",
        "mail/greet",
    ]
    assert [prompt["name"] for prompt in prompts] == ["mail__greet"]
    assert (listed["resultType"], listed["cacheScope"]) == ("complete", "private") and listed["ttlMs"] > 0


async def test_unprefixed_unknown_and_half_names_are_nobodys():
    desk = desk_of_two()
    async with open_house(desk) as house:
        for name in (
            "read",
            "files__",
            "__read",
            "nobody__read",
            "files__absent",
            "files-read",
            "Files__read",
        ):
            answer = await house.modern("tools/call", {"name": name}, path="/mcp")
            assert answer.json["error"] == {"code": -32602, "message": f"Unknown tool: {name}"}
        own = await house.modern("tools/call", {"name": "files__read"}, path="/mcp/files")
        assert own.error == (200, -32602)
    assert desk.calls == []


async def test_a_uri_that_two_upstreams_offer_is_neither_listed_nor_guessed():
    desk = desk_of_two()
    async with open_house(desk) as house:
        listed = (await house.modern("resources/list", path="/mcp")).json["result"]["resources"]
        assert [resource["uri"] for resource in listed] == ["file:///a"]
        templates = (await house.modern("resources/templates/list", path="/mcp")).json["result"]
        assert [t["uriTemplate"] for t in templates["resourceTemplates"]] == ["file:///{p}"]
        unclear = await house.modern("resources/read", {"uri": "shared://x"}, path="/mcp")
        assert unclear.error == (200, -32602) and "Several upstreams" in unclear.json["error"]["message"]
        assert desk.calls == []
        # Each upstream's own endpoint is clear, and so is the aggregate to one who sees only one of them.
        assert (
            "result" in (await house.modern("resources/read", {"uri": "shared://x"}, path="/mcp/mail")).json
        )
        desk.hidden.add(("alice", "mail/shared://x"))
        assert "result" in (await house.modern("resources/read", {"uri": "shared://x"}, path="/mcp")).json
        listed = (await house.modern("resources/list", path="/mcp")).json["result"]["resources"]
        assert [resource["uri"] for resource in listed] == ["file:///a", "shared://x"]
    assert [call.tool.upstream for call in desk.calls] == ["mail", "files"]


async def test_lists_show_what_policy_lets_this_principal_see():
    desk = desk_of_two()
    desk.hidden.add(("alice", "mail/send"))
    async with open_house(desk) as house:
        alices = (await house.modern("tools/list", path="/mcp")).json["result"]["tools"]
        bobs = (await house.modern("tools/list", path="/mcp", token="bob")).json["result"]["tools"]
    assert len(bobs) == len(alices) + 1 and "mail__send" not in {tool["name"] for tool in alices}


async def test_an_upstreams_own_list_has_its_definitions_byte_for_byte():
    raw = b'{"name":"read", "inputSchema":{"type":"object"},"x-new":{"big":123456789012345678901,"f":1.0e0}}'
    async with open_house(Desk([entry("tool", "files", "read", raw)])) as house:
        answer = await house.modern("tools/list")
    assert b'{"tools":[' + raw + b"]," in answer.body


async def test_long_lists_come_in_pages_and_a_cursor_is_good_for_its_own_list_only():
    desk = Desk([entry("tool", "files", f"t{n}") for n in range(1203)])
    async with open_house(desk) as house:
        names: list[str] = []
        params: dict[str, str] = {}
        cursors = []
        for _ in range(3):
            result = (await house.modern("tools/list", params)).json["result"]
            names += [tool["name"] for tool in result["tools"]]
            if "nextCursor" in result:
                params = {"cursor": result["nextCursor"]}
                cursors.append(result["nextCursor"])
        assert names == [f"t{n}" for n in range(1203)] and len(cursors) == 2
        desk.revision = "c2"
        for cursor in (cursors[0], "", "AAAA", "ä", 7, "MTAw"):
            answer = await house.modern("tools/list", {"cursor": cursor})
            assert answer.error == (200, -32602), cursor


async def test_completion_goes_through_the_same_decision_under_the_upstreams_own_names():
    desk = desk_of_two()
    argument = {"name": "who", "value": "J"}
    async with open_house(desk) as house:
        params = {
            "ref": {"type": "ref/prompt", "name": "mail__greet"},
            "argument": argument,
            "context": {"a": 1},
        }
        assert "result" in (await house.modern("completion/complete", params, path="/mcp")).json
        params = {"ref": {"type": "ref/resource", "uri": "file:///{p}"}, "argument": argument}
        assert "result" in (await house.modern("completion/complete", params, path="/mcp")).json
        for ref in ({"type": "ref/prompt", "name": "nobody__x"}, {"type": "ref/other", "name": "x"}, {}, 7):
            bad = await house.modern("completion/complete", {"ref": ref, "argument": argument}, path="/mcp")
            assert bad.error == (200, -32602)
    first, second = desk.calls
    assert (first.tool.kind, first.tool.target) == ("completion", "mail/greet")
    assert first.args == {
        "ref": {"type": "ref/prompt", "name": "greet"},
        "argument": argument,
        "context": {"a": 1},
    }
    assert second.tool.target == "files/file:///{p}"


async def test_an_upstream_without_a_capability_does_not_have_its_methods():
    desk = Desk()
    desk.infos["files"] = Info({"tools": {}})
    async with open_house(desk) as house:
        assert (await house.modern("prompts/list")).error == (404, -32601)
        assert "result" in (await house.modern("tools/list")).json
        session = (await house.initialize()).headers["mcp-session-id"]
        assert (await house.legacy(session, "resources/list")).error == (200, -32601)


async def test_what_clients_send_beside_the_call_is_passed_on_without_what_is_reserved():
    parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
    other = "00-11111111111111111111111111111111-2222222222222222-01"
    desk = Desk()
    async with open_house(desk) as house:
        meta = {"traceparent": parent, "baggage": "a=b", "dev.wardgate/decision": {}, "own": {"k": 1}}
        await house.modern("tools/call", {"name": "read"}, meta=meta, headers={"traceparent": other})
        await house.modern("tools/call", {"name": "read"}, headers={"traceparent": other})
        for bad in ("nonsense", parent.upper(), "ff" + parent[2:], 7, parent + "-x"):
            await house.modern("tools/call", {"name": "read"}, meta={"traceparent": bad})
    first, second, *rest = desk.calls
    assert (first.traceparent, first.http_traceparent) == (parent, other)
    assert orjson.loads(first.client_meta_json) == {"own": {"k": 1}}
    assert (second.traceparent, second.client_meta_json) == (other, b"")
    assert {call.traceparent for call in rest} == {""}
