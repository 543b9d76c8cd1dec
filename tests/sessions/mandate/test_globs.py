"""Which patterns lie within others is decided exactly: the same as trying every short word."""

from __future__ import annotations

import time
from itertools import product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.sessions.mandate import contained, matches, overlaps

# 'z' is in no pattern: what no pattern names must not be forgotten.
WORDS = ["".join(letters) for length in range(7) for letters in product("ab/z", repeat=length)]
patterns = st.lists(st.sampled_from(["a", "b", "/", "*", "**"]), min_size=1, max_size=4).map(
    lambda tokens: "".join(tokens).replace("***", "**").replace("***", "**").replace("***", "**")
)


@settings(max_examples=80, deadline=None)
@given(patterns, st.lists(patterns, max_size=3))
def test_a_pattern_is_within_others_when_every_word_of_it_is_a_word_of_one_of_them(
    inner: str, outer: list[str]
) -> None:
    mine = [word for word in WORDS if matches(inner, word)]
    astray = [word for word in mine if not any(matches(pattern, word) for pattern in outer)]
    assert contained(inner, outer) == (not astray)


@settings(max_examples=80, deadline=None)
@given(patterns, patterns)
def test_two_patterns_overlap_when_a_word_is_of_both(one: str, other: str) -> None:
    both = any(matches(one, word) and matches(other, word) for word in WORDS)
    assert overlaps(one, other) == overlaps(other, one) == both


@pytest.mark.parametrize(
    ("inner", "outer", "within"),
    [
        ("git/commit", ["git/*"], True),
        ("git/*", ["git/commit", "git/push"], False),
        ("git/*", ["git/**"], True),
        ("git/**", ["git/*"], False),  # 'git/a/b' is a name too
        ("git/a*", ["git/*b", "git/a*"], True),
        ("git/*_log", ["git/g*", "git/*log"], True),
        ("*/pay", ["bank/*"], False),
        ("bank/pay", ["bank/pay.*"], False),  # a dot is a dot
        ("bank/p+y", ["bank/p+y"], True),
        ("x/é*", ["x/*"], True),
        ("git/commit", [], False),
        ("**", ["*"], False),
        ("**a", ["*a", "a**"], False),
        ("a/*", ["a/a*", "a/", "a//*"], False),  # what of a name that none of them begins with
    ],
)
def test_globs_of_tools(inner: str, outer: list[str], within: bool) -> None:
    assert contained(inner, outer) is within


@pytest.mark.parametrize("name", ["bank/a.b", "bank/a+b", "bank/a|b", "bank/^a$", "bank/(a)", "bank/a-b_é"])
def test_all_but_the_star_stands_for_itself(name: str) -> None:
    assert matches(name, name)
    assert matches(f"{name}*", name)
    assert not matches(f"{name}*".replace("a", "x"), name)


def test_patterns_made_to_take_for_ever_are_not_contained_and_do_not_take_for_ever() -> None:
    inner = "up/" + "*a" * 12 + "*"
    outer = [
        "up/" + "*" + "ab"[number >> bit & 1] + "*" * (bit % 2) for number in range(64) for bit in range(6)
    ]
    outer += [f"up/*a{'*b' * number}*a*" for number in range(1, 64)]
    started = time.process_time()
    contained(inner, outer)
    overlaps(inner, "up/" + "*b" * 80 + "*")
    assert time.process_time() - started < 2
