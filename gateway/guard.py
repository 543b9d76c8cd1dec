"""The breakers as the pipeline sees them: who may go on, what became of it, and what outlives the process.

Detectors and the state machine (``gateway.breakers``) know nothing of calls, clocks or storage. This knows
both sides: it makes events of calls and their outcomes, keeps machines and trips in the storage, and carries
out what people ask for. Nothing here may stop a call by failing: a fault in a detector is logged, and what is
stopped stays stopped.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, Protocol

import msgspec
from sqlalchemy.exc import SQLAlchemyError

from gateway.breakers import plugin
from gateway.breakers.breakers import Asking, Breakers
from gateway.breakers.event import Alarm, Event, What, print_of
from gateway.breakers.kill import Kill, Kills
from gateway.breakers.machine import Machine
from gateway.breakers.settings import NO_CAPS, Settings
from gateway.breakers.trip import Key, Trip, Verdict
from gateway.errors import JournalError
from gateway.model import Action, Call, Facts, Finding, Outcome, Refusal
from gateway.ports import Stand
from gateway.reasons import REASONS, Party
from gateway.storage.breakers import Act, BreakerStore

logger = logging.getLogger("wardgate.breakers")

SAVE_S: Final = 5.0

_ANSWERS: Final = ("ok", "withheld", "unobserved")
_ERRORS: Final = ("tool_error", "rpc_error")
_NO_EVENT: Final = frozenset(
    {"breaker_open", "breaker_throttled", "killed", "duplicate_effect", "in_doubt", "approval_needed",
     "breaker_guarded", "trust_needs_person", "trust_horizon", "trust_observe_only", "trust_budget",
     "budget_exceeded", "cancelled", "input_refused", "client_declined", "result_withheld",
     "policy_error", "policy_undefined", "policy_bad_shape", "policy_timeout", "policy_mismatch",
     "undeclared_code", "obligation_conflict", "modified_again", "approvals_not_configured"}
) | {code for code in REASONS if code.startswith("approval_") and code != "approval_rejected"}  # fmt: skip
"""Refusals that say nothing of how an agent behaves: policy failed, it waits, is slowed down, has not earned
more, has used up what it was given, or does again what it was told to."""

_HOST: Final = re.compile(rb"://([^/\"\\ ?#]{1,255})")
_MAIL: Final = re.compile(rb"[\w.+-]{1,64}@[\w-]{1,63}(?:\.[\w-]{1,63})+")
_LOOKED_AT: Final = 16_384


class Counts(Protocol):
    """The metrics of breakers."""

    def tripped(self, detector: str, after: str, observed: bool) -> None: ...


class Guard:
    """Implements ``ports.Breakers``. All methods but ``open`` run on the event loop's thread."""

    def __init__(
        self,
        store: BreakerStore,
        settings: Settings,
        now_ns: Callable[[], int],
        counts: Counts | None = None,
        recorded: Callable[[int | None], Iterable[Event]] = lambda since_ns: (),
    ) -> None:
        """``now_ns`` is the steady time; ``recorded`` gives the delegated calls recorded since a moment."""
        self.store = store
        self.breakers = Breakers(settings, plugin.installed())
        self.enabled = True
        self.kills = Kills()
        self.heard: list[Callable[[Trip], None]] = []
        """Told of every trip that is enforced: to revoke grants, to take back trust, to tell the owner."""
        self.cleared: list[Callable[[str, str], None]] = []
        """Told of every trip a reviewer called false, and by whom."""
        self._now_ns = now_ns
        self._recorded = recorded
        self._counts = counts
        self._under_way: dict[str, tuple[Asking, Callable[[], None] | None]] = {}
        self._trips: list[Trip] = []
        self._moved: set[Key] = set()
        self._agents: set[tuple[str, str]] = set()  # whose detectors have seen something since the last save
        self._wake = asyncio.Event()
        self._saving = asyncio.Lock()

    async def open(self) -> None:
        """Know again what was known, before the first call."""
        kills, machines, states = await asyncio.to_thread(
            lambda: (self.store.kills(), self.store.machines(), self.store.states())
        )
        self.kills = Kills(kills)
        self.breakers.put(machines)
        await asyncio.to_thread(self._open_trees)
        for tenant, agent, state in states:
            try:
                self.breakers.decode(tenant, agent, state)
            except msgspec.MsgspecError:
                # Written by another version. Machines are whole, so nothing that is stopped goes on; what is
                # usual for this agent is learned again.
                logger.warning("what detectors knew of an agent is forgotten", extra={"agent": agent})
        await self.carry_out()

    def _open_trees(self) -> None:
        """A crash forgets the last seconds of sums, the journal does not: what it has since is counted again.

        A call that ended in the moment of saving may count twice: a cap errs towards being reached.
        """
        known = self.store.trees(self.breakers.settings.max_resources)
        for tenant, tree, totals, _ in known:
            self.breakers.put_tree(tenant, tree, totals)
        if self.breakers.settings.tree_caps != NO_CAPS:
            since = max((at for *_, at in known), default=None)
            for event in self._recorded(since):
                self.breakers.recount(event)

    def configured(self, settings: Settings, *, enabled: bool) -> None:
        """Take new settings; what is stopped stays stopped, and thresholds follow within 64 calls."""
        self.breakers.settings, self.enabled = settings, enabled

    # -- the port --------------------------------------------------------------------------------

    def ask(self, call: Call, facts: Facts) -> Stand:
        asking = self._asking(call)
        if (kill := self.kills.of(asking)) is not None:
            return Stand(refusal=_killed(kill), killed=True)
        if not self.enabled:
            self._under_way[call.id] = (asking, None)
            return _STANDS
        verdict, trips = self.breakers.ask(asking)
        if trips:
            self._tripped(trips)
        if self.breakers.machines:
            moved = [key for key in asking.keys if key in self.breakers.machines]
            self._moved.update(moved)
            # On disk at once: after a crash nobody may be tried again beside the first. Who was not tried is
            # no reason, or a flood of refused calls would be as many writes.
            if verdict.go and any(self.breakers.machines[key].stage == "half_open" for key in moved):
                self._wake.set()
        if verdict.go:
            self._under_way[call.id] = (asking, None)
        if verdict.stage == "closed":
            return _STANDS
        said = {
            "stage": verdict.stage,
            "scope": verdict.key.scope if verdict.key else "",
            "detector": verdict.detector,
        }
        if not verdict.go:
            return Stand(refusal=_refusal(verdict), facts=said)
        guarded = None
        if verdict.stage == "guarded" and call.tool.writes:
            reason = REASONS["breaker_guarded"]
            guarded = Finding(
                code=reason.code, message=f"{reason.message} ({verdict.sentence})", remedy=reason.remedy
            )
        return Stand(facts=said, guarded=guarded)

    def killed(self, call: Call, cut: Callable[[], None] | None = None) -> Refusal | None:
        if (kill := self.kills.of(self._asking(call))) is not None:
            return _killed(kill)
        if cut is not None and call.id in self._under_way:
            self._under_way[call.id] = (self._under_way[call.id][0], cut)
        return None

    def ended(
        self, call: Call, facts: Facts, action: Action, code: str, outcome: Outcome | None, cost: int = 0
    ) -> None:
        try:
            self._ended(call, facts, action, code, outcome, cost)
        except Exception:  # a detector that fails must not fail a call whose outcome is known
            logger.exception("call %s could not be shown to the breakers", call.id)

    def _ended(
        self, call: Call, facts: Facts, action: Action, code: str, outcome: Outcome | None, cost: int
    ) -> None:
        known = self._under_way.pop(call.id, None)
        if not self.enabled:
            return
        asking = known[0] if known is not None else self._asking(call)
        now = self._now_ns()
        what = what_of(action, code, outcome)
        trips: list[Trip] = []
        if outcome is not None and (health := _health(outcome)) is not None:
            trips += self.breakers.health(
                asking.tenant, asking.upstream, asking.agent, health, outcome.upstream_ns, now, call.id
            )
        if what is not None:
            self._agents.add((asking.tenant, asking.agent))
            trips += self.breakers.observe(_event(call, asking, facts, what, outcome, cost, now))
        if known is not None and self.breakers.machines:
            self.breakers.ended(asking, None if what is None else what == "ok", now)
            self._moved.update(asking.keys)
        if trips:
            self._tripped(trips)

    def scored(
        self, name: str, *, tenant: str, agent: str, domain: str, session: str, stops: bool, score: float,
        threshold: float, sentence: str, by: str, post: str,
    ) -> list[str]:  # fmt: skip
        """A score that a detector elsewhere posted is high; the ids of the trips it made."""
        if not self.enabled:
            return []
        now = self._now_ns()
        alarm = Alarm(
            detector=f"score:{name}", level=2 if stops else 1, statistic=score, threshold=threshold,
            since_ns=now, sentence=f"{sentence or 'a high score'}; {score:.3g} ≥ {threshold:.3g}, by {by}",
            exact=False,
        )  # fmt: skip
        trips = self.breakers.scored(tenant, agent, domain, session, alarm, now, by, post)
        self._tripped(trips)
        return [trip.id for trip in trips]

    # -- people ----------------------------------------------------------------------------------

    async def changed(self) -> None:
        """Somebody killed, lifted, tripped, reset or labelled something, here or by the command line."""
        kills = await asyncio.to_thread(self.store.kills)
        self.kills = Kills(kills)
        for asking, cut in list(self._under_way.values()):
            # What is under way is cut off where that is possible; its outcome is waited for all the same.
            if cut is not None and self.kills.of(asking) is not None:
                cut()
        await self.carry_out()

    async def carry_out(self) -> None:
        """Do what people asked for and is not done yet."""
        acts = await asyncio.to_thread(self.store.due)
        if not acts:
            return
        trips = [trip for act in acts if (trip := self._do(act)) is not None]
        self._moved.update(act.key for act in acts)
        self._tripped(trips)
        await self.save(done=[act.seq for act in acts])

    def _do(self, act: Act) -> Trip | None:
        if act.act == "trip":
            return self.breakers.force(act.key, act.reason, act.by, self._now_ns())
        if act.act == "reset":
            self.breakers.reset(act.key, self._now_ns())
        elif act.act == "label":
            label, _, trip = act.reason.partition(" ")
            if label == "false":
                self.breakers.reset(act.key, self._now_ns(), false_alarm=True)
                for listener in self.cleared:
                    listener(trip, act.by)
        logger.info("breaker %s", act.act, extra={"key": str(act.key), "by": act.by, "reason": act.reason})
        return None

    # -- keeping ---------------------------------------------------------------------------------

    async def run(self) -> None:
        """Save trips at once and the rest now and then; runs until cancelled."""
        while True:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._wake.wait(), SAVE_S)
            self._wake.clear()
            try:
                await self.save(full=not self._trips)
            except (JournalError, SQLAlchemyError):
                logger.exception("breakers could not be saved; they stay in force in this process")
                await asyncio.sleep(1)

    async def save(self, *, full: bool = False, done: list[int] | None = None) -> None:
        async with self._saving:
            trips, self._trips = self._trips, []
            moved, self._moved = self._moved, set()
            agents, self._agents = (self._agents, set()) if full else (set(), self._agents)
            grown, self.breakers.grown = self.breakers.grown, set()
            if not (trips or moved or agents or done or grown):
                return
            trees = [(tenant, tree, self.breakers.tree(tenant, tree)) for tenant, tree in sorted(grown)]
            machines = [(key, _written(self.breakers.machines.get(key))) for key in sorted(moved)]
            states = [
                (tenant, agent, self.breakers.encode(tenant, agent)) for tenant, agent in sorted(agents)
            ]
            try:
                await asyncio.to_thread(self.store.save, machines, trips, states, done or [], trees)
            except BaseException:  # also when it is cut off: what was not saved is still to be saved
                self._trips = trips + self._trips
                self._moved |= moved
                self._agents |= agents
                self.breakers.grown |= grown
                raise

    async def close(self) -> None:
        await self.save(full=True)

    def _tripped(self, trips: list[Trip]) -> None:
        for trip in trips:
            self._trips.append(trip)
            self._moved.add(trip.key)
            logger.warning(
                "breaker of %s is %s: %s", trip.key.words, "not moved" if trip.observed else trip.after,
                trip.sentence,
                extra={"trip": trip.id, "detector": trip.detector, "scope": trip.key.scope,
                       "key": str(trip.key), "agent": trip.agent, "spared": trip.spared},
            )  # fmt: skip
            if self._counts is not None:
                self._counts.tripped(trip.detector, trip.after, trip.observed)
            if not trip.observed:
                for listener in self.heard:
                    listener(trip)
        if trips:
            self._wake.set()

    def _asking(self, call: Call) -> Asking:
        principal, tool = call.principal, call.tool
        return Asking(
            call_id=call.id,
            at_ns=self._now_ns(),
            tenant=principal.tenant,
            agent=principal.agent,
            session=call.session,
            thread=call.thread,
            tool=tool.target,
            upstream=tool.upstream,
            domain=tool.manifest.domain,
            tree=principal.chain[0] if principal.chain else "",
            harmless=tool.manifest.risk in ("read", "reversible"),
        )


def _written(machine: Machine | None) -> bytes | None:
    """Encoded here, because the machine may move while a thread writes it."""
    if machine is None or (machine.stage == "closed" and machine.opened == 0):
        return None
    return msgspec.msgpack.encode(machine)


def _killed(kill: Kill) -> Refusal:
    reason = REASONS["killed"]
    return Refusal(
        code=reason.code,
        message=f"{kill.words} was stopped by an operator: {kill.reason}",
        remedy=reason.remedy,
    )


def _refusal(verdict: Verdict) -> Refusal:
    code = "breaker_throttled" if verdict.why in ("throttled", "probing") else "breaker_open"
    return Refusal(
        code=code,
        message=verdict.message,
        remedy=verdict.remedy,
        retryable=verdict.wait_ns > 0,
        retry_after_ms=verdict.wait_ns // 1_000_000 + 1 if verdict.wait_ns > 0 else None,
    )


def what_of(action: Action, code: str, outcome: Outcome | None) -> What | None:
    """What a call says of its agent; ``None`` when it says nothing."""
    if outcome is not None:
        if outcome.status in _ANSWERS:
            return "ok"
        return "error" if outcome.status in _ERRORS and outcome.code not in _NO_EVENT else None
    if action == "hold" or code in _NO_EVENT:
        return None
    reason = REASONS.get(code)
    # Our own faults, and those of whoever configured us, are not the agent's.
    if reason is not None and (reason.unavailable or reason.retryable or reason.party is Party.GATEWAY):
        return None
    return "denied"


def _health(outcome: Outcome) -> Any:
    """What a call says of its upstream; ``None`` when it says nothing."""
    if outcome.status in ("ok", "tool_error", "rpc_error", "input_required", "withheld"):
        return "ok"
    if outcome.code == "upstream_unavailable" and outcome.status == "not_sent":
        return "unreached"
    if outcome.code in ("upstream_timeout", "upstream_lost", "upstream_bad_answer", "upstream_unavailable"):
        return "lost"
    return None


def _event(
    call: Call, asking: Asking, facts: Facts, what: What, outcome: Outcome | None, cost: int, now: int
) -> Event:
    manifest = call.tool.manifest
    args_json = call.args_json
    leaves = call.tool.writes or "egress" in manifest.effects
    session: Any = facts.fast.get("session") or {}
    return Event(
        call_id=call.id,
        at_ns=now,
        tenant=asking.tenant,
        agent=asking.agent,
        session=asking.session,
        thread=asking.thread,
        domain=asking.domain,
        tool=asking.tool,
        upstream=asking.upstream,
        tree=asking.tree,
        depth=len(call.principal.chain),
        what=what,
        args=print_of(args_json),
        result=print_of(outcome.result_json or outcome.error_json) if outcome is not None else 0,
        writes=call.tool.writes,
        irreversible=manifest.risk == "irreversible",
        polling=manifest.polling,
        bytes_out=len(args_json) if leaves and what != "denied" else 0,
        cost=cost,
        places=places_of(args_json),
        resource=print_of(call.effect_key.encode()) if manifest.effect_key is not None else 0,
        tainted=session.get("integrity") == "untrusted",
    )


def places_of(args_json: bytes) -> tuple[int, ...]:
    """Prints of the hosts and mail addresses in arguments, of long ones in their first 16 KB."""
    text = args_json[:_LOOKED_AT]
    found: list[bytes] = []
    if b"://" in text:
        found += _HOST.findall(text)
    if b"@" in text:
        found += _MAIL.findall(text)
    if not found:
        return ()
    return tuple(dict.fromkeys(print_of(each.lower()) for each in found[:32]))


_STANDS: Final = Stand()


def shown(key: Key, machine: Machine) -> Mapping[str, Any]:
    """A breaker for people and programs."""
    return {
        "scope": key.scope, "tenant": key.tenant, "name": key.name, "part": key.part, "stage": machine.stage,
        "detector": machine.detector, "since_ns": machine.since_ns, "until_ns": machine.until_ns,
        "person": machine.person, "trip": machine.trip, "reason": machine.reason,
    }  # fmt: skip
