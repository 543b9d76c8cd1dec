"""What the parts of the queue hand to each other."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, Literal

import msgspec

from gateway.approvals import fatigue
from gateway.approvals.chain import Absence, Chain, Rules
from gateway.approvals.envelope import Envelope
from gateway.approvals.machine import Machine, State
from gateway.errors import ApprovalError

Decide = Literal["approve", "reject"]

REJECT_CODES: Final = ("not_needed", "wrong_arguments", "too_risky", "out_of_scope", "not_now", "other")
"""Why a reviewer said no, for the model and for counting; the words go beside it."""

SYSTEM: Final = "wardgate"
"""Who did it, when no person did."""


class Requirement(msgspec.Struct, frozen=True, kw_only=True):
    """One escalation that an approval discharges: this code, by this chain as it was."""

    code: str
    chain: str
    revision: str


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """``approvals`` of the configuration, as values."""

    chains: Mapping[str, Chain] = {}
    groups: Mapping[str, tuple[str, ...]] = {}  # group → operators
    aliases: Mapping[str, tuple[str, ...]] = {}  # operator → other names
    absences: tuple[Absence, ...] = ()
    hold_s: float = 3.5
    sticky_s: float = 300.0
    send_s: float = 5.0
    lease_s: float = 30.0
    max_pending: int = 10_000
    max_pending_per_agent: int = 100
    link: str = ""  # of an approval's page, with {id} in it; "" when people are not sent there
    keep_days: int = 30
    envelopes: Mapping[str, Envelope] = {}
    fatigue: fatigue.Settings = fatigue.Settings()


class Opening(msgspec.Struct, frozen=True, kw_only=True):
    """Everything an approval is opened with."""

    tenant: str
    agent: str
    owner: str
    subject: str | None
    chain: tuple[str, ...]
    session: str
    call_id: str
    target: str
    schema_hash: str
    risk: str
    idempotent: bool
    asked_digest: str
    digest: str
    effect_key: str
    args_json: bytes
    requirements: tuple[Requirement, ...]
    rules: Rules
    reasons_json: str
    facts_json: str
    policy_revision: str
    decide_s: float
    execute_s: float
    lease_s: float
    reminders_s: tuple[float, ...] = ()
    supersedes: str | None = None
    editors: tuple[str, ...] = ()


class Approval(msgspec.Struct, frozen=True, kw_only=True):
    """One approval as it is stored, without its arguments. Times are nanoseconds since the epoch."""

    id: str
    version: int
    machine: Machine
    tenant: str
    agent: str
    owner: str
    subject: str | None
    chain: tuple[str, ...]
    session: str
    call_id: str
    target: str
    schema_hash: str
    risk: str
    asked_digest: str
    digest: str
    effect_key: str
    requirements: tuple[Requirement, ...]
    rules: Rules
    reasons_json: str
    facts_json: str
    policy_revision: str
    opened_ns: int
    decide_by_ns: int
    execute_s: int
    execute_by_ns: int | None
    lease_s: int
    lease_until_ns: int | None
    attempt_call: str | None
    closed_ns: int | None
    closed_by: str | None
    reason_code: str | None
    reason_text: str | None
    supersedes: str | None
    superseded_by: str | None
    editors: tuple[str, ...]
    question: str | None
    asked_by: str | None
    answer: str | None
    kept: bool  # whether its arguments are
    envelope: str | None = None  # the opening that let it through instead of votes
    canary: str | None = None  # JSON of who made it and why it must be rejected; never carried out

    @property
    def state(self) -> State:
        return self.machine.state


class Expected(msgspec.Struct, frozen=True, kw_only=True):
    """What somebody looked at when they decided; if it is not so any more, nothing is done."""

    version: int
    digest: str


class Reviewer(msgspec.Struct, frozen=True, kw_only=True):
    """The authenticated person who writes. Nothing of it comes from a request body."""

    name: str
    tenant: str
    role: str
    credential: str


class Stored(msgspec.Struct, frozen=True, kw_only=True):
    """A vote as it is stored."""

    number: int
    stage: int
    principal: str
    on_behalf: str
    credential: str
    decision: Decide
    reason_code: str
    reason: str
    shown_digest: str
    at_ns: int
    prev_hash: str
    hash: str


class Ticket(msgspec.Struct, frozen=True, kw_only=True):
    """An approval that is ready to be carried out, as it was read: what its claim must find unchanged."""

    approval: Approval
    epoch: int  # control epoch
    attempt: int  # the one the claim would make
    approvers: tuple[str, ...]
    args_json: bytes | None = None  # what to send instead of what was asked, after an edit
    self_reviewed: bool = False
    envelope: str = ""  # name of the envelope that let it through; "" where people voted

    def fact(self) -> dict[str, Any]:
        """``input.approval`` of the second decision."""
        through = {"envelope": self.envelope} if self.envelope else {}
        return {
            "id": self.approval.id,
            "kind": "envelope" if self.envelope else "approval",
            **through,
            "codes": sorted({each.code for each in self.approval.requirements}),
            "chains": sorted({each.chain for each in self.approval.requirements}),
            "by": list(self.approvers),
            "edited": bool(self.approval.editors),
            "self_reviewed": self.self_reviewed,
        }


class Blocked(ApprovalError):
    """A write that was refused; ``approval`` is the state as it is now."""

    def __init__(self, code: str, approval: Approval | None = None, detail: str = "") -> None:
        super().__init__(code, detail)
        self.approval = approval


class EnvelopeNotice(msgspec.Struct, frozen=True, kw_only=True):
    """Something people should hear of an envelope; ``said`` is plain data."""

    event: str  # envelope_asked, envelope_opened, envelope_closed
    tenant: str
    said: Mapping[str, Any]


class Notice(msgspec.Struct, frozen=True, kw_only=True):
    """Something people should hear of."""

    event: str  # opened, reminder, escalated, approved, rejected, expired, in_doubt, question, …
    approval: Approval
