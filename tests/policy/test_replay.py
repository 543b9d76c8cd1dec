"""Replay: an unchanged policy changes nothing, and what a draft changes is called by its right name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.model import Facts, Outcome
from gateway.policy import EmbeddedPolicy, load
from gateway.policy.replay import Tally, flip, replay
from gateway.recorded import Recorded, Said
from tests.policy.helpers import call, policy_of, principal, rule, tool
from tests.policy.recording import recorded

PAY = tool("bank/pay", risk="irreversible", effects=("money",))
READ = tool("git/git_log", risk="read")
ALLOW = rule("base", 'allow contains {"code": "fine"}')
TEXT = b'{"content":[{"type":"text","text":"the key is AKIAABCDEFGHIJKLMNOP"}]}'


def change(
    tmp_path: Path, before: str, after: str, args: dict[str, Any] | None = None, **more: Any
) -> tuple[str, str]:
    """Change and reason when a call decided by ``before`` is decided again by ``after``."""
    old = policy_of(tmp_path / "old", {"base": ALLOW, "a": before})
    new = policy_of(tmp_path / "new", {"base": ALLOW, "a": after})
    asked = call(args if args is not None else {"n": 5}, on=PAY)
    found = flip(new, recorded(old, asked, **more))
    return found.change, found.why


def fires(body: str, **custom: str) -> str:
    return rule("a", body, **custom)


NOTHING = fires('deny contains {"code": "stop"} if input.call.args.never')
DENY = fires('deny contains {"code": "stop"}')
FAILS = fires('deny contains {"code": "stop"} if to_number(input.call.args.word) > 1')
ASK = fires('escalate contains {"code": "ask"}')


def chain(name: str) -> str:
    return fires(f'escalate contains {{"code": "ask", "approval": {{"chain": "{name}"}}}}')


def cap(top: int) -> str:
    return duty("cap", f'{{"pointer": "/n", "max": {top}}}')


def duty(kind: str, value: str) -> str:
    return fires(f'obligation contains {{"kind": "{kind}", "value": {value}}}')


@pytest.mark.parametrize(
    ("before", "after", "is_now", "why"),
    [
        (NOTHING, NOTHING, "unchanged", ""),
        (NOTHING, DENY, "tightened", "allow → deny"),
        (NOTHING, ASK, "tightened", "allow → escalate"),
        (ASK, DENY, "tightened", "escalate → deny"),
        (DENY, ASK, "loosened", "deny → escalate"),
        (ASK, NOTHING, "loosened", "escalate → allow"),
        (chain("board"), chain("default"), "loosened", "no longer approval"),
        (NOTHING, duty("label", '["seen"]'), "tightened", "now label"),
        (duty("label", '["seen"]'), NOTHING, "loosened", "no longer label"),
        (duty("label", '["seen"]'), duty("label", '["other"]'), "loosened", "no longer label"),
        (duty("cost", "5"), duty("cost", "4"), "loosened", "no longer cost"),
        (duty("cost", "5"), duty("cost", "6"), "tightened", "now cost"),
        (NOTHING, cap(3), "tightened", "now cap /n"),
        (cap(3), NOTHING, "loosened", "no longer cap /n"),
        (cap(3), cap(4), "loosened", "no longer cap /n"),
        (cap(3), cap(2), "tightened", "now cap /n"),
        (NOTHING, fires('deny contains "nonsense"'), "error", "policy_bad_shape"),
        (NOTHING, FAILS, "error", "policy_error"),
        (fires('deny contains "nonsense"'), NOTHING, "loosened", "deny → allow"),
    ],
)  # fmt: skip
def test_a_change_is_loosened_when_any_protection_is_lost(
    tmp_path: Path, before: str, after: str, is_now: str, why: str
) -> None:
    assert change(tmp_path, before, after, {"n": 5, "word": "x"}) == (is_now, why)


def test_a_cap_that_only_speaks_above_its_maximum_is_seen_although_the_capped_call_owes_nothing(
    tmp_path: Path,
) -> None:
    def above(top: int) -> str:
        said = f'{{"kind": "cap", "value": {{"pointer": "/n", "max": {top}}}}}'
        return fires(f"obligation contains {said} if input.call.args.n > {top}")

    assert change(tmp_path / "1", above(3), above(3)) == ("unchanged", "")
    assert change(tmp_path / "2", above(3), NOTHING) == ("loosened", "arguments no longer changed")
    assert change(tmp_path / "3", above(3), above(4)) == ("loosened", "arguments changed otherwise")
    assert change(tmp_path / "4", above(3), above(2)) == ("tightened", "amounts lower")
    assert change(tmp_path / "5", NOTHING, above(3)) == ("tightened", "arguments now changed")


def test_what_a_result_may_show_is_replayed_too(tmp_path: Path) -> None:
    def shown(pattern: str) -> str:
        return fires(
            f'obligation contains {{"kind": "redact", "value": {{"patterns": {{"k": "{pattern}"}}}}}}',
            phase="result",
        )

    outcome = Outcome(status="ok", result_json=TEXT)
    assert change(tmp_path / "1", shown("AKIA"), shown("AKIA"), outcome=outcome)[0] == "unchanged"
    assert change(tmp_path / "2", shown("AKIA"), shown("ASIA"), outcome=outcome)[0] == "loosened"
    assert change(tmp_path / "3", NOTHING, shown("AKIA"), outcome=outcome)[0] == "tightened"
    withheld = fires('deny contains {"code": "stop"} if contains(input.result.text, "AKIA")', phase="result")
    assert change(tmp_path / "4", withheld, NOTHING, outcome=outcome) == ("loosened", "deny → allow")


def test_a_tool_the_draft_hides_is_tightened(tmp_path: Path) -> None:
    hidden = fires('deny contains {"code": "stop"} if input.tool.risk == "irreversible"', phase="list")
    assert change(tmp_path / "1", NOTHING, hidden) == ("tightened", "no longer shown")
    old = policy_of(tmp_path / "2" / "old", {"base": ALLOW})
    new = policy_of(tmp_path / "2" / "new", {"base": ALLOW, "a": hidden})
    observed = msgspec.structs.replace(call(on=PAY), mode="observe")  # where nothing is hidden
    assert flip(new, recorded(old, observed)).change == "unchanged"


def test_a_module_that_only_observes_changes_nothing(tmp_path: Path) -> None:
    assert (
        change(tmp_path, NOTHING, fires('deny contains {"code": "stop"}', mode="observe"))[0] == "unchanged"
    )


def test_facts_and_time_are_those_of_the_record(tmp_path: Path) -> None:
    conditions = "input.session.calls > 3; input.time == 1700000000000000000"
    body = f'deny contains {{"code": "stop"}} if {{ {conditions} }}'
    old = policy_of(tmp_path / "old", {"base": ALLOW})
    new = policy_of(tmp_path / "new", {"base": ALLOW, "a": rule("a", body)})
    asked = call(on=READ)
    for calls, is_now in ((3, "unchanged"), (4, "tightened")):
        facts = Facts(fast={"session": {"calls": calls}})
        assert flip(new, recorded(old, asked, facts)).change == is_now


def test_what_cannot_be_decided_again_is_counted_by_why_and_never_guessed(tmp_path: Path) -> None:
    policy = policy_of(tmp_path, {"base": ALLOW})
    tally = Tally()
    for number, missing in enumerate(("no_payload", "no_payload", "unreadable", "not_asked", "no_original")):
        lost = Recorded(
            seq=number, call_id=str(number), at_ns=0, agent="a", target="u/t", said=Said(verdict="allow"),
            missing=missing,
        )  # fmt: skip
        tally.add(flip(policy, lost))
    report = tally.report(policy.revision)
    assert report.counts["not_replayable"] == 5 == report.total
    assert report.missing == {"no_original": 1, "no_payload": 2, "not_asked": 1, "unreadable": 1}


def test_groups_are_by_rule_and_tool_with_examples_and_bounded(tmp_path: Path) -> None:
    old = policy_of(tmp_path / "old", {"base": ALLOW})
    new = policy_of(tmp_path / "new", {"base": ALLOW, "a": DENY})
    made = recorded(old, call({"n": 1}, on=PAY))
    tally = Tally()
    for number in range(1500):
        each = msgspec.structs.replace(made, call_id=f"id{number}", target=f"bank/{number % 1200}")
        tally.add(flip(new, each))
    report = tally.report("r")
    assert report.counts["tightened"] == 1500
    assert len(report.groups) == 1000
    assert sum(group.count for group in report.groups) + report.groups_left_out == 1500
    first = report.groups[0]
    assert (first.rule, first.count, first.examples) == ("a", 2, ("id0", "id1200"))


_ARGS = st.dictionaries(
    st.sampled_from(["amount_micro_usd", "command", "sql", "to", "body", "limit", "url"]),
    st.one_of(
        st.integers(-5, 10**11),
        st.sampled_from(["rm -rf /", "delete from a", "x@a.example", "AKIAABCDEFGHIJKLMNOP"]),
        st.text(max_size=20), st.lists(st.text(max_size=5), max_size=3),
    ),
)  # fmt: skip
_TOOLS = st.builds(
    lambda risk, effects, target: tool(target, risk=risk, effects=tuple(effects)),
    st.sampled_from(["read", "reversible", "compensable", "irreversible"]),
    st.sets(st.sampled_from(["egress", "money", "write"])),
    st.sampled_from(["git/git_log", "office/send_mail", "office/pay_invoice"]),
)
_LABELS = st.sets(st.sampled_from(["developer", "accounting", "support", "read-only"]))


@pytest.fixture(scope="module")
def strict() -> tuple[EmbeddedPolicy, EmbeddedPolicy]:
    return load(None, "strict"), load(None, "strict")


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(args=_ARGS, on=_TOOLS, labels=_LABELS, answered=st.booleans())
def test_a_replay_of_the_same_policy_is_unchanged_whatever_was_asked(
    strict: tuple[EmbeddedPolicy, EmbeddedPolicy], args: Any, on: Any, labels: Any, answered: bool
) -> None:
    then, now = strict
    by = principal(labels=tuple(sorted(labels)))
    asked = call(args, on=on, by=by)
    if not then.sees(by, on, Facts()):
        return  # would never have become a call
    outcome = Outcome(status="ok", result_json=TEXT) if answered else None
    [found] = replay(now, [recorded(then, asked, outcome=outcome)])
    assert (found.change, found.why) == ("unchanged", "")
