"""Traps of the embedded engine, each closed: whatever it does, the decision is a deny with a code."""

from __future__ import annotations

import asyncio
import gc
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from gateway.model import Facts, Outcome
from gateway.policy import EmbeddedPolicy, embedded, load
from gateway.policy.engine import UNDEFINED, explain, new_engine
from tests.policy.helpers import call, decide, inspect, policy_of, principal, rule, tool

READS = rule("reads", 'allow contains {"code": "fine"} if input.tool.risk == "read"')


def deny_if(condition: str, name: str = "a", **custom: str) -> str:
    return rule(name, f'deny contains {{"code": "stop", "message": "m"}} if {{ {condition} }}', **custom)


def test_undefined_is_a_string_that_is_true_and_is_taken_for_a_deny(tmp_path: Path) -> None:
    engine = new_engine()
    engine.add_policy("p", "package p\nimport rego.v1\nx := 1 if input.never\n")
    engine.set_input_json("{}")
    reply = engine.eval_rule_as_json("data.p.x")
    assert reply == UNDEFINED and reply  # the trap itself: a truthy answer
    policy = policy_of(tmp_path, {"a": READS})
    engine_of_group = policy._engine._engine(policy._phases["call"].of(call().tool))
    engine_of_group.add_policy(
        "more", "package wardgate.entry\nimport rego.v1\nnothing := 1 if input.never\n"
    )
    part = policy._phases["call"].of(call().tool).parts[0]
    part.entry = "data.wardgate.entry.nothing"
    part.memo = None
    assert decide(policy, call()).code == "policy_undefined"


def test_after_an_input_the_engine_refuses_the_one_before_is_never_used(tmp_path: Path) -> None:
    policy = policy_of(
        tmp_path, {"a": rule("a", 'allow contains {"code": "fine"} if input.call.args.who == "ann"')}
    )
    assert decide(policy, call({"who": "ann"})).verdict == "allow"
    deep: Any = "ann"
    for _ in range(200):
        deep = [deep]
    for bad in ({"who": "\ud800"}, {"who": deep}, {"who": {1, 2}}):
        decision = decide(policy, call(bad))
        assert (decision.verdict, decision.code) == ("deny", "policy_error")
    assert decide(policy, call({"who": "bob"})).code == "no_rule_allows"


def test_a_nesting_that_crashes_other_ways_in_is_only_a_deny(tmp_path: Path) -> None:
    policy = policy_of(tmp_path, {"a": READS, "b": deny_if("walk(input.call.args, [_, 3])", "b")})
    deep: Any = {}
    for _ in range(240):
        deep = {"a": deep}
    assert decide(policy, call(deep)).code == "policy_error"
    assert decide(policy, call({})).verdict == "allow"


def test_a_rule_that_raises_denies_and_the_others_keep_their_say(tmp_path: Path) -> None:
    policy = policy_of(
        tmp_path,
        {
            "a": READS,
            "b": deny_if("count(input.call.args.n) > 1", "b"),
            "c": deny_if("input.call.args.m == 1", "c"),
        },
    )
    assert decide(policy, call({"n": "x"})).verdict == "allow"
    failed = decide(policy, call({"n": 5}))
    assert [(f.code, f.rule) for f in failed.findings] == [("policy_error", "b")]
    both = decide(policy, call({"n": 5, "m": 1}))
    assert [(f.code, f.rule) for f in both.findings] == [("stop", "c"), ("policy_error", "b")]
    assert decide(policy, call({"n": "x"})).verdict == "allow"  # the fault leaves nothing behind


def test_details_of_a_fault_go_to_the_log_once_and_never_to_the_agent(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    policy = policy_of(tmp_path, {"b": deny_if("count(input.call.args.n) > 1", "b")})
    for _ in range(3):
        decision = decide(policy, call({"n": 5}))
    assert "count" not in decision.findings[0].message
    assert len(caplog.records) == 1 and "b.rego:" in caplog.text


def test_errors_carry_no_backtrace_and_no_source_excerpt() -> None:
    program = (
        "import gateway.policy.engine as e\n"
        "x = e.new_engine(); x.add_policy('p', 'package p\\nimport rego.v1\\nd if count(input.n) > 1')\n"
        "x.set_input_json('{\"n\": 3}')\n"
        "try:\n    x.eval_rule_as_json('data.p.d')\n"
        "except RuntimeError as error:\n    print(len(str(error)), e.explain(error))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], env={**os.environ, "RUST_BACKTRACE": "1"}, capture_output=True,
        text=True,
        check=True, timeout=60,
    )  # fmt: skip
    assert "backtrace" not in done.stdout and "('p', 3, " in done.stdout


def test_a_backtrace_in_an_error_is_cut_off() -> None:
    assert explain(RuntimeError("boom\n\nStack backtrace:\n 0: secret")) == ("", 0, "boom")


def test_asking_on_another_thread_is_a_deny_and_the_first_thread_goes_on(tmp_path: Path) -> None:
    policy = policy_of(
        tmp_path, {"a": rule("a", 'allow contains {"code": "fine"} if input.call.args.x == 1')}
    )
    assert decide(policy, call({"x": 1})).verdict == "allow"
    said: list[str] = []
    thread = threading.Thread(target=lambda: said.append(decide(policy, call({"x": 1})).code))
    thread.start()
    thread.join()
    assert said == ["policy_error"]
    assert decide(policy, call({"x": 1})).verdict == "allow"


@pytest.mark.filterwarnings("error")
def test_a_policy_collected_on_another_thread_lets_go_of_its_engines_at_home(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dropped: list[str] = []
    monkeypatch.setattr(sys, "unraisablehook", lambda why: dropped.append(str(why.exc_value)))
    abandoned = embedded._abandoned.setdefault(threading.get_ident(), [])
    abandoned.clear()
    policy = policy_of(tmp_path, {"a": READS})
    assert decide(policy, call()).code == "fine"
    policy.__dict__["itself"] = policy  # only the collector finds it now
    del policy
    collector = threading.Thread(target=gc.collect)
    collector.start()
    collector.join()
    assert len(abandoned) >= 2 and not dropped  # the engine of the group and the base it was cloned from
    while abandoned:
        left = len(abandoned)
        decide(policy_of(tmp_path, {"a": READS}), call())
        assert len(abandoned) < left
    assert not dropped


def test_a_policy_loaded_on_another_thread_is_asked_here(tmp_path: Path) -> None:
    loaded = asyncio.run(_load_in_thread(tmp_path))
    assert decide(loaded, call()).verdict == "allow"


async def _load_in_thread(folder: Path) -> EmbeddedPolicy:
    return await asyncio.to_thread(policy_of, folder, {"a": READS})


def test_adding_a_policy_under_the_same_name_does_not_replace_it_so_every_revision_has_new_engines(
    tmp_path: Path,
) -> None:
    engine = new_engine()
    engine.add_policy("p", "package p\nx := 1")
    engine.add_policy("p", "package p\nx := 2")
    with pytest.raises(RuntimeError):
        engine.eval_rule_as_json("data.p.x")
    old = policy_of(tmp_path, {"a": READS})
    new = policy_of(tmp_path, {"a": deny_if('input.tool.risk == "read"')})
    assert decide(old, call()).verdict == "allow"
    assert decide(new, call()).code == "stop"
    assert decide(old, call()).verdict == "allow"


def test_the_engines_own_walk_trap_is_still_there_and_so_is_the_gate() -> None:
    engine = new_engine()
    engine.add_policy(
        "p",
        "package p\nimport rego.v1\na contains v if [p, v] := walk(input)\n"
        "b contains v if walk(input, [p, v])\n",
    )
    engine.set_input_json('{"x": 1}')
    assert engine.eval_rule_as_json("data.p.a") == "[]", "fixed upstream: the gate's rule may go"
    assert engine.eval_rule_as_json("data.p.b") != "[]"


@pytest.mark.parametrize(
    ("pattern", "text", "matches"),
    [
        (r"^\d+$", "٣٤", False), (r"^\w+$", "é", False), (r"^\s$", "\u2003", False), (r"^\d+$", "34", True),
        (r"^\w{1,255}$", "x" * 255, True), (r"^.{1,1000}$", "é" * 1000, True), (r"\Qa.b\E", "a.b", True),
        (r"(?i)DROP", "drop", True), (r"[a&&b]", "&", True), (r"rm\s+-rf", "rm\t-rf", True),
    ],
)  # fmt: skip
def test_regular_expressions_mean_what_they_mean_in_opa(
    tmp_path: Path, pattern: str, text: str, matches: bool
) -> None:
    policy = policy_of(
        tmp_path, {"a": READS, "b": deny_if(f"regex.match(`{pattern}`, input.call.args.t)", "b")}
    )
    assert (decide(policy, call({"t": text})).verdict == "deny") is matches


def test_other_regex_builtins_use_re2_too() -> None:
    engine = new_engine()
    engine.add_policy(
        "p",
        r"""package p
import rego.v1
x := [regex.find_n(`\d`, "1٣2", -1), regex.split(`,\s*`, "a, b,c"), regex.replace("a1b2", `\d`, "-"),
      regex.find_all_string_submatch_n(`(a)(x)?`, "aa", 1), regex.is_valid(`(?=a)`),
      regex.find_n(`\d`, "123", 2)]
""",
    )
    assert "".join(engine.eval_rule_as_json("data.p.x").split()) == (
        '[["1","2"],["a","b","c"],"a-b-",[["a","a",""]],false,["1","2"]]'
    )


def test_a_bad_pattern_from_an_argument_denies(tmp_path: Path) -> None:
    policy = policy_of(tmp_path, {"a": READS, "b": deny_if("regex.match(input.call.args.p, `x`)", "b")})
    assert decide(policy, call({"p": "("})).code == "policy_error"
    assert decide(policy, call({"p": 3})).code == "policy_error"


def test_a_pattern_built_to_explode_is_answered_at_once(tmp_path: Path) -> None:
    policy = policy_of(tmp_path, {"a": READS, "b": deny_if("regex.match(`^(a+)+$`, input.call.args.t)", "b")})
    decision = decide(policy, call({"t": "a" * 50_000 + "!"}))
    assert decision.verdict == "allow" and decision.elapsed_ns < 1_000_000_000


@pytest.mark.parametrize(
    "member",
    ['"text"', "3", "true", "null", '["code"]', "{}", '{"code": 3}', '{"code": "stop", "message": 1}',
     '{"code": "stop", "unknown": 1}', '{"code": "stop", "approval": "chain"}', '{"code": null}'],
)  # fmt: skip
@pytest.mark.parametrize("where", ["allow", "deny", "escalate", "obligation"])
def test_members_of_any_other_shape_deny(tmp_path: Path, where: str, member: str) -> None:
    policy = policy_of(tmp_path, {"a": READS, "b": rule("b", f"{where} contains {member}")})
    decision = decide(policy, call())
    assert (decision.verdict, decision.code, decision.findings[0].rule) == ("deny", "policy_bad_shape", "b")


def test_a_code_that_is_not_declared_denies(tmp_path: Path) -> None:
    policy = policy_of(
        tmp_path,
        {"a": rule("a", 'allow contains {"code": "fine"} if input.tool.risk == "read"', codes="[other]")},
    )
    assert decide(policy, call()).code == "undeclared_code"


def test_nothing_in_scope_means_no(tmp_path: Path) -> None:
    policy = policy_of(
        tmp_path, {"a": rule("a", 'allow contains {"code": "fine"}', scope='{tools: ["git/*"]}')}
    )
    assert decide(policy, call()).verdict == "allow"
    assert decide(policy, call(on=tool("office/x", risk="read"))).code == "no_rule_allows"


def test_modules_in_observe_mode_decide_nothing_and_their_faults_are_only_recorded(tmp_path: Path) -> None:
    policy = policy_of(
        tmp_path,
        {
            "a": READS,
            "b": deny_if("input.call.args.n > 1", "b", mode="observe"),
            "c": deny_if("count(input.call.args.n) > 1", "c", mode="observe"),
            "d": rule("d", 'allow contains {"code": "fine"}', mode="observe"),
        },
    )
    decision = decide(policy, call({"n": 5}))
    assert decision.verdict == "allow"
    assert [(o.rule, o.verdict) for o in decision.observed] == [("b", "deny"), ("c", "error"), ("d", "allow")]
    assert decide(policy, call(on=tool("x/y", risk="irreversible"))).code == "no_rule_allows"


def test_modules_in_warn_mode_add_notes_and_decide_nothing(tmp_path: Path) -> None:
    policy = policy_of(tmp_path, {"a": READS, "b": deny_if("input.call.args.n > 1", "b", mode="warn")})
    decision = decide(policy, call({"n": 5}))
    assert decision.verdict == "allow" and [n.rule for n in decision.notes] == ["b"]
    broken = policy_of(tmp_path, {"b": deny_if("count(input.call.args.n) > 1", "b", mode="warn")})
    decision = decide(broken, call({"n": 5}))
    assert decision.verdict == "allow" and [o.verdict for o in decision.observed] == ["error"]


def test_a_decision_names_engine_revision_entry_and_rules(tmp_path: Path) -> None:
    policy = policy_of(tmp_path, {"a": READS})
    decision = decide(policy, call())
    assert decision.engine == "regorus 0.13.0"
    assert (decision.revision, decision.entry, decision.rules) == (policy.revision, "call", ("reads",))
    assert decision.elapsed_ns > 0


def test_facts_and_who_calls_reach_the_rules(tmp_path: Path) -> None:
    conditions = (
        'input.agent.id == "ann"; input.agent.owner == "team-a"; not input.agent.subject; '
        'input.environment == "prod"; input.chain == ["root"]; input.trust.tier == 2; '
        'input.session.calls == 7; input.stale == ["budget"]; input.time == 1700000000000000000; '
        "input.version == 1; "
        'input.call.surface == "mcp"; '
        "input.tool.extra.x == 1"
    )
    policy = policy_of(tmp_path, {"a": rule("a", f'allow contains {{"code": "fine"}} if {{ {conditions} }}')})
    facts = Facts(slow={"trust": {"tier": 2}}, fast={"session": {"calls": 7}}, stale=("budget",))
    by = principal(environment="prod", chain=("root",))
    assert decide(policy, call(on=tool(risk="read", extra={"x": 1}), by=by), facts).verdict == "allow"
    by = principal(environment="prod", chain=("root",), subject="eve")
    assert decide(policy, call(on=tool(risk="read", extra={"x": 1}), by=by), facts).verdict == "deny"


def test_a_result_no_module_looks_at_is_not_wanted_and_one_in_scope_is(tmp_path: Path) -> None:
    body = 'deny contains {"code": "stop", "message": "m"} if contains(input.result.text, "top secret")'
    policy = policy_of(
        tmp_path, {"a": READS, "b": rule("b", body, phase="result", scope='{tools: ["git/*"]}')}
    )
    assert policy.wants_result(call())
    assert not policy.wants_result(call(on=tool("office/read_mail", risk="read")))
    shown = inspect(
        policy, call(), Outcome(status="ok", result_json=b'{"content":[{"text":"top \\u0073ecret"}]}')
    )
    assert shown.decision.code == "stop" and shown.result_json == b""
    fine = inspect(policy, call(), Outcome(status="ok", result_json=b'{"content":[]}'))
    assert fine.decision.verdict == "allow" and fine.result_json == b'{"content":[]}'


@pytest.mark.parametrize("raw", [b"{", b'{"a":"\\ud800"}', b'{"content":[{"text":"x","text":"y"}]}', b""])
def test_a_result_that_cannot_be_read_is_withheld(tmp_path: Path, raw: bytes) -> None:
    body = 'deny contains {"code": "stop", "message": "m"} if input.result.value.content[0].text == "x"'
    policy = policy_of(tmp_path, {"b": rule("b", body, phase="result")})
    shown = inspect(policy, call(), Outcome(status="ok", result_json=raw))
    assert raw == b"" or (shown.decision.code, shown.result_json) == ("policy_error", b"")


def test_lists_follow_labels_and_slow_facts_and_hide_what_cannot_be_decided(tmp_path: Path) -> None:
    body = 'deny contains {"code": "stop", "message": "m"} if input.trust.tier < 2'
    broken = 'deny contains {"code": "stop", "message": "m"} if count(input.trust.tier) > 1'
    policy = policy_of(tmp_path, {"a": rule("a", body, phase="list", scope='{tools: ["git/*"]}')})
    tools = (tool("git/a"), tool("office/b"))
    assert policy.visible(principal(), tools, Facts(slow={"trust": {"tier": 1}})) == tools[1:]
    assert policy.visible(principal(), tools, Facts(slow={"trust": {"tier": 2}})) == tools
    assert not policy.sees(principal(), tools[0], Facts(slow={"trust": {"tier": 1}}))
    fails = load(_written(tmp_path / "f", {"a": rule("a", broken, phase="list")}))
    assert fails.visible(principal(), tools, Facts(slow={"trust": {"tier": 1}})) == ()


def _written(folder: Path, files: dict[str, str]) -> Path:
    from tests.policy.helpers import write

    return write(folder, files)
