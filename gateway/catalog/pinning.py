"""Comparing what an upstream lists with what was accepted, and remembering both.

The rows in memory are what is judged by. Storage is written when they change: before anything that was
accepted without a person is offered, and otherwise at most every few seconds for one upstream, however often
it changes its mind. When storage cannot be written, nothing new is accepted.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from hashlib import sha256
from typing import Final

import msgspec
import orjson

from gateway import strictjson
from gateway.catalog import concealed, names
from gateway.catalog.looks import looks, reserved
from gateway.clock import SystemClock
from gateway.config_upstream import PinsConfig
from gateway.errors import StateError
from gateway.model import Pin, Tool
from gateway.pins import BY_CONFIGURATION, FIRST_CONTACT, PinKind, PinRow, Stored, judged, objections, state
from gateway.ports import Clock

logger = logging.getLogger("wardgate.pins")

Entry = tuple[PinKind, Tool]
Key = tuple[PinKind, str]
Told = Callable[[str, str, int], None]
"""Hears of ``(upstream, event, how often)``; the events are ``EVENTS``."""

EVENTS: Final = (
    "first", "added", "changed", "restored", "removed", "returned", "renamed", "suspicious", "shadowing",
    "accepted", "rejected", "overflow",
)  # fmt: skip
MAX_PINS: Final = 40_000
"""Entries remembered of one upstream; what it lists beyond them is in quarantine and not remembered."""
SAVE_GAP_S: Final = 5.0
"""Between two writes for one upstream in the long run, unless something was accepted."""
SAVE_BURST: Final = 5
"""Writes that may follow each other at once."""

_NAMED: Final = 10  # names in one log line
_QUIET: Final = frozenset({"first", "accepted", "restored"})


class _Round(msgspec.Struct):
    """What one comparison found."""

    rows: dict[Key, PinRow]
    pins: list[Pin]
    changed: set[Key]
    accepted: bool
    events: list[tuple[str, str]]  # event and name


class Pinning:
    """The pins of all configured upstreams; without a ``store`` they live as long as this object."""

    def __init__(
        self,
        policies: Mapping[str, PinsConfig],
        store: Stored | None = None,
        clock: Clock | None = None,
        told: Told = lambda upstream, event, times: None,
    ) -> None:
        self._policies = policies
        self._store = store
        self._clock = clock or SystemClock()
        self._told = told
        self._lock = asyncio.Lock()
        self._contacts: set[str] = set()
        self._rows: dict[str, dict[Key, PinRow]] = {name: {} for name in policies}
        self._dirty: dict[str, set[Key]] = {name: set() for name in policies}
        self._failed: set[str] = set()
        self._version = 0  # of what entries are compared with, beside their own rows
        self._last: dict[str, tuple[int, list[tuple[PinKind, str, str]], list[Pin]]] = {}
        self._saves: dict[str, float] = dict.fromkeys(policies, 0.0)  # when those made are paid for
        self._alike: dict[tuple[str, str], set[tuple[str, str]]] = {}  # kind and skeleton → upstream and name
        self._indexed: dict[str, set[Key]] = {name: set() for name in policies}
        self._reserved = {name: reserved(other for other in policies if other != name) for name in policies}

    async def load(self) -> None:
        """Read what is stored, anew: a person may have accepted or rejected something."""
        if self._store is None:
            return
        async with self._lock:
            contacts, stored = await asyncio.to_thread(self._store.load)
            self._contacts |= contacts
            rows: dict[str, dict[Key, PinRow]] = {name: {} for name in self._policies}
            for row in stored:
                if row.upstream in rows:
                    rows[row.upstream][row.kind, row.name] = row
            for upstream, known in self._rows.items():
                self._unsaved_over(rows[upstream], known, self._dirty[upstream])
                self._tell(upstream, _said(known, rows[upstream]))
            self._rows = rows
            self._version += 1
            for upstream, known in rows.items():
                self._index(upstream, known, ())

    async def observe(self, upstream: str, entries: Sequence[Entry]) -> list[Pin]:
        """Take note of what an upstream lists now; the pin of each entry."""
        async with self._lock:
            dirty = self._dirty[upstream]
            listed = [(kind, tool.name, tool.schema_hash) for kind, tool in entries]
            last = self._last.get(upstream)
            # Nothing that is compared has changed, which is how nearly every look ends.
            if last is not None and last[:2] == (self._version, listed) and not dirty:
                self._failed.discard(upstream)  # what could not be stored is no longer what is listed
                return last[2]
            found = self._compare(upstream, entries, accepting=True)
            changed = dirty | found.changed
            if self._store is None:
                changed = set()
            elif changed and (found.accepted or self._may_save(upstream)):
                try:
                    saving = _to_save(upstream, found, changed, entries, self._clock.now_ns())
                    await asyncio.to_thread(self._store.save, upstream, *saving)
                except StateError as fault:
                    logger.error("pins cannot be stored, so nothing new is accepted: %s", fault)
                    # What was accepted only in memory would be accepted again, whatever it is then, after a
                    # restart: so it is not accepted, and the next refresh tries anew.
                    self._failed.add(upstream)
                    return self._compare(upstream, entries, accepting=False).pins
                changed = set()
                self._failed.discard(upstream)
                self._saves[upstream] = max(self._saves[upstream], self._clock.monotonic()) + SAVE_GAP_S
            self._dirty[upstream] = changed
            self._rows[upstream] = found.rows
            self._last[upstream] = (self._version, listed, found.pins)
            if found.rows:
                self._contacts.add(upstream)
            self._tell(upstream, found.events)
            return found.pins

    def pins(self, upstream: str, entries: Iterable[Entry]) -> list[Pin]:
        """The pins of entries that were observed, as they are now."""
        return [self._pin(upstream, kind, tool) for kind, tool in entries]

    def unsaved(self, upstream: str) -> bool:
        """Whether something waits to be stored, so that the next look at the upstream must not be far off."""
        return bool(self._dirty[upstream]) or upstream in self._failed

    def _may_save(self, upstream: str) -> bool:
        return self._saves[upstream] - self._clock.monotonic() < SAVE_BURST * SAVE_GAP_S

    # ------------------------------------------------------------------------------------- comparing

    def _compare(self, upstream: str, entries: Sequence[Entry], *, accepting: bool) -> _Round:
        policy, known = self._policies[upstream], self._rows[upstream]
        now = self._clock.now_ns()
        first = upstream not in self._contacts
        wanted = policy.first if first else policy.added
        now_listed = {(kind, tool.name) for kind, tool in entries}
        self._index(upstream, known, now_listed)
        left = {row.shape for key, row in known.items() if key not in now_listed or not row.listed}
        room = MAX_PINS - len(known)
        found = _Round(rows={}, pins=[], changed=set(), accepted=False, events=[])
        for kind, tool in entries:
            key = (kind, tool.name)
            old = known.get(key)
            flags = self._flags(upstream, kind, tool, old)
            if kind == "resource" and not policy.resources and "suspicious" not in flags:
                found.pins.append(Pin())
                continue
            if old is None:
                room -= 1
                if room < 0:
                    # An upstream that makes up names for ever must not fill the disk, nor get them accepted.
                    found.pins.append(Pin(state="new", flags=flags, quarantined=True))
                    found.events.append(("overflow", tool.name))
                    continue
                row = _new(upstream, kind, tool, flags, left, now)
                if accepting and wanted == "accept" and not objections(row.flags, policy):
                    row = msgspec.structs.replace(
                        row,
                        accepted_hash=row.listed_hash,
                        accepted_ns=now,
                        accepted_by=FIRST_CONTACT if first else BY_CONFIGURATION,
                    )
                    found.accepted = True
            else:
                row = _again(old, tool, flags, policy, now)
            found.rows[key] = row
            found.pins.append(judged(row, policy))
            if row is not old:
                found.changed.add(key)
                found.events += [(event, tool.name) for event in _events(old, row, first)]
        self._leave(found, known, now)
        return found

    def _leave(self, found: _Round, known: Mapping[Key, PinRow], now: int) -> None:
        """What was known and is not listed now."""
        for key, row in known.items():
            if key in found.rows:
                continue
            if row.listed:
                row = msgspec.structs.replace(row, listed=False, removed_ns=now)
                found.changed.add(key)
                found.events.append(("removed", row.name))
            if row.accepted_hash is not None or row.rejected_hash is not None:
                found.rows[key] = row

    def _flags(self, upstream: str, kind: PinKind, tool: Tool, old: PinRow | None) -> tuple[str, ...]:
        flags: list[str] = []
        if old is not None and old.listed_hash == tool.schema_hash:
            if "suspicious" in old.flags:
                flags.append("suspicious")
        elif concealed.conceals(tool.definition_json):
            flags.append("suspicious")
        if kind in ("tool", "prompt"):
            skeletons = looks(tool.name)
            alike = [self._alike[kind, each] for each in skeletons]
            if any(each.startswith(self._reserved[upstream]) for each in skeletons) or any(
                name != tool.name for each in alike for _, name in each
            ):
                flags.append("shadowing")
            if len(alike[0]) > 1 and any(
                (other, tool.name) in alike[0] for other in self._policies if other != upstream
            ):
                flags.append("same_name")
        if old is not None and old.accepted_hash is None and "renamed" in old.flags:
            flags.append("renamed")
        return tuple(flags)

    def _index(self, upstream: str, known: Mapping[Key, PinRow], listed: Iterable[Key]) -> None:
        """Names that others may look like: what is listed, and what was accepted and is not there now."""
        present = {key for key in listed if key[0] in ("tool", "prompt")}
        present |= {
            key
            for key, row in known.items()
            if key[0] in ("tool", "prompt") and (row.accepted_hash is not None or row.listed)
        }
        before = self._indexed[upstream]
        if present != before:
            self._version += 1
        for kind, name in before - present:
            for skeleton in looks(name):
                self._alike[kind, skeleton].discard((upstream, name))
                if not self._alike[kind, skeleton]:
                    del self._alike[kind, skeleton]
        for kind, name in present - before:
            for skeleton in looks(name):
                self._alike.setdefault((kind, skeleton), set()).add((upstream, name))
        self._indexed[upstream] = present

    def _pin(self, upstream: str, kind: PinKind, tool: Tool) -> Pin:
        row = self._rows[upstream].get((kind, tool.name))
        if row is not None and row.listed_hash == tool.schema_hash:
            return judged(row, self._policies[upstream])
        if kind == "resource" and not self._policies[upstream].resources:
            return Pin()
        return Pin(state="new" if row is None else "changed", quarantined=True)

    # --------------------------------------------------------------------------------------- telling

    @staticmethod
    def _unsaved_over(rows: dict[Key, PinRow], known: Mapping[Key, PinRow], dirty: Iterable[Key]) -> None:
        """Over what is stored, what has been seen since and is not stored yet."""
        for key in dirty:
            seen, stored = known.get(key), rows.get(key)
            if seen is None:
                rows.pop(key, None)
            elif stored is None:
                rows[key] = seen
            else:
                rows[key] = msgspec.structs.replace(
                    stored, listed=seen.listed, listed_hash=seen.listed_hash, shape=seen.shape,
                    flags=seen.flags, seen_ns=seen.seen_ns, removed_ns=seen.removed_ns,
                )  # fmt: skip

    def _tell(self, upstream: str, events: Sequence[tuple[str, str]]) -> None:
        if not events:
            return
        for event, times in Counter(event for event, _ in events).items():
            self._told(upstream, event, times)
            said = [names.shown(name) for each, name in events if each == event]
            level = logging.INFO if event in _QUIET else logging.WARNING
            logger.log(
                level,
                "definitions of an upstream: %s",
                event,
                extra={"upstream": upstream, "count": times, "names": ", ".join(said[:_NAMED])},
            )


def _to_save(
    upstream: str, found: _Round, changed: Iterable[Key], entries: Sequence[Entry], now: int
) -> tuple[list[tuple[PinRow, bytes]], list[PinRow]]:
    """What storage must learn: the rows that are listed, and those that went."""
    definitions = {(kind, tool.name): tool.definition_json for kind, tool in entries}
    listed: list[tuple[PinRow, bytes]] = []
    gone: list[PinRow] = []
    for key in changed:
        row = found.rows.get(key)
        if row is not None and row.listed:
            listed.append((row, definitions[key]))
        else:
            left = PinRow(upstream=upstream, kind=key[0], name=key[1], listed=False, removed_ns=now)
            gone.append(row or left)
    return listed, gone


def _new(
    upstream: str, kind: PinKind, tool: Tool, flags: tuple[str, ...], left: set[str], now: int
) -> PinRow:
    shape = _shape(tool)
    return PinRow(
        upstream=upstream,
        kind=kind,
        name=tool.name,
        listed_hash=tool.schema_hash,
        shape=shape,
        # A tool that was held, or that somebody refused, is back under another name.
        flags=(*flags, "renamed") if shape in left else flags,
        seen_ns=now,
    )


def _again(old: PinRow, tool: Tool, flags: tuple[str, ...], policy: PinsConfig, now: int) -> PinRow:
    """The row of an entry that was known; the same object when nothing about it changed."""
    same = old.listed_hash == tool.schema_hash
    removed_ns = None if policy.removed == "accept" else old.removed_ns
    if same and old.listed and old.flags == flags and old.removed_ns == removed_ns:
        return old
    return msgspec.structs.replace(
        old,
        listed=True,
        listed_hash=tool.schema_hash,
        shape=old.shape if same else _shape(tool),
        flags=flags,
        seen_ns=old.seen_ns if same else now,
        removed_ns=removed_ns,
    )


def _shape(tool: Tool) -> str:
    """Hash of a definition without what it is called."""
    definition = orjson.loads(tool.definition_json)
    for called in ("name", "title", "uri", "uriTemplate"):
        definition.pop(called, None)
    return sha256(strictjson.canonical(definition)).hexdigest()


def _events(old: PinRow | None, row: PinRow, first: bool) -> list[str]:
    events: list[str] = []
    if old is None:
        events.append("first" if first else "added")
    elif not old.listed:
        events.append("returned")
    before, now = state(old) if old is not None else "", state(row)
    if old is not None and old.listed_hash != row.listed_hash:
        events.append("restored" if now == "pinned" else "changed")
    events += [
        flag
        for flag in ("renamed", "suspicious", "shadowing")
        if flag in row.flags and (old is None or flag not in old.flags) and before != "pinned"
    ]
    return events


def _said(before: Mapping[Key, PinRow], after: Mapping[Key, PinRow]) -> list[tuple[str, str]]:
    """What a person said between two readings of storage."""
    events: list[tuple[str, str]] = []
    for key, row in after.items():
        old = before.get(key)
        if old is None:
            continue
        if row.rejected_hash is not None and row.rejected_hash != old.rejected_hash:
            events.append(("rejected", row.name))
        elif row.accepted_hash is not None and (row.accepted_ns, row.accepted_by) != (
            old.accepted_ns,
            old.accepted_by,
        ):
            events.append(("accepted", row.name))
    return events
