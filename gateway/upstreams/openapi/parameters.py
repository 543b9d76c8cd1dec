"""The parameters of an operation, and what of them has a faithful spelling in HTTP."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from typing import Final, Literal

import msgspec

from gateway.model import Json
from gateway.upstreams.openapi.schema import Schemas, Unsupported, shown

Location = Literal["path", "query", "header", "cookie"]
Style = Literal["simple", "label", "matrix", "form", "spaceDelimited", "pipeDelimited", "deepObject"]

STYLES: Final[dict[str, tuple[Style, ...]]] = {
    "path": ("simple", "label", "matrix"),
    "query": ("form", "spaceDelimited", "pipeDelimited", "deepObject"),
    "header": ("simple",),
    "cookie": ("form",),
}
_TOKEN: Final = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]{1,100}")
_WORD: Final = r"[A-Za-z0-9.+*_-]{1,80}"
MEDIA: Final = re.compile(f"{_WORD}/{_WORD}(; ?{_WORD}={_WORD})*")
_LITERAL: Final = re.compile(r"([A-Za-z0-9\-._~!$&'()*+,;=:@/]|%(?!2[eEfF]|5[cC]|00)[0-9A-Fa-f]{2})*")
_PLACE: Final = re.compile(r"\{([^{}]*)\}")
_PRIMITIVE: Final = frozenset(("string", "number", "integer", "boolean", "null"))

# A value of the agent's must not say where a request goes, how its body is read, who sends it, or that it is
# another method. OpenAPI itself ignores the first three (Parameter Object: name).
_IGNORED_HEADERS: Final = re.compile(
    r"accept|content-type|authorization|"
    r"accept-.*|content-.*|host|connection|keep-alive|te|trailer|transfer-encoding|upgrade|expect|cookie|"
    r"proxy-.*|forwarded|x-forwarded-.*|x-real-ip|x-original-url|x-rewrite-url|"
    r"x-http-method.*|x-method-override|traceparent|tracestate"
)


class Parameter(msgspec.Struct, frozen=True, kw_only=True):
    """One value of a request that an argument gives."""

    arg: str  # name of the argument
    name: str  # name on the wire
    location: Location
    style: Style
    explode: bool
    json: bool  # carried as JSON text (``content`` instead of ``schema``)
    keys: frozenset[str]  # properties the schema declares; the only ones an exploded object may have


def ignored(place: str, name: str, own_headers: frozenset[str]) -> bool:
    """Whether no argument may set it; ``own_headers`` are those the operator configured."""
    if place == "cookie":
        return "cookie" in own_headers
    if place != "header":
        return False
    return name.lower() in own_headers or _IGNORED_HEADERS.fullmatch(name.lower()) is not None


def parameter(
    schemas: Schemas, arg: str, place: str, name: str, said: Mapping[str, Json]
) -> tuple[Parameter, Json]:
    """One parameter and its schema."""
    if place in ("header", "cookie") and not _TOKEN.fullmatch(name):
        raise Unsupported(f"the {place} {shown(name)}, which is no token")
    default: Style = "form" if place in ("query", "cookie") else "simple"
    style = said.get("style", default)
    if style not in STYLES[place]:
        raise Unsupported(f"the style {shown(style)} of {place} parameter {shown(name)}")
    explode = said.get("explode", style == "form")
    schema = said.get("schema")
    content = said.get("content")
    as_json = schema is None and content is not None
    if as_json:
        media, schema = json_content(content)
        if not media or place == "cookie":
            raise Unsupported(f"{place} parameter {shown(name)} that is not text or JSON")
    schema = {} if schema is None else schema
    keys = frozenset() if as_json else _faithful(schemas, place, name, str(style), explode is True, schema)
    made = Parameter(
        arg=arg,
        name=name,
        location=place,  # type: ignore[arg-type]  # one of STYLES
        style=style,
        explode=explode is True,
        json=as_json,
        keys=keys,
    )
    return made, schema


def _faithful(
    schemas: Schemas, place: str, name: str, style: str, explode: bool, schema: Json
) -> frozenset[str]:
    """Refuse what the style has no spelling for; the properties that an object may have."""
    what = f"{place} parameter {shown(name)}"
    types = schemas.types(schema)
    if not types - _PRIMITIVE:
        if types and style in ("spaceDelimited", "pipeDelimited", "deepObject"):
            raise Unsupported(f"style {style} of {what}, which is a single value")
        return frozenset()
    if place == "cookie":
        raise Unsupported(f"{what}, which is a list or an object")
    schema = schemas.resolved(schema)
    if "array" in types:
        if schemas.types(schema.get("items")) - _PRIMITIVE:
            raise Unsupported(f"{what}, which is a list of lists or objects")
        if style == "deepObject" or (style == "label" and not explode):
            raise Unsupported(f"style {style} of {what}, which is a list")
    if "object" not in types:
        return frozenset()
    if style in ("spaceDelimited", "pipeDelimited", "label", "matrix"):
        raise Unsupported(f"style {style} of {what}, which is an object")
    properties = schema.get("properties")
    properties = properties if isinstance(properties, Mapping) else {}
    if any(schemas.types(each) - _PRIMITIVE for each in properties.values()):
        raise Unsupported(f"{what}, which is an object of lists or objects")
    if style == "form" and explode and not properties:
        raise Unsupported(f"{what}, an object whose keys would become parameters of their own")
    return frozenset(properties)


def no_clash(query: tuple[Parameter, ...]) -> None:
    """No object's keys may be read as another parameter."""
    names = [each.name for each in query]
    for each in query:
        if each.style == "form" and each.explode:
            names += each.keys
        if each.style == "deepObject":
            names += [other.name for other in query if other.name.startswith(f"{each.name}[")]
    twice = next((name for name, count in Counter(names).items() if count > 1), None)
    if twice is not None:
        raise Unsupported(f"the query parameter {shown(twice)} in two meanings")


def template(path: str, parameters: tuple[Parameter, ...]) -> tuple[str | Parameter, ...]:
    """Literal parts and parameters in turn; every place has its parameter and every parameter its place."""
    if not path.startswith("/"):
        raise Unsupported("a path that begins with '/'")
    by_name = {each.name: each for each in parameters}
    parts: list[str | Parameter] = []
    used: list[str] = []
    for number, part in enumerate(_PLACE.split(path)):
        if number % 2:
            if part not in by_name:
                raise Unsupported(f"the path parameter {shown(part)}, which is not described")
            used.append(part)
            parts.append(by_name[part])
        elif not _LITERAL.fullmatch(part):
            raise Unsupported(f"the path {shown(path)}, which is not plain")
        elif part:
            parts.append(part)
    if sorted(used) != sorted(by_name):
        raise Unsupported("path parameters that are in the path once each")
    if any(segment in (".", "..") for segment in path.split("/")):
        raise Unsupported("a path without '.' and '..'")
    return tuple(parts)


def json_content(content: Json) -> tuple[str, Json]:
    """The first JSON media type and its schema; ("", None) when there is none."""
    if not isinstance(content, Mapping):
        return "", None
    for media in sorted(content, key=lambda each: each != "application/json"):
        kind = media.partition(";")[0].strip().lower()
        if (kind == "application/json" or kind.endswith("+json")) and MEDIA.fullmatch(media):
            said = content[media]
            return media, said.get("schema") if isinstance(said, Mapping) else None
    return "", None
