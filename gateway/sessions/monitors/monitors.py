"""All monitors of a policy, compiled, and the state of one session.

A call is *judged* before it runs, which changes nothing, and *committed* by its outcome: only then does the
state move. A call that was refused never commits. What a commit changes is first turned into a ``Note``:
small, without any argument in clear, and enough to repeat the step from a journal.

    judge(state, event)             violations, if the call committed now
    facts(state, event)             the same for ``input.session.monitors``, with what is left
    note(event) → apply(state, …)   commit; ``step`` does both

``Monitors`` is immutable and shared by all sessions and threads. A ``State`` belongs to one session.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from hashlib import sha256
from typing import Any, Final

import msgspec

from gateway.sessions.monitors import definitions as d
from gateway.sessions.monitors import templates as t
from gateway.sessions.monitors.matching import Compiled, Event, absent, compiled, get, scaled, split
from gateway.sessions.monitors.words import in_words

MAX_STATE: Final = 16 * 1024
MAX_FACTS: Final = 16
MAX_SILENT: Final = 8
_PER_MONITOR: Final = 96  # bytes of a state for a name, a revision and the frame around a cell
_TOOLS_KEPT: Final = 4096
_RANK: Final = {"nothing": 0, "deny": 1, "escalate": 2, "warn": 3}
_FACTS_BYTES: Final = 2_000  # about half of what all facts of a call may take


class Hit(msgspec.Struct, frozen=True, array_like=True):
    """One monitor that a committed call moves. ``amount`` and ``actor`` where its template needs them."""

    name: str
    revision: str
    marks: tuple[t.Mark, ...]
    amount: int = 1
    actor: str = ""


class Note(msgspec.Struct, frozen=True, array_like=True):
    """What a call means to the monitors, as it stands in the journal. Nothing of it is an argument."""

    at_ns: int
    hits: tuple[Hit, ...] = ()


class Violation(msgspec.Struct, frozen=True, kw_only=True):
    name: str
    why: str  # not_preceded, too_late, limit_reached, no_key, unreadable_amount, after, not_in_between, …
    on_violation: d.OnViolation
    message: str
    remedy: str = ""
    chain: str = ""  # of approvals, where a violation escalates


class Monitor(msgspec.Struct, frozen=True, kw_only=True):
    """One definition, compiled. ``revision``: hash of all that its state depends on.

    Another message, remedy, chain, limit or number does not change it, so that a correction of these
    keeps what has been counted.
    """

    name: str
    revision: str
    template: str
    definition: d.Definition
    automaton: Any  # templates.Automaton
    judged: tuple[Compiled, ...]
    moved_by: tuple[Compiled, ...]
    also: Compiled | None = None  # a label of the session that is enough to have, without a call
    amount: tuple[str, ...] | None = None
    decimals: int = 0
    with_actor: bool = False
    message: str = ""

    def amount_of(self, event: Event) -> int:
        if self.amount is None:
            return 1
        value = get(event.args, self.amount)
        found = None if absent(value) else scaled(value, self.decimals)
        return found if found is not None and 0 <= found <= t.FULL else t.UNREADABLE


class State:
    """What all monitors remember of one session; see ``Monitors`` for what may be done with it."""

    __slots__ = ("calls", "cells", "now")

    def __init__(self, monitors: int) -> None:
        self.now = 0  # never goes back, so a clock that does cannot empty a window
        self.calls = 0
        self.cells: list[Any] = [None] * monitors


class _Watch(msgspec.Struct, frozen=True):
    """A monitor, and those of its matchers that calls of one tool may match."""

    place: int
    monitor: Monitor
    matchers: tuple[Compiled, ...]


_Plan = tuple[tuple[_Watch, ...], tuple[_Watch, ...]]


class Monitors:
    """Compiled definitions, as ``reading.read`` gives them.

    Raises ``definitions.Unusable`` when the state of a session could grow beyond 16 KB.
    """

    def __init__(self, definitions: Mapping[str, d.Definition]) -> None:
        self.monitors = tuple(_compiled(name, definitions[name]) for name in sorted(definitions))
        self._places = {(m.name, m.revision): place for place, m in enumerate(self.monitors)}
        self._names = {monitor.name: monitor for monitor in self.monitors}
        self._counting = tuple(
            (place, monitor.automaton)
            for place, monitor in enumerate(self.monitors)
            if isinstance(monitor.automaton, t.Within) and monitor.automaton.calls is not None
        )
        self._plans: dict[tuple[str, str, tuple[str, ...], str], _Plan] = {}
        self._check_bounds()

    def initial(self) -> State:
        return State(len(self.monitors))

    # -- before the call ---------------------------------------------------------------------------

    def judge(self, state: State, event: Event, in_flight: Sequence[Note] = ()) -> tuple[Violation, ...]:
        """What the call would violate. Only the monitors that are about its tool are looked at.

        ``in_flight``: notes of calls that are under way, made by ``note`` of their events without a status.
        Each may still commit, so they count where they would speak against this call, and not for it.
        Two calls at once are then no way around a limit of one.
        """
        return tuple(
            _violation(monitor, seen) for monitor, seen in self._look(state, event, in_flight) if seen.why
        )

    def facts(self, state: State, event: Event, in_flight: Sequence[Note] = ()) -> dict[str, Any]:
        """``input.session.monitors``: at most 16 entries of about 2 KB, only what matters for this call."""
        seen = self._look(state, event, in_flight)
        wrong = [(monitor, each) for monitor, each in seen if each.why]
        if not wrong:  # nearly always
            return {monitor.name: _fact(monitor, each) for monitor, each in seen[:MAX_FACTS]}
        wrong.sort(key=lambda pair: _RANK[pair[0].definition.on_violation])
        found: dict[str, Any] = {}
        size = 0
        for monitor, each in wrong[:MAX_FACTS]:
            found[monitor.name] = fact = _fact(monitor, each)
            size += 120 + len(monitor.name) + len(fact["message"]) + len(fact.get("remedy", ""))
            if size > _FACTS_BYTES:  # the shipped rule has words of its own
                fact.pop("message")
                fact.pop("remedy", None)
        if len(wrong) > MAX_FACTS:
            # What does not fit must not be lost: a person could otherwise approve some and pass all.
            for monitor, _ in wrong[:MAX_FACTS]:
                if monitor.definition.on_violation == "escalate":
                    found[monitor.name] |= {"on_violation": "deny"}
        for monitor, each in seen:
            if len(found) < MAX_FACTS and not each.why:
                found[monitor.name] = _fact(monitor, each)
        return found

    def _look(self, state: State, event: Event, in_flight: Sequence[Note]) -> list[tuple[Monitor, t.Seen]]:
        found = []
        at = None
        for watch in self._plan(event)[0]:
            monitor = watch.monitor
            marks = _marks(watch, event)
            if not marks:
                continue
            if monitor.also is not None and monitor.also.holds(event):
                marks = (*marks, (monitor.also.bit, ""))
            if monitor.amount is not None or monitor.with_actor:
                at = _moment(state, event, monitor)
            elif at is None or at.amount != 1 or at.actor:
                at = t.Moment(max(state.now, event.at_ns), state.calls)
            cell = state.cells[watch.place]
            if in_flight:
                cell = _with(cell, monitor, in_flight, at)
            found.append((monitor, monitor.automaton.judge(cell, marks, at)))
        return found

    # -- after it ----------------------------------------------------------------------------------

    def note(self, event: Event) -> Note:
        """What the call means to the monitors, once it is known how it ended."""
        hits = []
        for watch in self._plan(event)[1]:
            marks = _marks(watch, event)
            if marks:
                monitor = watch.monitor
                actor = t.actor_of(event.actor) if monitor.with_actor else ""
                hits.append(Hit(monitor.name, monitor.revision, marks, monitor.amount_of(event), actor))
        return Note(event.at_ns, tuple(hits))

    def apply(self, state: State, note: Note) -> bool:
        """Commit; whether anything changed that must be durable before the result is shown.

        Hits of a monitor that is not here any more, or is another now, are passed over.
        """
        state.now = max(state.now, note.at_ns)
        changed = False
        for place, automaton in self._counting:
            changed = changed or automaton.counting(state.cells[place], state.calls)
        for hit in note.hits:
            where = self._places.get((hit.name, hit.revision))
            if where is None:
                continue
            automaton = self.monitors[where].automaton
            cell = state.cells[where]
            if cell is None:
                cell = state.cells[where] = automaton.start()
            at = t.Moment(state.now, state.calls, hit.amount, hit.actor)
            for mark in reversed(hit.marks):
                changed = automaton.step(cell, mark, at) or changed
        state.calls += 1
        return changed

    def step(self, state: State, event: Event) -> bool:
        """``apply`` what ``note`` makes of a call that has committed."""
        return self.apply(state, self.note(event))

    # -- snapshots ---------------------------------------------------------------------------------

    def encode(self, state: State) -> dict[str, Any]:
        """A plain value; what has never been touched takes no room."""
        cells = {}
        for monitor, cell in zip(self.monitors, state.cells, strict=True):
            if cell is not None:
                said = monitor.automaton.encode(cell)
                if said != monitor.automaton.encode(monitor.automaton.start()):
                    cells[monitor.name] = [monitor.revision, said]
        return {"now": state.now, "calls": state.calls, "cells": cells}

    def decode(self, value: Mapping[str, Any]) -> tuple[State, tuple[str, ...]]:
        """The state again, and the names of monitors whose state was dropped because they are others now.

        A monitor that is gone is among them. Raises ``ValueError`` for what ``encode`` cannot have made.
        """
        state = self.initial()
        dropped = []
        try:
            state.now, state.calls = int(value["now"]), int(value["calls"])
            for name, (revision, said) in value["cells"].items():
                place = self._places.get((name, revision))
                if place is None:
                    dropped.append(name)
                else:
                    state.cells[place] = self.monitors[place].automaton.decode(said)
        except (ValueError, KeyError, TypeError, IndexError, AttributeError, OverflowError) as error:
            raise ValueError(f"not a state of monitors: {error!r}") from error
        return state, tuple(dropped)

    # -- the index ---------------------------------------------------------------------------------

    def _plan(self, event: Event) -> _Plan:
        about = (event.target, event.risk, event.effects, event.domain)
        plan = self._plans.get(about)
        if plan is None:
            if len(self._plans) >= _TOOLS_KEPT:
                self._plans.clear()
            plan = self._plans[about] = (
                self._watches(about, lambda monitor: monitor.judged),
                self._watches(about, lambda monitor: monitor.moved_by),
            )
        return plan

    def _watches(self, about: tuple[str, str, tuple[str, ...], str], which: Any) -> tuple[_Watch, ...]:
        found = []
        for place, monitor in enumerate(self.monitors):
            matchers = tuple(matcher for matcher in which(monitor) if matcher.may(*about))
            if matchers:
                found.append(_Watch(place, monitor, matchers))
        return tuple(found)

    def _check_bounds(self) -> None:
        if len(self.monitors) > d.MAX_MONITORS:
            raise d.Unusable(("monitors",), f"more than {d.MAX_MONITORS}; a call would wait for all of them")
        silent = [m.name for m in self.monitors if m.definition.on_violation == "nothing"]
        if len(silent) > MAX_SILENT:
            said = f"more than {MAX_SILENT} monitors with 'on_violation: nothing'; their facts would not fit"
            raise d.Unusable(("monitors", silent[MAX_SILENT]), said)
        size = 0
        for monitor in self.monitors:
            size += _PER_MONITOR + monitor.automaton.size()
            if size > MAX_STATE:
                table = monitor.automaton.size()
                said = (
                    f"with it the state of a session may grow beyond {MAX_STATE} bytes (its own: {table}); "
                    "lower 'keys' or 'n', or leave out another monitor"
                )
                raise d.Unusable(("monitors", monitor.name), said)


def _compiled(name: str, definition: d.Definition) -> Monitor:
    template, body = definition.template, definition.body
    automaton = t.automaton(template, body)
    exact = template in ("must_precede", "within")
    judged, moved_by = [], []
    also = None
    for number, (where, matcher, role) in enumerate(d.matchers(template, body)):
        one = compiled(1 << number, matcher, role, body.by, exact=exact)
        if role in ("judged", "counted"):
            judged.append(one)
        if role != "judged":
            moved_by.append(one)
        if where == ("after",) and template == "never_after" and d.only_labels(matcher):
            also = one
    amount = body.amount if isinstance(body, d.AtMostTotal) else None
    return Monitor(
        name=name,
        revision=_revision(template, body, automaton.keys),
        template=template,
        definition=definition,
        automaton=automaton,
        judged=tuple(judged),
        moved_by=tuple(moved_by),
        also=also,
        amount=split(amount) if amount is not None else None,
        decimals=body.decimals if isinstance(body, d.AtMostTotal) else 0,
        with_actor=template == "separation_of_actors",
        message=definition.message or in_words(template, body),
    )


_ONLY_A_LIMIT: Final = {
    "at_most_total": ("limit",),
    "rate_limit": ("n",),
    "within": ("calls", "seconds"),
}


def _revision(template: str, body: d.Template, keys: int) -> str:
    said = msgspec.to_builtins(body)
    limits = _ONLY_A_LIMIT.get(template, ())
    if isinstance(body, d.AtMostN) and body.within_s is None:
        limits = ("n",)
    for name in limits:
        said.pop(name, None)
    return sha256(d.canonical([template, said, keys])).hexdigest()[:16]


def _marks(watch: _Watch, event: Event) -> tuple[t.Mark, ...]:
    if len(watch.matchers) == 1:  # nearly always, and a generator costs as much as the rest
        matcher = watch.matchers[0]
        return ((matcher.bit, matcher.key(event)),) if matcher.holds(event) else ()
    return tuple((matcher.bit, matcher.key(event)) for matcher in watch.matchers if matcher.holds(event))


def _moment(state: State, event: Event, monitor: Monitor) -> t.Moment:
    actor = t.actor_of(event.actor) if monitor.with_actor else ""
    return t.Moment(max(state.now, event.at_ns), state.calls, monitor.amount_of(event), actor)


def _with(cell: Any, monitor: Monitor, in_flight: Sequence[Note], at: t.Moment) -> Any:
    """The cell as it would be if all calls under way had committed; never the cell itself."""
    copied = False
    for note in in_flight:
        for hit in note.hits:
            if (hit.name, hit.revision) != (monitor.name, monitor.revision):
                continue
            if not copied:
                automaton = monitor.automaton
                cell = automaton.start() if cell is None else automaton.decode(automaton.encode(cell))
                copied = True
            for mark in hit.marks:
                monitor.automaton.step(cell, mark, t.Moment(at.now, at.calls, hit.amount, hit.actor))
    return cell


def _violation(monitor: Monitor, seen: t.Seen) -> Violation:
    said = monitor.definition
    return Violation(
        name=monitor.name,
        why=seen.why,
        on_violation=said.on_violation,
        message=monitor.message,
        remedy=said.remedy,
        chain=said.chain if said.on_violation == "escalate" else "",
    )


def _fact(monitor: Monitor, seen: t.Seen) -> dict[str, Any]:
    fact: dict[str, Any] = {"violated": bool(seen.why)}
    if seen.count is not None:
        fact["count"] = _unscaled(seen.count, monitor.decimals) if monitor.decimals else seen.count
    if seen.left is not None:
        fact["left"] = _unscaled(seen.left, monitor.decimals) if monitor.decimals else seen.left
    if seen.why:
        said = monitor.definition
        fact |= {"why": seen.why, "on_violation": said.on_violation, "message": monitor.message}
        if said.remedy:
            fact["remedy"] = said.remedy
        if said.on_violation == "escalate":
            fact["chain"] = said.chain
    return fact


def _unscaled(value: int, decimals: int) -> int | float:
    unit: int = 10**decimals
    whole, rest = divmod(value, unit)
    return value / unit if rest else whole
