"""Patterns over ``upstream/name``, and which of them lie within others.

``*`` stands for any run of characters but '/', ``**`` for any run at all, everything else for itself.
What other readers of globs give a meaning (``?``, brackets, braces, backslash) is refused when a mandate is
read, so that the policy engine cannot mean anything else.

Containment is decided exactly: both sides are finite automata, and the search looks for a word that the inner
one accepts and no outer one does (subset construction, on the fly). Characters in no inner pattern behave
alike, and none of them is accepted by less than one that no pattern names, so a single stand-in does for all.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Any, Final

import re2

_MAX_STEPS: Final = 6_000  # of one search; a pattern that takes more is too clever to be trusted
_OTHER: Final = "\0"  # in no pattern and no target: names with control characters are refused
_STAR: Final = "*"
_STARS: Final = "**"


def matches(pattern: str, target: str) -> bool:
    if "*" not in pattern:
        return pattern == target
    return _expression(pattern).fullmatch(target) is not None


def contained(inner: str, outer: Iterable[str]) -> bool:
    """Whether every target of ``inner`` is one of at least one of ``outer``.

    ``False`` also where deciding would take too long, which needs many interleaved patterns.
    """
    near = tuple(pattern for pattern in dict.fromkeys(outer) if _ends_agree(inner, pattern))
    return inner in near or (bool(near) and _contained(inner, near))


def overlaps(one: str, other: str) -> bool:
    """Whether some text is matched by both."""
    if not _ends_agree(one, other):
        return False
    right = _Automaton((other,))
    places = right.start  # where ``other`` may be when ``one`` is at each of its tokens in turn
    for token in _tokens(one):
        places = right.run(places, token) if token[0] == "*" else right.step(places, token)
        if not places:
            return False
    return bool(places & right.accepting)


def _ends_agree(one: str, other: str) -> bool:
    """Whether the fixed beginnings and ends of two patterns leave room for a text that both match."""
    for left, right in ((one, other), (one[::-1], other[::-1])):
        fixed, firm = left.partition("*")[0], right.partition("*")[0]
        shared = min(len(fixed), len(firm))
        if fixed[:shared] != firm[:shared]:
            return False
    return True


@lru_cache(maxsize=4096)
def _contained(inner: str, outer: tuple[str, ...]) -> bool:
    child, parents = _Automaton((inner,)), _Automaton(outer)
    letters = [*dict.fromkeys(token for token in _tokens(inner) if token[0] != "*"), _OTHER, "/"]
    begin, steps = (child.start, parents.start), 0
    seen = {begin}
    waiting = [begin]
    while waiting:
        at, to = waiting.pop()
        if at & child.accepting and not to & parents.accepting:
            return False
        for letter in letters:
            reached = child.step(at, letter)
            if not reached:
                continue
            steps += 1
            if steps > _MAX_STEPS:
                return False
            state = (reached, parents.step(to, letter))
            if state not in seen:
                seen.add(state)
                waiting.append(state)
    return True


class _Automaton:
    """All patterns side by side; a set of places is an integer of bits."""

    def __init__(self, patterns: Sequence[str]) -> None:
        self.start = self.accepting = self._star = self._stars = 0
        self._letters: dict[str, int] = {}
        place = 0
        for pattern in patterns:
            self.start |= 1 << place
            for token in _tokens(pattern):
                bit = 1 << place
                if token == _STAR:
                    self._star |= bit
                elif token == _STARS:
                    self._stars |= bit
                else:
                    self._letters[token] = self._letters.get(token, 0) | bit
                place += 1
            self.accepting |= 1 << place
            place += 1
        self.start = self._past_runs(self.start)

    def step(self, places: int, letter: str) -> int:
        stay = places & (self._stars if letter == "/" else self._stars | self._star)
        return self._past_runs(stay | (places & self._letters.get(letter, 0)) << 1)

    def run(self, places: int, token: str) -> int:
        """Where any run of letters may lead, one without '/' when the token is ``*``."""
        passed = ~self._letters.get("/", 0) if token == _STAR else -1
        passed &= ~self.accepting
        while more := (places & passed) << 1 & ~places:
            places |= more
        return self._past_runs(places)

    def _past_runs(self, places: int) -> int:
        runs = self._star | self._stars
        while more := (places & runs) << 1 & ~places:
            places |= more
        return places


@lru_cache(maxsize=4096)
def _tokens(pattern: str) -> tuple[str, ...]:
    found: list[str] = []
    for char in pattern:
        if char == "*" and found and found[-1] == _STAR:
            found[-1] = _STARS
        else:
            found.append(char)
    return tuple(found)


@lru_cache(maxsize=4096)
def _expression(pattern: str) -> Any:
    runs = {_STAR: "[^/]*", _STARS: "(?s:.*)"}
    return re2.compile("".join(runs.get(token) or re2.escape(token) for token in _tokens(pattern)))
