"""What each side may be told the other can do.

Upstreams are told what *this* client declared, as far as policy lets them, and never what the gateway could
do itself: a server that believes in a capability uses it. Clients are told what the upstream offers, as far
as this front can carry it.
"""

from __future__ import annotations

from typing import Any, Final

import orjson

from gateway.errors import Refused
from gateway.model import QUESTIONS
from gateway.surfaces.mcp import protocol
from gateway.surfaces.mcp.changes import LISTS
from gateway.surfaces.mcp.envelope import Rejected
from gateway.surfaces.mcp.request import Request

OFFERED: Final = ("tools", "prompts", "resources", "completions", "logging")
"""Capabilities this front can carry; what an upstream declares beyond them is not passed on."""

EXTENSIONS: Final = frozenset({"io.modelcontextprotocol/ui"})
"""Extensions of clients that need nothing from this front but to be known upstream."""


MAX_DECLARED: Final = 16 * 1024
"""Bytes of capabilities that a client may declare: they are kept with what is opened upstream for it."""


def declared(request: Request) -> dict[str, Any]:
    """What the client of a request says it can do; empty when it says nothing that can be read."""
    session = request.session
    said = request.meta.get(protocol.META_CAPABILITIES) if session is None else session.capabilities
    return said if isinstance(said, dict) else {}


def of_client(request: Request, upstream: str) -> bytes:
    """What the upstream of a call is told of its client, as a JSON object; ``b""`` for nothing."""
    session, can = request.session, declared(request)
    if not can:
        return b""
    known: dict[str, Any] = {}
    # A legacy client is asked on the stream of its request.
    if session is None or request.exchange.accepts_stream:
        for method, kind in QUESTIONS.items():
            if isinstance(can.get(kind), dict) and _visible(request, upstream, method):
                known[kind] = can[kind]
    extensions = can.get("extensions")
    if isinstance(extensions, dict) and (
        kept := {key: extensions[key] for key in EXTENSIONS & extensions.keys()}
    ):
        known["extensions"] = kept
    if not known:
        return b""
    told = orjson.dumps(known, option=orjson.OPT_SORT_KEYS)
    if len(told) > MAX_DECLARED:
        raise Rejected("too_large", "The capabilities are too large.")
    return told


def _visible(request: Request, upstream: str, method: str) -> bool:
    """Whether policy shows this way of asking; the question itself is decided when it is put."""
    parts, principal = request.parts, request.principal
    try:
        tool = parts.catalog.resolve(QUESTIONS[method], upstream, method)
    except Refused:
        return False
    if principal.mode != "enforce" or tool.mode != "enforce":
        return True
    return parts.policy.sees(principal, tool, parts.state.slow(principal, request.named_session()))


def of_server(request: Request) -> dict[str, Any]:
    """What this endpoint declares to its clients.

    Changes of lists are always told: that a list looks different to this client is for the gateway to say.
    """
    info = request.front.info(request.upstream) if request.upstream is not None else None
    if info is None:
        offered: dict[str, Any] = {name: {} for name in OFFERED if name != "logging"}
        offered["resources"]["subscribe"] = True
    else:
        offered = {name: {} for name in OFFERED if name in info.capabilities}
        resources = info.capabilities.get("resources")
        if isinstance(resources, dict) and resources.get("subscribe") is True:
            offered["resources"]["subscribe"] = True
    for name in LISTS:
        if name in offered:
            offered[name]["listChanged"] = True
    if request.modern and request.front.tasks.offered:
        offered["extensions"] = {protocol.TASKS: {}}
    return offered
