"""What messages to people say of an approval: names and codes, never arguments."""

from __future__ import annotations

import unicodedata
from typing import Final

from gateway.approvals.values import Notice

WHAT: Final = {
    "opened": "A call waits for approval",
    "reminded": "A call still waits for approval",
    "escalated": "More people may decide about a call",
    "approved": "A call was approved",
    "rejected": "A call was rejected",
    "cancelled": "An approval was cancelled",
    "superseded": "A call was replaced by another",
    "expired": "Nobody decided in time",
    "executed": "An approved call was carried out",
    "failed": "An approved call failed",
    "in_doubt": "What became of an approved call is unknown",
    "recovering": "An approved call is tried again",
    "asked": "A reviewer asks the agent",
    "answered": "The agent has answered",
    "granted": "Similar calls were permitted for a while",
    "incident": "An approved call turned out to be wrong",
    "refused": "A decision was refused",
    "discharged": "An open break-glass envelope let a call through",
}


def inert(text: str, longest: int, *, spaces: bool = False) -> str:
    """One line without anything invisible, so that a name cannot look like words of ours."""
    seen = "".join(
        " " if char.isspace() else char
        for char in text
        if char.isspace() or unicodedata.category(char)[0] != "C"
    )
    return (seen if spaces else " ".join(seen.split()))[:longest]


def fields(notice: Notice) -> dict[str, str]:
    """What a message is made of."""
    approval = notice.approval
    return {
        "what": WHAT.get(notice.event, notice.event),
        "tool": inert(approval.target, 200),
        "agent": inert(approval.agent, 100),
        "risk": approval.risk,
        "codes": ", ".join(sorted({inert(each.code, 100) for each in approval.requirements})),
        "id": approval.id,
    }
