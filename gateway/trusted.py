"""Trust of one gateway: put together, and what it has to know of configuration, policy, catalog and sessions.

What a reload may replace is looked up when it is needed.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, Self

from gateway.approvals.chain import also_known_as, groups_of, names_of
from gateway.approvals.values import Approval, Notice
from gateway.config import Config
from gateway.errors import Refused, WardgateError
from gateway.guard import Guard
from gateway.identity.principals import principal_of
from gateway.model import Call, Json, Operator, Principal
from gateway.outside import Outside
from gateway.policy.policy import EmbeddedPolicy
from gateway.reasons import REASONS
from gateway.standing import desk
from gateway.standing.book import Book
from gateway.standing.intake import Intake
from gateway.standing.keeper import TrustKeeper
from gateway.standing.ranks import Ranks
from gateway.state.memory import MemoryState
from gateway.storage.database import Database
from gateway.storage.trust import TrustStore, Where
from gateway.telemetry.metrics import Metrics
from gateway.watch import Work

logger = logging.getLogger("wardgate.trust")


class Now(Protocol):
    """What is in force."""

    config: Config
    policy: EmbeddedPolicy
    outside: Outside


class Trusted:
    """``keeper`` is the pipeline's, ``desk`` people's."""

    keeper: TrustKeeper
    desk: desk.TrustDesk

    def __init__(self, now: Callable[[], Now], state: MemoryState, report: Callable[[Work], None]) -> None:
        self._now = now
        self._state = state
        self._report = report  # begins work in the background

    @classmethod
    async def open(
        cls, database: Database, guard: Guard, state: MemoryState, metrics: Metrics, *,
        now: Callable[[], Now], took_back: Callable[[str, str], None], report: Callable[[Work], None],
    ) -> Self:  # fmt: skip
        """After the breakers, whose trips take tiers, and before the first call."""
        self = cls(now, state, report)
        config = now().config.trust
        book = Book(
            TrustStore(database), config.settings(), state.now_ns, keeps=self._keeps, took_back=took_back,
            counts=metrics,
        )  # fmt: skip
        book.configured(config.settings(), enabled=config.enabled)
        ranks = Ranks(
            book, agent_of=lambda tenant, actor: agent_of(now().config, tenant, actor),
            delegators=self._delegators,
        )  # fmt: skip
        self.keeper = TrustKeeper(book, ranks, Intake(book, ranks, domain_of=self._domain_of))
        around = desk.Around(
            registered=lambda tenant, agent: registered(now().config, tenant, agent),
            outside=lambda operator, owner: is_outside(now().config, operator, owner),
            domains=lambda: domains_of(now().outside),
            rules=lambda question: now().policy.trust(question),
            domain_of=self._domain_of,
        )
        self.desk = desk.TrustDesk(book, ranks, around)
        await book.open()
        newest = await asyncio.to_thread(book.store.newest)
        trips = await asyncio.to_thread(lambda: guard.store.trips(limit=1000))
        # Older ones have been taken in, or are from before there was any trust to lose.
        await self.keeper.intake.open([told.trip for told in trips if told.trip.at_ns >= newest > 0])
        guard.heard.append(self.keeper.intake.tripped)
        metrics.watch_trust(lambda: book.holding() if book.enabled else {})
        return self

    def of_lists(
        self, policy: EmbeddedPolicy, *, enabled: bool
    ) -> Callable[[Principal], Mapping[str, Any]] | None:
        """What rules of lists are told, where one of them asks."""
        reads = (path for module in policy.bundle.phase("list") for path in module.reads)
        return self.keeper.ranks.tiers if enabled and any(path[0] == "trust" for path in reads) else None

    def noticed(self, notice: Notice) -> None:
        """What people said of a held call is evidence about the agent that made it."""
        if notice.event == "rejected":
            each = notice.approval
            self.keeper.intake.rejected(
                each.tenant, each.agent, each.target, each.risk, each.id, each.call_id, each.reason_code or ""
            )

    def incident(self, approval: Approval, by: Operator, note: str) -> None:
        """An approved call was wrong: that is also evidence about the agent, from who may give evidence."""
        if by.role in desk.SIGNERS and approval.attempt_call is not None:
            self._report(self._against(approval.tenant, approval.attempt_call, by, note))

    async def _against(self, tenant: str, call_id: str, by: Operator, note: str) -> None:
        try:
            await self.desk.report(tenant, call_id, by, kind="incident", reason=note)
        except WardgateError as error:
            logger.warning("an incident is no evidence: %s", error.code, extra={"call_id": call_id})

    def _keeps(self, where: Where, facts: Mapping[str, Json]) -> bool:
        """Whether no rule refuses an agent the tier it holds. One that fails takes nothing."""
        policy = self._now().policy
        if not policy.bundle.phase("trust"):
            return True
        principal = registered(self._now().config, where.tenant, where.agent)
        decision = policy.trust(desk.kept(where, principal, facts))
        return decision.verdict != "deny" or all(each.code in REASONS for each in decision.findings)

    def _delegators(self, call: Call) -> Sequence[str]:
        session = self._state.sessions.held(call.session)
        if session is None or not session.ancestors:
            return ()
        return [above.whose.agent for above in session.ancestors if above.whose.agent != call.principal.agent]

    def _domain_of(self, target: str) -> str:
        upstream, _, name = target.partition("/")
        try:
            return self._now().outside.catalog.resolve("tool", upstream, name).manifest.domain
        except Refused:
            return "general"


def registered(config: Config, tenant: str, agent: str) -> Principal | None:
    """An agent as it is configured, without any credential."""
    found = config.agents.get(agent)
    if found is None or found.tenant != tenant:
        return None
    return principal_of(agent, found, config.mode, "")


def is_outside(config: Config, operator: str, owner: str) -> bool:
    """Whether an operator is neither an agent's owner, under any name, nor in the owner's group."""
    known = config.approvals
    names = (operator, *also_known_as(operator, known.aliases))
    return names_of(*names, *groups_of(names, known.groups)).isdisjoint(names_of(owner))


def agent_of(config: Config, tenant: str, actor: str) -> str | None:
    """The agent that an actor of a token's chain is, if it is one of this tenant."""
    names = [actor]
    for name, issuer in config.identity.issuers.items():
        prefix = issuer.prefix(name)
        if actor.startswith(prefix):
            said = actor.removeprefix(prefix)
            names.append(issuer.agents.get(said, "") if issuer.agents else said)
    return next(
        (each for each in names if each in config.agents and config.agents[each].tenant == tenant), None
    )


def domains_of(outside: Outside) -> set[str]:
    """Of all tools there are."""
    catalog = outside.catalog
    tools = (*catalog.tools("tool"), *catalog.elsewhere, *catalog.held())
    return {tool.manifest.domain for tool in tools} | {"general"}
