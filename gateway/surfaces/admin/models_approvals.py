"""What the admin API answers and takes about held calls."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from gateway.surfaces.admin.models import CALL_ID, Moment, _moment

APPROVAL_ID = "0193a5b3-11aa-7c3e-8d21-5f6a7b8c9d0e"
Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$", description="The digest that was looked at.")]
Reason = Annotated[str, Field(max_length=2000)]
RejectCode = Literal["not_needed", "wrong_arguments", "too_risky", "out_of_scope", "not_now", "other"]
MaybeMoment = Annotated[datetime | None, BeforeValidator(_moment)]


class _Model(BaseModel):
    model_config = ConfigDict(extra="ignore")


class _Write(BaseModel):
    model_config = ConfigDict(extra="forbid")

    digest: Digest


# --------------------------------------------------------------------------------------------- answers


class Requirement(_Model):
    """An escalation that this approval discharges."""

    code: str = Field(examples=["amount_over_limit"])
    chain: str = Field(examples=["payments-high"])
    revision: str = Field(description="Of the chain, when the approval was opened.")


class Canary(_Model):
    """A request that had to be rejected."""

    by: str
    note: str = Field(description="Why it had to be.")
    from_: str = Field(alias="from", description="The approval it is a copy of.")


class Approval(_Model):
    """A held call, in short."""

    id: str = Field(examples=[APPROVAL_ID])
    version: int = Field(description="For If-Match; every change raises it.")
    state: str = Field(examples=["pending"])
    attempt: int = Field(description="How often it was tried to carry it out.")
    agent: str
    owner: str
    subject: str | None = None
    chain: list[str] = Field(description="The delegation chain, root first.")
    session: str
    target: str = Field(examples=["bank/pay"])
    risk: str
    digest: str = Field(description="Of what would be sent; an edit changes it.")
    call_id: str = Field(examples=[CALL_ID], description="The call that was held first.")
    attempt_call: str | None = Field(None, description="The call that carries, or carried, it out.")
    requirements: list[Requirement]
    opened: Moment
    decide_by: Moment
    execute_by: MaybeMoment = None
    closed: MaybeMoment = None
    closed_by: str | None = None
    reason_code: str | None = None
    reason_text: str | None = None
    supersedes: str | None = None
    superseded_by: str | None = None
    editors: list[str] = Field(description="Who changed its arguments.")
    question: str | None = None
    answer: str | None = None
    policy_revision: str
    envelope: str | None = Field(
        None, description="The opening of a break-glass envelope that let it through instead of votes."
    )
    canary: Canary | None = Field(None, description="Once decided: it was made to see whether people look.")


class ApprovalList(_Model):
    items: list[Approval]
    cursor: str | None = Field(None, description="Pass it on to get the next page; null on the last.")


class Change(_Model):
    """Something that happened to an approval."""

    event: str = Field(examples=["opened"])
    at: Moment
    by: str
    approval: Approval = Field(description="As it is now.")


class ChangeList(_Model):
    items: list[Change]
    cursor: int = Field(description="For `after`.")


class Said(_Model):
    """Why policy asks for a person."""

    code: str
    message: str
    rule: str = ""


class Hidden(_Model):
    """Characters in the arguments that cannot be seen, or that turn text around."""

    pointer: str = Field(examples=["/to"])
    characters: str = Field(examples=["U+202E"])


class You(_Model):
    """What the one who asks may do."""

    may_decide: bool
    own_call: bool = Field(description="The call comes from you, under one of your names.")


class VoteView(_Model):
    stage: int = Field(description="From 1 on.")
    by: str
    for_: str | None = Field(None, alias="for", description="In whose place.")
    decision: Literal["approve", "reject"]
    reason_code: str | None = None
    reason: str = ""
    at: Moment


class EventView(_Model):
    at: Moment
    event: str
    by: str
    detail: str = ""


class ApprovalDetail(Approval):
    arguments: Any = Field(
        None,
        description="Null when they are not kept, not for this role, or the tool is not listed any more.",
    )
    hidden_characters: list[Hidden] = []
    effects: list[str] = []
    reasons: list[Said] = []
    facts: dict[str, Any] = {}
    waiting_for: str = Field("", description="What is missing, in words.")
    you: You
    votes: list[VoteView] = []
    events: list[EventView] = []


class BulkItem(_Model):
    id: str
    state: str | None = None
    code: str | None = Field(None, description="Why this one was refused.")


class BulkAnswer(_Model):
    items: list[BulkItem]


class Grant(_Model):
    """A standing, narrow permission."""

    id: str
    agent: str
    session: str | None = Field(None, description="Null: any session of the agent.")
    target: str
    fields: list[str] = Field(description="JSON pointers to the arguments that may vary.")
    codes: list[str]
    uses: int
    max_uses: int
    budget_micro_usd: int
    spent_micro_usd: int
    made: Moment
    made_by: str
    made_from: str
    expires: Moment
    revoked: MaybeMoment = None
    revoked_by: str | None = None


class GrantList(_Model):
    items: list[Grant]


class Measure(_Model):
    """Reviews of one kind. Times are of approvals, and the most the person can have spent."""

    decided: int
    approved: int
    rate: float | None = Field(None, description="Approved of decided.")
    median_s: float | None = None
    least_s: float | None = None
    under_3s: float | None = Field(None, description="Share of approvals.")
    burst: int = Field(description="Most decisions within ten minutes.")
    last_hour: int
    incidents: int = Field(description="Approved calls that were reported to be wrong.")


class ReviewLine(_Model):
    """All that is measured of one person or one rule."""

    name: str
    normal: Measure
    earning: Measure = Field(description="Of agents that earn trust; raises no alarm.")
    canaries: int = Field(description="Decided.")
    canaries_approved: int
    alarms: list[Literal["all_approved", "too_fast", "canary_approved"]]
    capped: bool = Field(description="Of a person: approves no more this hour.")


class AutonomyView(_Model):
    """Calls of the last day that may change something, by what let them through."""

    calls: int
    by_person: int
    by_grant: int
    share: float | None = Field(None, description="Of them, the part that went on without a person.")


class FatigueSettings(_Model):
    per_hour: int
    earning_per_hour: int
    window_days: int
    rate: float
    rate_over: int
    median_s: float
    median_over: int


class Reviewers(_Model):
    since: Moment
    reviews: int = Field(description="That were measured.")
    reviewers: list[ReviewLine]
    rules: list[ReviewLine] = Field(description="A rule with an alarm asks to be reviewed itself.")
    autonomy: AutonomyView
    settings: FatigueSettings


# ---------------------------------------------------------------------------------------------- writes


class Incident(_Write):
    note: Annotated[str, Field(min_length=1, max_length=2000, description="What was wrong.")]


class PlantCanary(_Write):
    arguments: dict[str, Any] = Field(description="What must be rejected.")
    note: Annotated[str, Field(min_length=1, max_length=2000, description="Why; shown once it is decided.")]


class Approve(_Write):
    reason: Reason = ""


class Reject(_Write):
    reason_code: RejectCode
    reason: Reason = Field("", description="For the agent, in words it can act on.")


class Edit(_Write):
    arguments: dict[str, Any] = Field(description='All of them. What is "[redacted]" stays as it was.')


class Question(_Write):
    question: Annotated[str, Field(min_length=1, max_length=2000)]


class Resolve(_Write):
    became: Literal["executed", "not_executed"]
    note: Annotated[str, Field(min_length=1, max_length=2000, description="How you know.")]


class MakeGrant(_Write):
    fields: Annotated[list[Annotated[str, Field(max_length=500)]], Field(max_length=8)] = []
    minutes: Annotated[int, Field(ge=1, le=60)] = 30
    uses: Annotated[int, Field(ge=1, le=20)] = 10
    budget_micro_usd: Annotated[int, Field(ge=0, le=2**53)] = 0
    any_session: bool = False


class BulkOne(BaseModel):
    model_config = ConfigDict(extra="forbid")

    id: Annotated[str, Field(max_length=64)]
    version: int
    digest: Digest


class Bulk(BaseModel):
    model_config = ConfigDict(extra="forbid")

    decision: Literal["approve", "reject"]
    items: Annotated[list[BulkOne], Field(min_length=1, max_length=20)]
    reason_code: RejectCode = "other"
    reason: Reason = ""
