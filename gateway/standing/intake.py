"""What calls, verifications, reviewers and breakers say of an agent, made into evidence.

For an agent speaks only what the gateway verified of a call that it enforced and carried out itself. Outcomes
that somebody else reports, calls in observe mode and the gateway's own reads say nothing.
"""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict, deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from gateway.breakers.settings import EXACT
from gateway.breakers.trip import Trip
from gateway.guard import what_of
from gateway.model import OWN, VERIFY, Action, Call, Json, Outcome, Verified
from gateway.standing.book import Book
from gateway.standing.ranks import Ranks
from gateway.storage.trust import Where
from gateway.trust.account import Account
from gateway.trust.evidence import Evidence, against
from gateway.trust.settings import DAY
from gateway.trust.template import print_of, template_of

logger = logging.getLogger("wardgate.trust")

_REMEMBERED: Final = 2_000
_SURE: Final = frozenset(EXACT) | {"person"}
"""Detectors that are sure of themselves: what they find takes a tier at once."""

_NO_FAULT: Final = frozenset({"not_now", "not_needed"})
"""Reasons of reviewers that say nothing against the agent."""


class Intake:
    """All methods run on the event loop's thread."""

    def __init__(
        self, book: Book, ranks: Ranks, *, domain_of: Callable[[str], str] = lambda target: "general"
    ) -> None:
        """``domain_of`` is that of a target; "general" of one that is not there any more."""
        self._book = book
        self._ranks = ranks
        self.domain_of = domain_of
        self._last: OrderedDict[tuple[str, str], str] = OrderedDict()  # the domain an agent was in last
        self._edited: deque[str] = deque(maxlen=_REMEMBERED)
        self._record = 0

    async def open(self, trips: Sequence[Trip] = ()) -> None:
        """``trips``: the newest ones; what they did to a tier may not have been written before a crash."""
        self._record = await asyncio.to_thread(self._book.store.last_record)
        refs = [f"trip:{trip.id}" for trip in trips]
        known = await asyncio.to_thread(self._book.store.known, refs) if refs else set()
        for trip in reversed(trips):
            if f"trip:{trip.id}" not in known and not trip.observed:
                self.tripped(trip)
        await self._book.flush()

    def ended(
        self, call: Call, action: Action, code: str, outcome: Outcome | None, approval: Mapping[str, Json]
    ) -> None:
        if not self._book.enabled:
            return
        try:
            self._ended(call, action, code, outcome, approval)
        except Exception:  # what it proves is lost; a call whose outcome is known must not fail for it
            logger.exception("call %s could not be taken into account", call.id)

    def _ended(
        self, call: Call, action: Action, code: str, outcome: Outcome | None, approval: Mapping[str, Json]
    ) -> None:
        happened = outcome is not None and outcome.status != "not_sent"
        domain = self._ranks.over(call, happened, approval.get("kind") == "approval")
        if call.surface == VERIFY or call.tool.upstream == OWN:
            return
        who = (call.principal.tenant, call.principal.agent)
        self._last[who] = domain
        if len(self._last) > _REMEMBERED:
            self._last.popitem(last=False)
        where = Where(*who, domain)
        if outcome is None:
            # What it is refused because of what it has not earned must not cost it more: that is no "denied".
            if call.mode == "enforce" and what_of(action, code, None) == "denied":
                self._denied(where, call)
            return
        self._of_today(self._book.accounts.get(where), calls=1)
        if (outcome.answered or outcome.status) == "ok" and approval.get("kind") == "approval":
            self._approved(where, call, approval)

    def verified(self, found: Verified) -> None:
        """What a read found out about a call."""
        call = found.made
        if not self._book.enabled or call is None or call.surface == VERIFY:
            return
        where = Where(call.principal.tenant, call.principal.agent, call.tool.manifest.domain)
        if found.result == "verified" and self._may_count(call):
            good = 0.5 if call.id in self._edited else 1.0
            self._book.later(self._row(where, call, "verified", f"for:{call.id}", good=good))
        elif found.result == "refuted":
            self._book.now(self._row(where, call, "refuted", f"refuted:{call.id}"))

    def rejected(
        self, tenant: str, agent: str, target: str, risk: str, approval: str, call_id: str, why: str
    ) -> None:
        """A person said no to a call of this agent."""
        if self._book.enabled and why not in _NO_FAULT:
            self._book.now(
                against(
                    "rejected", f"rejected:{approval}", tenant=tenant, agent=agent,
                    domain=self.domain_of(target), risk=risk, call_id=call_id, at_ns=self._book.now_ns(),
                    note=why,
                )
            )  # fmt: skip

    def tripped(self, trip: Trip) -> None:
        """An agent's breaker moved. One that was sure of itself takes the tier at once."""
        if not self._book.enabled or not trip.agent or trip.after not in ("open", "forced_open"):
            return
        if trip.key.scope not in ("thread", "session", "agent"):
            return
        who = (trip.key.tenant, trip.agent)
        domain = trip.key.part if trip.key.scope == "agent" else ""
        # After a start nothing is under way and nobody was anywhere; then what the trip itself says is known.
        domain = (
            domain or self._ranks.domain_of(trip.calls) or self._last.get(who) or trip.domain or "general"
        )
        where = Where(*who, domain)
        call_id = trip.calls[-1] if trip.calls else ""
        at_ns = min(trip.at_ns, self._book.now_ns())
        row = against(
            "tripped", f"trip:{trip.id}", **where._asdict(), risk="irreversible", call_id=call_id,
            at_ns=at_ns, note=trip.sentence,
        )  # fmt: skip
        if trip.detector in _SURE:
            self._book.struck(where, "trip", row)
        else:
            self._book.now(row)

    def _approved(self, where: Where, call: Call, approval: Mapping[str, Json]) -> None:
        """People looked at exactly this call, and it went well."""
        edited = bool(approval.get("edited"))
        if edited:
            self._edited.append(call.id)
            self._book.now(self._row(where, call, "edited", f"edited:{call.id}"))
        # Who approves his own agent's call vouches for nothing; and a verifier's word is better than a look.
        if (
            approval.get("self_reviewed")
            or call.tool.manifest.verify is not None
            or not self._may_count(call)
        ):
            return
        self._book.later(self._row(where, call, "approved", f"for:{call.id}", good=0.5 if edited else 1.0))

    def _may_count(self, call: Call) -> bool:
        # Outcomes of tools that run elsewhere are somebody's word; observed calls were decided by nobody.
        return call.mode == "enforce" and not call.tool.elsewhere

    def _denied(self, where: Where, call: Call) -> None:
        account = self._book.account(where)
        self._of_today(account, denials=1)
        free = self._book.settings.denied_free + self._book.settings.denied_share * account.calls
        if account.denials > free:
            self._book.now(self._row(where, call, "denied", f"denied:{call.id}"))

    def _of_today(self, account: Account | None, *, calls: int = 0, denials: int = 0) -> None:
        if account is None:
            return
        today = self._book.now_ns() // DAY
        if account.day != today:
            account.day, account.calls, account.denials = today, 0, 0
        account.calls += calls
        account.denials += denials

    def _row(self, where: Where, call: Call, outcome: Any, ref: str, *, good: float = 0.0) -> Evidence:
        common: dict[str, Any] = {
            **where._asdict(), "risk": call.tool.manifest.risk, "call_id": call.id,
            "build": call.principal.build, "session": call.session, "at_ns": self._book.now_ns(),
        }  # fmt: skip
        if not good:
            return against(outcome, ref, **common)
        return Evidence(
            ref=ref, outcome=outcome, good=good, template=template_of(call.tool.target, call.args),
            print=print_of(call.tool.target.encode() + call.args_json), **common,
        )  # fmt: skip

    async def reconciled(self) -> None:
        """People may have said of calls in doubt that they happened: that is verified too."""
        if not self._book.enabled:
            return
        for each in await asyncio.to_thread(self._book.store.reconciled, self._record):
            self._record = max(self._record, each.seq)
            domain = self.domain_of(each.target)
            self._book.later(
                Evidence(
                    ref=f"for:{each.call_id}", tenant=each.tenant, agent=each.agent, domain=domain,
                    risk=each.risk, outcome="reconciled", good=1.0, call_id=each.call_id,
                    template=f"reconciled {each.target}", session=each.session,
                    at_ns=min(each.at_ns, self._book.now_ns()),
                )
            )  # fmt: skip
