"""Calls, tools and small policy folders for the tests of the policy engine."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gateway import strictjson
from gateway.digest import call_digest
from gateway.model import Call, Decision, Facts, Kind, Manifest, Outcome, Principal, Tool
from gateway.policy import EmbeddedPolicy, load

ANN = Principal(tenant="default", agent="ann", owner="team-a", credential="k1", labels=("developer",))


def principal(**changes: Any) -> Principal:
    given: dict[str, Any] = {"tenant": "default", "agent": "ann", "owner": "team-a", "credential": "k1"}
    return Principal(**{**given, **changes})


def tool(
    target: str = "git/git_log", *, kind: Kind = "tool", definition: bytes = b"", **manifest: Any
) -> Tool:
    upstream, name = target.split("/", 1)
    return Tool(
        kind=kind, upstream=upstream, name=name, target=target, schema_hash="h", definition_json=definition,
        manifest=Manifest(**manifest),
    )  # fmt: skip


def call(args: Mapping[str, Any] | None = None, *, on: Tool | None = None, by: Principal = ANN) -> Call:
    on = on or tool(risk="read")
    args = args if args is not None else {}
    try:
        args_json = strictjson.canonical(args)
    except TypeError:  # what orjson cannot say must reach the engine's own defences
        args_json = b"{}"
    return Call(
        id="01", principal=by, tool=on, args=args, args_json=args_json,
        digest=call_digest(by, "s", on, args_json), session="s", thread="t", surface="mcp", effect_key="01",
        received_ns=1_700_000_000_000_000_000,
    )  # fmt: skip


def decide(policy: EmbeddedPolicy, asked: Call, facts: Facts | None = None) -> Decision:
    return asyncio.run(policy.call(asked, facts or Facts()))


def inspect(policy: EmbeddedPolicy, asked: Call, outcome: Outcome, facts: Facts | None = None) -> Any:
    return asyncio.run(policy.result(asked, facts or Facts(), outcome))


def rule(
    name: str,
    body: str,
    *,
    codes: str = "[fine, stop, ask, duty]",
    imports: str = "",
    severity: str = "medium",
    **custom: str,
) -> str:
    """A module with METADATA; ``custom`` adds lines such as ``mode="observe"`` or ``scope="{…}"``."""
    extra = "".join(f"#   {key}: {value}\n" for key, value in custom.items())
    return (
        f"# METADATA\n# title: {name}\n# custom:\n#   id: {name}\n#   owner: t\n#   severity: {severity}\n"
        f"#   codes: {codes}\n{extra}"
        f"package wardgate.rules.{name}\nimport rego.v1\n{imports}\n{body}\n"
    )


def write(folder: Path, files: Mapping[str, str]) -> Path:
    """Write a policy folder; names without a suffix get ``.rego``."""
    for name, text in files.items():
        path = folder / (name if "." in name else f"{name}.rego")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return folder


def policy_of(folder: Path, files: Mapping[str, str], pack: str | None = None) -> EmbeddedPolicy:
    return load(write(folder, files), pack)
