"""The way into a surface agents reach over HTTP, before a byte of a request's body means anything.

The headers are walked once. What may appear only once and appears twice is refused: two readers that pick
different copies would disagree on who calls, or what.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from functools import lru_cache
from typing import Any, Final

from gateway.config import ServerConfig
from gateway.errors import Refused
from gateway.reasons import REASONS

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Headers = tuple[tuple[bytes, bytes], ...]
Heads = dict[bytes, bytes]
"""The headers a surface reads, by lower-case name, each at most once."""

_LOOPBACK: Final = (b"localhost", b"127.0.0.1", b"[::1]")
_UNSPECIFIED: Final = frozenset({"", "0.0.0.0", "::"})  # noqa: S104  # not bound to, but recognised
CLOSE: Final[Headers] = ((b"connection", b"close"),)


class NotAdmitted(Refused):
    """A refusal at the door. ``message`` is shown and repeats no value of the request.

    ``status`` is the HTTP status where the code alone does not say it.
    """

    def __init__(
        self, code: str, message: str = "", *, status: int | None = None, headers: Headers = ()
    ) -> None:
        super().__init__(code, message)
        self.message = message or REASONS[code].message
        self.status = status
        self.headers = headers


class ClientGone(Exception):  # an end, not an error: nobody is left to answer
    """The client closed the connection before its request was complete."""


def gather(headers: Iterable[tuple[bytes, bytes]], read: frozenset[bytes]) -> Heads:
    """One pass over the headers; of those a surface reads, it refuses duplicates."""
    found: Heads = {}
    for name, value in headers:
        if name in read:
            if name in found:
                if name != b"accept":
                    raise _duplicated(name)
                value = found[name] + b"," + value
            found[name] = value.strip(b" \t")  # optional white space is no part of a value (RFC 9110, 5.5)
    return found


def _duplicated(name: bytes) -> NotAdmitted:
    if name in (b"origin", b"host"):
        return NotAdmitted("origin_refused", f"The {name.decode().title()} header appears more than once.")
    code = "header_mismatch" if name.startswith(b"mcp-") else "invalid_request"
    return NotAdmitted(code, f"The {name.decode()} header appears more than once.")


class Doors:
    """Which Host and Origin values may come in: the defence against DNS rebinding.

    Accepted hosts are the loopback names, the address the server is bound to and ``allowed_hosts`` (an
    entry with a port matches only that port). Accepted origins are ``allowed_origins`` and the origin
    that equals the accepted Host, which is a page of this server itself.
    """

    def __init__(self, config: ServerConfig) -> None:
        names = set(_LOOPBACK)
        if config.host not in _UNSPECIFIED:
            bound = f"[{config.host}]" if ":" in config.host else config.host
            names.add(bound.lower().encode())
        names.update(host.lower().encode() for host in config.allowed_hosts)
        self._names = frozenset(names)
        ported = {b"%b:%d" % (name, config.port) for name in names}
        self._known = self._names | ported  # the two spellings clients send, answered by one look-up
        self._origins = frozenset(origin.rstrip("/").lower().encode() for origin in config.allowed_origins)

    def check(self, heads: Heads) -> None:
        host = heads.get(b"host", b"")
        if host not in self._known and not self._other_spelling(host):
            # A page of an attacker whose name resolves to this machine carries the attacker's name.
            raise NotAdmitted("origin_refused", "The Host header is not one this gateway serves.", status=421)
        if b"origin" in heads and not self._origin(heads[b"origin"].lower(), host.lower()):
            # A page of another site may not use the browser's network position to reach the gateway.
            raise NotAdmitted("origin_refused", "The Origin header is not one this gateway accepts.")

    def _other_spelling(self, host: bytes) -> bool:
        host = host.lower()
        name, colon, port = host.rpartition(b":")
        if colon and port.isdigit():
            return host in self._known or name in self._names
        return host in self._known

    def _origin(self, origin: bytes, host: bytes) -> bool:
        return origin in self._origins or origin in (b"http://" + host, b"https://" + host)


def check_content(heads: Heads, max_bytes: int) -> None:
    """The body must be plain JSON of a bounded size."""
    if not _is_json(heads.get(b"content-type", b"")):
        raise NotAdmitted("invalid_request", "The Content-Type must be application/json.", status=415)
    if b"content-encoding" in heads and heads[b"content-encoding"].lower() != b"identity":
        # A few compressed bytes can unfold to gigabytes, and a second decoder is a second reader.
        raise NotAdmitted("invalid_request", "Compressed request bodies are not accepted.", status=415)
    length = heads.get(b"content-length")
    if length is not None:
        if not length.isdigit() or len(length) > 15:
            raise NotAdmitted("invalid_request", "The Content-Length is not a number.", headers=CLOSE)
        if int(length) > max_bytes:
            raise NotAdmitted("too_large", headers=CLOSE)


@lru_cache(maxsize=64)
def _is_json(content_type: bytes) -> bool:
    media, _, parameters = content_type.partition(b";")
    if media.strip().lower() != b"application/json":
        return False
    for parameter in parameters.split(b";"):
        name, _, value = parameter.partition(b"=")
        if name.strip().lower() == b"charset" and value.strip(b' \t"').lower() != b"utf-8":
            return False
    return True


async def read_body(receive: Receive, max_bytes: int, timeout_s: float) -> bytes:
    """The body of a request, bounded in size and time; raises ``NotAdmitted`` or ``ClientGone``."""
    # A client that sends its head and then nothing must not hold a task for ever. One timer over all
    # reads, cancelled at once on the normal path, where the body is already there.
    deadline = _Deadline(timeout_s)
    try:
        message = await receive()
        body: bytes = message.get("body", b"")
        if not message.get("more_body", False) and message["type"] == "http.request":
            if len(body) > max_bytes:
                raise NotAdmitted("too_large", headers=CLOSE)
            return body
        chunks = [body]
        size = len(body)
        while True:
            if message["type"] == "http.disconnect":
                raise ClientGone
            if size > max_bytes:
                # The length was not announced, or was a lie: stop reading here, not when memory ends.
                raise NotAdmitted("too_large", headers=CLOSE)
            if not message.get("more_body", False):
                return b"".join(chunks)
            message = await receive()
            chunk = message.get("body", b"")
            chunks.append(chunk)
            size += len(chunk)
    except asyncio.CancelledError:
        if deadline.expired():
            raise NotAdmitted(
                "invalid_request", "The request body did not arrive in time.", status=408, headers=CLOSE
            ) from None
        raise
    finally:
        deadline.cancel()


class _Deadline:
    """Cancels the current task after a while; half the cost of ``asyncio.timeout``."""

    __slots__ = ("_expired", "_handle", "_task")

    def __init__(self, seconds: float) -> None:
        loop = asyncio.get_running_loop()
        self._task = asyncio.current_task(loop)
        self._expired = False
        self._handle = loop.call_later(seconds, self._expire)

    def _expire(self) -> None:
        self._expired = True
        if self._task is not None:
            self._task.cancel()

    def expired(self) -> bool:
        """Whether a cancellation just caught was ours; takes it back if so."""
        if self._expired and self._task is not None:
            self._task.uncancel()
        return self._expired

    def cancel(self) -> None:
        self._handle.cancel()
