"""Facts of bounded size: policy is never given more than 4 KB about a session, however much there is to say.

What a rule needs to refuse is kept to the end; what only explains goes first.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import orjson

from gateway.model import Facts, Refusal

MAX_BYTES: Final = 4096
_SURELY_SMALL: Final = 12
"""Members that vary in number, all together; with fewer the facts cannot be too large."""

_STRICTLY: Final = 8


def bounded(
    *,
    slow: Mapping[str, Any],
    fast: dict[str, Any],
    provenance: Mapping[str, Any],
    addressed: bool,
    reserved: Mapping[str, int],
    refusal: Refusal | None,
    effect: Any,
) -> Facts:
    """Facts that fit; see ``_shrink`` for what is left out where they would not."""
    session = fast["session"]
    varying = (
        len(provenance) + len(session.get("monitors", ())) + sum(map(len, fast.get("budget", {}).values()))
    )
    if varying + len(session["last"]) > _SURELY_SMALL or slow:
        provenance = _shrink(slow, fast, session, provenance)
    return Facts(
        slow=slow,
        fast=fast,
        provenance=provenance,
        addressed=addressed,
        reserved=reserved,
        refusal=refusal,
        effect=effect,
    )


def _shrink(
    slow: Mapping[str, Any], fast: dict[str, Any], session: dict[str, Any], provenance: Mapping[str, Any]
) -> Mapping[str, Any]:
    def size() -> int:
        return len(orjson.dumps([slow, fast, provenance]))

    if size() <= MAX_BYTES:
        return provenance
    # Values that can be trusted stop nothing.
    provenance = {at: each for at, each in provenance.items() if not each["trusted"]}
    if size() <= MAX_BYTES:
        return provenance
    session["last"] = session["last"][-2:]
    budget = fast.get("budget")
    if budget is not None and size() > MAX_BYTES:
        # Of each scope what is nearest to its end.
        fast["budget"] = {scope: _tightest(metrics) for scope, metrics in budget.items()}
    if size() > MAX_BYTES:
        provenance = dict(list(provenance.items())[:_STRICTLY])  # each of them is reason enough to ask
    if size() > MAX_BYTES and "monitors" in session:
        session["monitors"] = {name: fact for name, fact in session["monitors"].items() if fact["violated"]}
    return provenance


def _tightest(metrics: Mapping[str, Any]) -> dict[str, Any]:
    share = sorted(metrics.items(), key=lambda item: item[1]["left"] / max(1, item[1]["limit"]))
    return dict(share[:2])
