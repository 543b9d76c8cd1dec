"""JSON-RPC 2.0 as bytes: requests are spliced together, answers are cut apart.

Arguments and results are never turned into objects here. A typed round trip loses fields it does not know
(measured with the MCP SDK), and what was decided must be what is sent.
"""

from __future__ import annotations

import re
from typing import Any, Final

import msgspec
import orjson

from gateway.errors import InDoubt, UpstreamError
from gateway.model import Json

METHOD_NOT_FOUND: Final = -32601
UNSUPPORTED_VERSION: Final = -32022

ID: Final = re.compile(rb'"id"\s*:\s*(\d{1,18})\b')

_NONE: Final = msgspec.Raw(b"")
_ANSWER: Final = re.compile(rb'"(result|method)"\s*:')


class Declined(UpstreamError):
    """The upstream answered that it will not do it, without a JSON-RPC error (an HTTP 4xx)."""

    def __init__(self, status: int) -> None:
        super().__init__("upstream_error", f"HTTP {status}")
        self.status = status


class Unauthorized(Declined):
    """HTTP 401 to the gateway's own credential, also after it was read again."""

    def __init__(self) -> None:
        super().__init__(401)
        self.code = "credential_refused"


class Request(msgspec.Struct, frozen=True):
    """A request in no particular era. ``params_json`` is the inside of an object: ``"name":"x","…":…``."""

    method: str
    params_json: bytes = b""
    meta_json: bytes = b""  # likewise: members of ``_meta`` that every era gets
    name: str = ""  # mirrored in the ``Mcp-Name`` header
    param_headers: tuple[tuple[str, str], ...] = ()  # mirrored as ``Mcp-Param-*``
    capabilities_json: bytes = b""  # of the client this is done for, an object; "" for none
    log_level: str = ""  # of the log messages that client wants; "" when it did not say
    headers: bytes = b""  # whole header lines that only an HTTP upstream gets, in every era

    def encode(self, number: int, stamp: bytes = b"") -> bytes:
        """The message; ``stamp`` is what the era adds to ``_meta``."""
        meta = stamp + b"," + self.meta_json if stamp and self.meta_json else stamp or self.meta_json
        params = self.params_json
        if meta:
            params = b'%b%b"_meta":{%b}' % (params, b"," if params else b"", meta)
        return b'{"jsonrpc":"2.0","id":%d,"method":"%b","params":{%b}}' % (
            number,
            self.method.encode(),
            params,
        )


class Message(msgspec.Struct, frozen=True):
    """Any JSON-RPC message, with everything but the envelope left as it came."""

    jsonrpc: str
    id: int | str | None = None
    method: str | None = None
    params: msgspec.Raw = _NONE
    result: msgspec.Raw = _NONE
    error: msgspec.Raw = _NONE

    @property
    def is_answer(self) -> bool:
        return self.method is None

    @property
    def result_json(self) -> bytes:
        return bytes(self.result)

    @property
    def error_json(self) -> bytes:
        return bytes(self.error)

    def error_code(self) -> int:
        """The code of the error, 0 when it has none."""
        try:
            value = orjson.loads(self.error_json)
        except orjson.JSONDecodeError:
            return 0
        code = value.get("code") if isinstance(value, dict) else None
        return code if isinstance(code, int) else 0


EMPTY: Final = Message("2.0", result=msgspec.Raw(b"{}"))
"""The answer of a request that is carried out without an answer of the upstream."""

_decoder: Final = msgspec.json.Decoder(Message)


def decode(raw: bytes) -> Message:
    """Parse one message; raises ``InDoubt`` (``upstream_bad_answer``) for anything that is not one.

    Exactly one of result and error, no method beside them: a message that can be read two ways is none.
    """
    try:
        if not raw.isascii():
            raw.decode()
        message = _decoder.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise nonsense(f"not a JSON-RPC message: {error}") from None
    if message.jsonrpc != "2.0":
        raise nonsense("not JSON-RPC 2.0")
    if message.method is None:
        if bool(message.result) == bool(message.error):
            raise nonsense("an answer needs either a result or an error")
    elif message.result or message.error:
        raise nonsense("a message that is both a request and an answer")
    return message


def plain(method: str, params: dict[str, Json] | None = None) -> Request:
    """A request of the gateway's own, such as a list."""
    return Request(method, orjson.dumps(params or {})[1:-1])


def subscribe(uri: str) -> Request:
    return Request("resources/subscribe", b'"uri":%b' % orjson.dumps(uri), name=uri)


def notification(method: str, params: dict[str, Json]) -> bytes:
    return orjson.dumps({"jsonrpc": "2.0", "method": method, "params": params})


def answer(asked: Message, result_json: bytes) -> bytes:
    """The client's answer to a question of the upstream."""
    return b'{"jsonrpc":"2.0","id":%b,"result":%b}' % (orjson.dumps(asked.id), result_json)


def refused(asked: Message, code: int = METHOD_NOT_FOUND, message: str = "Method not found") -> bytes:
    """The answer to a question that nobody answers; ``ping`` needs no client and gets its own."""
    if asked.method == "ping":
        return answer(asked, b"{}")
    error = {"code": code, "message": message}
    return orjson.dumps({"jsonrpc": "2.0", "id": asked.id, "error": error})


def begins_as_answer(beginning: bytes) -> bool:
    """Whether a message too large to be read starts like an answer rather than a notification."""
    found = _ANSWER.search(beginning)
    return found is not None and found.group(1) == b"result"


def loads(raw: bytes) -> Any:
    """Parse a result of the gateway's own requests."""
    try:
        return orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        raise nonsense(f"not valid JSON: {error}") from None


def nonsense(detail: str) -> InDoubt:
    return InDoubt("upstream_bad_answer", detail)
