"""Case tables: what they say is what the gateway would decide, and what is wrong in them has a line."""

from __future__ import annotations

import json
from pathlib import Path

import jsonschema_rs
import pytest

from gateway.policy import cases, load, run_tests
from gateway.policy.coverage import Coverage, percent
from gateway.policy.junit import report as junit
from gateway.policy.problem import InvalidPolicy
from gateway.policy.testing import TestReport
from tests.policy.helpers import rule, write

PAY = rule(
    "pay",
    """
allow contains {"code": "fine"} if input.call.args.n <= data.limits.top

escalate contains {"code": "ask"} if input.call.args.n > data.limits.top

deny contains {"code": "stop", "message": "late"} if {
	input.session.calls > 9
	input.time < 1800000000000000000
}

obligation contains {"kind": "cap", "value": {"pointer": "/n", "max": 7}} if input.call.args.capped
""",
    scope="{effects: [money]}",
)
FILES = {
    "pay": PAY,
    "seen": rule("seen", 'deny contains {"code": "stop"} if not "dev" in input.agent.labels', phase="list"),
    "out": rule("out", 'deny contains {"code": "stop"} if contains(input.result.text, "no")', phase="result"),
    "wish": rule("wish", 'deny contains {"code": "stop"} if input.call.args.n > 3', mode="observe"),
    "data.yaml": "limits: {top: 5}\n",
}
TABLE = """\
Payments:
  given:
    tool: {target: bank/pay, effects: [money]}
  columns: [args.n, expect]
  rows:
    - [5, allow fine]
    - [6, escalate ask]
  cases:
    - it: stops after many
      facts: {session: {calls: 10}}
      time: "2026-01-01T00:00:00Z"
      expect: deny stop
    - it: lets them pass later
      args: {n: 1}
      facts: {session: {calls: 10}}
      time: "2029-01-01T00:00:00Z"
      expect: allow
    - it: is capped
      args: {n: 5, capped: true}
      expect: {verdict: allow, obligations: [{kind: cap}], args: {n: 5, capped: true}, observed: [stop]}
    - it: is shown to developers
      agent: {labels: [dev]}
      expect: visible
    - it: is hidden from others
      expect: hidden
    - it: keeps a no to itself
      result: {text: "no"}
      expect: deny stop
    - it: is another tool
      tool: {target: git/log, effects: []}
      args: {n: 99}
      expect: deny no_rule_allows
"""


def ran(folder: Path, files: dict[str, str]) -> TestReport:
    write(folder, files)
    return run_tests(load(folder).bundle, cases.read(folder, str(folder)))


def mine(report: TestReport) -> list[tuple[str, int, bool, str]]:
    return [(r.name, r.line, r.passed, r.detail) for r in report.results if r.file.endswith("_cases.yaml")]


def test_a_table_that_says_what_the_policy_does_passes(tmp_path: Path) -> None:
    found = mine(ran(tmp_path, {**FILES, "pay_cases.yaml": TABLE}))
    assert len(found) == 9
    assert [each for each in found if not each[2]] == []
    assert ("Payments: n 5", 6, True, "") in found
    assert ("Payments: stops after many", 9, True, "") in found


@pytest.mark.parametrize(
    ("case", "said"),
    [
        ("{args: {n: 9}, expect: allow}", "is escalate (ask)"),
        ("{args: {n: 9}, expect: escalate fine}", "codes are ask"),
        ("{args: {n: 9}, expect: escalate ask stop}", "codes are ask"),
        ("{args: {n: 5}, expect: {observed: []}}", "observed are stop"),
        ("{args: {n: 5}, expect: {notes: [stop]}}", "notes are none"),
        ("{args: {n: 5}, expect: {obligations: [{kind: cap}]}}", "no obligation cap"),
        ("{args: {n: 5, capped: true}, expect: {obligations: []}}", "obligation cap is not expected"),
        ("{args: {n: 5}, expect: {args: {n: 4}}}", 'would be sent as {"n":5}'),
        ("{expect: visible}", "is hidden"),
        ("{agent: {labels: [dev]}, expect: hidden}", "is visible"),
        ("{result: {text: hi}, expect: deny}", "is allow (no code)"),
        ("{result: {value: 1}, expect: {shown: 2}}", "is shown as 1"),
    ],
)  # fmt: skip
def test_a_case_that_says_something_else_fails_and_says_what_is(tmp_path: Path, case: str, said: str) -> None:
    table = f"T:\n  given: {{tool: {{target: bank/pay, effects: [money]}}}}\n  cases:\n    - {case}\n"
    [(_, line, passed, detail)] = mine(ran(tmp_path, {**FILES, "a_cases.yaml": table}))
    assert (line, passed) == (4, False)
    assert said in detail


@pytest.mark.parametrize(
    ("table", "line", "said"),
    [
        ("T:\n  cases:\n    - expect: perhaps\n", 3, "'perhaps' is none of"),
        ("T:\n  cases:\n    - {args: {}}\n", 3, "says nothing that is expected"),
        ("T:\n  cases:\n    - {agnet: x, expect: allow}\n", 1, "unknown field `agnet`"),
        ("T:\n  cases:\n    - {tool: pay, expect: allow}\n", 3, "must be 'upstream/name'"),
        ("T:\n  cases:\n    - {tool: {risk: mild}, expect: allow}\n", 1, "mild"),
        ("T:\n  cases:\n    - {time: noon, expect: allow}\n", 3, "time"),
        ("T:\n  columns: [a, expect]\n  rows:\n    - [1, allow]\n    - [1]\n", 5, "1 values for 2 columns"),
        ("T:\n  columns: [agent.name, expect]\n  rows:\n    - [x, allow]\n", 4, "unknown field `name`"),
        ("T: {}\n", 1, "has no cases"),
        ("T: [1]\n", 1, "must be a table"),
        ("T:\n  cases: []\nT:\n  cases: []\n", 1, "given twice"),
        ("T: [\n", 1, "not valid YAML"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_table_has_a_file_and_a_line(
    tmp_path: Path, table: str, line: int, said: str
) -> None:
    write(tmp_path, {**FILES, "a_cases.yaml": table})
    with pytest.raises(InvalidPolicy) as caught:
        cases.read(tmp_path, "here")
    problems = caught.value.problems
    assert said in str(problems[0])
    assert (problems[0].file, problems[0].line) == ("here/a_cases.yaml", line)


def test_the_schema_for_editors_takes_what_the_reader_takes(tmp_path: Path) -> None:
    import yaml

    validator = jsonschema_rs.validator_for(json.loads(json.dumps(cases.schema())))
    good = yaml.safe_load(TABLE)
    assert validator.is_valid(good)
    assert not validator.is_valid({"T": {"cases": [{"agnet": 1}]}})


def test_coverage_counts_the_lines_tests_and_cases_reach(tmp_path: Path) -> None:
    body = (
        'allow contains {"code": "fine"} if input.call.args.n == 1\n\n'
        'deny contains {"code": "stop"} if {\n\tinput.call.args.n == 2\n\tinput.call.args.m == 3\n}'
    )
    table = "T:\n  cases:\n    - {args: {n: 1}, expect: allow fine}\n"
    write(tmp_path, {"a": rule("a", body), "a_cases.yaml": table})
    seen = Coverage()
    bundle = load(tmp_path).bundle
    run_tests(bundle, cases.read(tmp_path, "x"), coverage=seen)
    [file] = [each for each in seen.files(bundle) if each.file.endswith("a.rego")]
    assert file.missed == (13, 15)  # 'm == 3' is never asked about, so nothing is contributed
    assert 0 < percent([file]) < 100


def test_a_rule_no_test_ever_loads_is_not_covered(tmp_path: Path) -> None:
    elsewhere = rule("b", 'deny contains {"code": "stop"}', scope="{tools: [elsewhere/x]}")
    table = "T:\n  cases:\n    - {args: {n: 1}, expect: allow fine}\n"
    write(
        tmp_path, {"a": rule("a", 'allow contains {"code": "fine"}'), "b": elsewhere, "a_cases.yaml": table}
    )
    seen = Coverage()
    bundle = load(tmp_path).bundle
    run_tests(bundle, cases.read(tmp_path, "x"), coverage=seen)
    [file] = [each for each in seen.files(bundle) if each.file.endswith("b.rego")]
    assert file.covered == () and file.missed


def test_junit_is_xml_whatever_a_test_is_called(tmp_path: Path) -> None:
    from xml.dom.minidom import parseString

    table = 'T:\n  cases:\n    - {it: "a<b>&\\"\\u0007", args: {n: 1}, expect: allow}\n'
    report = ran(tmp_path, {**FILES, "a_cases.yaml": table})
    parsed = parseString(junit(report))
    [failure] = parsed.getElementsByTagName("failure")
    assert failure.parentNode.getAttribute("name") == 'T: a<b>&"�'
    assert parsed.documentElement.getAttribute("failures") == "1"
