"""What one revision of the catalog looks like from this front.

Everything kept here is derived from the catalog and forgotten when that changes.
"""

from __future__ import annotations

import orjson

from gateway.errors import Refused
from gateway.model import Kind, Principal, Tool
from gateway.ports import Catalog, Parts
from gateway.surfaces.mcp.headers import ParamHeader, param_headers
from gateway.surfaces.mcp.names import Names, exposed


class View:
    """Names, definitions and header annotations of one catalog revision."""

    def __init__(self, catalog: Catalog) -> None:
        self.catalog = catalog
        self.revision = catalog.revision
        self.names = Names(catalog)
        self._params: dict[str, tuple[ParamHeader, ...]] = {}
        self._renamed: dict[str, bytes] = {}

        self._resource_upstreams: tuple[str, ...] | None = None

    def params(self, upstream: str, name: str) -> tuple[ParamHeader, ...]:
        """The arguments of a tool that clients must repeat in headers; none for an unknown tool."""
        try:
            tool = self.catalog.resolve("tool", upstream, name)
        except Refused:
            return ()
        if tool.pin.quarantined:  # its definition must not even shape a complaint
            return ()
        found = self._params.get(tool.target)
        if found is None:
            found = self._params[tool.target] = param_headers(tool.definition_json)
        return found

    def renamed(self, tool: Tool) -> bytes:
        """The definition of a tool or prompt under its aggregated name."""
        key = f"{tool.kind}:{tool.target}"
        renamed = self._renamed.get(key)
        if renamed is None:
            definition = orjson.loads(tool.definition_json)
            definition["name"] = exposed(tool.upstream, tool.name)
            renamed = self._renamed[key] = orjson.dumps(definition)
        return renamed

    def readers(self, parts: Parts, principal: Principal, uri: str) -> list[str]:
        """The upstreams that offer this principal a resource of that URI.

        One that lists the URI comes before any that has a template for it, so that a greedy template
        cannot draw another upstream's resources to itself.
        """
        if self._resource_upstreams is None:
            held = (tool for tool in self.catalog.held() if tool.kind == "resource")
            self._resource_upstreams = tuple(
                dict.fromkeys(tool.upstream for tool in (*self.catalog.tools("resource"), *held))
            )
        listed: list[str] = []
        by_template: list[str] = []
        quarantined: list[str] = []
        for upstream in self._resource_upstreams:
            tool = self.find(parts, principal, "resource", upstream, uri)
            # An entry without a definition is a URI its upstream may know, but never offered to anybody.
            if tool is None or not tool.definition_json:
                continue
            if tool.pin.quarantined:  # it must not make another upstream's resource ambiguous
                quarantined.append(upstream)
            else:
                (by_template if is_template(tool) else listed).append(upstream)
        return listed or by_template or quarantined

    def find(self, parts: Parts, principal: Principal, kind: Kind, upstream: str, name: str) -> Tool | None:
        """What a name stands for, if there is such a thing for this principal."""
        try:
            tool = self.catalog.resolve(kind, upstream, name)
        except Refused:
            return None
        return tool if parts.policy.sees(principal, tool, parts.state.slow(principal)) else None


class Views:
    """The view of the catalog that the current parts hold."""

    def __init__(self) -> None:
        self._view: View | None = None

    def of(self, catalog: Catalog) -> View:
        view = self._view
        if view is None or view.catalog is not catalog or view.revision != catalog.revision:
            view = self._view = View(catalog)
        return view


def is_template(tool: Tool) -> bool:
    """Whether a resource entry is a URI template rather than one resource."""
    if b'"uriTemplate"' not in tool.definition_json:
        return False
    return "uriTemplate" in orjson.loads(tool.definition_json)
