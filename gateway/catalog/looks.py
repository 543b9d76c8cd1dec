"""What a name looks like, so that one name cannot pass for another.

Two names look alike when their skeletons are equal: the prototypes of UTS #39 for everything that passes for
an ASCII character (``confusables.txt`` beside this file, 800 code points), and compatibility normalization
(NFKC), which folds full-width, mathematical and other letter forms. Each name is also compared
without regard to case. Look-alikes within a script that has nothing to do with ASCII are not found.

Nothing is decided by skeleton: a name is resolved, recorded and sent as its own bytes.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable
from functools import cache, lru_cache
from pathlib import Path
from typing import Final

RESERVED: Final = ("wardgate", "mcp__")
"""What names must not begin with: the gateway's own, and the prefix clients put before a server's name."""

SEAM: Final = "__"
"""Stands between upstream and tool on the aggregated endpoint (``surfaces/mcp/names.py``)."""


@lru_cache(maxsize=65_536)
def looks(name: str) -> tuple[str, ...]:
    """The skeletons of a name: as it is written, and without regard to case when that differs."""
    return tuple(dict.fromkeys((_normal(name), _normal(_normal(name.casefold()).casefold()))))


def reserved(upstreams: Iterable[str]) -> tuple[str, ...]:
    """Skeletons that no name may begin with: reserved words, and ``upstream__`` of the given upstreams."""
    begins = (*RESERVED, *(upstream + SEAM for upstream in upstreams))
    return tuple(dict.fromkeys(skeleton for begin in begins for skeleton in looks(begin)))


def _normal(name: str) -> str:
    # Before normalization too, which takes some characters apart into a space and a mark.
    shown = name.translate(_table())
    return shown if shown.isascii() else unicodedata.normalize("NFKC", shown).translate(_table())


@cache
def _table() -> dict[int, str]:
    table: dict[int, str] = {}
    for line in Path(__file__).with_name("confusables.txt").read_text(encoding="ascii").splitlines():
        if line.startswith("#"):
            continue
        prototype, _, sources = line.partition(";")
        shown = "".join(chr(int(point, 16)) for point in prototype.split())
        table.update((int(point, 16), shown) for point in sources.split())
    return table
