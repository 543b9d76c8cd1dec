"""Sending the client's own user to the page where a held call is decided (URL elicitation).

Only a client that declares ``elicitation.url``, and only for a call that its user may decide about; everybody
else would be sent to a page that turns them away. The address holds the approval's id and nothing else, and
who opens it has to sign in there: an agent that follows the link has decided nothing.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from typing import Any, Final

import orjson

from gateway.errors import Refused
from gateway.model import Answer, Outcome, Principal
from gateway.ports import HeldCalls, Parts

REVIEW_S: Final = 20.0
"""How long a call waits for its user who has opened the page, in seconds."""

QUESTION: Final = "wardgate.approval"
"""The name of the question in ``inputRequests``."""

METHOD: Final = "elicitation/create"
_ASKED: Final = 10_000  # approvals remembered, so that nobody is sent there at every repetition
_PAUSE_S: Final = 0.25


class Pages:
    """Knows which users were sent to which page."""

    def __init__(self, held: HeldCalls | None) -> None:
        self._held = held
        self._asked: OrderedDict[str, None] = OrderedDict()

    def declared(self, capabilities: object) -> bool:
        """Whether a client can be asked so, and there is a page to send its user to."""
        if self._held is None or not self._held.paged or not isinstance(capabilities, dict):
            return False
        forms = capabilities.get("elicitation")
        return isinstance(forms, dict) and isinstance(forms.get("url"), dict)

    async def question(self, principal: Principal, answer: Answer, *, modern: bool) -> dict[str, Any] | None:
        """The parameters of the question, once for each approval; ``None`` where nobody is asked."""
        refusal = answer.refusal
        if refusal is None or refusal.approval is None or self._held is None:
            return None
        if refusal.approval in self._asked:
            return None
        try:
            url = await self._held.page(principal, refusal.approval)
        except Refused:
            return None
        if not url:
            return None
        self._asked[refusal.approval] = None
        if len(self._asked) > _ASKED:
            self._asked.popitem(last=False)
        params = {"mode": "url", "message": refusal.message, "url": url}
        if not modern:
            params["elicitationId"] = refusal.approval
        return params


async def decided(parts: Parts, approval: str, seconds: float) -> bool:
    """Wait for people as long as any call does, and at least ``seconds``; whether they have decided."""
    until = parts.clock.monotonic() + seconds
    while not await parts.approvals.wait(approval):
        if parts.clock.monotonic() >= until:
            return False
        await asyncio.sleep(_PAUSE_S)
    return True


def accepted(outcome: Outcome) -> bool:
    """Whether the user has opened the page. That is consent to look, and never an approval."""
    return outcome.status == "ok" and orjson.loads(outcome.result_json).get("action") == "accept"


def complete(approval: str) -> bytes:
    """Tells a client of 2025-11-25 that its user is done."""
    return orjson.dumps(
        {
            "jsonrpc": "2.0",
            "method": "notifications/elicitation/complete",
            "params": {"elicitationId": approval},
        }
    )
