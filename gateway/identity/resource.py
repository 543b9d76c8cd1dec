"""What an OAuth client is told: resource metadata (RFC 9728) and the challenges that point to it.

All of it is built from the configuration. A document built from the Host header would let whoever chooses
that header choose which authorization server a client sends its user to.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final
from urllib.parse import urlsplit

import orjson

from gateway.config import Config

WELL_KNOWN: Final = "/.well-known/oauth-protected-resource"


class Resource:
    """The gateway as an OAuth protected resource; empty unless ``identity.metadata`` is on."""

    def __init__(self, config: Config) -> None:
        self.documents: dict[str, bytes] = {}
        """Metadata by the path it is served at."""
        self._urls: dict[str, str] = {}
        public = config.server.public_url
        issuers = [each for each in config.identity.issuers.values() if each.advertise]
        self._scopes = _unique(scope for each in issuers for scope in each.required_scopes)
        if public is None or not config.identity.metadata or not issuers:
            return
        parts = urlsplit(public)
        origin, below = f"{parts.scheme}://{parts.netloc}", parts.path
        supported = _unique(scope for each in issuers for scope in (*each.required_scopes, *each.scopes))
        for path in ("", "/mcp", *(f"/mcp/{name}" for name in config.upstreams)):
            document = {
                "resource": public + path,
                "authorization_servers": [each.issuer for each in issuers],
                "bearer_methods_supported": ["header"],
                "resource_name": "wardgate",
            }
            if supported:
                document["scopes_supported"] = supported
            where = f"{WELL_KNOWN}{below}{path}"
            self.documents[where] = orjson.dumps(document)
            self._urls[path] = origin + where

    def __bool__(self) -> bool:
        return bool(self.documents)

    def unauthenticated(self, path: str, error: str) -> str:
        """The challenge of a 401; ``error`` is "" when no credential came."""
        parts = [f'error="{error}"'] if error else []
        return self._challenge(path, parts, self._scopes)

    def insufficient(self, path: str, scopes: Iterable[str]) -> str:
        """The challenge of a 403: all scopes a client should ask for, those it has included."""
        parts = ['error="insufficient_scope"']
        return self._challenge(path, parts, scopes)

    def _challenge(self, path: str, parts: list[str], scopes: Iterable[str]) -> str:
        # A path the client made up must not become part of a URL it is told to fetch.
        url = self._urls.get(path.rstrip("/")) or self._urls.get("/mcp")
        if url is not None:
            parts.append(f'resource_metadata="{url}"')
        named = " ".join(scopes)
        if named and named.isascii() and not set(named) & {'"', "\\"} and named.isprintable():
            parts.append(f'scope="{named}"')
        return "Bearer " + ", ".join(parts) if parts else "Bearer"


def _unique(words: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(words))
