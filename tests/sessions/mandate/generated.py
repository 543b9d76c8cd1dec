"""Mandates and calls under them, few enough in kind that they meet often."""

from __future__ import annotations

from typing import Any

from hypothesis import assume
from hypothesis import strategies as st

from gateway.errors import BadMandate
from gateway.sessions.mandate import Ceiling, Mandate, parse
from gateway.sessions.mandate.value import RISKS

NOW = 1_800_000_000_000_000_000
ANY = Ceiling(broad=True)

TARGETS = ["a/x", "a/y", "a/xy", "b/x", "a/x/y", "c/z"]
globs = st.sampled_from(
    ["a/x", "a/*", "a/x*", "*/x", "a/*y", "b/*", "**", "a/**", "*/*", "b/x", "**x", "c/*", "a/y", "*a/**"]
)
values = st.sampled_from(
    [None, False, True, 0, 1, 2.5, 3, "", "a", "ab", "b", [], ["a"], ["a", "c"], [1, 3], [False]]
)
bounds = st.dictionaries(
    st.sampled_from(["min", "max", "one_of", "max_length", "pattern", "forbidden", "required"]),
    st.nothing(),
) | st.fixed_dictionaries(
    {},
    optional={
        "min": st.integers(0, 3),
        "max": st.integers(0, 3),
        "one_of": st.lists(
            st.sampled_from(["a", "ab", "b", 1, 3, False, True]), min_size=1, max_size=3, unique_by=repr
        ),
        "max_length": st.integers(0, 2),
        "pattern": st.sampled_from(["a", "a.*", "[ab]*"]),
        "forbidden": st.just(True),
        "required": st.just(True),
    },
)
arguments = st.dictionaries(
    globs, st.dictionaries(st.sampled_from(["/p", "/q/0"]), bounds.filter(bool), min_size=1), max_size=2
)
documents = st.fixed_dictionaries(
    {},
    optional={
        "tools": st.lists(globs, min_size=1, max_size=3, unique=True),
        "reads": st.sampled_from(["listed", "any"]),
        "risks": st.lists(st.sampled_from(RISKS), min_size=1, unique=True),
        "arguments": arguments,
        "budgets": st.dictionaries(st.sampled_from(["calls", "writes"]), st.integers(0, 3)),
        "trusted_values": st.lists(st.sampled_from(["aa", "bb"]), unique=True),
        "request": st.sampled_from(["", "aa bb", "bb"]),
    },
)


def some(raw: dict[str, Any], parent: Mandate | None = None) -> Mandate:
    try:
        return parse(raw, now_ns=NOW, ceiling=ANY if parent is None else None, parent=parent)
    except BadMandate:
        assume(False)
        raise


calls = st.tuples(
    st.sampled_from(TARGETS),
    st.sampled_from(RISKS),
    st.fixed_dictionaries({}, optional={"p": values, "q": st.lists(values, max_size=2)}),
)
