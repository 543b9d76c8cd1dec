"""Names on the aggregated endpoint: ``upstream__tool``.

Clients hand tool names to models whose providers accept only ``^[a-zA-Z0-9_-]{1,64}$``. A name is *plain*
when joining upstream and tool with two underscores gives such a name and the first pair of underscores is
the seam, so that it can be taken apart again without a table. Every other tool gets a *derived* name: a
readable slug and 16 hex digits of the SHA-256 of both parts. Derived names contain no pair of underscores
and therefore never equal a plain one, and no name depends on which other tools exist.
"""

from __future__ import annotations

import re
from hashlib import sha256
from typing import Final

from gateway.model import Kind
from gateway.ports import Catalog

SEAM: Final = "__"
_PLAIN: Final = re.compile(r"[a-zA-Z0-9_-]{1,64}")
_SLUG: Final = 47  # 47 + "-" + 16 = 64


def is_plain(upstream: str, name: str) -> bool:
    joined = upstream + SEAM + name
    return _PLAIN.fullmatch(joined) is not None and joined.index(SEAM) == len(upstream)


def exposed(upstream: str, name: str) -> str:
    """The name of a tool or prompt on the aggregated endpoint."""
    if is_plain(upstream, name):
        return upstream + SEAM + name
    slug = re.sub(r"_+", "_", re.sub(r"[^a-zA-Z0-9-]+", "_", f"{upstream}_{name}"))[:_SLUG]
    digest = sha256(f"{upstream}\0{name}".encode()).hexdigest()[:16]
    return f"{slug}-{digest}"


class Names:
    """Takes aggregated names apart again; one per catalog revision, tables built on first need."""

    def __init__(self, catalog: Catalog) -> None:
        self.revision = catalog.revision
        self._catalog = catalog
        self._derived: dict[Kind, dict[str, tuple[str, str]]] = {}

    def resolve(self, kind: Kind, name: str) -> tuple[str, str] | None:
        """``(upstream, name)`` of an aggregated name; ``None`` when it can be nobody's."""
        upstream, seam, rest = name.partition(SEAM)
        if seam:
            return (upstream, rest) if rest and is_plain(upstream, rest) else None
        return self._table(kind).get(name)

    def _table(self, kind: Kind) -> dict[str, tuple[str, str]]:
        table = self._derived.get(kind)
        if table is None:
            table = {}
            # What is in quarantine is refused with a reason, not as unknown, so its name is known here.
            held = (tool for tool in self._catalog.held() if tool.kind == kind)
            for tool in (*self._catalog.tools(kind), *held):
                if not is_plain(tool.upstream, tool.name):
                    table[exposed(tool.upstream, tool.name)] = (tool.upstream, tool.name)
            self._derived[kind] = table
        return table
