"""What a hostile or broken HTTP server can do, and what is said about it afterwards."""

from __future__ import annotations

import asyncio
import gzip
import itertools
import socket
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.errors import InDoubt, NotSent, UpstreamError
from gateway.upstreams.pool import Pool
from gateway.upstreams.wire import BodyTooLarge, Connection, Response

REQUEST = b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\n\r\n"
BODY_BYTES = 10_000


def at(seconds: float) -> float:
    return asyncio.get_running_loop().time() + seconds


async def fault_of(serve: Any, *parts: bytes, close: bool = False, seconds: float = 2.0) -> UpstreamError:
    """The fault that an answer made of ``parts`` leads to; each part is its own write."""

    async def answer(exchange: Any) -> None:
        for part in parts:
            await exchange.send(part)
            await asyncio.sleep(0.005)
        if close:
            exchange.writer.close()

    server = await serve(answer)
    pool = Pool(server.url, connections=2, body_bytes=BODY_BYTES)
    try:
        with pytest.raises(UpstreamError) as caught:
            response = await pool.exchange(REQUEST, at(seconds))
            while response.stream is not None and await response.stream.read():
                pass
        assert len(server.exchanges) == 1, "a request that was written is never written again"
        await asyncio.sleep(0.01)
        assert pool.open == 0, "a connection that misbehaved is never used again"
        return caught.value
    finally:
        await pool.close()


NONSENSE = {
    "not HTTP": (b"SSH-2.0-OpenSSH_9.6\r\n",),
    "both a length and chunks": (
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n",
    ),
    "chunks and then a length": (
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 2\r\n\r\n2\r\nhi\r\n0\r\n\r\n",
    ),
    "two lengths": (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\nhi",),
    "a negative length": (b"HTTP/1.1 200 OK\r\nContent-Length: -2\r\n\r\nhi",),
    "chunked twice": (
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    ),
    "an unknown coding": (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",),
    "a chunk size that is none": (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n",),
    "a body without a length": (b"HTTP/1.1 200 OK\r\n\r\nhi",),
    "bytes after the answer": (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi-and-more",),
    "a second answer": (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhiHTTP/1.1 200 OK\r\n",),
    "a folded header": (b"HTTP/1.1 200 OK\r\nX: a\r\n b\r\nContent-Length: 2\r\n\r\nhi",),
    "bare line feeds": (b"HTTP/1.1 200 OK\nContent-Length: 2\n\nhi",),
    "an upgrade": (b"HTTP/1.1 101 Switching\r\nUpgrade: h2c\r\nConnection: upgrade\r\n\r\n",),
    "endless interim answers": (b"HTTP/1.1 103 Early Hints\r\n\r\n" * 20,),
    "huge headers at once": (b"HTTP/1.1 200 OK\r\nX: " + b"a" * 70_000 + b"\r\nContent-Length: 0\r\n\r\n",),
    "one endless header": (b"HTTP/1.1 200 OK\r\nX: ",) + (b"a" * 9_000,) * 9,
    "headers without end": (b"HTTP/1.1 200 OK\r\n",) + (b"X: " + b"a" * 1000 + b"\r\n",) * 70,
    "a compressed answer": (
        b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n%b"
        % (len(bomb := gzip.compress(bytes(1_000_000))), bomb),
    ),
    "two content types": (
        b"HTTP/1.1 200 OK\r\nContent-Type: a/b\r\nContent-Type: c/d\r\nContent-Length: 0\r\n\r\n",
    ),
}


@pytest.mark.parametrize("name", NONSENSE)
async def test_an_answer_that_can_be_read_two_ways_is_no_answer(serve: Any, name: str) -> None:
    fault = await fault_of(serve, *NONSENSE[name])
    assert isinstance(fault, InDoubt)
    assert fault.code == "upstream_bad_answer", fault


LOST = {
    "before any byte": (),
    "inside the headers": (b"HTTP/1.1 200 OK\r\nContent-Le",),
    "inside the body": (b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc",),
    "inside a chunk": (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab",),
    "before the last chunk": (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n",),
    "inside an event stream": (
        b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n"
        b"\r\n2\r\nab\r\n",
    ),
}


@pytest.mark.parametrize("name", LOST)
async def test_a_connection_lost_after_the_request_was_written_leaves_doubt(serve: Any, name: str) -> None:
    fault = await fault_of(serve, *LOST[name], close=True)
    assert isinstance(fault, InDoubt)
    assert fault.code == "upstream_lost", fault


SLOW = {
    "silent": (),
    "one byte of a header at a time": tuple(bytes([each]) for each in b"HTTP/1.1 200 OK\r\nX-Slow: " * 9),
    "one byte of the body at a time": (b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n", *(b"x",) * 90),
    "an event stream that never ends": (
        b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n",
        *(b"3\r\n: \n\r\n",) * 90,
    ),
}


@pytest.mark.parametrize("name", SLOW)
async def test_trickling_bytes_do_not_extend_the_deadline(serve: Any, name: str) -> None:
    fault = await fault_of(serve, *SLOW[name], seconds=0.2)
    assert isinstance(fault, InDoubt)
    assert fault.code == "upstream_timeout", fault


async def test_a_body_beyond_the_limit_is_told_apart_from_doubt(serve: Any) -> None:
    fault = await fault_of(serve, b"HTTP/1.1 200 OK\r\nContent-Length: 99999\r\n\r\n", *(b"x" * 4096,) * 5)
    assert isinstance(fault, BodyTooLarge)
    fault = await fault_of(
        serve,
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
        *(b"1000\r\n" + b"x" * 4096 + b"\r\n",) * 5,
    )
    assert isinstance(fault, BodyTooLarge)


async def test_a_redirect_is_an_answer_and_is_not_followed(serve: Any) -> None:
    async def elsewhere(exchange: Any) -> None:
        await exchange.result(b"{}")

    other = await serve(elsewhere)

    async def redirect(exchange: Any) -> None:
        await exchange.send(
            b"HTTP/1.1 307 Temporary Redirect\r\nLocation: %b\r\nContent-Length: 0\r\n\r\n"
            % other.url.encode()
        )

    server = await serve(redirect)
    pool = Pool(server.url, connections=1, body_bytes=BODY_BYTES)
    assert (await pool.exchange(REQUEST, at(1))).status == 307
    assert other.connections == 0
    await pool.close()


async def test_interim_answers_are_passed_over(serve: Any) -> None:
    async def answer(exchange: Any) -> None:
        await exchange.send(
            b"HTTP/1.1 100 Continue\r\nX: 1\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"
        )

    server = await serve(answer)
    pool = Pool(server.url, connections=1, body_bytes=BODY_BYTES)
    for _ in range(3):
        response = await pool.exchange(REQUEST, at(1))
        assert (response.status, response.body) == (200, b"hi")
    assert server.connections == 1
    await pool.close()


async def test_bytes_that_come_unasked_never_become_the_next_answer(serve: Any) -> None:
    async def answer(exchange: Any) -> None:
        await exchange.send(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ntrue")
        if exchange.connection == 1:
            await asyncio.sleep(0.02)
            await exchange.send(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil")

    server = await serve(answer)
    pool = Pool(server.url, connections=1, body_bytes=BODY_BYTES)
    assert (await pool.exchange(REQUEST, at(1))).body == b"true"
    await asyncio.sleep(0.05)
    assert (await pool.exchange(REQUEST, at(1))).body == b"true"
    assert server.connections == 2
    await pool.close()


async def test_a_stream_nobody_reads_makes_the_upstream_wait(serve: Any) -> None:
    sent = 0

    async def answer(exchange: Any) -> None:
        nonlocal sent
        await exchange.send(
            b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
        )
        for _ in range(4000):
            await exchange.send(b"4000\r\n" + b"x" * 0x4000 + b"\r\n")
            sent += 0x4000
        await exchange.send(b"0\r\n\r\n")

    server = await serve(answer)
    pool = Pool(server.url, connections=1, body_bytes=BODY_BYTES)
    response = await pool.exchange(REQUEST, at(20))
    assert response.stream is not None
    await asyncio.sleep(0.5)
    held = sent
    assert held < 20_000_000, "64 MB would have been taken without being asked for"
    received = 0
    while chunk := await response.stream.read():
        received += len(chunk)
    assert received == 4000 * 0x4000
    await pool.close()


async def test_nothing_listening_is_proven_not_sent() -> None:
    pool = Pool("http://127.0.0.1:1/mcp", connections=1, body_bytes=BODY_BYTES)
    with pytest.raises(NotSent) as caught:
        await pool.exchange(REQUEST, at(1))
    assert caught.value.code == "upstream_unavailable"
    await pool.close()


class _Transport:
    """Just enough of a transport to feed a connection without a socket."""

    def __init__(self) -> None:
        self.closed = False

    def is_closing(self) -> bool:
        return self.closed

    def abort(self) -> None:
        self.closed = True

    def write(self, _: bytes) -> None: ...
    def pause_reading(self) -> None: ...
    def resume_reading(self) -> None: ...

    def get_write_buffer_size(self) -> int:
        return 0

    def get_extra_info(self, _: str) -> Any:
        self.pair = socket.socketpair()
        return self.pair[0]


_bodies = st.binary(max_size=300)


@st.composite
def _answers(draw: Any) -> tuple[bytes, int, bytes]:
    """An answer as bytes, its status and its body, in any framing the wire may use."""
    body = draw(_bodies)
    status = draw(st.sampled_from([200, 202, 400, 404, 500]))
    interim = b"HTTP/1.1 100 Continue\r\n\r\n" * draw(st.integers(0, 2))
    head = b"HTTP/1.1 %d X\r\nContent-Type: application/json; a=b\r\n" % status
    if draw(st.booleans()):
        return interim + head + b"Content-Length: %d\r\n\r\n%b" % (len(body), body), status, body
    pieces = b""
    rest = body
    while rest:
        size = draw(st.integers(1, len(rest)))
        pieces += b"%x;ext=1\r\n%b\r\n" % (size, rest[:size])
        rest = rest[size:]
    return (
        interim + head + b"Transfer-Encoding: chunked\r\n\r\n" + pieces + b"0\r\nT: 1\r\n\r\n",
        status,
        body,
    )


@given(answer=_answers(), cuts=st.lists(st.integers(0, 600), max_size=12))
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_where_the_network_cuts_an_answer_never_changes_its_meaning(
    answer: tuple[bytes, int, bytes], cuts: list[int]
) -> None:
    raw, status, body = answer

    async def feed() -> Response:
        transport = _Transport()
        connection = Connection(asyncio.get_running_loop(), 1000, lambda *_: None, lambda _: None)
        connection.connection_made(transport)  # type: ignore[arg-type]  # a stand-in without a socket
        task = asyncio.create_task(connection.exchange(REQUEST, at(5)))
        await asyncio.sleep(0)
        edges = sorted({0, len(raw), *(cut for cut in cuts if cut < len(raw))})
        for start, end in itertools.pairwise(edges):
            connection.data_received(raw[start:end])
        response = await task
        for each in transport.pair:
            each.close()
        return response

    response = asyncio.run(feed())
    assert (response.status, response.body, response.media_type) == (status, body, b"application/json")
