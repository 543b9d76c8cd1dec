"""Styles and scripts, read once. A file's name carries its hash, so that browsers may keep it for good."""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import sha256
from importlib.resources import files
from typing import Final, NamedTuple

_KINDS: Final = {
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}


class File(NamedTuple):
    url: str
    kind: str
    content: bytes


def load() -> Mapping[str, File]:
    """All static files by name."""
    found = {}
    for each in files("gateway.surfaces.console").joinpath("static").iterdir():
        stem, _, ending = each.name.rpartition(".")
        kind = _KINDS.get(f".{ending}")
        if kind is None:
            continue
        content = each.read_bytes()
        url = f"/console/static/{stem}.{sha256(content).hexdigest()[:12]}.{ending}"
        found[each.name] = File(url, kind, content)
    return found
