"""OAuth protected resource metadata (RFC 9728) in front of the surfaces on the agents' port.

Open, because a client reads it before it has a credential; what it says is built from the configuration
alone. A client that came with an API key is told nothing: clients have been seen to drop the key they were
configured with as soon as they find such a document.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from typing import Any, Final

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

_PREFIX: Final = "/.well-known/oauth-protected-resource"
_KEY: Final = b"bearer wg"


class WellKnown:
    """An ASGI app that passes on what it does not answer; plain, so that a call costs no extra coroutine."""

    def __init__(self, inner: App, documents: Callable[[], Mapping[str, bytes]]) -> None:
        self._inner = inner
        self._documents = documents

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        if scope["path"].startswith(_PREFIX):
            document = self._documents().get(scope["path"])
            if document is not None:
                return _answer(scope, send, document)
        return self._inner(scope, receive, send)


async def _answer(scope: Scope, send: Send, document: bytes) -> None:
    held = any(
        name == b"authorization" and value.lower().startswith(_KEY) for name, value in scope["headers"]
    )
    status, body = 200, document
    headers = [(b"content-type", b"application/json"), (b"cache-control", b"no-cache")]
    if scope["method"] not in ("GET", "HEAD"):
        status, body = 405, b""
        headers = [(b"allow", b"GET, HEAD")]
    elif held:
        status, body = 404, b""
        headers = []
    headers.append((b"content-length", b"%d" % len(body)))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else body})
