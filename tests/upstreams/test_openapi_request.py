"""Whatever the arguments are, the server gets the request that was decided, or none at all.

The requests go over a socket to a server of another project, whose parsers say what arrived.
"""

from __future__ import annotations

import asyncio
import http.client
import json
import socket
import threading
from collections.abc import Iterator
from typing import Any
from urllib.parse import parse_qsl, unquote

import pytest
from aiohttp import web
from hypothesis import event, example, given, settings
from hypothesis import strategies as st

from gateway import strictjson
from gateway.errors import BadArguments
from gateway.upstreams.openapi.operations import Operation, build
from gateway.upstreams.openapi.request import request

FIXED = b"host: api.example\r\naccept-encoding: identity\r\nauthorization: Bearer configured\r\n"


class Echo:
    """A real server that says what it understood."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self.port = 0
        started = threading.Event()
        threading.Thread(target=self._run, args=(started,), daemon=True).start()
        assert started.wait(10)
        self._socket = socket.create_connection(("127.0.0.1", self.port))

    def _run(self, started: threading.Event) -> None:
        async def answer(received: web.Request) -> web.Response:
            path, _, query = received.raw_path.partition("?")
            headers = [
                (name.decode().lower(), value.decode("latin-1")) for name, value in received.raw_headers
            ]
            said = {
                "method": received.method,
                "path": path,
                "query": parse_qsl(query, keep_blank_values=True, strict_parsing=bool(query)),
                "headers": headers,
                "cookies": dict(received.cookies),
                "body": (await received.read()).decode(),
            }
            return web.json_response(said)

        async def serve() -> None:
            app = web.Application(client_max_size=1 << 24)
            app.router.add_route("*", "/{rest:.*}", answer)
            runner = web.AppRunner(app, max_field_size=64_000, max_line_size=64_000)
            await runner.setup()
            site = web.TCPSite(runner, "127.0.0.1", 0)
            await site.start()
            self.port = site._server.sockets[0].getsockname()[1]  # type: ignore[union-attr]
            started.set()

        self._loop.run_until_complete(serve())
        self._loop.run_forever()

    def receives(self, raw: bytes) -> dict[str, Any]:
        self._socket.sendall(raw)
        response = http.client.HTTPResponse(self._socket)
        response.begin()
        body = response.read()
        assert response.status == 200, body
        found: dict[str, Any] = json.loads(body)
        return found


@pytest.fixture(scope="module")
def echo() -> Iterator[Echo]:
    yield Echo()


def operation(path: str, method: str, *parameters: dict[str, Any], body: bool = False) -> Operation:
    said: dict[str, Any] = {"parameters": list(parameters)}
    if body:
        said["requestBody"] = {"content": {"application/json": {}}}
    api = build(
        {"openapi": "3.1.0", "paths": {path: {method: said}}}, own_headers=frozenset(("authorization",))
    )
    assert api.problems == ()
    (made,) = api.operations.values()
    return made


def p(name: str, place: str, schema: Any = True, **more: Any) -> dict[str, Any]:
    return {"name": name, "in": place, "required": place == "path", "schema": schema, **more}


def made(op: Operation, args: dict[str, Any]) -> bytes:
    return request(op, args, "/api", FIXED)


# -- the property ------------------------------------------------------------------------------------------

NASTY = (
    "/", "..", ".", "%2f", "%2e%2e", "%252e", "?", "#", ";", "&", "=", "+", " ", "\r\n", "\n", "\x00", "\\",
    ",", "|", "[", "]", "{", "}", '"', "'", "<", "é", "\u2028", "\U0001f600", "a", "b", "0", ":", "@", "%",
    "%00", "\t", "\r\nX-Evil: 1", "&admin=true", "../../etc/passwd", "..;/", "//evil.example", "\x7f",
    "\u202e",
)  # fmt: skip
# Much of the above has no faithful spelling in some place; these have one everywhere, so that enough is sent.
MILD = ("/", "?", "#", "&", "=", "+", "a", "b", "0", ":", "@", "&admin=true", "'", "%", "-", "~", "$")
texts = st.lists(st.sampled_from(NASTY) | st.text(max_size=4), max_size=5).map("".join)
scalars = (
    texts
    | st.integers(-(2**63), 2**64 - 1)
    | st.booleans()
    | st.floats(allow_nan=False, allow_infinity=False)
)
mild = st.lists(st.sampled_from(MILD), min_size=1, max_size=5).map("".join)
values = mild | scalars | mild
anything = st.recursive(
    values | st.none(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=6,
)
lists = st.lists(mild | texts, max_size=3)
sendable = mild | values | st.lists(mild, min_size=1, max_size=3)

OPERATION = operation(
    "/v1/{seg}/x-{part}/end",
    "post",
    p("seg", "path"),
    p("part", "path"),
    p("q", "query"),
    p("multi[]", "query"),
    p("csv", "query", explode=False),
    p("pipe", "query", style="pipeDelimited", explode=False, schema={"type": "array"}),
    p("space", "query", style="spaceDelimited", explode=False, schema={"type": "array"}),
    p("deep", "query", style="deepObject", explode=True, schema={"type": "object"}),
    p("obj", "query", schema={"type": "object", "properties": {"r": True, "g&": True}}),
    p("X-One", "header"),
    p("crumb", "cookie"),
    {"name": "js", "in": "query", "content": {"application/json": {}}},
    {"name": "X-Js", "in": "header", "content": {"application/json": {}}},
    body=True,
)
arguments = st.fixed_dictionaries(
    {"seg": mild | sendable | anything, "part": mild | values},
    optional={
        "q": sendable | anything, "multi[]": lists, "csv": lists, "pipe": lists, "space": lists,
        "deep": st.dictionaries(mild | texts, values, max_size=3),
        "obj": st.dictionaries(st.sampled_from(("r", "g&")) | mild, values, max_size=2),
        "X-One": mild | sendable | anything, "crumb": mild | values, "js": anything, "X-Js": anything,
        "body": anything,
    },
)  # fmt: skip


def text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def same(found: str, value: Any) -> bool:
    """Whether a text is the value: numbers may be spelled in more than one way."""
    if isinstance(value, str):
        return found == value
    read = json.loads(found)
    return type(read) is type(value) and bool(read == value)


def expected(name: str, value: Any, mark: str | None) -> list[tuple[str, Any]]:
    """Query pairs of a list or single value; ``mark`` joins a list that is not exploded."""
    if isinstance(value, list):
        if not value:
            return []
        return [(name, mark.join(map(text, value)))] if mark else [(name, each) for each in value]
    if isinstance(value, dict):
        if not value:
            return []
        flat = [part for key, each in sorted(value.items()) for part in (key, text(each))]
        return [(name, (mark or ",").join(flat))]
    return [(name, value)]


@settings(max_examples=400, deadline=None)
@given(args=arguments)
@example(args={"seg": "a/../b", "part": "x"})
@example(args={"seg": "a/b", "part": "..", "q": "1&admin=true#x"})
@example(args={"seg": "%2e%2e%2f", "part": "c", "X-One": "a\r\nX-Evil: 1"})
@example(args={"seg": "s", "part": "p", "crumb": "a; admin=1"})
@example(args={"seg": "s", "part": "p", "obj": {"r": "1", "admin": "2"}})
@example(args={"seg": "s", "part": "p", "deep": {"a][b": "2"}})
@example(
    args={"seg": "s", "part": "p", "body": {"é": [1.5, "\r\n\r\nGET /evil HTTP/1.1"]}, "js": {"a": "&b=1"}}
)
def test_the_server_gets_exactly_what_was_decided_or_nothing(echo: Echo, args: dict[str, Any]) -> None:
    try:
        raw = made(OPERATION, args)
    except BadArguments as refused:
        event("refused")
        assert refused.remedy and refused.code == "invalid_arguments"
        return
    got = echo.receives(raw)
    assert got["method"] == "POST"

    segments = got["path"].split("/")
    assert segments[:3] == ["", "api", "v1"] and segments[5:] == ["end"], got["path"]
    part = unquote(segments[4])
    assert part.startswith("x-") and same(part[2:], args["part"])
    if not isinstance(args["seg"], list | dict):
        assert same(unquote(segments[3]), args["seg"])
    assert not {".", ".."} & set(got["path"].split("/"))

    wanted: list[tuple[str, Any]] = []
    for name, mark in (("q", None), ("multi[]", None), ("csv", ","), ("pipe", "|"), ("space", " ")):
        if name in args:
            if isinstance(args[name], dict) and args[name] and mark is None:
                raise AssertionError("an object without declared keys was sent")
            wanted += expected(name, args[name], mark)
    wanted += [(f"deep[{key}]", each) for key, each in sorted(args.get("deep", {}).items())]
    wanted += [(key, each) for key, each in sorted(args.get("obj", {}).items())]
    found = [tuple(pair) for pair in got["query"]]
    if "js" in args:
        name, value = found.pop()
        assert name == "js" and json.loads(value) == args["js"]
    assert [name for name, _ in found] == [name for name, _ in wanted]
    assert all(same(was, want) for (_, was), (_, want) in zip(found, wanted, strict=True)), (found, wanted)

    headers = dict(got["headers"])
    assert len(headers) == len(got["headers"]), "no header twice"
    names = {"accept", "host", "accept-encoding", "authorization", "content-length"}
    names |= {"x-one"} & {key.lower() for key in args} | {"x-js"} & {key.lower() for key in args}
    names |= {"cookie"} if "crumb" in args else set()
    names |= {"content-type"} if "body" in args else set()
    assert set(headers) == names
    assert headers["authorization"] == "Bearer configured" and headers["host"] == "api.example"
    if "X-One" in args and not isinstance(args["X-One"], list | dict):
        assert same(headers["x-one"], args["X-One"])
    if "X-Js" in args:
        assert json.loads(headers["x-js"]) == args["X-Js"]
    if "crumb" in args:
        assert headers["cookie"].startswith("crumb=") and set(got["cookies"]) == {"crumb"}
        assert same(headers["cookie"].removeprefix("crumb="), args["crumb"])
    if "body" in args:
        assert got["body"].encode() == strictjson.canonical(args["body"])
    else:
        assert got["body"] == ""


PLAIN = st.characters(exclude_categories=("C", "Z"), exclude_characters=".%\\") | st.just(" ")


@settings(max_examples=150, deadline=None)
@given(value=st.text(PLAIN, min_size=1))
def test_a_plain_path_value_arrives_as_it_was_whatever_is_in_it(echo: Echo, value: str) -> None:
    """Refusing everything would pass the property above; most values are carried."""
    got = echo.receives(made(operation("/{v}", "get", p("v", "path")), {"v": value}))
    assert [unquote(each) for each in got["path"].split("/")] == ["", "api", value]


# -- styles, from the tables of the specification ----------------------------------------------------------

STYLES: list[tuple[str, str, dict[str, Any], Any, str]] = [
    # place, path, parameter, value, what is between "/api" and " HTTP/1.1"
    ("path", "/{c}", {}, "blue", "/blue"),
    ("path", "/{c}", {}, ["blue", "black"], "/blue,black"),
    ("path", "/{c}", {}, {"R": 100, "G": 200}, "/G,200,R,100"),
    ("path", "/{c}", {"explode": True}, {"R": 100, "G": 200}, "/G=200,R=100"),
    ("path", "/{c}", {"style": "label"}, "blue", "/.blue"),
    ("path", "/{c}", {"style": "label", "explode": True}, ["blue", "black"], "/.blue.black"),
    ("path", "/{c}", {"style": "matrix"}, "blue", "/;c=blue"),
    ("path", "/{c}", {"style": "matrix"}, ["blue", "black"], "/;c=blue,black"),
    ("path", "/{c}", {"style": "matrix", "explode": True}, ["blue", "black"], "/;c=blue;c=black"),
    ("query", "/", {}, "", "/?c="),
    ("query", "/", {}, True, "/?c=true"),
    ("query", "/", {}, ["blue", "black"], "/?c=blue&c=black"),
    ("query", "/", {"explode": False}, ["blue", "black"], "/?c=blue,black"),
    ("query", "/", {"explode": False}, {"R": 100, "G": 200}, "/?c=G,200,R,100"),
    ("query", "/", {"schema": {"type": "object", "properties": {"R": {}}}}, {"R": 1}, "/?R=1"),
    ("query", "/", {"style": "spaceDelimited", "explode": False}, ["a", "b"], "/?c=a%20b"),
    ("query", "/", {"style": "pipeDelimited", "explode": False}, ["a", "b"], "/?c=a%7Cb"),
    ("query", "/", {"style": "deepObject", "explode": True}, {"R": 1, "G": 2}, "/?c%5BG%5D=2&c%5BR%5D=1"),
    ("query", "/", {}, [], "/"),
    ("query", "/", {"allowReserved": True}, "a/b?c&d", "/?c=a%2Fb%3Fc%26d"),
]  # fmt: skip


@pytest.mark.parametrize(("place", "path", "more", "value", "target"), STYLES)
def test_styles_are_spelled_as_the_specification_says(
    place: str, path: str, more: dict[str, Any], value: Any, target: str
) -> None:
    raw = made(operation(path, "get", p("c", place, **more)), {"c": value})
    assert raw.split(b"\r\n")[0] == f"GET /api{target} HTTP/1.1".encode()


# -- refusals ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "value",
    ["", ".", "..", "../x", "x/..", "a/../b", "a\\..\\b", "%2e%2e", "%252e%252e%252fx", "%25252e%25252e",
     "..;x", "a/..;x/b", "a\r\nb", "\x00", "a\x7f", "./a", None,
     [], [""], ["a,b"], ["a", ".."], {}, {"a": ["b"]}],
)  # fmt: skip
def test_a_path_value_that_could_lead_elsewhere_is_refused(value: Any) -> None:
    with pytest.raises(BadArguments) as caught:
        made(operation("/{v}", "get", p("v", "path")), {"v": value})
    assert "v" in caught.value.remedy


def test_parts_of_one_segment_do_not_add_up_to_another_path() -> None:
    with pytest.raises(BadArguments):
        made(operation("/{a}{b}", "get", p("a", "path"), p("b", "path")), {"a": ".", "b": "."})
    for value in (".", "x.", ".;a"):
        op = operation("/{v}.", "get", p("v", "path"))
        if value == "x.":
            assert b"/api/x.. " in made(op, {"v": value})
        else:
            with pytest.raises(BadArguments):
                made(op, {"v": value})


@pytest.mark.parametrize(
    "value", ["a\nb", "a\rb", "\x00", "é", " a", "a ", "a\tb", "\x7f", ["a,b"], ["a", ""], None]
)
def test_a_header_value_that_would_not_arrive_as_it_is_is_refused(value: Any) -> None:
    with pytest.raises(BadArguments):
        made(operation("/", "get", p("X-A", "header")), {"X-A": value})


@pytest.mark.parametrize(
    "value", ["a;b", "a b", "a,b", '"a"', "a\\b", "é", "%41", "a\r\nb", ["a"], {"a": "b"}, None]
)
def test_a_cookie_value_that_would_not_arrive_as_it_is_is_refused(value: Any) -> None:
    with pytest.raises(BadArguments):
        made(operation("/", "get", p("c", "cookie")), {"c": value})


@pytest.mark.parametrize(
    ("args", "said"),
    [
        ({}, '"id" is a required property'),
        ({"id": 1, "admin": True}, "'admin' was unexpected"),
        ({"id": "s3cret-value"}, 'id: the value is not of type "integer"'),
        ({"id": 1, "body": {"n": "s3cret-value"}}, "body/n: the value"),
    ],
)
def test_what_does_not_fit_is_said_without_the_value(args: dict[str, Any], said: str) -> None:
    api = build(
        {
            "openapi": "3.1.0",
            "paths": {
                "/{id}": {
                    "post": {
                        "parameters": [p("id", "path", {"type": "integer"})],
                        "requestBody": {
                            "content": {
                                "application/json": {"schema": {"properties": {"n": {"type": "number"}}}}
                            }
                        },
                    }
                }
            },
        },
        own_headers=frozenset(),
    )
    (op,) = api.operations.values()
    with pytest.raises(BadArguments) as caught:
        made(op, args)
    assert said in caught.value.remedy
    assert "s3cret" not in caught.value.remedy + caught.value.detail
    assert len(caught.value.remedy) <= 400


def test_a_request_longer_than_servers_take_is_refused() -> None:
    with pytest.raises(BadArguments) as caught:
        made(operation("/", "get", p("q", "query")), {"q": "x" * 9000})
    assert "longer than" in caught.value.remedy
    with pytest.raises(BadArguments):
        made(operation("/", "get", p("X-A", "header")), {"X-A": "x" * 20_000})
