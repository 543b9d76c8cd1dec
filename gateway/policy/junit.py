"""Test results as JUnit XML, which build servers read."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from xml.sax.saxutils import quoteattr

from gateway.policy.testing import TestReport, TestResult


def report(tests: TestReport) -> str:
    """One suite a file."""
    lines = ['<?xml version="1.0" encoding="UTF-8"?>', f"<testsuites {_counts(list(tests.results))}>"]
    for file, group in groupby(tests.results, key=lambda result: result.file):
        results = list(group)
        lines.append(f"  <testsuite name={_quoted(file)} {_counts(results)}>")
        for result in results:
            head = (
                f"    <testcase name={_quoted(result.name)} classname={_quoted(file)} file={_quoted(file)} "
                f'line="{result.line}" time="{result.elapsed_ns / 1e9:.6f}"'
            )
            if result.passed:
                lines.append(f"{head}/>")
            else:
                lines.append(f"{head}><failure message={_quoted(result.detail)}/></testcase>")
        lines.append("  </testsuite>")
    return "\n".join([*lines, "</testsuites>", ""])


def _counts(results: Sequence[TestResult]) -> str:
    failed = sum(not result.passed for result in results)
    elapsed = sum(result.elapsed_ns for result in results) / 1e9
    return f'tests="{len(results)}" failures="{failed}" time="{elapsed:.6f}"'


def _quoted(text: str) -> str:
    """As an attribute, without the control characters XML 1.0 does not have."""
    return quoteattr("".join(char if char >= " " or char in "\t\n" else "�" for char in text))
