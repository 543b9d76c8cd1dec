"""One search over all strings of a result passes only what a search of each string would have passed."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from gateway.policy.redact import CannotRedact, Redaction, _clean, redact

PATTERNS = {
    "word": r"\bab\b", "inside": r"\Bb", "start": "^ab", "end": r"ab$", "whole": r"\Aab\z",
    "class": "[^ab$]c", "lines": "(?m)^b$", "escaped": r"\^a", "rest": "(?s)ba(.*?c|.*)",
    "literal": r"\Qa$\E",
}  # fmt: skip
TEXT = st.text("abc^$ \n", max_size=5)
VALUES = st.recursive(
    TEXT | st.integers(-9, 9) | st.booleans() | st.none(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=8,
)


def _said(work: Any) -> object:
    try:
        return work()
    except CannotRedact as cannot:
        return str(cannot)


@given(
    value=VALUES,
    names=st.sets(st.sampled_from(sorted(PATTERNS)), max_size=3),
    keys=st.lists(st.sampled_from(["a", "B", "ab"]), max_size=1),
)
def test_searching_all_at_once_misses_nothing(value: Any, names: set[str], keys: list[str]) -> None:
    wanted = Redaction.of((), keys, {name: PATTERNS[name] for name in names})
    assert _said(lambda: redact(value, wanted)) == _said(lambda: _clean(value, wanted))


def test_anchors_are_told_from_classes_and_escapes() -> None:
    anchored = {name for name, text in PATTERNS.items() if Redaction.of((), (), {name: text}).anchored}
    assert anchored == {"start", "end", "whole", "lines", "literal"}
