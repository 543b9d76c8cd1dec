"""The operations of an OpenAPI document, as tools with one typed set of arguments each.

What cannot be offered faithfully is left out as a whole and reported: an operation whose parameter would be
dropped or guessed at is not the operation that the document describes.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any, Final

import jsonschema_rs
import msgspec
import orjson

from gateway.model import Json
from gateway.upstreams.openapi.parameters import (
    MEDIA,
    STYLES,
    Parameter,
    ignored,
    json_content,
    no_clash,
    parameter,
    template,
)
from gateway.upstreams.openapi.schema import Converted, Schemas, Unsupported, checked, clean, shown, unseen

MAX_OPERATIONS: Final = 5000
MAX_PARAMETERS: Final = 200  # of one operation
MAX_TOOL_BYTES: Final = 256 * 1024  # the catalog takes no more
MAX_TOTAL_BYTES: Final = 32 * 1024 * 1024
MASK: Final = "the value"  # what error messages say in place of an argument

_METHODS: Final = ("get", "put", "post", "delete", "patch")
_NOT_OFFERED: Final = ("head", "options", "trace")
_TOOL_NAME: Final = re.compile(r"[A-Za-z0-9_.-]{1,128}")


class Operation(msgspec.Struct, frozen=True, kw_only=True):
    """Everything a call needs, worked out once."""

    tool: str
    method: str
    path: tuple[str | Parameter, ...]  # literal parts and values, in turn
    query: tuple[Parameter, ...]
    headers: tuple[Parameter, ...]
    cookies: tuple[Parameter, ...]
    body_type: str  # media type of the JSON body; "" when there is none
    accept: str
    fits: Any  # validator of the arguments
    output: Any  # validator of an answer's JSON, None when none is promised
    definition_json: bytes

    @property
    def safe(self) -> bool:
        """Whether HTTP promises that nothing is changed (RFC 9110, 9.2.1)."""
        return self.method == "GET"


class Api(msgspec.Struct, frozen=True, kw_only=True):
    """What a document offers."""

    title: str
    version: str
    operations: Mapping[str, Operation]  # by tool name, in the order of the document
    problems: tuple[str, ...]


def build(document: Mapping[str, Json], *, own_headers: frozenset[str]) -> Api:
    """All operations of a checked document.

    ``own_headers`` are the names, in lower case, of headers that the operator configured: no argument sets
    one.
    """
    schemas = Schemas(document)
    problems: list[str] = []
    found: list[Operation] = []
    size = 0
    for path, method, item, operation in _each(document, schemas, problems):
        place = f"{method.upper()} {shown(path)}"
        if len(found) + len(problems) >= MAX_OPERATIONS:
            problems.append(f"more than {MAX_OPERATIONS} operations; {place} and all after it are left out")
            break
        try:
            made = _Maker(schemas, path, method, item, operation, own_headers).operation()
            size += len(made.definition_json)
            if size > MAX_TOTAL_BYTES:
                raise Unsupported(f"tools of more than {MAX_TOTAL_BYTES // 1024 // 1024} MiB together")
        except (Unsupported, jsonschema_rs.ValidationError) as error:
            problems.append(f"{place} is left out: {_said(error)}")
        else:
            found.append(made)
    counted = Counter(operation.tool for operation in found)
    for name, count in counted.items():
        if count > 1:
            # Which of them a policy means when it says the name could not be told.
            problems.append(f"{count} operations are left out: they would all be called {shown(name)}")
    info = document.get("info")
    info = info if isinstance(info, Mapping) else {}
    return Api(
        title=clean(str(info.get("title", "")), 200),
        version=clean(str(info.get("version", "")), 100),
        operations={each.tool: each for each in found if counted[each.tool] == 1},
        problems=tuple(problems),
    )


def _said(error: Exception) -> str:
    if isinstance(error, Unsupported):
        return f"it needs {error}"
    return f"a schema is not valid: {clean(getattr(error, 'message', ''), 200)}"


def _each(
    document: Mapping[str, Json], schemas: Schemas, problems: list[str]
) -> Iterator[tuple[str, str, Mapping[str, Json], Mapping[str, Json]]]:
    paths = document.get("paths")
    for path, item in paths.items() if isinstance(paths, Mapping) else ():
        if path.startswith("x-"):
            continue
        try:
            item = schemas.resolved(item)
        except Unsupported as error:
            problems.append(f"{shown(path)} is left out: it needs {error}")
            continue
        problems += [
            f"{method.upper()} {shown(path)} is left out: it is no method of a tool"
            for method in _NOT_OFFERED
            if method in item
        ]
        for method in _METHODS:
            if method not in item:
                continue
            try:
                yield path, method, item, schemas.resolved(item[method])
            except Unsupported as error:
                problems.append(f"{method.upper()} {shown(path)} is left out: it needs {error}")


class _Maker:
    """Makes one operation."""

    def __init__(
        self,
        schemas: Schemas,
        path: str,
        method: str,
        item: Mapping[str, Json],
        operation: Mapping[str, Json],
        own_headers: frozenset[str],
    ) -> None:
        self._schemas = schemas
        self._path = path
        self._method = method
        self._item = item
        self._operation = operation
        self._own_headers = own_headers
        self._converted: dict[str, Converted] = {}  # by argument
        self._required: list[str] = []

    def operation(self) -> Operation:
        body_type = self._body()
        parameters = self._parameters(has_body=bool(body_type))
        by_location = {
            place: tuple(each for each in parameters if each.location == place) for place in STYLES
        }
        query = by_location["query"]
        no_clash(query)
        definition, output = self._definition()
        encoded = orjson.dumps(definition)
        if len(encoded) > MAX_TOOL_BYTES:
            raise Unsupported(f"a definition of more than {MAX_TOOL_BYTES // 1024} KiB")
        return Operation(
            tool=definition["name"],
            method=self._method.upper(),
            path=template(self._path, by_location["path"]),
            query=query,
            headers=by_location["header"],
            cookies=by_location["cookie"],
            body_type=body_type,
            accept=self._accept(),
            fits=validator(definition["inputSchema"]),
            output=validator(output) if output is not None else None,
            definition_json=encoded,
        )

    # -------------------------------------------------------------------------------- definition

    def _definition(self) -> tuple[dict[str, Any], dict[str, Any] | None]:
        summary = self._text("summary", 200)
        described = "\n\n".join(part for part in (summary, self._text("description", 4000)) if part)
        if self._operation.get("deprecated") is True:
            described = f"Deprecated. {described}".rstrip()
        schema: dict[str, Any] = {
            "type": "object",
            "properties": {arg: each.schema for arg, each in self._converted.items()},
            "additionalProperties": False,
        }
        if self._required:
            schema["required"] = self._required
        defs = self._schemas.defs(list(self._converted.values()), "input", MAX_TOOL_BYTES)
        if defs:
            schema["$defs"] = defs
        definition: dict[str, Any] = {
            "name": self._name(),
            "description": described or f"{self._method.upper()} {clean(self._path, 200)}",
            "inputSchema": schema,
            "annotations": _annotations(self._method),
        }
        if summary:
            definition["title"] = summary
        output = self._output()
        # A tool without a promise about its answer is better than no tool.
        if output is not None and len(orjson.dumps(definition)) + len(orjson.dumps(output)) < MAX_TOOL_BYTES:
            definition["outputSchema"] = output
            return definition, output
        return definition, None

    def _text(self, key: str, limit: int) -> str:
        text = self._operation.get(key, self._item.get(key))
        return clean(text, limit) if isinstance(text, str) else ""

    def _name(self) -> str:
        said = self._operation.get("operationId")
        if isinstance(said, str) and _TOOL_NAME.fullmatch(said):
            return said
        if isinstance(said, str) and unseen(said):
            raise Unsupported(f"the operationId {shown(said)}, which has characters that cannot be seen")
        words = re.sub(r"[^A-Za-z0-9]+", "_", self._path).strip("_")
        return f"{self._method}_{words}"[:128].rstrip("_")

    def _output(self) -> dict[str, Any] | None:
        """The schema of the one answer that means success, where it is always an object."""
        successes = self._successes()
        if len(successes) != 1:
            return None
        try:
            schema = json_content(self._schemas.resolved(successes[0]).get("content"))[1]
            if schema is None or not self._schemas.is_object(schema):
                return None
            made = self._schemas.convert(self._schemas.resolved(schema), "output")
            defs = self._schemas.defs([made], "output", MAX_TOOL_BYTES)
        except Unsupported:
            return None
        assert isinstance(made.schema, dict)
        return {**made.schema, "type": "object", **({"$defs": defs} if defs else {})}

    def _successes(self) -> list[Json]:
        responses = self._operation.get("responses")
        if not isinstance(responses, Mapping):
            return []
        return [each for code, each in responses.items() if re.fullmatch(r"2([0-9]{2}|XX)", str(code))]

    def _accept(self) -> str:
        types: list[str] = []
        for success in self._successes():
            try:
                content = self._schemas.resolved(success).get("content")
            except Unsupported:
                continue
            if isinstance(content, Mapping):
                types += [each for each in content if isinstance(each, str) and MEDIA.fullmatch(each)]
        types = list(dict.fromkeys(types))[:5] or ["application/json"]
        return ", ".join((*types, "*/*;q=0.1"))

    # -------------------------------------------------------------------------------- arguments

    def _body(self) -> str:
        """The media type of the JSON body, which is the argument ``body``; "" when there is no body."""
        said = self._operation.get("requestBody")
        if said is None:
            return ""
        body = self._schemas.resolved(said)
        required = body.get("required") is True
        if self._method == "get":  # its body has no meaning (RFC 9110, 9.3.1)
            if required:
                raise Unsupported("a body of a GET")
            return ""
        media, schema = json_content(body.get("content"))
        if not media:
            raise Unsupported("a body that is not JSON")
        self._take("body", {} if schema is None else schema, required=required)
        return media

    def _parameters(self, *, has_body: bool) -> list[Parameter]:
        # Names of headers do not tell cases apart: "X-A" and "x-a" would be two lines of one header.
        said: dict[tuple[str, str], tuple[str, Mapping[str, Json]]] = {}
        for level in (self._item.get("parameters"), self._operation.get("parameters")):
            if level is None:
                continue
            if not isinstance(level, list) or len(level) > MAX_PARAMETERS:
                raise Unsupported(f"parameters that are no list of at most {MAX_PARAMETERS}")
            for each in level:
                found = self._schemas.resolved(each)
                name, place = checked(found.get("name")), str(found.get("in"))
                if place not in STYLES:
                    raise Unsupported(f"a parameter in {shown(place)}")
                said[place, name.lower() if place == "header" else name] = name, found
        kept = [
            (place, name, each)
            for (place, _), (name, each) in said.items()
            if not ignored(place, name, self._own_headers)
        ]
        counted = Counter(name for _, name, _ in kept)
        if has_body:
            counted["body"] += 1
        made = []
        for place, name, each in kept:
            # Names that occur twice say where they belong; a parameter that is alone keeps its own.
            arg = name if counted[name] == 1 else f"{place}.{name}"
            if counted[name] > 1 and arg in counted:
                raise Unsupported(f"the argument {shown(arg)} for two parameters")
            one, schema = parameter(self._schemas, arg, place, name, each)
            required = place == "path" or each.get("required") is True
            self._take(arg, schema, required=required, described=each.get("description"))
            made.append(one)
        return made

    def _take(self, arg: str, schema: Json, *, required: bool, described: Json = None) -> None:
        made = self._schemas.convert(schema, "input")
        if isinstance(described, str) and isinstance(made.schema, dict) and "description" not in made.schema:
            text = clean(described)
            made = Converted({**made.schema, "description": text}, made.refs, made.size + len(text.encode()))
        self._converted[arg] = made
        if required:
            self._required.append(arg)


def validator(schema: dict[str, Any]) -> Any:
    """Checks values in bounded time: nothing is fetched, and patterns may look back only so often."""
    return jsonschema_rs.Draft202012Validator(
        schema,
        mask=MASK,
        offline=True,
        pattern_options=jsonschema_rs.FancyRegexOptions(backtrack_limit=10_000, size_limit=1 << 20),
    )


def _annotations(method: str) -> dict[str, bool]:
    """What HTTP says of the method (RFC 9110, 9.2); hints, as all annotations are."""
    if method == "get":
        return {"readOnlyHint": True, "openWorldHint": True}
    return {
        "readOnlyHint": False,
        "destructiveHint": True,
        "idempotentHint": method in ("put", "delete"),
        "openWorldHint": True,
    }
