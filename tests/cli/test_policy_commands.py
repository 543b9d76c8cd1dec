"""``wardgate policy …`` as authors and build servers run it: files, exit codes, words."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest
import yaml
from typer.testing import CliRunner

from gateway.cli.app import app
from gateway.cli.output import Failure
from tests.policy.helpers import rule, write


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # where there is no wardgate.yaml
    monkeypatch.setenv("COLUMNS", "240")


def run(*words: str, code: int = 0, given: str | None = None) -> str:
    done = CliRunner().invoke(app, ["policy", *words], input=given)
    if isinstance(done.exception, Failure):
        assert done.exception.code == code, done.exception.sentence
        return done.exception.sentence
    assert done.exit_code == code, (done.output, done.exception)
    return done.stdout


def test_what_init_writes_checks_tests_and_covers_itself() -> None:
    run("init", "mine", "--owner", "payments-team")
    assert "0 warning(s)" in run("check", "mine", "--strict")
    assert "0 failed, 100 % of lines covered" in run("test", "mine", "--min-coverage", "100")
    [listed] = json.loads(run("inspect", "mine", "--json"))["rules"]
    assert (listed["id"], listed["owner"]) == ("payments.limit", "payments-team")


def test_the_workflow_init_writes_names_commands_and_options_that_exist() -> None:
    run("init", "mine")
    workflow = yaml.safe_load(Path("mine/.github/workflows/policy.yaml").read_text())
    steps = [step["run"] for job in workflow["jobs"].values() for step in job["steps"] if "run" in step]
    ours = [step.split(">")[0].split() for step in steps if step.startswith("wardgate ")]
    assert [words[2] for words in ours] == ["check", "test", "replay"]
    for words in ours:
        known = run(words[2], "--help")
        assert all(word in known for word in words if word.startswith("--"))
        assert "mine/" in words


def test_the_schemas_init_writes_fit_what_it_writes() -> None:
    run("init", "mine")
    validator = jsonschema_rs.validator_for(json.loads(Path("mine/.schemas/policy-cases.json").read_text()))
    assert validator.is_valid(yaml.safe_load(Path("mine/payments_cases.yaml").read_text()))


def test_init_replaces_nothing_unasked() -> None:
    run("init", "mine")
    Path("mine/data.yaml").write_text("limits: {payments: {unattended_micro_usd: 1}}\n")
    assert "exists already" in run("init", "mine", code=2)
    assert "unattended_micro_usd: 1}" in Path("mine/data.yaml").read_text()
    run("init", "mine", "--force")
    assert "50000000" in Path("mine/data.yaml").read_text()


def test_check_says_file_line_kind_and_remedy_in_each_format() -> None:
    write(Path("p"), {"a": rule("a", 'deny contains {"code": "stop"} if input.call.argz.x')})
    text = run("check", "p", code=2)
    assert "error: p/a.rego:11: 'input.call.argz.x' is not in the input" in text
    assert "[unknown-input]" in text and "docs/reference/policy.md" in text
    found = json.loads(run("check", "p", "--json", code=2))
    assert not found["valid"] and found["problems"][0]["line"] == 11 and found["problems"][0]["remedy"]
    sarif = json.loads(run("check", "p", "--format", "sarif", code=2))
    assert sarif["runs"][0]["results"][0]["locations"][0]["physicalLocation"]["region"] == {"startLine": 11}


def test_warnings_count_only_when_asked() -> None:
    write(Path("p"), {"a": rule("a", 'allow contains {"code": "fine"}')})
    assert "2 warning(s)" in run("check", "p")
    run("check", "p", "--strict", code=1)


def test_a_failing_case_no_tests_and_thin_coverage_each_exit_with_1() -> None:
    never = 'deny contains {"code": "stop"} if {\n\tinput.call.args.m\n\tinput.call.args.k\n}'
    body = f'allow contains {{"code": "fine"}} if input.call.args.n == 1\n\n{never}'
    table = "T:\n  cases:\n    - {it: passes, args: {n: 1}, expect: allow fine}\n"
    write(Path("p"), {"a": rule("a", body), "a_cases.yaml": table})
    assert "not covered" not in run("test", "p")
    assert "1 passed, 0 failed" in run("test", "p", "--run", "*passes")
    run("test", "p", "--run", "nothing is called so", code=1)
    run("test", "p", "--min-coverage", "99", code=1)
    Path("p/a_cases.yaml").write_text(table.replace("allow fine", "deny"))
    assert "✗ T: passes (p/a_cases.yaml:3): is allow (fine)" in run("test", "p", "--junit", "out.xml", code=1)
    assert 'failures="1"' in Path("out.xml").read_text()
    found = json.loads(run("test", "p", "--coverage", "--json", code=1))
    assert found["coverage"]["files"][0]["missed"]


def test_eval_decides_from_options_from_a_case_and_from_a_policy_input() -> None:
    run("init", "mine")
    options = ("--tool", "bank/pay", "--effect", "money", "--args", '{"amount_micro_usd": 50000001}')
    assert run("eval", "mine", *options).startswith("escalate (payment_over_limit)")
    found = json.loads(run("eval", "mine", *options, "--json", "--explain"))
    assert found["visible"] and found["explanation"]["fired"][0]["rule"] == "payments.limit"
    case = "tool: {target: bank/pay, effects: [money]}\nargs: {amount_micro_usd: 1}\n"
    assert run("eval", "mine", "--input", "-", given=case).startswith("allow")
    asked = {
        "call": {"args": {"amount_micro_usd": "x"}},
        "tool": {"target": "bank/pay", "effects": ["money"]},
        "agent": {"id": "a"},
        "time": 1,
    }
    assert run("eval", "mine", "-i", "-", given=json.dumps(asked)).startswith("deny (payment_amount_unclear)")


@pytest.mark.parametrize(
    ("words", "given", "said", "code"),
    [
        (("--args", "[1]"), None, "--args must be a JSON object", 2),
        (("--args", "{"), None, "--args is not JSON", 2),
        (("--input", "nowhere.yaml"), None, "cannot be read", 3),
        (("--input", "-"), "tool: {target: nope}", "must be 'upstream/name'", 2),
        (("--input", "-"), "agnet: {}", "unknown field `agnet`", 2),
        (("--input", "-"), '{"a": 1, "a": 2}', "cannot be read", 2),
        (("--risk", "mild"), None, "mild", 2),
    ],
)
def test_eval_says_what_is_wrong_with_its_input(
    words: tuple[str, ...], given: str | None, said: str, code: int
) -> None:
    run("init", "mine")
    assert said in run("eval", "mine", *words, given=given, code=code)


def test_bench_saves_compares_and_says_what_became_slower() -> None:
    run("init", "mine")
    run("bench", "mine", "--rounds", "20", "--save", "before.json")
    saved = json.loads(Path("before.json").read_text())
    assert len(saved["cases"]) == 6 and all(0 < each["p50_us"] <= each["p99_us"] for each in saved["cases"])
    run("bench", "mine", "--rounds", "20", "--compare", "before.json", "--threshold", "1000")
    for each in saved["cases"]:
        each["p50_us"] /= 1000
    Path("before.json").write_text(json.dumps(saved))
    found = json.loads(run("bench", "mine", "--rounds", "20", "--compare", "before.json", "--json", code=1))
    assert len(found["slower"]) == 6
    run("bench", "mine", "--compare", "nowhere.json", code=3)
    Path("odd.json").write_text("[]")
    run("bench", "mine", "--compare", "odd.json", code=2)


def test_diff_without_a_journal_lists_modules_modes_codes_and_data() -> None:
    deny = 'deny contains {"code": "stop"}'
    first = {"a": rule("a", deny), "b": rule("b", deny), "data.yaml": "limits: {top: 5, gone: 1}\n"}
    changed = rule("a", deny, mode="warn", codes="[stop, more]")
    second = {"a": changed, "c": rule("c", deny), "data.yaml": "limits: {top: 6}\n"}
    write(Path("old"), first)
    write(Path("new"), second)
    found: Any = json.loads(run("diff", "old", "new", "--no-calls", "--json"))
    said = {(each["change"], each["name"]): each["detail"] for each in found["policy"]}
    assert said["changed", "a"].startswith("mode enforce → warn")
    assert "+more" in said["changed", "a"] and "-ask" in said["changed", "a"]
    assert said["changed", "data.limits.top"] == "5 → 6"
    assert {("removed", "b"), ("added", "c"), ("removed", "data.limits.gone")} <= set(said)
    assert "wardgate.yaml" in run("diff", "old", "new", code=2)


def test_fmt_is_that_of_opa_and_says_so_when_there_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    run("init", "mine")
    monkeypatch.setenv("PATH", "/nowhere")
    assert "no 'opa' command" in run("fmt", "mine", code=4)
    opa = Path("bin/opa")
    opa.parent.mkdir()
    opa.write_text('#!/bin/sh\necho "$@" >> calls\n[ "$2" = --list ] && echo mine/payments.rego\nexit 0\n')
    opa.chmod(opa.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{opa.parent.resolve()}{os.pathsep}/bin")
    assert "not formatted: mine/payments.rego" in run("fmt", "mine", "--check", code=1)
    assert Path("calls").read_text() == "fmt --list mine\n"
    run("fmt", "mine")
    assert Path("calls").read_text().splitlines()[-1] == "fmt --write mine"
