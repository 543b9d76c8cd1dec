"""JSON-RPC envelopes, and the refusal of a request that never becomes a call.

Which HTTP status and JSON-RPC code a reason has is one table, so that the two can never drift apart.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import orjson

from gateway.errors import Refused, Unauthenticated
from gateway.reasons import REASONS
from gateway.surfaces.doors import Headers, NotAdmitted
from gateway.surfaces.mcp import protocol

_STATUS: Final[dict[str, tuple[int, int]]] = {
    # code: (HTTP status, JSON-RPC code)
    "malformed_json": (400, protocol.PARSE_ERROR),
    "duplicate_key": (400, protocol.PARSE_ERROR),
    "number_out_of_range": (400, protocol.PARSE_ERROR),
    "too_deep": (400, protocol.PARSE_ERROR),
    "too_large": (413, protocol.INVALID_REQUEST),
    "batch_refused": (400, protocol.INVALID_REQUEST),
    "invalid_request": (400, protocol.INVALID_REQUEST),
    "header_mismatch": (400, protocol.HEADER_MISMATCH),
    "unsupported_version": (400, protocol.UNSUPPORTED_VERSION),
    "origin_refused": (403, protocol.INVALID_REQUEST),
    "bad_request_state": (200, protocol.INVALID_PARAMS),
    "unknown_session": (404, protocol.INVALID_REQUEST),
    "unknown_upstream": (404, protocol.INVALID_REQUEST),
    "unknown_method": (200, protocol.METHOD_NOT_FOUND),
    "insufficient_scope": (403, protocol.APP_UNAUTHENTICATED),
    "issuer_unavailable": (503, protocol.APP_UNAVAILABLE),
    "overloaded": (503, protocol.APP_UNAVAILABLE),
    "shutting_down": (503, protocol.APP_UNAVAILABLE),
    "gateway_error": (500, -32603),
}
_UNAUTHENTICATED: Final = (401, protocol.APP_UNAUTHENTICATED)


class Reply(NamedTuple):
    """A complete answer: one JSON-RPC message, or nothing for a notification."""

    body: bytes
    status: int = 200
    headers: Headers = ()


class Rejected(Refused):
    """A refusal in the words of the transport.

    ``message`` is shown to the client and must not repeat argument values; ``status`` and ``rpc`` default
    to the table of this module.
    """

    def __init__(
        self,
        code: str,
        message: str = "",
        *,
        status: int | None = None,
        rpc: int | None = None,
        data: dict[str, Any] | None = None,
        headers: Headers = (),
    ) -> None:
        super().__init__(code, message)
        default_status, default_rpc = _STATUS.get(code, _UNAUTHENTICATED)
        self.status = default_status if status is None else status
        self.rpc = default_rpc if rpc is None else rpc
        self.message = message or REASONS[code].message
        self.data = data
        self.headers = headers


def from_refused(refused: Refused) -> Rejected:
    """The transport's words for a refusal of another part; its detail stays with the operators."""
    if isinstance(refused, Rejected):
        return refused
    if isinstance(refused, NotAdmitted):
        return Rejected(refused.code, refused.message, status=refused.status, headers=refused.headers)
    challenge = refused.challenge if isinstance(refused, Unauthenticated) else ""
    if not challenge and refused.code not in _STATUS:
        challenge = "Bearer" if refused.code == "no_credential" else 'Bearer error="invalid_token"'
    return Rejected(refused.code, headers=((b"www-authenticate", challenge.encode()),) if challenge else ())


def result(id_json: bytes, result_json: bytes) -> bytes:
    return b"".join((b'{"jsonrpc":"2.0","id":', id_json, b',"result":', result_json, b"}"))


def error(id_json: bytes, error_json: bytes) -> bytes:
    return b"".join((b'{"jsonrpc":"2.0","id":', id_json, b',"error":', error_json, b"}"))


def member(body: bytes, id_json: bytes) -> bytes:
    """``"result":…`` or ``"error":…`` of a message that this module made, byte for byte."""
    return body[len(b'{"jsonrpc":"2.0","id":,') + len(id_json) : -1]


def rejection(rejected: Rejected, id_json: bytes = b"null") -> Reply:
    """The whole answer to a refused request; every one says its reason code and a remedy in ``data``."""
    reason = REASONS[rejected.code]
    data = {"reason": rejected.code, "remedy": reason.remedy, **(rejected.data or {})}
    body = orjson.dumps({"code": rejected.rpc, "message": rejected.message, "data": data})
    return Reply(error(id_json, body), rejected.status, rejected.headers)
