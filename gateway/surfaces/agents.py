"""What listens on the agents' port: the MCP front under ``/mcp``, the HTTP front everywhere else."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from gateway.surfaces.doors import Receive, Scope, Send

Asgi = Callable[[Scope, Receive, Send], Awaitable[None]]


class AgentsPort:
    """Raw ASGI, and no coroutine of its own: a request costs one comparison more."""

    def __init__(self, mcp: Asgi, http: Asgi) -> None:
        self._mcp = mcp
        self._http = http

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        if scope["path"].startswith("/mcp"):
            return self._mcp(scope, receive, send)
        return self._http(scope, receive, send)
