"""The accounts of trust: evidence is taken in, tiers fall at once, and all of it outlives the process.

A fall holds in memory at the moment of its cause and is written right behind, together with its cause;
evidence is counted when it is known to be new.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Final, Literal, NamedTuple, Protocol

import msgspec
from sqlalchemy.exc import SQLAlchemyError

from gateway.errors import JournalError
from gateway.model import Json
from gateway.storage.trust import Added, Event, TrustStore, Where
from gateway.trust import falls
from gateway.trust.account import Account, changed, held, known, owed, refresh, take
from gateway.trust.caps import NO_CAP, Cap, of_debt
from gateway.trust.evidence import Evidence
from gateway.trust.settings import HIGHEST, SECOND, Settings

logger = logging.getLogger("wardgate.trust")

SWEEP_S: Final = 1.0
_JUDGED: Final = 50  # accounts looked at in one sweep
_QUEUE: Final = 20_000
_VIEWS: Final = 20_000
_VIEW_NS: Final = 10 * SECOND
_FALLING: Final = ("incident", "trip", "failures", "operator", "policy", "elsewhere")


class Counts(Protocol):
    """The metrics of trust."""

    def trust_evidence(self, outcome: str, number: int) -> None: ...

    def trust_moved(self, cause: str) -> None: ...


class View(NamedTuple):
    """An account as the way of a call needs it."""

    account: Account | None
    tier: int  # that it holds
    cap: Cap  # of its own: trouble of late, or a change
    facts: Mapping[str, Json]  # ``input.trust``, as long as nothing else holds it down
    until_ns: int


Keeps = Callable[[Where, Mapping[str, Json]], bool]
"""Whether the rules of policy let a tier be kept."""


class Book:
    """All methods run on the event loop's thread."""

    def __init__(
        self,
        store: TrustStore,
        settings: Settings,
        now_ns: Callable[[], int],
        *,
        keeps: Keeps = lambda where, facts: True,
        took_back: Callable[[str, str], None] = lambda tenant, agent: None,
        counts: Counts | None = None,
    ) -> None:
        """``now_ns`` is the steady time; ``took_back`` hears whose tier fell (tenant, agent)."""
        self.store = store
        self.settings = settings
        self.now_ns = now_ns
        self.enabled = True
        self.accounts: dict[Where, Account] = {}
        self.dropped = 0
        self._keeps = keeps
        self._took_back = took_back
        self._counts = counts
        self._views: dict[Where, View] = {}
        self._unknown = _viewed(None, 0, settings)
        self._domains: dict[tuple[str, str], list[str]] = {}
        self._rows: list[Evidence] = []
        self._waits: list[tuple[Evidence, int]] = []
        self._dirty: set[Where] = set()
        self._events: list[Event] = []
        self._taken_back = False
        self._round: list[Where] = []
        self._wake = asyncio.Event()
        self._flushing = asyncio.Lock()

    async def open(self) -> None:
        """Know again what was known, and take in what a crash left over."""
        accounts, late = await asyncio.to_thread(self.store.load)
        for where, account in accounts.items():
            self._put(where, account)
        for row in late:
            self._fold(row)
        await self.flush()

    def domains(self, tenant: str, agent: str) -> Sequence[str]:
        """Where anything is known of an agent."""
        return self._domains.get((tenant, agent), ())

    def account(self, where: Where) -> Account:
        """The account of an agent in a domain, opened when there is none."""
        account = self.accounts.get(where)
        if account is None:
            account = Account(tier=self.settings.initial, at_ns=self.now_ns())
            self._put(where, account)
        return account

    def view(self, where: Where, now_ns: int) -> View:
        """An account as calls see it: made at most every few seconds, and anew with every change."""
        found = self._views.get(where)
        if found is not None and now_ns < found.until_ns:
            return found
        account = self.accounts.get(where)
        if account is None:
            return self._unknown
        if len(self._views) >= _VIEWS:
            self._views.clear()
        found = self._views[where] = _viewed(account, now_ns, self.settings)
        return found

    def configured(self, settings: Settings, *, enabled: bool) -> None:
        """Take new settings; tiers that were signed stay, and are judged by the new numbers."""
        self.settings, self.enabled = settings, enabled
        self._views.clear()
        self._unknown = _viewed(None, 0, settings)

    def touched(self, where: Where) -> None:
        """Something short-lived changed: saved with whatever is saved next."""
        self._dirty.add(where)

    def _changed(self, where: Where) -> None:
        self._views.pop(where, None)
        self._dirty.add(where)

    # -- evidence --------------------------------------------------------------------------------

    def now(self, row: Evidence) -> None:
        self._rows.append(row)
        self._wake.set()

    def later(self, row: Evidence) -> None:
        if len(self._waits) >= _QUEUE:
            self.dropped += 1  # the disk refuses for long: what is for an agent is what may be lost
            return
        self._waits.append((row, row.at_ns + int(self.settings.grace_s * SECOND)))
        self._wake.set()

    def struck(self, where: Where, cause: Literal["incident", "trip"], row: Evidence) -> falls.Fall:
        """Something went wrong in a domain: the tier is lost now, and its evidence is written behind."""
        now = self.now_ns()
        account = self.account(where)
        fell = falls.struck(account, cause, now, self.settings)
        self._fell(where, account, fell, row.ref, row.note, always=True)
        for domain in list(self._domains.get((where.tenant, where.agent), ())):
            if domain == where.domain:
                continue
            other = Where(where.tenant, where.agent, domain)
            lost = falls.elsewhere(self.accounts[other], now, self.settings)
            if lost is not None:
                self._fell(other, self.accounts[other], lost, row.ref, f"{cause} in {where.domain}")
        self.now(row)
        return fell

    # -- changes ---------------------------------------------------------------------------------

    def put(
        self, where: Where, account: Account, events: Sequence[Event], *, took_back: bool = False
    ) -> None:
        """A person changed something: in force now, on disk with the next flush."""
        refresh(account, self.now_ns(), self.settings)
        self._put(where, account)
        self._changed(where)
        self._events += events
        for event in events:
            if self._counts is not None and event.kind != "signed":
                self._counts.trust_moved(event.cause or event.kind)
        if took_back:
            self._take_back(where)
        self._wake.set()

    def _put(self, where: Where, account: Account) -> None:
        if where not in self.accounts:
            self._domains.setdefault((where.tenant, where.agent), []).append(where.domain)
        self.accounts[where] = account
        self._views.pop(where, None)

    def rebuilt(self, where: Where, account: Account, build: str, now: int) -> None:
        # One that comes as two builds in turn has changed once: a record for each call would say nothing.
        before = account.build if not account.reprove else ""
        changed(account, build, self.settings)
        self._changed(where)
        if before:
            reason = f"from {before} to {build}"
            self._event(where, account, "changed", account.tier, "rebuilt", "", reason, now)
            logger.warning("an agent has changed", extra={"agent": where.agent, "domain": where.domain})
            self._wake.set()

    def _fell(
        self, where: Where, account: Account, fell: falls.Fall, ref: str, note: str, *, always: bool = False
    ) -> None:
        refresh(account, self.now_ns(), self.settings)
        self._changed(where)
        if fell.after == fell.before and not always:
            return
        self._event(where, account, "fell", fell.before, fell.cause, ref, note, self.now_ns())
        if fell.cause in _FALLING:
            self._take_back(where)
        logger.warning(
            "agent %s fell from T%d to T%d in %s: %s",
            where.agent, fell.before, fell.after, where.domain, fell.cause,
            extra={"agent": where.agent, "domain": where.domain, "cause": fell.cause, "ref": ref},
        )  # fmt: skip
        if self._counts is not None:
            self._counts.trust_moved(fell.cause)

    def _take_back(self, where: Where) -> None:
        self._taken_back = True
        self._took_back(where.tenant, where.agent)
        self._wake.set()

    def _event(
        self,
        where: Where,
        account: Account,
        kind: str,
        before: int,
        cause: str,
        ref: str,
        note: str,
        now: int,
    ) -> None:
        self._events.append(
            Event(
                **where._asdict(), kind=kind, before=before, after=account.tier, cause=cause, ref=ref,
                reason=note[:500], at_ns=now,
            )
        )  # fmt: skip

    def _fold(self, row: Evidence) -> bool:
        """Take one row of the ledger into its account, and see what that means for the tier; ``False`` when
        it is in there already.
        """
        where = Where(row.tenant, row.agent, row.domain)
        account = self.account(where)
        if row.seq <= account.seq:
            return False
        now = self.now_ns()
        if not account.build:
            account.build = row.build
        take(account, row, now, self.settings)
        refresh(account, now, self.settings)
        self._changed(where)
        if row.bad:
            self._judge(where, account, failed=True, ref=row.ref)
        return True

    def _judge(self, where: Where, account: Account, *, failed: bool, ref: str = "") -> None:
        now = self.now_ns()
        fell = falls.judged(account, now, self.settings, failed=failed)
        if fell is not None:
            self._fell(where, account, fell, ref, "")
        # Rules may ask for more than the floors; what they refuse is lost step by step.
        while account.tier > self.settings.initial:
            facts = {
                **facts_of(account, account.tier, owed(account, now, self.settings)),
                "bad": round(account.bad, 3), "falls": account.falls,
            }  # fmt: skip
            if self._keeps(where, facts):
                break
            self._fell(
                where, account, falls.taken(account, account.tier - 1, "policy", now, self.settings), ref, ""
            )

    # -- keeping ---------------------------------------------------------------------------------

    async def run(self) -> None:
        """Write what happened, let outcomes ripen, and look what time has done; runs until cancelled."""
        while True:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._wake.wait(), SWEEP_S)
            self._wake.clear()
            try:
                if self.enabled:
                    await self.sweep()
                await self.flush()
            except (JournalError, SQLAlchemyError):
                logger.exception("trust could not be saved; what was lost is lost in this process at once")
                await asyncio.sleep(1)

    async def sweep(self) -> None:
        """Outcomes whose grace is over count now; tiers that have ended, end."""
        # Sums take in rows in the order of the ledger, so nothing that is newer may overtake.
        async with self._flushing:
            await self._put_down()
            ripe = await asyncio.to_thread(self.store.mature, self.now_ns(), self.settings.per_day)
            self._added(ripe)
        if not self._round:
            self._round = list(self.accounts)
        for where in self._round[-_JUDGED:]:
            account = self.accounts[where]
            if account.tier > self.settings.initial:
                refresh(account, self.now_ns(), self.settings)
                self._judge(where, account, failed=False)
        del self._round[-_JUDGED:]

    async def flush(self) -> None:
        """Put down all there is; raises and keeps it when that fails."""
        async with self._flushing:
            await self._put_down()

    async def _put_down(self) -> None:
        waits, self._waits = self._waits, []
        try:
            if waits:
                await asyncio.to_thread(self.store.wait, waits)
        except BaseException:
            self._waits = waits + self._waits
            raise
        added = await self._save()
        if added is not None:
            self._added(added)
            await self._save()

    def _added(self, added: Added) -> None:
        for row in added.counted:
            new = self._fold(row)
            if self._counts is not None:
                self._counts.trust_evidence(row.outcome if new else "known", 1)
        for why, number in added.left.items():
            if self._counts is not None:
                self._counts.trust_evidence(why, number)

    async def _save(self) -> Added | None:
        """Write evidence and accounts; what the ledger made of the evidence, ``None`` when there was none."""
        if not (self._rows or self._dirty or self._events or self._taken_back):
            return None
        rows, self._rows = self._rows, []
        dirty, self._dirty = self._dirty, set()
        events, self._events = self._events, []
        taken, self._taken_back = self._taken_back, False
        accounts = [(where, msgspec.msgpack.encode(self.accounts[where])) for where in sorted(dirty)]
        now, per_day = self.now_ns(), self.settings.per_day
        try:
            if not rows:
                await asyncio.to_thread(
                    lambda: self.store.save(accounts, events, now_ns=now, authority=taken)
                )  # fmt: skip
                return None
            # What is in the ledger is not struck for again: a fall is on disk with its cause, or neither is.
            return await asyncio.to_thread(
                lambda: self.store.add(rows, per_day, accounts, events, now_ns=now, authority=taken)
            )
        except BaseException:
            self._rows = rows + self._rows
            self._dirty |= dirty
            self._events = events + self._events
            self._taken_back = taken or self._taken_back
            raise

    async def close(self) -> None:
        await self.flush()

    def holding(self) -> dict[int, int]:
        """How many accounts hold each tier, for the metrics."""
        now = self.now_ns()
        found = dict.fromkeys(range(HIGHEST + 1), 0)
        for account in self.accounts.values():
            found[held(account, now, self.settings)] += 1
        return found


def _viewed(account: Account | None, now_ns: int, settings: Settings) -> View:
    tier = held(account, now_ns, settings)
    if account is None:
        return View(None, tier, Cap(NO_CAP, ""), facts_of(None, tier, 0.0), 0)
    debt = owed(account, now_ns, settings)
    cap = short_cap(account, now_ns, settings)
    until = now_ns + _VIEW_NS
    if now_ns < account.until_ns < until:
        until = account.until_ns
    return View(account, tier, cap, facts_of(account, tier, debt), until)


def short_cap(account: Account, now_ns: int, settings: Settings) -> Cap:
    """What holds an agent down in this domain: its trouble of late, or that it has changed."""
    cap = of_debt(owed(account, now_ns, settings), settings)
    if account.reprove and settings.caps.rebuilt < cap.tier:
        cap = Cap(settings.caps.rebuilt, "rebuilt")
    return cap


def facts_of(account: Account | None, tier: int, debt: float) -> dict[str, Json]:
    """``input.trust`` of an account that nothing else holds down."""
    return {
        "tier": tier,
        "held": tier,
        "cap": "",
        "bound": round(account.bound, 6) if account is not None else 0.05,
        "evidence": round(known(account), 3) if account is not None else 0.0,
        "debt": round(debt, 3),
    }
