"""A definition that cannot mean anything is refused, with where it stands and what to do."""

from __future__ import annotations

from typing import Any

import jsonschema_rs
import pytest

from gateway.sessions.monitors import Monitors, Unusable, read, schema
from tests.sessions.monitors.bench_monitors import DEFINITIONS

ANY = {"tools": ["*"]}
A, B, C = {"tools": ["a/a"]}, {"tools": ["b/b"]}, {"tools": ["c/c"]}

REFUSED: list[tuple[dict[str, Any], str, str]] = [
    ({}, "", "names no templates"),
    ({"at_most_n": {"match": A, "n": 1}, "never_after": {"after": A, "match": B}}, "", "names 2 templates"),
    ({"at_most_m": {"match": A}}, "", "unknown field `at_most_m`"),
    ({"at_most_n": {"match": A, "n": 1}, "on_violation": "block"}, "on_violation", "Invalid enum value"),
    ({"at_most_n": {"match": A, "n": 1}, "chain": "x"}, "chain", "on_violation: escalate"),
    ({"at_most_n": {"match": A, "n": 0}}, "at_most_n.n", ">= 1"),
    ({"at_most_n": {"match": A, "n": True}}, "at_most_n.n", "Expected `int`"),
    ({"at_most_n": {"match": A, "n": 1, "within": 5}}, "at_most_n", "unknown field `within`"),
    ({"at_most_n": {"match": {}, "n": 1}}, "at_most_n.match", "every call"),
    ({"at_most_n": {"match": {"tools": ["push"]}, "n": 1}}, "at_most_n.match.tools", "upstream/name"),
    ({"at_most_n": {"match": {"tools": []}, "n": 1}}, "at_most_n.match.tools", "length >= 1"),
    ({"at_most_n": {"match": {"risks": ["high"]}, "n": 1}}, "at_most_n.match.risks.0", "Invalid enum"),
    ({"at_most_n": {"match": {"status": ["fine"]}, "n": 1}}, "at_most_n.match.status.0", "Invalid enum"),
    ({"at_most_n": {"match": {**A, "by": ["/k"]}, "n": 1}}, "at_most_n.match.by", "monitor's own 'by'"),
    ({"at_most_n": {"match": A, "n": 65, "within_s": 60}}, "at_most_n.n", "rate_limit"),
    ({"at_most_n": {"match": A, "n": 1, "keys": 5}}, "at_most_n.keys", "give 'by'"),
    ({"at_most_n": {"match": A, "n": 1, "by": ["/k"], "keys": 257}}, "at_most_n.keys", "<= 256"),
    ({"at_most_n": {"match": A, "n": 1, "by": ["k"]}}, "at_most_n.by.0", "regex"),
    ({"at_most_n": {"match": A, "n": 1, "by": ["/k", "/k"]}}, "at_most_n.by", "twice"),
    ({"at_most_n": {"match": A, "n": 1, "within_s": 10**9}}, "at_most_n.within_s", "<="),
    ({"at_most_n": {"match": {"arguments": {"/a": {}}}, "n": 1}}, "at_most_n.match.arguments./a", "one of"),
    (
        {"at_most_n": {"match": {"arguments": {"/a": {"matches": "(?=x)"}}}, "n": 1}},
        "at_most_n.match.arguments./a.matches",
        "RE2",
    ),
    (
        {"at_most_n": {"match": {"arguments": {"/a": {"equals": 1, "matches": "x"}}}, "n": 1}},
        "at_most_n.match.arguments./a",
        "one of",
    ),
    ({"at_most_total": {"match": A, "amount": "/v", "limit": 0}}, "at_most_total.limit", ""),
    ({"at_most_total": {"match": A, "amount": "/v", "limit": 0.001}}, "at_most_total.limit", "2 decimals"),
    (
        {"at_most_total": {"match": A, "amount": "/v", "limit": 10**15, "decimals": 6}},
        "at_most_total.limit",
        "up to",
    ),
    ({"at_most_total": {"match": A, "limit": 1}}, "at_most_total", "amount"),
    ({"must_precede": {"first": A, "then": A}}, "must_precede", "the same calls"),
    (
        {"must_precede": {"first": A, "then": {**B, "status": ["ok"]}}},
        "must_precede.then.status",
        "not known",
    ),
    ({"within": {"first": A, "then": B}}, "within", "'calls', 'seconds'"),
    (
        {"cannot_follow_without": {"after": A, "match": B, "unless": B}},
        "cannot_follow_without.unless",
        "never help",
    ),
    (
        {"cannot_follow_without": {"after": A, "match": B, "unless": A}},
        "cannot_follow_without.unless",
        "never help",
    ),
    (
        {"cannot_follow_without": {"after": {"labels": ["x"]}, "match": B, "unless": C}},
        "cannot_follow_without.after.labels",
        "never_after",
    ),
    (
        {"never_after": {"after": {"labels": ["x"]}, "match": B, "by": ["/k"]}},
        "never_after.by",
        "of the session",
    ),
    ({"mutually_exclusive": {"sets": [A]}}, "mutually_exclusive.sets", "length >= 2"),
    ({"mutually_exclusive": {"sets": [A, B, A]}}, "mutually_exclusive.sets", "rule themselves out"),
    ({"rate_limit": {"match": A, "n": 1, "per_s": 0}}, "rate_limit.per_s", ">= 1"),
]


@pytest.mark.parametrize(("definition", "path", "said"), REFUSED, ids=lambda value: str(value)[:60])
def test_it_is_refused_with_its_path(definition: dict[str, Any], path: str, said: str) -> None:
    with pytest.raises(Unusable) as refused:
        read({"monitors": {"m": definition}})
    assert ".".join(refused.value.path) == f"monitors.m.{path}".rstrip(".")
    assert said in refused.value.said


@pytest.mark.parametrize(
    "value", [None, [], {}, {"monitors": []}, {"monitor": {}}, {"monitors": {}, "more": 1}]
)
def test_what_is_no_file_of_monitors_is_refused(value: Any) -> None:
    with pytest.raises(Unusable):
        read(value)


@pytest.mark.parametrize("name", ["Upper", "", "a b", "x" * 64, 5, "ümlaut", "a\n"])
def test_a_name_that_rego_could_not_read_plainly_is_refused(name: Any) -> None:
    with pytest.raises(Unusable):
        read({"monitors": {name: {"at_most_n": {"match": A, "n": 1}}}})


def test_monitors_that_would_remember_without_a_bound_are_refused() -> None:
    by = {"by": ["/k"], "keys": 256}
    definitions = {f"m{n}": {"at_most_n": {"match": A, "n": 3, **by}} for n in range(4)}
    with pytest.raises(Unusable, match="lower 'keys'") as refused:
        Monitors(read({"monitors": definitions}))
    assert refused.value.path == ("monitors", "m2")
    with pytest.raises(Unusable, match="more than 64"):
        Monitors(read({"monitors": {f"m{n}": {"at_most_n": {"match": A, "n": 3}} for n in range(65)}}))
    silent = {f"m{n}": {"at_most_n": {"match": A, "n": 3}, "on_violation": "nothing"} for n in range(9)}
    with pytest.raises(Unusable, match="nothing"):
        Monitors(read({"monitors": silent}))


def test_eight_keyed_monitors_of_any_kind_fit_without_a_thought() -> None:
    for template in ("rate_limit", "at_most_n"):
        window = {"per_s": 60} if template == "rate_limit" else {"within_s": 60}
        body = {"match": A, "n": 60, "by": ["/k"], **window}
        Monitors(read({"monitors": {f"m{n}": {template: body} for n in range(8)}}))


def test_every_template_has_words_of_its_own() -> None:
    said = {
        monitor.template: monitor.message for monitor in Monitors(read({"monitors": DEFINITIONS})).monitors
    }
    assert said["must_precede"] == "first shop/get_order must have succeeded (for each /order_id)"
    assert said["within"] == "bank/trade is only allowed after bank/quote, within 60 s"
    assert said["never_after"] == "effects egress is not allowed any more after labels secret"
    assert all(said.values())


def test_the_schema_for_editors_agrees_with_the_reader() -> None:
    validator = jsonschema_rs.validator_for(schema())
    assert validator.is_valid({"monitors": DEFINITIONS})
    for definition, _, said in REFUSED:
        # What only the reader sees says more than one member together, or what a number stands for.
        if any(
            word in said
            for word in ("Invalid", ">=", "<=", "unknown", "templates", "length", "regex", "Expected")
        ):
            assert not validator.is_valid({"monitors": {"m": definition}}), definition
