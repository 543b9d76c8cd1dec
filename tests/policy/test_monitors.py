"""Monitors travel with the policy: found where they lie, refused with their place, signed with the rest."""

from __future__ import annotations

import io
import re
import shutil
from pathlib import Path

import msgspec
import orjson
import pytest

from gateway.errors import ConfigError
from gateway.model import Facts
from gateway.policy import EmbeddedPolicy, load, packs, signatures
from gateway.policy.archive import SIGNATURES, Archive, manifest, read, read_folder, write
from gateway.policy.bundle import collect, read_bundle
from gateway.policy.check import check
from gateway.policy.library import copy_pack, library_path
from gateway.policy.module import Bundle
from gateway.policy.worker import put_together, receive, send, take_apart
from gateway.sessions.monitors import Event, examine
from tests.policy.helpers import call, decide, principal

ONCE = "monitors:\n  once: {at_most_n: {match: {tools: [a/a]}, n: 1}}\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    copy_pack("starter", tmp_path / "mine")
    return tmp_path / "mine"


def put(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def test_a_folder_of_that_name_holds_monitors_wherever_it_lies(folder: Path) -> None:
    before = load(folder)
    put(folder, "payments/monitors/mine.yaml", ONCE)
    put(folder, "payments/other.yaml", "monitors: {never: read}")
    after = load(folder)
    assert set(after.bundle.monitors) - set(before.bundle.monitors) == {"once"}
    assert after.revision != before.revision
    assert "once" in {monitor.name for monitor in after.monitors.monitors}


def test_every_change_of_a_monitor_is_another_revision(folder: Path) -> None:
    path = put(folder, "monitors/mine.yaml", ONCE)
    seen = {load(folder).revision}
    for text in (ONCE.replace("n: 1", "n: 2"), ONCE.replace("once", "twice"), ONCE.replace("a/a", "a/b")):
        path.write_text(text)
        seen.add(load(folder).revision)
    assert len(seen) == 4
    path.write_text("# said otherwise\n" + ONCE)
    assert load(folder).revision in seen


def test_what_is_watched_for_changes_has_the_monitors(folder: Path) -> None:
    put(folder, "monitors/mine.yaml", ONCE)
    put(folder, ".hidden/monitors/not.yaml", ONCE)
    files = read_folder(folder)
    assert "monitors/mine.yaml" in files and "monitors/pace.yaml" in files
    assert not [name for name in files if "hidden" in name]


def test_a_name_of_ones_own_replaces_the_shipped_one_and_nothing_else(tmp_path: Path) -> None:
    shipped = read_bundle(None, "strict").monitors
    put(
        tmp_path,
        "monitors/mine.yaml",
        "monitors:\n  delete-pace: {at_most_n: {match: {effects: [delete]}, n: 3}}\n",
    )
    mine = read_bundle(tmp_path, "strict").monitors
    assert set(mine) == set(shipped)
    assert {name for name in mine if mine[name] != shipped[name]} == {"delete-pace"}
    built = write(collect(tmp_path, "strict"))
    assert read_bundle(None, None, read(built)).monitors == mine
    assert read_bundle(None, "strict", read(built)).monitors == mine, "a pack beneath changes nothing"


def test_a_bundle_of_another_maker_may_have_monitors_too(folder: Path) -> None:
    put(folder, "monitors/mine.yaml", ONCE)
    files = read_folder(folder)
    archive = read(write(files))
    assert read_bundle(None, None, archive).revision == read_bundle(folder, None).revision
    assert isinstance(archive, Archive) and manifest(files).roots == ("",)


def test_a_signature_covers_the_monitors(folder: Path) -> None:
    put(folder, "monitors/mine.yaml", ONCE)
    key = signatures.Key(name="k", algorithm="HS256", material=b"s" * 32)
    files = read_folder(folder)
    files[SIGNATURES] = signatures.sign(files, key, issued_s=1_700_000_000)
    assert signatures.verify(read(write(files)), {"k": key}, now_s=1_700_000_100).key == "k"
    for changed in (
        files | {"monitors/mine.yaml": ONCE.replace("n: 1", "n: 9").encode()},
        files | {"monitors/more.yaml": ONCE.replace("once", "more").encode()},
        {name: raw for name, raw in files.items() if name != "monitors/mine.yaml"},
    ):
        with pytest.raises(signatures.BadSignature):
            signatures.verify(read(write(changed)), {"k": key}, now_s=1_700_000_100)


def test_monitors_lie_within_the_roots_of_a_bundle(folder: Path) -> None:
    shutil.rmtree(folder / "monitors")
    put(folder, "data.yaml", "")
    roots = ["wardgate", "payments"]
    files = read_folder(folder) | {".manifest": orjson.dumps({"roots": roots})}
    inside, outside = (
        files | {"payments/monitors/m.yaml": ONCE.encode()},
        files | {"monitors/m.yaml": ONCE.encode()},
    )
    assert "once" in read_bundle(None, "starter", read(write(inside)), label="b").monitors
    with pytest.raises(ConfigError, match=r"b/monitors/m\.yaml:1: lies outside of the manifest's roots"):
        read_bundle(None, "starter", read(write(outside)), label="b")


def test_a_monitor_given_twice_in_one_folder_is_refused(folder: Path) -> None:
    put(folder, "monitors/a.yaml", ONCE)
    put(folder, "x/monitors/b.yaml", "\n" + ONCE)
    with pytest.raises(
        ConfigError, match=r"x/monitors/b\.yaml:3: the monitor 'once' is also given at .*a\.yaml:2"
    ):
        load(folder)


@pytest.mark.parametrize(
    ("text", "line", "said"),
    [
        (
            "monitors:\n  once:\n    at_most_n:\n      match: {tools: [a/a]}\n      n: 0\n",
            5,
            "Expected `int` >= 1",
        ),
        (
            "monitors:\n  once:\n    at_most_n:\n      match: {tool: [a/a]}\n      n: 1\n",
            4,
            "unknown field `tool`",
        ),
        ("monitors:\n  once:\n    about: x\n", 2, "names no templates"),
        ("monitors:\n  - once\n", 1, "is a mapping"),
        ("rules: {}\n", 1, "is a mapping"),
        ("", 1, "is a mapping"),
        ("monitors:\n  once: [\n", 3, "not valid YAML"),
        (
            "monitors:\n  a: {within: {first: {tools: [a/a]}, then: {tools: [a/b]}, calls: 1}}\n"
            "  a: {within: {first: {tools: [a/a]}, then: {tools: [a/c]}, calls: 1}}\n",
            3,
            "given twice",
        ),
        (
            "monitors:\n  a: {at_most_n: {match: {tools: [a/a]}, n: 1}}\n"
            "  b: {at_most_n: {match: {tools: [a/a]}, n: 60, within_s: 9, by: [/k], keys: 256}}\n",
            3,
            "lower 'keys'",
        ),
    ],
)
def test_a_fault_is_reported_with_its_line(folder: Path, text: str, line: int, said: str) -> None:
    path = put(folder, "monitors/mine.yaml", text)
    bundle, problems = check(folder, None)
    assert bundle is None
    assert [(problem.file, problem.line, problem.kind) for problem in problems] == [
        (str(path), line, "monitor")
    ]
    assert said in problems[0].message


def test_all_faults_of_a_file_are_reported_at_once(folder: Path) -> None:
    put(folder, "monitors/mine.yaml", "monitors:\n  a: {}\n  b: 3\n  C: {}\nmore: 1\n")
    _, problems = check(folder, None)
    assert sorted(problem.line for problem in problems) == [2, 3, 4, 5]


def test_monitors_pass_to_the_process_that_decides_and_back(folder: Path) -> None:
    put(folder, "monitors/mine.yaml", ONCE)
    bundle = read_bundle(folder, None)
    rest, modules = take_apart(bundle)
    pipe = io.BytesIO()
    send(pipe, rest)
    pipe.seek(0)
    again = put_together(receive(pipe, Bundle), modules)
    assert again.monitors == bundle.monitors
    ours, theirs = EmbeddedPolicy(bundle).monitors, EmbeddedPolicy(again).monitors
    assert [m.revision for m in ours.monitors] == [m.revision for m in theirs.monitors]


@pytest.mark.parametrize(
    "path", sorted((library_path() / "monitors").glob("*.yaml")), ids=lambda path: path.stem
)
def test_a_shipped_monitor_names_no_tool_and_says_what_it_is_for(path: Path) -> None:
    found, wrong = examine(msgspec.yaml.decode(path.read_bytes()))
    assert found and not wrong
    for definition in found.values():
        assert definition.about and definition.message and definition.remedy
        assert "tools" not in path.read_text()
    assert any(path.stem in (library_path() / "packs" / pack / "pack.yaml").read_text() for pack in packs())


# -- what the shipped rules make of the facts ---------------------------------------------------------------


def facts(policy: EmbeddedPolicy, done: int) -> Facts:
    """After so many deletions in a session, those of the next one."""
    event = Event(at_ns=10**18, target="files/delete", risk="irreversible", effects=("delete",))
    state = policy.monitors.initial()
    for _ in range(done):
        policy.monitors.step(state, msgspec.structs.replace(event, status="ok"))
    return Facts(fast={"session": {"monitors": policy.monitors.facts(state, event)}})


def test_the_strict_pack_refuses_what_a_monitor_forbids(tmp_path: Path) -> None:
    put(
        tmp_path,
        "monitors/mine.yaml",
        "monitors: {delete-pace: {at_most_n: {match: {effects: [delete]}, n: 3}, message: enough}}",
    )
    policy = load(tmp_path, "strict")
    for done, refused in ((2, False), (3, True)):
        decision = decide(policy, call({}), facts(policy, done))
        said = {finding.code: finding.message for finding in decision.findings}
        assert said.get("monitor_violated") == ("enough (monitor delete-pace)" if refused else None)


def test_the_starter_pack_only_records_it(tmp_path: Path) -> None:
    policy = load(None, "starter")
    asked = call({})
    before, after = decide(policy, asked), decide(policy, asked, facts(policy, 20))
    assert (before.verdict, before.findings) == (after.verdict, after.findings)
    said = next(item for item in after.observed if item.rule == "sessions.monitors")
    assert [finding.code for finding in said.findings] == ["monitor_violated"]
    put(tmp_path, "data.yaml", "wardgate: {modes: {sessions.monitors: enforce}}\n")
    enforced = load(tmp_path, "starter")
    decision = decide(enforced, asked, facts(enforced, 20))
    assert decision.verdict == "escalate"
    found = next(finding for finding in decision.findings if finding.code == "monitor_violated")
    assert found.message == "this session has deleted 20 times within an hour (monitor delete-pace)"
    assert (found.chain, found.remedy) == ("default", "wait for the approval, or go on later")


def test_a_warning_is_a_note_for_the_agent_and_stops_nothing(tmp_path: Path) -> None:
    put(
        tmp_path,
        "monitors/mine.yaml",
        "monitors:\n  delete-pace:\n    at_most_n: {match: {effects: [delete]}, n: 3}\n"
        "    on_violation: warn\n    message: slow down\n",
    )
    policy = load(tmp_path, "starter")
    asked = call({})
    decision = decide(policy, asked, facts(policy, 3))
    assert decision.verdict == decide(policy, asked).verdict
    assert [(note.code, note.message) for note in decision.notes] == [
        ("monitor_warns", "slow down (monitor delete-pace)")
    ]


# -- the pages ----------------------------------------------------------------------------------------------

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "write-a-monitor.md"


def test_the_how_to_works_as_it_is_written(tmp_path: Path) -> None:
    page = PAGE.read_text(encoding="utf-8")
    shop, modes, pace = re.findall(r"```yaml\n(.*?)```", page, re.DOTALL)
    (rule,) = re.findall(r"```rego\n(.*?)```", page, re.DOTALL)
    put(tmp_path, "monitors/shop.yaml", shop)
    put(tmp_path, "monitors/pace.yaml", pace)
    put(tmp_path, "data.yaml", modes)
    head = (
        "# METADATA\n# title: t\n# description: d\n# custom:\n#   id: mine.many\n#   owner: o\n"
        "#   severity: low\n#   codes: [many_mails]\npackage wardgate.rules.many_mails\n\nimport rego.v1\n\n"
    )
    put(tmp_path, "many_mails.rego", head + rule)
    policy = load(tmp_path, "starter")
    pace_now = policy.bundle.monitors["irreversible-pace"].at_most_n
    assert pace_now is not None and pace_now.n == 5
    mail = Event(at_ns=10**18, target="mail/send", effects=("egress",), domain="mail", status="ok")
    state = policy.monitors.initial()
    for _ in range(2):
        policy.monitors.step(state, mail)
    asked = msgspec.structs.replace(mail, status="")
    known = Facts(fast={"session": {"monitors": policy.monitors.facts(state, asked)}})
    decision = decide(policy, call({}, by=principal(environment="production")), known)
    assert "many_mails" in {finding.code for finding in decision.findings}
    # What the page shows of 'policy check' is what it says.
    put(
        tmp_path,
        "monitors/shop.yaml",
        shop.replace("shop/cancel_order]}", "shop/cancel_order], status: [ok]}"),
    )
    _, problems = check(tmp_path, "starter")
    said = [line for line in page.splitlines() if line.startswith("error: ")]
    assert [
        f"error: {problem} [{problem.kind}]".replace(str(tmp_path), "policies") for problem in problems
    ] == said
