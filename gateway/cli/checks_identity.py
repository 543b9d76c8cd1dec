"""Checks of who may come in without a key: issuers of tokens, and the proxy that checks certificates."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from gateway.cli.findings import Finding, ok, problem, warning

if TYPE_CHECKING:
    from gateway.config import Config
    from gateway.identity.tokens import Issuer

_WIDE: Final = 256  # addresses: more than a set of proxies has
_SKEW_S: Final = 5.0


def without_keys(config: Config) -> set[str]:
    """Agents that can come by a token or a certificate."""
    found = set(config.identity.proxy.subjects.values())
    for issuer in config.identity.issuers.values():
        if issuer.agent is not None:
            found.add(issuer.agent)
        elif issuer.agents:
            found.update(issuer.agents.values())
        else:
            found.update(name for name, agent in config.agents.items() if agent.tenant == issuer.tenant)
    return found


def issuers(config: Config) -> Iterator[Finding]:
    """Whether each issuer answers with keys, and what its clock says."""
    if config.identity.issuers:
        yield from asyncio.run(_issuers(config))


async def _issuers(config: Config) -> list[Finding]:
    import time

    from gateway.identity.authenticator import Authenticator, Stored
    from gateway.identity.directory import Directory

    authenticator = Authenticator(Directory(time.time_ns))
    try:
        authenticator.load(Stored(()), config)
        await asyncio.gather(*(issuer.keyring.refresh() for issuer in authenticator.issuers.values()))
        return [finding for issuer in authenticator.issuers.values() for finding in _issuer(issuer, config)]
    finally:
        await authenticator.close()


def _issuer(issuer: Issuer, config: Config) -> Iterator[Finding]:
    name, ring, settings = issuer.name, issuer.keyring, issuer.config
    if ring.failure:
        yield problem(
            "issuers",
            f"The keys of '{name}' cannot be fetched: {ring.failure}.",
            "Its tokens are refused as issuer_unavailable.",
            "Open the URL by hand; set identity.issuers." + name + ".jwks_url if the keys are elsewhere.",
        )
    elif not ring.usable:
        why = "; ".join(ring.set.dropped) or "it publishes none"
        yield problem(
            "issuers",
            f"'{name}' has no key that can be used: {why}.",
            "Its tokens are refused as issuer_unavailable.",
            f"Compare identity.issuers.{name}.algorithms with what it signs with.",
        )
    else:
        yield ok("issuers", f"'{name}' has {ring.usable} usable key(s).")
        for dropped in ring.set.dropped:
            yield warning(
                "issuers",
                f"'{name}': {dropped}.",
                "Tokens signed with it are refused.",
                "Ask whoever runs the issuer, if that is not meant.",
            )
    if abs(ring.ahead_s) > max(_SKEW_S, settings.leeway_s / 2):
        yield warning(
            "clock",
            f"The clock of '{name}' is {ring.ahead_s:+.0f} s off; {settings.leeway_s:g} s are forgiven.",
            "Fresh tokens may be refused as not yet valid, and expired ones believed.",
            "Check the time service of both machines.",
        )
    if settings.agent_claim is not None and not settings.agents:
        yield warning(
            "issuers",
            f"'{name}' names agents by '{settings.agent_claim}' itself: every agent of tenant "
            f"'{settings.tenant}' can be named.",
            "Who can register a client there under an agent's name is that agent.",
            f"List the values under identity.issuers.{name}.agents.",
        )
    if config.identity.metadata and settings.advertise:
        public = config.server.public_url or ""
        if not any(audience.startswith(public) for audience in settings.audience):
            yield warning(
                "issuers",
                f"No 'audience' of '{name}' begins with server.public_url ({public}).",
                "Clients that follow the metadata ask for tokens for that resource, and would be refused.",
                f"Add {public}/mcp to identity.issuers.{name}.audience.",
            )


def exposure(config: Config) -> Iterator[Finding]:
    """Whether names and addresses agree, and the proxy is the only one who can speak as it."""
    import ipaddress

    server, proxy = config.server, config.identity.proxy
    if server.public_url is not None:
        host = urlsplit(server.public_url).hostname or ""
        names = {urlsplit("//" + each.lower()).hostname for each in server.allowed_hosts}
        if host not in names | {"localhost", "127.0.0.1", "::1", server.host}:
            yield warning(
                "identity",
                f"server.public_url names {host}, which server.allowed_hosts does not.",
                "Requests that keep this name in their Host header are refused.",
                f"Add {host} to server.allowed_hosts, or have the proxy set the Host header.",
            )
    for each in proxy.networks:
        network = ipaddress.ip_network(each)
        if network.num_addresses > _WIDE and not network.is_loopback:
            yield warning(
                "identity",
                f"identity.proxy.networks: {each} is {network.num_addresses} addresses.",
                "Each of them can say that it is any agent of 'subjects'.",
                "Name the addresses of the proxy alone, and set identity.proxy.secret.",
            )
    if proxy.networks and proxy.secret is None:
        yield warning(
            "identity",
            "identity.proxy has no secret.",
            "Whoever runs on the proxy's address can speak as it.",
            "Set identity.proxy.secret and have the proxy send it.",
        )
