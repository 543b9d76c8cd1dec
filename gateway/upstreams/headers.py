"""HTTP headers that repeat the body (2026-07-28, basic/transports: Standard and Custom Headers).

A value that would not survive a header field is carried as ``=?base64?…?=``, so that nothing an agent or an
upstream names can end a header line and begin another.
"""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Final

from gateway.errors import ConfigError
from gateway.model import Json

_SAFE: Final = re.compile(r"[\x20-\x7E]*")
_SENTINEL: Final = re.compile(r"=\?base64\?.*\?=")
_TOKEN: Final = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_OURS: Final = frozenset(
    (
        "accept", "accept-encoding", "connection", "content-encoding", "content-length", "content-type",
        "expect", "host", "te", "trailer", "transfer-encoding", "upgrade", "mcp-session-id",
        "mcp-protocol-version", "mcp-method", "mcp-name", "wardgate-assertion",
    )
)  # fmt: skip
_MAX_DEPTH: Final = 16

ParamHeaders = tuple[tuple[tuple[str, ...], str], ...]
"""(path of properties, header name) of each argument that is mirrored."""


def encode_value(value: str) -> str:
    """``value`` as a header field value."""
    if _SAFE.fullmatch(value) and value == value.strip() and not _SENTINEL.fullmatch(value):
        return value
    return f"=?base64?{b64encode(value.encode()).decode()}?="


@lru_cache(maxsize=4096)
def mirrored(version: str, method: str, name: str) -> bytes:
    """The header lines of a modern request; cached, since a gateway calls few names often."""
    lines = f"mcp-protocol-version: {version}\r\nmcp-method: {method}\r\n"
    return (lines + (f"mcp-name: {encode_value(name)}\r\n" if name else "")).encode("ascii")


def configured(headers: Mapping[str, str], where: str) -> bytes:
    """The operator's headers as bytes; refuses what would change the meaning of the message."""
    lines = []
    for name, value in headers.items():
        if not _TOKEN.fullmatch(name):
            raise ConfigError(f"{where}: {name!r} is not a header name")
        if name.lower() in _OURS or name.lower().startswith("mcp-param-"):
            raise ConfigError(f"{where}: {name!r} is set by the gateway itself; remove it")
        if not value.isascii() or not value.isprintable() or value != value.strip():
            raise ConfigError(f"{where}: the value of {name!r} is not printable ASCII")
        lines.append(f"{name}: {value}\r\n")
    return "".join(lines).encode("ascii")


def param_headers(schema: Json) -> ParamHeaders:
    """Which arguments a tool wants mirrored: ``x-mcp-header`` on string, integer and boolean properties.

    Only properties reachable through ``properties`` count; a malformed or repeated name makes the whole
    schema's annotations void, because two parties could read them differently.
    """
    found: list[tuple[tuple[str, ...], str]] = []
    seen: set[str] = set()
    for path, prop in _properties(schema, ()):
        header = prop.get("x-mcp-header")
        if header is None:
            continue
        kind = prop.get("type")
        valid = isinstance(header, str) and _TOKEN.fullmatch(header) and header.lower() not in seen
        if not valid or kind not in ("string", "integer", "boolean"):
            return ()
        seen.add(header.lower())
        found.append((path, f"mcp-param-{header}"))
    return tuple(found)


def param_values(wanted: ParamHeaders, args: Mapping[str, Json]) -> tuple[tuple[str, str], ...]:
    """The mirrored arguments of one call; absent and null ones are left out."""
    values = []
    for path, header in wanted:
        value: Json = args
        for key in path:
            value = value.get(key) if isinstance(value, Mapping) else None
        if isinstance(value, bool):
            values.append((header, "true" if value else "false"))
        elif isinstance(value, str | int | float):
            values.append((header, encode_value(str(value))))
    return tuple(values)


def _properties(schema: Json, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Mapping[str, Json]]]:
    if not isinstance(schema, Mapping) or len(path) > _MAX_DEPTH:
        return
    properties = schema.get("properties")
    if not isinstance(properties, Mapping):
        return
    for name, prop in properties.items():
        if isinstance(prop, Mapping):
            yield (*path, name), prop
            yield from _properties(prop, (*path, name))
