"""``wardgate policy``: what rules are in force, and everything their authors do with them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from gateway.cli.output import (
    DEFAULT_CONFIG,
    AsJson,
    ConfigPath,
    print_json,
    print_table,
)
from gateway.cli.policy_check import check, fmt, test
from gateway.cli.policy_replay import diff, replay
from gateway.cli.policy_source import Folder, bundle_of, folder_of

if TYPE_CHECKING:
    from gateway.policy.metadata import Scope

__all__ = ["app", "folder_of"]

app = typer.Typer(help="Write, test, explain and replay policy.", no_args_is_help=True)

for command in (check, test, fmt, replay, diff):
    app.command()(command)


@app.command()
def inspect(folder: Folder = None, config: ConfigPath = DEFAULT_CONFIG, as_json: AsJson = False) -> None:
    """List the rules with their scope, mode and reason codes."""
    bundle = bundle_of(folder, config)
    rules = [
        {
            "id": rule.id,
            "title": rule.meta.title if rule.meta else "",
            "phase": rule.phase,
            "mode": rule.mode,
            "severity": rule.custom.severity,
            "codes": list(rule.custom.codes),
            "tools": list(rule.scope.tools),
            "effects": list(rule.scope.effects),
            "risks": list(rule.scope.risks),
            "arguments": list(rule.scope.arguments),
            "file": rule.file,
        }
        for rule in bundle.rules
    ]
    if as_json:
        print_json({"revision": bundle.revision, "rules": rules})
        return
    print_table(
        f"revision {bundle.revision[:12]}",
        ["rule", "title", "phase", "mode", "codes", "applies to"],
        [
            [rule.id, rule.meta.title if rule.meta else "", rule.phase, rule.mode,
             ", ".join(rule.custom.codes), _scope(rule.scope)]
            for rule in bundle.rules
        ],
    )  # fmt: skip


def _scope(scope: Scope) -> str:
    parts = (scope.tools, scope.kinds, scope.effects, scope.risks, scope.arguments)
    return " and ".join(", ".join(part) for part in parts if part) or "everything"
