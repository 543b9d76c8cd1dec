"""What the gate refuses, each with the file, the line and what to do instead."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from gateway.errors import ConfigError
from gateway.policy import load
from tests.policy.helpers import policy_of, rule, write

GOOD = 'allow contains {"code": "fine"} if input.tool.risk == "read"'


def refused(folder: Path, files: dict[str, str]) -> str:
    with pytest.raises(ConfigError) as caught:
        load(write(folder, files))
    return str(caught.value)


def deny_if(condition: str, **custom: str) -> str:
    return rule("a", f'deny contains {{"code": "stop", "message": "m"}} if {{\n\t{condition}\n}}', **custom)


FIRST_LINE = 12  # of the condition in ``deny_if``


@pytest.mark.parametrize(
    ("condition", "said"),
    [
        ('http.send({"url": "http://x", "method": "get"}).status_code == 200', "'http.send' is refused"),
        ("time.now_ns() > 1", "use input.time"),
        ("rand.intn(input.call.digest, 2) == 1", "the same when replayed"),
        ("opa.runtime().env.HOME", "secrets included"),
        ("count(numbers.range(1, input.call.args.n)) > 3", "endless"),
        ('crypto.sha256(input.call.digest) == "x"', "no built-in of this engine"),
        ('input.call.args.never; io.jwt.decode(input.call.args.t)', "no built-in of this engine"),
        ("[p, v] := walk(input.call.args)", "write 'walk(x, [p, v])'"),
        ("[p, v] = walk(input.call.args)", "write 'walk(x, [p, v])'"),
        ('glob.match("a:*", [":"], input.call.target)', "delimiter ':'"),
        ('glob.match("a*", input.call.args.d, input.call.target)', "literal list"),
        ("regex.match(`(?=x)`, input.call.target)", "regular expression"),
        ("regex.match(`[`, input.call.target)", "regular expression"),
        ("input.call.arguments.x == 1", "'input.call.arguments.x' is not in the input"),
        ("input.agnet.id == 1", "is not in the input"),
        ("input.tool.risk.level == 1", "its parent is a plain value"),
        ("x := input; x.call.args.y == 1", "name the paths it needs"),
        ("input.result.text == 1", "not known in phase 'call'"),
        ("input.call.args.n > data.limts.n", "'data.limts.n' is in no data file"),
        ("some x; data[x]", "reads all of 'data'"),
        ('input.call.target == "x" with input.call.target as "x"', "only tests may use it"),
    ],
)  # fmt: skip
def test_a_rule_that_would_silently_not_fire_is_refused_at_its_line(
    tmp_path: Path, condition: str, said: str
) -> None:
    message = refused(tmp_path, {"a": deny_if(condition)})
    assert said in message
    assert f"a.rego:{FIRST_LINE}: " in message


def test_a_forbidden_builtin_is_found_behind_an_alias_free_guard_and_in_a_library(tmp_path: Path) -> None:
    library = "package mine\nimport rego.v1\nnow(x) := time.now_ns() + x\n"
    message = refused(tmp_path, {"lib": library, "a": deny_if("data.mine.now(1) > 3")})
    assert "lib.rego:3: 'time.now_ns' is refused" in message


def test_paths_read_by_a_library_are_judged_for_the_phase_of_the_rule(tmp_path: Path) -> None:
    library = "package mine\nimport rego.v1\nbig if input.session.calls > 3\n"
    body = 'deny contains {"code": "stop", "message": "m"} if helper.big'
    files = {"lib": library, "a": rule("a", body, imports="import data.mine as helper", phase="list")}
    assert "not known in phase 'list' (used by" in refused(tmp_path, files)


def test_paths_are_found_through_import_aliases(tmp_path: Path) -> None:
    body = 'deny contains {"code": "stop", "message": "m"} if c.argz.x == 1'
    assert "'input.call.argz.x' is not in the input" in refused(
        tmp_path, {"a": rule("a", body, imports="import input.call as c")}
    )


@pytest.mark.parametrize("phase", ["result", "list"])
def test_allow_and_escalate_do_nothing_after_the_call_and_in_lists(tmp_path: Path, phase: str) -> None:
    message = refused(
        tmp_path,
        {"a": rule("a", 'allow contains {"code": "fine"} if input.tool.risk == "read"', phase=phase)},
    )
    assert f"'allow' does nothing in phase '{phase}'" in message


@pytest.mark.parametrize(
    "head", ["deny := true if", 'deny["x"] := 1 if', "default deny := false\ndeny := true if"]
)
def test_a_set_must_be_a_partial_set(tmp_path: Path, head: str) -> None:
    assert "must be a set" in refused(tmp_path, {"a": rule("a", f'{head} input.tool.risk == "read"')})


def test_a_module_must_contribute_something(tmp_path: Path) -> None:
    assert "contributes nothing" in refused(tmp_path, {"a": rule("a", "helper := 1")})


def test_a_module_without_metadata_is_refused(tmp_path: Path) -> None:
    text = f"package wardgate.rules.a\nimport rego.v1\n{GOOD}\n"
    assert "a.rego:1: a rule module needs a '# METADATA' block" in refused(tmp_path, {"a": text})


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("scpoe: {tools: ['git/*']}", "scpoe"),
        ("mode: audit", "audit"),
        ("phase: before", "before"),
        ("scope: {risk: [read]}", "risk"),
        ("scope: {tools: [git_log]}", "must be 'upstream/name'"),
        ("codes: [policy_error]", "belongs to the gateway"),
        ("codes: [Bad-Code]", "codes"),
    ],
)
def test_metadata_with_a_mistake_is_refused(tmp_path: Path, line: str, said: str) -> None:
    key = line.split(":")[0]
    text = "\n".join(x for x in rule("a", GOOD).splitlines() if not x.startswith(f"#   {key}:"))
    text = text.replace("#   id: a\n", f"#   id: a\n#   {line}\n")
    message = refused(tmp_path, {"a": text})
    assert said in message
    assert "a.rego:1: METADATA" in message


def test_two_modules_of_one_package_or_id_are_refused(tmp_path: Path) -> None:
    message = refused(tmp_path, {"a": rule("a", GOOD), "b": rule("a", GOOD)})
    assert "the package 'wardgate.rules.a' is used twice" in message
    assert "a.rego:1" in message and "b.rego:1" in message


def test_a_parse_error_names_file_and_line_and_shows_no_backtrace(tmp_path: Path) -> None:
    message = refused(tmp_path, {"a": rule("a", "deny contains x if {{{")})
    assert "a.rego:12: expecting" in message
    assert "backtrace" not in message.lower()


@pytest.mark.parametrize("body", ['deny contains $"x{1}" if true', "deny contains 1 if input.as"])
def test_syntax_the_engine_lacks_is_a_parse_error_and_not_a_silent_rule(tmp_path: Path, body: str) -> None:
    assert "a.rego:11:" in refused(tmp_path, {"a": rule("a", body)})


def test_recursion_is_found_before_a_call_finds_it(tmp_path: Path) -> None:
    body = 'text := concat(" ", words)\nwords contains text if {\n\twalk(input.call.args, [_, text])'
    body += "\n\tis_string(text)\n}\n"
    body += 'deny contains {"code": "stop", "message": "m"} if text == "x"'
    assert "recursion" in refused(tmp_path, {"a": rule("a", body)})


def test_all_problems_are_reported_at_once(tmp_path: Path) -> None:
    message = refused(tmp_path, {"a": deny_if("time.now_ns() > 1"), "b": rule("b", "deny contains x if {{{")})
    assert "b.rego" in message
    message = refused(tmp_path, {"b": rule("b", "deny := 1")})
    assert "time.now_ns" in message and "must be a set" in message


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("data.yaml", "limits: 1\nlimits: 2\n", "given twice"),
        ("data.json", '{"a": 1, "a": 2}', "same key twice"),
        ("data.yaml", "when: 2026-01-01\n", "quote it"),
        ("data.yaml", "x: .nan\n", "finite"),
        ("data.yaml", "x: 99999999999999999999999\n", "64 bits"),
        ("data.yaml", "[1]\n", "mapping"),
        ("data.yaml", "a: {b\n", "not valid YAML"),
        ("data.yaml", "patterns: {x: '(?=y)'}\n", "regular expression"),
        ("data.yaml", "wardgate: {rules: {a: 1}}\n", "rename one"),
    ],
)
def test_data_that_can_be_misread_is_refused(tmp_path: Path, name: str, text: str, said: str) -> None:
    assert said in refused(tmp_path, {"a": rule("a", GOOD), name: text})


def test_data_lies_where_its_folder_says(tmp_path: Path) -> None:
    body = 'deny contains {"code": "stop", "message": "m"} if input.call.args.n > data.limits.pay.max'
    policy = policy_of(tmp_path, {"a": rule("a", body), "limits/pay/data.yaml": "max: 3\n"})
    assert policy.bundle.data == {"limits": {"pay": {"max": 3}}}


def test_an_empty_or_missing_folder_does_not_start(tmp_path: Path) -> None:
    assert "no rule module found" in refused(tmp_path, {"data.yaml": "a: 1\n"})
    with pytest.raises(ConfigError, match="no such policy folder"):
        load(tmp_path / "missing")
    with pytest.raises(ConfigError, match="there are data-protection, devops, payments, starter, strict"):
        load(None, "lenient")


def test_the_revision_is_the_content_and_not_the_place(tmp_path: Path) -> None:
    one = policy_of(tmp_path / "one", {"a": rule("a", GOOD), "data.yaml": "n: 1\n"})
    two = policy_of(tmp_path / "two", {"a": rule("a", GOOD), "data.yaml": "n: 1\n"})
    three = policy_of(tmp_path / "three", {"a": rule("a", GOOD), "data.yaml": "n: 2\n"})
    assert one.revision == two.revision != three.revision


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ('deny contains {"code": "stop"} if not {input.call.args.a}', "not {…}"),
        ('deny contains {"code": "stop"} if sprintf(input.call.args.a, [1]) == "x"', "literal string"),
        ('deny contains {"code": "stop"} if sprintf("%05d", [1]) == "x"', "'%0' is not supported"),
        ('deny contains {"code": "stop"} if p.a.q\np[x].q contains 1 if some x in ["a"]', "after a variable"),
        ('deny contains {"code": "stop"} if uuid.parse(input.call.args.a)', "differs from OPA"),
        ('deny contains {"code": "stop"} if yaml.is_valid(input.call.args.a)', "differs from OPA"),
        ('deny contains {"code": "stop"} if not startswith(input.call.args.a, "x")', "'input.call.args.a'"),
        ('deny contains {"code": "stop"} if not input.call.args.a in ["x"]', "'input.call.args.a'"),
        ('deny contains {"code": "stop"} if not input.session.calls > 3', "'input.session.calls'"),
        ('deny contains {"code": "stop"} if not input.mandate.tools != []', "'input.mandate.tools'"),
        ('deny contains {"code": "stop"} if not lower(input.call.args.a) == "x"', "'input.call.args.a'"),
        (
            'deny contains {"code": "stop"} if { some n in ["a"]; not input.call.args[n] in ["x"] }',
            "'input.call.args[…]'",
        ),
        ('deny contains {"code": "stop"} if not p(q(input.call))\np(x) if x == 1\nq(x) := x.y', "'q(…)'"),
    ],
)
def test_what_opa_reads_otherwise_is_refused(tmp_path: Path, body: str, message: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(message)):
        policy_of(tmp_path, {"a": rule("a", body)})


@pytest.mark.parametrize(
    "said",
    [
        "not input.call.args.a",
        'not input.call.args.a == "x"',
        'not input.tool.risk in ["read"]',
        'given := input.call.args.a\nnot given in ["x"]',
        "not small\n}\nsmall if {\n input.session.calls < 3",
        "not count([n | some n in input.session.labels]) == 0",
    ],
)
def test_what_is_negated_alike_in_opa_loads(tmp_path: Path, said: str) -> None:
    policy_of(tmp_path, {"a": rule("a", f'deny contains {{"code": "stop"}} if {{\n{said}\n}}')})


def test_an_import_that_changes_not_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="changes 'not'"):
        body = 'deny contains {"code": "stop"} if not input.call.args.a'
        policy_of(tmp_path, {"a": rule("a", body, imports="import future.keywords.not")})
