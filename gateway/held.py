"""An agent's own held calls: to follow one, to take it back, and the page where its own user may decide.

Implements ``ports.HeldCalls`` on the queue. An agent is never told who reviews, nor what they think.
"""

from __future__ import annotations

import asyncio
from typing import Final, Literal

import msgspec
import orjson

from gateway.approvals import chain as chains
from gateway.approvals.queue import Queue, Snapshot
from gateway.approvals.store import Full
from gateway.approvals.values import Approval, Blocked, Notice
from gateway.errors import Refused
from gateway.model import Ask, Principal
from gateway.ports import HeldCall
from gateway.rolling import rolling_session

_SECOND: Final = 1_000_000_000
_MAX_REPLACED: Final = 20  # approvals one after the other for one call; more are not followed
_snapshot = msgspec.json.Decoder(Snapshot)

_State = Literal["waiting", "ready", "under_way", "over", "cancelled"]
_STATES: Final[dict[str, _State]] = {
    "pending": "waiting", "approved": "ready", "recovering": "ready", "executing": "under_way",
    "cancelled": "cancelled",
}  # fmt: skip
_MESSAGES: Final[dict[_State, str]] = {
    "ready": "It was approved.",
    "under_way": "It was approved and is being carried out.",
    "over": "It is decided.",
    "cancelled": "It was taken back, and nothing was done.",
}


class Held:
    """Implements ``ports.HeldCalls``."""

    def __init__(self, queue: Queue) -> None:
        self._queue = queue
        self._store = queue.store

    @property
    def offered(self) -> bool:
        return bool(self._queue.settings.chains)

    @property
    def paged(self) -> bool:
        return bool(self._queue.settings.link)

    async def look(self, principal: Principal, approval_id: str) -> HeldCall:
        first, last = await asyncio.to_thread(self._own, principal, approval_id)
        found = last.approval
        state = _STATES.get(found.state, "over")
        refusal = None
        message = _MESSAGES.get(state, "")
        if state == "waiting":
            message = self._queue.said_of(found).message
        elif state == "over":
            refusal = self._queue.said_of(found)
        until = found.execute_by_ns or found.decide_by_ns + found.execute_s * _SECOND
        return HeldCall(
            id=first.approval.id,
            state=state,
            message=message,
            opened_ns=first.approval.opened_ns,
            changed_ns=last.events[-1].at_ns if last.events else found.opened_ns,
            until_ns=until,
            ask=_again(principal, first),
            refusal=refusal,
        )

    async def cancel(self, principal: Principal, approval_id: str) -> None:
        # A token without the scopes its issuer's tokens need may look around, and does nothing.
        if principal.missing_scopes:
            raise Refused("insufficient_scope", " ".join(principal.missing_scopes))
        _, last = await asyncio.to_thread(self._own, principal, approval_id)
        try:
            after = await asyncio.to_thread(self._store.withdraw, last.approval.id, principal.agent)
        except Blocked as blocked:
            raise Refused(blocked.code, approval_id[:64]) from None
        if after.state == "cancelled":
            self._queue.noticed(Notice(event="cancelled", approval=after))
            self._queue.changed()

    async def page(self, principal: Principal, approval_id: str) -> str:
        link = self._queue.settings.link
        if not link:
            return ""
        full = await asyncio.to_thread(self._store.show, approval_id, principal.tenant)
        if full is None or full.approval.state != "pending":
            return ""
        now_ns = self._queue.clock.now_ns()
        user = chains.names_of(principal.subject or principal.owner)
        for person in full.circle.people.values():
            known = chains.names_of(person.name, *person.aliases)
            if known.isdisjoint(user):
                continue
            # Who may not decide is not sent to a page to find that out.
            rules = full.approval.rules
            if chains.seat(rules, full.standing.stage, person, full.circle, now_ns) is not None:
                # Nothing but the id: an address is no credential, and may end in somebody's log.
                return link.replace("{id}", full.approval.id)
        return ""

    def _own(self, principal: Principal, approval_id: str) -> tuple[Full, Full]:
        """The approval of this id and the one that stands in its place now; raises ``Refused``."""
        first = last = self._one(principal, approval_id)
        for _ in range(_MAX_REPLACED):
            after = last.approval.superseded_by
            if after is None:
                break
            last = self._one(principal, after)
        return first, last

    def _one(self, principal: Principal, approval_id: str) -> Full:
        full = self._store.show(approval_id, principal.tenant)
        # An id alone proves nothing: it may have leaked. Unknown and foreign are the same answer.
        if full is None or _whose(full.approval) != (principal.agent, principal.subject, principal.chain):
            raise Refused("not_found", approval_id[:64])
        return full


def _whose(approval: Approval) -> tuple[str, str | None, tuple[str, ...]]:
    return approval.agent, approval.subject, approval.chain


def _again(principal: Principal, full: Full) -> Ask | None:
    """The held call once more, as its agent would make it; it finds the approval by its digest."""
    approval = full.approval
    kind = _snapshot.decode(approval.facts_json).kind
    if full.args_json is None or kind != "tool":
        return None
    upstream, _, name = approval.target.partition("/")
    # What an agent has without asking for it, it does not name either.
    own = principal.mandate_json or approval.session == rolling_session(principal)
    return Ask(
        principal=principal,
        surface="mcp",
        kind="tool",
        upstream=upstream,
        name=name,
        args=orjson.loads(full.args_json),
        session="" if own else approval.session,
        waits=False,
    )
