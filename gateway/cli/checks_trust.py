"""Checks of trust: what each tier takes, and whether anything could be earned at all."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

from gateway.cli.findings import Finding, ok, warning
from gateway.errors import ConfigError, StateError

if TYPE_CHECKING:
    from gateway.config import Config

_NAMED: Final = 5
_SOON_NS: Final = 14 * 86_400 * 1_000_000_000


def trust(config: Config) -> Iterator[Finding]:
    """Unreachable thresholds have refused to load already; here is what the reachable ones take."""
    from gateway.trust import reach

    if not config.trust.enabled:
        yield ok("trust", "No trust is kept: agents have no tiers ('trust.enabled' is false).")
        return
    settings = config.trust.settings()
    yield ok("trust", f"An agent nothing is known of holds T{settings.initial}.")
    for need in reach.needs(settings):
        yield ok(
            "trust",
            f"T{need.tier} (bound {need.bound:g}) takes {need.outcomes} verified outcomes without a failure, "
            f"and {need.per_day:.1f} a day under a half-life of {settings.half_life_good_days:g} days; "
            f"{settings.per_day} a day are counted.",
        )
    yield from _sources(config)
    without = sorted(name for name, agent in config.agents.items() if agent.build is None)
    claims = any(issuer.build_claim for issuer in config.identity.issuers.values())
    if without and not claims and settings.caps.unattested < 4:
        named = ", ".join(without[:_NAMED]) + (" …" if len(without) > _NAMED else "")
        yield warning(
            "trust",
            f"Nobody says which model, prompt and tools {len(without)} agent(s) are: {named}.",
            f"They never go beyond T{settings.caps.unattested}, and a change of them would go unnoticed.",
            "Give them 'agents.<name>.build', or let tokens say it: 'identity.issuers.<name>.build_claim'.",
        )
    yield from _ending(config)


def _sources(config: Config) -> Iterator[Finding]:
    """Where outcomes for an agent could come from."""
    verified = [
        f"{name}/{tool}"
        for name, upstream in config.upstreams.items()
        for tool, manifest in upstream.tools.items()
        if manifest.verify is not None
    ]
    if not config.approvals.chains:
        yield warning(
            "trust",
            "No approval chain is configured.",
            "What an agent may not do alone is refused instead of held, and cannot be shown to go well.",
            "Configure 'approvals.chains'.",
        )
        if not verified:
            yield warning(
                "trust",
                "No tool has a verifier either.",
                "Nothing an agent does is verified, so no tier above the initial one can be earned.",
                "Give tools a 'verify' in their manifests: docs/how-to/verify-what-a-call-did.md.",
            )


def _ending(config: Config) -> Iterator[Finding]:
    """Promotions that end soon."""
    from gateway.storage.database import Database
    from gateway.storage.trust import TrustStore

    if not config.storage.path.exists():
        return
    now = time.time_ns()
    try:
        with Database(config.storage.path).open(read_only=True) as database:
            tenants = {agent.tenant for agent in config.agents.values()}
            accounts = [each for tenant in tenants for each in TrustStore(database).accounts(tenant)]
    except (ConfigError, StateError):
        return  # said where the storage is looked at
    for where, account in accounts:
        if account.until_ns and 0 < account.until_ns - now < _SOON_NS:
            days = (account.until_ns - now) / 86_400e9
            yield warning(
                "trust",
                f"T{account.tier} of '{where.agent}' in {where.domain} ends in {days:.0f} days.",
                f"Then it holds T{min(account.tier, config.trust.initial)}.",
                f"wardgate trust promote {where.agent} --domain {where.domain} --renew --reason …",
            )
