"""The policy input, version 1: every path a rule may read, in one table.

The gate refuses a rule that reads a path which is not here, or which its phase does not have: in Rego such
a path is silently undefined, and a ``deny`` that depends on it would never fire.
``input.py`` fills these paths; ``docs/reference/policy.md`` is written from this table.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, get_args

import msgspec

from gateway.model import Kind, PinState, Risk
from gateway.output_schema import Fit
from gateway.policy.metadata import PHASES, Phase

VERSION: Final = 1

Path = tuple[str, ...]


Schema = Mapping[str, Any]


class Field(msgspec.Struct, frozen=True):
    """One path of the input. ``open`` means that anything below it may be read.

    ``schema`` is the JSON Schema of its value; an ``optional`` path is absent when there is no value.
    """

    about: str
    phases: tuple[Phase, ...] = PHASES
    open: bool = False
    schema: Schema = {}
    optional: bool = False


_DECIDED: Final[tuple[Phase, ...]] = ("call", "result")
_AFTER: Final[tuple[Phase, ...]] = ("result",)

KINDS: Final = (
    "tool, prompt, resource, completion or subscription; sampling, elicitation or roots when the upstream "
    "asks the client."
)

_TEXT: Final[Schema] = {"type": "string"}
_BOOL: Final[Schema] = {"type": "boolean"}
_COUNT: Final[Schema] = {"type": "integer", "minimum": 0}
_LIST: Final[Schema] = {"type": "array", "items": _TEXT}
_OBJECT: Final[Schema] = {"type": "object"}


def _one_of(*values: str) -> Schema:
    return {"enum": list(values)}


_KIND: Final[Schema] = _one_of(*get_args(Kind))

CONTRACT: Final[dict[Path, Field]] = {
    ("version",): Field("Version of this contract: 1.", schema={"const": VERSION}),
    ("call", "kind"): Field(KINDS, _DECIDED, schema=_KIND),
    ("call", "target"): Field("upstream/name.", _DECIDED, schema=_TEXT),
    ("call", "args"): Field(
        "The arguments, exactly as they will be sent.", _DECIDED, open=True, schema=_OBJECT
    ),
    ("call", "text"): Field(
        "All strings of the arguments, names of fields included, joined by line breaks.",
        _DECIDED,
        schema=_TEXT,
    ),
    ("call", "digest"): Field(
        "SHA-256 of who, what and the arguments.",
        _DECIDED,
        schema={"type": "string", "pattern": "^[0-9a-f]{64}$"},
    ),
    ("call", "session"): Field("The session's id.", _DECIDED, schema=_TEXT),
    ("call", "surface"): Field(
        "Where the call came in: mcp, http, hook, extauthz; verify for a read of the gateway's own that verifies a call.",
        _DECIDED,
        schema=_TEXT,
    ),
    ("call", "modified"): Field("Whether an obligation has changed the arguments.", _DECIDED, schema=_BOOL),
    ("call", "provenance"): Field(
        "Where the values of sink arguments come from, by JSON pointer.", _DECIDED, open=True, schema=_OBJECT
    ),
    ("call", "addressed"): Field(
        "False when the tool's schema names a destination (recipient, url, host, iban) and none is given.",
        _DECIDED,
        schema=_BOOL,
    ),
    ("tool", "kind"): Field(KINDS, schema=_KIND),
    ("tool", "upstream"): Field("Name of the upstream.", schema=_TEXT),
    ("tool", "name"): Field("Name of the tool at its upstream.", schema=_TEXT),
    ("tool", "target"): Field("upstream/name.", schema=_TEXT),
    ("tool", "risk"): Field(
        "read, reversible, compensable or irreversible.", schema=_one_of(*get_args(Risk))
    ),
    ("tool", "effects"): Field("List, such as write, egress, money, delete.", open=True, schema=_LIST),
    ("tool", "domain"): Field("Domain in which trust is earned.", schema=_TEXT),
    ("tool", "idempotent"): Field("Whether the same call twice has one effect.", schema=_BOOL),
    ("tool", "cost_micro_usd"): Field("Cost of one call, integer micro-USD.", schema={"type": "integer"}),
    ("tool", "integrity"): Field(
        "trusted or untrusted, of its results.", schema=_one_of("trusted", "untrusted")
    ),
    ("tool", "confidentiality"): Field(
        "0 to 3, of its results.", schema={"type": "integer", "minimum": 0, "maximum": 3}
    ),
    ("tool", "polling"): Field("Whether repeating it is normal.", schema=_BOOL),
    ("tool", "source"): Field(
        "Where the risk comes from: operator, hint or default.", schema=_one_of("operator", "hint", "default")
    ),
    ("tool", "pin", "state"): Field(
        "pinned, or how its definition differs: new, changed, returned.", schema=_one_of(*get_args(PinState))
    ),
    ("tool", "pin", "flags"): Field(
        "List of suspicious, shadowing, same_name, renamed.", open=True, schema=_LIST
    ),
    ("tool", "extra"): Field("Further manifest fields of the operator.", open=True, schema=_OBJECT),
    ("agent", "id"): Field("The authenticated agent.", schema=_TEXT),
    ("agent", "owner"): Field("The human or team behind it.", schema=_TEXT),
    ("agent", "tenant"): Field("Its tenant.", schema=_TEXT),
    ("agent", "subject"): Field(
        "The verified end user, with the prefix of its issuer (`corp:user-1`); undefined when there is none.",
        schema=_TEXT,
        optional=True,
    ),
    ("agent", "labels"): Field(
        "Labels set by the operator, for the agent or for a scope of its token.", open=True, schema=_LIST
    ),
    ("chain",): Field(
        "Delegation, root first: the actors of a token (RFC 8693), the last of which is the agent.",
        open=True,
        schema=_LIST,
    ),
    ("environment",): Field("Environment of the agent, such as production.", schema=_TEXT),
    ("mandate",): Field("What was delegated and its bounds.", open=True, schema=_OBJECT, optional=True),
    ("trust",): Field("Tier and its reasons.", open=True, schema=_OBJECT, optional=True),
    ("breaker",): Field("State of the breaker.", open=True, schema=_OBJECT, optional=True),
    ("session",): Field(
        "What is known of the session: counts, labels, monitors, progress.",
        _DECIDED,
        open=True,
        schema=_OBJECT,
        optional=True,
    ),
    ("budget",): Field("Budgets and what is left.", _DECIDED, open=True, schema=_OBJECT, optional=True),
    ("approval",): Field(
        "The approval a call is decided again with.", ("call",), open=True, schema=_OBJECT, optional=True
    ),
    ("stale",): Field(
        "Names of facts that are older than they should be.", _DECIDED, open=True, schema=_LIST
    ),
    ("time",): Field("When the call was received, nanoseconds since the epoch.", _DECIDED, schema=_COUNT),
    ("result", "status"): Field(
        "ok, tool_error, rpc_error or input_required.",
        _AFTER,
        schema=_one_of("ok", "tool_error", "rpc_error", "input_required"),
    ),
    ("result", "schema"): Field(
        "How a tool's structuredContent stands to the outputSchema it declares: conforms, violates, missing; or none.",
        _AFTER,
        schema=_one_of(*get_args(Fit)),
    ),
    ("result", "value"): Field("The result or error as JSON.", _AFTER, open=True, schema={}),
    ("result", "text"): Field("All strings of the result, joined by line breaks.", _AFTER, schema=_TEXT),
}

TRUST: Final[dict[Path, Field]] = {
    ("version",): CONTRACT[("version",)],
    ("agent", "id"): CONTRACT[("agent", "id")],
    ("agent", "tenant"): CONTRACT[("agent", "tenant")],
    ("agent", "owner"): Field("The human or team behind it.", schema=_TEXT, optional=True),
    ("agent", "labels"): Field("Labels set by the operator.", open=True, schema=_LIST),
    ("environment",): Field("Environment of the agent.", schema=_TEXT, optional=True),
    ("domain",): Field("The domain it is about.", schema=_TEXT),
    ("trust",): Field("What it has: tier, bound, evidence, debt, bad, falls.", open=True, schema=_OBJECT),
    ("change", "kind"): Field(
        "promote, before it is signed; vouch; or keep, whenever something changed.",
        schema=_one_of("promote", "vouch", "keep"),
    ),
    ("change", "from"): Field("The tier it holds.", schema=_COUNT),
    ("change", "to"): Field("The tier it would have.", schema=_COUNT),
    ("change", "outcomes"): Field("Of a promotion: outcomes that count.", schema=_COUNT, optional=True),
    ("change", "days"): Field("… days they are spread over.", schema=_COUNT, optional=True),
    ("change", "sessions"): Field("… sessions they are spread over.", schema=_COUNT, optional=True),
    ("change", "share"): Field(
        "… share of the most frequent template.", schema={"type": "number"}, optional=True
    ),
}
"""The input of phase ``trust``: may this agent have this tier in this domain?"""

FACTS: Final = ("session", "mandate", "budget", "trust", "breaker", "approval")
"""Top-level keys that come from ``Facts.slow`` or ``Facts.fast``; absent when nobody knows them."""

_SLOW: Final = frozenset({"version", "tool", "agent", "chain", "environment", "mandate", "trust", "breaker"})


def slow(path: Path) -> bool:
    """Whether a path changes so rarely that what depends on it is worth remembering."""
    return path[0] in _SLOW or path in {("call", "kind"), ("call", "target")}


def certain(path: Path) -> bool:
    """Whether a path is in the input of every call of a phase that knows it."""
    field = CONTRACT.get(path)
    return field is not None and not field.optional


def refused(path: Path, phase: Phase) -> str | None:
    """Why a rule of this phase must not read the path, or ``None``."""
    written = ".".join(("input", *path))
    if not path:
        return "reads all of 'input'; name the paths it needs"
    table = TRUST if phase == "trust" else CONTRACT
    known = [field for at, field in table.items() if at == path[: len(at)] or path == at[: len(path)]]
    if not known:
        return f"'{written}' is not in the input; see the table of paths in docs/reference/policy.md"
    exact = table.get(path)
    if exact is None and all(len(at) < len(path) for at in table if at == path[: len(at)]):
        owner = next((field for at, field in table.items() if at == path[: len(at)]), None)
        if owner is not None and not owner.open:
            return f"'{written}' is not in the input: its parent is a plain value"
    if phase != "trust" and not any(phase in field.phases for field in known):
        return f"'{written}' is not known in phase '{phase}'"
    return None
