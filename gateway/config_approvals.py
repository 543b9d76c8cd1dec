"""``approvals`` of ``wardgate.yaml``: who must agree to what policy escalates, and until when.

A chain whose quorum cannot be met by the people it names does not start. Without chains every escalated call
is refused.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Final

from pydantic import Field, model_validator

from gateway.approvals import chain as chains
from gateway.approvals.chain import Absence, Chain, Escalation, Person, Rules, Threshold, Who
from gateway.approvals.envelope import MAX_S, Envelope
from gateway.approvals.notify import Hook
from gateway.approvals.values import Settings
from gateway.config_identity import LEAST_SECRET, secure_url
from gateway.section import Name, Seconds, Section

Operator = Annotated[str, Field(min_length=1, max_length=200)]
Days = Annotated[float, Field(gt=0, le=14 * 86_400)]
_ROLES: Final = ("approver", "operator")


class WhoConfig(Section):
    """Operators by name, role or group; any of them fits. Only approvers and operators can decide."""

    names: tuple[Operator, ...] = Field((), description="Operators by name, as in `wardgate keys new`.")
    roles: tuple[str, ...] = Field((), description="All with this role: approver or operator.")
    groups: tuple[Name, ...] = Field((), description="Members of these groups of `approvals.groups`.")

    @model_validator(mode="after")
    def _somebody(self) -> WhoConfig:
        if not (self.names or self.roles or self.groups):
            raise ValueError("name somebody: names, roles or groups")
        if wrong := set(self.roles) - set(_ROLES):
            raise ValueError(f"{', '.join(sorted(wrong))}: only {' and '.join(_ROLES)} can decide")
        return self

    def built(self) -> Who:
        return Who(names=self.names, roles=self.roles, groups=self.groups)


class ThresholdConfig(Section):
    who: WhoConfig
    approve: int = Field(1, ge=1, le=20, description="Approvals by different people that are enough.")
    deny: int = Field(1, ge=1, le=20, description="Rejections that end it.")
    require_reason: bool = Field(False, description="A vote without a reason does not count.")

    def built(self) -> Threshold:
        return Threshold(
            who=self.who.built(), approve=self.approve, deny=self.deny, require_reason=self.require_reason
        )


class StageConfig(Section):
    any: tuple[ThresholdConfig, ...] = Field(
        min_length=1, max_length=5, description="Thresholds, one of which is enough."
    )


class EscalationConfig(Section):
    after_s: Days = Field(description="So long after the opening.")
    to: WhoConfig = Field(description="Who may decide from then on too, in every stage.")


class ChainConfig(Section):
    """Who must agree, for escalations that name this chain; `default` is for those that name none."""

    stages: tuple[StageConfig, ...] = Field(
        min_length=1, max_length=5, description="All of them, in their order; one person counts once."
    )
    decide_s: Days = Field(900.0, description="Time people have; then the call is refused.")
    execute_s: Annotated[float, Field(ge=5, le=86_400)] = Field(
        300.0, description="Time an approved call may be carried out in."
    )
    reminders_s: tuple[Days, ...] = Field((), max_length=10, description="When to remind, after the opening.")
    escalations: tuple[EscalationConfig, ...] = Field((), max_length=5, description="Who else, and when.")
    self_review: bool = Field(
        False,
        description="Let the agent's owner approve too, except what is irreversible. For a person who works "
        "alone; each such approval is counted as unenforced.",
    )

    def built(self, name: str) -> Chain:
        return Chain(
            name=name,
            stages=tuple(tuple(each.built() for each in stage.any) for stage in self.stages),
            decide_s=self.decide_s,
            execute_s=self.execute_s,
            reminders_s=tuple(sorted(self.reminders_s)),
            escalations=tuple(
                Escalation(after_s=each.after_s, to=each.to.built()) for each in self.escalations
            ),
            self_review=self.self_review,
        )


class AbsenceConfig(Section):
    """Somebody is away, and somebody else decides in their place; the place cannot be passed on."""

    who: Operator = Field(description="Who is away.")
    to: Operator = Field(description="Who decides in their place.")
    starts: datetime = Field(description="From then on.")
    ends: datetime = Field(description="Until then.")

    @model_validator(mode="after")
    def _some_time(self) -> AbsenceConfig:
        if _ns(self.ends) <= _ns(self.starts):
            raise ValueError("'ends' must be after 'starts'")
        if self.who == self.to:
            raise ValueError("'who' and 'to' are the same person")
        return self


class WebhookConfig(Section):
    """A party that is told what happens to approvals, and may pass on what people decide; both signed."""

    url: Annotated[str, Field(max_length=2000)] = Field(description="https, or http on loopback.")
    secret: str = Field(description="What signs the body, at least 32 bytes; ${NAME} expands.")
    key_id: Name = Field("1", description="Sent along, so that a secret can be replaced.")
    timeout_s: Annotated[float, Field(gt=0, le=60)] = Field(5.0, description="Time for one delivery.")
    tenant: Name = Field("default", description="The tenant whose approvals it is told of.")
    actors: dict[Operator, Operator] = Field(
        default_factory=dict,
        description="Operators by what the party calls them, such as a chat user's id. Their decisions are "
        "taken from it at `/v1/callbacks/<name>`, with their own rights and not its.",
    )

    @model_validator(mode="after")
    def _secure(self) -> WebhookConfig:
        secure_url(self.url)
        if not self.secret.startswith("${") and len(self.secret.encode()) < LEAST_SECRET:
            raise ValueError(f"'secret' needs at least {LEAST_SECRET} bytes")
        return self


class EnvelopeConfig(Section):
    """Break-glass: what two people may let through for a while when a chain cannot be asked."""

    title: Annotated[str, Field(min_length=1, max_length=200)] = Field(description="What it is for.")
    openers: WhoConfig = Field(description="Who may open it; always two different people.")
    agents: tuple[Name, ...] = Field(min_length=1, description="Agents whose calls it lets through.")
    tools: tuple[Annotated[str, Field(pattern=r"^[^/*]+/([^*]+|\*)$")], ...] = Field(
        min_length=1, description="Tools, as upstream/name or upstream/*."
    )
    chains: tuple[Name, ...] = Field(
        min_length=1,
        description="Chains it stands in for; what needs another one is held all the same.",
    )
    max_s: Annotated[float, Field(ge=60, le=MAX_S)] = Field(
        1800.0, description="How long it can be open at most; never more than an hour."
    )
    max_uses: int = Field(20, ge=1, le=100, description="Calls it lets through at most each time.")
    second_s: Annotated[float, Field(ge=30, le=3600)] = Field(
        600.0, description="How long the second person has after the first."
    )

    def built(self, name: str) -> Envelope:
        return Envelope(
            name=name, title=self.title, openers=self.openers.built(), agents=self.agents, tools=self.tools,
            chains=self.chains, max_s=self.max_s, max_uses=self.max_uses, second_s=self.second_s,
        )  # fmt: skip


class ApprovalsConfig(Section):
    chains: dict[Name, ChainConfig] = Field(default_factory=dict)
    groups: dict[Name, tuple[Operator, ...]] = Field(
        default_factory=dict, description="Operators by group, for chains and for teams that own agents."
    )
    aliases: dict[Operator, tuple[Operator, ...]] = Field(
        default_factory=dict,
        description="Other names of an operator, such as the owner of an agent or a user of an issuer, so "
        "that nobody approves their own calls under another name.",
    )
    absences: tuple[AbsenceConfig, ...] = Field((), description="Who is away, and who decides meanwhile.")
    webhooks: dict[Name, WebhookConfig] = Field(default_factory=dict)
    envelopes: dict[Name, EnvelopeConfig] = Field(default_factory=dict)
    hold_s: Annotated[float, Field(ge=0, le=30)] = Field(
        3.5, description="How long a call waits for its approval before the agent is told to call again."
    )
    sticky_s: Seconds = Field(
        300.0, description="How long the same call is answered as before after it was refused or done."
    )
    console_url: Annotated[str, Field(max_length=2000)] = Field(
        "",
        description="Where people reach the console: https, or http on loopback. An MCP client that can open "
        "pages (`elicitation.url`) sends its user to `<console_url>/console/approvals/<id>` when that "
        "user may decide; empty for never.",
    )
    max_pending: int = Field(10_000, ge=1, description="Approvals waiting at once.")
    max_pending_per_agent: int = Field(100, ge=1, description="Of these, of one agent.")

    @model_validator(mode="after")
    def _reachable(self) -> ApprovalsConfig:
        if self.console_url:
            secure_url(self.console_url)
        return self

    @model_validator(mode="after")
    def _can_be_met(self) -> ApprovalsConfig:
        for name, each in self.chains.items():
            for who in _whos(each):
                if unknown := set(who.groups) - self.groups.keys():
                    raise ValueError(f"chains.{name}: there is no group {', '.join(sorted(unknown))}")
            chain = each.built(name)
            if not chains.possible(
                Rules(stages=chain.stages, escalations=chain.escalations), self._people(each)
            ):
                raise ValueError(f"chains.{name}: there are not enough people to meet its quorum")
        return self

    @model_validator(mode="after")
    def _can_be_opened(self) -> ApprovalsConfig:
        for name, each in self.envelopes.items():
            if unknown := set(each.chains) - self.chains.keys():
                raise ValueError(f"envelopes.{name}: there is no chain {', '.join(sorted(unknown))}")
            if unknown := set(each.openers.groups) - self.groups.keys():
                raise ValueError(f"envelopes.{name}: there is no group {', '.join(sorted(unknown))}")
            people = set(each.openers.names).union(*(self.groups[group] for group in each.openers.groups))
            if not each.openers.roles and len(people) < 2:
                raise ValueError(f"envelopes.{name}: 'openers' must be at least two people")
        return self

    def _people(self, chain: ChainConfig) -> list[Person]:
        """Everybody the configuration names. How many have a role is known only by the keys."""
        names = {name for who in _whos(chain) for name in who.names}
        names |= {name for members in self.groups.values() for name in members}
        found = [
            Person(name=name, role="operator", groups=tuple(g for g, of in self.groups.items() if name in of))
            for name in sorted(names)
        ]
        if any(who.roles for who in _whos(chain)):
            for role in _ROLES:
                found += [Person(name=f"any {role} {n}", role=role) for n in range(100)]
        return found

    def hooks(self) -> dict[str, Hook]:
        """The webhooks with their secrets read; ``config.load`` has seen that they are there."""
        from gateway.config import expand  # which is made of this module

        return {
            name: Hook(
                name=name,
                url=each.url,
                secret=expand(each.secret, f"approvals.webhooks.{name}.secret").encode(),
                key_id=each.key_id,
                timeout_s=each.timeout_s,
                tenant=each.tenant,
                actors=each.actors,
            )
            for name, each in self.webhooks.items()
        }

    def built(self, keep_days: int) -> Settings:
        """As values, for the queue."""
        return Settings(
            chains={name: each.built(name) for name, each in self.chains.items()},
            groups=self.groups,
            aliases=self.aliases,
            absences=tuple(
                Absence(who=each.who, to=each.to, from_ns=_ns(each.starts), until_ns=_ns(each.ends))
                for each in self.absences
            ),
            hold_s=self.hold_s,
            sticky_s=self.sticky_s,
            max_pending=self.max_pending,
            max_pending_per_agent=self.max_pending_per_agent,
            console_url=self.console_url,
            envelopes={name: each.built(name) for name, each in self.envelopes.items()},
            keep_days=keep_days,
        )


def _whos(chain: ChainConfig) -> list[WhoConfig]:
    found = [threshold.who for stage in chain.stages for threshold in stage.any]
    return found + [each.to for each in chain.escalations]


def _ns(moment: datetime) -> int:
    """A time without a zone is UTC."""
    return int((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()) * 1_000_000_000
