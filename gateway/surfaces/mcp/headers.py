"""The protocol's own headers must repeat the body (2026-07-28, "Request Metadata").

A load balancer or another gateway may have routed, limited or allowed this request by its headers. The
body is what is decided and sent, so a header that says something else is an attempt, or a fault, to get
one thing through the first reader and another through the second.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterable, Mapping
from typing import Any, Final, NamedTuple

import orjson

from gateway.surfaces.doors import Heads
from gateway.surfaces.mcp import protocol
from gateway.surfaces.mcp.envelope import Rejected

NAMED: Final = {
    "tools/call": "name", "prompts/get": "name", "resources/read": "uri",
    "tasks/get": "taskId", "tasks/update": "taskId", "tasks/cancel": "taskId",
}  # fmt: skip
"""Methods whose ``Mcp-Name`` repeats a parameter, and which one."""

_OPTIONAL: Final = "tasks/"
"""Begins the methods whose ``Mcp-Name`` is for those who route, so that clients need not send it to us."""

_TOKEN: Final = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")  # RFC 9110, section 5.6.2
_DECIMAL: Final = re.compile(r"-?[0-9]{1,40}(\.0+)?")
_SENTINEL: Final = (b"=?base64?", b"?=")


def check(heads: Heads, method: str, params: Mapping[str, Any], *, required: bool) -> None:
    """Compare ``Mcp-Method`` and ``Mcp-Name`` with the body.

    Modern requests must have them (``required``); in a legacy request they are unusual, and checked when
    they are there.
    """
    said = heads.get(protocol.H_METHOD)
    if said is None:
        if required:
            raise Rejected("header_mismatch", "The Mcp-Method header is missing.")
    elif said != method.encode():
        raise Rejected("header_mismatch", "The Mcp-Method header does not match the body's method.")
    said = heads.get(protocol.H_NAME)
    key = NAMED.get(method)
    if key is None:
        return
    value = params.get(key)
    if said is None:
        if required and value is not None and not method.startswith(_OPTIONAL):
            raise Rejected("header_mismatch", "The Mcp-Name header is missing.")
    elif not _repeats(said, value):
        raise Rejected("header_mismatch", f"The Mcp-Name header does not match the body's '{key}'.")


def _repeats(said: bytes, value: Any) -> bool:
    # The common case first: a plain name, written as it is.
    if isinstance(value, str) and value.isascii() and not said.startswith(_SENTINEL[0]):
        return said == value.encode()
    return bool(decode(said) == value)


def decode(value: bytes) -> str | None:
    """The text of a header value; ``None`` for one that no conforming client writes."""
    if value.startswith(_SENTINEL[0]) and value.endswith(_SENTINEL[1]) and len(value) >= 11:
        payload = value[9:-2]
        try:
            decoded = base64.b64decode(payload, validate=True)
            # Two spellings of one value are two values to a reader that compares bytes.
            return decoded.decode() if base64.b64encode(decoded) == payload else None
        except (binascii.Error, UnicodeDecodeError):
            return None
    try:
        text = value.decode("ascii")
    except UnicodeDecodeError:
        return None
    return text if text.replace("\t", " ").isprintable() else None


class ParamHeader(NamedTuple):
    """A property of a tool's schema that clients repeat in a header (``x-mcp-header``)."""

    header: bytes
    path: tuple[str, ...]
    integer: bool


def param_headers(definition_json: bytes) -> tuple[ParamHeader, ...]:
    """The annotated properties of a tool definition, along chains of ``properties`` only.

    A definition with an invalid annotation gives none: conforming clients drop such a tool.
    """
    if b"x-mcp-header" not in definition_json:
        return ()
    try:
        definition = orjson.loads(definition_json)
    except orjson.JSONDecodeError:
        return ()
    found: list[ParamHeader] = []
    schema = definition.get("inputSchema") if isinstance(definition, dict) else None
    pending: list[tuple[tuple[str, ...], Any]] = [((), schema)]
    while pending:
        path, node = pending.pop()
        if not isinstance(node, dict):
            continue
        token = node.get("x-mcp-header")
        if token is not None:
            kind = node.get("type")
            known = kind in ("string", "integer", "boolean") if isinstance(kind, str) else False
            if not path or not known or not isinstance(token, str) or not _TOKEN.fullmatch(token):
                return ()
            found.append(ParamHeader(protocol.PARAM_PREFIX + token.lower().encode(), path, kind == "integer"))
        properties = node.get("properties")
        if isinstance(properties, dict):
            pending.extend(((*path, name), child) for name, child in properties.items())
    return tuple(found) if len({param.header for param in found}) == len(found) else ()


def check_params(
    expected: tuple[ParamHeader, ...], headers: Iterable[tuple[bytes, bytes]], arguments: Any
) -> None:
    """Compare ``Mcp-Param-*`` headers with the arguments; headers no schema names are ignored."""
    given: dict[bytes, bytes] = {}
    doubled: set[bytes] = set()
    for name, value in headers:
        if name.startswith(protocol.PARAM_PREFIX):
            if name in given:
                doubled.add(name)
            given[name] = value
    for param in expected:
        shown = param.header.decode()
        if param.header in doubled:
            raise Rejected("header_mismatch", f"The {shown} header appears more than once.")
        said = given.get(param.header)
        value = _at(arguments, param.path)
        text = _rendered(value)
        if said is None:
            if text is not None:
                raise Rejected("header_mismatch", f"The {shown} header is missing.")
        elif text is None or not _same(param, decode(said), value, text):
            raise Rejected("header_mismatch", f"The {shown} header does not match its argument.")


def _at(node: Any, path: tuple[str, ...]) -> Any:
    for key in path:
        if not isinstance(node, dict):
            return None
        node = node.get(key)
    return node


def _rendered(value: Any) -> str | None:
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value) if isinstance(value, str | int | float) else None


def _same(param: ParamHeader, said: str | None, value: Any, text: str) -> bool:
    if said is None:
        return False
    if param.integer and not isinstance(value, bool | str) and value == int(value):
        # "42.0" and 42 are the same integer (specification: compare numerically).
        return _DECIMAL.fullmatch(said) is not None and int(said.partition(".")[0]) == int(value)
    return said == text
