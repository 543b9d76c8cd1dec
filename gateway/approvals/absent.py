"""What happens to an escalated call while this gateway has no approval queue: it is refused, and told so."""

from __future__ import annotations

from gateway.model import Call, Decision, Refusal
from gateway.reasons import REASONS, sentence


class NoApprovals:
    """Implements ``ports.Approvals`` without a queue. Nothing is ever approved by default."""

    async def hold(self, call: Call, decision: Decision) -> Refusal:
        reason = REASONS["approvals_not_configured"]
        why = decision.findings[0] if decision.findings else None
        return Refusal(
            code=reason.code,
            message=f"{sentence(why.message)} {reason.message}" if why else reason.message,
            remedy=(why.remedy if why else "") or reason.remedy,
            rule=why.rule if why else "",
            findings=decision.findings,
        )
