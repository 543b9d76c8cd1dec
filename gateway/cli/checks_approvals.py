"""Checks of who decides and who is told: whether each chain can be met by people with keys, and channels."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

from gateway.cli.findings import Finding, ok, problem, warning
from gateway.errors import ConfigError

if TYPE_CHECKING:
    from gateway.config import Config

_NAMED: Final = 5


def approvals(config: Config) -> Iterator[Finding]:
    """Whether people with keys, without the owner of the agent, could meet each chain."""
    if not config.approvals.chains:
        return
    from gateway.approvals import chain as chains
    from gateway.approvals import rows
    from gateway.approvals.chain import Rules
    from gateway.storage.database import Database

    settings = config.approvals.built(config.storage.payload_days)
    try:
        with Database(config.storage.path).open(read_only=True) as database, database.reading() as connection:
            tenants = {each.tenant for each in config.agents.values()}
            circles = {tenant: rows.circle(connection, tenant, settings) for tenant in tenants}
    except ConfigError:
        return  # said by the check of the storage
    for name, each in settings.chains.items():
        stuck = []
        for agent, described in config.agents.items():
            excluded = chains.names_of(agent, *(() if each.self_review else (described.owner,)))
            rules = Rules(stages=each.stages, escalations=each.escalations, excluded=tuple(sorted(excluded)))
            if not chains.possible(rules, circles[described.tenant].people.values()):
                stuck.append(agent)
        if stuck:
            shown = ", ".join(stuck[:_NAMED]) + (" …" if len(stuck) > _NAMED else "")
            yield warning(
                "approvals",
                f"Chain '{name}' cannot be met for calls of {shown}.",
                "Too few people with keys are left besides those a call comes from, so it would be refused.",
                "'wardgate keys new --operator NAME --role approver', or change 'approvals.chains'.",
            )
        else:
            yield ok("approvals", f"Chain '{name}' can be met for every agent.")


def channels(config: Config) -> Iterator[Finding]:
    """Whether each channel has an address that apprise knows; nothing is sent."""
    told = config.approvals.told(config.console.link)
    if not told:
        return
    from gateway.approvals.channels import service
    from gateway.config_approvals import address

    for channel in told.values():
        try:
            service(channel, address(channel))
        except ConfigError as error:
            yield problem(
                "channels", f"{error}.", "The gateway would not start.", "Look the address up and mend it."
            )
        else:
            yield ok("channels", f"'{channel.name}' has an address of a service that is known.")
