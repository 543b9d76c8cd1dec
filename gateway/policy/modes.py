"""In which mode a module works for which tool: its own, unless a more precise word was given.

``modes`` in METADATA is the module's own staging; ``data.wardgate.modes`` is that of whoever runs it, so that
a shipped module can be observed first without being copied. The first entry whose scope matches holds, the
data's before the METADATA's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from msgspec.structs import replace

from gateway.model import Mode, Tool
from gateway.policy.metadata import ModeFor
from gateway.policy.module import Module
from gateway.policy.problem import Problem
from gateway.policy.scope import matches


def mode_for(module: Module, tool: Tool) -> Mode:
    for entry in module.custom.modes:
        if matches(entry.scope, tool):
            return entry.mode
    return module.mode


def in_mode(module: Module, mode: Mode) -> Module:
    if module.mode == mode or module.meta is None:
        return module
    return replace(module, meta=replace(module.meta, custom=replace(module.custom, mode=mode)))


def settle(modules: Sequence[Module], data: Mapping[str, Any]) -> tuple[list[Module], list[Problem]]:
    """Put what the data says of modes in front of what the modules say."""
    given = (
        data.get("wardgate", {}).get("modes", {}) if isinstance(data.get("wardgate", {}), Mapping) else None
    )
    if not isinstance(given, Mapping):
        return list(modules), [Problem("data.wardgate.modes", 0, "data", "must map ids of rules to modes")]
    problems: list[Problem] = []
    done = list(modules)
    at = {module.id: number for number, module in enumerate(modules) if module.role == "rule"}
    for name, value in given.items():
        where = f"data.wardgate.modes.{name}"
        if name not in at:
            # A misspelt id would leave the rule in the mode nobody wanted.
            problems.append(Problem(where, 0, "data", f"there is no rule '{name}'"))
            continue
        module = done[at[name]]
        try:
            entries = msgspec.convert(
                [{"mode": value}] if isinstance(value, str) else value, tuple[ModeFor, ...]
            )
        except msgspec.ValidationError as error:
            problems.append(Problem(where, 0, "data", str(error)))
            continue
        assert module.meta is not None, "rules have METADATA"
        custom = replace(module.custom, modes=(*entries, *module.custom.modes))
        done[at[name]] = replace(module, meta=replace(module.meta, custom=custom))
    problems += [
        Problem(
            module.file, 1, "scope", "modes: 'arguments' is no scope of a mode; give the module that scope"
        )
        for module in done
        if module.role == "rule" and any(entry.scope.arguments for entry in module.custom.modes)
    ]
    problems += [
        Problem(module.file, 1, "scope", f"modes: '{glob}' must be 'upstream/name', as in 'git/*'")
        for module in done if module.role == "rule"
        for entry in module.custom.modes for glob in entry.scope.tools
        if "/" not in glob and glob != "*"  # a list of the data is for the scope of a module alone
    ]  # fmt: skip
    return done, problems
