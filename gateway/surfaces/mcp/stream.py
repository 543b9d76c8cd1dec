"""Answering one POST: a single JSON body, or an event stream once there is something to stream.

Which of the two is decided by the upstream's first notification, not in advance: most calls have none and
stay one JSON answer, the cheaper and more robust of the two forms.
"""

from __future__ import annotations

import asyncio
from typing import Final

import msgspec

from gateway.surfaces.doors import Send
from gateway.surfaces.mcp import protocol
from gateway.surfaces.mcp.envelope import Reply

STALL_S: Final = 20.0
"""How long a client may leave an event unread before the rest is dropped, in seconds."""

_JSON: Final = (b"content-type", b"application/json")
_SSE_HEADERS: Final = [
    (b"content-type", b"text/event-stream"),
    (b"cache-control", b"no-store"),
    (b"x-accel-buffering", b"no"),
]


class _Params(msgspec.Struct):
    progressToken: str | int | None = None  # noqa: N815  # the protocol's name
    level: str = "emergency"


class _Notification(msgspec.Struct):
    method: str
    params: _Params = msgspec.field(default_factory=_Params)
    id: msgspec.Raw = msgspec.Raw(b"")


_peek: Final = msgspec.json.Decoder(_Notification)


class Exchange:
    """The answer to one POST. ``push`` may be called any number of times, then ``finish`` once."""

    __slots__ = (
        "_dead",
        "_send",
        "_started",
        "accepts_json",
        "accepts_stream",
        "log_level",
        "log_name",
        "progress_token",
    )

    def __init__(self, send: Send, accepts_json: bool, accepts_stream: bool) -> None:
        self._send = send
        self._started = False
        self._dead = False
        self.accepts_json = accepts_json
        self.accepts_stream = accepts_stream
        self.progress_token: object = None
        self.log_level: int | None = None  # least rank of log messages wanted; None for none
        self.log_name = ""  # the level as the client named it; "" when it did not

    async def push(self, message: bytes) -> bool:
        """Send any message ahead of the answer; false when the client does not take it."""
        if self._dead:
            return False
        if not self._started:
            await self._start_stream()
        await self._event(message)
        return not self._dead

    async def comment(self, text: bytes) -> None:
        """Say something that no client reads, so that nobody on the way takes the stream for dead."""
        if not self._started:
            await self._start_stream()
        await self._write(b": " + text + b"\n\n")

    async def end(self) -> None:
        """Close a stream that has no answer."""
        if not self._dead:
            await self._send({"type": "http.response.body", "body": b"", "more_body": False})

    async def finish(self, reply: Reply) -> None:
        """Send the answer itself, as the whole body or as the last event."""
        if self._started or (not self.accepts_json and reply.status == 200):
            if not self._started:
                await self._start_stream()
            if not self._dead:
                await self._event(reply.body)
            await self.end()
            # A dead stream is left without its end, which makes the server close the connection: the
            # client must be able to tell a lost answer from a finished one.
            return
        await send_reply(self._send, reply)

    def wants(self, notification: bytes) -> bool:
        """Whether this client asked for such a notification, and for this call."""
        if self._dead or not self.accepts_stream:
            return False
        try:
            seen = _peek.decode(notification)
        except msgspec.MsgspecError:
            return False
        # A message with an id is a question to the client, which takes another way.
        if seen.id:
            return False
        if seen.method == "notifications/progress":
            # A token that is not this request's belongs to somebody else's call on a shared upstream.
            return self.progress_token is not None and seen.params.progressToken == self.progress_token
        if seen.method == "notifications/message":
            rank = protocol.LOG_LEVELS.get(seen.params.level)
            return self.log_level is not None and rank is not None and rank >= self.log_level
        return False

    async def _start_stream(self) -> None:
        self._started = True
        await self._send({"type": "http.response.start", "status": 200, "headers": _SSE_HEADERS})

    async def _event(self, message: bytes) -> None:
        if b"\n" in message or b"\r" in message:
            # Outside strings only, where JSON has no line ends: they are insignificant white space.
            message = message.translate(None, b"\r\n")
        await self._write(b"".join((b"event: message\ndata: ", message, b"\n\n")))

    async def _write(self, chunk: bytes) -> None:
        try:
            # ``send`` waits while the client does not read; the upstream's deadline must not be its price.
            async with asyncio.timeout(STALL_S):
                await self._send({"type": "http.response.body", "body": chunk, "more_body": True})
        except TimeoutError:
            self._dead = True


async def send_reply(send: Send, reply: Reply) -> None:
    """Send one complete response."""
    body, status, extra = reply
    headers = [(b"content-length", b"%d" % len(body)), *extra]
    if body:
        headers.append(_JSON)
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
