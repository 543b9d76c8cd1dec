"""One operation and the decided arguments as the bytes of an HTTP request, or not at all.

The request is a function of the operation, the configured headers and the arguments. What an argument cannot
say: where the request goes (its path segments are fixed in number and none is ``.`` or ``..``), which other
parameters there are, what a header line ends with. Where a value has two readings for the server, such as a
comma within a list that is joined by commas, the call is refused and nothing is sent.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from typing import Final
from urllib.parse import quote, unquote

import orjson

from gateway import strictjson
from gateway.errors import BadArguments
from gateway.model import Json
from gateway.upstreams.openapi.operations import Operation
from gateway.upstreams.openapi.parameters import Parameter
from gateway.upstreams.openapi.schema import clean

MAX_TARGET: Final = 8000  # bytes of path and query; servers commonly take 8 KB
MAX_HEADERS: Final = 16_000  # bytes of the headers that arguments give
_ERRORS: Final = 3  # told at once
_DECODINGS: Final = 3  # how often a server and the proxies before it may decode a path

_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f]")
_HEADER: Final = re.compile(r"([\x21-\x7e]([\x20-\x7e]*[\x21-\x7e])?)?")
_COOKIE: Final = re.compile(r"[!#$&'()*+\-./0-9:<=>?@A-Z\[\]^_`a-z{|}~]*")  # RFC 6265, 4.1.1, without '%'

_Text = str | list[str] | list[tuple[str, str]]
"""A value whose parts are text: single, a list, or an object."""


def request(operation: Operation, args: Mapping[str, Json], base: str, fixed: bytes) -> bytes:
    """The whole request; raises ``BadArguments`` when there is none that says exactly this.

    ``base`` is the path of the configured URL, ``fixed`` the header lines that are the same for all calls.
    """
    _fits(operation, args)
    try:
        target = base + _path(operation, args) + _query(operation.query, args)
        headers = _headers(operation, args)
    except UnicodeEncodeError:
        raise _bad("text must be valid Unicode") from None
    if len(target) > MAX_TARGET:
        raise _bad(f"the path and query would be longer than {MAX_TARGET} bytes; send less")
    if len(headers) > MAX_HEADERS:
        raise _bad(f"the headers would be longer than {MAX_HEADERS} bytes; send less")
    body = b""
    if operation.body_type and "body" in args:
        body = strictjson.canonical(args["body"])
        headers += f"content-type: {operation.body_type}\r\n"
    if body or operation.method not in ("GET", "DELETE"):
        headers += f"content-length: {len(body)}\r\n"
    head = f"{operation.method} {target} HTTP/1.1\r\naccept: {operation.accept}\r\n{headers}"
    return b"%b%b\r\n%b" % (head.encode("ascii"), fixed, body)


def _fits(operation: Operation, args: Mapping[str, Json]) -> None:
    """Whether the arguments are those the schema asks for; says what is wrong without their values."""
    if operation.fits.is_valid(args):
        return
    said = []
    for error in operation.fits.iter_errors(args):
        where = "/".join(str(part) for part in error.instance_path)
        said.append(f"{f'{where}: ' if where else ''}{error.message}")
        if len(said) == _ERRORS:
            break
    raise _bad(clean("; ".join(said), 400).replace("\n", " "))


# ------------------------------------------------------------------------------------------------ places


def _path(operation: Operation, args: Mapping[str, Json]) -> str:
    parts = []
    for part in operation.path:
        if isinstance(part, str):
            parts.append(part)
            continue
        value = _value(part, args[part.arg])
        if not value:
            raise _bad(f"'{part.arg}' must not be empty: it is a part of the path")
        parts.append(_segment(part, value))
    path = "".join(parts)
    # A value may stand beside others in one segment: what they make together must not lead elsewhere.
    if any(_leads_elsewhere(segment) for segment in path.split("/")):
        raise _bad("a path value may not make a '.' or '..'")
    return path


def _segment(part: Parameter, value: _Text) -> str:
    if part.style == "label":
        return "".join(f".{_encoded(part, each)}" for each in _listed(part, value, "."))
    if part.style == "matrix":
        name = _quoted(part.name)
        if isinstance(value, list) and part.explode:
            return "".join(f";{name}={_encoded(part, each)}" for each in _listed(part, value, ";"))
        return f";{name}=" + ",".join(_encoded(part, each) for each in _listed(part, value, ","))
    if isinstance(value, list) and part.explode and value and isinstance(value[0], tuple):
        pairs = [_joinable(part, each, ",=") for each in value]
        return ",".join(f"{_encoded(part, key)}={_encoded(part, text)}" for key, text in pairs)
    return ",".join(_encoded(part, each) for each in _listed(part, value, ","))


def _encoded(part: Parameter, text: str) -> str:
    if _CONTROL.search(text):
        raise _bad(f"'{part.arg}' must not have control characters: it is a part of the path")
    if any(_leads_elsewhere(segment) for segment in re.split(r"[/\\]", _decoded(text))):
        raise _bad(f"'{part.arg}' must not lead to another path")
    return _quoted(text)


def _decoded(text: str) -> str:
    """What is left when everybody on the way has decoded it, some of them once too often."""
    for _ in range(_DECODINGS):
        once = unquote(text)
        if once == text:
            break
        text = once
    return text


def _leads_elsewhere(segment: str) -> bool:
    # Some servers cut a segment at ';' before they look at it ("..;x").
    return segment.partition(";")[0] in (".", "..")


def _query(parameters: Iterable[Parameter], args: Mapping[str, Json]) -> str:
    pairs: list[str] = []
    for part in parameters:
        if part.arg not in args:
            continue
        name = _quoted(part.name)
        value = _value(part, args[part.arg])
        if isinstance(value, str):
            pairs.append(f"{name}={_quoted(value)}")
        elif not value:
            continue  # an empty list is the same as none (RFC 6570, 3.2.1)
        elif isinstance(value[0], tuple) and part.style == "deepObject":
            pairs += [f"{name}%5B{_quoted(key)}%5D={_quoted(text)}" for key, text in _deep(part, value)]
        elif isinstance(value[0], tuple) and part.explode:
            pairs += [f"{_quoted(key)}={_quoted(text)}" for key, text in _declared(part, value)]
        elif part.explode:
            pairs += [f"{name}={_quoted(text)}" for text in _listed(part, value, "")]
        else:
            mark, sent = _JOINED[part.style]
            joined = sent.join(_quoted(text) for text in _listed(part, value, mark))
            pairs.append(f"{name}={joined}")
    return "?" + "&".join(pairs) if pairs else ""


_JOINED: Final = {"form": (",", ","), "spaceDelimited": (" ", "%20"), "pipeDelimited": ("|", "%7C")}


def _headers(operation: Operation, args: Mapping[str, Json]) -> str:
    lines = []
    for part in operation.headers:
        if part.arg not in args:
            continue
        value = _value(part, args[part.arg], ascii_json=True)
        if isinstance(value, list) and part.explode and value and isinstance(value[0], tuple):
            text = ",".join("=".join(_joinable(part, each, ",=")) for each in value)
        else:
            text = ",".join(_listed(part, value, ","))
        # A line break would begin another header, and white space at the ends is lost on the way.
        if not _HEADER.fullmatch(text):
            raise _bad(f"'{part.arg}' must be printable ASCII without spaces at its ends: it is a header")
        lines.append(f"{part.name}: {text}\r\n")
    crumbs = []
    for part in operation.cookies:
        if part.arg not in args:
            continue
        value = _value(part, args[part.arg])
        if not isinstance(value, str) or not _COOKIE.fullmatch(value):
            raise _bad(f"'{part.arg}' has characters that a cookie cannot carry")
        crumbs.append(f"{part.name}={value}")
    if crumbs:
        lines.append(f"cookie: {'; '.join(crumbs)}\r\n")
    return "".join(lines)


# ------------------------------------------------------------------------------------------------ values


def _value(part: Parameter, value: Json, *, ascii_json: bool = False) -> _Text:
    """``value`` as text: itself, of each item, or of each property."""
    if part.json:
        if ascii_json:
            return json.dumps(value, ensure_ascii=True, sort_keys=True, separators=(",", ":"))
        return strictjson.canonical(value).decode()
    if isinstance(value, list):
        return [_scalar(part, each) for each in value]
    if isinstance(value, dict):
        return [(key, _scalar(part, each)) for key, each in sorted(value.items())]
    return _scalar(part, value)


def _scalar(part: Parameter, value: Json) -> str:
    if isinstance(value, str):
        value.encode()
        return value
    if value is None or isinstance(value, list | dict):
        raise _bad(f"'{part.arg}' must be text, a number or true or false, or a list or object of these")
    return orjson.dumps(value).decode()


def _listed(part: Parameter, value: _Text, mark: str) -> list[str]:
    """The texts that are joined by ``mark``, in turn."""
    if isinstance(value, str):
        return [value]
    flat: list[str] = []
    for each in value:
        flat += _joinable(part, each, mark) if isinstance(each, tuple) else _joinable(part, (each,), mark)
    return flat


def _joinable(part: Parameter, texts: tuple[str, ...], marks: str) -> tuple[str, ...]:
    """Refuse what a server that splits after decoding would take for two values."""
    for text in texts:
        if any(mark in text for mark in marks) or (marks and not text):
            raise _bad(f"'{part.arg}' may not have empty parts, or parts with any of {' '.join(marks)!r}")
    return texts


def _declared(part: Parameter, value: _Text) -> list[tuple[str, str]]:
    """The properties of an object that become parameters: only those that the document names."""
    pairs = [each for each in value if isinstance(each, tuple)]
    if any(key not in part.keys for key, _ in pairs):
        raise _bad(f"'{part.arg}' may only have the properties that its schema names")
    return pairs


def _deep(part: Parameter, value: _Text) -> list[tuple[str, str]]:
    pairs = [each for each in value if isinstance(each, tuple)]
    if any("[" in key or "]" in key or not key for key, _ in pairs):
        raise _bad(f"'{part.arg}' may not have properties with brackets")
    return pairs


def _quoted(text: str) -> str:
    return quote(text, safe="")


def _bad(remedy: str) -> BadArguments:
    return BadArguments(remedy)
