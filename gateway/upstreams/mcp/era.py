"""The two eras of MCP and how to tell which one a server speaks.

Modern (2026-07-28): no handshake; ``server/discover`` describes the server and every request carries its
version and capabilities in ``_meta``. Legacy (2025-03-26 … 2025-11-25): ``initialize`` and, over HTTP, a
session id. A server is asked ``server/discover`` first; whatever is not positive evidence of the modern
era is a reason to try ``initialize``, as the official SDKs do.

The capabilities declared are those of the client a request is made for, as far as policy lets them be known,
and none for the gateway's own: what nobody behind us can do is not ours to promise.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from functools import lru_cache
from typing import Final, Literal

import msgspec
import orjson

from gateway import __version__
from gateway.model import Json
from gateway.upstreams.jsonrpc import UNSUPPORTED_VERSION, Request, loads, nonsense, plain

Era = Literal["modern", "legacy"]

MODERN: Final = "2026-07-28"
LEGACY: Final = ("2025-11-25", "2025-06-18", "2025-03-26")
LEGACY_STDIO: Final = (*LEGACY, "2024-11-05")  # only its HTTP transport was another one

MODERN_CODES: Final = frozenset((-32601, -32602, *range(-32099, -32019)))
"""JSON-RPC errors that a modern server gives with an HTTP 4xx (2026-07-28, basic/transports)."""

_CLIENT: Final = {"name": "wardgate", "version": __version__}
_RESERVED: Final = "io.modelcontextprotocol/"


@lru_cache(maxsize=256)
def stamp(capabilities_json: bytes = b"", log_level: str = "") -> bytes:
    """What every modern request carries in ``_meta`` (2026-07-28, basic/index: General fields)."""
    members: dict[str, Json] = {
        f"{_RESERVED}protocolVersion": MODERN,
        f"{_RESERVED}clientCapabilities": orjson.Fragment(capabilities_json or b"{}"),
        f"{_RESERVED}clientInfo": _CLIENT,
    }
    if log_level:
        members[f"{_RESERVED}logLevel"] = log_level
    return orjson.dumps(members)[1:-1]


def initialize(capabilities_json: bytes = b"") -> Request:
    """The first request of a legacy conversation."""
    capabilities = orjson.Fragment(capabilities_json or b"{}")
    return plain(
        "initialize", {"protocolVersion": LEGACY[0], "capabilities": capabilities, "clientInfo": _CLIENT}
    )


DISCOVER: Final = Request("server/discover")
INITIALIZED: Final = b'{"jsonrpc":"2.0","method":"notifications/initialized"}'


class Info(msgspec.Struct, frozen=True, kw_only=True):
    """What a server says of itself."""

    era: Era
    version: str  # of the protocol
    name: str = ""
    server_version: str = ""
    title: str = ""
    instructions: str = ""
    capabilities: Mapping[str, Json] = {}


def discovered(result_json: bytes) -> Info | None:
    """Read an answer to ``server/discover``; ``None`` when it is no evidence of the modern era."""
    try:
        result = orjson.loads(result_json)
    except orjson.JSONDecodeError:
        return None
    if not isinstance(result, dict):
        return None
    versions = result.get("supportedVersions")
    if not isinstance(versions, list) or MODERN not in versions:
        return None
    meta = result.get("_meta")
    server = meta.get(f"{_RESERVED}serverInfo") if isinstance(meta, dict) else None
    return _info("modern", MODERN, result, server)


def offered(error_json: bytes) -> bool:
    """Whether a refusal of the version names the very version that is spoken here: a modern server, then."""
    try:
        error = orjson.loads(error_json)
    except orjson.JSONDecodeError:
        return False
    data = error.get("data") if isinstance(error, dict) and error.get("code") == UNSUPPORTED_VERSION else None
    versions = data.get("supported") if isinstance(data, dict) else None
    return isinstance(versions, list) and MODERN in versions


def initialized(result_json: bytes, spoken: tuple[str, ...] = LEGACY) -> Info:
    """Read an answer to ``initialize``; raises ``InDoubt`` for a version that is not spoken here."""
    result = loads(result_json)
    version = result.get("protocolVersion") if isinstance(result, dict) else None
    if version not in spoken:
        raise nonsense("initialize was answered with a protocol version that is not spoken here")
    return _info("legacy", version, result, result.get("serverInfo"))


def wanted_changes(info: Info | None, uris: Collection[str], *, lists: bool) -> dict[str, Json]:
    """The filter of a ``subscriptions/listen``; empty when there is nothing to listen for.

    ``lists`` asks for those changes of lists that the server tells of, and no others.
    """
    wanted: dict[str, Json] = {}
    for kind in ("tools", "prompts", "resources") if lists and info is not None else ():
        capability = info.capabilities.get(kind) if info is not None else None
        if isinstance(capability, dict) and capability.get("listChanged") is True:
            wanted[f"{kind}ListChanged"] = True
    if uris:
        wanted["resourceSubscriptions"] = sorted(uris)
    return wanted


def _info(era: Era, version: str, result: dict[str, Json], server: Json) -> Info:
    server = server if isinstance(server, dict) else {}
    capabilities = result.get("capabilities")
    return Info(
        era=era,
        version=version,
        name=_text(server.get("name")),
        server_version=_text(server.get("version")),
        title=_text(server.get("title")),
        instructions=_text(result.get("instructions")),
        capabilities=capabilities if isinstance(capabilities, dict) else {},
    )


def _text(value: Json) -> str:
    return value if isinstance(value, str) else ""
