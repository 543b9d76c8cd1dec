"""The METADATA comment above a module's package: who it is, when it applies, what it may say.

The form is OPA's (annotations of scope ``package``): a comment block that starts with ``# METADATA`` and
holds YAML. Our keys stand under ``custom`` and unknown ones are refused: a misspelt ``scope`` that is
silently ignored would be a rule that never runs.
"""

from __future__ import annotations

import re
from typing import Annotated, Any, Final, Literal, get_args

import msgspec
import yaml

from gateway.model import Kind, Mode
from gateway.reasons import REASONS

Phase = Literal["call", "result", "list", "trust"]
Severity = Literal["low", "medium", "high", "critical"]
PHASES: Final[tuple[Phase, ...]] = ("call", "result", "list")
"""Those of a call; ``trust`` is asked about an agent and knows no call."""

SEVERITY_RANK: Final[dict[str, int]] = {name: rank for rank, name in enumerate(get_args(Severity))}

_Glob = Annotated[str, msgspec.Meta(min_length=1, max_length=200)]
_Code = Annotated[str, msgspec.Meta(pattern=r"^[a-z][a-z0-9_]{1,62}$")]
_Id = Annotated[str, msgspec.Meta(pattern=r"^[a-z0-9][a-z0-9_.-]{0,62}$")]

_Owner = Annotated[str, msgspec.Meta(min_length=1, max_length=200)]


class Scope(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which targets a module looks at. Each given list must match; an absent one matches everything.

    ``tools`` are globs over ``upstream/name`` in which ``*`` stands for any run of characters; ``effects``
    matches a tool that has any of them. ``arguments`` matches a call with an argument of one of these names,
    at any depth and in any case. In both ``data.hazards.sql.arguments`` stands for that list in the data, or
    for the keys of that object. ``confidentiality`` matches a tool whose results have at least that;
    ``output_schema`` one that declares what its results look like.
    """

    tools: tuple[_Glob, ...] = ()
    kinds: tuple[Kind, ...] = ()
    effects: tuple[str, ...] = ()
    risks: tuple[Literal["read", "reversible", "compensable", "irreversible"], ...] = ()
    arguments: tuple[_Glob, ...] = ()
    confidentiality: Annotated[int, msgspec.Meta(ge=0, le=3)] = 0
    output_schema: bool = False


class ModeFor(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Another mode for some tools; an absent scope is all of them."""

    mode: Mode
    scope: Scope = Scope()


class Custom(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    id: _Id
    owner: _Owner  # the team that answers for it
    severity: Severity
    codes: tuple[_Code, ...]
    mode: Mode = "enforce"
    modes: tuple[ModeFor, ...] = ()
    phase: Phase = "call"
    scope: Scope = Scope()


class Metadata(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    title: str
    custom: Custom
    description: str = ""
    scope: Literal["package"] = "package"
    authors: tuple[Any, ...] = ()
    organizations: tuple[str, ...] = ()
    related_resources: tuple[Any, ...] = ()
    schemas: tuple[Any, ...] = ()  # of 'opa check --schema'; the gate has the schema of the input built in


class MetadataError(ValueError):
    """``line`` is where the block starts, counted from 1."""

    def __init__(self, line: int, message: str) -> None:
        super().__init__(message)
        self.line = line


def parse(text: str) -> Metadata:
    """Metadata of a rule module; ``MetadataError`` says what is missing or wrong."""
    line, block = _block(text)
    if block is None:
        raise MetadataError(line, "a rule module needs a '# METADATA' block above its package")
    try:
        raw = yaml.safe_load(block)
    except yaml.YAMLError as error:
        raise MetadataError(line, f"METADATA is not valid YAML: {_one_line(error)}") from error
    try:
        found = msgspec.convert(raw, Metadata, strict=True)
    except msgspec.ValidationError as error:
        raise MetadataError(line, f"METADATA: {error}") from error
    for code in found.custom.codes:
        if code in REASONS:  # a rule could otherwise pass its own refusal off as a fault of the gateway
            raise MetadataError(line, f"METADATA: the code '{code}' belongs to the gateway; choose another")
    scopes = (found.custom.scope, *(entry.scope for entry in found.custom.modes))
    for glob in (glob for scope in scopes for glob in scope.tools):
        if "/" not in glob and glob != "*" and not glob.startswith("data."):
            raise MetadataError(
                line, f"METADATA: scope.tools '{glob}' must be 'upstream/name', as in 'git/*'"
            )
    return found


def _block(text: str) -> tuple[int, str | None]:
    """The YAML of the comment block that ends at the package line, and the line it starts at."""
    lines = text.splitlines()
    package = next((number for number, line in enumerate(lines) if re.match(r"package\b", line)), 0)
    start = package
    while start > 0 and lines[start - 1].startswith("#"):
        start -= 1
    for number in range(start, package):
        if lines[number].strip() == "# METADATA":
            body = lines[number + 1 : package]
            return number + 1, "\n".join(line[1:].removeprefix(" ") for line in body)
    return package + 1, None


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())
