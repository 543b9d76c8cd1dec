"""``wardgate policy``: what rules are in force, and whether their tests pass."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gateway.cli import policy_bundle, policy_rollout
from gateway.cli.output import (
    DEFAULT_CONFIG,
    FOUND_SOMETHING,
    AsJson,
    ConfigPath,
    print_json,
    print_table,
    say,
)

if TYPE_CHECKING:
    from gateway.config import Config
    from gateway.policy.metadata import Scope
    from gateway.policy.module import Bundle

app = typer.Typer(help="Look at the policy, run its tests, ship it and roll it out.", no_args_is_help=True)
app.command()(policy_bundle.build)
app.command()(policy_bundle.sign)
app.command()(policy_bundle.verify)
app.add_typer(policy_rollout.app, name="rollout")

Folder = Annotated[Path | None, typer.Argument(help="A policy folder, instead of the configured one.")]


@app.command()
def test(folder: Folder = None, config: ConfigPath = DEFAULT_CONFIG, as_json: AsJson = False) -> None:
    """Load the policy as the gateway would and run its tests. Exits 1 when one fails or there are none."""
    from gateway.policy.testing import run_tests

    report = run_tests(_bundle(folder, config))
    if as_json:
        import msgspec

        print_json({"passed": report.passed, **msgspec.to_builtins(report)})
    else:
        for result in report.failed:
            say(f"✗ {result.name} ({result.file}:{result.line}): {result.detail}")
        passed = len(report.results) - len(report.failed)
        say(f"{passed} passed, {len(report.failed)} failed, revision {report.revision[:12]}.")
    if not report.passed:
        raise typer.Exit(FOUND_SOMETHING)


@app.command()
def inspect(folder: Folder = None, config: ConfigPath = DEFAULT_CONFIG, as_json: AsJson = False) -> None:
    """List the rules with their scope, mode and reason codes."""
    bundle = _bundle(folder, config)
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


def folder_of(config: Config) -> Path | None:
    """The policy folder; with a pack it may be absent."""
    folder = config.policy.folder or config.policy.source.file
    if folder is None:
        from gateway.cli.output import fail

        fail("The configured policy is behind a url.", "Name a folder or bundle.")
    return folder if config.policy.pack is None or folder.exists() else None


def _bundle(folder: Path | None, config: Path) -> Bundle:
    from gateway.policy.bundle import read_bundle

    if folder is not None:
        return read_bundle(folder, None)
    from gateway.cli.opened import configuration

    loaded = configuration(config)
    return read_bundle(folder_of(loaded), loaded.policy.pack)


def _scope(scope: Scope) -> str:
    parts = (scope.tools, scope.kinds, scope.effects, scope.risks, scope.arguments)
    return " and ".join(", ".join(part) for part in parts if part) or "everything"
