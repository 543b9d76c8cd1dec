"""Running ``test_*`` rules of ``*_test.rego`` files, as ``opa test`` does, and the cases of YAML tables.

A test passes when its rule is true. All modules and all data are loaded beside each test file, because tests
name rules of any package and replace ``input`` and ``data`` with ``with``.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from typing import ClassVar

import msgspec
import orjson

from gateway.model import Decision, Json
from gateway.policy import cases as cases_
from gateway.policy.cases import Case, Duty, Placed
from gateway.policy.coverage import Coverage
from gateway.policy.engine import UNDEFINED, explain, new_engine
from gateway.policy.module import Bundle
from gateway.policy.policy import EmbeddedPolicy, at_once


class TestResult(msgspec.Struct, frozen=True, kw_only=True):
    """One test. ``detail`` says why it failed; ``""`` when it passed."""

    __test__: ClassVar[bool] = False  # not a test case of pytest's

    name: str  # package.test_name
    file: str
    line: int
    passed: bool
    detail: str = ""
    elapsed_ns: int = 0


class TestReport(msgspec.Struct, frozen=True, kw_only=True):
    __test__: ClassVar[bool] = False

    revision: str
    results: tuple[TestResult, ...]

    @property
    def failed(self) -> tuple[TestResult, ...]:
        return tuple(result for result in self.results if not result.passed)

    @property
    def passed(self) -> bool:
        """Whether there were tests and none failed: an empty suite proves nothing."""
        return bool(self.results) and not self.failed


def run_tests(
    bundle: Bundle,
    cases: Sequence[Placed] = (),
    *,
    wanted: Callable[[str], bool] = lambda name: True,
    coverage: Coverage | None = None,
) -> TestReport:
    """Run every test of the bundle and every case whose name is wanted, in the order of files and lines."""
    results = [*_rego(bundle, wanted, coverage), *_cases(bundle, cases, wanted, coverage)]
    return TestReport(revision=bundle.revision, results=tuple(results))


def _rego(bundle: Bundle, wanted: Callable[[str], bool], coverage: Coverage | None) -> Iterator[TestResult]:
    base = new_engine(dict(bundle.data))
    for module in (*bundle.libraries.values(), *bundle.rules):
        base.add_policy(module.file, module.text)
    base.set_input_json("{}")
    for module in bundle.tests:
        engine = base.clone()
        engine.add_policy(module.file, module.text)
        engine.set_enable_coverage(coverage is not None)
        lines: dict[str, int] = {}
        for rule in module.syntax.rules:
            if rule.name.startswith("test_"):
                lines.setdefault(rule.name, rule.line)
        for name, line in lines.items():
            if not wanted(f"{module.package}.{name}"):
                continue
            started = time.perf_counter_ns()
            try:
                reply = engine.eval_rule_as_json(f"data.{module.package}.{name}")
                detail = "" if reply == "true" else "not true" if reply != UNDEFINED else "undefined"
            except RuntimeError as error:
                file, at, said = explain(error)
                detail = f"{file}:{at}: {said}"
            yield TestResult(
                name=f"{module.package}.{name}", file=module.file, line=line, passed=not detail,
                detail=detail, elapsed_ns=time.perf_counter_ns() - started,
            )  # fmt: skip
        if coverage is not None:
            coverage.take(engine)


def _cases(
    bundle: Bundle, cases: Sequence[Placed], wanted: Callable[[str], bool], coverage: Coverage | None
) -> Iterator[TestResult]:
    chosen = [placed for placed in cases if wanted(placed.name)]
    if not chosen:
        return
    policy = EmbeddedPolicy(bundle, memoise=False, coverage=coverage is not None)
    for placed in chosen:
        started = time.perf_counter_ns()
        detail = "; ".join(judged(policy, placed.case))
        yield TestResult(
            name=placed.name, file=placed.file, line=placed.line, passed=not detail, detail=detail,
            elapsed_ns=time.perf_counter_ns() - started,
        )  # fmt: skip
    if coverage is not None:
        for engine in policy.engines():
            coverage.take(engine)


def judged(policy: EmbeddedPolicy, case: Case) -> Iterator[str]:
    """What comes out otherwise than the case expects, in words."""
    wanted = cases_.expected(case)
    call, facts = cases_.call_of(case), cases_.facts_of(case)
    if wanted.visible is not None:
        seen = policy.sees(call.principal, call.tool, facts)
        if seen != wanted.visible:
            yield f"is {'visible' if seen else 'hidden'}"
        if wanted.verdict is None:
            return
    args = None
    shown: Json = None
    if case.result is not None:
        outcome = cases_.outcome_of(case.result)
        inspected = at_once(policy.result(call, facts, outcome))
        decision = inspected.decision
        content = inspected.result_json or inspected.error_json
        shown = orjson.loads(content) if content else None
    else:
        decision = at_once(policy.call(call, facts))
        if decision.verdict != "deny":
            args = policy.modify(call, decision)
    if wanted.verdict is not None and decision.verdict != wanted.verdict:
        yield f"is {decision.verdict} ({', '.join(cases_.codes(decision.findings)) or 'no code'})"
    elif wanted.codes is not None and cases_.codes(decision.findings) != tuple(sorted(set(wanted.codes))):
        yield f"codes are {', '.join(cases_.codes(decision.findings)) or 'none'}"
    if wanted.notes is not None and cases_.codes(decision.notes) != tuple(sorted(set(wanted.notes))):
        yield f"notes are {', '.join(cases_.codes(decision.notes)) or 'none'}"
    observed = tuple(finding for item in decision.observed for finding in item.findings)
    if wanted.observed is not None and cases_.codes(observed) != tuple(sorted(set(wanted.observed))):
        yield f"observed are {', '.join(cases_.codes(observed)) or 'none'}"
    if wanted.obligations is not None:
        yield from _duties(wanted.obligations, decision)
    if wanted.args is not msgspec.UNSET and (call.args if args is None else args) != wanted.args:
        yield f"would be sent as {orjson.dumps(call.args if args is None else args).decode()}"
    if wanted.shown is not msgspec.UNSET and shown != wanted.shown:
        yield f"is shown as {orjson.dumps(shown).decode()}"


def _duties(wanted: Sequence[Duty], decision: Decision) -> Iterator[str]:
    owed = [(duty.kind, msgspec.to_builtins(duty.value)) for duty in decision.obligations]
    for duty in wanted:
        if not any(kind == duty.kind and duty.value in (msgspec.UNSET, value) for kind, value in owed):
            yield f"no obligation {duty.kind}" + ("" if duty.value is msgspec.UNSET else f" {duty.value}")
    for kind in sorted({kind for kind, _ in owed} - {duty.kind for duty in wanted}):
        yield f"obligation {kind} is not expected"
