"""The provenance of a call, as policy sees it: ``input.call.provenance``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from gateway.model import Json
from gateway.sessions.provenance import lists
from gateway.sessions.provenance.arguments import sinks
from gateway.sessions.provenance.prints import Prints, Traced, weaker

_OUT_OF_SIGHT = Traced("untrusted", "none")


def provenance(
    prints: Prints,
    args: Mapping[str, Json],
    *,
    risk: str = "irreversible",
    effects: Sequence[str] = (),
    declared: Mapping[str, lists.Kind] | None = None,
) -> dict[str, dict[str, Any]]:
    """``{pointer: {kind, source, match, trusted, from}}`` of the sink arguments, at most 32.

    Where several values stand at one place (the links of a text), the weakest is shown. What did not fit is
    shown as untrusted, at its place or at ``""``.
    """
    shown: dict[str, dict[str, Any]] = {}
    weakest: dict[str, Traced] = {}
    for pointer, kind, value, complete in sinks(args, risk=risk, effects=effects, declared=declared):
        traced = prints.trace(value, kind) if value is not None else _OUT_OF_SIGHT
        if not complete:
            traced = weaker(_OUT_OF_SIGHT, traced)
        before = weakest.get(pointer)
        if before is not None and weaker(before, traced) is before:
            continue
        weakest[pointer] = traced
        source = traced.source
        shown[pointer] = {
            "kind": kind,
            "source": source,
            "match": traced.match,
            "trusted": source != "untrusted" and source != "none",
            "from": list(traced.targets),
        }
    return shown
