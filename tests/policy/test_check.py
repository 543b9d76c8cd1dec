"""``policy check``: every problem with its file, its line and its kind, all of a stage at once."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from gateway.policy.check import check
from gateway.policy.problem import KINDS
from gateway.policy.sarif import report
from tests.policy.helpers import rule, write


def described(name: str, body: str, **more: str) -> str:
    return rule(name, body, **more).replace("# custom:", "# description: What it is for.\n# custom:")


GOOD = described("good", 'allow contains {"code": "fine"} if input.tool.risk == "read"')
TEST = "package wardgate.tests.good\nimport rego.v1\ntest_a if data.wardgate.rules.good.allow == set()\n"


def found(folder: Path, files: dict[str, str]) -> list[tuple[str, int, str]]:
    write(folder, files)
    _, problems = check(folder, None)
    return [(Path(problem.file).name, problem.line, problem.kind) for problem in problems]


def about(body: str, **more: str) -> str:
    return rule("a", body, **more)


NAMED = "[{mode: warn, scope: {arguments: [x]}}]"
DENY = 'deny contains {"code": "stop"} if '


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({"a": about(DENY + "{")}, ("a.rego", 12, "parse-error")),
        ({"a": "package wardgate.rules.a\nimport rego.v1\n"}, ("a.rego", 1, "metadata")),
        ({"a": about(DENY + "true").replace("#   owner: t\n", "")}, ("a.rego", 1, "metadata")),
        ({"a": about(DENY + "true", codes="[policy_error]")}, ("a.rego", 1, "metadata")),
        ({"a": about(DENY + "input.call.argz.x")}, ("a.rego", 11, "unknown-input")),
        ({"a": about(DENY + 'input.tool.risk == "reed"')}, ("a.rego", 11, "input-type")),
        ({"a": about(DENY + 'input.tool.confidentiality == "3"')}, ("a.rego", 11, "input-type")),
        ({"a": about(DENY + "input.tool.confidentiality == 4")}, ("a.rego", 11, "input-type")),
        ({"a": about(DENY + 'input.tool.risk in {"read", "wild"}')}, ("a.rego", 11, "input-type")),
        ({"a": about(DENY + 'input.agent.labels == "dev"')}, ("a.rego", 11, "input-type")),
        ({"a": about(DENY + "data.limits.top > 3")}, ("a.rego", 11, "unknown-data")),
        ({"a": about(DENY + 'http.send({"url": "x"})')}, ("a.rego", 11, "forbidden-builtin")),
        ({"a": about(DENY + "crypto.md5(input.call.digest)")}, ("a.rego", 11, "unknown-builtin")),
        ({"a": about(DENY + "regex.match(`(?=x)`, input.call.target)")}, ("a.rego", 11, "regex")),
        ({"a": about(DENY + 'glob.match("a", [":"], input.call.target)')}, ("a.rego", 11, "engine-differs")),
        ({"a": about(DENY + "input.time with input.time as 1")}, ("a.rego", 11, "with")),
        ({"a": about('deny := {"code": "stop"}')}, ("a.rego", 11, "contribution")),
        ({"a": about("x := 1")}, ("a.rego", 1, "contribution")),
        ({"a": about(DENY + "true"), "b": about(DENY + "true")}, ("a.rego", 1, "duplicate")),
        ({"a": about(DENY + "true", scope="{arguments: [data.limits.names]}")}, ("a.rego", 1, "scope")),
        ({"a": about(DENY + "1 == 1", modes=NAMED)}, ("a.rego", 1, "scope")),
        ({"good": GOOD, "data.yaml": "s:\n  patterns:\n    a: '(?<=x)'\n"}, ("data.yaml", 3, "regex")),
        ({"good": GOOD, "data.yaml": "wardgate:\n  modes:\n    nobody: warn\n"}, ("data.yaml", 3, "data")),
        ({"good": GOOD, "data.yaml": "wardgate:\n  modes:\n    good: perhaps\n"}, ("data.yaml", 3, "data")),
        ({"good": GOOD, "data.yaml": "a: 1\nb: 2\na: 3\n"}, ("data.yaml", 3, "data")),
        ({"good": GOOD, "data.yaml": "a: 2026-01-01\n"}, ("data.yaml", 0, "data")),
        ({"good": GOOD, "a_cases.yaml": "T:\n  cases:\n    - expect: maybe\n"}, ("a_cases.yaml", 3, "data")),
        ({"good": GOOD, "x.rego": "\x00" * 600_000}, ("x.rego", 0, "unreadable")),
        ({"readme.md": "no rules"}, ("", 0, "no-rules")),
    ],
)  # fmt: skip
def test_each_fault_has_its_place_and_its_kind(
    tmp_path: Path, files: dict[str, str], expected: tuple[str, int, str]
) -> None:
    name, line, kind = expected
    assert kind in KINDS
    assert (name or tmp_path.name, line, kind) in found(tmp_path, files)


def test_all_faults_of_a_policy_are_listed_at_once(tmp_path: Path) -> None:
    files = {f"r{n}": rule(f"r{n}", f"{DENY}input.call.wrong{n}") for n in range(5)}
    assert [name for name, _, _ in found(tmp_path, files)] == [f"r{n}.rego" for n in range(5)]


def test_what_is_untidy_is_a_warning_and_the_policy_is_valid(tmp_path: Path) -> None:
    write(tmp_path, {"good": GOOD, "bare": rule("bare", 'allow contains {"code": "fine"}')})
    bundle, problems = check(tmp_path, None)
    assert bundle is not None and all(problem.warning for problem in problems)
    assert {(Path(p.file).name, p.kind) for p in problems} == {
        ("good.rego", "missing-test"), ("bare.rego", "missing-test"), ("bare.rego", "missing-description"),
    }  # fmt: skip


def test_a_rego_test_or_a_case_about_its_codes_is_a_test(tmp_path: Path) -> None:
    other = described("other", 'deny contains {"code": "mine"}', codes="[mine]")
    table = "T:\n  cases:\n    - expect: deny mine\n"
    files = {"good": GOOD, "good_test": TEST, "other": other, "other_cases.yaml": table}
    assert found(tmp_path, files) == []


def test_sarif_names_files_of_the_checkout_lines_rules_and_levels(tmp_path: Path) -> None:
    write(tmp_path, {"a": about(f"{DENY}input.call.argz.x")})
    _, problems = check(tmp_path, None)
    run = json.loads(json.dumps(report(problems, "1.2.3", tmp_path)))["runs"][0]
    [result] = run["results"]
    place = result["locations"][0]["physicalLocation"]
    assert (place["artifactLocation"]["uri"], place["region"]) == ("a.rego", {"startLine": 11})
    assert result["ruleId"] == run["tool"]["driver"]["rules"][result["ruleIndex"]]["id"] == "unknown-input"
    assert result["level"] == "error"


def test_a_pattern_that_would_be_catastrophic_elsewhere_is_decided_at_once(tmp_path: Path) -> None:
    """RE2 has no exponential expressions, so this one is neither refused nor slow."""
    import time

    from gateway.model import Facts
    from gateway.policy import load
    from gateway.policy.policy import at_once
    from tests.policy.helpers import call

    write(tmp_path, {"a": about(f"{DENY}regex.match(`^(a+)+$`, input.call.args.text)")})
    started = time.monotonic()
    decision = at_once(load(tmp_path).call(call({"text": "a" * 50_000 + "b"}), Facts()))
    assert decision.code == "no_rule_allows"
    assert time.monotonic() - started < 2


def test_a_hundred_thousand_values_of_data_are_checked_in_seconds(tmp_path: Path) -> None:
    import time

    huge = json.dumps({"limits": {f"k{n}": n for n in range(100_000)}})
    started = time.monotonic()
    assert [kind for _, _, kind in found(tmp_path, {"good": GOOD, "data.json": huge})] == ["missing-test"]
    assert time.monotonic() - started < 10
