"""What this front needs from the outside."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Protocol

from gateway.model import Presented, Principal

Authenticate = Callable[[Presented], Awaitable[Principal]]
"""Turns what a caller presents into a principal, or raises ``Unauthenticated``."""


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
