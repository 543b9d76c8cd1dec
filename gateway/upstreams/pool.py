"""The connections to one configured HTTP target: bounded, kept, last in first out.

Only the configured URL is ever connected to: no redirects, no proxies from the environment. Names are
resolved at each connect and the address that was judged is the one connected to (``addresses``). An address
that the URL itself spells out is what the operator wants, and is not judged.
"""

from __future__ import annotations

import asyncio
import ssl
from collections import deque
from typing import Final
from urllib.parse import urlsplit

from gateway.errors import ConfigError, NotSent
from gateway.upstreams import addresses
from gateway.upstreams.wire import Connection, Hold, Response

CONNECT_S: Final = 10.0
# Below the 5 s after which uvicorn and Node close an idle connection by default: a request that crosses
# with their FIN would be in doubt.
IDLE_S: Final = 4.0
WAITERS_PER_CONNECTION: Final = 16
_ADDRESSES: Final = 4  # tried of a name with many


class Pool:
    """At most ``connections`` connections to the host of ``url``.

    ``private`` says whether its name may resolve to an address that is not of the public internet.
    """

    def __init__(
        self,
        url: str,
        *,
        connections: int,
        body_bytes: int,
        tls: ssl.SSLContext | None = None,
        private: bool = True,
    ) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.username is not None:
            raise ConfigError(f"'{url}' is not an http(s) URL of a host, without user name")
        self.host = parts.hostname
        self.port = parts.port or (443 if parts.scheme == "https" else 80)
        self.authority = parts.netloc
        self.path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        if not _plain(self.authority) or not _plain(self.path):
            raise ConfigError(f"'{url}' has characters that do not belong in a URL")
        self._tls = tls or ssl.create_default_context() if parts.scheme == "https" else None
        self._private = private or addresses.is_loopback_name(self.host)
        self._limit = connections
        self._body_bytes = body_bytes
        self._idle: list[Connection] = []
        self._all: set[Connection] = set()
        self._connecting = 0
        self._waiters: deque[asyncio.Future[None]] = deque()
        self._closed = False
        self.opened = 0  # connections ever made
        self.reused = 0  # exchanges on a kept one

    @property
    def open(self) -> int:
        return len(self._all)

    async def exchange(self, request: bytes, at: float, hold: Hold | None = None) -> Response:
        """Send one complete request; raises ``NotSent``, ``InDoubt`` or ``BodyTooLarge``.

        A kept connection that turns out dead is passed over before anything is written to it; once the
        request has been written there is no second attempt. ``hold`` gets its hand on the exchange.
        """
        connection = await self._acquire(at)
        if hold is not None:
            if hold.fault is not None:  # given up while it waited for a connection
                self._release(connection, True)
                raise NotSent(hold.fault.code, "given up before it was sent")
            hold.take(connection)
        return await connection.exchange(request, at)

    async def reach(self, at: float) -> None:
        """Make or find a connection and send nothing; raises ``NotSent``."""
        self._release(await self._acquire(at), True)

    async def close(self) -> None:
        """Refuse new exchanges, close what is idle and abort what is not."""
        self._closed = True
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_exception(NotSent("shutting_down"))
        self._waiters.clear()
        for connection in tuple(self._all):
            connection.abort()
        self._idle.clear()
        await asyncio.sleep(0)

    # -------------------------------------------------------------------------------------- acquire

    async def _acquire(self, at: float) -> Connection:
        loop = asyncio.get_running_loop()
        first = True
        while True:
            if self._closed:
                raise NotSent("shutting_down")
            stale = loop.time() - IDLE_S
            while self._idle:
                connection = self._idle.pop()
                if connection.idle_since > stale and connection.quiet():
                    self.reused += 1
                    return connection
                self._discard(connection)
            if len(self._all) + self._connecting < self._limit:
                return await self._connect(loop, at)
            await self._turn(loop, at, first)
            first = False

    async def _turn(self, loop: asyncio.AbstractEventLoop, at: float, first: bool) -> None:
        """Wait until a connection or a free place can be tried for; the oldest waiter goes first."""
        if len(self._waiters) >= self._limit * WAITERS_PER_CONNECTION:
            raise NotSent("overloaded", f"{len(self._waiters)} calls wait for a connection to {self.host}")
        waiter: asyncio.Future[None] = loop.create_future()
        if first:
            self._waiters.append(waiter)
        else:  # woken, but a newcomer was faster: keep the place in the queue
            self._waiters.appendleft(waiter)
        timer = loop.call_at(at, _give_up, waiter)
        try:
            await waiter
        except asyncio.CancelledError:
            if waiter.done() and not waiter.cancelled():
                self._wake()  # the turn was given to a call that no longer wants it
            raise
        finally:
            timer.cancel()
            if waiter in self._waiters:
                self._waiters.remove(waiter)

    def _wake(self) -> None:
        while self._waiters:
            waiter = self._waiters.popleft()
            if not waiter.done():
                waiter.set_result(None)
                return

    # ---------------------------------------------------------------------------------- connections

    async def _connect(self, loop: asyncio.AbstractEventLoop, at: float) -> Connection:
        self._connecting += 1
        made: Connection | None = None
        try:
            async with asyncio.timeout_at(min(at, loop.time() + CONNECT_S)):
                made = await self._dial(loop)
        except TimeoutError:
            raise NotSent("upstream_unavailable", f"no connection to {self.authority} in time") from None
        except (OSError, ValueError) as error:  # ssl errors are OSErrors; ValueError: certificate host names
            raise NotSent("upstream_unavailable", f"{self.authority}: {error}") from None
        finally:
            self._connecting -= 1
            if made is None:
                self._wake()
        if self._closed:
            made.abort()
            raise NotSent("shutting_down")
        self._all.add(made)
        self.opened += 1
        return made

    async def _dial(self, loop: asyncio.AbstractEventLoop) -> Connection:
        failure: OSError | None = None
        for address in await self._resolve(loop):
            try:
                _, connection = await loop.create_connection(
                    lambda: Connection(loop, self._body_bytes, self._release, self._lost),
                    address,
                    self.port,
                    ssl=self._tls,
                    server_hostname=self.host if self._tls is not None else None,
                )
            except OSError as error:
                failure = error
            else:
                return connection
        raise failure or OSError("no usable address")

    async def _resolve(self, loop: asyncio.AbstractEventLoop) -> list[str]:
        if addresses.parse(self.host) is not None:
            return [self.host]
        found = await loop.getaddrinfo(self.host, self.port, type=1)  # SOCK_STREAM
        usable = []
        refused = ""
        for *_, where in found:
            address = addresses.parse(str(where[0]))
            # A name that suddenly points at the metadata service or into the network is an attack.
            why = "no address" if address is None else addresses.fault(address, private=self._private)
            if why:
                refused = why
            else:
                usable.append(str(where[0]))
        if not usable:
            raise OSError(f"{self.host} has no address that may be connected to ({refused or 'none'})")
        return usable[:_ADDRESSES]

    def _release(self, connection: Connection, reusable: bool) -> None:
        if reusable and not self._closed:
            connection.idle_since = asyncio.get_running_loop().time()
            self._idle.append(connection)
            self._wake()
        else:
            self._discard(connection)

    def _discard(self, connection: Connection) -> None:
        connection.abort()
        self._lost(connection)

    def _lost(self, connection: Connection) -> None:
        if connection in self._all:
            self._all.discard(connection)
            if connection in self._idle:
                self._idle.remove(connection)
            self._wake()


def _give_up(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_exception(NotSent("overloaded", "no connection became free in time"))


def _plain(text: str) -> bool:
    return text.isascii() and text.isprintable() and " " not in text
