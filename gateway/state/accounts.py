"""What agents and tenants may use, whatever session it is used in."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

import msgspec

from gateway.model import Mark, Principal
from gateway.sessions.budgets import Account, Limit
from gateway.sessions.rules import SessionRules
from gateway.storage.sessions import SavedAccount

MAX_HELD: Final = 100_000
"""Reservations of one agent or tenant: calls under way, and those whose outcome is unknown."""


class Holder:
    """One account that outlives sessions."""

    __slots__ = ("account", "dirt", "n", "saved_n", "scope")

    def __init__(self, scope: str, account: Account) -> None:
        self.scope = scope
        self.account = account
        self.n = 0
        self.saved_n = 0
        self.dirt = 0  # how often it changed without a mark

    def soil(self) -> None:
        """It changed without a mark, so its number does not tell."""
        self.saved_n = -1
        self.dirt += 1


class Holders:
    """The accounts of agents and tenants: few, so they stay in memory. Only those with limits are kept."""

    def __init__(self, rules: SessionRules) -> None:
        self._rules = rules
        self._held: dict[str, Holder] = {}
        self._found: dict[tuple[str, str], tuple[tuple[str, Holder], ...]] = {}  # what ``at`` said

    @property
    def rules(self) -> SessionRules:
        return self._rules

    @rules.setter
    def rules(self, rules: SessionRules) -> None:
        self._rules = rules
        self._found.clear()
        for scope, holder in self._held.items():
            limits = self._limits(scope)
            if holder.account.limits != limits:
                holder.account = holder.account.resized(limits)
                holder.soil()

    def of(self, principal: Principal) -> tuple[tuple[str, Holder], ...]:
        """``(scope for the facts, account)`` of those that have limits."""
        return self.at(principal.tenant, principal.agent)

    def at(self, tenant: str, agent: str) -> tuple[tuple[str, Holder], ...]:
        known = self._found.get((tenant, agent))
        if known is not None:
            return known
        found: list[tuple[str, Holder]] = []
        rules = self._rules
        if limits := rules.agent_limits.get((tenant, agent)):
            found.append(("agent", self._holder(f"agent:{tenant}/{agent}", limits)))
        if limits := rules.tenant_limits.get(tenant):
            found.append(("tenant", self._holder(f"tenant:{tenant}", limits)))
        if (tenant, agent) in rules.agent_limits:  # only what is configured is remembered: that is bounded
            self._found[tenant, agent] = tuple(found)
        return tuple(found)

    def restore(self, saved: Iterable[SavedAccount]) -> None:
        self._found.clear()
        for scope, n, state in saved:
            account = Account.decode(msgspec.msgpack.decode(state))
            holder = Holder(scope, account.resized(self._limits(scope)))
            holder.n = holder.saved_n = n
            self._held[scope] = holder

    def changed(self) -> list[tuple[SavedAccount, Holder]]:
        """Those that are not stored as they are, as they would be."""
        return [
            (SavedAccount(scope, holder.n, msgspec.msgpack.encode(holder.account.encode())), holder)
            for scope, holder in self._held.items()
            if holder.n != holder.saved_n
        ]

    def __iter__(self) -> Iterator[Holder]:
        return iter(self._held.values())

    def _holder(self, scope: str, limits: tuple[Limit, ...]) -> Holder:
        holder = self._held.get(scope)
        if holder is None:
            # Open since ever: what is applied again after a restart is older than the restart.
            account = Account(limits, opened_ns=0, max_reservations=MAX_HELD)
            holder = self._held[scope] = Holder(scope, account)
        return holder

    def _limits(self, scope: str) -> tuple[Limit, ...]:
        kind, _, name = scope.partition(":")
        if kind == "tenant":
            return self._rules.tenant_limits.get(name, ())
        tenant, _, agent = name.partition("/")
        return self._rules.agent_limits.get((tenant, agent), ())


def spent(account: Account, mark: Mark) -> None:
    """What a mark does to an account, whether or not the account knows the call."""
    if mark.held:
        if not account.hold(mark.call):
            account.promise(mark.call, mark.charged)
            account.hold(mark.call)
    elif mark.status in ("refused", "not_sent"):
        account.release(mark.call)
    elif not account.settle(mark.call, mark.charged, mark.at_ns):
        account.charge(mark.charged, mark.at_ns)
