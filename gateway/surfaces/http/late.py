"""What a report is worth that comes when its decision is no longer open.

By then the call is in doubt on record, and a person may already be looking. A report that it *happened* makes
the record more certain and frees nothing, so it is taken as the resolution of the doubt. A report that it did
*not* happen would give an effect key free on the word of the one who let the time pass; that word is refused,
and an operator decides.
"""

from __future__ import annotations

from typing import Final, Literal

from gateway.model import Principal
from gateway.surfaces.http.deps import Past
from gateway.surfaces.http.models import Reported

Worth = Literal["repeated", "confirms", "unknown_decision", "already_settled", "decision_lapsed"]

_RECORDED_AS: Final[dict[Reported, tuple[str, ...]]] = {
    "ok": ("ok", "withheld"),
    "tool_error": ("tool_error", "withheld"),
    "failed": ("failed",),
    "not_sent": ("not_sent",),
    "unknown": ("in_doubt",),
}


def worth(past: Past | None, principal: Principal, outcome: Reported) -> Worth:
    """What to do with a report about a call the journal knows, or does not."""
    # Somebody else's decision does not exist, nor does one that permitted nothing, nor a call the gateway
    # made itself: of those the agent knows nothing the gateway does not.
    if past is None or not past.is_of(principal) or past.refused or not past.decided:
        return "unknown_decision"
    if past.end == "reconciled":
        return "repeated" if past.status == "executed" and outcome == "ok" else "already_settled"
    if past.end == "in_doubt":
        if outcome == "unknown":
            return "repeated"
        return "confirms" if outcome == "ok" else "decision_lapsed"
    if past.end in ("result", "not_sent"):
        if past.status == "in_doubt" and outcome != "unknown":
            return "decision_lapsed"  # a read: nothing is held, and nothing to resolve
        return "repeated" if past.status in _RECORDED_AS[outcome] else "already_settled"
    return "decision_lapsed"  # a read whose process ended: nothing was held
