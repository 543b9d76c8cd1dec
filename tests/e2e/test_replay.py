"""Replay and explanation on the journal of a real gateway, while it runs."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from gateway.journal.query import Filter
from gateway.journal.recorded import Inputs
from gateway.policy import load
from gateway.policy.replay import flip
from gateway.storage.crypto import load_key
from tests.e2e.gateway import ALLOW_ALL, TOOLS, Wardgate, counting, eventually, rule, talking
from tests.storage.at import at

BAD = rule("bad", 'deny contains {"code": "bad"} if input.call.args.text == "bad"', codes=["bad"])
CARD = rule(
    "card", 'obligation contains {"kind": "redact", "value": {"keys": ["card"]}} if input.call.args.card'
)
SHOWN = rule(
    "shown",
    'deny contains {"code": "kept"} if contains(input.result.text, "keep")\n\n'
    'obligation contains {"kind": "redact", "value": {"patterns": {"canary": "canary-[0-9]+"}}}',
    codes=["kept"], phase="result",
)  # fmt: skip
RULES = {"all.rego": ALLOW_ALL, "bad.rego": BAD, "card.rego": CARD, "shown.rego": SHOWN}
CALLS = (
    ("look", {"text": "one"}), ("look", {"text": "two", "echo": "canary-1"}), ("look", {"echo": "keep"}),
    ("look", {"text": "bad"}), ("note", {"text": "three", "card": "4111"}), ("note", {"text": "bad"}),
    ("pay", {"text": "four"}), ("send", {"text": "five"}),
)  # fmt: skip


@contextmanager
def lived(folder: Path) -> Iterator[Wardgate]:
    """A running gateway that has decided each of the calls, all of them on record."""
    with counting(folder) as server:
        manifests = {**TOOLS, "pay": {**TOOLS["pay"], "sensitive": ["/text"]}}
        house = Wardgate(folder / "gateway", {"counting": {"url": server.url, "tools": manifests}})
        try:
            for file, text in RULES.items():
                house.policy(file, text)
            house.start()
            asyncio.run(_work(house))
            yield house
        finally:
            house.close()


async def _work(house: Wardgate) -> None:
    async with talking(house, house.key()) as alice:
        for tool, arguments in CALLS:
            await alice.call(tool, **arguments)
        await alice.ask("prompts/get", {"name": "greet", "arguments": {}}, name="greet")
        await alice.ask("resources/read", {"uri": "note://today"}, name="note://today")
    wanted = len(CALLS) + 2
    await eventually(lambda: sum("verdict" in each for each in house.records()) == wanted)
    await eventually(lambda: all(each.missing is None for each in recorded(house)))


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Wardgate]:
    """One for all tests that only read."""
    with lived(tmp_path_factory.mktemp("running")) as house:
        yield house


@pytest.fixture
def alone(tmp_path: Path) -> Iterator[Wardgate]:
    """One for a test that changes what is on record."""
    with lived(tmp_path) as house:
        yield house


def recorded(house: Wardgate) -> list[Any]:
    with at(house.database_path).open(read_only=True) as database:
        return list(Inputs(database, load_key(house.folder / "storage.key")).read(Filter()))


def draft(folder: Path, **changes: str | None) -> Path:
    files = RULES | {f"{name}.rego": text for name, text in changes.items()}
    folder.mkdir()
    for name, text in files.items():
        if text is not None:
            (folder / name).write_text(text)
    return folder


async def replayed(house: Wardgate, folder: Path, *more: str, code: int = 0) -> Any:
    done = await house.cli("policy", "replay", str(folder), "--json", *more)
    assert done.returncode == code, done.stderr
    return json.loads(done.stdout)


async def test_the_policy_in_force_changes_nothing_and_every_call_can_be_replayed(running: Wardgate) -> None:
    report = await replayed(running, running.policies, "--fail-on", "loosened", "--fail-on", "tightened")
    assert report["total"] == report["counts"]["unchanged"] == len(CALLS) + 2
    assert report["reasons_only"] == 0


async def test_everything_policy_was_given_is_on_record(running: Wardgate) -> None:
    found = {(each.target, each.said.code, each.call.args.get("text")): each for each in recorded(running)}
    card = found["counting/note", "fine", "three"]
    assert card.call.args["card"] == "4111", "as the agent asked, not as it was sent"
    assert json.loads(card.sent_json)["card"] != "4111"
    kept = next(each for each in recorded(running) if each.call.args.get("echo") == "keep")
    assert kept.result_said.code == "kept" and kept.outcome.status == "ok", "not 'withheld'"
    policy = load(running.policies)
    assert {flip(policy, each).change for each in recorded(running)} == {"unchanged"}


async def test_what_a_draft_changes_is_listed_by_rule_and_tool_without_arguments(
    running: Wardgate, tmp_path: Path
) -> None:
    strict = rule("strict", 'deny contains {"code": "no"} if "money" in input.tool.effects', codes=["no"])
    folder = draft(tmp_path / "draft", bad=None, card=None, shown=None, strict=strict)
    report = await replayed(running, folder, "--fail-on", "loosened", code=1)
    by_rule = {(group["change"], group["rule"], group["target"]): group for group in report["groups"]}
    assert by_rule["loosened", "test.bad", "counting/note"]["count"] == 1
    assert by_rule["loosened", "test.bad", "counting/look"]["why"] == "deny → allow"
    assert by_rule["loosened", "test.shown", "counting/look"]["stage"] == "result"
    assert by_rule["loosened", "test.card", "counting/note"]["why"] == "no longer redact"
    assert "4111" not in json.dumps(report) and "canary-1" not in json.dumps(report)
    done = await running.cli("policy", "replay", str(folder))
    assert "loosened" in done.stdout and "4111" not in done.stdout
    [example] = by_rule["loosened", "test.bad", "counting/note"]["examples"]
    assert (await running.cli_json("decisions", "show", example))["records"][0]["code"] == "bad"


async def test_a_draft_that_fails_is_an_error_and_not_a_tightening(running: Wardgate, tmp_path: Path) -> None:
    broken = rule(
        "bad", 'deny contains {"code": "bad"} if to_number(input.call.args.text) > 1', codes=["bad"]
    )
    report = await replayed(running, draft(tmp_path / "d", bad=broken), "--fail-on", "error", code=1)
    assert report["counts"]["error"] >= 4
    assert {group["why"] for group in report["groups"] if group["change"] == "error"} == {"policy_error"}


async def test_erased_calls_are_not_replayable_and_say_so(alone: Wardgate) -> None:
    done = await alone.cli("records", "erase", "--agent", "alice", "--yes", "--json")
    assert done.returncode == 0, done.stderr
    report = await replayed(alone, alone.policies)
    assert report["missing"] == {"no_payload": len(CALLS) + 2}
    [first] = [each for each in recorded(alone) if each.said.code == "bad"][:1]
    done = await alone.cli("policy", "explain", first.call_id)
    assert done.returncode == 3 and "not kept" in done.stderr


async def test_filters_narrow_the_replay(running: Wardgate) -> None:
    assert (await replayed(running, running.policies, "--tool", "counting/pay"))["total"] == 1
    assert (await replayed(running, running.policies, "--agent", "bob"))["total"] == 0
    assert (await replayed(running, running.policies, "--since", "1h"))["total"] == len(CALLS) + 2
    assert (await replayed(running, running.policies, "--limit", "3"))["total"] == 3


async def test_a_decision_is_explained_with_lines_and_values(running: Wardgate, tmp_path: Path) -> None:
    [bad] = [each for each in recorded(running) if each.target == "counting/note" and each.said.code == "bad"]
    said = await running.cli_json("policy", "explain", bad.call_id)
    assert said["change"] == "unchanged" and said["revision"] == said["recorded_revision"]
    [stage] = said["stages"]
    assert {fired["rule"] for fired in stage["fired"]} == {"test.all", "test.bad"}
    assert {stopped["rule"] for stopped in stage["stopped"]} == {"test.card"}
    [value] = stage["stopped"][0]["stop"]["values"]
    assert (value["name"], value["undefined"]) == ("input.call.args.card", True)

    other = await running.cli(
        "policy", "explain", bad.call_id, "--under", str(draft(tmp_path / "d", bad=None))
    )
    assert other.returncode == 1 and "It was deny (bad) then" in other.stderr
    missing = await running.cli("policy", "explain", "0" * 36)
    assert missing.returncode == 3


async def test_sensitive_arguments_are_explained_only_to_who_insists(running: Wardgate) -> None:
    [pay] = [each for each in recorded(running) if each.target == "counting/pay"]
    hidden = await running.cli("policy", "explain", pay.call_id, "--all")
    assert hidden.returncode == 0, hidden.stderr
    assert "four" not in hidden.stdout and "[redacted]" in hidden.stdout
    assert "four" in (await running.cli("policy", "explain", pay.call_id, "--all", "--reveal")).stdout


async def test_unused_rules_and_the_difference_of_two_policies_are_shown(
    running: Wardgate, tmp_path: Path
) -> None:
    never = rule("never", 'deny contains {"code": "never"} if input.call.args.never', codes=["never"])
    folder = draft(tmp_path / "d", never=never, card=None)
    unused = await running.cli_json("policy", "inspect", str(folder), "--unused")
    assert [each["id"] for each in unused["rules"]] == ["test.never"]
    compared = await running.cli_json("policy", "diff", str(running.policies), str(folder))
    assert {(each["change"], each["name"]) for each in compared["policy"]} == {
        ("added", "test.never"), ("removed", "test.card"),
    }  # fmt: skip
    assert compared["calls"]["counts"]["loosened"] == 1


async def test_operators_read_the_schema_of_the_input(running: Wardgate) -> None:
    from gateway.policy import schema

    key, deadline = await running.new_operator("viewer"), time.monotonic() + 5
    status, body = await running.admin("/v1/policy/schema", key)
    while status == 401 and time.monotonic() < deadline:  # until the gateway has read the new key
        await asyncio.sleep(0.05)
        status, body = await running.admin("/v1/policy/schema", key)
    assert status == 200 and json.loads(body) == schema.published()
    assert (await running.admin("/v1/policy/schema", running.key()))[0] == 401


async def test_a_replay_reads_beside_a_gateway_that_goes_on_working(alone: Wardgate) -> None:
    async with talking(alone, alone.key()) as alice:
        before = time.monotonic()
        await replayed(alone, alone.policies)
        assert (await alice.call("note", text="meanwhile")).reason is None
        assert time.monotonic() - before < 30
