"""``trust`` in ``wardgate.yaml``: what agents may do alone, and how they come to it."""

from __future__ import annotations

from hashlib import sha256
from typing import Annotated, Final, Literal

import msgspec
from pydantic import Field, model_validator

from gateway.section import Name, Section
from gateway.trust import reach
from gateway.trust.settings import TIERS, Caps, Settings

TierNumber = Literal[0, 1, 2, 3, 4]
RiskName = Literal["read", "reversible", "compensable", "irreversible"]
Hash = Annotated[str, Field(pattern=r"^[\x21-\x7e]{1,256}$")]

_MOST: Final = 1_000_000


class BuildConfig(Section):
    """What an agent is. Whatever changes here makes it another version, which has to prove itself again."""

    model: Hash = Field(description="Name and version, or hash, of the model.")
    prompt: Hash = Field(description="Hash of its instructions.")
    tools: Hash = Field(description="Hash of the tools it is given.")

    @property
    def hash(self) -> str:
        return build_hash(self.model, self.prompt, self.tools)


class TierConfig(Section):
    """Other numbers for one tier; what is not named keeps its default."""

    enter: float | None = Field(
        None, gt=0, lt=1, description="The bound to be promoted to it (T2 and above)."
    )
    hold: float | None = Field(None, ge=0, lt=1, description="The bound below which it is lost.")
    budget_share: float | None = Field(
        None, gt=0, le=1, description="How much of the agent's own budget it may use."
    )
    horizon_calls: int | None = Field(
        None, ge=1, le=_MOST, description="Calls that may change something, before a person looks."
    )
    horizon_s: int | None = Field(
        None, ge=1, le=30 * 86_400, description="Seconds from the first of them, before a person looks."
    )
    unattended: tuple[RiskName, ...] | None = Field(
        None, description="Classes of tools that need no person (T2 and above)."
    )


class TrustCaps(Section):
    """The highest tier under a circumstance."""

    unattested: TierNumber = Field(2, description="Nobody says which model, prompt and tools the agent is.")
    conflict: TierNumber = Field(0, description="Its credential says otherwise than the configuration.")
    rebuilt: TierNumber = Field(2, description="It has changed and not shown enough since.")
    owner: TierNumber = Field(1, description="Its owner is not among 'trust.owners', when there are any.")
    untrusted_egress: TierNumber = Field(
        1, description="Its session has read untrusted content, and the tool sends something out."
    )
    environments: dict[str, TierNumber] = Field(
        default_factory=dict, description="By the agent's environment, such as 'production: 3'."
    )


class TrustConfig(Section):
    enabled: bool = Field(
        False,
        description="Keep trust. Without it there are no tiers: nothing is asked, counted or held for them.",
    )
    initial: Literal[0, 1] = Field(
        1, description="Tier of an agent nothing is known of: 1 lets it propose, 0 only read."
    )
    tiers: dict[TierNumber, TierConfig] = Field(default_factory=dict)
    half_life_days: float = Field(
        30.0, gt=0, le=3650, description="After so many days a good outcome counts half."
    )
    half_life_bad_days: float = Field(90.0, gt=0, le=3650, description="… and a failure.")
    grace_s: float = Field(
        86_400.0, ge=0, le=30 * 86_400,
        description="Seconds in which a good outcome may still turn out to be none, before it counts.",
    )  # fmt: skip
    per_day: int = Field(
        50,
        ge=1,
        le=10_000,
        description="Good outcomes of one class that count, of an agent in a domain a day.",
    )
    days: int = Field(5, ge=1, le=365, description="Days that evidence for a promotion is spread over.")
    sessions: int = Field(
        10, ge=1, le=1000, description="Sessions it is spread over; one that lasts counts once a day."
    )
    template_share: float = Field(
        0.2, gt=0, le=1, description="How much of it may come from calls that are alike but for their values."
    )
    template_shares: dict[Name, float] = Field(
        default_factory=dict, description="The same for a domain, such as 1.0 for one that is a single job."
    )
    calm_days: float = Field(
        14.0,
        ge=0,
        le=365,
        description="Days without a trip before a promotion, and cool-down of a first fall.",
    )
    signed_days: float = Field(90.0, gt=0, le=365, description="Days until a promotion must be signed again.")
    sign_within_days: float = Field(
        7.0, gt=0, le=90, description="Days within which all signatures of a promotion are given."
    )
    two_from: Literal[1, 2, 3, 4] = Field(
        3, description="From this tier on two people sign, one of them from outside the owner's team."
    )
    denied_free: int = Field(5, ge=0, le=10_000, description="Refusals a day that count for nothing.")
    denied_share: float = Field(
        0.05, ge=0, le=1, description="… and this share of the calls of the day besides."
    )
    reprove: int = Field(
        50, ge=1, le=10_000, description="Good outcomes after which a changed agent is no longer capped."
    )
    owners: tuple[str, ...] = Field(
        (), description="Owners that are vouched for; when none is named, all are."
    )
    caps: TrustCaps = TrustCaps()

    @model_validator(mode="after")
    def _works(self) -> TrustConfig:
        for number, tier in self.tiers.items():
            if number < 2 and (
                tier.enter or tier.hold or tier.unattended or tier.horizon_calls or tier.horizon_s
            ):
                raise ValueError(
                    f"trust.tiers.{number}: only its budget_share can be set; it does nothing alone"
                )
        if found := list(reach.faults(self.settings())):
            raise ValueError("trust: " + "; ".join(found))
        return self

    def settings(self) -> Settings:
        tiers = list(TIERS)
        for number, over in self.tiers.items():
            tiers[number] = msgspec.structs.replace(tiers[number], **over.model_dump(exclude_none=True))
        return Settings(
            tiers=tuple(tiers),
            initial=self.initial,
            half_life_good_days=self.half_life_days,
            half_life_bad_days=self.half_life_bad_days,
            grace_s=self.grace_s,
            per_day=self.per_day,
            days=self.days,
            sessions=self.sessions,
            template_share=self.template_share,
            template_shares=dict(self.template_shares),
            calm_days=self.calm_days,
            signed_days=self.signed_days,
            sign_within_days=self.sign_within_days,
            two_from=self.two_from,
            denied_free=self.denied_free,
            denied_share=self.denied_share,
            reprove=self.reprove,
            owners=self.owners,
            caps=Caps(**self.caps.model_dump()),
        )


def build_hash(model: str, prompt: str, tools: str) -> str:
    """What names a version of an agent: 16 hex digits."""
    return sha256(repr((model, prompt, tools)).encode()).hexdigest()[:16]
