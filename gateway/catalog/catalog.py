"""The ``Catalog`` port: an immutable snapshot of all lists, replaced as a whole."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from hashlib import sha256
from typing import Final

import msgspec

from gateway.catalog import names
from gateway.catalog.elsewhere import Elsewhere
from gateway.catalog.entries import ListKind, Problem, Template, build, template, unverifiable
from gateway.catalog.manifests import Manifests
from gateway.catalog.pinning import Entry, Pinning
from gateway.config_upstream import UpstreamConfig
from gateway.errors import Refused, WardgateError
from gateway.model import QUESTIONS, Json, Kind, Mode, Pin, Tool

logger = logging.getLogger("wardgate.catalog")

Fetch = Callable[[str, ListKind], Awaitable[Sequence[Mapping[str, Json]] | None]]
"""One whole list of an upstream, ``None`` when it does not offer that kind; raises ``WardgateError``."""

_LISTS: Final[tuple[ListKind, ...]] = ("tool", "prompt", "resource", "template")
_KINDS: Final[tuple[Kind, ...]] = ("tool", "prompt", "resource")
_LENIENCE: Final[tuple[Mode, ...]] = ("enforce", "warn", "observe")


class _Listed(msgspec.Struct, frozen=True, kw_only=True):
    """What one upstream offered when it was last asked with success."""

    entries: tuple[Entry, ...]
    tools: tuple[Tool, ...]
    templates: tuple[Template, ...]
    resources: bool  # whether it serves resources at all
    problems: tuple[Problem, ...]
    revision: str


class _Snapshot(msgspec.Struct, frozen=True, kw_only=True):
    by_name: Mapping[tuple[Kind, str, str], Tool]
    lists: Mapping[tuple[Kind, str | None], tuple[Tool, ...]]  # without what is in quarantine
    held: tuple[Tool, ...]
    listed: Mapping[str, _Listed]


class ToolCatalog:
    """Empty until ``refresh`` has succeeded for an upstream; ``mode`` is the gateway's own.

    Without ``pins`` what was accepted is remembered for as long as this object lives.
    """

    def __init__(
        self, upstreams: Mapping[str, UpstreamConfig], *, mode: Mode = "enforce", pins: Pinning | None = None
    ) -> None:
        self._pins = pins or Pinning({name: config.pins for name, config in upstreams.items()})
        self._manifests = {name: Manifests(config) for name, config in upstreams.items()}
        self._modes: dict[str, Mode] = {
            name: max(mode, config.mode, key=_LENIENCE.index) for name, config in upstreams.items()
        }
        # What an upstream may ask of clients is no list of its own, so it does not wait for one.
        self._questions = {
            (kind, name, method): self._plain(kind, name, method)
            for name in upstreams
            for method, kind in QUESTIONS.items()
        }
        self._elsewhere = {
            name: Elsewhere(name, config, self._manifests[name], self._modes[name])
            for name, config in upstreams.items()
            if config.elsewhere
        }
        #: Tools that run elsewhere and have a manifest of their own.
        self.elsewhere = tuple(tool for each in self._elsewhere.values() for tool in each.tools)
        self._failures: dict[str, str] = {}
        self._snapshot = _Snapshot(by_name={}, lists={}, held=(), listed={})
        self.revision = _revision({})

    # ----------------------------------------------------------------------------------------- port

    def resolve(self, kind: Kind, upstream: str, name: str) -> Tool:
        """See ``ports.Catalog``.

        A resource need not be listed when its upstream serves resources: it takes the definition of the
        first template that matches, or none. A completion is of a prompt or of a resource, by its name, and
        a subscription of a resource. A question to the client is known by its method.
        """
        snapshot = self._snapshot
        found = snapshot.by_name.get((kind, upstream, name)) or self._questions.get((kind, upstream, name))
        if found is not None:
            return found
        if upstream not in self._manifests:
            raise Refused("unknown_upstream", names.shown(upstream))
        if (elsewhere := self._elsewhere.get(upstream)) is not None:
            return elsewhere.resolve(kind, name)
        listed = snapshot.listed.get(upstream)
        if listed is not None and kind == "resource" and listed.resources:
            return self._unlisted(listed, upstream, name)
        if listed is not None and kind == "completion":
            for other in ("prompt", "resource"):
                of = snapshot.by_name.get((other, upstream, name))
                if of is not None:
                    return self._plain("completion", upstream, name, of)
        if listed is not None and kind == "subscription" and listed.resources:
            of = snapshot.by_name.get(("resource", upstream, name)) or self._unlisted(listed, upstream, name)
            return self._plain("subscription", upstream, name, of)
        raise Refused("unknown_tool", f"{names.shown(upstream)} has no {kind} {names.shown(name)}")

    def tools(self, kind: Kind, upstream: str | None = None) -> Sequence[Tool]:
        """See ``ports.Catalog``; the same object until the revision changes. Templates are resources."""
        if upstream in self._elsewhere:
            return self._elsewhere[upstream].tools if kind == "tool" else ()
        return self._snapshot.lists.get((kind, upstream), ())

    def held(self) -> Sequence[Tool]:
        """See ``ports.Catalog``."""
        return self._snapshot.held

    # ------------------------------------------------------------------------------------ operators

    @property
    def upstreams(self) -> Sequence[str]:
        return tuple(self._manifests)

    @property
    def listing(self) -> Sequence[str]:
        """Upstreams that publish lists of what they offer."""
        return tuple(name for name in self._manifests if name not in self._elsewhere)

    @property
    def stale(self) -> Sequence[str]:
        """Upstreams whose last refresh failed: absent, or shown as they were."""
        return tuple(self._failures)

    def problems(self) -> list[Problem]:
        """What is wrong with the lists, for ``doctor``."""
        found = [problem for listed in self._snapshot.listed.values() for problem in listed.problems]
        for upstream, failure in self._failures.items():
            kept = (
                "the last good list is kept" if upstream in self._snapshot.listed else "its tools are absent"
            )
            found.append(Problem(upstream=upstream, subject="", detail=f"not refreshed ({failure}); {kept}"))
        return found

    # -------------------------------------------------------------------------------------- refresh

    async def refresh(self, upstream: str, fetch: Fetch) -> bool:
        """Ask one upstream for its lists and put them in force; false when that failed.

        A failure keeps the last good lists and marks the upstream stale.
        """
        try:
            lists = {kind: await fetch(upstream, kind) for kind in _LISTS}
        except WardgateError as error:
            if upstream not in self._failures:
                logger.warning("upstream %s: lists not refreshed: %s", upstream, error)
            self._failures[upstream] = str(error)
            return False
        built = self._build(upstream, lists)
        listed = _pinned(built, await self._pins.observe(upstream, built.entries))
        before = self._snapshot.listed.get(upstream)
        self._failures.pop(upstream, None)
        if before is None or before.revision != listed.revision or before.problems != listed.problems:
            self._swap({**self._snapshot.listed, upstream: listed})
            logger.info("upstream %s: %d entries listed", upstream, len(listed.tools))
        return True

    async def judge_again(self) -> None:
        """Read the pins anew, and put in force what a person accepted or rejected."""
        await self._pins.load()
        now = {
            name: _pinned(listed, self._pins.pins(name, listed.entries))
            for name, listed in self._snapshot.listed.items()
        }
        if any(listed.revision != self._snapshot.listed[name].revision for name, listed in now.items()):
            self._swap(now)

    def unsaved(self, upstream: str) -> bool:
        """Whether pins of an upstream wait to be stored, which its next refresh does."""
        return self._pins.unsaved(upstream)

    def _build(self, upstream: str, lists: Mapping[ListKind, Sequence[Mapping[str, Json]] | None]) -> _Listed:
        manifests = self._manifests[upstream]
        entries: list[Entry] = []
        problems: list[Problem] = []
        for kind in _LISTS:
            built, wrong = build(upstream, kind, lists[kind] or (), manifests, self._modes[upstream])
            entries += ((kind, tool) for tool in built)
            problems += wrong
        for name in manifests.unused({tool.name for kind, tool in entries if kind == "tool"}):
            detail = "is described in the configuration and not listed by the upstream"
            problems.append(Problem(upstream=upstream, subject=names.shown(name), detail=detail))
        problems += unverifiable(upstream, [tool for kind, tool in entries if kind == "tool"])
        return _Listed(
            entries=tuple(entries),
            tools=(),
            templates=(),
            resources=lists["resource"] is not None or lists["template"] is not None,
            problems=tuple(problems),
            revision="",
        )

    def _swap(self, listed: dict[str, _Listed]) -> None:
        """Put a whole new snapshot in force; whoever holds a list of the old one keeps that list."""
        ordered = {name: listed[name] for name in self._manifests if name in listed}
        by_name = {
            (tool.kind, tool.upstream, tool.name): tool for each in ordered.values() for tool in each.tools
        }
        lists: dict[tuple[Kind, str | None], tuple[Tool, ...]] = {}
        for kind in _KINDS:
            for name, each in ordered.items():
                lists[kind, name] = tuple(
                    tool for tool in each.tools if tool.kind == kind and not tool.pin.quarantined
                )
            lists[kind, None] = tuple(tool for name in ordered for tool in lists[kind, name])
        held = tuple(tool for each in ordered.values() for tool in each.tools if tool.pin.quarantined)
        self._snapshot = _Snapshot(by_name=by_name, lists=lists, held=held, listed=ordered)
        self.revision = _revision(ordered)

    # ------------------------------------------------------------------------------------- unlisted

    def _unlisted(self, listed: _Listed, upstream: str, uri: str) -> Tool:
        if names.fault(uri, names.MAX_URI_CHARS):
            raise Refused("unknown_tool", f"{upstream} has no resource {names.shown(uri)}")
        of = next((each.tool for each in listed.templates if each.pattern.fullmatch(uri)), None)
        return self._plain("resource", upstream, uri, of)

    def _plain(self, kind: Kind, upstream: str, name: str, of: Tool | None = None) -> Tool:
        """What stands in no list of the upstream; ``of`` is the entry whose definition it shares."""
        return Tool(
            kind=kind,
            upstream=upstream,
            name=name,
            target=f"{upstream}/{name}",
            manifest=self._manifests[upstream].of(kind, name),
            schema_hash=of.schema_hash if of is not None else "",
            definition_json=of.definition_json if of is not None else b"",
            mode=self._modes[upstream],
            pin=of.pin if of is not None else Pin(),
        )


def _pinned(listed: _Listed, pins: Sequence[Pin]) -> _Listed:
    """The lists with the pin of each entry; whoever holds the tools as they were keeps those."""
    entries = tuple(
        (kind, tool if tool.pin == pin else msgspec.structs.replace(tool, pin=pin))
        for (kind, tool), pin in zip(listed.entries, pins, strict=True)
    )
    tools = tuple(tool for _, tool in entries)
    return msgspec.structs.replace(
        listed,
        entries=entries,
        tools=tools,
        templates=tuple(
            each for kind, tool in entries if kind == "template" and (each := template(tool)) is not None
        ),
        revision=sha256(msgspec.json.encode(tools, order="deterministic")).hexdigest(),
    )


def _revision(listed: Mapping[str, _Listed]) -> str:
    """Content hash of everything that can be resolved."""
    return sha256(msgspec.json.encode([(name, each.revision) for name, each in listed.items()])).hexdigest()[
        :16
    ]
