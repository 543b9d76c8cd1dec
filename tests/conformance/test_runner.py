"""How ``make conformance`` judges what the suite wrote, without the suite."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import msgspec
import pytest

from tests.conformance import __main__ as runner
from tests.conformance import results, suite
from tests.conformance.results import BadExpectations, BadResults, Check, Scenario, judge

LEGS = ("2025-11-25", "headers")


def wrote(folder, scenario, *checks, at="2026-11-28T00-19-20-707Z", side="server"):
    """Results as the suite leaves them: a folder of a scenario's name and time."""
    place = folder / f"{side}-{scenario}-{at}"
    place.mkdir(parents=True)
    said = [{"id": id_, "status": status, "errorMessage": f"{id_} {status}"} for id_, status in checks]
    (place / "checks.json").write_text(json.dumps(said))


def scenario(name, *statuses, scored=True):
    checks = [Check(f"c{n}", status, "why") for n, status in enumerate(statuses)]
    return Scenario(name, scored, checks)


# ---------------------------------------------------------------------------------------------- reading


def test_the_latest_result_of_each_scenario_is_read(tmp_path):
    wrote(tmp_path, "tools-list", ("a", "FAILURE"), at="2026-11-28T00-19-20-100Z")
    wrote(tmp_path, "tools-list", ("a", "SUCCESS"), at="2026-11-28T00-19-20-200Z")
    wrote(tmp_path, "server-initialize", ("b", "SUCCESS"), ("c", "INFO"))
    wrote(tmp_path, "auth/basic-cimd", ("d", "SUCCESS"), side="client")
    found = {each.name: each for each in results.read(tmp_path, ["tools-list", "server-initialize"])}
    assert set(found) == {"tools-list", "server-initialize", "auth/basic-cimd"}
    assert not found["tools-list"].failed
    assert found["server-initialize"].scored and not found["auth/basic-cimd"].scored


def test_a_scenario_that_checked_nothing_has_not_passed(tmp_path):
    wrote(tmp_path, "empty")
    wrote(tmp_path, "skipped", ("a", "SKIPPED"), ("b", "INFO"))
    assert [each.failed for each in results.read(tmp_path, None)] == [True, True]


@pytest.mark.parametrize("text", ["", "[{", '{"id": 1}', '[{"id": "a", "status": "GREAT"}]', '[{"id": "a"}]'])
def test_what_is_no_result_is_an_error_and_not_a_pass(tmp_path, text):
    wrote(tmp_path, "tools-list")
    next(tmp_path.rglob("checks.json")).write_text(text)
    with pytest.raises(BadResults):
        results.read(tmp_path, None)


def test_results_in_a_folder_of_another_name_are_an_error(tmp_path):
    (tmp_path / "tools-list").mkdir()
    (tmp_path / "tools-list" / "checks.json").write_text("[]")
    with pytest.raises(BadResults):
        results.read(tmp_path, None)


def test_the_frozen_requirements_are_read_by_side(tmp_path):
    path = tmp_path / "2026-07-28.yaml"
    more = "not_scored:\n- {scenario: c, leg: client, reason: extension}\n- {scenario: d, leg: server}\n"
    path.write_text("server: [a]\nclient: [b]\n" + more)
    assert results.requirements(path, "server") == results.Requirements(["a"], ["d"])
    assert results.requirements(path, "client") == results.Requirements(["b"], ["c"])


# ---------------------------------------------------------------------------------------------- judging


def test_a_failure_nobody_expected_is_wrong():
    leg = judge("leg", [scenario("a", "SUCCESS"), scenario("b", "FAILURE", "WARNING")], {})
    assert not leg.right
    assert [(each.scenario, each.check) for each in leg.unexpected] == [("b", "c0")]
    assert leg.scored == {"ok": 1, "total": 2}
    assert leg.checks == {"passed": 1, "failed": 1, "warnings": 1, "skipped": 0}


def test_an_expected_failure_is_right_and_says_why():
    leg = judge("leg", [scenario("a", "FAILURE")], {"a": "not built"})
    assert leg.right and leg.scored == {"ok": 0, "total": 1}
    assert leg.failures[0].expected == "not built"


def test_an_expected_check_does_not_excuse_its_neighbours():
    leg = judge("leg", [scenario("a", "FAILURE", "FAILURE")], {"a:c0": "not built"})
    assert not leg.right and [each.check for each in leg.unexpected] == ["c1"]


@pytest.mark.parametrize("entry", ["a", "a:c0", "a:other", "gone"])
def test_an_expectation_that_does_not_come_true_is_wrong(entry):
    leg = judge("leg", [scenario("a", "SUCCESS")], {entry: "not built"})
    assert leg.stale == [entry] and not leg.right


def test_what_may_fail_is_not_asked_to():
    expected = {"a:c0": "may fail: a slow machine"}
    assert judge("leg", [scenario("a", "SUCCESS")], expected).right
    assert judge("leg", [scenario("a", "FAILURE")], expected).right
    assert not judge("leg", [scenario("a", "SUCCESS", "FAILURE")], expected).right


def test_a_scored_scenario_that_is_missing_is_wrong():
    leg = judge("leg", [scenario("a", "SUCCESS")], {}, required=["a", "b"])
    assert leg.not_run == ["b"] and not leg.right


def test_what_is_not_scored_is_told_and_decides_nothing():
    leg = judge("leg", [scenario("a", "SUCCESS"), scenario("t", "FAILURE", scored=False)], {})
    assert leg.right and leg.unscored == {"ok": 0, "total": 1}
    assert leg.failures[0].scenario == "t"


def test_a_run_of_one_scenario_is_not_asked_about_the_others():
    expected = {"a": "not built", "b": "not built"}
    leg = judge("leg", [scenario("a", "FAILURE")], expected, required=["a", "b", "c"], partial=True)
    assert leg.right and not leg.not_run and not leg.stale
    leg = judge("leg", [scenario("a", "SUCCESS")], expected, partial=True)
    assert leg.stale == ["a"]


# ----------------------------------------------------------------------------------------- expectations


def test_the_expectations_of_this_repository_can_be_read():
    assert set(results.expectations(runner.EXPECTED, suite.LEGS)) <= set(suite.LEGS)


@pytest.mark.parametrize("text", ["", "{}", "headers:\n", "headers: {}"])
def test_nothing_expected_is_written_in_many_ways(tmp_path, text):
    path = tmp_path / "expected.yaml"
    path.write_text(text)
    assert not results.expectations(path, LEGS).get("headers")


@pytest.mark.parametrize(
    "text",
    [
        "[a]",
        "unknown-leg: {a: why}",
        "headers: [a]",
        "headers: a",
        "headers: {a: ''}",
        "headers: {a: }",
        "headers: {a: 3}",
        "headers: {a: why, 'a:check': why}",
        "headers: {a:check: {b: why}}",
    ],
)
def test_expectations_without_a_reason_or_a_leg_are_refused(tmp_path, text):
    path = tmp_path / "expected.yaml"
    path.write_text(text)
    with pytest.raises(BadExpectations):
        results.expectations(path, LEGS)


# ----------------------------------------------------------------------------------------- the processes


def test_a_command_ends_in_bounded_time_with_all_it_started(tmp_path):
    pid = tmp_path / "pid"
    child = (
        f"import os, pathlib, time; pathlib.Path({str(pid)!r}).write_text(str(os.getpid())); time.sleep(60)"
    )
    parent = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {child!r}])"
    began = time.monotonic()
    with pytest.raises(suite.CannotRun, match="did not end within"):
        suite.bounded([sys.executable, "-c", parent], tmp_path, {}, 3)
    assert time.monotonic() - began < 10
    assert _gone(int(pid.read_text()))


def _gone(pid):
    """Whether a process has ended; a child of nobody may wait a moment to be reaped."""
    for _ in range(100):
        try:
            if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
                return True
        except FileNotFoundError:
            return True
        time.sleep(0.02)
    return False


@pytest.mark.parametrize("leg", suite.LEGS)
def test_every_leg_runs_its_own_side_of_the_suite_at_its_own_revision(leg):
    kind, upstream = suite.parts(leg)
    runs = suite._commands(leg, "http://127.0.0.1:1/mcp", None)
    assert runs and all((arguments[0] == "client") == (kind in suite.CLIENT) for _, arguments in runs)
    assert bool(upstream) == (kind not in suite.CLIENT), "the suite is the upstream, or one is started"
    for name, arguments in runs:
        only = suite._commands(leg, "http://127.0.0.1:1/mcp", name or "caching")
        assert len(only) == 1 and (name or "caching") in only[0][1]
        assert kind == "headers" or kind.removeprefix("client-") in arguments


def test_without_npm_it_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(suite.CannotRun, match="apt-get install npm"):
        suite.install(tmp_path / "build")


def test_the_suite_is_pinned_by_hash_and_to_no_registry():
    lock = json.loads((suite.HERE / "package-lock.json").read_text())
    wanted = json.loads((suite.HERE / "package.json").read_text())
    packages = {name: said for name, said in lock["packages"].items() if name}
    assert all(said.get("integrity", "").startswith("sha512-") for said in packages.values())
    assert not any("resolved" in said for said in packages.values())
    for name, version in (wanted["dependencies"] | wanted["optionalDependencies"]).items():
        assert version[0].isdecimal() and packages[f"node_modules/{name}"]["version"] == version


def test_the_report_is_what_the_reference_describes():
    leg = judge("headers", [scenario("a", "SUCCESS")], {})
    report = runner.Report("0.2", "0.1", "gateway", [leg], leg.right)
    said = msgspec.json.decode(msgspec.json.encode(report))
    text = (runner.BUILD.parent / "docs" / "reference" / "mcp.md").read_text(encoding="utf-8")
    assert all(f"`{name}`" in text for name in (*said, *said["legs"][0]))
