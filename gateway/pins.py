"""Pins: the definition of a tool that was accepted, the one that is listed, and what follows from the two.

A tool is not its name. Whoever approved ``send_mail`` approved one description, one schema and one set of
annotations; when the server lists another one under the same name, nobody has approved that. The catalog
compares, storage keeps, the command line and the admin API accept or reject; all of them judge here.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Literal, Protocol

import msgspec

from gateway.config_upstream import PinsConfig
from gateway.model import Pin, PinState

PinKind = Literal["tool", "prompt", "resource", "template"]
PIN_KINDS: Final[tuple[PinKind, ...]] = ("tool", "prompt", "resource", "template")
FLAGS: Final = ("suspicious", "shadowing", "same_name", "renamed")

FIRST_CONTACT: Final = "first contact"
BY_CONFIGURATION: Final = "configuration"
"""Who accepted, where it was not a person."""


class PinRow(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of one entry of an upstream, without the definitions themselves. Times in nanoseconds."""

    upstream: str
    kind: PinKind
    name: str
    accepted_hash: str | None = None
    accepted_ns: int | None = None
    accepted_by: str | None = None
    rejected_hash: str | None = None
    rejected_ns: int | None = None
    rejected_by: str | None = None
    listed: bool = True
    listed_hash: str = ""
    shape: str = ""
    flags: tuple[str, ...] = ()
    seen_ns: int = 0
    removed_ns: int | None = None

    @property
    def target(self) -> str:
        return f"{self.upstream}/{self.name}"


class Stored(Protocol):
    """Where pins outlive the process. Both methods block; a failure is a ``StateError``."""

    def load(self) -> tuple[frozenset[str], Sequence[PinRow]]:
        """The upstreams whose first list was seen, and every pin."""

    def save(self, upstream: str, listed: Sequence[tuple[PinRow, bytes]], gone: Sequence[PinRow]) -> None:
        """Keep what was listed (with its definition) and what went. Never overwrites what a person said."""


def state(row: PinRow) -> PinState:
    """Where a pin stands, whatever the configuration makes of it."""
    if row.rejected_hash == row.listed_hash:
        return "rejected"
    if not row.listed:
        return "removed"
    if row.accepted_hash is None:
        return "new"
    if row.accepted_hash != row.listed_hash:
        return "changed"
    return "returned" if row.removed_ns is not None else "pinned"


def objections(flags: Sequence[str], policy: PinsConfig) -> bool:
    """Whether one of the flags keeps a definition nobody has accepted in quarantine."""
    return "renamed" in flags or any(getattr(policy, flag) == "quarantine" for flag in flags)


def judged(row: PinRow, policy: PinsConfig) -> Pin:
    """What the configuration makes of a pin. An accepted definition is never held for its flags."""
    where = state(row)
    if where == "pinned":
        held = False
    elif where == "returned":
        held = policy.removed == "quarantine"
    elif where == "changed":
        held = policy.changed == "quarantine" or objections(row.flags, policy)
    else:
        held = row.listed
    return Pin(state=where, flags=row.flags, quarantined=held)


def waiting(pin: Pin) -> bool:
    """Whether a person has yet to look: what was rejected has been looked at."""
    return pin.quarantined and pin.state != "rejected"
