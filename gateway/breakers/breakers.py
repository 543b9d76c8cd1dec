"""All breakers of one gateway: which keys a call belongs to, what they say of it, what its end does to them.

Memory is bounded. What is stopped is never forgotten to make room. An agent that opens session after session
pushes out its own oldest only, and what those had counted becomes the floor its next ones start from.
"""

from __future__ import annotations

import logging
import zlib
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from typing import Any, Final
from zlib import crc32

import msgspec

from gateway.breakers.behaviour import Behaviour
from gateway.breakers.conduct import Conduct, Totals, canary, is_canary
from gateway.breakers.event import Alarm, Event
from gateway.breakers.health import Call as HealthCall
from gateway.breakers.health import Health
from gateway.breakers.loops import Loops
from gateway.breakers.machine import RANK, Machine, Stage
from gateway.breakers.plugin import Detector
from gateway.breakers.returns import Returns
from gateway.breakers.settings import DAY, MINUTE, NO_CAPS, Settings
from gateway.breakers.trip import PASSES, Key, Trip, Verdict

logger = logging.getLogger("wardgate.breakers")

_OF_AGENTS: Final = ("agent", "session", "thread")
_THREADS: Final = 3
_SLOWED: Final = frozenset({"rate", "repeat", "no_progress"})
"""First responses of these only slow down; those of the others ask a person about writes."""


class Asking(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A call that wants to go."""

    call_id: str
    at_ns: int
    tenant: str
    agent: str
    session: str
    tool: str
    upstream: str
    thread: str = ""
    domain: str = "general"
    tree: str = ""
    harmless: bool = False  # reads, or can be undone

    @property
    def keys(self) -> tuple[Key, ...]:
        keys: tuple[Key, ...] = (
            Key("session", self.tenant, self.agent, self.session),
            Key("agent", self.tenant, self.agent, self.domain),
            Key("tool", self.tenant, self.tool),
            Key("upstream", self.tenant, self.upstream),
            Key("tenant", self.tenant),
        )
        if self.thread:
            keys = (*keys, Key("thread", self.tenant, self.agent, self.thread))
        return (*keys, Key("tree", self.tenant, self.tree)) if self.tree else keys


class Thread(msgspec.Struct, array_like=True):
    """The exact detectors of one session."""

    loops: Loops = msgspec.field(default_factory=Loops)
    conduct: Conduct = msgspec.field(default_factory=Conduct)


class Owner(msgspec.Struct, array_like=True):
    """All sessions of one agent, the one that was active longest ago first."""

    threads: dict[str, Thread] = msgspec.field(default_factory=dict)
    floor: Conduct | None = None  # of sessions that were pushed out, the highest counts
    floor_ns: int = 0


class Saved(msgspec.Struct, array_like=True):
    """What is known of one agent, as it is written down."""

    owner: Owner
    behaviours: list[tuple[str, Behaviour]]


_encode: Final = msgspec.msgpack.Encoder().encode
_decode: Final = msgspec.msgpack.Decoder(Saved).decode
_totals: Final = msgspec.msgpack.Decoder(Totals).decode


class Breakers:
    """Not thread-safe: everything on the thread of the event loop."""

    def __init__(self, settings: Settings, detectors: Mapping[str, Detector] | None = None) -> None:
        self.settings = settings
        self.detectors = dict(detectors or {})
        self.machines: dict[Key, Machine] = {}
        self.behaviours: OrderedDict[tuple[str, str, str], Behaviour] = OrderedDict()
        self._owners: OrderedDict[tuple[str, str], Owner] = OrderedDict()
        self._trees: OrderedDict[tuple[str, str], Totals] = OrderedDict()
        self.grown: set[tuple[str, str]] = set()  # trees with a cap that changed since they were saved
        self._resources: OrderedDict[tuple[str, int], Returns] = OrderedDict()
        self._health: dict[tuple[str, str], Health] = {}
        self._agents: dict[str, set[str]] = {}  # by tenant: who has been seen
        self._observed: OrderedDict[tuple[Key, str], int] = OrderedDict()  # scores that were only recorded
        self._trips = 0
        self.forgotten = 0  # sessions pushed out of memory
        self.broken: dict[str, str] = {}  # a user's detectors that raised, with what

    # -- before a call ---------------------------------------------------------------------------

    def ask(self, asking: Asking) -> tuple[Verdict, list[Trip]]:
        """Whether a call may go. One that may has used what it needs: ``ended`` must follow."""
        trips: list[Trip] = []
        # A canary must not be carried out to find out that it was one.
        if self.settings.canaries and is_canary(asking.tool, self.settings):
            event = Event(
                call_id=asking.call_id, at_ns=asking.at_ns, tenant=asking.tenant, agent=asking.agent,
                session=asking.session, tool=asking.tool, domain=asking.domain, what="denied",
            )  # fmt: skip
            key = Key("agent", asking.tenant, asking.agent, asking.domain)
            trips += self._raise(key, canary(asking.tool, asking.at_ns), event, (asking.call_id,))
        if not self.machines:
            return PASSES, trips
        found = [(key, machine) for key in asking.keys if (machine := self.machines.get(key)) is not None]
        strictest = PASSES
        for key, machine in found:
            machine.expire(asking.at_ns, str(key), self.settings)
            asked = machine.look(asking.at_ns, asking.harmless, self.settings)
            if asked.stage == "closed":
                if machine.forgotten(asking.at_ns):
                    del self.machines[key]
                continue
            stricter = (not asked.go, RANK[asked.stage], asked.wait_ns)
            if stricter > (not strictest.go, RANK[strictest.stage], strictest.wait_ns):
                strictest = Verdict(
                    stage=asked.stage, go=asked.go, wait_ns=asked.wait_ns, why=asked.why, key=key,
                    detector=machine.detector, sentence=machine.reason, trip=machine.trip,
                )  # fmt: skip
        if strictest.go:
            for _, machine in found:
                machine.take(asking.call_id, asking.at_ns)
        return strictest, trips

    # -- after a call ----------------------------------------------------------------------------

    def ended(self, asking: Asking, good: bool | None, at_ns: int) -> None:
        """What became of a call that ``ask`` let go, for probes and guards; ``None`` says nothing."""
        if not self.machines:
            return
        for key in asking.keys:
            machine = self.machines.get(key)
            if machine is not None:
                machine.settled(asking.call_id, good, at_ns, str(key), self.settings)

    def observe(self, event: Event) -> list[Trip]:
        """Show one event to every detector; the moves it caused, mostly none."""
        settings = self.settings
        tenant, agent = event.tenant, event.agent
        session = Key("session", tenant, agent, event.session)
        usual = Key("agent", tenant, agent, event.domain)
        behaviour = self._behaviour(tenant, agent, event.domain)
        if event.call_id in behaviour.recent:
            return []
        conduct = self._thread(tenant, agent, event.session, event.at_ns).conduct
        loops, looping = self._loops(event, session)
        learn = not self.machines or not (
            _moved(self.machines.get(usual))
            or _moved(self.machines.get(session))
            or _moved(self.machines.get(looping))
        )
        round_ = loops.observe(event, settings, behaviour.patience)
        exact = conduct.observe(event, settings)
        if event.resource:
            exact += self._resource(tenant, event.resource).observe(event, settings)
        estimated = behaviour.observe(event, settings, learn)
        tree: Alarm | None = None
        if event.tree:
            tree = self._grow(event)
        if self.detectors:
            estimated = [*estimated, *self._plugged(event)]
        if not (round_ or exact or estimated or tree):
            return []
        calls = behaviour.contributing(0)
        trips: list[Trip] = []
        for alarm in round_:
            trips += self._raise(looping, alarm, event, calls)
            if alarm.level == 2:
                loops.clear()
                conduct.stops += looping != session
                # A client that opens another thread to go on looping is stopped as a whole.
                if conduct.stops >= _THREADS:
                    conduct.stops = 0
                    trips += self._raise(session, alarm, event, calls)
        for alarm in exact:
            trips += self._raise(session, alarm, event, calls)
            if alarm.level == 2:
                conduct.clear()
        for alarm in estimated:
            trips += self._estimated(usual, alarm, event, behaviour, calls)
        if tree is not None:
            trips += self._raise(Key("tree", tenant, event.tree), tree, event, calls)
        return trips

    def health(
        self,
        tenant: str,
        upstream: str,
        agent: str,
        what: HealthCall,
        took_ns: int,
        at_ns: int,
        trip_call: str,
    ) -> list[Trip]:
        """What one call says of its upstream, whatever it says of its agent."""
        known = self._health.get((tenant, upstream))
        if known is None:
            known = self._health[tenant, upstream] = Health()
        alarm = known.observe(upstream, what, agent, took_ns, at_ns, self.settings)
        if alarm is None:
            return []
        known.clear()
        event = Event(
            call_id=trip_call, at_ns=at_ns, tenant=tenant, agent=agent, session="", tool="", what="error"
        )
        return self._raise(Key("upstream", tenant, upstream), alarm, event, (trip_call,))

    def scored(
        self, tenant: str, agent: str, domain: str, session: str, alarm: Alarm, at_ns: int, by: str, post: str
    ) -> list[Trip]:
        """A detector elsewhere has an opinion of an agent in a domain, or of one of its sessions."""
        key = Key("session", tenant, agent, session) if session else Key("agent", tenant, agent, domain)
        known = self.behaviours.get((tenant, agent, domain))
        event = Event(
            call_id=post, at_ns=at_ns, tenant=tenant, agent=agent, session=session, tool="", domain=domain,
            what="ok",
        )  # fmt: skip
        calls = known.contributing(0) if known is not None else ()
        trips = self._raise(key, alarm, event, calls)
        # The same opinion every second, which is only recorded, must not push other trips off the record.
        if any(trip.observed for trip in trips):
            said = (key, alarm.detector)
            if at_ns - self._observed.get(said, 0) < MINUTE:
                return []
            self._observed[said] = at_ns
            self._observed.move_to_end(said)
            if len(self._observed) > self.settings.max_machines:
                self._observed.popitem(last=False)
        return [msgspec.structs.replace(trip, by=by) for trip in trips]

    # -- people ----------------------------------------------------------------------------------

    def force(self, key: Key, reason: str, by: str, at_ns: int) -> Trip:
        """Open it until a person resets it."""
        machine = self._machine(key)
        before = machine.stage
        machine.trip = self._next_id(key, at_ns)
        machine.detector = "person"
        machine.force(at_ns, reason)
        return Trip(
            id=machine.trip, at_ns=at_ns, key=key, agent=key.name if key.scope in _OF_AGENTS else "",
            session=key.part if key.scope == "session" else "",
            domain=key.part if key.scope == "agent" else "", detector="person", statistic=0.0,
            threshold=0.0,
            before=before, after="forced_open", sentence=reason, since_ns=at_ns, person=True, by=by,
        )  # fmt: skip

    def reset(self, key: Key, at_ns: int, *, false_alarm: bool = False) -> bool:
        """Close it; whether there was anything to close. A false alarm makes the baseline learn anew."""
        machine = self.machines.pop(key, None)
        if key.scope == "agent" and (known := self.behaviours.get((key.tenant, key.name, key.part))):
            known.again() if false_alarm else known.calm()
        owner = self._owners.get((key.tenant, key.name))
        if (
            key.scope in ("session", "thread")
            and owner is not None
            and (thread := owner.threads.get(key.part))
        ):
            thread.loops.clear()
            thread.conduct.clear()
        return machine is not None and machine.stage != "closed"

    # -- memory ----------------------------------------------------------------------------------

    def agents(self) -> list[tuple[str, str]]:
        """(tenant, agent) of everybody there is something to keep of."""
        return list(self._owners)

    def encode(self, tenant: str, agent: str) -> bytes:
        """What is known of one agent, as MessagePack, compressed; machines are kept apart."""
        behaviours = [(key[2], each) for key, each in self.behaviours.items() if key[:2] == (tenant, agent)]
        return packed(_encode(Saved(self._owners.get((tenant, agent), Owner()), behaviours)))

    def decode(self, tenant: str, agent: str, saved: bytes) -> None:
        """Know again what was encoded; raises ``msgspec.DecodeError``."""
        try:
            known = _decode(zlib.decompress(saved))
        except zlib.error as error:
            raise msgspec.DecodeError(str(error)) from error
        self._owners[tenant, agent] = known.owner
        for domain, behaviour in known.behaviours:
            self.behaviours[tenant, agent, domain] = behaviour
        self._agents.setdefault(tenant, set()).add(agent)

    def tree(self, tenant: str, tree: str) -> bytes:
        """The sums of one delegation, as MessagePack."""
        return msgspec.msgpack.encode(self._trees.get((tenant, tree), Totals()))

    def put_tree(self, tenant: str, tree: str, totals: bytes) -> None:
        """Know a delegation's sums again; raises ``msgspec.DecodeError``."""
        self._trees[tenant, tree] = _totals(totals)

    def recount(self, event: Event) -> None:
        """Add one call to the sums of its delegation that was made after they were last saved."""
        if event.tree:
            self._tree(event.tenant, event.tree).add(event)
            self.grown.add((event.tenant, event.tree))

    def put(self, machines: Iterable[tuple[Key, Machine]]) -> None:
        """Machines as another process, or an earlier life, left them."""
        self.machines.update(machines)

    # -- inside ----------------------------------------------------------------------------------

    def _estimated(
        self, key: Key, alarm: Alarm, event: Event, behaviour: Behaviour, calls: tuple[str, ...]
    ) -> list[Trip]:
        other = behaviour.together(alarm, self.settings)
        if alarm.level == 1 and other is not None:
            alarm = msgspec.structs.replace(alarm, level=2, sentence=f"{alarm.sentence}; and {other} as well")
        trips = self._raise(key, alarm, event, calls)
        if any(trip.after == "open" for trip in trips):
            behaviour.calm()
        return trips

    def _raise(self, key: Key, alarm: Alarm, event: Event, calls: tuple[str, ...]) -> list[Trip]:
        """Move the machine of a key as an alarm asks, if it is not moved so far already."""
        settings, at_ns = self.settings, event.at_ns
        machine = self.machines.get(key)
        before: Stage = machine.stage if machine is not None else "closed"
        back = machine is not None and (before == "half_open" or machine.recovering)
        to: Stage = "open"
        if alarm.level == 1 and not back:
            to = "throttled" if alarm.detector in _SLOWED and not event.tainted else "guarded"
        spared = to == "open" and not alarm.person and not self._may_open(key)
        if spared:
            to = "guarded"
        observed = not self._enforced(alarm.detector, key)
        if not observed and RANK[to] <= RANK[before] and not (back and to == "open") and not alarm.person:
            if machine is not None and before == "guarded":
                machine.left = settings.recover  # not calm yet
            return []
        trip_id = self._next_id(key, at_ns)
        until_ns = 0
        if not observed:
            machine = self._machine(key)
            machine.trip, machine.detector, machine.reason = trip_id, alarm.detector, alarm.sentence
            if to == "throttled":
                machine.throttle(at_ns, settings)
            elif to == "guarded":
                machine.guard(at_ns, settings)
            else:
                machine.open(at_ns, str(key), settings, person=alarm.person)
            until_ns = 0 if machine.person else machine.until_ns
        return [
            Trip(
                id=trip_id, at_ns=at_ns, key=key, agent=event.agent, session=event.session,
                domain=event.domain, detector=alarm.detector, statistic=alarm.statistic,
                threshold=alarm.threshold, before=before,
                after=to, sentence=alarm.sentence, calls=calls, since_ns=alarm.since_ns, until_ns=until_ns,
                person=alarm.person, observed=observed, spared=spared,
            )
        ]  # fmt: skip

    def _enforced(self, detector: str, key: Key) -> bool:
        percent = self.settings.enforce_percent.get(detector, 100)
        if percent >= 100:
            return True
        # By agent, so that one agent is treated alike in all its sessions and domains.
        mark = f"{self.settings.seed}\0{detector}\0{key.tenant}\0{key.name}"
        return crc32(mark.encode()) % 100 < percent

    def _may_open(self, key: Key) -> bool:
        """A detector that is wrong about everybody must not stop everybody: a share of a tenant's agents."""
        if key.scope not in _OF_AGENTS:
            return True
        stopped = {
            each.name
            for each, machine in self.machines.items()
            if each.tenant == key.tenant
            and each.scope in _OF_AGENTS
            and machine.stage in ("open", "half_open")
        }
        stopped.discard(key.name)
        known = len(self._agents.get(key.tenant, ()))
        return len(stopped) < max(1, known * self.settings.max_open_percent // 100)

    def _machine(self, key: Key) -> Machine:
        machine = self.machines.get(key)
        if machine is None:
            if len(self.machines) >= self.settings.max_machines:
                self._make_room()
            machine = self.machines[key] = Machine()
        return machine

    def _make_room(self) -> None:
        """Forget what is closed, then what is only slowed down; what is stopped stays, whatever it costs."""
        for stage in ("closed", "throttled"):
            gone = [key for key, machine in self.machines.items() if machine.stage == stage]
            for key in gone:
                del self.machines[key]
            if gone:
                return

    def _next_id(self, key: Key, at_ns: int) -> str:
        self._trips += 1
        mark = crc32(f"{self.settings.seed}\0{key.scope}\0{key}\0{self._trips}".encode())
        return f"trip_{at_ns // 1_000_000:012x}{mark:08x}"

    def _behaviour(self, tenant: str, agent: str, domain: str) -> Behaviour:
        key = (tenant, agent, domain)
        found = self.behaviours.get(key)
        if found is None:
            found = self.behaviours[key] = Behaviour.new(self.settings)
            self._agents.setdefault(tenant, set()).add(agent)
            if len(self.behaviours) > self.settings.max_behaviours:
                (of, who, _), _ = self.behaviours.popitem(last=False)
                if not any(each[:2] == (of, who) for each in self.behaviours):
                    self._agents[of].discard(who)
        else:
            self.behaviours.move_to_end(key)
        return found

    def _thread(self, tenant: str, agent: str, session: str, at_ns: int) -> Thread:
        owner = self._owners.get((tenant, agent))
        if owner is None:
            owner = self._owners[tenant, agent] = Owner()
            if len(self._owners) > self.settings.max_behaviours:
                self._owners.popitem(last=False)
        else:
            self._owners.move_to_end((tenant, agent))
        threads = owner.threads
        thread = threads.get(session)
        if thread is None:
            thread = threads[session] = Thread()
            if owner.floor is not None:
                if at_ns - owner.floor_ns > DAY:
                    owner.floor = None
                else:
                    thread.conduct = msgspec.structs.replace(
                        owner.floor, totals=msgspec.structs.replace(owner.floor.totals)
                    )
            if len(threads) > self.settings.max_sessions_of_agent:
                oldest = next(iter(threads))
                self._forget(owner, threads.pop(oldest).conduct, at_ns)
        elif len(threads) > 1 and next(reversed(threads)) != session:
            threads[session] = threads.pop(session)
        return thread

    def _loops(self, event: Event, session: Key) -> tuple[Loops, Key]:
        """The loop detectors of an event's thread, and the key they speak for."""
        if not event.thread or event.thread == event.session:
            return self._thread(event.tenant, event.agent, event.session, event.at_ns).loops, session
        found = self._thread(event.tenant, event.agent, event.thread, event.at_ns)
        return found.loops, Key("thread", event.tenant, event.agent, event.thread)

    def _forget(self, owner: Owner, gone: Conduct, at_ns: int) -> None:
        """A session pushed out must not be a way to lose what it had counted."""
        self.forgotten += 1
        floor = owner.floor or Conduct()
        floor.total = max(floor.total, gone.total)
        for name in Totals.__struct_fields__:
            setattr(floor.totals, name, max(getattr(floor.totals, name), getattr(gone.totals, name)))
        if owner.floor is not None or gone.total or self.settings.session_caps != NO_CAPS:
            owner.floor, owner.floor_ns = floor, at_ns

    def _grow(self, event: Event) -> Alarm | None:
        caps = self.settings.tree_caps
        totals = self._tree(event.tenant, event.tree)
        totals.add(event)
        if caps == NO_CAPS:
            return None
        self.grown.add((event.tenant, event.tree))
        return totals.passed(caps, event.at_ns, "delegation")

    def _tree(self, tenant: str, tree: str) -> Totals:
        found: Totals = _kept(self._trees, (tenant, tree), Totals, self.settings.max_resources)
        return found

    def _resource(self, tenant: str, resource: int) -> Returns:
        found: Returns = _kept(self._resources, (tenant, resource), Returns, self.settings.max_resources)
        return found

    def _plugged(self, event: Event) -> list[Alarm]:
        found: list[Alarm] = []
        for name, detector in list(self.detectors.items()):
            try:
                found += [msgspec.structs.replace(alarm, detector=name) for alarm in detector.observe(event)]
            except Exception as error:  # somebody else's code must not fail calls; readiness names it
                logger.exception("detector %s is taken out", name)
                self.broken[name] = repr(error)
                del self.detectors[name]
        return found


def packed(state: bytes) -> bytes:
    """Counts and filters are mostly zeros: a third less, for tens of microseconds every few seconds."""
    return zlib.compress(state, 1)


def _moved(machine: Machine | None) -> bool:
    return machine is not None and machine.stage != "closed"


def _kept(store: OrderedDict[Any, Any], key: Any, make: Any, most: int) -> Any:
    found = store.get(key)
    if found is None:
        found = store[key] = make()
        if len(store) > most:
            store.popitem(last=False)
    else:
        store.move_to_end(key)
    return found
