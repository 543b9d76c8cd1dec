"""Nobody keeps the gateway's memory or sockets with a head that does not end."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager

import uvicorn

from gateway.head import MAX_HEAD_BYTES, BoundedHead


class Quick(BoundedHead):
    head_s = 0.4


async def echo(scope, receive, send):
    size = 0
    while True:
        message = await receive()
        size += len(message.get("body", b""))
        if not message.get("more_body"):
            break
    body = f"got {size}!".encode()
    await send(
        {"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(body))]}
    )
    await send({"type": "http.response.body", "body": body})


@asynccontextmanager
async def serving():
    server = uvicorn.Server(
        uvicorn.Config(echo, port=0, http=Quick, loop="none", lifespan="off", log_level="error", ws="none")
    )
    task = asyncio.create_task(server.serve())
    while not server.started:
        await asyncio.sleep(0.01)
    port = server.servers[0].sockets[0].getsockname()[1]
    try:
        yield lambda: asyncio.open_connection("127.0.0.1", port)
    finally:
        server.should_exit = True
        await task


async def ended(reader) -> bool:
    try:
        return await asyncio.wait_for(reader.read(), 3) == b""
    except ConnectionResetError:
        return True


async def test_requests_on_a_kept_connection_go_through_whatever_the_size_of_their_bodies():
    async with serving() as connect:
        reader, writer = await connect()
        for size in (0, 10, 500_000):
            writer.write(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % size + b"x" * size)
            assert (await reader.readuntil(b"!")).endswith(f"got {size}!".encode())
        # Between requests a connection may rest longer than a head may take.
        await asyncio.sleep(0.6)
        writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        assert (await reader.readuntil(b"!")).endswith(b"got 0!")
        writer.close()


async def test_a_head_in_pieces_goes_through():
    async with serving() as connect:
        reader, writer = await connect()
        for piece in (b"GET / HT", b"TP/1.1\r\nHo", b"st: x\r\n", b"\r\n"):
            writer.write(piece)
            await asyncio.sleep(0.02)
        assert (await reader.readuntil(b"!")).endswith(b"got 0!")
        writer.close()


async def test_a_header_without_end_is_cut_off():
    async with serving() as connect:
        reader, writer = await connect()
        writer.write(b"GET / HTTP/1.1\r\nX: ")
        sent = 0
        try:
            while sent < 100 * MAX_HEAD_BYTES:
                writer.write(b"a" * 16_384)
                await writer.drain()
                sent += 16_384
        except ConnectionError:
            pass
        assert sent < 100 * MAX_HEAD_BYTES
        assert await ended(reader)


async def test_a_connection_that_says_nothing_or_too_slowly_is_closed():
    async with serving() as connect:
        silent, _ = await connect()
        slow, writer = await connect()
        writer.write(b"GET / HT")
        assert await ended(silent)
        assert await ended(slow)


async def test_the_second_request_of_a_connection_is_bounded_too():
    async with serving() as connect:
        reader, writer = await connect()
        writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        await reader.readuntil(b"!")
        writer.write(b"GET / HTTP/1.1\r\nHo")
        assert await ended(reader)
