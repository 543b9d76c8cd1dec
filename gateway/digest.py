"""The digest that binds a decision, an approval and a record to exactly one call.

SHA-256 over the canonical JSON of who calls (tenant, agent, subject, delegation chain), in which session,
what (target and the hash of its definition), with which arguments and, in a later round, with which answers.
What policy saw is what is sent, so two calls with the same digest are the same call.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from hashlib import sha256
from string import Formatter
from typing import Any

import orjson

from gateway.model import Principal, Tool


def call_digest(
    principal: Principal, session: str, tool: Tool, args_json: bytes, inputs_json: bytes = b""
) -> str:
    """Hex SHA-256; ``args_json`` and ``inputs_json`` must be canonical (``strictjson.canonical``)."""
    what: dict[str, Any] = {
        "agent": principal.agent,
        "arguments": orjson.Fragment(args_json),
        "chain": principal.chain,
        "schema": tool.schema_hash,
        "session": session,
        "subject": principal.subject,
        "target": tool.target,
        "tenant": principal.tenant,
    }
    if inputs_json:
        what["inputs"] = orjson.Fragment(inputs_json)
    return sha256(orjson.dumps(what)).hexdigest()


def new_id() -> str:
    """A UUIDv7 (RFC 9562, section 5.7): sorts by time of creation."""
    value = (time.time_ns() // 1_000_000) << 80 | int.from_bytes(os.urandom(10), "big")
    value = value & ~(0xF << 76) | 0x7 << 76
    value = value & ~(0x3 << 62) | 0x2 << 62
    text = f"{value:032x}"
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


def effect_key(template: str | None, call_id: str, args: Any) -> str | None:
    """Fill a manifest's template from arguments; ``None`` when one is missing or not a scalar.

    ``{body.reference}`` stands for the member of an object.
    """
    if template is None:
        return call_id
    try:
        return _Template().vformat(template, (), args)
    except (LookupError, ValueError, AttributeError):
        return None


class _Template(Formatter):
    """Dots descend into objects of JSON only; there is no way from a value into Python."""

    def get_field(self, field_name: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> tuple[Any, str]:
        value = _member(kwargs, field_name)
        if not isinstance(value, str | int) or isinstance(value, bool):
            raise KeyError(field_name)
        return str(value), field_name


def _member(args: Mapping[str, Any], name: str) -> Any:
    """The argument of that name, or the member that it is the path of."""
    path: Any = args
    for key in name.split("."):
        path = path.get(key) if isinstance(path, Mapping) else None
    if "." in name and name in args:
        # Two arguments could mean it, and which one counts would be the caller's choice.
        return args[name] if path is None else None
    return path
