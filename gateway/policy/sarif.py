"""Problems as SARIF 2.1.0, which code hosts show beside the lines of a pull request."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from gateway.policy.problem import KINDS, WARNINGS, Problem

_SCHEMA: Final = "https://json.schemastore.org/sarif-2.1.0.json"


def report(problems: Sequence[Problem], version: str, root: Path) -> dict[str, Any]:
    """One run; files below ``root`` are named relative to it, as a checkout does."""
    used = sorted({problem.kind for problem in problems})
    return {
        "$schema": _SCHEMA,
        "version": "2.1.0",
        "runs": [
            {
                "tool": {
                    "driver": {
                        "name": "wardgate policy check",
                        "version": version,
                        "rules": [
                            {
                                "id": kind,
                                "shortDescription": {"text": KINDS[kind].title},
                                "help": {"text": KINDS[kind].remedy},
                                "defaultConfiguration": {"level": _level(kind)},
                            }
                            for kind in used
                        ],
                    }
                },
                "results": [_result(problem, used.index(problem.kind), root) for problem in problems],
            }
        ],
    }


def _result(problem: Problem, rule: int, root: Path) -> dict[str, Any]:
    place: dict[str, Any] = {"artifactLocation": {"uri": _uri(problem.file, root)}}
    if problem.line:
        place["region"] = {"startLine": problem.line}
    return {
        "ruleId": problem.kind,
        "ruleIndex": rule,
        "level": _level(problem.kind),
        "message": {"text": f"{problem.message}. {KINDS[problem.kind].remedy}"},
        "locations": [{"physicalLocation": place}],
    }


def _level(kind: str) -> str:
    return "warning" if kind in WARNINGS else "error"


def _uri(file: str, root: Path) -> str:
    path = Path(file)
    if path.is_absolute() and path.is_relative_to(root):
        path = path.relative_to(root)
    return path.as_posix()
