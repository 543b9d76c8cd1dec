"""``wardgate policy inspect``: the catalogue of rules and monitors, and which rules never had a say."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from gateway.cli.output import DEFAULT_CONFIG, AsJson, ConfigPath, print_json, print_table, say
from gateway.cli.policy_source import Folder, Limit, Pack, Since, bundle_of, narrowed

if TYPE_CHECKING:
    from gateway.policy.metadata import Scope
    from gateway.policy.policy import ModuleInfo
    from gateway.sessions.monitors import Monitor


def inspect(
    folder: Folder = None,
    pack: Pack = None,
    reads: Annotated[bool, typer.Option("--reads", help="Also which paths of the input each reads.")] = False,
    unused: Annotated[
        bool, typer.Option("--unused", help="Only rules that never had a say in the recorded decisions.")
    ] = False,
    since: Since = None,
    limit: Limit = None,
    config: ConfigPath = DEFAULT_CONFIG,
    as_json: AsJson = False,
) -> None:
    """List the rules with their owner, scope, modes and reason codes, and the monitors of sessions.

    Rules of phase 'list' leave no record of their own, so whether they are used is not known.
    """
    from gateway.policy.policy import EmbeddedPolicy

    policy = EmbeddedPolicy(bundle_of(folder, config, pack))
    catalogue = list(policy.catalogue())
    said: dict[str, int] | None = None
    if unused:
        from gateway.cli.policy_replay import inputs

        with inputs(config) as recorded:
            said = dict(recorded.spoken(narrowed(None, None, since), limit))
        catalogue = [rule for rule in catalogue if rule.phase != "list" and rule.id not in said]
    if as_json:
        print_json(
            {
                "revision": policy.revision,
                "rules": [_plain(rule) for rule in catalogue],
                "monitors": [_monitor(each) for each in policy.monitors.monitors],
            }
        )
        return
    if unused and not catalogue:
        say("Every rule has had a say in the recorded decisions.")
        return
    columns = ["rule", "title", "owner", "phase", "mode", "codes", "applies to"]
    print_table(
        f"revision {policy.revision[:12]}",
        [*columns, "reads"] if reads else columns,
        [
            [rule.id, rule.title, rule.owner, rule.phase, _modes(rule), ", ".join(rule.codes),
             _scope(rule.scope), *([", ".join(rule.reads)] if reads else [])]
            for rule in catalogue
        ],
    )  # fmt: skip
    if policy.monitors.monitors and not unused:
        print_table(
            "monitors",
            ["monitor", "template", "on violation", "state, bytes at most", "what it demands"],
            [
                [
                    each.name,
                    each.template,
                    each.definition.on_violation,
                    str(each.automaton.size()),
                    each.message,
                ]
                for each in policy.monitors.monitors
            ],
        )


def _monitor(each: Monitor) -> dict[str, Any]:
    import msgspec

    return {
        "name": each.name,
        "template": each.template,
        "revision": each.revision,
        "message": each.message,
        "state_bytes": each.automaton.size(),
        "definition": msgspec.to_builtins(each.definition),
    }


def _plain(rule: ModuleInfo) -> dict[str, Any]:
    import msgspec

    scope = msgspec.to_builtins(rule.scope)
    found: dict[str, Any] = msgspec.to_builtins(rule)
    # Parts of the scope stand beside the rest, where scripts look for them.
    return found | {name: scope[name] for name in ("tools", "kinds", "effects", "risks", "arguments")}


def _modes(rule: ModuleInfo) -> str:
    return ", ".join([*(f"{entry.mode} for {_scope(entry.scope)}" for entry in rule.modes), rule.mode])


def _scope(scope: Scope) -> str:
    parts = (scope.tools, scope.kinds, scope.effects, scope.risks, scope.arguments)
    said = [", ".join(part) for part in parts if part]
    if scope.confidentiality:
        said.append(f"confidentiality from {scope.confidentiality}")
    if scope.output_schema:
        said.append("output schema declared")
    return " and ".join(said) or "everything"
