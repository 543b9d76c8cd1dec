"""What the suite found, held against what was expected of it.

A leg is right when everything it scores passes, except what ``expected.yaml`` says will fail, and when
everything that file says will fail does. An expectation that has become wrong is as much an error as a
failure: it would hide the next one.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal

import msgspec
import yaml

Status = Literal["SUCCESS", "FAILURE", "WARNING", "SKIPPED", "INFO"]

_FOLDER = re.compile(r"^(?:server-|client-)?(?P<scenario>.+?)-\d{4}-\d\d-\d\dT[\d-]+Z$")
_MESSAGE = 500  # characters of a failure that are kept

MAY = "may fail: "
"""How the reason begins of a check that depends on the speed of the machine; it is not asked to fail."""


class BadExpectations(Exception):
    """``expected.yaml`` is not what it should be; the message says how."""


class BadResults(Exception):
    """The suite wrote something that is no result; the message says where."""


class Check(msgspec.Struct, frozen=True):
    id: str
    status: Status
    message: str = ""


class Scenario(msgspec.Struct, frozen=True):
    name: str
    scored: bool
    checks: list[Check]

    def of(self, status: Status) -> list[Check]:
        return [check for check in self.checks if check.status == status]

    @property
    def failed(self) -> bool:
        return bool(self.of("FAILURE"))


class Finding(msgspec.Struct, frozen=True):
    """A check that failed, or that warned."""

    scenario: str
    check: str
    message: str
    scored: bool
    expected: str | None = None
    """Why it was known to fail; ``None`` for a failure nobody expected."""


class Leg(msgspec.Struct, frozen=True):
    """One run of the suite, judged."""

    name: str
    seconds: float
    scored: dict[str, int]  # ok and total, in scenarios
    unscored: dict[str, int]  # the same of what the suite runs and does not count
    checks: dict[str, int]  # of scored scenarios, by status
    failures: list[Finding]
    warnings: list[Finding]
    stale: list[str]  # expected to fail, and did not
    not_run: list[str]  # scored, and missing from what the suite wrote

    @property
    def unexpected(self) -> list[Finding]:
        return [failure for failure in self.failures if failure.scored and failure.expected is None]

    @property
    def right(self) -> bool:
        return not (self.unexpected or self.stale or self.not_run)


# ---------------------------------------------------------------------------------------------- reading


class _Said(msgspec.Struct, rename="camel"):
    """A check as the suite writes it."""

    id: str
    status: Status
    error_message: str | None = None


def read(folder: Path, scored: Iterable[str] | None) -> list[Scenario]:
    """The scenarios whose results are in ``folder``; ``scored=None`` counts all of them.

    The suite names a folder after the side, the scenario and the time; the latest of a scenario counts.
    """
    counted = None if scored is None else set(scored)
    found: dict[str, Scenario] = {}
    for path in sorted(folder.rglob("checks.json"), key=lambda path: path.parent.name[-24:]):
        match = _FOLDER.match(str(path.parent.relative_to(folder)))
        if match is None:
            raise BadResults(f"{path}: not a folder the suite makes")
        try:
            said = msgspec.json.decode(path.read_bytes(), type=list[_Said])
        except msgspec.MsgspecError as error:
            raise BadResults(f"{path}: {error}") from error
        checks = [Check(each.id, each.status, (each.error_message or "")[:_MESSAGE]) for each in said]
        if not {"SUCCESS", "FAILURE", "WARNING"} & {check.status for check in checks}:
            # The suite passes a scenario that skipped everything; it shows nothing.
            checks.append(Check("nothing-checked", "FAILURE", "every check was skipped"))
        name = match["scenario"]
        found[name] = Scenario(name, counted is None or name in counted, checks)
    return list(found.values())


class Requirements(msgspec.Struct, frozen=True):
    """What a revision of the protocol requires of one side, as the suite froze it."""

    scored: list[str]
    unscored: list[str]  # run and reported, and not counted by the suite


def requirements(path: Path, side: str) -> Requirements:
    said = yaml.safe_load(path.read_text())
    more = [str(each["scenario"]) for each in said.get("not_scored") or () if each["leg"] == side]
    return Requirements([str(name) for name in said[side]], more)


def expectations(path: Path, legs: Iterable[str]) -> dict[str, dict[str, str]]:
    """By leg: ``scenario`` or ``scenario:check-id``, and why it fails."""
    said: Any = yaml.safe_load(path.read_text()) or {}
    if isinstance(said, dict):
        said = {str(leg): entries for leg, entries in said.items()}  # YAML reads a revision as a date
    if not isinstance(said, dict) or not set(said) <= set(legs):
        raise BadExpectations(f"{path.name}: must map legs ({', '.join(legs)}) to what fails in them")
    expected: dict[str, dict[str, str]] = {}
    for leg, entries in said.items():
        expected[leg] = entries = {} if entries is None else entries
        if not isinstance(entries, dict):
            raise BadExpectations(f"{path.name}: {leg}: must map what fails to the reason")
        for entry, reason in entries.items():
            if not isinstance(entry, str) or not isinstance(reason, str) or not reason.strip():
                raise BadExpectations(f"{path.name}: {leg}: {entry!r} must be given a reason")
            scenario, per_check, _ = entry.partition(":")
            if per_check and scenario in entries:
                raise BadExpectations(f"{path.name}: {leg}: {entry!r} is covered by {scenario!r} already")
    return expected


# ---------------------------------------------------------------------------------------------- judging


def judge(
    name: str,
    scenarios: Iterable[Scenario],
    expected: Mapping[str, str],
    *,
    required: Iterable[str] = (),
    seconds: float = 0,
    partial: bool = False,
) -> Leg:
    """Hold a leg against what was expected. A ``partial`` run is not asked about what it left out."""
    scenarios = list(scenarios)

    def findings(status: Status) -> list[Finding]:
        return [
            Finding(scenario.name, check.id, check.message, scenario.scored, why(scenario.name, check.id))
            for scenario in scenarios
            for check in scenario.of(status)
        ]

    def why(scenario: str, check: str) -> str | None:
        return expected.get(scenario) or expected.get(f"{scenario}:{check}")

    failures = findings("FAILURE")
    ran = {scenario.name for scenario in scenarios}
    seen = {f"{failure.scenario}:{failure.check}" for failure in failures}
    seen |= {failure.scenario for failure in failures}
    asked = {
        entry
        for entry, reason in expected.items()
        if not reason.startswith(MAY) and (not partial or entry.partition(":")[0] in ran)
    }
    checks = [check.status for scenario in scenarios if scenario.scored for check in scenario.checks]
    return Leg(
        name=name,
        seconds=round(seconds, 1),
        scored=_count(scenario for scenario in scenarios if scenario.scored),
        unscored=_count(scenario for scenario in scenarios if not scenario.scored),
        checks={
            "passed": checks.count("SUCCESS"),
            "failed": checks.count("FAILURE"),
            "warnings": checks.count("WARNING"),
            "skipped": checks.count("SKIPPED"),
        },
        failures=failures,
        warnings=findings("WARNING"),
        stale=sorted(asked - seen),
        not_run=[] if partial else sorted(set(required) - ran),
    )


def _count(scenarios: Iterable[Scenario]) -> dict[str, int]:
    found = list(scenarios)
    return {"ok": sum(not scenario.failed for scenario in found), "total": len(found)}
