"""What this front needs from the outside, and the ASGI types it speaks."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from typing import Any, Protocol

from gateway.model import Principal

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

Authenticate = Callable[[bytes | None], Principal]
"""Turns an ``Authorization`` header into a principal, or raises ``Unauthenticated``."""


class ServerInfo(Protocol):
    """What an upstream says of itself; shown to clients, never decided on."""

    @property
    def name(self) -> str: ...
    @property
    def title(self) -> str: ...
    @property
    def server_version(self) -> str: ...
    @property
    def instructions(self) -> str: ...
    @property
    def capabilities(self) -> Mapping[str, Any]: ...
    @property
    def era(self) -> str: ...


UpstreamInfo = Callable[[str], ServerInfo | None]
"""Looks an upstream up by name: ``None`` while it has not been reached, ``Refused`` when there is none."""
