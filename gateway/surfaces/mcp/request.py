"""One JSON-RPC request on its way through this front."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, Final

import msgspec
import orjson

from gateway.model import Presented, Principal
from gateway.ports import Parts
from gateway.surfaces.doors import Heads, Receive
from gateway.surfaces.mcp import protocol
from gateway.surfaces.mcp.callers import Watch
from gateway.surfaces.mcp.changes import Changes
from gateway.surfaces.mcp.envelope import Rejected
from gateway.surfaces.mcp.listeners import Listeners
from gateway.surfaces.mcp.pages import Pages
from gateway.surfaces.mcp.parked import Parked
from gateway.surfaces.mcp.ports import UpstreamInfo
from gateway.surfaces.mcp.rounds import Rounds
from gateway.surfaces.mcp.seal import Seal
from gateway.surfaces.mcp.sessions import Session, Sessions
from gateway.surfaces.mcp.stream import Exchange
from gateway.surfaces.mcp.tasks import Tasks
from gateway.surfaces.mcp.view import View

_TRACEPARENT: Final = re.compile(r"(?!ff)[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")
_MAX_THREAD: Final = 128
_RESERVED: Final = (protocol.PROTOCOL_PREFIX, protocol.VENDOR_PREFIX)
_USUAL: Final = frozenset({protocol.META_VERSION, protocol.META_CAPABILITIES, protocol.META_CLIENT_INFO})


class Front(msgspec.Struct, frozen=True, kw_only=True):
    """What all requests of this front share."""

    info: UpstreamInfo
    sessions: Sessions
    seal: Seal
    rounds: Rounds
    parked: Parked
    changes: Changes
    listeners: Listeners
    tasks: Tasks
    pages: Pages
    watch: Watch
    still: Callable[[Presented, Principal], Awaitable[Principal | None]]  # what a credential makes of it now
    ask_timeout_s: float


class Request(msgspec.Struct, kw_only=True, eq=False):
    """A parsed, authenticated request. One per POST; nothing outlives its answer."""

    front: Front
    parts: Parts  # taken once: a reload in between must not mix two configurations
    view: View
    presented: Presented
    principal: Principal
    upstream: str | None  # None on the aggregated endpoint
    heads: Heads
    headers: Iterable[tuple[bytes, bytes]]
    exchange: Exchange
    receive: Receive
    method: str
    params: dict[str, Any]
    meta: dict[str, Any]
    id_json: bytes
    modern: bool = True
    session: Session | None = None  # of a legacy request
    thread: str = ""

    async def holds(self) -> Principal | None:
        """What the credential this request came with makes of its principal now; ``None`` when nothing."""
        return await self.front.still(self.presented, self.principal)

    def traceparents(self) -> tuple[str, str]:
        """``(parent, HTTP parent)``: the body's context leads, and the header's is kept where they differ."""
        said = self.meta.get("traceparent")
        header = self.heads.get(b"traceparent")
        if said is None and header is None:
            return "", ""
        inner = said if isinstance(said, str) and _TRACEPARENT.fullmatch(said) else ""
        outer = header.decode("latin-1") if header is not None else ""
        if not _TRACEPARENT.fullmatch(outer):
            outer = ""
        return (inner, outer) if inner and inner != outer else (outer, "")

    def client_meta(self) -> bytes:
        """The caller's own ``_meta`` keys: not the protocol's, not the gateway's, not the trace's."""
        if self.meta.keys() <= _USUAL:
            return b""
        kept = {
            key: value
            for key, value in self.meta.items()
            if not key.startswith(_RESERVED) and key not in protocol.TRACE_KEYS
        }
        return orjson.dumps(kept) if kept else b""

    def named_session(self) -> str:
        """The piece of work the client says this belongs to; "" when it says nothing.

        Raises ``Rejected`` where header and body disagree: one of them could be somebody else's.
        """
        said = self.meta.get(protocol.META_SESSION)
        header = self.heads.get(protocol.H_WORK)
        if said is None and header is None:
            return ""
        outer = header.decode("latin-1") if header is not None else ""
        if said is not None and not isinstance(said, str):
            raise Rejected("invalid_request", f"'{protocol.META_SESSION}' must be a string.", status=200)
        if said is not None and header is not None and said != outer:
            raise Rejected("header_mismatch", "Wardgate-Session and _meta name two sessions.", status=200)
        return said if said is not None else outer

    def mandate(self) -> bytes:
        """What the client says it is delegated, as JSON; "" when it says nothing."""
        said = self.meta.get(protocol.META_MANDATE)
        if said is None:
            return b""
        if not isinstance(said, dict):
            raise Rejected("invalid_request", f"'{protocol.META_MANDATE}' must be an object.", status=200)
        return orjson.dumps(said)

    def named_thread(self) -> str:
        """The thread of work a modern client names itself; loop detection keys on it, limits never do."""
        value = self.meta.get(protocol.META_THREAD)
        return value if isinstance(value, str) and len(value) <= _MAX_THREAD else ""
