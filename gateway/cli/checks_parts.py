"""Checks of what the gateway is made of: its policy and the tool servers behind it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Final

from gateway.cli.checks_credentials import usable
from gateway.cli.findings import Finding, ok, problem, warning
from gateway.cli.policy import folder_of
from gateway.errors import ConfigError, Refused, UpstreamError

if TYPE_CHECKING:
    from gateway.config import Config
    from gateway.config_upstream import UpstreamConfig
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


def opa(config: Config) -> Iterator[Finding]:
    """Whether the OPA that decides can be asked."""
    from gateway.policy.opa_link import probe
    from gateway.policy.opa_target import OpaFault, Target

    if config.policy.engine != "opa":
        return
    target = Target.of(config.policy.opa)
    try:
        asyncio.run(probe(target))
    except OpaFault as error:
        yield problem(
            "opa",
            f"OPA cannot be asked: {error}.",
            "While it does not answer, calls are refused.",
            "Start it with 'opa run --server', and check 'policy.opa'.",
        )
    else:
        yield ok("opa", f"OPA answers at {target}.")


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
    try:
        yield from asyncio.run(_contacts(config))
    except ConfigError as error:
        yield problem("upstreams", f"{error}", "The gateway would not start.", "Mend what it names.")
    for name, upstream in config.upstreams.items():
        if upstream.elsewhere:
            yield from _elsewhere(name, upstream)


async def _contacts(config: Config) -> list[Finding]:
    from gateway.clock import SystemClock
    from gateway.upstreams.registry import UpstreamRegistry

    reached = {name: each for name, each in config.upstreams.items() if not each.elsewhere}
    registry = UpstreamRegistry(reached, clock=SystemClock(), result_bytes=config.limits.result_bytes)
    try:
        found = await asyncio.gather(*(_contact(registry, name, each) for name, each in reached.items()))
        slow = [secret.read() for _, secret in registry.secrets() if secret.waiting]
        await asyncio.gather(*slow)  # each has a time-out of its own
        secrets = [finding for name, secret in registry.secrets() for finding in usable(name, secret)]
    finally:
        await registry.close()
    return [*(finding for findings in found for finding in findings), *secrets]


async def _contact(registry: UpstreamRegistry, name: str, config: UpstreamConfig) -> list[Finding]:
    from gateway.upstreams.peer import Unusable

    try:
        async with asyncio.timeout(_PATIENCE_S):
            listed = await registry.definitions(name, "tool")
            await registry.reach(name)
    except (UpstreamError, Refused, TimeoutError) as error:
        detail = getattr(error, "detail", "") or "no answer in time"
        if isinstance(error, Unusable):
            todo = "Mend the document."
        elif "not a public address" in detail and config.openapi is not None:
            todo = f"If that is where it should be: upstreams.{name}.allow_private: true"
        else:
            # The arguments of a command may hold a secret.
            where = config.url or f"{(config.command or (config.python or '',))[0]} …"
            todo = f"Start it and try it by hand: {where}"
        return [
            problem(
                "upstreams",
                f"'{name}' cannot be used: {detail}.",
                "Calls to its tools are refused as unavailable.",
                todo,
            )
        ]
    left_out = next(status.problems for status in registry.status() if status.upstream == name)
    return [*_described(name, config, listed or []), *_left_out(name, left_out)]


def _left_out(name: str, problems: Sequence[str]) -> Iterator[Finding]:
    """What of an HTTP API cannot be offered."""
    for text in problems[:_NAMED]:
        yield warning(
            "upstreams",
            f"'{name}': {text}.",
            "Agents do not see it: what cannot be carried as the document says is not guessed at.",
            "Change the document, or do without that operation.",
        )
    if len(problems) > _NAMED:
        yield warning(
            "upstreams",
            f"'{name}': {len(problems) - _NAMED} more of the document are left out.",
            "Agents do not see them.",
            "The log of a starting gateway names twenty of them.",
        )


def _described(name: str, config: UpstreamConfig, listed: list[dict[str, object]]) -> list[Finding]:
    """Compare what the server lists with what the operator says of it."""
    from gateway.catalog.entries import build
    from gateway.catalog.manifests import Manifests

    manifests = Manifests(config)
    tools, refused = build(name, "tool", listed, manifests, config.mode)
    said = "can be reached and its document has" if config.openapi is not None else "answers and lists"
    findings = [ok("upstreams", f"'{name}' {said} {len(tools)} tool(s).")]
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


def _elsewhere(name: str, config: UpstreamConfig) -> list[Finding]:
    """Nothing can be asked there; what the operator says must at least fit together."""
    from gateway.catalog.manifests import Manifests

    said = [tool for tool in config.tools if config.tools[tool].risk is not None]
    findings = [ok("upstreams", f"'{name}' runs elsewhere; {len(said)} description(s) give a risk.")]
    manifests = Manifests(config)
    routed = dict.fromkeys(route.tool for route in config.routes)
    unknown = [tool for tool in routed if manifests.of("tool", tool).source == "default"]
    if unknown:
        findings.append(
            warning(
                "upstreams",
                f"'{name}': {len(unknown)} tool(s) of its routes have no manifest: {_some(unknown)}.",
                "They count as irreversible, which the strictest rules are for.",
                f"Say what they do: upstreams.{name}.tools.{unknown[0]}.risk, one of "
                "read, reversible, compensable and irreversible.",
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
