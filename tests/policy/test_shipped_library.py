"""The shipped packs: their own Rego tests pass, and they do for the demo's tools what the README says."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from gateway.model import Call, Outcome
from gateway.policy import EmbeddedPolicy, load, run_tests
from tests.policy.helpers import call, decide, inspect, policy_of, principal, rule, tool, write

ACCOUNTING = principal(labels=("accounting",))
PAY = tool("office/pay_invoice", risk="irreversible", effects=("money",), source="operator")
MAIL = tool("office/send_mail", risk="irreversible", effects=("egress",), source="operator")


@pytest.fixture(scope="module")
def starter() -> EmbeddedPolicy:
    return load(None, "starter")


@pytest.fixture(scope="module")
def strict() -> EmbeddedPolicy:
    return load(None, "strict")


def pay(amount: object) -> Call:
    return call({"payee_iban": "DE00", "amount_micro_usd": amount, "reference": "R"}, on=PAY, by=ACCOUNTING)


def test_starter_allows_reads_and_reversible_writes(starter: EmbeddedPolicy) -> None:
    assert decide(starter, call(on=tool(risk="read"))).code == "read_allowed"
    assert decide(starter, call(on=tool("git/git_add", risk="reversible"))).verdict == "allow"


def test_starter_asks_a_person_for_what_cannot_be_undone_and_for_unknown_tools(
    starter: EmbeddedPolicy,
) -> None:
    for asked in (call(on=tool("git/git_reset", risk="irreversible")), call(on=tool("new/thing"))):
        decision = decide(starter, asked)
        assert (decision.verdict, decision.code) == ("escalate", "irreversible_needs_person")
        assert decision.findings[0].chain == "default"
        assert decision.findings[0].remedy


def test_starter_stops_a_secret_in_a_mail_even_though_a_person_would_be_asked(
    starter: EmbeddedPolicy,
) -> None:
    decision = decide(starter, call({"to": "a@b.example", "body": "key AKIAABCDEFGHIJKLMNOP"}, on=MAIL))
    assert (decision.verdict, decision.code) == ("deny", "secret_in_arguments")


def test_starter_hides_writing_tools_from_a_read_only_agent(starter: EmbeddedPolicy) -> None:
    from gateway.model import Facts

    reader = principal(labels=("read-only",))
    tools = (tool(risk="read"), tool("git/git_commit", risk="reversible"), tool("x/unknown"))
    assert starter.visible(reader, tools, Facts()) == tools[:1]
    assert starter.visible(principal(), tools, Facts()) == tools


def test_starter_takes_secrets_out_of_text_and_structure_of_a_result(starter: EmbeddedPolicy) -> None:
    secret = "ghp_abcdefghijklmnopqrstuvwxyz0123456789"
    body = {
        "content": [{"type": "text", "text": f"token: {secret}"}],
        "structuredContent": {"log": [f"used {secret}"], "count": 1, "password": "hunter2"},
    }
    shown = inspect(starter, call(), Outcome(status="ok", result_json=json.dumps(body).encode()))
    assert shown.decision.verdict == "allow"
    result = json.loads(shown.result_json)
    assert secret.encode() not in shown.result_json and b"hunter2" not in shown.result_json
    assert result["structuredContent"] == {
        "log": ["used [redacted:github_token]"], "count": 1, "password": "[redacted]",
    }  # fmt: skip


def test_a_clean_result_is_relayed_byte_for_byte(starter: EmbeddedPolicy) -> None:
    raw = b'{ "content" : [ {"type":"text","text":"caf\\u00e9 1.0"} ] }'
    assert inspect(starter, call(), Outcome(status="ok", result_json=raw)).result_json == raw


def test_strict_pays_small_amounts_asks_for_larger_ones_and_refuses_huge_ones(strict: EmbeddedPolicy) -> None:
    assert decide(strict, pay(1_000_000)).verdict == "allow"
    larger = decide(strict, pay(60_000_000))
    assert (larger.verdict, larger.findings[0].chain) == ("escalate", "payments-high")
    assert decide(strict, pay(20_000_000_000)).code == "payment_over_cap"
    assert decide(strict, pay("60")).code == "payment_amount_unclear"


def test_strict_refuses_a_tool_that_no_label_of_the_agent_lists(strict: EmbeddedPolicy) -> None:
    asked = call(on=tool("git/git_log", risk="read"), by=ACCOUNTING)
    assert decide(strict, asked).code == "tool_not_listed"


def test_strict_lets_mail_go_only_to_listed_domains(strict: EmbeddedPolicy) -> None:
    assert (
        decide(strict, call({"to": "eve@evil.example"}, on=MAIL, by=ACCOUNTING)).code
        == "destination_not_listed"
    )
    assert decide(strict, call({"to": "bob@example.com"}, on=MAIL, by=ACCOUNTING)).verdict == "escalate"


def test_strict_lowers_a_page_size_over_customer_records(strict: EmbeddedPolicy) -> None:
    support = principal(labels=("support",))
    asked = call(
        {"limit": 5000, "q": "x"}, on=tool("office/get_customer", risk="read", confidentiality=2), by=support
    )
    decision = decide(strict, asked)
    assert decision.verdict == "allow"
    assert strict.modify(asked, decision) == {"limit": 50, "q": "x"}


def test_strict_guards_production(strict: EmbeddedPolicy) -> None:
    by = principal(labels=("developer",), environment="production")
    asked = call(on=tool("git/git_commit", risk="reversible", source="operator"), by=by)
    assert decide(strict, asked).code == "production_not_permitted"


def test_a_folder_lies_over_a_pack_and_changes_its_limits(tmp_path: Path) -> None:
    write(tmp_path, {"data.yaml": "payments: {unattended_micro_usd: 1}\n"})
    policy = load(tmp_path, "strict")
    assert decide(policy, pay(2)).verdict == "escalate"
    assert policy.revision != load(None, "strict").revision


def test_a_module_of_the_folder_replaces_the_packs_of_the_same_package(tmp_path: Path) -> None:
    body = 'deny contains {"code": "stop", "message": "no reading today"} if input.tool.risk == "read"'
    policy = policy_of(tmp_path, {"mine": rule("reads", body)}, "starter")
    assert decide(policy, call()).code == "stop"


def test_an_empty_suite_does_not_pass(tmp_path: Path) -> None:
    policy = policy_of(
        tmp_path, {"a": rule("a", 'allow contains {"code": "fine"} if input.tool.risk == "read"')}
    )
    bundle = policy.bundle
    only_ours = type(bundle)(**{f: getattr(bundle, f) for f in bundle.__struct_fields__} | {"tests": ()})
    assert not run_tests(only_ours).passed


def test_a_failing_rego_test_is_reported_with_its_place(tmp_path: Path) -> None:
    policy = policy_of(
        tmp_path,
        {
            "a": rule("a", 'allow contains {"code": "fine"} if input.tool.risk == "read"'),
            "a_test.rego": "package a_test\nimport rego.v1\ntest_wrong if 1 == 2\ntest_right if 1 == 1\n",
        },
    )
    failed = run_tests(policy.bundle).failed
    assert [(item.name, item.line) for item in failed] == [("a_test.test_wrong", 3)]
