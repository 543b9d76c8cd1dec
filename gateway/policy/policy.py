"""``EmbeddedPolicy``: the ``Policy`` port over one bundle.

The way of a question is: scope index → group of modules → engine (or memory) → the one combiner → decision.
A bundle never changes; a reload makes a new ``EmbeddedPolicy`` and the caller swaps it.
"""

from __future__ import annotations

import time
from collections.abc import Coroutine, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Literal, TypeVar

import msgspec
import orjson

from gateway.errors import Refused
from gateway.model import Call, Decision, Facts, Finding, Json, Mode, Obligation, Outcome, Principal, Tool
from gateway.policy import obligations
from gateway.policy.bundle import read_bundle
from gateway.policy.combine import Combined, Contribution, combine
from gateway.policy.embedded import EmbeddedEngine, Group
from gateway.policy.engine import NAME
from gateway.policy.metadata import PHASES, ModeFor, Phase, Scope
from gateway.policy.modes import in_mode, mode_for
from gateway.policy.module import Bundle
from gateway.policy.redact import CannotRedact, Redaction
from gateway.policy.redact_result import redacted
from gateway.policy.scope import ScopeIndex, argument_names, touches
from gateway.ports import ResultDecision
from gateway.reasons import REASONS
from gateway.sessions.monitors import Monitors

K = TypeVar("K")
V = TypeVar("V")
T = TypeVar("T")

_KEPT_SEEN: Final = 50_000
_KEPT_LISTS: Final = 256
_KEPT_COMBINED: Final = 4096
_KEPT_GROUPS: Final = 4096

# A call needs somebody to allow it. A result belongs to a call that was allowed, and hiding a tool forbids
# nothing by itself: there silence is consent.
_OTHERWISE: Final[Mapping[Phase, Literal["deny", "allow"]]] = {
    "call": "deny",
    "result": "allow",
    "list": "allow",
    "trust": "allow",
}
_DUTIES: Final[Mapping[Phase, frozenset[str]]] = {
    "call": obligations.CALL_DUTIES,
    "result": obligations.RESULT_DUTIES,
    "list": frozenset(),
    "trust": frozenset(),
}
_ALWAYS: Final[Mapping[Phase, frozenset[str]]] = {
    "call": frozenset(),
    "result": frozenset({"label"}),  # a denied result is shown where the gateway only observes
    "list": frozenset(),
    "trust": frozenset(),
}


class ModuleInfo(msgspec.Struct, frozen=True, kw_only=True):
    """A row of the catalogue, from a module's METADATA."""

    id: str
    title: str
    description: str
    file: str
    phase: Phase
    owner: str
    mode: Mode
    modes: tuple[ModeFor, ...]  # other modes for some tools; the first that matches holds
    severity: str
    scope: Scope
    codes: tuple[str, ...]
    contributes: tuple[str, ...]
    reads: tuple[str, ...]
    memoised: bool


def load(path: Path | None, pack: str | None = None) -> EmbeddedPolicy:
    """Load a folder, a shipped pack, or a folder over a pack. Side-effect free.

    ``ConfigError`` names file, line and remedy of every problem. May be called on any thread: engines are
    made on the thread of the first question.
    """
    return EmbeddedPolicy(read_bundle(path, pack))


class EmbeddedPolicy:
    """Implements ``ports.Policy`` with the embedded engine. All questions come from one thread."""

    def __init__(self, bundle: Bundle, *, memoise: bool = True, coverage: bool = False) -> None:
        self.bundle = bundle
        self.revision = bundle.revision
        self.monitors = Monitors(bundle.monitors)
        self._engine = EmbeddedEngine(bundle, memoise, coverage)
        self._phases: dict[Phase, _Groups] = {phase: _Groups(bundle, phase) for phase in PHASES}
        self._trust = Group(bundle.phase("trust"))
        self._combined: dict[int, tuple[Sequence[Contribution], Combined]] = {}
        self._redactions: dict[int, tuple[Sequence[Obligation], Redaction | None]] = {}
        self._seen: dict[tuple[Principal, int], tuple[Tool, Mapping[str, Json], bool]] = {}
        self._lists: dict[
            tuple[Principal, int], tuple[Sequence[Tool], Mapping[str, Json], Sequence[Tool]]
        ] = {}

    @property
    def engine(self) -> str:
        """Name and version of what evaluates."""
        return NAME

    async def call(self, call: Call, facts: Facts) -> Decision:
        started = time.perf_counter_ns()
        group = self._phases["call"].of_call(call)
        if group is None:
            return self._inexact(started)
        contributions, memoised = self._engine.ask(group, lambda sections: sections.encode(call, facts))
        return self._judged(call, group, contributions, memoised, started)

    def _inexact(self, started: int) -> Decision:
        """A number that engines read differently is one that could be under a limit in one of them."""
        reason = REASONS["number_out_of_range"]
        finding = Finding(code=reason.code, message=reason.message, remedy=reason.remedy)
        return self._decision("call", NOBODY, Combined("deny", (finding,)), 0, started)

    def _judged(
        self, call: Call, group: Group, contributions: Sequence[Contribution], memoised: int, started: int
    ) -> Decision:
        combined = self._combine("call", contributions)
        if combined.duties and combined.verdict != "deny":
            combined = _checked(call, combined)
        return self._decision("call", group, combined, memoised, started)

    def wants_result(self, call: Call) -> bool:
        group = self._phases["result"].of_call(call)
        return group is None or bool(group.modules)

    async def result(self, call: Call, facts: Facts, outcome: Outcome) -> ResultDecision:
        started = time.perf_counter_ns()
        group = self._phases["result"].of_call(call)
        if group is None:
            return ResultDecision(decision=self._inexact(started))
        contributions, memoised = self._engine.ask(
            group, lambda sections: sections.encode(call, facts, outcome)
        )
        return self._shown(call, outcome, group, contributions, memoised, started)

    def _shown(
        self,
        call: Call,
        outcome: Outcome,
        group: Group,
        contributions: Sequence[Contribution],
        memoised: int,
        started: int,
    ) -> ResultDecision:
        combined = self._combine("result", contributions)
        result_json, error_json = outcome.result_json, outcome.error_json
        if combined.verdict == "allow" and combined.duties:
            try:
                wanted = self._redaction(combined.duties)
            except CannotRedact:
                combined = _unmet(combined)
            else:
                try:
                    result_json, error_json = redacted(call.tool, outcome, wanted)
                except (CannotRedact, Refused):
                    combined = _unmet(combined, "result_unredactable")
        decision = self._decision("result", group, combined, memoised, started)
        if combined.verdict != "allow":
            return ResultDecision(decision=decision)
        return ResultDecision(decision=decision, result_json=result_json, error_json=error_json)

    def visible(self, principal: Principal, tools: Sequence[Tool], facts: Facts) -> Sequence[Tool]:
        key = (principal, id(tools))
        kept = self._lists.get(key)
        if kept is not None and kept[0] is tools and kept[1] == facts.slow:
            return kept[2]
        shown = tuple(tool for tool in tools if self.sees(principal, tool, facts))
        if isinstance(tools, tuple):  # a list could change under its id
            _bound(self._lists, _KEPT_LISTS)
            self._lists[key] = (tools, facts.slow, shown)
        return shown

    def sees(self, principal: Principal, tool: Tool, facts: Facts) -> bool:
        key = (principal, id(tool))
        kept = self._seen.get(key)
        if kept is not None and kept[0] is tool and kept[1] == facts.slow:
            return kept[2]
        group = self._phases["list"].of(tool)
        contributions, _ = self._engine.ask(
            group, lambda sections: sections.encode_listed(principal, tool, facts)
        )
        combined = self._combine("list", contributions)
        _bound(self._seen, _KEPT_SEEN)
        self._seen[key] = (tool, facts.slow, combined.verdict == "allow")
        return combined.verdict == "allow"

    def trust(self, question: Mapping[str, Any]) -> Decision:
        """Whether rules let an agent have a tier; ``question`` is the input of phase ``trust``.

        Silence is consent, because the floors are in code. Always decided by the embedded engine.
        """
        started = time.perf_counter_ns()
        contributions, memoised = self._engine.ask(self._trust, lambda _: orjson.dumps(question))
        combined = combine(contributions, "allow", frozenset())
        return self._decision("trust", self._trust, combined, memoised, started)

    def modify(self, call: Call, decision: Decision) -> Mapping[str, object] | None:
        """New arguments where obligations change them. They can be met: ``call`` refused what cannot."""
        return obligations.modified(call.args, decision.obligations) if decision.obligations else None

    def engines(self) -> Sequence[Any]:
        """The engines made so far, for what coverage they recorded."""
        return self._engine.engines()

    def group(self, phase: Phase, call: Call) -> Group:
        """The modules that look at a call in a phase, in their modes for its tool."""
        groups = self._phases[phase]
        return groups.of(call.tool) if phase == "list" else groups.of_call(call) or NOBODY

    def warm(self, tools: Iterable[Tool]) -> Iterator[None]:
        """Make what the first questions about these tools would make; pauses between the steps.

        On the thread that will ask, so that a swap costs the callers after it nothing.
        """
        for tool in tools:
            for groups in self._phases.values():
                for group in groups.usual(tool):
                    yield from self._engine.warm(group)
            yield

    def cool(self) -> Iterator[None]:
        """Let go of the engines of a policy that was replaced; pauses between the steps."""
        yield from self._engine.cool()

    def catalogue(self) -> tuple[ModuleInfo, ...]:
        """What is loaded, for ``policy inspect`` and the docs."""
        return tuple(
            ModuleInfo(
                id=rule.id,
                title=rule.meta.title if rule.meta else "",
                description=" ".join((rule.meta.description if rule.meta else "").split()),
                file=rule.file,
                phase=rule.phase,
                owner=rule.custom.owner,
                mode=rule.mode,
                modes=rule.custom.modes,
                severity=rule.custom.severity,
                scope=rule.scope,
                codes=rule.custom.codes,
                contributes=rule.sets,
                reads=tuple(sorted(".".join(("input", *path)) for path in rule.reads)),
                memoised=rule.memoisable,
            )
            for rule in self.bundle.rules
        )

    def _combine(self, phase: Phase, contributions: Sequence[Contribution]) -> Combined:
        # What is remembered as one is combined once: merging obligations costs more than finding them.
        kept = self._combined.get(id(contributions))
        if kept is not None and kept[0] is contributions:
            return kept[1]
        combined = combine(contributions, _OTHERWISE[phase], _DUTIES[phase], _ALWAYS[phase])
        if isinstance(contributions, tuple):
            _bound(self._combined, _KEPT_COMBINED)
            self._combined[id(contributions)] = (contributions, combined)
        return combined

    def _redaction(self, duties: Sequence[Obligation]) -> Redaction | None:
        """Prepared once for obligations that are remembered; ``CannotRedact`` for what is not RE2."""
        kept = self._redactions.get(id(duties))
        if kept is None or kept[0] is not duties:
            _bound(self._redactions, _KEPT_COMBINED)
            kept = self._redactions[id(duties)] = (duties, obligations.redaction(duties))
        return kept[1]

    def _decision(
        self, phase: Phase, group: Group, combined: Combined, memoised: int, started: int
    ) -> Decision:
        return Decision(
            verdict=combined.verdict,
            findings=combined.findings,
            obligations=combined.duties,
            notes=combined.notes,
            observed=combined.observed,
            labels=obligations.labels(combined.duties),
            engine=self.engine,
            revision=self.revision,
            entry=phase,
            rules=group.rules,
            memoised=memoised,
            elapsed_ns=time.perf_counter_ns() - started,
        )


def at_once(question: Coroutine[Any, Any, T]) -> T:
    """The answer of a question that never waits: the embedded engine decides at once."""
    try:
        question.send(None)
    except StopIteration as answer:
        return answer.value  # type: ignore[no-any-return]  # the coroutine's type says what it is
    raise RuntimeError("the embedded engine must not wait")


NOBODY: Final = Group(())


class _Groups:
    """Groups of one phase by the modules in scope; many tools share one."""

    def __init__(self, bundle: Bundle, phase: Phase) -> None:
        self._modules = bundle.phase(phase)
        self._before = phase == "call"
        self._index = ScopeIndex(self._modules)
        self._groups: dict[tuple[object, ...], Group] = {}
        self._moded = frozenset(number for number, module in enumerate(self._modules) if module.custom.modes)
        self._named = frozenset(
            number for number, module in enumerate(self._modules) if module.scope.arguments
        )

    def of(self, tool: Tool) -> Group:
        """All that look at the tool."""
        return self._group(self._index.numbers(tool), tool)

    def usual(self, tool: Tool) -> tuple[Group, ...]:
        """The groups of its calls: with none of the arguments that some modules look at, and with all."""
        every = self._index.numbers(tool)
        if self._named.isdisjoint(every):
            return (self._group(every, tool),)
        return self._group(tuple(n for n in every if n not in self._named), tool), self._group(every, tool)

    def of_call(self, call: Call) -> Group | None:
        """All that look at the call: those about arguments it has not got would find nothing.

        ``None`` for arguments with a number that is not exact.
        """
        numbers = self._index.numbers(call.tool)
        named = not self._named.isdisjoint(numbers)
        # Before its result, a call has been decided itself.
        names = argument_names(call.args) if named or self._before else frozenset()
        if names is None:
            return None
        if named:
            numbers = tuple(number for number in numbers if touches(self._modules[number].scope, names))
        return self._group(numbers, call.tool)

    def _group(self, numbers: tuple[int, ...], tool: Tool) -> Group:
        key: tuple[object, ...] = numbers
        if not self._moded.isdisjoint(numbers):
            # The same modules, and not all in the same mode for every tool.
            key = tuple((number, mode_for(self._modules[number], tool)) for number in numbers)
        group = self._groups.get(key)
        if group is None:
            _bound(self._groups, _KEPT_GROUPS)  # an agent chooses argument names, and so combinations
            modules = [self._modules[number] for number in numbers]
            group = self._groups[key] = Group([in_mode(each, mode_for(each, tool)) for each in modules])
        return group


def _checked(call: Call, combined: Combined) -> Combined:
    """A cap on text, or a redaction of a number, cannot be met: refuse rather than send it as it is."""
    try:
        obligations.modified(call.args, combined.duties)
    except CannotRedact:
        return _unmet(combined)
    return combined


def _unmet(combined: Combined, code: str = "obligation_conflict") -> Combined:
    reason = REASONS[code]
    rule = ",".join(sorted({item.rule for item in combined.duties}))
    finding = Finding(code=reason.code, message=reason.message, remedy=reason.remedy, rule=rule)
    always = _ALWAYS["result"] if code == "result_unredactable" else frozenset()
    duties = tuple(item for item in combined.duties if item.kind in always)
    return msgspec.structs.replace(combined, verdict="deny", findings=(finding,), duties=duties)


def _bound(kept: dict[K, V], size: int) -> None:
    if len(kept) >= size:
        kept.clear()
