"""How far an agent may go with one call: its tier in the call's domain under every cap, and what that buys.

Nothing is worked out here and nothing is read from the storage: a few look-ups, a few microseconds.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from gateway.model import OWN, VERIFY, Call, Facts, Finding, Json, Principal, Refusal
from gateway.ports import Rank
from gateway.reasons import REASONS
from gateway.standing.book import Book
from gateway.storage.trust import Where
from gateway.trust.account import Account
from gateway.trust.caps import SAID, Cap, lasting
from gateway.trust.settings import SECOND

_LASTING: Final = 4_096
_UNDER_WAY: Final = 50_000
_METRICS: Final = ("calls", "writes", "irreversible", "cost_micro_usd", "bytes_out")
_UNKNOWN: Final = Rank()


class Ranks:
    """All methods run on the event loop's thread."""

    def __init__(
        self,
        book: Book,
        *,
        agent_of: Callable[[str, str], str | None] = lambda tenant, actor: None,
        delegators: Callable[[Call], Sequence[str]] = lambda call: (),
    ) -> None:
        """``agent_of`` names the agent that an actor (of a tenant) in a chain is, ``None`` for none of ours;
        ``delegators`` are the agents of the sessions that a call's session was opened under.
        """
        self._book = book
        self._agent_of = agent_of
        self._opened_by = delegators
        self._under_way: dict[str, tuple[str, bool]] = {}  # by call: domain, and counted as unattended
        self._lasting: dict[tuple[str, str, str], Cap] = {}
        self._actors: dict[tuple[str, str], str] = {}

    def configured(self) -> None:
        """There are new settings."""
        self._lasting.clear()
        self._actors.clear()

    def ask(self, call: Call, facts: Facts) -> Rank:
        tool, principal = call.tool, call.principal
        if not self._book.enabled or tool.upstream == OWN:
            return _UNKNOWN
        manifest = tool.manifest
        domain = manifest.domain
        now = self._book.now_ns()
        settings = self._book.settings
        where = Where(principal.tenant, principal.agent, domain)
        view = self._book.view(where, now)
        account = view.account
        # Where token and configuration disagree nobody knows which it is; there is a cap for that.
        known = principal.build and principal.attested != "conflict"
        if account is not None and known and principal.build != account.build:
            self._book.rebuilt(where, account, principal.build, now)
            view = self._book.view(where, now)
        has = view.tier
        cap = self._lasting.get((principal.agent, principal.revision, principal.build)) or self._last(
            principal
        )
        if view.cap.tier < cap.tier:
            cap = view.cap
        if "egress" in manifest.effects and cap.tier > settings.caps.untrusted_egress:
            session: Any = facts.fast.get("session")
            if session is not None and session.get("integrity") == "untrusted":
                cap = Cap(settings.caps.untrusted_egress, "untrusted")
        for agent in self._above(call):
            theirs = self._book.view(Where(principal.tenant, agent, domain), now).tier
            if theirs < cap.tier:
                cap = Cap(theirs, "delegator")
        number = has if has < cap.tier else cap.tier
        said: Mapping[str, Json] = view.facts
        if number != has:
            said = {**said, "tier": number, "cap": cap.name}
        if call.surface == VERIFY:  # the gateway looks for itself
            return Rank(facts=said)
        tier = settings.tiers[number]
        refusal = guarded = None
        counted = False
        if tool.writes:
            if number == 0:
                refusal = _refusal("trust_observe_only", self._why(cap, has))
            elif manifest.risk not in tier.unattended:
                guarded = _finding("trust_needs_person", self._why(cap, has))
            elif account is None or self._beyond(account, tier.horizon_calls, tier.horizon_s, now):
                guarded = _finding("trust_horizon", "")
            else:
                counted = True
                account.unattended += 1
                account.unattended_ns = account.unattended_ns or now
        if tier.budget_share < 1.0 and refusal is None:
            refusal = self._over(facts, tier.budget_share)
        if len(self._under_way) >= _UNDER_WAY:  # of calls that failed on the way nobody tells the end
            del self._under_way[next(iter(self._under_way))]
        self._under_way[call.id] = (domain, counted)
        return Rank(facts=said, refusal=refusal, guarded=guarded)

    def over(self, call: Call, happened: bool, approved: bool) -> str:
        """A call has ended; the domain it was ranked in. ``approved``: by a person who looked at it."""
        domain, counted = self._under_way.pop(call.id, ("", False))
        domain = domain or call.tool.manifest.domain
        where = Where(call.principal.tenant, call.principal.agent, domain)
        account = self._book.accounts.get(where)
        if account is None:
            return domain
        if happened and approved:
            account.unattended = account.unattended_ns = 0
        elif counted and not happened and account.unattended:
            account.unattended -= 1
            account.unattended_ns = account.unattended_ns if account.unattended else 0
        if counted or approved:
            self._book.touched(where)
        return domain

    def domain_of(self, calls: Sequence[str]) -> str:
        """The domain of the newest of these that is under way; "" when none is."""
        return next((self._under_way[each][0] for each in reversed(calls) if each in self._under_way), "")

    def cap(self, principal: Principal, domain: str) -> Cap:
        """What holds an agent down in a domain, whatever it does."""
        short = self._book.view(Where(principal.tenant, principal.agent, domain), self._book.now_ns()).cap
        last = self._last(principal)
        return short if short.tier < last.tier else last

    def _last(self, principal: Principal) -> Cap:
        """What is true of an agent everywhere; looked up by what it depends on."""
        key = (principal.agent, principal.revision, principal.build)
        cap = self._lasting.get(key)
        if cap is None:
            if len(self._lasting) >= _LASTING:
                self._lasting.clear()
            cap = lasting(principal.attested, principal.owner, principal.environment, self._book.settings)
            self._lasting[key] = cap
        return cap

    def _above(self, call: Call) -> Sequence[str]:
        """The agents on whose behalf it acts; "" for one that is none of ours."""
        principal = call.principal
        if len(principal.chain) < 2:
            return self._opened_by(call)
        found = []
        for actor in principal.chain[:-1]:  # the last one is the agent itself
            key = (principal.tenant, actor)
            if key not in self._actors:
                if len(self._actors) >= _LASTING:
                    self._actors.clear()
                self._actors[key] = self._agent_of(principal.tenant, actor) or ""
            found.append(self._actors[key])
        return [*found, *self._opened_by(call)]

    def _beyond(self, account: Account, calls: int, seconds: int, now: int) -> bool:
        if not account.unattended:
            return False
        return account.unattended >= calls or now - account.unattended_ns >= seconds * SECOND

    def _over(self, facts: Facts, share: float) -> Refusal | None:
        budget: Any = facts.fast.get("budget")
        own = budget.get("agent") if budget else None
        if not own:
            return None
        for metric in _METRICS:
            fact = own.get(metric)
            if fact is not None and fact["used"] + fact["reserved"] > share * fact["limit"]:
                limit = int(share * fact["limit"])
                return _refusal("trust_budget", f"That is {limit} of {fact['limit']} for {metric}.")
        return None

    def _why(self, cap: Cap, has: int) -> str:
        return f"It is held at T{cap.tier}: {SAID[cap.name]}." if cap.tier < has else ""

    def tiers(self, principal: Principal) -> dict[str, Json]:
        """``input.trust`` of lists: the tier in each domain where anything is known, and the least."""
        if not self._book.enabled:
            return {}
        found = {}
        for domain in self._book.domains(principal.tenant, principal.agent):
            view = self._book.view(Where(principal.tenant, principal.agent, domain), self._book.now_ns())
            found[domain] = min(view.tier, self.cap(principal, domain).tier)
        unknown = min(self._book.settings.initial, self._last(principal).tier)
        return {"tiers": dict(found), "tier": min(found.values(), default=unknown)}


def _refusal(code: str, detail: str) -> Refusal:
    reason = REASONS[code]
    return Refusal(code=code, message=f"{reason.message} {detail}".strip(), remedy=reason.remedy)


def _finding(code: str, detail: str) -> Finding:
    reason = REASONS[code]
    return Finding(code=code, message=f"{reason.message} {detail}".strip(), remedy=reason.remedy)
