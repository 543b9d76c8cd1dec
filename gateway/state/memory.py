"""Facts of one process, in memory: a fold of the journal.

``begin`` gathers what a rule may need and reserves what the call may use; ``settle`` turns that into a mark,
applies it, and hands it back to be recorded. Cost does not grow with what came before: a session holds sums,
marks and prints, never its calls.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

import msgspec

from gateway.errors import StateError
from gateway.model import (
    OWN,
    VERIFY,
    Action,
    Ask,
    Call,
    Facts,
    Mark,
    Outcome,
    Principal,
    Refusal,
    Settled,
    Tool,
    Verify,
)
from gateway.ports import NOTHING_SHOWN, Shown
from gateway.reasons import REASONS
from gateway.sessions import verify
from gateway.sessions.budgets import Account, Accounts, Exceeded
from gateway.sessions.charges import Unreadable, charges_after, charges_of
from gateway.sessions.labels import LEVELS, UNTRUSTED
from gateway.sessions.monitors import Event
from gateway.sessions.provenance import harvest, provenance, takes_destination
from gateway.sessions.rules import SessionRules
from gateway.sessions.session import COMMITTED, Session
from gateway.state.accounts import Holder, Holders, spent
from gateway.state.bounded import bounded
from gateway.state.effects import Effects, LiveEffect
from gateway.state.sessions import Sessions
from gateway.storage.sessions import Act, SavedAccount

logger = logging.getLogger("wardgate.state")

_encode: Final = msgspec.msgpack.Encoder().encode
_KNOWN_TOOLS: Final = 20_000
_ANSWERED_WITH_CONTENT: Final = ("tool", "prompt", "resource", "completion")
"""Kinds whose answer the agent reads; the answer to an upstream's question goes the other way."""


class MemoryState:
    """Implements ``ports.State`` for one process. All methods run on the event loop's thread."""

    def __init__(
        self,
        sessions: Sessions,
        now_ns: Callable[[], int],
        *,
        live: Iterable[LiveEffect] = (),
        accounts: Iterable[SavedAccount] = (),
        n: int = 0,
        acts: int = 0,
    ) -> None:
        """``now_ns`` is the steady time; ``n`` and ``acts`` number the newest mark and act there ever was."""
        self.sessions = sessions
        self.effects = Effects(live)
        self.holders = Holders(sessions.rules)
        self.holders.restore(accounts)
        self.now_ns = now_ns
        self.exceeded: Counter[tuple[str, str]] = Counter()  # for metrics: by scope and metric
        self.n = n
        self.acts = acts
        self._destinations: dict[int, tuple[Tool, bool]] = {}
        self.tracing = True  # whether any rule asks where values come from
        self.trusted: Callable[[Principal], Mapping[str, Any]] | None = (
            None  # where a rule of lists asks for it
        )

    @property
    def rules(self) -> SessionRules:
        return self.sessions.rules

    @rules.setter
    def rules(self, rules: SessionRules) -> None:
        self.sessions.rules = rules
        self.holders.rules = rules

    # ---------------------------------------------------------------------------------------- the port

    async def enter(self, ask: Ask) -> str:
        return (await self.sessions.enter(ask)).whose.id

    async def begin(self, call: Call) -> Facts:
        session = self.sessions.of(call.session)
        try:
            return self._gathered(session, call)
        except Exception as fault:  # settled as a refusal, which gives back what was reserved by then
            logger.exception("facts of call %s could not be gathered", call.id)
            raise StateError("state_unavailable", type(fault).__name__) from fault

    def _gathered(self, session: Session, call: Call) -> Facts:
        now = self.now_ns()
        effect = self.effects.begin(call)
        own = call.tool.upstream == OWN  # costs nothing, and answers those who have nothing left
        charges = {} if own else charges_of(call.tool.manifest, call.args, call.args_json)
        refusal = None if own else _expired(session, now)
        if isinstance(charges, Unreadable):
            refusal = refusal or _unreadable(charges)
            charges = {}
        scopes = self._scopes(session, call.principal)
        if refusal is None and not own:
            # In all accounts, or in none; what is in the way is said by the nearest.
            exceeded = Accounts(scopes).reserve(call.id, charges, now)
            if exceeded:
                over = exceeded[0]
                self.exceeded[over.scope, over.metric] += 1
                refusal = _over(over)
        known = session.facts(call.tool.target, now)
        monitors = self._watched(session, call, now, known["labels"])
        if monitors:
            known["monitors"] = monitors
        fast: dict[str, Any] = {"session": known}
        budget = _budget(scopes, now)
        if budget:
            fast["budget"] = budget
        traced = self._traced(session, call)
        return bounded(
            slow=session.slow_facts(call.tool.target),
            fast=fast,
            provenance=traced,
            addressed=bool(traced) or not self._takes_destination(call),
            reserved=charges if refusal is None else {},
            refusal=refusal,
            effect=effect,
        )

    async def settle(
        self, call: Call, action: Action, outcome: Outcome | None, shown: Shown = NOTHING_SHOWN
    ) -> Settled:
        self.effects.settle(call, outcome)
        session = await self.sessions.find(call.session)
        if session is None:
            raise StateError("state_unavailable", f"session {call.session} is gone")
        mark = self._mark(session, call, outcome, shown)
        limited = self._apply(session, mark)
        raised = mark.untrusted or mark.confidentiality or mark.raised or mark.lowered
        moved = session.moved or any(each.moved for each in session.ancestors)
        return Settled(mark, bool(raised or moved or (limited and mark.charged)))

    def slow(self, principal: Principal, session: str = "") -> Facts:
        found = self.sessions.at_hand(principal, session)
        if self.trusted is not None:
            known = found.slow_facts("") if found is not None else {}
            return Facts(slow={**known, "trust": self.trusted(principal)})
        if found is None:
            return _NO_FACTS
        return Facts(slow=found.slow_facts(""))

    def budgets(self, session: Session) -> dict[str, Any]:
        """What is used and left of each limited metric, by scope; of several ancestors the least."""
        whose = session.whose
        scopes = [("session", session.account)]
        scopes += [("tree", above.account) for above in session.ancestors]
        scopes += [(scope, holder.account) for scope, holder in self.holders.at(whose.tenant, whose.agent)]
        return _budget(scopes, self.now_ns())

    # -------------------------------------------------------------------------------------- the fold

    def _mark(self, session: Session, call: Call, outcome: Outcome | None, shown: Shown) -> Mark:
        """What a call did, as little as says all of it."""
        self.n += 1
        manifest = call.tool.manifest
        status = "refused" if outcome is None else outcome.status
        held = status == "in_doubt" and call.tool.writes
        charged: Mapping[str, int] = {}
        if outcome is not None and status != "not_sent":
            charged = self._charged(call, outcome, shown)
        seen = shown.seen and call.tool.kind in _ANSWERED_WITH_CONTENT
        untrusted = seen and manifest.integrity == "untrusted"
        confidentiality = manifest.confidentiality if seen else 0
        new = [
            each.labels.would_raise(untrusted, confidentiality, ()) for each in (session, *session.ancestors)
        ]
        raised = tuple(dict.fromkeys(shown.labels)) if shown.labels and outcome is not None else ()
        # What one and the same call raises and lowers stays raised, also where it was there before.
        lowered = tuple(
            name
            for name in shown.lowered
            if name not in raised
            and not (untrusted and name == UNTRUSTED)
            and not (name in LEVELS and LEVELS.index(name) <= confidentiality)
        )
        if raised and not any(
            each.labels.would_raise(False, 0, raised) for each in (session, *session.ancestors)
        ):
            raised = ()
        prints = b""
        if seen and shown.content_json and self.tracing:
            prints = self._harvested(session, call, shown.content_json)
        at_ns = self.now_ns()
        return Mark(
            n=self.n,
            at_ns=at_ns,
            session=session.whose.id,
            call=call.id,
            target=call.tool.target,
            risk=manifest.risk,
            status=status,
            charged=charged,
            untrusted=untrusted and any(new),
            confidentiality=confidentiality if any(new) else 0,
            raised=raised,
            lowered=lowered,
            prints=prints,
            watched=self._note(session, call, status, at_ns, shown.labels) if status in COMMITTED else None,
            held=held,
            verified=self._reached(session, call, outcome),
            quiet=call.surface == VERIFY,
        )

    def _reached(self, session: Session, call: Call, outcome: Outcome | None) -> tuple[str, ...]:
        """Milestones that this read proves: what the tool says, not what the agent says of it."""
        mandate = session.mandate
        if mandate is None or not mandate.milestones or outcome is None or outcome.status != "ok":
            return ()
        if call.tool.writes:
            return ()
        return tuple(
            each.name
            for each in mandate.milestones
            if each.verify.tool == call.tool.target
            and each.name not in session.progress.verified
            and all(call.args.get(name) == value for name, value in each.verify.arguments.items())
            and verify.matches(Verify(tool=each.verify.tool, match=each.verify.match), outcome.result_json)
        )

    def _charged(self, call: Call, outcome: Outcome, shown: Shown) -> Mapping[str, int]:
        manifest = call.tool.manifest
        if call.tool.upstream == OWN:
            return {}
        charged = charges_of(manifest, call.args, call.args_json)
        if isinstance(charged, Unreadable):  # let through in observe mode: what can be counted is
            charged = {"calls": 1}
        if manifest.cost is not None and manifest.cost.result and outcome.result_json:
            after = charges_after(manifest, outcome.result_json)
            if not isinstance(after, Unreadable):
                charged = {**charged, **after}
        if shown.cost_micro_usd:
            charged = {**charged, "cost_micro_usd": charged.get("cost_micro_usd", 0) + shown.cost_micro_usd}
        return charged

    def _apply(self, session: Session, mark: Mark) -> bool:
        """Apply a mark everywhere it belongs; whether any account it was charged to has limits."""
        limited = False
        for holder in self._touched(session):
            if mark.n > holder.n:
                spent(holder.account, mark)
                if isinstance(holder, Holder):
                    holder.n = mark.n
            limited = limited or holder.account.limited
        for above in session.ancestors:
            above.took(mark)
        following = session.successor
        while following is not None:
            # Under way while the session was started anew: the agent reads the answer in the new one.
            following.took(mark)
            following = following.successor
        session.apply(mark)
        return limited

    def replay(self, session: Session, mark: Mark) -> None:
        """Do again what a record says; what is in already changes nothing."""
        self.n = max(self.n, mark.n)
        self._apply(session, mark)

    def promised(self, session: Session, call: str, charges: Mapping[str, int]) -> None:
        """Hold what a call reserved whose outcome nobody knows."""
        for holder in self._touched(session):
            if call not in holder.account.reservations():
                holder.account.promise(call, charges)
            holder.account.hold(call)

    def resolved(self, session: Session, call: str, *, done: bool) -> None:
        """Use or give back what a call in doubt had reserved."""
        for holder in self._touched(session):
            if done:
                holder.account.settle(call, None, self.now_ns())
            else:
                holder.account.release(call)
            holder.soil()

    def acted(self, act: Act) -> None:
        """Somebody opened, closed, looked at or declassified a session."""
        self.acts = max(self.acts, act.seq)
        self.sessions.acted(act)

    def release_all(self, known: Iterable[str]) -> None:
        """After a restart: give back what was reserved for calls that are neither recorded nor in doubt."""
        doubtful = frozenset(known)
        for holder in self.holders:
            for call in tuple(holder.account.reservations()):
                if call not in doubtful:
                    holder.account.release(call)

    # ------------------------------------------------------------------------------- values and order

    def _traced(self, session: Session, call: Call) -> Mapping[str, Any]:
        """Where the sink arguments come from."""
        if not self.tracing:
            return {}
        manifest = call.tool.manifest
        return provenance(
            session.prints, call.args, risk=manifest.risk, effects=manifest.effects,
            declared=manifest.sinks or None,  # type: ignore[arg-type]  # kinds, checked by the configuration
        )  # fmt: skip

    def _takes_destination(self, call: Call) -> bool:
        """Whether the tool's schema names where a call goes; looked at once for each tool."""
        tool = call.tool
        known = self._destinations.get(id(tool))
        if known is None or known[0] is not tool:
            if len(self._destinations) >= _KNOWN_TOOLS:
                self._destinations.clear()
            known = self._destinations[id(tool)] = tool, takes_destination(tool.definition_json)
        return known[1]

    def _harvested(self, session: Session, call: Call, content_json: bytes) -> bytes:
        manifest = call.tool.manifest
        found = harvest(
            content_json, call.tool.target, integrity=manifest.integrity, args=call.args,
            trusted_fields=manifest.trusted_fields, untrusted_fields=manifest.untrusted_fields,
            key=session.key,
        )  # fmt: skip
        return _encode(found) if found.trusted or found.untrusted or found.bitmap or found.flood else b""

    def _watched(self, session: Session, call: Call, now: int, labels: list[str]) -> dict[str, Any]:
        """What monitors say of the call, for the session and everything above it; what is violated wins."""
        if not self.sessions.monitors.monitors:
            return {}
        event = _event(call, now, labels)
        note = self.sessions.monitors.note(event)
        found: dict[str, Any] = {}
        for each in (session, *session.ancestors):
            # Asked again after an approval, a call must not stand in its own way.
            running = each.running
            others = tuple(told for call_id, told in running.items() if call_id != call.id) if running else ()
            facts = each.monitors.facts(each.watched, event, others)
            for name, fact in facts.items():
                if name not in found or (fact["violated"] and not found[name]["violated"]):
                    found[name] = fact
            if note.hits:
                each.running[call.id] = note
        return found

    def _note(self, session: Session, call: Call, status: str, at_ns: int, labels: tuple[str, ...]) -> Any:
        monitors = self.sessions.monitors
        if not monitors.monitors:
            return None
        note = monitors.note(_event(call, at_ns, [*session.labels.all(), *labels], status))
        return msgspec.to_builtins(note) if note.hits else None

    # ------------------------------------------------------------------------------------------ parts

    def _touched(self, session: Session) -> list[Session | Holder]:
        """Everything with an account that a call in this session is charged to."""
        whose = session.whose
        found: list[Session | Holder] = [session, *session.ancestors]
        # Calls under way while a session was started anew: the new one took over their reservations.
        following = session.successor
        while following is not None:
            found.append(following)
            following = following.successor
        found += [holder for _, holder in self.holders.at(whose.tenant, whose.agent)]
        return found

    def _scopes(self, session: Session, principal: Principal) -> list[tuple[str, Account]]:
        scopes = [("session", session.account)]
        scopes += [("tree", above.account) for above in session.ancestors]
        scopes += [(scope, holder.account) for scope, holder in self.holders.of(principal)]
        return scopes


def _event(call: Call, at_ns: int, labels: list[str], status: str = "") -> Event:
    """A call as monitors see it."""
    manifest, principal = call.tool.manifest, call.principal
    return Event(
        at_ns=at_ns, target=call.tool.target, risk=manifest.risk, effects=manifest.effects,
        domain=manifest.domain, args=call.args, status=status, labels=tuple(labels), call_id=call.id,
        actor=principal.agent if principal.subject is None else f"{principal.agent} for {principal.subject}",
    )  # fmt: skip


def _budget(scopes: list[tuple[str, Account]], now: int) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for scope, account in scopes:
        facts = account.facts(now) if account.limited else None
        if not facts:
            continue
        if scope not in found:
            found[scope] = facts
            continue
        for metric, fact in facts.items():  # of several ancestors, the one with least left
            other = found[scope].get(metric)
            if other is None or fact["left"] < other["left"]:
                found[scope][metric] = fact
    return found


def _over(exceeded: Exceeded) -> Refusal:
    reason = REASONS["budget_exceeded"]
    within = f" in {exceeded.window_s} s" if exceeded.window_s is not None else ""
    message = (
        f"the budget of this {exceeded.scope} for {exceeded.metric} is {exceeded.limit}{within}; "
        f"{exceeded.left} are left and the call needs {exceeded.asked}"
    )
    return Refusal(
        code=reason.code, message=message, remedy=reason.remedy, retryable=exceeded.window_s is not None
    )


def _unreadable(charges: Unreadable) -> Refusal:
    reason = REASONS["amount_unreadable"]
    message = f"the amount at {charges.pointer} cannot be read: {charges.why}"
    return Refusal(code=reason.code, message=message, remedy=reason.remedy)


def _expired(session: Session, now: int) -> Refusal | None:
    for each in (session, *session.ancestors):
        mandate = each.mandate
        if mandate is not None and mandate.expires_ns is not None and now >= mandate.expires_ns:
            reason = REASONS["mandate_expired"]
            return Refusal(code=reason.code, message=reason.message, remedy=reason.remedy)
    return None


_NO_FACTS: Final = Facts()
