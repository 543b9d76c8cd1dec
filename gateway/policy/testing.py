"""Running ``test_*`` rules of ``*_test.rego`` files, as ``opa test`` does.

A test passes when its rule is true. All modules and all data are loaded beside each test file, because tests
name rules of any package and replace ``input`` and ``data`` with ``with``.
"""

from __future__ import annotations

import time
from typing import ClassVar

import msgspec

from gateway.policy.engine import explain, new_engine
from gateway.policy.module import Bundle


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


def run_tests(bundle: Bundle) -> TestReport:
    """Run every test of the bundle, in the order of files and lines."""
    base = new_engine(dict(bundle.data))
    for module in (*bundle.libraries.values(), *bundle.rules):
        base.add_policy(module.file, module.text)
    base.set_input_json("{}")
    results = []
    for module in bundle.tests:
        engine = base.clone()
        engine.add_policy(module.file, module.text)
        lines: dict[str, int] = {}
        for rule in module.syntax.rules:
            if rule.name.startswith("test_"):
                lines.setdefault(rule.name, rule.line)
        for name, line in lines.items():
            started = time.perf_counter_ns()
            try:
                reply = engine.eval_rule_as_json(f"data.{module.package}.{name}")
                detail = "" if reply == "true" else "not true" if reply != '"<undefined>"' else "undefined"
            except RuntimeError as error:
                file, at, said = explain(error)
                detail = f"{file}:{at}: {said}"
            results.append(
                TestResult(
                    name=f"{module.package}.{name}", file=module.file, line=line, passed=not detail,
                    detail=detail, elapsed_ns=time.perf_counter_ns() - started,
                )
            )  # fmt: skip
    return TestReport(revision=bundle.revision, results=tuple(results))
