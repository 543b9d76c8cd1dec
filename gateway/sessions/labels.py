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
        return (
            (untrusted and not self.untrusted)
            or confidentiality > self.confidentiality
            or (bool(names) and any(name not in self.names for name in names))
        )

    def raised(self, untrusted: bool, confidentiality: int, names: tuple[str, ...], source: str) -> None:
        if not self.would_raise(untrusted, confidentiality, names):
            return
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
        for name in names:
            if name == UNTRUSTED:
                self.untrusted = False
            elif name in LEVELS and name:
                self.confidentiality = min(self.confidentiality, LEVELS.index(name) - 1)
            elif name in self.names:
                self.names.remove(name)
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
        found = list(self.names)
        if self.untrusted and UNTRUSTED not in found:
            found.append(UNTRUSTED)
        if self.confidentiality and LEVELS[self.confidentiality] not in found:
            found.append(LEVELS[self.confidentiality])
        return found
