"""Tools that run somewhere else: the operator's manifests are all there is to know of them.

Nothing publishes a list of them, so any name that is safe to show resolves: to the manifest of that name, to
the longest glob, or to none, which is ``irreversible``.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

from gateway.catalog import names
from gateway.catalog.manifests import Manifests
from gateway.config_upstream import UpstreamConfig
from gateway.errors import Refused
from gateway.model import Kind, Mode, Tool

_KEPT: Final = 4096


class Elsewhere:
    """The tools of one upstream that the gateway sends nothing to."""

    def __init__(self, upstream: str, config: UpstreamConfig, manifests: Manifests, mode: Mode) -> None:
        self._upstream = upstream
        self._manifests = manifests
        self._mode = mode
        # The same name gives the same object, because what policy remembers of a tool it keeps by identity.
        self._met: OrderedDict[str, Tool] = OrderedDict()
        named = [name for name in config.tools if "*" not in name]
        named += [route.tool for route in config.routes if route.tool not in named]
        self._named = {name: self._tool(name) for name in named}
        self.tools: tuple[Tool, ...] = tuple(self._named.values())

    def resolve(self, kind: Kind, name: str) -> Tool:
        """Raise ``Refused`` for what is no tool, or a name that could pass for another one."""
        if kind != "tool" or names.fault(name):
            raise Refused("unknown_tool", f"{self._upstream} has no {kind} {names.shown(name)}")
        found = self._named.get(name) or self._met.get(name)
        if found is None:
            found = self._met[name] = self._tool(name)
            if len(self._met) > _KEPT:
                self._met.popitem(last=False)
        return found

    def _tool(self, name: str) -> Tool:
        return Tool(
            kind="tool",
            upstream=self._upstream,
            name=name,
            target=f"{self._upstream}/{name}",
            manifest=self._manifests.of("tool", name),
            schema_hash="",
            mode=self._mode,
            elsewhere=True,
        )
