"""Monitors as part of a policy: ``*.yaml`` in a folder named ``monitors``, read with the place of each fault.

What lies in a policy folder replaces a shipped monitor of the same name; a name given twice in one folder is
refused, because which of the two holds would be chance.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import PurePosixPath
from typing import Final, Protocol

import msgspec

from gateway.policy import data
from gateway.policy.problem import Problem
from gateway.sessions.monitors import Definition, Monitors, Unusable, examine

FOLDER: Final = "monitors"
SHIPPED: Final = "shipped/"


class _Source(Protocol):
    """A file as read: see ``bundle.Source``."""

    @property
    def file(self) -> str: ...
    @property
    def name(self) -> str: ...
    @property
    def text(self) -> str: ...


class Placed(msgspec.Struct, frozen=True):
    """A definition and where it stands."""

    definition: Definition
    file: str
    line: int
    layer: int


def is_file(name: str) -> bool:
    """Whether a file of a policy holds monitors; ``name`` is relative to the policy's root."""
    path = PurePosixPath(name)
    return path.suffix in (".yaml", ".yml") and path.parent.name == FOLDER and path.name not in data.NAMES


def read(sources: Iterable[_Source]) -> tuple[dict[str, Placed], list[Problem]]:
    """The definitions by name, shipped ones under the others, and what is wrong with them."""
    found: dict[str, Placed] = {}
    problems: list[Problem] = []
    for source in sorted(sources, key=_layer):
        for name, placed in _file(source, problems):
            before = found.get(name)
            if before is not None and before.layer == placed.layer:
                said = f"the monitor '{name}' is also given at {before.file}:{before.line}; rename one"
                problems.append(Problem(placed.file, placed.line, "monitor", said))
            found[name] = placed
    if not problems:
        problems += _together(found)
    return dict(sorted(found.items())), problems


def definitions(placed: Mapping[str, Placed]) -> dict[str, Definition]:
    return {name: each.definition for name, each in placed.items()}


def _layer(source: _Source) -> int:
    """What lies over what: the installed pack, the pack inside a built bundle, and everything else."""
    if source.file.startswith(SHIPPED):
        return 0
    return 1 if source.name.startswith(SHIPPED) else 2


def _file(source: _Source, problems: list[Problem]) -> Iterator[tuple[str, Placed]]:
    raw = source.text.encode()
    try:
        read, wrong = examine(data.parse(source.name, raw))
    except data.DataError as error:
        problems.append(Problem(source.file, data.line_said(str(error)), "monitor", str(error)))
        return
    problems += [Problem(source.file, _line(raw, each.path), "monitor", str(each)) for each in wrong]
    for name, definition in read.items():
        yield name, Placed(definition, source.file, _line(raw, ("monitors", name)), _layer(source))


def _line(raw: bytes, path: tuple[str, ...]) -> int:
    """The line of the last part of a path that the file has."""
    while path:
        line = data.line_of(raw, path)
        if line:
            return line
        path = path[:-1]
    return 1


def _together(found: Mapping[str, Placed]) -> Iterator[Problem]:
    """What is only wrong with all of them at once."""
    try:
        Monitors(definitions(found))
    except Unusable as error:
        at = found.get(error.path[1]) if len(error.path) > 1 else next(iter(found.values()))
        assert at is not None, "a monitor that is refused is one of them"
        yield Problem(at.file, at.line, "monitor", str(error))
