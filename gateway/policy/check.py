"""Everything that is wrong with a policy folder, as a list: what would refuse it, and what is untidy."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from gateway.errors import ConfigError
from gateway.policy import cases, data
from gateway.policy.bundle import read_bundle
from gateway.policy.cases import Placed
from gateway.policy.module import Bundle
from gateway.policy.problem import InvalidPolicy, Problem

_PLACE: Final = re.compile(r"(?P<file>[^:\s][^:]*):(?:(?P<line>\d+):)? (?P<said>.+)", re.DOTALL)


def check(path: Path | None, pack: str | None) -> tuple[Bundle | None, list[Problem]]:
    """The policy if it can be loaded, and every problem, errors first."""
    bundle: Bundle | None = None
    problems: list[Problem] = []
    try:
        bundle = read_bundle(path, pack)
    except InvalidPolicy as invalid:
        problems += invalid.problems
    except ConfigError as error:
        problems.append(_of(error, path, pack))
    tables: Sequence[Placed] = ()
    try:
        tables = cases.folder_cases(path, pack)
    except InvalidPolicy as invalid:
        problems += invalid.problems
    problems = [_placed(problem, path) for problem in problems]
    if bundle is not None:
        problems += _untidy(bundle, path, tables)
    problems.sort(key=lambda problem: (problem.warning, problem.file, problem.line))
    return bundle, problems


def _of(error: ConfigError, path: Path | None, pack: str | None) -> Problem:
    """A refusal that is about the folder as a whole, or about one file of it."""
    said = str(error)
    found = _PLACE.match(said)
    if "no rule module" in said:
        return Problem(str(path or pack), 0, "no-rules", said.partition(": ")[2] or said)
    if found is not None and Path(found["file"]).suffix in (".rego", ".yaml", ".yml", ".json"):
        kind = "data" if Path(found["file"]).name in data.NAMES else "unreadable"
        line = int(found["line"] or data.line_said(found["said"]))
        return Problem(found["file"], line, kind, found["said"])
    return Problem(str(path or pack), 0, "unreadable", said)


def _placed(problem: Problem, root: Path | None) -> Problem:
    """A problem with a value of the data, at the file and line that gives it."""
    if not problem.file.startswith("data.") or root is None:
        return problem
    for path in sorted(root.rglob("data.*")):
        if path.name not in data.NAMES:
            continue
        wanted = _parts(problem.file)
        mounted = list(path.relative_to(root).parent.parts)
        if wanted[: len(mounted)] == mounted:
            line = _line(path, wanted[len(mounted) :])
            if line:
                return Problem(str(path), line, problem.kind, f"{problem.file}: {problem.message}")
    return problem


def _parts(written: str) -> list[str]:
    return [part for part in re.split(r"[.\[\]]", written)[1:] if part]


def _line(path: Path, wanted: Sequence[str]) -> int:
    """The line of a value, 0 when the file does not give it."""
    try:
        return data.line_of(path.read_bytes(), wanted)
    except OSError:
        return 0


def _untidy(bundle: Bundle, path: Path | None, tables: Sequence[Placed]) -> Iterator[Problem]:
    """What a policy should have and works without; only of the folder that is checked."""
    named = {read.path for test in bundle.tests for read in test.syntax.reads if read.root == "data"}
    expected: set[str] = set()
    for placed in tables:
        wanted = cases.expected(placed.case)
        expected |= {*(wanted.codes or ()), *(wanted.notes or ()), *(wanted.observed or ())}
    for rule in bundle.rules:
        if path is not None and not rule.file.startswith(f"{path}/"):
            continue
        if rule.meta is not None and not rule.meta.description:
            yield Problem(rule.file, 1, "missing-description", f"the rule '{rule.id}' has no description")
        package = tuple(rule.package.split("."))
        tested = any(at[: len(package)] == package for at in named)
        if not tested and expected.isdisjoint(rule.custom.codes):
            yield Problem(rule.file, 1, "missing-test", f"no test and no case is about the rule '{rule.id}'")
