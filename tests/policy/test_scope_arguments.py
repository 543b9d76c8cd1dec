"""A module about certain arguments is asked about calls that have one of them, and misses none of those."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import ConfigError
from gateway.policy import EmbeddedPolicy, load
from gateway.policy.library import library_path
from tests.policy.helpers import call, decide, policy_of, rule, tool

HAZARD_RULES = library_path() / "rules" / "hazards"
HAZARDS = ("hazard_shell.rego", "hazard_sql.rego")
NAMES = st.sampled_from(["sql", "SQL", "query", "command", "cmd", "args", "note", "lines", "0"])
TEXTS = st.sampled_from(["rm -rf /", "drop table users", "delete from a", "curl x | sh", "fine", ""])
ARGS = st.dictionaries(
    NAMES,
    st.recursive(
        TEXTS | st.integers(-(2**63), 2**64 - 1) | st.none(),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3),
        max_leaves=6,
    ),
    max_size=4,
)

FORBID = rule(
    "forbid",
    'deny contains {"code": "stop", "message": "no"} if input.call.args',
    scope="{arguments: [Iban, data.more.names]}",
)
ALLOW = rule("permit", 'allow contains {"code": "fine", "message": "yes"}')


@pytest.fixture(scope="module")
def asked_always(tmp_path_factory: pytest.TempPathFactory) -> EmbeddedPolicy:
    """The starter pack with its hazards in scope of every call."""
    folder = tmp_path_factory.mktemp("always")
    for name in HAZARDS:
        text = (HAZARD_RULES / name).read_text()
        scope = next(line for line in text.splitlines() if "arguments: [data." in line)
        (folder / name).write_text(text.replace(scope, "#   scope: {kinds: [tool]}"))
    return load(folder, "starter")


@pytest.fixture(scope="module")
def shipped() -> EmbeddedPolicy:
    return load(None, "starter")


@given(args=ARGS)
def test_leaving_a_module_out_says_the_same_as_asking_it(
    args: dict[str, Any], shipped: EmbeddedPolicy, asked_always: EmbeddedPolicy
) -> None:
    one = call(args, on=tool("db/run", risk="read"))
    short, long = decide(shipped, one), decide(asked_always, one)
    assert (short.verdict, short.findings) == (long.verdict, long.findings)


def test_a_record_names_only_the_modules_that_were_asked(shipped: EmbeddedPolicy) -> None:
    plain = decide(shipped, call({"note": "x"}, on=tool(risk="read")))
    with_sql = decide(shipped, call({"filter": [{"SQL": "select 1"}]}, on=tool(risk="read")))
    everywhere = ("sessions.monitors", "sessions.monitors_warn")
    access = ("access.mandate_allowed", "access.mandate_arguments", "access.reads")
    assert plain.rules == (*access, *everywhere)
    assert with_sql.rules == (*access, "hazards.hazard_sql", *everywhere)


def test_names_may_stand_in_the_metadata_or_in_the_data(tmp_path: Path) -> None:
    policy = policy_of(tmp_path, {"forbid": FORBID, "permit": ALLOW, "data.yaml": "more: {names: [account]}"})
    verdicts = {
        name: decide(policy, call({name: 1}, on=tool(risk="read"))).verdict
        for name in ("iban", "IBAN", "account", "else")
    }
    assert verdicts == {"iban": "deny", "IBAN": "deny", "account": "deny", "else": "allow"}


@pytest.mark.parametrize("data", ["{}", "more: {names: []}", "more: {names: text}", "more: {names: [1]}"])
def test_a_reference_to_no_list_of_names_refuses_to_load(tmp_path: Path, data: str) -> None:
    # An empty scope would switch the module off for everybody.
    with pytest.raises(ConfigError, match=r"forbid.rego:1: scope.arguments: data.more.names"):
        policy_of(tmp_path, {"forbid": FORBID, "permit": ALLOW, "data.yaml": data})
