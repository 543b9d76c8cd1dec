"""Asking the embedded engine: one engine per scope group, and no odd answer that is not a fault.

Entries in one big engine are not flat in the number of modules loaded, so each set of modules that is in
scope of some tool gets its own engine: a clone of a data-only base, its modules, the libraries they need and
one generated entry. Engines are built when first needed and kept in an LRU (about 0.6 ms and 0.3 MB each).

Engines may be used and dropped only on the thread that made them; the first evaluation names that thread.
Python collects cycles on whichever thread allocates, so engines that go there are handed back to be dropped
at home: dropped elsewhere, the binding keeps their memory for ever and complains.
"""

from __future__ import annotations

import logging
import re
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final

import msgspec
from regorus import Engine

from gateway.errors import Refused
from gateway.policy.combine import Contribution, Rule, Said, contribution, fault
from gateway.policy.engine import UNDEFINED, explain, new_engine
from gateway.policy.input import Sections
from gateway.policy.memo import Memo
from gateway.policy.module import Bundle, Module
from gateway.policy.text import count

logger = logging.getLogger("wardgate.policy")

Contributions = tuple[Contribution, ...]
Encode = Callable[[Sections], bytes]

_ENTRY: Final = "data.wardgate.entry"
_KEPT_ENGINES: Final = 256
_KEPT_ANSWERS: Final = 16_384
_KEPT_JOINED: Final = 64
_LOGGED: Final = 1000
_HOME_AT_ONCE: Final = 4
_ASTRAL: Final = re.compile(rb"[\xf0-\xf7]")


_abandoned: Final[dict[int, list[Engine]]] = {}
"""Engines collected on another thread than their own, by the id of theirs."""


class EvaluationFault(Exception):
    """The engine gave no usable answer; ``code`` is the reason code."""

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(detail)
        self.code = code


class Part:
    """Modules of a group that are asked together, and their input."""

    def __init__(
        self, entry: str, modules: Sequence[tuple[str, Module]], memo: Memo[Contributions] | None
    ) -> None:
        self.entry = entry
        self.modules = tuple((name, _rule(module)) for name, module in modules)
        self.sections = Sections(path for _, module in modules for path in module.reads)
        self.memo = memo


class Group:
    """The modules in scope of some tool, and the engine that holds exactly them."""

    def __init__(self, modules: Sequence[Module]) -> None:
        self.modules = tuple(modules)
        self.rules = tuple(module.id for module in modules)
        named = [(f"m{number}", module) for number, module in enumerate(modules)]
        deciding = [item for item in named if item[1].mode == "enforce"]
        remembered = [item for item in deciding if item[1].memoisable]
        recurring = [item for item in deciding if item[1].recurring]
        fresh = [item for item in deciding if not item[1].memoisable and not item[1].recurring]
        self.parts = tuple(
            Part(f"{_ENTRY}.{name}", modules, Memo(_KEPT_ANSWERS) if name != "fresh" else None)
            for name, modules in (("remembered", remembered), ("recurring", recurring), ("fresh", fresh))
            if modules
        )
        # Modules that only watch are asked one by one: the fault of one must not touch the others.
        self.apart = tuple(
            Part(
                f"{_ENTRY}.only_{name}",
                [(name, module)],
                Memo(_KEPT_ANSWERS) if module.memoisable or module.recurring else None,
            )
            for name, module in named
            if module.mode != "enforce"
        )
        self._joined: dict[tuple[int, ...], tuple[list[Contributions], Contributions]] = {}

    def joined(self, answers: list[Contributions]) -> Contributions:
        """Remembered answers of all parts as one tuple, the same one each time."""
        if len(answers) == 1:
            return answers[0]
        key = tuple(map(id, answers))
        found = self._joined.get(key)
        if found is None:
            if len(self._joined) >= _KEPT_JOINED:
                self._joined.clear()
            # The answers are held, so that their ids stay their own.
            found = self._joined[key] = (answers, tuple(item for answer in answers for item in answer))
        return found[1]

    def entry(self) -> str:
        """The generated module: per part one list of its modules' sets, and each module alone.

        The lists repeat the objects instead of naming them because each rule evaluated costs 8 µs.
        """
        said = {f"m{number}": _sets(module) for number, module in enumerate(self.modules)}
        lines = ["package wardgate.entry", "import rego.v1"]
        lines += [f"{name} := {sets}" for name, sets in said.items()]
        for part in (*self.parts, *self.apart):
            # One a line: the engine refuses lines of more than 1,024 columns, which is fifteen modules.
            lists = ",\n".join(said[name] for name, _ in part.modules)
            lines.append(f"{part.entry.removeprefix(_ENTRY + '.')} := [{lists}]")
        return "\n".join(lines)


def encoded(part: Part, encode: Encode, log: Callable[[str, str], None]) -> bytes | None:
    """The input of a part; ``None`` for what JSON cannot say, or says twice."""
    try:
        return encode(part.sections)
    except (TypeError, ValueError, RecursionError, Refused) as error:
        log(part.modules[0][1].id, f"input: {error}")
        return None


class EmbeddedEngine:
    """Evaluates groups of one bundle. Never raises: a fault is a contribution that denies."""

    def __init__(self, bundle: Bundle, memoise: bool = True, coverage: bool = False) -> None:
        self._bundle = bundle
        self._coverage = coverage
        self._memoise = memoise
        self._base: Engine | None = None
        self._engines: OrderedDict[tuple[int, bool], tuple[Group, Engine]] = OrderedDict()
        self._thread = 0
        self._logged: set[tuple[str, str]] = set()

    def __del__(self) -> None:
        if self._thread and self._thread != threading.get_ident():
            gone = [engine for _, engine in self._engines.values()]
            gone += [self._base] if self._base is not None else []
            _abandoned.setdefault(self._thread, []).extend(gone)

    def ask(self, group: Group, encode: Encode) -> tuple[Sequence[Contribution], int]:
        """Contributions of all modules of a group, and how many of them came from memory.

        When all of them did, the answer is the tuple that is remembered, the same one each time.
        """
        answers: list[Contributions] = []
        memoised = 0
        for part in (*group.parts, *group.apart):
            payload = encoded(part, encode, self._log)
            memo = part.memo if self._memoise else None
            answer = memo.get(payload) if memo is not None and payload is not None else None
            if answer is not None:
                memoised += len(answer)
            else:
                answer = self._evaluate(group, part, payload)
                if memo is not None and payload is not None and not any(item.fault for item in answer):
                    memo.put(payload, answer)
            answers.append(answer)
        if memoised == len(group.modules) and answers:
            return group.joined(answers), memoised
        return [item for answer in answers for item in answer], memoised

    def engines(self) -> Sequence[Engine]:
        """Those that are kept, for what coverage they recorded."""
        return [engine for _, engine in self._engines.values()]

    def warm(self, group: Group) -> Iterator[None]:
        """Make the engine of a group and have it prepare its entries; pauses between the steps."""
        if len(self._engines) >= _KEPT_ENGINES or not group.modules or (id(group), False) in self._engines:
            return
        try:
            engine = self._engine(group, False)
            for part in (*group.parts, *group.apart):
                yield
                self._set_input(engine, b"{}")
                self._run(engine, part.entry)
        except EvaluationFault as error:
            logger.debug("not warmed: %s", error)  # the same fault will deny the calls it concerns

    def cool(self) -> Iterator[None]:
        """Let go of the engines one by one; pauses in between, because each takes a quarter millisecond."""
        while self._engines:
            self._engines.popitem(last=False)
            yield
        self._base = None

    def _evaluate(self, group: Group, part: Part, payload: bytes | None) -> Contributions:
        if payload is None:
            return tuple(fault(rule, "policy_error") for _, rule in part.modules)
        try:
            engine = self._engine(group, _wide(payload))
            self._set_input(engine, payload)
            answers = _decode_list(self._run(engine, part.entry), len(part.modules))
            return tuple(
                contribution(rule, said) for (_, rule), said in zip(part.modules, answers, strict=True)
            )
        except EvaluationFault as first:
            if len(part.modules) == 1:
                return (self._faulted(part.modules[0][1], first),)
        # One of several failed: ask each alone, so that the others keep their say and the one is named.
        return tuple(self._alone(group, name, rule, payload) for name, rule in part.modules)

    def _alone(self, group: Group, name: str, rule: Rule, payload: bytes) -> Contribution:
        try:
            engine = self._engine(group, _wide(payload))
            self._set_input(engine, payload)
            return contribution(rule, _decode_one(self._run(engine, f"{_ENTRY}.{name}")))
        except EvaluationFault as error:
            return self._faulted(rule, error)

    def _faulted(self, rule: Rule, error: EvaluationFault) -> Contribution:
        self._log(rule.id, str(error))
        return fault(rule, error.code)

    def _set_input(self, engine: Engine, payload: bytes) -> None:
        try:
            engine.set_input_json(payload.decode())
        except (RuntimeError, ValueError) as error:
            # The engine would go on with the input of the call before, which may be another agent's.
            engine.set_input_json("null")
            raise EvaluationFault("policy_error", f"input: {explain(error)[2]}") from error

    def _run(self, engine: Engine, entry: str) -> str:
        try:
            reply: str = engine.eval_rule_as_json(entry)
        except BaseException as error:  # a Rust panic is no Exception; whatever it is, it must deny
            if isinstance(error, KeyboardInterrupt | SystemExit):
                raise
            file, line, said = explain(error)
            if not isinstance(error, Exception):
                self._engines.clear()  # the state of an engine that panicked is unknown
            raise EvaluationFault("policy_error", f"{file}:{line}: {said}") from error
        if reply == UNDEFINED:
            raise EvaluationFault("policy_undefined", f"{entry} is undefined")
        return reply

    def _engine(self, group: Group, wide: bool = False) -> Engine:
        if self._thread != threading.get_ident():
            if self._thread:
                raise EvaluationFault(
                    "policy_error", "asked on another thread than the one that made the engines"
                )
            self._thread = threading.get_ident()
        key = (id(group), wide)
        kept = self._engines.get(key)
        if kept is not None:
            self._engines.move_to_end(key)
            return kept[1]
        # A few at a time: each takes a quarter millisecond.
        del _abandoned.get(self._thread, [])[:_HOME_AT_ONCE]
        engine = self._build(group, wide)
        self._engines[key] = (group, engine)  # held, so that the id stays its own
        if len(self._engines) > _KEPT_ENGINES:
            self._engines.popitem(last=False)
        return engine

    def _build(self, group: Group, wide: bool) -> Engine:
        if self._base is None:
            self._base = new_engine(dict(self._bundle.data))
        engine = self._base.clone()
        engine.set_enable_coverage(self._coverage)
        if wide:  # asked only then: it costs more than the engine's own, which counts such a character twice
            engine.add_extension("count", 1, count)
        try:
            for file in sorted({file for module in group.modules for file in module.libraries}):
                engine.add_policy(file, self._bundle.libraries[file].text)
            for module in group.modules:
                engine.add_policy(module.file, module.text)
            engine.add_policy("wardgate/entry.rego", group.entry())
        except RuntimeError as error:
            raise EvaluationFault("policy_error", explain(error)[2]) from error
        return engine

    def _log(self, rule: str, detail: str) -> None:
        """Once per rule and fault: an agent that provokes a fault in a loop must not fill the disk."""
        if len(self._logged) < _LOGGED and (rule, detail) not in self._logged:
            self._logged.add((rule, detail))
            logger.warning("policy module %s gave no usable answer: %s", rule, detail)


def _wide(payload: bytes) -> bool:
    """Whether a text has a character beyond the basic plane."""
    return not payload.isascii() and _ASTRAL.search(payload) is not None


def _sets(module: Module) -> str:
    return "{" + ", ".join(f'"{name}": data.{module.package}.{name}' for name in module.sets) + "}"


def _rule(module: Module) -> Rule:
    return Rule(module.id, module.custom.severity, module.mode, frozenset(module.custom.codes))


_LIST: Final = msgspec.json.Decoder(list[Said], strict=True)
_ONE: Final = msgspec.json.Decoder(Said, strict=True)


def _decode_list(reply: str, expected: int) -> list[Said]:
    answers = _decoded(_LIST, reply)
    if len(answers) != expected:
        raise EvaluationFault("policy_bad_shape", f"{len(answers)} answers for {expected} modules")
    return answers  # type: ignore[no-any-return]  # the decoder's type is its argument


def _decode_one(reply: str) -> Said:
    return _decoded(_ONE, reply)  # type: ignore[no-any-return]  # the decoder's type is its argument


def _decoded(decoder: Any, reply: str) -> Any:
    try:
        return decoder.decode(reply)
    except (msgspec.DecodeError, RecursionError) as error:  # ValidationError is one of these
        raise EvaluationFault("policy_bad_shape", str(error)) from error
