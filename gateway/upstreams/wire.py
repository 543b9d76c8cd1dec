"""One HTTP/1.1 connection to an upstream: small, strict, and exact about what was sent.

A general client costs 110–130 µs of CPU a call, more than everything else a governed call does; this one
sits on ``asyncio.Protocol`` and llhttp (``httptools``) and costs about a fifth. It does less on purpose: no
redirects, no decompression, no proxies, no cookies, no upgrade, no pipelining.

It is strict because its answers decide what is recorded as having happened (RFC 9112, sections 6.3 and
11.2): a length given twice or in two ways, bytes beyond the answer, or an end that cannot be told from a
cut are faults and never a guess. Two exceptions carry the fact that matters most: ``NotSent`` before the
request is handed to the transport, ``InDoubt`` for everything after it.
"""

from __future__ import annotations

import asyncio
import select
from collections import deque
from collections.abc import Callable
from typing import Final, cast

import httptools
import msgspec

from gateway.errors import InDoubt, UpstreamError

HEAD_BYTES: Final = 64 * 1024  # of all headers of an answer together
INTERIM_ANSWERS: Final = 8  # 1xx before the answer
STREAM_HIGH: Final = 256 * 1024  # unread bytes at which the upstream is made to wait
STREAM_LOW: Final = 64 * 1024
LEFTOVER_BYTES: Final = 64 * 1024  # read after the answer so that the connection can be kept
LEFTOVER_S: Final = 1.0

_KEPT: Final = frozenset((b"content-type", b"mcp-session-id"))
_EVENT_STREAM: Final = b"text/event-stream"


class BodyTooLarge(UpstreamError):
    """The upstream answered, and the body is larger than ``body_bytes``."""


class Response(msgspec.Struct, frozen=True):
    """What came back. Exactly one of ``body`` (complete) and ``stream`` (being received) is meaningful."""

    status: int
    media_type: bytes  # lower case, without parameters
    session: str  # the ``Mcp-Session-Id`` header, "" when absent
    body: bytes
    stream: Stream | None = None


class Hold:
    """A hand on one exchange, for whoever must end it early or give it more time while it runs."""

    __slots__ = ("_connection", "fault", "sent", "severable")

    def __init__(self, severable: bool = True) -> None:
        self.severable = severable
        self._connection: Connection | None = None
        self.fault: UpstreamError | None = None  # why it was ended early
        self.sent = False  # a request has been handed to a connection

    def take(self, connection: Connection) -> None:
        self.sent = True
        self._connection = connection
        connection.hold = self

    def drop(self) -> None:
        """The exchange is over: its connection may already carry somebody else's."""
        if self._connection is not None:
            self._connection.hold = None
            self._connection = None

    def abort(self, error: UpstreamError) -> None:
        """End the exchange with ``error``; before a connection is found, the one that waits must look."""
        self.fault = self.fault or error
        if self._connection is not None:
            self._connection.abort(error)

    def cancel(self) -> None:
        """The client has given up, and ending the exchange is how the server is told.

        What is not severable goes on once it was sent: its outcome could not be learnt any other way.
        """
        if self.sent and not self.severable:
            return
        self.abort(InDoubt("cancelled", "given up by the client"))

    def rearm(self, at: float) -> None:
        """Move the deadline."""
        if self._connection is not None:
            self._connection.rearm(at)


class Stream:
    """The body of an event stream, read as it arrives; the upstream waits when it is not read."""

    __slots__ = ("_chunks", "_connection", "_ended", "_error", "_reader", "_size")

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._chunks: deque[bytes] = deque()
        self._size = 0
        self._ended = False
        self._error: UpstreamError | None = None
        self._reader: asyncio.Future[None] | None = None

    async def read(self) -> bytes:
        """The next bytes, ``b""`` at the end; raises ``InDoubt`` when the stream breaks."""
        while not self._chunks:
            if self._error is not None:
                raise self._error
            if self._ended:
                return b""
            self._reader = asyncio.get_running_loop().create_future()
            await self._reader
        chunk = self._chunks.popleft()
        self._size -= len(chunk)
        if self._size < STREAM_LOW and not self._ended:
            self._connection.resume()
        return chunk

    def leave(self) -> None:
        """What was wanted has been read: let the end arrive and the connection be kept."""
        if not self._ended and self._error is None:
            self._ended = True
            self._connection.drain()

    def abort(self) -> None:
        """Close the connection; what is left of the stream is not wanted."""
        if not self._ended:
            self._connection.abort()

    def _feed(self, chunk: bytes) -> bool:
        """Take a chunk; true when the upstream should wait."""
        self._chunks.append(chunk)
        self._size += len(chunk)
        self._wake()
        return self._size > STREAM_HIGH

    def _end(self, error: UpstreamError | None = None) -> None:
        self._ended = error is None
        self._error = error
        self._wake()

    def _wake(self) -> None:
        if self._reader is not None and not self._reader.done():
            self._reader.set_result(None)


class Connection(asyncio.Protocol):
    """One connection; carries one exchange at a time.

    ``released(connection, reusable)`` is called when an exchange has ended, ``lost(connection)`` once when
    the connection is gone.
    """

    __slots__ = (
        "_body", "_body_bytes", "_close_delimited", "_complete", "_discarded", "_fault", "_head", "_head_raw",
        "_interim", "_interims", "_keep", "_kept", "_length_known", "_loop", "_lost", "_media_type",
        "_parser", "_paused", "_poll", "_released", "_size", "_status", "_stream", "_timer", "_waiter",
        "hold", "idle_since", "transport",
    )  # fmt: skip

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        body_bytes: int,
        released: Callable[[Connection, bool], None],
        lost: Callable[[Connection], None],
    ) -> None:
        self._loop = loop
        self._body_bytes = body_bytes
        self._released = released
        self._lost = lost
        self._parser = httptools.HttpResponseParser(self)
        self._waiter: asyncio.Future[Response] | None = None
        self._stream: Stream | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._paused = False
        self._discarded = -1  # bytes dropped after ``drain``; -1 while the body is wanted
        self.transport: asyncio.Transport | None = None
        self.idle_since = loop.time()
        self.hold: Hold | None = None
        self._clear()

    def _clear(self) -> None:
        self._body: list[bytes] = []
        self._size = 0
        self._head = 0
        self._head_raw = 0
        self._status = 0
        self._media_type = b""
        self._interim = False
        self._interims = 0
        self._kept: dict[bytes, bytes] = {}
        self._length_known = False
        self._close_delimited = False
        self._complete = False
        self._keep = False
        self._fault: UpstreamError | None = None

    # ------------------------------------------------------------------------------------- exchange

    @property
    def busy(self) -> bool:
        return self._waiter is not None or self._stream is not None or self._discarded >= 0

    def quiet(self) -> bool:
        """Whether a kept connection may be written to: open, and nothing has arrived on it.

        Asking the kernel (0.7 µs) also sees a FIN that the event loop has not come to yet. It narrows the
        moment in which a request is written to a connection the upstream has already closed, which would
        leave the call in doubt for no reason.
        """
        return self.transport is not None and not self.transport.is_closing() and not self._poll.poll(0)

    async def exchange(self, request: bytes, at: float) -> Response:
        """Send ``request`` and wait for the answer until loop time ``at``.

        From here on every fault is ``InDoubt``: the request has been handed to the transport. An event
        stream is returned when its headers are complete, everything else when its body is.
        """
        assert self.transport is not None and not self.busy
        self._clear()
        waiter: asyncio.Future[Response] = self._loop.create_future()
        self._waiter = waiter
        self._timer = self._loop.call_at(at, self._expired)
        self.transport.write(request)
        try:
            return await waiter
        except asyncio.CancelledError:
            self.abort()
            raise

    def abort(self, error: UpstreamError | None = None) -> None:
        """Close without ceremony; an exchange under way is in doubt."""
        self._fail(error or InDoubt("upstream_lost", "closed by the gateway"))

    def resume(self) -> None:
        if self._paused and self.transport is not None and not self.transport.is_closing():
            self._paused = False
            self.transport.resume_reading()

    def drain(self) -> None:
        """Drop the rest of a stream, within a bound of bytes and time, and keep the connection."""
        if self._stream is None:
            return
        self._stream = None
        self._discarded = 0
        self.rearm(self._loop.time() + LEFTOVER_S)
        self.resume()

    def rearm(self, at: float) -> None:
        """Move the deadline of the exchange under way; there must be one."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = self._loop.call_at(at, self._expired)

    def _expired(self) -> None:
        self._fail(InDoubt("upstream_timeout", "no complete answer in time"))

    def _fail(self, error: UpstreamError) -> None:
        """End the connection and whatever is waiting on it."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self.transport is not None and not self.transport.is_closing():
            self.transport.abort()
        if self._waiter is not None:
            waiter, self._waiter = self._waiter, None
            if not waiter.done():
                waiter.set_exception(error)
        if self._stream is not None:
            stream, self._stream = self._stream, None
            stream._end(error)
        self._discarded = -1

    def _finish(self) -> None:
        """The answer is complete; give the connection back before waking who waits for it."""
        assert self.transport is not None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        waiter, self._waiter = self._waiter, None
        stream, self._stream = self._stream, None
        self._discarded = -1
        self.resume()
        if self.hold is not None:
            self.hold.drop()
        # An answer that came before the request was fully written leaves the rest of it in the way.
        self._released(self, self._keep and not self.transport.get_write_buffer_size())
        if stream is not None:
            stream._end()
        elif waiter is not None and not waiter.done():
            waiter.set_result(self._response(None))

    def _response(self, stream: Stream | None) -> Response:
        return Response(
            self._status,
            self._media_type,
            self._kept.get(b"mcp-session-id", b"").decode("latin-1"),
            b"" if stream else b"".join(self._body),
            stream,
        )

    # ------------------------------------------------------------------------------ asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports have the methods of these classes, not the classes themselves as ancestors.
        self.transport = cast("asyncio.Transport", transport)
        self._poll = select.poll()
        self._poll.register(transport.get_extra_info("socket").fileno(), select.POLLIN)

    def data_received(self, data: bytes) -> None:
        # Bytes nobody asked for must never be taken for the answer to the next request.
        if not self.busy:
            self.abort()
            return
        in_head = self._status == 0 or self._interim
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            self._fault = _nonsense("an upgrade that was not asked for")
        except httptools.HttpParserError as error:
            self._fault = self._fault or _nonsense(f"not valid HTTP: {error}")
        if in_head and self._waiter is not None:
            self._head_raw += len(data)  # llhttp holds an unfinished header line in memory
            if self._head_raw > HEAD_BYTES and (self._status == 0 or self._interim):
                self._fault = self._fault or _nonsense("headers too large")
        if self._fault is not None:
            self._fail(self._fault)
        elif self._complete:
            self._finish()

    def eof_received(self) -> None:
        if self._close_delimited and self._fault is None:
            self._finish()

    def connection_lost(self, exc: Exception | None) -> None:
        detail = "closed before the answer was complete" if exc is None else type(exc).__name__
        self._fail(InDoubt("upstream_lost", detail))
        self._lost(self)

    # ------------------------------------------------------------------------ callbacks of the parser

    def on_message_begin(self) -> None:
        if self._complete:
            self._fault = _nonsense("bytes after the answer")

    def on_header(self, name: bytes, value: bytes) -> None:
        self._head += len(name) + len(value)
        if self._head > HEAD_BYTES:
            self._fault = _nonsense("headers too large")
            return
        if self._status and not self._interim:
            return  # a trailer: bounded, and never read
        name = name.lower()
        if name in _KEPT:
            if name in self._kept:
                self._fault = _nonsense(f"two {name.decode()} headers")
            self._kept[name] = value
        elif name == b"content-length":
            self._length_known = True
        elif name == b"transfer-encoding":
            # Any other coding, or a second one, makes two readers disagree on where the answer ends.
            if self._length_known or value.strip().lower() != b"chunked":
                self._fault = _nonsense("transfer-encoding other than chunked")
            self._length_known = True
        elif name == b"content-encoding" and value.strip().lower() != b"identity":
            # Not asked for, and a small body may unpack to more than there is memory.
            self._fault = _nonsense("a compressed answer")

    def on_headers_complete(self) -> None:
        if self._fault is not None:
            return
        status = self._parser.get_status_code()
        self._interim = 100 <= status < 200
        if self._interim:
            self._interims += 1
            if self._interims > INTERIM_ANSWERS or status == 101:
                self._fault = _nonsense("too many interim answers")
            return
        self._status = status
        self._media_type = self._kept.get(b"content-type", b"").partition(b";")[0].strip().lower()
        streaming = status == 200 and self._media_type == _EVENT_STREAM
        if not self._length_known and status not in (204, 304):
            # An end that cannot be told from a cut; events carry their own ends, other bodies do not.
            if not streaming:
                self._fault = _nonsense("a body without a length")
                return
            self._close_delimited = True
        if streaming and self._waiter is not None:
            stream = self._stream = Stream(self)
            waiter, self._waiter = self._waiter, None
            if not waiter.done():
                waiter.set_result(self._response(stream))

    def on_body(self, chunk: bytes) -> None:
        if self._fault is not None:
            return
        if self._stream is not None:
            if self._stream._feed(chunk) and not self._paused and self.transport is not None:
                self._paused = True
                self.transport.pause_reading()
            return
        if self._discarded >= 0:
            self._discarded += len(chunk)
            if self._discarded > LEFTOVER_BYTES:
                self._fault = _nonsense("endless stream after the answer")
            return
        self._size += len(chunk)
        if self._size > self._body_bytes:
            self._fault = BodyTooLarge("result_too_large", f"more than {self._body_bytes} bytes")
            self._body.clear()
            return
        self._body.append(chunk)

    def on_message_complete(self) -> None:
        if self._interim:
            self._interim = False
            self._kept.clear()
            self._length_known = False
            return
        self._keep = self._parser.should_keep_alive()
        self._complete = True


def _nonsense(detail: str) -> InDoubt:
    return InDoubt("upstream_bad_answer", detail)
