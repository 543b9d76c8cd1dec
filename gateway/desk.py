"""Where agents and people reach sessions: open, look at, end, check, declassify.

The surfaces ask here, so the rules of who may do what to whose session stand in one place. Everything that
is done is an act on record before it is in force.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Final, Literal

from gateway.config import Config
from gateway.errors import BadMandate, Fault, Refused
from gateway.model import Ask, Principal
from gateway.remembered import Remembered
from gateway.sessions.mandate import Ceiling
from gateway.sessions.session import Session
from gateway.sessions.view import moment, seen
from gateway.state.memory import MemoryState
from gateway.state.sessions import Sessions
from gateway.state.whose import belongs
from gateway.storage.sessions import Act

Seen = dict[str, Any]
ActName = Literal["close", "checkpoint", "declassify", "suspect", "clear"]

ANYTHING: Final = Ceiling(broad=True)
"""What an operator may give who says that it is meant to be broad."""

BREAKER: Final = "breaker"
OPERATOR: Final = "operator "
"""Before the name of a person in ``opened_by`` and ``by``: names of agents have no spaces."""


class Desk:
    """All methods run on the event loop's thread; those that raise, raise ``Refused``."""

    def __init__(self, remembered: Remembered, config: Callable[[], Config]) -> None:
        self._remembered = remembered
        self._config = config

    # -- agents ------------------------------------------------------------------------------------------

    def knows(self, tenant: str, agent: str) -> bool:
        """Whether there is such an agent of a tenant."""
        found = self._config().agents.get(agent)
        return found is not None and found.tenant == tenant

    def may_open(self, principal: Principal, agent: str, subject: str | None) -> None:
        """Raise unless a principal may open sessions for an agent and user."""
        _scoped(principal)
        ceiling = self._state.rules.mints.get((principal.tenant, principal.agent))
        # Without this an agent would choose its own bounds.
        if ceiling is None or principal.mandate_json or not ceiling.may_mint_for(agent):
            raise Refused("may_not_open_sessions", agent)
        # Who acts for one user must not hand out work in the name of another.
        if principal.subject is not None and subject not in (None, principal.subject):
            raise Refused("may_not_open_sessions", "for another user")

    async def open_for(
        self, principal: Principal, *, agent: str, subject: str | None, mandate: Mapping[str, Any] | None,
        parent: str, note: str,
    ) -> Seen:  # fmt: skip
        """Open a session as far as this principal may."""
        self.may_open(principal, agent, subject)
        ceiling = self._state.rules.mints[principal.tenant, principal.agent]
        if parent:
            above = await self._sessions.find(parent)
            # A session of somebody else must not lend its mandate, nor be found out by asking.
            if above is None or not belongs(above.whose, principal):
                raise Refused("no_such_session", "parent")
        await self._bounded(mandate, parent)
        session = await self._sessions.open(
            tenant=principal.tenant, agent=agent, subject=subject, mandate=mandate, by=principal.agent,
            parent=parent, ceiling=ceiling, note=note,
            detail={"credential": principal.credential, "subject": principal.subject},
        )  # fmt: skip
        return self._seen(session)

    async def current(self, principal: Principal, named: str) -> Seen:
        """The session a request of this principal is in."""
        ask = Ask(
            principal=principal, surface="http", kind="tool", upstream="", name="", args={}, session=named
        )
        return self._seen(self._sessions.of(await self._state.enter(ask)))

    async def shown_to(self, principal: Principal, session: str) -> Seen:
        """A session for whoever may use it or opened it."""
        found = await self._sessions.find(session)
        if found is None or not (belongs(found.whose, principal) or await self._opened(found, principal)):
            raise Refused("no_such_session")
        return self._seen(found)

    async def close_for(self, principal: Principal, session: str, note: str) -> Seen:
        """End a session for whoever opened it; one that has ended stays ended."""
        _scoped(principal)
        found = await self._sessions.find(session)
        # To end the session one has without asking would be to leave its labels behind.
        if found is None or not await self._opened(found, principal):
            raise Refused("no_such_session")
        return await self._act(found, "close", principal.agent, note, {"credential": principal.credential})

    async def _opened(self, session: Session, principal: Principal) -> bool:
        whose = session.whose
        mine = (whose.tenant, whose.opened_by, whose.rolling) == (principal.tenant, principal.agent, False)
        if not mine:
            return False
        if belongs(whose, principal):
            return True
        acts = await asyncio.to_thread(partial(self._remembered.store.acts, session=whose.id))
        return any(
            act.act == "open" and "subject" in act.detail and act.detail["subject"] == principal.subject
            for act in acts
        )

    async def seen(self, session: str) -> Seen:
        """A session that a call is in."""
        found = await self._sessions.find(session)
        if found is None:
            raise Refused("no_such_session")
        return self._seen(found)

    # -- people ------------------------------------------------------------------------------------------

    async def listed(
        self, tenant: str, agent: str | None, *, closed: bool, limit: int, after: str
    ) -> tuple[Sequence[Seen], str | None]:
        """Sessions of a tenant, those used last first, and the cursor of the next page."""
        await self._remembered.store_new()
        stored = await asyncio.to_thread(
            partial(self._remembered.store.listed, tenant, agent, closed=closed, limit=limit + 1, after=after)
        )
        more = len(stored) > limit
        found = []
        for each in stored[:limit]:
            session = self._sessions.held(each.id) or await self._sessions.viewed(each)
            found.append(self._seen(session))
        return found, stored[limit - 1].id if more else None

    async def all(self, agent: str | None, *, closed: bool, limit: int) -> list[Seen]:
        """Sessions of every tenant, those used last first; writes nothing, for the command line."""
        stored = await asyncio.to_thread(
            partial(self._remembered.store.listed, None, agent, closed=closed, limit=limit)
        )
        live = self._sessions.live()
        found = {each.whose.id: each for each in live if agent in (None, each.whose.agent)}
        for each in stored:
            if each.id not in found:
                found[each.id] = await self._sessions.viewed(each)
        wanted = [each for each in found.values() if closed or each.status != "closed"]
        wanted.sort(key=_used_ns, reverse=True)
        return [self._seen(each) for each in wanted[:limit]]

    async def shown(self, tenant: str | None, session: str) -> Seen:
        """A session of a tenant, or of any, with everything that was done to it."""
        found = await self._of_tenant(tenant, session)
        acts = await asyncio.to_thread(partial(self._remembered.store.acts, session=found.whose.id))
        return {**self._seen(found), "acts": [act_seen(act) for act in acts]}

    async def open_by(
        self, operator: str, *, tenant: str, agent: str, subject: str | None,
        mandate: Mapping[str, Any] | None, parent: str, note: str, broad: bool,
    ) -> Seen:  # fmt: skip
        """Open a session as a person; only breadth must be said on purpose."""
        await self._bounded(mandate, parent)
        session = await self._sessions.open(
            tenant=tenant, agent=agent, subject=subject, mandate=mandate, by=OPERATOR + operator,
            parent=parent, ceiling=ANYTHING if broad else None, note=note,
        )  # fmt: skip
        return self._seen(session)

    async def act(
        self, operator: str, *, tenant: str | None, session: str, act: ActName, note: str,
        labels: Sequence[str] = (),
    ) -> Seen:  # fmt: skip
        """Do something to a session as a person."""
        found = await self._of_tenant(tenant, session)
        detail = {"labels": list(labels)} if act == "declassify" else {}
        return await self._act(found, act, OPERATOR + operator, note, detail)

    async def has(self, tenant: str, agent: str, session: str) -> bool:
        """Whether there is such an agent of a tenant and, when one is named, such a session of it."""
        if not self.knows(tenant, agent):
            return False
        if not session:
            return True
        found = await self._sessions.find(session)
        return found is not None and (found.whose.tenant, found.whose.agent) == (tenant, agent)

    # -- breakers ----------------------------------------------------------------------------------------

    async def suspected(self, session: str, trip: str, since_ns: int, why: str) -> None:
        """What a stopped session did since then is suspect, until a reviewer calls the trip a false one."""
        found = await self._sessions.find(session)
        if found is None:
            return
        found.suspected(trip, since_ns)  # at once: its next call may come before the act is on disk
        with contextlib.suppress(Refused):  # it has ended, and nothing of it goes on
            await self._act(found, "suspect", BREAKER, why, {"trip": trip, "since_ns": since_ns})

    async def cleared(self, session: str, trip: str, by: str) -> None:
        """A reviewer said that a trip was a false one."""
        found = await self._sessions.find(session)
        if found is not None and trip in found.suspects:
            with contextlib.suppress(Refused):
                await self._act(found, "clear", OPERATOR + by, "the trip was a false one", {"trip": trip})

    async def _bounded(self, mandate: Mapping[str, Any] | None, parent: str) -> None:
        """Raise when nobody says what a session is for: it would have no bounds at all."""
        above = await self._sessions.find(parent) if parent else None
        if mandate is None and (above is None or above.mandate is None) and not (parent and above is None):
            raise BadMandate([Fault("", "is missing", "write what the session is for")])

    # -- parts -------------------------------------------------------------------------------------------

    @property
    def _state(self) -> MemoryState:
        return self._remembered.state

    @property
    def _sessions(self) -> Sessions:
        return self._remembered.state.sessions

    async def _of_tenant(self, tenant: str | None, session: str) -> Session:
        found = await self._sessions.find(session)
        # Another tenant's session does not exist for this operator.
        if found is None or tenant not in (None, found.whose.tenant):
            raise Refused("no_such_session")
        return found

    async def _act(
        self, session: Session, name: ActName, by: str, note: str, detail: Mapping[str, Any]
    ) -> Seen:
        whose = session.whose
        if session.status == "closed":
            if name == "close":
                return self._seen(session)
            raise Refused("session_closed", whose.id)
        act = Act(
            session=whose.id, tenant=whose.tenant, at_ns=self._state.now_ns(), act=name, by=by, note=note,
            detail=detail,
        )  # fmt: skip
        try:
            await asyncio.to_thread(self._remembered.store.act, act)
        except LookupError:  # it was never saved, and an act must name what is on disk
            await self._sessions.keep(session)
            await asyncio.to_thread(self._remembered.store.act, act)
        await self._remembered.acted()
        return self._seen(await self._sessions.find(whose.id) or session)

    def _seen(self, session: Session) -> Seen:
        at = self._state.now_ns()
        return seen(session, at, self._state.budgets(session))


def _scoped(principal: Principal) -> None:
    # A token without the scopes its issuer's tokens need may look around, and does nothing.
    if principal.missing_scopes:
        raise Refused("insufficient_scope", " ".join(principal.missing_scopes))


def _used_ns(session: Session) -> int:
    return session.last[-1].at_ns if session.last else session.whose.opened_ns


def act_seen(act: Act) -> dict[str, Any]:
    return {"act": act.act, "at": moment(act.at_ns), "by": act.by, "note": act.note, "detail": act.detail}
