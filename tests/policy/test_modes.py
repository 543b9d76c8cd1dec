"""A module may work in another mode for some tools, said in METADATA or in the data of whoever runs it."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.errors import ConfigError
from gateway.model import Decision
from tests.policy.helpers import call, decide, policy_of, rule, tool

BASE = rule("base", 'allow contains {"code": "fine"}')
DENY = 'deny contains {"code": "stop"}'


def decisions(tmp_path: Path, data: str = "", **custom: str) -> dict[str, Decision]:
    files = {"base": BASE, "a": rule("a", DENY, **custom)}
    policy = policy_of(tmp_path, files | ({"data.yaml": data} if data else {}))
    targets = ("git/log", "git/push", "bank/pay")
    risks = {"git/log": "read", "git/push": "reversible", "bank/pay": "irreversible"}
    return {target: decide(policy, call(on=tool(target, risk=risks[target]))) for target in targets}


def test_the_first_entry_whose_scope_matches_holds_and_else_the_module_s_own(tmp_path: Path) -> None:
    modes = "[{scope: {tools: [git/log]}, mode: observe}, {scope: {tools: [git/*]}, mode: warn}]"
    found = decisions(tmp_path, modes=modes)
    log, push, pay = found.values()
    assert (log.verdict, [item.rule for item in log.observed], log.notes) == ("allow", ["a"], ())
    assert (push.verdict, push.observed, [note.code for note in push.notes]) == ("allow", (), ["stop"])
    assert (pay.verdict, pay.code) == ("deny", "stop")


def test_an_observing_module_may_be_enforced_for_some_tools_only(tmp_path: Path) -> None:
    found = decisions(tmp_path, mode="observe", modes="[{scope: {risks: [irreversible]}, mode: enforce}]")
    assert [each.verdict for each in found.values()] == ["allow", "allow", "deny"]


def test_the_data_has_the_first_word_so_that_a_shipped_module_need_not_be_copied(tmp_path: Path) -> None:
    modes = "[{scope: {tools: [git/*]}, mode: warn}]"
    by_tool = "wardgate: {modes: {a: [{scope: {tools: [git/push]}, mode: enforce}]}}\n"
    found = decisions(tmp_path / "1", by_tool, modes=modes)
    assert [each.verdict for each in found.values()] == ["allow", "deny", "deny"]
    everywhere = decisions(tmp_path / "2", "wardgate: {modes: {a: observe}}\n", modes=modes)
    assert [each.verdict for each in everywhere.values()] == ["allow"] * 3
    assert all(each.observed for each in everywhere.values())


@pytest.mark.parametrize(
    "data",
    [
        "wardgate: {modes: {nobody: observe}}",
        "wardgate: {modes: {a: sometimes}}",
        "wardgate: {modes: [a]}",
        "wardgate: {modes: {a: [{mode: observe, where: x}]}}",
    ],
)
def test_a_word_that_means_nothing_is_refused_and_not_ignored(tmp_path: Path, data: str) -> None:
    with pytest.raises(ConfigError, match=r"wardgate\.modes"):
        decisions(tmp_path, f"{data}\n")


def test_modes_are_part_of_the_revision_and_of_the_catalogue(tmp_path: Path) -> None:
    files = {"base": BASE, "a": rule("a", DENY)}
    before = policy_of(tmp_path / "1", files)
    after = policy_of(tmp_path / "2", files | {"data.yaml": "wardgate: {modes: {a: warn}}\n"})
    assert before.revision != after.revision
    [info] = [info for info in after.catalogue() if info.id == "a"]
    assert (info.mode, [entry.mode for entry in info.modes], info.owner) == ("enforce", ["warn"], "t")
