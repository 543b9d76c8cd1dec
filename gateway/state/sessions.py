"""The sessions of one process: which one a request belongs to, and how long it stays in memory.

A session cannot be left by reconnecting or by naming another: whoever names none is in the rolling session of
its credential and verified subject, and only a credential that may open sessions finds a clean one. What is
not in memory is in the storage, so being pushed out of memory forgets nothing.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable, Mapping
from hashlib import blake2b
from typing import Any, Final

import msgspec
import orjson

from gateway.errors import BadMandate, Fault, Refused, StateError
from gateway.model import Ask, Principal
from gateway.rolling import rolling_session
from gateway.sessions import mandate as mandates
from gateway.sessions.budgets import Account
from gateway.sessions.mandate import Ceiling, Mandate
from gateway.sessions.monitors import Monitors
from gateway.sessions.progress import Horizon
from gateway.sessions.provenance import Prints
from gateway.sessions.rules import SessionRules
from gateway.sessions.session import Saved, Session, Whose, learned, limits_of
from gateway.state.whose import ID, anew_id, belongs, id_of, opener, own_id
from gateway.storage.sessions import Act, SessionStore, Stored

logger = logging.getLogger("wardgate.sessions")

NO_MONITORS: Final = Monitors({})
MAX_DEPTH: Final = 8
"""Sessions above one another."""

BEYOND: Final = 1.5
"""How far memory may be over its bound while what is in it is saved; then nobody new is let in."""

_MAX_NAME: Final = 128

_saved: Final = msgspec.msgpack.Decoder(Saved).decode
_encode: Final = msgspec.msgpack.Encoder().encode
_mandate: Final = msgspec.json.Decoder(Mandate).decode
_mandate_json: Final = msgspec.json.Encoder().encode


class Sessions:
    """Finds, opens and keeps sessions. All methods run on the event loop's thread."""

    def __init__(
        self,
        store: SessionStore,
        now_ns: Callable[[], int],
        rules: SessionRules,
        monitors: Monitors = NO_MONITORS,
        secret: bytes = b"",
    ) -> None:
        """``now_ns`` is the steady time; ``secret`` keys the prints of values, so that they tell nothing."""
        self.store = store
        self._monitors = monitors
        self._secret = secret
        self._now_ns = now_ns
        self._rules = rules
        self.doubtful: frozenset[str] = frozenset()  # calls that a gateway before this one left in doubt
        self._live: OrderedDict[str, Session] = OrderedDict()
        self._loading: dict[str, asyncio.Task[Session | None]] = {}
        self._naming = asyncio.Lock()
        self._ahead: dict[str, tuple[Stored, list[Act]]] = {}
        self._late: dict[str, list[Act]] = {}  # done to sessions while they are read
        self.opened: Counter[str] = Counter()  # for metrics: by whom
        # Whether this process knows all that a session is, and may store it; a command line has no monitors.
        self.whole = True

    def __len__(self) -> int:
        return len(self._live)

    @property
    def rules(self) -> SessionRules:
        return self._rules

    @rules.setter
    def rules(self, rules: SessionRules) -> None:
        self._rules = rules
        for session in self._live.values():
            self._fit(session)

    @property
    def monitors(self) -> Monitors:
        return self._monitors

    @monitors.setter
    def monitors(self, monitors: Monitors) -> None:
        self._monitors = monitors
        _anew({name for session in self._live.values() for name in session.watched_by(monitors)})

    # ------------------------------------------------------------------------------------- finding

    async def enter(self, ask: Ask) -> Session:
        """The session of a request; raises ``Refused``."""
        principal = ask.principal
        if ask.session or principal.mandate_json or ask.mandate_json:
            session = await self._asked(ask)
        else:
            base = rolling_session(principal)
            session = self._live.get(base) or await self._rolling(base, principal)
        while session.successor is not None:
            session = session.successor
        for each in (session, *session.ancestors):
            # What a person or the orchestrator ended must not go on, nor what was delegated from it.
            if each.status == "closed":
                raise Refused("session_closed", each.whose.id)
        # Read a moment ago, it may have been pushed out already; what is used must be what is in memory.
        session = self._live.setdefault(session.whose.id, session)
        self._live.move_to_end(session.whose.id)
        return session

    def at_hand(self, principal: Principal, named: str) -> Session | None:
        """The session if it is in memory and this principal's; lists ask, and must not wait."""
        session = self._live.get(id_of(principal, named))
        while session is not None and session.successor is not None:
            session = session.successor
        return session if session is not None and belongs(session.whose, principal) else None

    def of(self, session: str) -> Session:
        """One that was entered before; raises ``StateError``."""
        found = self._live.get(session)
        if found is None:
            raise StateError("state_unavailable", f"session {session} is not in memory")
        return found

    async def find(self, session: str) -> Session | None:
        """A session by its id, from memory or the storage, whosever it is."""
        return self._live.get(session) or await self._load(session)

    def held(self, session: str) -> Session | None:
        """One that is in memory, by its id."""
        return self._live.get(session)

    async def viewed(self, stored: Stored) -> Session:
        """A session that is not in memory, only to be looked at: it does not come into memory."""
        return await self.restored(stored, keep=False)

    async def recalled(self, session: str, principal: Principal, at_ns: int) -> Session:
        """A session that is on record, and was perhaps not saved before the gateway ended.

        ``at_ns`` is when the record was made: the session is as old as that.
        """
        found = self._live.get(session) or await self._load(session)
        return found if found is not None else self._new(session, principal, at_ns)

    async def _rolling(self, base: str, principal: Principal) -> Session:
        # Of calls that come at once the first makes it, and the others must not make another.
        found = await self._load(base) or self._live.get(base)
        return found if found is not None else self._new(base, principal, self._now_ns())

    async def _asked(self, ask: Ask) -> Session:
        """The session that a client names, or that its token delegates."""
        principal, named = ask.principal, ask.session
        if principal.mandate_json:
            # A token that delegates one piece of work is not good for another.
            if named or ask.mandate_json:
                raise Refused("no_such_session", "the token says which session it is for")
            said = orjson.loads(principal.mandate_json)
            return await self._own(
                principal, f"token {said['id']}", said["mandate"], f"token of {principal.agent}"
            )
        if len(named) > _MAX_NAME:
            raise Refused("no_such_session")
        if not named:
            raise BadMandate(
                [
                    Fault(
                        "", "has no session", "name the session it opens, beside it in _meta or in the header"
                    )
                ]
            )
        if ID.fullmatch(named) and not ask.mandate_json:
            found = self._live.get(named) or await self._load(named)
            # An id alone proves nothing: it may have leaked. Unknown and foreign are the same answer.
            if found is None or not belongs(found.whose, principal):
                raise Refused("no_such_session")
            return found
        ceiling = self._rules.mints.get((principal.tenant, principal.agent))
        if ceiling is None:
            raise Refused("may_not_open_sessions" if ask.mandate_json else "no_such_session")
        raw = orjson.loads(ask.mandate_json) if ask.mandate_json else None
        return await self._own(principal, f"named {named}", raw, principal.agent, ceiling)

    async def _own(
        self, principal: Principal, name: str, raw: Any, by: str, ceiling: Ceiling | None = None
    ) -> Session:
        """The session of that name, which is opened when it is not there yet."""
        session = own_id(principal, name)
        found = self._live.get(session) or await self._load(session)
        if found is None:
            # Calls made at once under a new name open it once.
            async with self._naming:
                found = self._live.get(session) or await self._load(session)
                if found is None:
                    return await self._named(session, principal, raw, by, ceiling)
        # Another mandate under the same name would be a way to widen what was delegated.
        if raw is not None and not _same(
            found.mandate, mandates.parse(raw, now_ns=self._now_ns(), ceiling=ceiling)
        ):
            fault = "is not the mandate that this session was opened with"
            raise BadMandate([Fault("", fault, "give the same mandate, or another name or id")])
        return found

    async def _named(
        self, session: str, principal: Principal, raw: Any, by: str, ceiling: Ceiling | None
    ) -> Session:
        # A name without a mandate must not leave the one that the configuration gives this agent.
        usual = self._rules.mandates.get((principal.tenant, principal.agent))
        wanted = self._parsed(raw, ceiling) if raw is not None else usual
        whose = Whose(
            id=session, tenant=principal.tenant, agent=principal.agent, credential=principal.credential,
            subject=principal.subject, rolling=False, opened_ns=self._now_ns(), opened_by=by,
        )  # fmt: skip
        return await self._open(whose, wanted, by, "")

    # ------------------------------------------------------------------------------------- opening

    async def open(
        self, *, tenant: str, agent: str, subject: str | None, mandate: Any, by: str, parent: str = "",
        ceiling: Ceiling | None = None, note: str = "", detail: Mapping[str, Any] | None = None,
    ) -> Session:  # fmt: skip
        """Open a session for an agent, on record; raises ``Refused``.

        ``ceiling`` bounds what whoever opens it may delegate; ``None`` for an operator.
        """
        above = None
        if parent:
            above = await self._parent(parent, tenant)
        wanted = self._parsed(mandate, ceiling, above.mandate if above is not None else None)
        whose = Whose(
            id=f"s-{secrets.token_hex(16)}", tenant=tenant, agent=agent, subject=subject, rolling=False,
            parent=above.whose.id if above is not None else "", opened_ns=self._now_ns(), opened_by=by,
        )  # fmt: skip
        return await self._open(whose, wanted, by, note, above, detail or {})

    async def _parent(self, parent: str, tenant: str) -> Session:
        """The session that another is to be opened under."""
        above = await self.find(parent)
        if above is None or above.whose.tenant != tenant:
            raise Refused("no_such_session", f"parent {parent}")
        while above.successor is not None:
            above = above.successor
        now = self._now_ns()
        for each in (above, *above.ancestors):
            if each.status == "closed":
                raise Refused("session_closed", each.whose.id)
            until = each.mandate.expires_ns if each.mandate is not None else None
            if until is not None and now >= until:
                raise Refused("mandate_expired", each.whose.id)
        if len(above.ancestors) + 1 >= MAX_DEPTH:
            raise BadMandate([Fault("", f"would be more than {MAX_DEPTH} sessions above one another", "")])
        # A child on disk whose parent is not could not be read after a crash.
        await self.keep(above)
        return above

    async def keep(self, session: Session) -> None:
        """Store one that may be in memory only, because something on disk is about to name it."""
        if not self.whole:
            await self._keep_name(session)
            return
        stored, n, dirt = self.stored(session), session.n, session.dirt
        await asyncio.to_thread(self.store.save, [stored], [])
        if session.dirt == dirt:
            session.saved_n = n

    async def _keep_name(self, session: Session) -> None:
        """Put down that there is such a session; what it has become is in records, which all come after."""
        if await asyncio.to_thread(self.store.load, session.whose.id) is not None:
            return
        if session.whose.opened_by:  # it took over what another had used, which no record says
            raise StateError("state_unavailable", f"session {session.whose.id} is not saved yet")
        bare = msgspec.structs.replace(self.stored(session), n=0, state=b"")
        await asyncio.to_thread(self.store.save, [bare], [])

    async def _open(
        self,
        whose: Whose,
        mandate: Mandate | None,
        by: str,
        note: str,
        above: Session | None = None,
        detail: Mapping[str, Any] | None = None,
    ) -> Session:
        session = self._made(whose, mandate, Account(limits_of(mandate), opened_ns=whose.opened_ns), above)
        if above is not None:
            session.ancestors = (above, *above.ancestors)
            # What the one who delegates has read may be in what it asks for.
            session.labels.joined(above.labels)
        act = Act(session=whose.id, tenant=whose.tenant, at_ns=whose.opened_ns, act="open", by=by, note=note,
                  detail=detail or {})  # fmt: skip
        session.acts = await asyncio.to_thread(self.store.open, self.stored(session), act)
        session.saved_n = session.n
        self.opened[opener(by)] += 1
        if above is not None and self._live.get(above.whose.id) is not above:
            # Its parent was pushed out of memory meanwhile: read both again, or there would be two of it.
            found = await self.find(whose.id)
            assert found is not None, "it was stored just now"
            return found
        return self._keep(session)

    def _parsed(self, raw: Any, ceiling: Ceiling | None, parent: Mandate | None = None) -> Mandate | None:
        if raw is None:
            return parent
        return mandates.parse(raw, now_ns=self._now_ns(), ceiling=ceiling, parent=parent)

    def _new(self, base: str, principal: Principal, now: int) -> Session:
        """The rolling session of a principal that was never seen before."""
        mandate = self._rules.mandates.get((principal.tenant, principal.agent))
        whose = Whose(
            id=base, tenant=principal.tenant, agent=principal.agent, credential=principal.credential,
            subject=principal.subject, opened_ns=now,
        )  # fmt: skip
        return self._keep(self._made(whose, mandate, Account(limits_of(mandate), opened_ns=now)))

    def _made(
        self, whose: Whose, mandate: Mandate | None, account: Account, above: Session | None = None
    ) -> Session:
        # One key for a whole tree: what a child has read is known above it too.
        if above is None:
            key = blake2b(whose.id.encode(), key=self._secret, digest_size=16).digest()
            prints = learned(mandate, key)
        else:
            key = above.key
            prints = Prints.decode(above.prints.encode(), key)
        session = Session(whose, mandate, account, prints, key, self._monitors)
        session.horizon = self._horizon(mandate)
        return session

    def _horizon(self, mandate: Mandate | None) -> Horizon:
        """How far a session goes before somebody looks; nobody waits for one that was given no work."""
        if mandate is None:
            return Horizon()
        usual, own = self._rules.horizon, mandate.horizon
        if own.actions is None and own.minutes is None:
            return usual
        return Horizon(own.actions, own.minutes, usual.risk)

    def _keep(self, session: Session) -> Session:
        if len(self._live) >= self._rules.live * BEYOND:
            raise StateError("state_unavailable", "more sessions in use than fit in memory")
        self._live[session.whose.id] = session
        return session

    # ------------------------------------------------------------------------------------- acts of people

    def acted(self, act: Act) -> None:
        """What somebody did to a session, if it is in memory; otherwise it is taken in when it is loaded."""
        session = self._live.get(act.session)
        if session is not None:
            self._act(session, act)
        elif act.session in self._loading:
            # It may have read what was done before this was written.
            self._late.setdefault(act.session, []).append(act)

    def _act(self, session: Session, act: Act) -> None:
        if act.seq <= session.acts:
            return
        session.acts = act.seq
        session.soil()
        if act.act == "close" and session.status != "closed":
            session.status = "closed"
            if session.whose.rolling:
                self._follow(session, act)
        elif act.act == "checkpoint":
            session.progress.checked(self._now_ns())
        elif act.act == "declassify":
            session.labels.lowered(tuple(act.detail.get("labels", ())))
        elif act.act == "suspect":
            session.suspected(str(act.detail["trip"]), int(act.detail["since_ns"]))
        elif act.act == "clear":
            session.suspects.pop(str(act.detail["trip"]), None)

    def _follow(self, session: Session, act: Act) -> None:
        """Start a rolling session anew: without labels, and with everything that was used of its budgets."""
        anew = anew_id(session.whose.id, act.seq)
        session.successor = self._live.get(anew) or self._begun(session, anew, act.by)

    def _begun(self, before: Session, session: str, by: str) -> Session:
        whose = msgspec.structs.replace(before.whose, id=session, opened_ns=self._now_ns(), opened_by=by)
        following = self._live[session] = self._made(whose, before.mandate, before.account.carried())
        following.n = before.n  # what the account holds is not charged to it again
        self._fit(following)
        return following

    # ------------------------------------------------------------------------------------- memory

    async def read_ahead(self, wanted: Iterable[str]) -> None:
        """Read the sessions that are asked for next, at once: after a crash there are thousands.

        Only before the first call, while nothing else stores any; what was not asked for is forgotten by
        the next time.
        """
        self._ahead = await asyncio.to_thread(
            self.store.load_all, [each for each in dict.fromkeys(wanted) if each not in self._live]
        )

    async def _load(self, session: str) -> Session | None:
        """From the storage; two requests at once load it once."""
        task = self._loading.get(session)
        if task is None:
            task = self._loading[session] = asyncio.ensure_future(self._loaded(session))
            task.add_done_callback(lambda _: self._read(session))
        return await asyncio.shield(task)

    def _read(self, session: str) -> None:
        self._loading.pop(session, None)
        self._late.pop(session, None)

    async def _loaded(self, session: str) -> Session | None:
        ahead = self._ahead.pop(session, None)
        stored, acts = (
            ahead if ahead is not None else (await asyncio.to_thread(self.store.load, session), None)
        )
        if session in self._live:  # somebody else was faster, and this one may have moved on
            return self._live[session]
        return await self.restored(stored, acts) if stored is not None else None

    async def restored(self, stored: Stored, acts: list[Act] | None = None, *, keep: bool = True) -> Session:
        """A session as it is stored, with those above and after it; ``keep`` brings it into memory.

        ``acts`` are all of it, when they are known already.
        """
        mandate = _mandate(stored.mandate_json) if stored.mandate_json else None
        whose = Whose(
            id=stored.id, tenant=stored.tenant, agent=stored.agent, credential=stored.credential,
            subject=stored.subject, rolling=stored.rolling, parent=stored.parent, opened_ns=stored.opened_ns,
            opened_by=stored.opened_by,
        )  # fmt: skip
        above = None
        if stored.parent:
            above = self._live.get(stored.parent) or await self._load(stored.parent)
            if above is None:  # without its bounds a child would be wider than what it was given
                raise StateError("state_unavailable", f"the parent of session {stored.id} is not stored")
        session = self._made(whose, mandate, Account(limits_of(mandate), opened_ns=stored.opened_ns), above)
        if above is not None:
            session.ancestors = (above, *above.ancestors)
        saved = _saved(stored.state) if stored.state else None
        if saved is not None:
            changed = session.restored(saved)
            if self.whole:  # else there are no monitors here, and nothing begins anew
                _anew(changed)
            for call in tuple(session.account.reservations()):
                # One with calls under way stays in memory, so these belong to a gateway that is gone.
                if call not in self.doubtful:
                    session.account.release(call)
        if acts is None:
            acts = await asyncio.to_thread(self.store.acts, after=session.acts, session=stored.id)
        acts = [act for act in acts if act.seq > session.acts]
        for act in acts if stored.rolling else ():
            if act.act == "close":  # the session after it may be stored though this one is not yet
                await self._load(anew_id(stored.id, act.seq))
        if saved is not None and saved.successor:
            session.successor = self._live.get(saved.successor) or await self._load(saved.successor)
        if stored.id in self._live:
            return self._live[stored.id]
        for other in (above, session.successor):
            if other is not None and self._live.get(other.whose.id) is not other:
                # Pushed out of memory meanwhile: two of the same would share neither budget nor end.
                return await self.restored(stored, keep=keep)
        self._fit(session)
        if keep:
            self._keep(session)
            if saved is not None and saved.successor and session.successor is None:
                # A crash between the two saves lost the one that follows; what it did is on record.
                session.successor = self._begun(session, saved.successor, "")
        for act in (*acts, *self._late.pop(stored.id, ())):
            self._act(session, act)
        return session

    def _fit(self, session: Session) -> None:
        """Bring a session in line with the configuration: the mandate of rolling ones, and its limits."""
        whose = session.whose
        if whose.rolling:
            mandate = self._rules.mandates.get((whose.tenant, whose.agent))
            if _id(mandate) != session.learned:
                # What the mandate before vouched for is not vouched for any more.
                session.prints = learned(mandate, session.key)
                session.learned = _id(mandate)
            session.mandate = mandate
        session.slow = {}
        session.horizon = self._horizon(session.mandate)
        limits = limits_of(session.mandate)
        if session.account.limits != limits:
            session.account = session.account.resized(limits)

    def changed(self) -> list[Session]:
        """Those that are not stored as they are."""
        return [session for session in self._live.values() if session.dirty]

    def live(self) -> Iterable[Session]:
        return tuple(self._live.values())

    def evict(self) -> int:
        """Let go of what memory has no place for: stored as it is, not in use, and nobody's parent."""
        over = len(self._live) - self._rules.live
        if over <= 0:
            return 0
        needed = {id(each) for one in self._live.values() for each in (*one.ancestors, one.successor)}
        idle = [
            name
            for name, session in self._live.items()
            if not session.dirty and id(session) not in needed and not session.account.reservations()
        ]
        for name in idle[:over]:
            del self._live[name]
        return min(over, len(idle))

    def stored(self, session: Session) -> Stored:
        """A session as it is stored."""
        whose, mandate = session.whose, session.mandate
        return Stored(
            id=whose.id, tenant=whose.tenant, agent=whose.agent, credential=whose.credential,
            subject=whose.subject, rolling=whose.rolling, parent=whose.parent, opened_ns=whose.opened_ns,
            opened_by=whose.opened_by, expires_ns=mandate.expires_ns if mandate is not None else None,
            n=session.n, seen_ns=session.last[-1].at_ns if session.last else whose.opened_ns,
            # That of a rolling session is the configuration's to say.
            mandate_json=_mandate_json(mandate) if mandate is not None and not whose.rolling else b"",
            state=_encode(session.saved()),
        )  # fmt: skip


def _anew(monitors: Iterable[str]) -> None:
    """Never silently: a count that starts again is a limit that was not kept."""
    if names := sorted(monitors):
        logger.warning("monitors that changed begin anew", extra={"names": names})


def _id(mandate: Mandate | None) -> str:
    return mandate.id if mandate is not None else ""


def _same(one: Mandate | None, other: Mandate) -> bool:
    """Expiry is not compared, nor the id that depends on it: a time to live is another moment each time."""
    return one is not None and msgspec.structs.replace(one, id=other.id, expires_ns=other.expires_ns) == other
