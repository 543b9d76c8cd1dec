"""An incident becomes tests: the same verdicts, without what nobody needs to know."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
import yaml

from gateway.breakers.event import print_of
from gateway.breakers.settings import Settings
from gateway.errors import ConfigError
from gateway.incident import Course, as_yaml, course, first_move, policy_table, read_course
from gateway.model import Facts, Finding, Principal
from gateway.policy import cases as policy_cases
from gateway.policy.bundle import read_bundle
from gateway.policy.policy import EmbeddedPolicy
from gateway.policy.testing import run_tests
from gateway.recorded import Recorded, Said
from tests.breakers.support import Life
from tests.e2e.gateway import ALLOW_ALL, rule
from tests.journal.support import call, tool

ANN = Principal(
    tenant="default", agent="bot", owner="ann@example.com", credential="k", subject="corp:ann.smith"
)
KEY = "AKIAIOSFODNN7EXAMPLE"
SECRETS = rule(
    "secrets",
    'deny contains {"code": "secret", "message": "m"} if regex.match(`AKIA[0-9A-Z]{16}`, input.call.text)',
    codes=["secret"],
)
TO_BOB = rule(
    "bob",
    'deny contains {"code": "bob", "message": "not to him"} if input.call.args.to == "bob"',
    codes=["bob"],
)
EXTERNAL = rule(
    "amount",
    'deny contains {"code": "too_much", "message": "more"} if {\n    input.call.args.amount > 100\n'
    "    input.call.provenance\n}",
    codes=["too_much"],
)


@pytest.fixture
def policy(tmp_path: Path):
    def made(*modules: str) -> EmbeddedPolicy:
        folder = tmp_path / f"policy-{len(list(tmp_path.iterdir()))}"
        folder.mkdir()
        for number, text in enumerate((ALLOW_ALL, *modules)):
            (folder / f"m{number}.rego").write_text(text)
        return EmbeddedPolicy(read_bundle(folder, None))

    return made


def recorded(verdict="allow", code="fine", args=None, sensitive=(), **facts) -> Recorded:
    made = call(tool(name="send"), args or {"to": "zoe@example.com", "text": "the plan"}, principal=ANN)
    return Recorded(
        seq=1, call_id=made.id, at_ns=made.received_ns, agent="bot", target="bank/send",
        said=Said(verdict=verdict, findings=(Finding(code=code, message=""),)), call=made,
        facts=Facts(**facts), sensitive=tuple(sensitive),
    )  # fmt: skip


def outcomes(policy: EmbeddedPolicy, text: str, tmp_path: Path) -> list[str]:
    """What ``wardgate policy test`` says of the written file: "" for each case that passes."""
    folder = tmp_path / "written"
    folder.mkdir(exist_ok=True)
    (folder / "x_cases.yaml").write_text(text)
    cases = policy_cases.read(folder, "written")
    report = run_tests(policy.bundle, cases, wanted=lambda name: name.startswith("Incident"))
    return [result.detail for result in report.results]


def test_the_written_cases_have_the_recorded_verdicts_and_none_of_the_words(policy, tmp_path):
    engine = policy(SECRETS)
    leak = {"to": "zoe@example.com", "text": f"use {KEY}, please"}
    table = policy_table(engine, [recorded(), recorded("deny", "secret", leak)], "Incident", "a trip")
    assert outcomes(engine, table.text, tmp_path) == ["", ""]
    assert table.cases == 2
    assert table.kept == ()
    for private in ("zoe", "plan", KEY, "ann@example.com", "ann.smith", "please"):
        assert private not in table.text


def test_a_value_that_the_decision_depends_on_stays_and_is_named(policy, tmp_path):
    engine = policy(TO_BOB)
    table = policy_table(
        engine, [recorded("deny", "bob", {"to": "bob", "text": "the plan"})], "Incident", "x"
    )
    assert table.kept == ("/to",)
    assert "to: bob" in table.text
    assert "plan" not in table.text
    assert outcomes(engine, table.text, tmp_path) == [""]


def test_a_call_that_cannot_be_told_without_a_sensitive_value_is_left_out(policy):
    table = policy_table(
        policy(TO_BOB), [recorded("deny", "bob", {"to": "bob"}, sensitive=["/to"])], "Incident", "x"
    )
    assert (table.cases, table.left_out) == (0, {"sensitive": 1})


def test_the_same_text_is_the_same_placeholder_and_kept_ones_stay(policy):
    args = {"to": "zoe", "cc": ["zoe", "tim"], "path": "/etc/passwd"}
    text = policy_table(policy(), [recorded(args=args)], "Incident", "x", keep=["/path"]).text
    (case,) = yaml.safe_load(text)["Incident"]["cases"]
    assert case["args"]["to"] == case["args"]["cc"][0] != case["args"]["cc"][1]
    assert case["args"]["path"] == "/etc/passwd"


def test_what_should_have_come_out_fails_before_the_policy_is_mended_and_passes_after(policy, tmp_path):
    before = policy()
    text = policy_table(before, [recorded()], "Incident", "x", expect="deny secret").text
    assert outcomes(before, text, tmp_path) == ["is allow (fine)"]
    mended = policy(
        rule("s", 'deny contains {"code": "secret", "message": "m"} if input.call.args.to', codes=["secret"])
    )
    assert outcomes(mended, text, tmp_path) == [""]


def test_provenance_is_part_of_the_case(policy, tmp_path):
    engine = policy(EXTERNAL)
    args = {"amount": 500}
    each = recorded("deny", "too_much", args, provenance={"/amount": {"trusted": False}})
    table = policy_table(engine, [each], "Incident", "x")
    assert table.changed == 0
    assert outcomes(engine, table.text, tmp_path) == [""]


def test_calls_without_arguments_on_record_are_counted_and_not_invented(policy):
    gone = msgspec.structs.replace(recorded(), call=None, missing="no_payload")
    table = policy_table(policy(), [gone], "Incident", "x")
    assert (table.cases, table.left_out) == (0, {"no_payload": 1})


# ------------------------------------------------------------------------------------------ detectors


def looped() -> Course:
    life = Life()
    events = [life.event(args=print_of(b"a secret place"), result=print_of(b"nothing")) for _ in range(5)]
    return course([life.event(), *events], "trip x", Settings())


def test_the_course_of_a_loop_moves_the_same_breaker_at_the_same_call():
    told = looped()
    assert (told.expect.detector, told.expect.after, told.expect.event) == ("repeat", "open", 6)
    again = read_course(as_yaml(told))
    assert again == told
    assert first_move(again, Settings()) == told.expect
    assert first_move(again, Settings(repeat=7)) is None


def test_prints_do_not_leave_with_a_course():
    text = as_yaml(looped())
    assert str(print_of(b"a secret place")) not in text
    assert "call-" not in text


@pytest.mark.parametrize(
    "text",
    [
        "",
        "- 1",
        "about: x",
        "{about: x, events: [{at_ms: 0}]}",
        "{about: x, events: [{at_ms: 0, tool: t, what: no}]}",
        "{about: x, events: [{at_ms: a, tool: t}]}",
        "{about: x, events: [], more: 1}",
        "a: [",
    ],
)
def test_a_course_that_is_none_is_refused_in_words(text):
    with pytest.raises(ConfigError, match=r"\w"):
        read_course(text)
