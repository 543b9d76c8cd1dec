"""A policy module and the bundle of all that are loaded, as immutable values."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, Literal

import msgspec

from gateway.model import Mode
from gateway.policy import metadata, syntax
from gateway.policy.contract import slow
from gateway.policy.metadata import Metadata, Phase, Scope
from gateway.sessions.monitors import Definition

RULES: Final = "wardgate.rules."
"""Packages below this are rules; every other one is a library."""

_MONITORS: Final = ("session", "monitors")

Role = Literal["rule", "library", "test"]
Paths = frozenset[tuple[str, ...]]


class Module(msgspec.Struct, frozen=True, kw_only=True):
    """One Rego file. ``file`` is what messages name; ``name`` is where it lies in its folder."""

    file: str
    name: str
    text: str
    role: Role
    syntax: syntax.Syntax
    meta: Metadata | None = None
    sets: tuple[str, ...] = ()  # which of allow, deny, escalate, obligation it contributes
    reads: Paths = frozenset()  # paths of the input, its libraries' included
    libraries: tuple[str, ...] = ()  # files of the libraries it needs, transitively

    @property
    def package(self) -> str:
        return self.syntax.package

    @property
    def custom(self) -> metadata.Custom:
        assert self.meta is not None, "only rules have metadata"
        return self.meta.custom

    @property
    def id(self) -> str:
        return self.custom.id

    @property
    def scope(self) -> Scope:
        return self.custom.scope

    @property
    def mode(self) -> Mode:
        return self.custom.mode

    @property
    def phase(self) -> Phase:
        return self.custom.phase

    @property
    def memoisable(self) -> bool:
        """Whether all it reads changes rarely, so that its answers are worth remembering."""
        return all(slow(path) for path in self.reads)

    @property
    def recurring(self) -> bool:
        """Whether what it reads besides is the same for most calls: monitors say nothing of most.

        Kept apart from the slow ones, which would otherwise be asked again whenever a count changes.
        """
        return not self.memoisable and all(slow(path) or path[:2] == _MONITORS for path in self.reads)


class Bundle(msgspec.Struct, frozen=True, kw_only=True):
    """Policies and data that have passed the gate. ``revision`` is the hash of all that decides."""

    revision: str
    rules: tuple[Module, ...]
    libraries: Mapping[str, Module]  # by file
    tests: tuple[Module, ...]
    data: Mapping[str, Any]
    codes: frozenset[str]  # every reason code a rule declares
    monitors: Mapping[str, Definition] = {}  # by name; ``EmbeddedPolicy.monitors`` has them compiled

    def phase(self, phase: Phase) -> tuple[Module, ...]:
        return tuple(rule for rule in self.rules if rule.phase == phase)
