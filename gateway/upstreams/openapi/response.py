"""What an HTTP API answered, as the result of a tool.

A status is the server's word on the effect of a call: 2xx it was done; 4xx (but 408) it was not, and the
agent may read why; anything else to a request that may change something leaves it in doubt.
"""

from __future__ import annotations

from base64 import b64encode
from http import HTTPStatus
from typing import Any, Final

import orjson

from gateway import strictjson
from gateway.errors import InDoubt, Refused
from gateway.model import Json
from gateway.upstreams.openapi.operations import Operation
from gateway.upstreams.wire import BodyTooLarge, Response

MAX_BINARY: Final = 1024 * 1024
MAX_ERROR_TEXT: Final = 8 * 1024  # characters of a body that says what went wrong
META_STATUS: Final = "http/status"

_TEXTUAL: Final = (b"application/xml", b"application/yaml", b"application/javascript", b"application/x-yaml")


def result(operation: Operation, response: Response, body: bytes) -> bytes:
    """The result; raises ``InDoubt`` when the answer does not say whether the call was carried out."""
    status = response.status
    if 200 <= status < 300:
        return _done(operation, response, body)
    if not operation.safe and not (400 <= status < 500 and status != 408):
        raise InDoubt("upstream_bad_answer", f"HTTP {status}")
    return _not_done(status, response.media_type, body)


def _done(operation: Operation, response: Response, body: bytes) -> bytes:
    made: dict[str, Any] = {}
    media = response.media_type
    text = _text(media, body)
    if not body:
        made["content"] = [_said(f"Done (HTTP {response.status}, without content).")]
    elif text is not None:
        made["content"] = [_said(text)]
    else:
        if len(body) > MAX_BINARY:
            raise BodyTooLarge("result_too_large", f"{len(body)} bytes that are no text")
        resource = {
            "uri": f"urn:wardgate:answer:{operation.tool}",
            "mimeType": media.decode("latin-1")[:100] if media.isascii() else "application/octet-stream",
            "blob": b64encode(body).decode(),
        }
        made["content"] = [{"type": "resource", "resource": resource}]
    if operation.output is not None and _is_json(media):
        value = _object(body)
        if value is not None and operation.output.is_valid(value):
            made["structuredContent"] = value
    return orjson.dumps(made)


def _not_done(status: int, media: bytes, body: bytes) -> bytes:
    try:
        phrase = f" {HTTPStatus(status).phrase}"
    except ValueError:
        phrase = ""
    lead = f"HTTP {status}{phrase}."
    if 300 <= status < 400:
        # Where to is not said: a server must not send the agent, or anybody who reads this, elsewhere.
        lead += " The API redirects, and redirects are not followed."
        body = b""
    elif status >= 500 or status == 408:
        lead += " The API failed; the fault is not in the call."
    content = [_said(lead)]
    text = _text(media, body) if body else ""
    if text and len(text) <= MAX_ERROR_TEXT:
        content.append(_said(text))  # of its own, so that policy can read it where it is JSON
    elif text:
        content.append(_said(f"(The text of {len(text)} characters is left out.)"))
    return orjson.dumps({"content": content, "isError": True, "_meta": {META_STATUS: status}})


def _said(text: str) -> dict[str, str]:
    return {"type": "text", "text": text}


def _is_json(media: bytes) -> bool:
    return media == b"application/json" or media.endswith(b"+json")


def _text(media: bytes, body: bytes) -> str | None:
    """The body as text; ``None`` for what is declared as something else or is not UTF-8."""
    textual = not media or media.startswith(b"text/") or media.endswith(b"+xml") or media in _TEXTUAL
    if not textual and not _is_json(media) and media != b"application/x-www-form-urlencoded":
        return None
    try:
        return body.decode("utf-8-sig")
    except UnicodeDecodeError:
        return None


def _object(body: bytes) -> dict[str, Json] | None:
    """A JSON object that means the same to every reader; else it stays text."""
    try:
        value = strictjson.parse(body)
    except Refused:
        return None
    return value if isinstance(value, dict) else None
