"""What a session has touched, as a high-water mark: it rises with what the agent was shown, and never falls
by itself.

Integrity says whether anything that an outsider can write has reached the agent; confidentiality (0 public,
1 internal, 2 confidential, 3 secret) how private the most private thing was. Named labels come from rules.
A mark is sound where following single values is not: paraphrase, and commands hidden in a text, change no
value and still leave the mark (Costa et al., "Securing AI Agents with Information-Flow Control", 2025).
"""

from __future__ import annotations

from typing import Final

import msgspec

MAX_LABELS: Final = 16
MAX_SOURCES: Final = 8
OVERFLOW: Final = "more"
"""Stands for the labels that found no place; a session that has it counts as untrusted and secret."""

UNTRUSTED: Final = "untrusted"
LEVELS: Final = ("", "internal", "confidential", "secret")
"""The names under which rules find integrity and confidentiality among the labels."""


class Labels(msgspec.Struct):
    """The mark of one session."""

    untrusted: bool = False
    confidentiality: int = 0
    names: list[str] = []
    sources: list[str] = []  # which tools raised it, the first ones

    def would_raise(self, untrusted: bool, confidentiality: int, names: tuple[str, ...]) -> bool:
        """Whether any of this is new to the session."""
        untrusted, confidentiality, names = _told_apart(untrusted, confidentiality, names)
        return (
            (untrusted and not self.untrusted)
            or confidentiality > self.confidentiality
            or (bool(names) and any(name not in self.names for name in names))
        )

    def raised(self, untrusted: bool, confidentiality: int, names: tuple[str, ...], source: str) -> None:
        if not self.would_raise(untrusted, confidentiality, names):
            return
        untrusted, confidentiality, names = _told_apart(untrusted, confidentiality, names)
        self.untrusted = self.untrusted or untrusted
        self.confidentiality = max(self.confidentiality, confidentiality)
        for name in names:
            if name in self.names:
                continue
            if len(self.names) < MAX_LABELS - 1:
                self.names.append(name)
            else:
                # A label that is dropped would be a taint forgotten.
                self.untrusted, self.confidentiality = True, len(LEVELS) - 1
                if OVERFLOW not in self.names:
                    self.names.append(OVERFLOW)
        if source not in self.sources and len(self.sources) < MAX_SOURCES:
            self.sources.append(source)

    def lowered(self, names: tuple[str, ...]) -> None:
        """Take labels off: a named rule or a person said so, and it is on record who."""
        if UNTRUSTED in names:
            self.untrusted = False
        for level in range(len(LEVELS) - 1, 0, -1):
            # Who takes off "internal" has not looked at what is secret.
            if LEVELS[level] in names and self.confidentiality == level:
                self.confidentiality = level - 1
        self.names = [name for name in self.names if name not in names]
        if not (self.untrusted or self.confidentiality or self.names):
            self.sources.clear()

    def joined(self, other: Labels) -> None:
        """Take over everything another session has touched."""
        source = other.sources[0] if other.sources else ""
        self.raised(other.untrusted, other.confidentiality, tuple(other.names), source)
        for each in other.sources:
            if each not in self.sources and len(self.sources) < MAX_SOURCES:
                self.sources.append(each)

    def all(self) -> list[str]:
        """Every label by name, those of integrity and confidentiality too."""
        found = dict.fromkeys(self.names)
        if self.untrusted:
            found[UNTRUSTED] = None
        if self.confidentiality:
            found[LEVELS[self.confidentiality]] = None
        return list(found)


def _told_apart(
    untrusted: bool, confidentiality: int, names: tuple[str, ...]
) -> tuple[bool, int, tuple[str, ...]]:
    """Integrity and confidentiality that a rule raises by their names are these, and no labels beside them.

    Else a rule that asks for integrity would not see what another rule marked, and taking the label off
    would leave its twin.
    """
    if not names:
        return untrusted, confidentiality, names
    levels = [LEVELS.index(name) for name in names if name in LEVELS and name]
    rest = tuple(name for name in names if name != UNTRUSTED and name not in LEVELS)
    return untrusted or UNTRUSTED in names, max(confidentiality, *levels, 0), rest
