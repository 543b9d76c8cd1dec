"""Both engines over one bundle, asked the same, and where their answers differ."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, TypeVar

import msgspec

from gateway.model import Call, Decision, Facts
from gateway.policy import Bundle, EmbeddedPolicy, load, packs
from gateway.policy.combine import combine
from gateway.policy.input import Sections
from gateway.policy.opa import OpaPolicy
from gateway.ports import ResultDecision
from tests.policy.opa_server import Opa, opa
from tests.policy.parity.inputs import Input

COMPARED: Final = (
    "verdict",
    "findings",
    "obligations",
    "notes",
    "observed",
    "labels",
    "revision",
    "entry",
    "rules",
)

T = TypeVar("T")


class Difference(msgspec.Struct, frozen=True):
    pack: str
    phase: str
    field: str
    embedded: Any
    opa: Any
    input: Input


class Pair:
    """The two engines over one bundle. ``memoise`` is off, so that every answer is one of the engine."""

    def __init__(self, name: str, bundle: Bundle, server: Opa, loop: asyncio.AbstractEventLoop) -> None:
        self.name = name
        self.bundle = bundle
        self._loop = loop
        self._embedded = EmbeddedPolicy(bundle, memoise=False)
        self._opa = OpaPolicy(bundle, server.target(deadline_s=60.0), memoise=False)
        self.run(self._opa.open(must=True))

    @property
    def engines(self) -> tuple[str, str]:
        return self._embedded.engine, self._opa.engine

    def run(self, work: Awaitable[T]) -> T:
        async def awaited() -> T:
            return await work

        return self._loop.run_until_complete(awaited())

    def close(self) -> None:
        self.run(self._opa.close(remove=True))

    def compare(self, asked: Input) -> tuple[Mapping[str, Mapping[str, Any]], list[Difference]]:
        """What the embedded engine says in each phase, and where OPA differs, field by field."""
        found = self.run(self._both(asked))
        differences = [
            Difference(self.name, phase, field, one[field], other[field], asked)
            for phase, one, other in found
            for field in one
            if one[field] != other[field]
        ]
        return {phase: one for phase, one, _ in found}, differences

    async def _both(self, asked: Input) -> list[tuple[str, Mapping[str, Any], Mapping[str, Any]]]:
        call, facts, outcome = asked.call(), asked.facts(), asked.outcome()
        found = [
            (
                "call",
                _fields(await self._embedded.call(call, facts)),
                _fields(await self._opa.call(call, facts)),
            )
        ]
        if self._embedded.wants_result(call):
            one = await self._embedded.result(call, facts, outcome)
            other = await self._opa.result(call, facts, outcome)
            found.append(("result", _shown(one), _shown(other)))
        found.append(("list", *await self._listed(call, facts)))
        return found

    async def _listed(self, call: Call, facts: Facts) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
        """Lists are the embedded engine's in both modes; what OPA would say is asked of it directly."""
        group = self._embedded._phases["list"].of(call.tool)

        def encode(sections: Sections) -> bytes:
            return sections.encode_listed(call.principal, call.tool, facts)

        one, _ = self._embedded._engine.ask(group, encode)
        other, _ = await self._opa._opa.ask(group, encode)
        return tuple(msgspec.structs.asdict(combine(said, "allow", ())) for said in (one, other))  # type: ignore[return-value]


def _shown(said: ResultDecision) -> dict[str, Any]:
    return {**_fields(said.decision), "result": said.result_json, "error": said.error_json}


def _fields(decision: Decision) -> dict[str, Any]:
    return {name: getattr(decision, name) for name in COMPARED}


@contextmanager
def pairs(folder: Path, names: Sequence[str] | None = None) -> Iterator[list[Pair]]:
    """A pair for each pack of the library, over one OPA."""
    loop = asyncio.new_event_loop()
    with opa(folder) as server:
        made = [Pair(name, load(None, name).bundle, server, loop) for name in names or packs()]
        try:
            yield made
        finally:
            for pair in made:
                pair.close()
            loop.close()
