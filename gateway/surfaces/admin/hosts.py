"""Which Host headers the admin port answers to.

A web page can make its own name resolve to 127.0.0.1 and then talk to this port from a visitor's browser
(DNS rebinding). The browser still sends the page's name as Host, so an unknown name is refused. An IP address
in Host cannot be rebound, and probes and scrapers inside a cluster send one.
"""

from __future__ import annotations

import ipaddress
import re
from typing import Final

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gateway.errors import Refused
from gateway.surfaces.problems import problem

_HOST: Final = re.compile(r"(?:\[([0-9a-f:.]+)\]|([^:\[\]@/]+))(?::[0-9]{1,5})?")
_LOOPBACK: Final = frozenset({"localhost", "localhost.localdomain", "ip6-localhost"})
_HEADERS: Final = (
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cache-control", b"no-store"),
)


class Hosts:
    """Refuses foreign Host and Origin headers, and adds the headers every answer carries."""

    def __init__(self, app: ASGIApp, allowed: tuple[str, ...]) -> None:
        self.app = app
        self.allowed = frozenset(name.lower() for name in allowed) | _LOOPBACK

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                own = list(message.get("headers", ()))
                said = {name for name, _ in own}
                message["headers"] = [*own, *(each for each in _HEADERS if each[0] not in said)]
            await send(message)

        hosts = [value for name, value in scope["headers"] if name == b"host"]
        origins = [value for name, value in scope["headers"] if name == b"origin"]
        # Two Host headers could be read differently by a proxy in front and by us.
        if len(hosts) != 1 or not self.accepts(hosts[0].decode("latin-1")):
            await problem(Refused("origin_refused"))(scope, receive, send_with_headers)
            return
        # There is no page of ours that calls from elsewhere: a foreign Origin is somebody else's page.
        if any(
            origin.decode("latin-1").partition("://")[2] != hosts[0].decode("latin-1") for origin in origins
        ):
            await problem(Refused("origin_refused"))(scope, receive, send_with_headers)
            return
        await self.app(scope, receive, send_with_headers)

    def accepts(self, host: str) -> bool:
        """Whether a Host header value, with or without port, names this gateway."""
        match = _HOST.fullmatch(host.lower())
        if match is None:
            return False
        name = match.group(1) or match.group(2)
        if name.rstrip(".") in self.allowed:
            return True
        try:
            ipaddress.ip_address(name)
        except ValueError:
            return False
        return True
