"""Feeding an engine only what its modules read.

Setting the input costs as much as evaluating a rule (47 µs for 3 KB), and a module's answer is a function of
exactly the paths it reads. A ``Tree`` is such a set of paths as nested dicts; ``None`` stands for all below.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

Path = tuple[str, ...]
Tree = dict[str, Any]


def tree(paths: Iterable[Path]) -> Tree:
    """Nest paths; a path swallows those below it."""
    root: Tree = {}
    for path in sorted(set(paths), key=len):
        node = root
        for part in path[:-1]:
            below = node.setdefault(part, {})
            if below is None:
                break
            node = below
        else:
            node[path[-1]] = None
    return root


def project(value: Any, wanted: Tree | None) -> Any:
    """The part of a JSON value a tree names. What is no object is kept: its type may be asked for."""
    if wanted is None or not isinstance(value, Mapping):
        return value
    return {key: project(value[key], below) for key, below in wanted.items() if key in value}
