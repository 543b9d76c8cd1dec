"""What happens to an escalated call while this gateway has no approval queue: it is refused, and told so."""

from __future__ import annotations

from gateway.model import Call, Decision, Facts, Refusal
from gateway.ports import Permit
from gateway.reasons import REASONS, sentence


class NoApprovals:
    """Implements ``ports.Approvals`` without a queue. Nothing is ever approved by default."""

    async def hold(self, call: Call, facts: Facts, decision: Decision) -> Refusal:
        reason = REASONS["approvals_not_configured"]
        why = decision.findings[0] if decision.findings else None
        return Refusal(
            code=reason.code,
            message=f"{sentence(why.message)} {reason.message}" if why else reason.message,
            remedy=(why.remedy if why else "") or reason.remedy,
            rule=why.rule if why else "",
            findings=decision.findings,
        )

    async def renew(self, permit: Permit, call: Call, facts: Facts, decision: Decision) -> Refusal:
        return await self.hold(call, facts, decision)

    async def refused(self, permit: Permit, code: str) -> None:
        """There was no permit."""

    async def wait(self, approval_id: str) -> bool:
        return False

    async def may_send(self, permit: Permit) -> bool:
        return False

    def ended(self, permit: Permit) -> None:
        """There was no permit."""
