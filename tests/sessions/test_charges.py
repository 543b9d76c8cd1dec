"""What a call is charged is read exactly, or it is unreadable."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.model import Cost, Manifest
from gateway.sessions.charges import Unreadable, amount, charges_after, charges_of


@pytest.mark.parametrize(
    ("value", "unit", "micro_usd"),
    [
        (5, 10_000, 50_000),
        (0, 10_000, 0),
        ("12.50", 1_000_000, 12_500_000),
        (12.1, 1_000_000, 12_100_000),  # not 12_099_999.999…
        (0.1, 1, 1),  # a part of a unit is a whole one
        ("0.0000001", 1_000_000, 1),
        (1e-7, 1_000_000, 1),
        (2**53, 1, 2**53),
        ("9007199254740992", 1, 2**53),
    ],
)
def test_amounts_are_read_exactly_and_rounded_up(value: Any, unit: int, micro_usd: int) -> None:
    assert amount({"amount": value}, "/amount", unit) == micro_usd


@pytest.mark.parametrize(
    "value",
    [
        True, False, None, [5], {"value": 5}, -1, -0.0, -1e-300, float("nan"), float("inf"), 1e308, 1e300,
        2**53 + 1, 10**40, "", " 5", "5 ", "+5", "-5", "1e3", "0x10", "1_000", "1,000", "٣", "５", "NaN",
        "Infinity", "007", ".5", "5.", "5\n", "9" * 19, "1" * 10_000, "9007199254740993", "12.50 EUR",
    ],
)  # fmt: skip
def test_what_is_no_amount_is_unreadable_and_never_nothing(value: Any) -> None:
    assert isinstance(amount({"amount": value}, "/amount"), Unreadable)


@pytest.mark.parametrize("pointer", ["/amount", "/a/0/b", "/a/b", "/a/-1", "/a/01", "/a/3", "/s/0"])
def test_an_amount_that_is_not_there_is_unreadable(pointer: str) -> None:
    found = amount({"a": [{"c": 1}, 5], "s": "7"}, pointer)
    assert found == Unreadable(pointer, "it is missing")


def test_a_pointer_goes_through_lists_and_escaped_names() -> None:
    assert amount({"a/b": [{"~": 3}]}, "/a~1b/0/~0") == 3


@given(st.integers(0, 2**53 // 10**4 - 1), st.integers(0, 99), st.integers(1, 100))
def test_a_decimal_text_counts_every_cent(whole: int, cents: int, unit: int) -> None:
    assert amount({"x": f"{whole}.{cents:02}"}, "/x", 100 * unit) == (whole * 100 + cents) * unit


def test_a_read_is_a_call_and_nothing_else() -> None:
    assert charges_of(Manifest(risk="read"), {}, b"{}") == {"calls": 1}


def test_an_irreversible_payment_over_the_wire_is_charged_in_every_metric() -> None:
    manifest = Manifest(
        risk="irreversible",
        effects=("money", "egress"),
        cost_micro_usd=2_000,
        cost=Cost(arguments="/amount", unit_micro_usd=10_000),
    )
    assert charges_of(manifest, {"amount": 7}, b'{"amount":7}') == {
        "calls": 1,
        "writes": 1,
        "irreversible": 1,
        "cost_micro_usd": 72_000,
        "bytes_out": 12,
    }


def test_what_can_only_be_made_good_again_counts_as_irreversible_and_what_can_be_undone_does_not() -> None:
    assert "irreversible" in charges_of(Manifest(risk="compensable"), {}, b"{}")
    assert "irreversible" not in charges_of(Manifest(risk="reversible"), {}, b"{}")


def test_an_unreadable_amount_is_not_a_call_without_cost() -> None:
    manifest = Manifest(cost=Cost(arguments="/amount"))
    assert charges_of(manifest, {}, b"{}") == Unreadable("/amount", "it is missing")
    manifest = Manifest(cost_micro_usd=1, cost=Cost(arguments="/amount"))
    assert isinstance(charges_of(manifest, {"amount": 2**53}, b"{}"), Unreadable)


def test_a_cost_in_the_result_is_reserved_as_the_constant_and_read_afterwards() -> None:
    manifest = Manifest(cost_micro_usd=100, cost=Cost(result="/usage/tokens", unit_micro_usd=3))
    assert charges_of(manifest, {}, b"{}") == {
        "calls": 1,
        "writes": 1,
        "irreversible": 1,
        "cost_micro_usd": 100,
    }
    assert charges_after(manifest, {"usage": {"tokens": 40}}) == {"cost_micro_usd": 220}
    assert isinstance(charges_after(manifest, {"usage": {"tokens": True}}), Unreadable)
    assert charges_after(Manifest(cost_micro_usd=100), {"usage": {}}) == {}
