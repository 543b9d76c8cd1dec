"""What a principal may see. Hidden is not forbidden: calls are decided when they are made."""

from __future__ import annotations

from collections.abc import Sequence

from gateway.model import Kind, Principal, Tool
from gateway.ports import Parts


def listed(
    parts: Parts, principal: Principal, kind: Kind, upstream: str | None = None, session: str = ""
) -> Sequence[Tool]:
    """What this principal may see, in the upstream's order. Hidden is not forbidden: calls are decided.

    What is in quarantine is not among the catalog's tools, in any mode.

    Where policy is only observed, nothing is hidden.
    """
    return shown(parts, principal, parts.catalog.tools(kind, upstream), session)


def shown(parts: Parts, principal: Principal, tools: Sequence[Tool], session: str = "") -> Sequence[Tool]:
    """Which of these tools this principal may see."""
    if principal.mode != "enforce":
        return tools
    seen = parts.policy.visible(principal, tools, parts.state.slow(principal, session))
    if len(seen) == len(tools) or all(tool.mode == "enforce" for tool in tools):
        return seen
    visible = {tool.target for tool in seen}
    return tuple(tool for tool in tools if tool.mode != "enforce" or tool.target in visible)
