"""Which lines of the rules were evaluated by tests and cases."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec
import orjson

from gateway.policy.module import Bundle


class FileCoverage(msgspec.Struct, frozen=True, kw_only=True):
    file: str
    covered: tuple[int, ...]
    missed: tuple[int, ...]


class Coverage:
    """Adds up what engines saw. Lines that only hold a head or a brace are no lines of it."""

    def __init__(self) -> None:
        self._covered: dict[str, set[int]] = {}
        self._lines: dict[str, set[int]] = {}

    def take(self, engine: Any) -> None:
        """What an engine with coverage on has evaluated since it was made."""
        for file in orjson.loads(engine.get_coverage_report_as_json())["files"]:
            covered = self._covered.setdefault(file["path"], set())
            covered.update(file["covered"])
            self._lines.setdefault(file["path"], set()).update(file["covered"], file["not_covered"])

    def files(self, bundle: Bundle) -> tuple[FileCoverage, ...]:
        """Of each module that decides; one that no engine ever held is missed whole."""
        found = []
        for module in (*bundle.rules, *bundle.libraries.values()):
            lines = self._lines.get(module.file)
            if lines is None:
                lines = {rule.line for rule in module.syntax.rules}
            covered = self._covered.get(module.file, set())
            found.append(
                FileCoverage(
                    file=module.file, covered=tuple(sorted(covered)), missed=tuple(sorted(lines - covered))
                )
            )
        return tuple(found)


def percent(files: Iterable[FileCoverage]) -> float:
    """Share of covered lines, rounded down so that 100 means all."""
    covered = lines = 0
    for file in files:
        covered += len(file.covered)
        lines += len(file.covered) + len(file.missed)
    return 100.0 if not lines else int(1000 * covered / lines) / 10
