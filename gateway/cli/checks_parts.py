"""Checks of what the gateway is made of: its policy and the tool servers behind it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

from gateway.cli.checks_credentials import usable
from gateway.cli.findings import Finding, ok, problem, warning
from gateway.cli.policy import folder_of
from gateway.errors import ConfigError, Refused, UpstreamError

if TYPE_CHECKING:
    from gateway.config import Config, UpstreamConfig
    from gateway.upstreams.registry import UpstreamRegistry

_NAMED: Final = 5  # how many names a sentence can carry
_PATIENCE_S: Final = 20.0


def policy(config: Config) -> Iterator[Finding]:
    """Whether the policy loads and passes its own tests."""
    from gateway.policy.bundle import read_bundle
    from gateway.policy.testing import run_tests
    from gateway.rollout import read_source

    if config.policy.source.url is not None:
        yield ok("policy", f"Policy comes from {config.policy.source.url}; /readyz says how that is going.")
        return
    try:
        read_source(config.policy)  # with the signature, where one is needed
        bundle = read_bundle(folder_of(config), config.policy.pack)
    except ConfigError as error:
        yield problem(
            "policy", f"{error}", "Without a policy every call is refused.", "Mend the lines named."
        )
        return
    yield ok(
        "policy", f"{len(bundle.rules)} rules in revision {bundle.revision[:12]}, from {_origin(config)}."
    )
    failed = run_tests(bundle).failed
    for result in failed[:_NAMED]:
        yield problem(
            "policy",
            f"The policy's own test {result.name} fails ({result.file}:{result.line}).",
            "The policy does not do what its authors say it does.",
            "wardgate policy test",
        )
    if not bundle.tests:
        yield warning(
            "policy",
            "The policy has no tests.",
            "A change that opens a hole would go unnoticed.",
            "Put *_test.rego beside the rules; the shipped packs show how.",
        )


def upstreams(config: Config) -> Iterator[Finding]:
    """Whether each tool server answers, and whether its tools are described."""
    if not config.upstreams:
        yield warning(
            "upstreams",
            "No upstream is configured.",
            "There is nothing an agent could call.",
            "Add one under 'upstreams', or run 'wardgate init --from' your client's file.",
        )
        return
    if config.mode != "enforce":
        yield warning(
            "mode",
            f"The gateway is in {config.mode} mode.",
            "Calls that policy denies are carried out.",
            "When the records show nothing you would miss, set 'mode: enforce'.",
        )
    yield from asyncio.run(_contacts(config))


async def _contacts(config: Config) -> list[Finding]:
    from gateway.clock import SystemClock
    from gateway.upstreams.registry import UpstreamRegistry

    registry = UpstreamRegistry(
        config.upstreams,
        clock=SystemClock(),
        result_bytes=config.limits.result_bytes,
    )
    try:
        found = await asyncio.gather(
            *(_contact(registry, name, each) for name, each in config.upstreams.items())
        )
        slow = [secret.read() for _, secret in registry.secrets() if secret.waiting]
        await asyncio.gather(*slow)  # each has a time-out of its own
        secrets = [finding for name, secret in registry.secrets() for finding in usable(name, secret)]
    finally:
        await registry.close()
    return [*(finding for findings in found for finding in findings), *secrets]


async def _contact(registry: UpstreamRegistry, name: str, config: UpstreamConfig) -> list[Finding]:
    try:
        async with asyncio.timeout(_PATIENCE_S):
            listed = await registry.definitions(name, "tool")
    except (UpstreamError, Refused, TimeoutError) as error:
        detail = getattr(error, "detail", "") or "no answer in time"
        where = config.url or f"{(config.command or ('',))[0]} …"  # its arguments may hold a secret
        return [
            problem(
                "upstreams",
                f"'{name}' cannot be used: {detail}.",
                "Calls to its tools are refused as unavailable.",
                f"Start it and try it by hand: {where}",
            )
        ]
    return _described(name, config, listed or [])


def _described(name: str, config: UpstreamConfig, listed: list[dict[str, object]]) -> list[Finding]:
    """Compare what the server lists with what the operator says of it."""
    from gateway.catalog.entries import build
    from gateway.catalog.manifests import Manifests

    manifests = Manifests(config)
    tools, refused = build(name, "tool", listed, manifests, config.mode)
    findings = [ok("upstreams", f"'{name}' answers and lists {len(tools)} tool(s).")]
    findings += [
        warning(
            "upstreams",
            f"'{name}' lists {each.subject}: {each.detail}.",
            "Agents do not see it and cannot call it: such a name could be mistaken for another.",
            "Ask whoever runs the server; it may be broken, or not what it seems.",
        )
        for each in refused
    ]
    unknown = sorted(tool.name for tool in tools if tool.manifest.source == "default")
    if unknown:
        findings.append(
            warning(
                "upstreams",
                f"'{name}': {len(unknown)} tool(s) have no manifest: {_some(unknown)}.",
                "They count as irreversible, which the strictest rules are for.",
                f"Say what they do: upstreams.{name}.tools.{unknown[0]}.risk, one of "
                "read, reversible, compensable and irreversible.",
            )
        )
    if misspelt := manifests.unused({tool.name for tool in tools}):
        findings.append(
            warning(
                "upstreams",
                f"'{name}' lists no tool called {_some(misspelt)}.",
                "A manifest that matches nothing protects nothing.",
                "Correct the name, or remove the manifest.",
            )
        )
    return findings


def _some(names: list[str]) -> str:
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return ", ".join(names[:_NAMED]) + more


def _origin(config: Config) -> str:
    folder = folder_of(config)
    parts = [f"pack '{config.policy.pack}'" if config.policy.pack else "", str(folder) if folder else ""]
    return " under ".join(part for part in parts if part)
