"""A web server that serves policy bundles, well or badly, for gateways that fetch them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from hashlib import sha256
from typing import Any

from aiohttp import web


class BundleServer:
    """``raw`` is what it serves; ``fault`` is how it misbehaves."""

    def __init__(self) -> None:
        self.raw = b""
        self.fault = ""
        self.url = ""
        self.asked: list[tuple[int, str | None, str | None]] = []  # status, If-None-Match, Authorization

    async def handle(self, request: web.Request) -> web.StreamResponse:
        seen = request.headers.get("if-none-match")
        try:
            status, answer = await self._answer(request, seen)
        except ConnectionError:  # the gateway has had enough
            status, answer = 0, web.Response()
        self.asked.append((status, seen, request.headers.get("authorization")))
        return answer

    async def _answer(self, request: web.Request, seen: str | None) -> tuple[int, web.StreamResponse]:
        if self.fault.isdigit():
            headers = {"location": "/elsewhere"} if self.fault.startswith("3") else {}
            return int(self.fault), web.Response(status=int(self.fault), headers=headers, body=b"no")
        if self.fault == "hangs":
            await asyncio.sleep(30)
        etag = f'"{sha256(self.raw).hexdigest()[:16]}"'
        if seen == etag:
            return 304, web.Response(status=304)
        response = web.StreamResponse(headers={"etag": etag})
        if self.fault == "truncated":
            response.content_length = len(self.raw)
        await response.prepare(request)
        if self.fault == "drips":
            for byte in self.raw[:200]:
                await response.write(bytes([byte]))
                await asyncio.sleep(0.05)
        elif self.fault == "endless":
            for _ in range(40):
                await response.write(bytes(1024 * 1024))
        elif self.fault == "truncated":
            await response.write(self.raw[: len(self.raw) // 2])
            assert request.transport is not None
            request.transport.close()
        else:
            await response.write(self.raw)
            await response.write_eof()
        return 200, response


@asynccontextmanager
async def bundle_server() -> AsyncIterator[BundleServer]:
    served = BundleServer()
    app = web.Application()
    app.router.add_get("/policy.tar.gz", served.handle)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    server: Any = site._server
    port = server.sockets[0].getsockname()[1]
    served.url = f"http://127.0.0.1:{port}/policy.tar.gz"
    try:
        yield served
    finally:
        await runner.cleanup()
