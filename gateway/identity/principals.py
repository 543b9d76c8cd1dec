"""The one place where a configured agent becomes a principal."""

from __future__ import annotations

from hashlib import sha256
from typing import Literal

from gateway.config import AgentConfig
from gateway.config_upstream import ModeName
from gateway.model import Mode, Principal


def principal_of(
    name: str,
    agent: AgentConfig,
    gateway_mode: ModeName,
    credential: str,
    *,
    subject: str | None = None,
    chain: tuple[str, ...] = (),
    more_labels: tuple[str, ...] = (),
    missing_scopes: tuple[str, ...] = (),
    mandate_json: bytes = b"",
    build: str = "",
) -> Principal:
    """Who calls; ``credential`` must name the same thing for as long as its sessions are to go on.

    ``build`` is what the credential says the agent is.
    """
    lenience: list[Mode] = ["enforce", "warn", "observe"]
    labels = agent.labels + tuple(label for label in more_labels if label not in agent.labels)
    configured = agent.build.hash if agent.build is not None else ""
    attested: Literal["", "config", "credential", "conflict"] = ""
    if build and configured:
        attested = "credential" if build == configured else "conflict"
    elif build or configured:
        attested = "credential" if build else "config"
    registered = agent.model_dump_json().encode()
    if more_labels:
        registered += repr(labels).encode()
    return Principal(
        tenant=agent.tenant,
        agent=name,
        owner=agent.owner,
        credential=credential,
        subject=subject,
        chain=chain,
        labels=labels,
        missing_scopes=missing_scopes,
        mandate_json=mandate_json,
        environment=agent.environment,
        mode=max(agent.mode, gateway_mode, key=lenience.index),
        revision=sha256(registered).hexdigest()[:16],
        build=build or configured,
        attested=attested,
    )
