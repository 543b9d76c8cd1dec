"""``sessions``, ``tenants`` and a part of ``agents`` in ``wardgate.yaml``: what is delegated, and how much.

A mandate that is not valid, or wider than it should be, does not start.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field, field_validator

from gateway.errors import BadMandate
from gateway.section import Section
from gateway.sessions import mandate as mandates
from gateway.sessions.budgets import MAX_AMOUNT, Limit
from gateway.sessions.mandate import Ceiling, Mandate
from gateway.sessions.progress import Horizon
from gateway.sessions.rules import SessionRules, Who

if TYPE_CHECKING:
    from gateway.config import Config

MetricName = Literal["calls", "writes", "irreversible", "cost_micro_usd", "bytes_out"]


class BudgetConfig(Section):
    """How much of one thing may be used in a stretch of time."""

    limit: int = Field(ge=0, le=MAX_AMOUNT, description="At most this much.")
    window_s: int = Field(
        86_400, ge=60, le=366 * 86_400, description="In so many seconds, counted over sixty buckets."
    )


Budgets = dict[MetricName, BudgetConfig]


class MintsConfig(Section):
    """Which sessions an agent may open for others or itself: an orchestrator's authority, and its bounds."""

    agents: tuple[str, ...] = Field(
        (), description="Agents of its tenant it may open sessions for besides itself; * for any run."
    )
    tools: tuple[str, ...] = Field(
        ("**",), description="Tools (upstream/name, * for any run but '/', ** for any) it may delegate."
    )
    risks: tuple[Literal["read", "reversible", "compensable", "irreversible"], ...] = Field(
        ("read", "reversible", "compensable", "irreversible"), description="Risks it may delegate."
    )
    reads: Literal["listed", "any"] = Field("any", description="any: it may let everything be read.")
    budgets: dict[str, int] = Field(
        default_factory=dict, description="The most it may give of each metric, and what it gives unasked."
    )
    max_ttl_s: int | None = Field(None, ge=1, description="The longest life of a session it opens.")
    broad: bool = Field(False, description="It may delegate every tool of an upstream, or of all.")


class HorizonConfig(Section):
    """How far a session with a mandate goes before somebody looks, where the mandate does not say."""

    actions: int | None = Field(None, ge=1, description="Calls that are no reads.")
    minutes: int | None = Field(None, ge=1, description="Minutes since the last checkpoint.")
    risk: int | None = Field(
        100, ge=1, description="Sum of risks: 1 a reversible call, 3 a compensable, 10 an irreversible one."
    )


class SessionsConfig(Section):
    live: int = Field(10_000, ge=10, le=1_000_000, description="Sessions in memory; others are on disk.")
    horizon: HorizonConfig = HorizonConfig()
    tool: bool | None = Field(
        None,
        description="Offer the tool wardgate/session, by which a model sees what is left and why it was "
        "refused. Not set: when any agent or tenant has a mandate, a budget or mints.",
    )


class TenantConfig(Section):
    budgets: Budgets = Field(default_factory=dict, description="Of all its agents together.")


class AgentSessions(Section):
    """The part of an agent's section that is about sessions."""

    budgets: Budgets = Field(default_factory=dict, description="Of all sessions of this agent together.")
    mandate: dict[str, Any] | None = Field(
        None, description="What its session is for when nobody opens one for it; see the guide to mandates."
    )
    mints: MintsConfig | None = Field(None, description="Which sessions it may open; none when not set.")

    @field_validator("mandate")
    @classmethod
    def _valid(cls, value: dict[str, Any] | None) -> dict[str, Any] | None:
        if value is not None:
            if "ttl_s" in value:
                raise ValueError("'ttl_s' counts from when a session is opened; give 'expires' here")
            try:
                mandates.parse(value, now_ns=None)
            except BadMandate as bad:
                raise ValueError(str(bad)) from None
        return value


def session_rules(config: Config) -> SessionRules:
    """What the configuration says of sessions, as the state needs it."""
    found: dict[Who, Mandate] = {}
    mints: dict[Who, Ceiling] = {}
    limits: dict[Who, tuple[Limit, ...]] = {}
    for name, agent in config.agents.items():
        who = (agent.tenant, name)
        if agent.mandate is not None:
            found[who] = mandates.parse(agent.mandate, now_ns=None)
        if agent.mints is not None:
            said = agent.mints.model_dump()
            mints[who] = Ceiling(**{**said, "agents": (name, *said["agents"])})
        if agent.budgets:
            limits[who] = _limits(agent.budgets)
    horizon = config.sessions.horizon
    return SessionRules(
        mandates=found,
        mints=mints,
        agent_limits=limits,
        tenant_limits={name: _limits(each.budgets) for name, each in config.tenants.items() if each.budgets},
        horizon=Horizon(horizon.actions, horizon.minutes, horizon.risk),
        live=config.sessions.live,
    )


def offers_tool(config: Config) -> bool:
    """Whether the gateway's own tool is offered: where nothing is delegated it would only be in the way."""
    if config.sessions.tool is not None:
        return config.sessions.tool
    agents = config.agents.values()
    claimed = any(issuer.mandate_claim for issuer in config.identity.issuers.values())
    bounded = any(each.mandate is not None or each.mints is not None or each.budgets for each in agents)
    return claimed or bounded or any(each.budgets for each in config.tenants.values())


def _limits(budgets: Budgets) -> tuple[Limit, ...]:
    return tuple(Limit(metric, each.limit, each.window_s) for metric, each in budgets.items())
