"""What people do with trust: look, sign a promotion, vouch for what was proven elsewhere, demote, report.

A signature is about exactly the evidence there was when it was given; whether there is enough is looked at
again with each one. Nothing here promotes anybody without people, and nothing waits before a tier is lost.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, Final, Literal

import msgspec

from gateway.errors import NotSigned, Refused
from gateway.model import Decision, Operator, Principal
from gateway.standing.book import Book, facts_of
from gateway.standing.ranks import Ranks
from gateway.standing.views import curve_of, described
from gateway.storage.trust import Event, TrustStore, Where
from gateway.trust import falls
from gateway.trust.account import Account, held, owed
from gateway.trust.evidence import against
from gateway.trust.promotion import Standing, standing
from gateway.trust.settings import DAY, HIGHEST
from gateway.trust.simulate import promote

SIGNERS: Final = ("approver", "operator")
_MAX_TEXT: Final = 500


class Around(msgspec.Struct, frozen=True, kw_only=True):
    """What the desk asks others."""

    registered: Callable[[str, str], Principal | None]  # tenant and agent, as configured
    outside: Callable[[str, str], bool]  # whether an operator is no part of an owner's team
    domains: Callable[[], Collection[str]]  # of all tools there are
    rules: Callable[[Mapping[str, Any]], Decision]  # the ``trust`` entry point
    domain_of: Callable[[str], str]  # of a target
    names: Callable[[str], frozenset[str]] = lambda operator: frozenset((operator,))  # of the same person


class TrustDesk:
    """All methods run on the event loop's thread; all are of one tenant."""

    def __init__(self, book: Book, ranks: Ranks, around: Around) -> None:
        self._book = book
        self._ranks = ranks
        self._around = around
        self._signing = asyncio.Lock()

    @property
    def _store(self) -> TrustStore:
        return self._book.store

    # -- looking ---------------------------------------------------------------------------------

    async def listed(self, tenant: str, agent: str | None = None) -> list[dict[str, Any]]:
        """The accounts of a tenant, without what takes a look at the evidence."""
        now = self._book.now_ns()
        found = [
            (where, account)
            for where, account in self._book.accounts.items()
            if where.tenant == tenant and agent in (None, where.agent)
        ]
        return [
            {
                "agent": where.agent, "domain": where.domain, "tier": self._now(where),
                "held": held(account, now, self._book.settings), "bound": account.bound,
                "debt": owed(account, now, self._book.settings), "until_ns": account.until_ns,
            }
            for where, account in sorted(found, key=lambda pair: pair[0])
        ]  # fmt: skip

    async def show(self, where: Where) -> dict[str, Any]:
        """Where an agent stands in a domain; raises ``Refused`` for what is neither known nor configured."""
        principal = self._around.registered(where.tenant, where.agent)
        if principal is None and not self._book.domains(where.tenant, where.agent):
            raise NotSigned("not_found", f"there is no agent '{where.agent}'")
        known = self._known(where)
        rows = await self._evidence(where)
        events = await asyncio.to_thread(self._store.events, where)
        now = self._book.now_ns()
        cap = self._ranks.cap(principal, where.domain) if principal else None
        found = described(where, known, rows, events, cap, now, self._book.settings)
        to = found["next"]["tier"]
        found["next"]["signed"] = [event.by for event in self.signatures(events, to, "", now)]
        return found

    async def history(self, where: Where) -> dict[str, Any]:
        """What happened to a tier, and the bound of each day."""
        await self._book.flush()
        events = await asyncio.to_thread(self._store.events, where)
        rows = await asyncio.to_thread(self._store.evidence, where)
        if not events and not rows:
            raise NotSigned("not_found", f"nothing is known of '{where.agent}' in '{where.domain}'")
        return {
            "events": [msgspec.structs.asdict(event) for event in events],
            "curve": curve_of(rows, self._book.now_ns(), self._book.settings),
        }

    async def _evidence(self, where: Where) -> Any:
        await self._book.flush()
        return await asyncio.to_thread(lambda: self._store.evidence(where, good=True))

    def _now(self, where: Where) -> int:
        principal = self._around.registered(where.tenant, where.agent)
        tier = self._book.view(where, self._book.now_ns()).tier
        return min(tier, self._ranks.cap(principal, where.domain).tier) if principal is not None else tier

    def _known(self, where: Where) -> Account:
        """Its account, or what one would begin as; raises ``Refused`` for a domain of no tool."""
        account = self._book.accounts.get(where)
        if account is None and where.domain not in self._around.domains():
            raise NotSigned("not_found", f"no tool is of the domain '{where.domain}'")
        return account or Account(tier=self._book.settings.initial, at_ns=self._book.now_ns())

    # -- signing ---------------------------------------------------------------------------------

    async def promote(
        self, where: Where, by: Operator, *, to: int | None, reason: str, renew: bool = False
    ) -> dict[str, Any]:
        """Sign the next tier, or the one it holds again; raises ``Refused`` with all that is missing."""
        async with self._signing:
            principal = self._signer_may(where, by)
            rows = await self._evidence(where)
            account = self._known(where)
            now, settings = self._book.now_ns(), self._book.settings
            has = held(account, now, settings)
            if to is not None and to != (has if renew else has + 1):
                raise NotSigned("promotion_refused", f"it holds T{has}, and tiers are signed one by one")
            found = standing(account, rows, where.domain, now, settings, to=has if renew else None)
            if found.missing:
                raise NotSigned("promotion_refused", f"for T{found.tier}: " + "; ".join(found.missing))
            self._rules(where, principal, account, "promote", found.tier, found)
            return await self._sign(where, by, found.tier, found.people, reason, found.digest)

    async def vouch(
        self, where: Where, by: Operator, *, to: int, days: float, reason: str
    ) -> dict[str, Any]:  # fmt: skip
        """Sign a tier for an agent that was proven elsewhere. It ends, and failures end it sooner."""
        async with self._signing:
            principal = self._signer_may(where, by)
            account = self._known(where)
            now, settings = self._book.now_ns(), self._book.settings
            if by.role != "operator":
                raise Refused("wrong_role", by.name)
            if not held(account, now, settings) < to <= HIGHEST:
                raise NotSigned("promotion_refused", f"it holds T{held(account, now, settings)} already")
            # Vouching is for agents this gateway knows nothing of, not a way around a cool-down.
            if now < account.calm_ns or account.falls:
                raise NotSigned("promotion_refused", "it has fallen here; it has to earn the tier")
            self._rules(where, principal, account, "vouch", to, None)
            people = 2 if to >= settings.two_from else 1
            return await self._sign(where, by, to, people, reason, "", vouched_days=days)

    async def _sign(
        self, where: Where, by: Operator, to: int, people: int, reason: str, digest: str, *,
        vouched_days: float = 0.0,
    ) -> dict[str, Any]:  # fmt: skip
        # What comes in while something is read below is taken into this one, and into no other.
        account = self._book.account(where)
        now, settings = self._book.now_ns(), self._book.settings
        cause = "vouch" if vouched_days else ""
        before, fallen = held(account, now, settings), account.falls
        open_ = self.signatures(await asyncio.to_thread(self._store.events, where), to, cause, now)
        # It may have fallen while that was read: what is lost must not come back by a signature under way.
        if account.falls != fallen or held(account, now, settings) != before:
            raise NotSigned("promotion_refused", "it has just fallen")
        # Under another of their names it is still the same person.
        if not all(self._around.names(event.by).isdisjoint(self._around.names(by.name)) for event in open_):
            raise NotSigned("promotion_refused", f"{by.name} has signed this already; somebody else must")
        own = Event(
            **where._asdict(), kind="signed", before=before, after=to, cause=cause, by=by.name,
            credential=by.credential, reason=reason[:_MAX_TEXT], digest=digest, at_ns=now,
        )  # fmt: skip
        signed = [*open_, own]
        events = [own]
        missing = self._people_missing(where, signed, people)
        if not missing:
            if vouched_days:
                promote(account, now, settings, to=to, days=vouched_days)
            else:
                account.tier = to - 1
                promote(account, now, settings)
            names = ", ".join(event.by for event in signed)
            events.append(
                Event(
                    **where._asdict(), kind="vouched" if vouched_days else "promoted", before=before,
                    after=to, by=names, reason=reason[:_MAX_TEXT], digest=digest, at_ns=now,
                )
            )  # fmt: skip
        self._book.put(where, account, events)
        await self._book.flush()
        return {"tier": held(account, now, settings), "signed": [e.by for e in signed], "missing": missing}

    def signatures(self, events: Sequence[Event], to: int, cause: str, now: int) -> list[Event]:
        """Those that still count: for this tier, in time, and after whatever changed the tier last."""
        within = now - int(self._book.settings.sign_within_days * DAY)
        found: list[Event] = []
        for event in events:
            if event.kind != "signed":
                found.clear()  # promoted, fallen or changed: what was signed before was about something else
            elif event.after == to and event.cause == cause and event.at_ns >= within:
                found.append(event)
        return found

    def _people_missing(self, where: Where, signed: Sequence[Event], people: int) -> str:
        if len({event.by for event in signed}) < people:
            return "a second person, and one of both from outside the owner's team"
        principal = self._around.registered(where.tenant, where.agent)
        owner = principal.owner if principal is not None else ""
        outside = any(self._around.outside(event.by, owner) for event in signed)
        if people > 1 and not outside:
            return "somebody from outside the owner's team"
        return ""

    def _signer_may(self, where: Where, by: Operator) -> Principal:
        if by.role not in SIGNERS:
            raise Refused("wrong_role", by.name)
        principal = self._around.registered(where.tenant, where.agent)
        if principal is None:
            raise NotSigned("not_found", f"there is no agent '{where.agent}'")
        return principal

    def _rules(
        self, where: Where, principal: Principal, account: Account, kind: str, to: int, found: Standing | None
    ) -> None:
        """Raise ``Refused`` when a rule says no, or could not say."""
        decision = self._around.rules(question(where, principal, account, kind, to, self._book, found))
        if decision.verdict == "deny":
            said = "; ".join(f"{each.message} ({each.rule or each.code})" for each in decision.findings)
            raise NotSigned("promotion_refused", said)

    # -- taking back -----------------------------------------------------------------------------

    async def demote(self, where: Where, by: Operator, *, to: int, reason: str) -> dict[str, Any]:
        """Take a tier back; in force when this returns."""
        if by.role not in SIGNERS:
            raise Refused("wrong_role", by.name)
        if where not in self._book.accounts:
            self._signer_may(where, by)
        account = self._known(where)
        now, settings = self._book.now_ns(), self._book.settings
        if not 0 <= to < account.tier:
            raise NotSigned("demotion_refused", f"it holds T{account.tier}")
        fell = falls.taken(account, to, "operator", now, settings)
        event = Event(
            **where._asdict(), kind="fell", before=fell.before, after=fell.after, cause="operator",
            by=by.name, credential=by.credential, reason=reason[:_MAX_TEXT], at_ns=now,
        )  # fmt: skip
        self._book.put(where, account, [event], took_back=True)
        await self._book.flush()
        return {"tier": account.tier, "signed": [by.name], "missing": ""}

    async def pardon(self, where: Where, by: Operator, *, ref: str, reason: str) -> dict[str, Any]:
        """Say that the last fall was for nothing, such as a false trip: its evidence counts again, and its
        cool-down ends. The tier itself is signed again as any other.
        """
        if by.role != "operator":
            raise Refused("wrong_role", by.name)
        async with self._signing:
            await self._book.flush()
            events = await asyncio.to_thread(self._store.events, where)
            rows = await asyncio.to_thread(self._store.evidence, where)
            fallen = [event for event in events if event.kind in ("fell", "pardoned")]
            account = self._book.accounts.get(where)
            # Of an earlier one later falls are the account's to keep.
            if account is None or not fallen or fallen[-1].kind != "fell" or fallen[-1].ref != ref:
                raise NotSigned("promotion_refused", f"the last fall here was not for '{ref}'")
            before = next((each.at_ns for each in reversed(fallen[:-1]) if each.kind == "fell"), 0)
            falls.pardoned(account, rows, ref, before, self._book.now_ns(), self._book.settings)
            event = Event(
                **where._asdict(), kind="pardoned", before=account.tier, after=account.tier, by=by.name,
                credential=by.credential, reason=reason[:_MAX_TEXT], ref=ref, at_ns=self._book.now_ns(),
            )  # fmt: skip
            self._book.put(where, account, [event])
            await self._book.flush()
        return {"tier": account.tier, "signed": [by.name], "missing": ""}

    async def report(
        self, tenant: str, call_id: str, by: Operator, *, kind: Literal["incident", "compensated"],
        reason: str,
    ) -> dict[str, Any]:  # fmt: skip
        """Say that a recorded call did harm, or had to be undone. Told twice it counts once."""
        if by.role not in SIGNERS:
            raise Refused("wrong_role", by.name)
        made = await asyncio.to_thread(self._store.made, call_id, tenant)
        if made is None:
            raise NotSigned("not_found", f"there is no call {call_id} that was carried out")
        where = Where(tenant, made.agent, self._around.domain_of(made.target))
        ref = f"{kind}:{call_id}"
        if await asyncio.to_thread(self._store.known, [ref]):
            return {"agent": where.agent, "domain": where.domain, "tier": self._now(where), "known": True}
        # What waits in its grace would otherwise count for the agent later.
        await asyncio.to_thread(self._store.withdrawn, call_id)
        row = against(
            kind, ref, **where._asdict(), risk=made.risk, call_id=call_id, session=made.session,
            at_ns=self._book.now_ns(), note=f"{by.name}: {reason}"[:_MAX_TEXT],
        )  # fmt: skip
        if kind == "incident":
            self._book.struck(where, "incident", row)
        else:
            self._book.now(row)
        await self._book.flush()
        return {"agent": where.agent, "domain": where.domain, "tier": self._now(where), "known": False}


def kept(where: Where, principal: Principal | None, facts: Mapping[str, Any]) -> dict[str, Any]:
    """The input of phase ``trust`` about a tier that is held."""
    tier = facts["tier"]
    return _asked(where, principal, facts, {"kind": "keep", "from": tier, "to": tier})


def question(
    where: Where, principal: Principal | None, account: Account, kind: str, to: int, book: Book,
    found: Standing | None,
) -> dict[str, Any]:  # fmt: skip
    """The input of phase ``trust``."""
    now = book.now_ns()
    has = held(account, now, book.settings)
    change: dict[str, Any] = {"kind": kind, "from": has, "to": to}
    if found is not None:
        for name in ("outcomes", "days", "sessions", "share"):
            change[name] = getattr(found, name)
    facts = {
        **facts_of(account, has, owed(account, now, book.settings)),
        "bad": round(account.bad, 3), "falls": account.falls,
    }  # fmt: skip
    return _asked(where, principal, facts, change)


def _asked(
    where: Where, principal: Principal | None, facts: Mapping[str, Any], change: Mapping[str, Any]
) -> dict[str, Any]:
    agent: dict[str, Any] = {"id": where.agent, "tenant": where.tenant, "labels": ()}
    asked: dict[str, Any] = {
        "version": 1, "agent": agent, "domain": where.domain, "change": change, "trust": facts,
    }  # fmt: skip
    if principal is not None:
        agent |= {"owner": principal.owner, "labels": principal.labels}
        asked["environment"] = principal.environment
    return asked
