"""The digest that binds a decision, an approval and a record to exactly one call.

SHA-256 over the canonical JSON of who calls (tenant, agent, subject, delegation chain), in which session,
what (target and the hash of its definition), with which arguments and, in a later round, with which answers.
What policy saw is what is sent, so two calls with the same digest are the same call.
"""

from __future__ import annotations

import os
import time
from hashlib import sha256
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
    """Fill a manifest's template from top-level arguments; ``None`` when one is missing or not a scalar."""
    if template is None:
        return call_id
    values = {
        key: str(value)
        for key, value in args.items()
        if isinstance(value, str | int) and not isinstance(value, bool)
    }
    try:
        return template.format_map(values)
    except (KeyError, ValueError, IndexError, AttributeError):
        return None
