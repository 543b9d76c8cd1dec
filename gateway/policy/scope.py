"""Which modules look at which tool: an index, not a search.

Modules are found by the upstream their globs name; the answer is remembered per tool. So neither the number
of modules loaded nor the number of tools known is felt by a call.
"""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Sequence
from typing import Final, Generic, Protocol, TypeVar

from gateway import output_schema
from gateway.model import Json, Tool
from gateway.policy.metadata import Scope


class Scoped(Protocol):
    @property
    def scope(self) -> Scope: ...


M = TypeVar("M", bound=Scoped)

_KEPT: Final = 50_000
_EXACT: Final = 2**53
"""Whole numbers up to here are the same as integers and as floats."""


def matches(scope: Scope, tool: Tool) -> bool:
    """The meaning of a scope, as far as it is about the tool; the index must never answer otherwise."""
    if scope.kinds and tool.kind not in scope.kinds:
        return False
    if scope.risks and tool.manifest.risk not in scope.risks:
        return False
    if scope.effects and not any(effect in scope.effects for effect in tool.manifest.effects):
        return False
    if tool.manifest.confidentiality < scope.confidentiality:
        return False
    if scope.output_schema and not output_schema.named(tool):
        return False
    return not scope.tools or any(glob_matches(glob, tool.target) for glob in scope.tools)


def touches(scope: Scope, names: frozenset[str]) -> bool:
    """The meaning of a scope, as far as it is about the call; ``names`` as ``argument_names`` gives them."""
    return not scope.arguments or not names.isdisjoint(scope.arguments)


def argument_names(args: Json) -> frozenset[str] | None:
    """Names of all fields of the arguments, however deep, in lower case.

    ``None`` when they hold a float beyond 2^53: it has lost digits, so which number it stands for is open,
    and engines differ on what it equals.
    """
    names: set[str] = set()
    stack = [args]
    while stack:
        item = stack.pop()
        if isinstance(item, dict):
            names.update(item)
            stack += item.values()
        elif isinstance(item, list):
            stack += item
        elif item.__class__ is float and not -_EXACT < item < _EXACT:
            return None
    return frozenset(name.lower() for name in names)


def glob_matches(glob: str, target: str) -> bool:
    """``*`` stands for any run of characters, also across '/'; everything else for itself."""
    if "*" not in glob:
        return glob == target
    return re.fullmatch(".*".join(map(re.escape, glob.split("*"))), target, re.DOTALL) is not None


class ScopeIndex(Generic[M]):
    """Answers ``modules(tool)`` in load order."""

    def __init__(self, modules: Sequence[M]) -> None:
        self._modules = tuple(modules)
        self._by_upstream: dict[str, list[int]] = {}
        self._anywhere: list[int] = []
        self._by_schema = any(module.scope.output_schema for module in self._modules)
        self._kept: OrderedDict[tuple[object, ...], tuple[int, ...]] = OrderedDict()
        for number, module in enumerate(self._modules):
            upstreams = {_upstream(glob) for glob in module.scope.tools}
            if not upstreams or None in upstreams:
                self._anywhere.append(number)
                continue
            for upstream in upstreams:
                self._by_upstream.setdefault(str(upstream), []).append(number)

    def numbers(self, tool: Tool) -> tuple[int, ...]:
        """Positions of the modules in scope."""
        manifest = tool.manifest
        declares = self._by_schema and output_schema.named(tool)
        key = (tool.kind, tool.target, manifest.risk, manifest.effects, manifest.confidentiality, declares)
        found = self._kept.get(key)
        if found is None:
            near = sorted({*self._anywhere, *self._by_upstream.get(tool.target.split("/", 1)[0], ())})
            found = tuple(number for number in near if matches(self._modules[number].scope, tool))
            if len(self._kept) >= _KEPT:
                self._kept.popitem(last=False)
            self._kept[key] = found
        return found

    def modules(self, tool: Tool) -> tuple[M, ...]:
        return tuple(self._modules[number] for number in self.numbers(tool))


def _upstream(glob: str) -> str | None:
    """The upstream a glob is about, when it names exactly one."""
    upstream, slash, _ = glob.partition("/")
    return upstream if slash and "*" not in upstream else None
