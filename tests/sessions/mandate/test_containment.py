"""A child is never given more than its parent, in any dimension, whatever it writes or leaves out."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.errors import BadMandate
from gateway.sessions.mandate import Mandate, covers, narrowed, outside, parse, within
from tests.sessions.mandate.generated import ANY, NOW, calls, documents, some


def mandate(parent: Mandate | None = None, **parts: Any) -> Mandate:
    return parse(parts, now_ns=NOW, parent=parent, ceiling=None if parent else ANY)


PARENT: dict[str, Any] = {
    "objective": "pay invoices",
    "request": "pay ann@example.com 100 EUR (copy: bob@example.com). Account X9.",
    "tools": ["bank/*", "git/log"],
    "risks": ["read", "irreversible"],
    "arguments": {"bank/pay*": {"/amount": {"max": 100}, "/iban": {"one_of": ["A1", "B2"]}}},
    "budgets": {"calls": 10, "irreversible": 1},
    "horizon": {"actions": 5},
    "trusted_values": ["A1"],
    "milestones": [{"name": "paid", "verify": {"tool": "bank/list", "match": {"/0/state": "paid"}}}],
    "ttl_s": 3600,
}


def test_a_child_that_says_nothing_is_its_parent() -> None:
    parent = mandate(**PARENT)
    assert parse({}, now_ns=NOW, parent=parent) == parent


@pytest.mark.parametrize(
    "parts",
    [
        {"tools": ["bank/pay_invoice"], "arguments": {"bank/pay_invoice": {"/amount": {"max": 50}}}},
        {"tools": ["bank/read"]},
        {"risks": ["read"]},
        {"budgets": {"calls": 10, "writes": 3}},
        {"horizon": {"actions": 5, "minutes": 1}},
        {"ttl_s": 60},
        {"request": "100 EUR"},
        {"trusted_values": ["ann@example.com", "A1"]},
        {"trusted_values": []},
        {"trusted_values": ["bob@example.com", "X9"]},
        {"arguments": {"bank/pay*": {"/iban": {"one_of": ["B2"]}, "/note": {"forbidden": True}}}},
    ],
)
def test_a_child_may_be_narrower(parts: dict[str, Any]) -> None:
    parent = mandate(**PARENT)
    child = parse(parts, now_ns=NOW, parent=parent)
    assert within(child, parent) == []
    assert child.budgets["irreversible"] == 1
    assert not passes(child, ("bank/pay_invoice", "irreversible", {"amount": 101, "iban": "C3"}))


@pytest.mark.parametrize(
    ("parts", "at"),
    [
        ({"tools": ["bank/*", "web/search"]}, "/tools/1"),
        ({"tools": ["git/*"]}, "/tools/0"),
        ({"reads": "any"}, "/reads"),
        ({"risks": ["read", "reversible"]}, "/risks"),
        ({"budgets": {"calls": 11}}, "/budgets/calls"),
        ({"horizon": {"actions": 6}}, "/horizon/actions"),
        ({"ttl_s": 3601}, "/expires"),
        ({"request": "pay eve@example.com"}, "/request"),
        ({"trusted_values": ["eve@example.com"]}, "/trusted_values/0"),
        ({"trusted_values": ["ann@example.co"]}, "/trusted_values/0"),  # half of a value is another one
        ({"trusted_values": ["nn@example.com"]}, "/trusted_values/0"),
        ({"request": "pay ann@example.com 10"}, "/request"),
        (
            {"milestones": [{"name": "paid", "verify": {"tool": "bank/list", "match": {"/0/state": "new"}}}]},
            "/milestones/0",
        ),
        ({"milestones": []}, "/milestones"),
    ],
)
def test_a_child_is_refused_more_in_every_dimension(parts: dict[str, Any], at: str) -> None:
    with pytest.raises(BadMandate) as caught:
        parse(parts, now_ns=NOW, parent=mandate(**PARENT))
    assert at in {fault.at for fault in caught.value.faults}


def test_a_child_that_is_compared_as_it_is_has_no_limit_it_does_not_name() -> None:
    parent = mandate(**PARENT)
    bare = mandate(tools=["bank/pay"], risks=["read"])
    found = {fault.at for fault in within(bare, parent)}
    assert {"/budgets/calls", "/horizon/actions", "/expires", "/arguments", "/milestones"} <= found


@pytest.mark.parametrize(
    ("parent", "child", "kept"),
    [
        ({"max": 5}, {"max": 5}, True),
        ({"max": 5}, {"max": 6}, False),
        ({"max": 5}, {"min": 1}, False),
        ({"min": 5, "max": 9}, {"min": 6, "max": 7}, True),
        ({"max": 5}, {"one_of": [1, 5]}, True),
        ({"max": 5}, {"one_of": [1, "5"]}, False),
        ({"max": 5}, {"one_of": [1, 9], "max": 8}, True),
        ({"max_length": 2}, {"one_of": ["ab", "abc"], "max_length": 2}, True),
        ({"max": 5}, {"forbidden": True}, False),  # lets pass false, which is no number
        ({"one_of": ["a", False]}, {"forbidden": True}, True),
        ({"one_of": ["a", "b"]}, {"one_of": ["a"]}, True),
        ({"one_of": ["a", "b"]}, {"one_of": ["a", "c"]}, False),
        ({"one_of": ["a", "b"]}, {"pattern": "a"}, False),
        ({"one_of": [1]}, {"one_of": [True]}, False),
        ({"pattern": "a+"}, {"pattern": "a+"}, True),
        ({"pattern": "a+"}, {"pattern": "a"}, False),  # true, and not known
        ({"pattern": "a+"}, {"one_of": ["a", "aa"]}, True),
        ({"pattern": "a+"}, {"one_of": ["ab"]}, False),
        ({"max_length": 5}, {"max_length": 4}, True),
        ({"max_length": 5}, {"max_length": 6}, False),
        ({"max_length": 5}, {"one_of": ["12345"]}, True),
        ({"required": True}, {"max": 5}, False),
        ({"required": True}, {"required": True, "max": 5}, True),
        ({"forbidden": True}, {"one_of": [False]}, False),  # lets pass a list of false
    ],
)
def test_bounds_imply_bounds(parent: dict[str, Any], child: dict[str, Any], kept: bool) -> None:
    above = mandate(tools=["a/b"], arguments={"a/b": {"/x": parent}})
    below = mandate(tools=["a/b"], arguments={"a/*": {"/x": child}})
    assert (within(below, above) == []) is kept


def test_bounds_of_tools_the_child_does_not_have_need_not_be_kept() -> None:
    above = mandate(tools=["a/*", "b/*"], arguments={"b/*": {"/x": {"max": 1}}})
    assert within(mandate(tools=["a/x"]), above) == []
    assert within(mandate(tools=["a/x", "b/x"]), above) != []
    assert within(mandate(tools=["b/x"], arguments={"b/x": {"/x": {"max": 1}}}), above) == []
    reading = mandate(tools=["a/*"], reads="any", arguments={"b/*": {"/x": {"max": 1}}})
    assert within(mandate(tools=["a/x"], reads="any"), reading) != []  # 'b/x' may be read under both


def test_what_only_reads_may_name_any_tool_where_everything_may_be_read() -> None:
    above = mandate(tools=["git/*"], reads="any")
    assert within(mandate(tools=["web/search"], risks=["read"]), above) == []
    assert within(mandate(tools=["web/search"], risks=["read", "reversible"]), above) != []


def test_narrowing_keeps_the_request_and_the_trust_of_the_parent() -> None:
    parent = mandate(**PARENT)
    asked = mandate(
        tools=["**"],
        reads="any",
        request="pay eve",
        trusted_values=["eve", "A1"],
        budgets={"calls": 3, "writes": 2},
    )
    got = narrowed(parent, asked)
    assert (got.tools, got.reads, got.risks) == (parent.tools, "listed", parent.risks)
    assert (got.request, got.trusted_values) == (parent.request, ("A1",))
    assert got.budgets == {"calls": 3, "writes": 2, "irreversible": 1}
    assert (got.expires_ns, got.milestones) == (parent.expires_ns, parent.milestones)


# -- any mandates, any calls ------------------------------------------------------------------------------


def passes(one: Mandate, call: tuple[str, str, dict[str, Any]]) -> bool:
    target, risk, args = call
    return covers(one, target, risk) and not outside(one, target, args)


SLOW = settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))


@SLOW
@given(documents, documents, st.booleans(), st.lists(calls, min_size=10, max_size=30))
def test_what_a_child_within_covers_its_parent_covers(
    above: dict[str, Any], below: dict[str, Any], inherits: bool, asked: list[Any]
) -> None:
    parent = some({"tools": ["a/*"], **above})
    child = some(below, parent) if inherits else some({"tools": ["a/x"], **below})
    if within(child, parent):
        return
    for call in asked:
        assert passes(parent, call) or not passes(child, call), call
    assert set(child.trusted_values) <= {*parent.trusted_values, *parent.request.split()}
    for metric, limit in parent.budgets.items():
        assert child.budgets[metric] <= limit


@SLOW
@given(documents, documents, st.lists(calls, min_size=10, max_size=30))
def test_what_two_mandates_leave_is_within_both(
    above: dict[str, Any], below: dict[str, Any], asked: list[Any]
) -> None:
    parent, requested = some({"tools": ["a/*"], **above}), some({"tools": ["a/x"], **below})
    both = narrowed(parent, requested)
    assert within(both, parent) == []
    for call in asked:
        assert not passes(both, call) or (passes(parent, call) and passes(requested, call)), call


@SLOW
@given(documents)
def test_a_mandate_is_within_itself_and_narrowed_by_itself_is_itself(raw: dict[str, Any]) -> None:
    one = some({"tools": ["a/*"], **raw})
    assert within(one, one) == []
    assert narrowed(one, one).id == one.id
