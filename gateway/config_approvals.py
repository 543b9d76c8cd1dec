"""``approvals`` of ``wardgate.yaml``: who must agree to what policy escalates, and until when.

A chain whose quorum cannot be met by the people it names does not start. Without chains every escalated call
is refused.
"""

from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Final, Literal

from pydantic import Field, model_validator

from gateway.approvals import chain as chains
from gateway.approvals import channels, fatigue
from gateway.approvals.chain import Absence, Chain, Escalation, Person, Rules, Threshold, Who
from gateway.approvals.channels import Channel
from gateway.approvals.envelope import MAX_S, Envelope
from gateway.approvals.notify import Hook
from gateway.approvals.values import Settings
from gateway.config_identity import LEAST_SECRET, secure_url
from gateway.errors import ConfigError
from gateway.section import Name, Seconds, Section

Operator = Annotated[str, Field(min_length=1, max_length=200)]
Days = Annotated[float, Field(gt=0, le=14 * 86_400)]
ChannelEvent = Literal[
    "opened", "reminded", "escalated", "approved", "rejected", "cancelled", "superseded", "expired",
    "executed", "failed", "in_doubt", "recovering", "asked", "answered", "granted", "incident", "refused",
    "discharged", "envelope_asked", "envelope_opened", "envelope_closed",
]  # fmt: skip
_ROLES: Final = ("approver", "operator")
_MAX_ADDRESS: Final = 4096


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

    url: Annotated[str, Field(max_length=2000)] = Field(
        description="https, or http on loopback; ${NAME} expands, for an address that is a secret."
    )
    secret: str = Field(description="What signs the body, at least 32 bytes; ${NAME} expands.")
    style: Literal["wardgate", "slack"] = Field(
        "wardgate",
        description="`slack`: the url is an incoming webhook of Slack, the secret the signing secret of the "
        "app, and clicks on its buttons come to `/v1/callbacks/<name>`.",
    )
    arguments: bool = Field(
        False,
        description="With `slack`: show what would be sent, what the manifest calls sensitive left out, and "
        "let people approve there. Without it they can only reject there.",
    )
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
        if not self.url.startswith("${"):
            secure_url(self.url)
        if self.arguments and self.style != "slack":
            raise ValueError("'arguments' is for style slack: others are never told them")
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


class ChannelConfig(Section):
    """People who are told by chat, mail or page, with what `pip install 'wardgate[notify]'` brings."""

    env: str | None = Field(
        None,
        pattern=r"^[A-Za-z_][A-Za-z0-9_]*$",
        description="Variable with the address of the service, as apprise writes it, such as "
        "`mailtos://user:password@example.com?to=ops@example.com`.",
    )
    file: Path | None = Field(None, description="Or a file with it; read again when it changes.")
    events: tuple[ChannelEvent, ...] = Field(
        ("opened", "escalated", "expired", "in_doubt", "envelope_opened"),
        min_length=1,
        description="What they are told of.",
    )
    chains: tuple[Name, ...] = Field((), description="Only approvals of these chains; all by default.")
    tenant: Name = Field("default", description="The tenant whose approvals they are told of.")
    timeout_s: Annotated[float, Field(gt=0, le=60)] = Field(10.0, description="Time for one delivery.")

    @model_validator(mode="after")
    def _one_source(self) -> ChannelConfig:
        if (self.env is None) == (self.file is None):
            raise ValueError("give one of 'env' and 'file': the address is a secret")
        return self


class FatigueConfig(Section):
    """When people have been asked too often, or a rule asks for what is always approved."""

    per_hour: int = Field(
        30, ge=1, le=10_000, description="Decisions within an hour after which one person approves no more."
    )
    earning_per_hour: int = Field(
        60, ge=1, le=10_000, description="The same for calls of agents that earn trust (tier T1), apart."
    )
    window_days: int = Field(30, ge=1, le=365, description="Days back that are measured.")
    rate: float = Field(0.97, gt=0, lt=1, description="A larger part approved than this raises the alarm …")
    rate_over: int = Field(50, ge=1, le=10_000, description="… over at least so many decisions.")
    median_s: float = Field(4.0, gt=0, le=600, description="A median time below this raises it too …")
    median_over: int = Field(10, ge=1, le=10_000, description="… over at least so many approvals.")

    def built(self) -> fatigue.Settings:
        return fatigue.Settings(**self.model_dump())


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
    channels: dict[Name, ChannelConfig] = Field(default_factory=dict)
    fatigue: FatigueConfig = FatigueConfig()
    hold_s: Annotated[float, Field(ge=0, le=30)] = Field(
        3.5, description="How long a call waits for its approval before the agent is told to call again."
    )
    sticky_s: Seconds = Field(
        300.0, description="How long the same call is answered as before after it was refused or done."
    )
    max_pending: int = Field(10_000, ge=1, description="Approvals waiting at once.")
    max_pending_per_agent: int = Field(100, ge=1, description="Of these, of one agent.")

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

    @model_validator(mode="after")
    def _can_be_told(self) -> ApprovalsConfig:
        for name, each in self.channels.items():
            if unknown := set(each.chains) - self.chains.keys():
                raise ValueError(f"channels.{name}: there is no chain {', '.join(sorted(unknown))}")
        if self.channels and not channels.installed():
            raise ValueError("channels need more than is installed: pip install 'wardgate[notify]'")
        return self

    def _people(self, chain: ChainConfig) -> list[Person]:
        """Everybody the configuration names. How many have a role is known only by the keys."""
        names = {name for who in _whos(chain) for name in who.names}
        names |= {name for members in self.groups.values() for name in members}
        families = chains.families(self.aliases)
        found = [chains.person(name, "operator", self.groups, families) for name in sorted(names)]
        if any(who.roles for who in _whos(chain)):
            for role in _ROLES:
                found += [Person(name=f"any {role} {n}", role=role) for n in range(100)]
        return found

    def hooks(self, link: str) -> dict[str, Hook]:
        """The webhooks with their secrets read; ``config.load`` has seen that they are there.

        ``link`` is the address of an approval's page with ``{id}`` in it, or "".
        """
        from gateway.config import expand  # which is made of this module

        return {
            name: Hook(
                name=name,
                url=secured(expand(each.url, f"approvals.webhooks.{name}.url"), name),
                secret=expand(each.secret, f"approvals.webhooks.{name}.secret").encode(),
                key_id=each.key_id,
                timeout_s=each.timeout_s,
                tenant=each.tenant,
                actors=each.actors,
                style=each.style,
                arguments=each.arguments,
                link=link,
            )
            for name, each in self.webhooks.items()
        }

    def told(self, link: str) -> dict[str, Channel]:
        """The channels, without their addresses; ``link`` as for ``hooks``."""
        return {
            name: Channel(
                name=name, env=each.env, file=each.file, events=each.events, chains=each.chains,
                tenant=each.tenant, timeout_s=each.timeout_s, link=link,
            )
            for name, each in self.channels.items()
        }  # fmt: skip

    def built(self, keep_days: int, link: str = "") -> Settings:
        """As values, for the queue; ``link`` as for ``hooks``."""
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
            link=link,
            envelopes={name: each.built(name) for name, each in self.envelopes.items()},
            keep_days=keep_days,
            fatigue=self.fatigue.built(),
        )


def secured(url: str, name: str) -> str:
    """The address of a webhook after its variables; ``ConfigError``, which does not quote it, for http."""
    try:
        secure_url(url)
    except ValueError:
        raise ConfigError(f"approvals.webhooks.{name}.url: must be https, or http on loopback") from None
    return url


def address(channel: Channel) -> str:
    """Read the address of a channel; ``ConfigError`` says what is wrong and quotes nothing of it."""
    where = f"approvals.channels.{channel.name}"
    if channel.env is not None:
        found = os.environ.get(channel.env, "")
    else:
        assert channel.file is not None
        try:
            with channel.file.open("rb") as file:
                found = file.read(_MAX_ADDRESS + 1).decode()
        except OSError as error:
            raise ConfigError(f"{where}.file: cannot be read: {error.strerror}") from None
        except UnicodeDecodeError:
            raise ConfigError(f"{where}.file: is not text") from None
    found = found.strip()
    if not found or len(found) > _MAX_ADDRESS or len(found.splitlines()) != 1:
        raise ConfigError(f"{where}: its source holds no address (one line)")
    return found


def _whos(chain: ChainConfig) -> list[WhoConfig]:
    found = [threshold.who for stage in chain.stages for threshold in stage.any]
    return found + [each.to for each in chain.escalations]


def _ns(moment: datetime) -> int:
    """A time without a zone is UTC."""
    return int((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()) * 1_000_000_000
