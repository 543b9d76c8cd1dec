"""OPA's conformance cases: what the gate lets through is answered as OPA answers, or is an error: a deny."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from gateway.policy.engine import builtins
from tests.policy.opa_cases import FOLDER, Case, cases, judge
from tests.requires import requires_folder

pytestmark = requires_folder("OPA_CASES")

NO_JSON = frozenset({"aggregates/member check set with with both key and value", "inputvalues/input set"})
"""Cases whose input is a set, which JSON cannot hold and no input of ours is."""

SUPPORTED = (
    "aggregates", "arithmetic", "array", "assignments", "bitsand", "comparisonexpr", "completedoc",
    "comprehensions", "containskeyword", "dataderef", "defaultkeyword", "disjunction", "elsekeyword",
    "eqexpr", "every", "functions", "globmatch", "indexing", "intersection", "jsonfilter", "jsonremove",
    "negation", "nestedreferences", "netcidrcontains", "objectfilter", "objectget", "objectkeys",
    "objectremove", "objectunion", "partialobjectdoc", "partialsetdoc", "regexfind", "regexmatch",
    "regexsplit", "semvercompare", "sets", "strings", "subset", "time", "trim", "trimleft", "trimprefix",
    "trimright", "trimspace", "trimsuffix", "typebuiltin", "typenamebuiltin", "undos", "union",
    "varreferences", "virtualdocs", "walkbuiltin",
)  # fmt: skip
"""Groups for what policies are written with: a good part of each must be answered, not merely refused."""


@pytest.fixture(scope="module")
def judged() -> list[tuple[Case, str, str]]:
    known = builtins()
    return [(case, *judge(case, known)) for case in cases(Path(FOLDER)) if case.note not in NO_JSON]


def test_nothing_the_gate_lets_through_is_answered_wrongly(judged: list[tuple[Case, str, str]]) -> None:
    assert [(case.note, why) for case, outcome, why in judged if outcome == "wrong"] == []


def test_what_policies_are_written_with_is_answered(judged: list[tuple[Case, str, str]]) -> None:
    groups: dict[str, Counter[str]] = {}
    for case, outcome, _ in judged:
        groups.setdefault(case.group, Counter())[outcome] += 1
    weak = {
        name: dict(groups[name]) for name in SUPPORTED if 4 * groups[name]["right"] < groups[name].total()
    }
    assert weak == {}
    assert sum(count["right"] for count in groups.values()) > 1200
