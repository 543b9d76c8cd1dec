"""What the HTTP front takes and answers, as published in its OpenAPI description."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from pydantic import AliasChoices, BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from gateway.surfaces.problems import MandateFault, Problem

CALL_ID = "0193a5b2-7c1e-7d4e-9f2a-3b1c5d7e9f01"
MAX_KEY = 255

Effect = Literal["none", "done", "unknown"]


def _moment(value: object) -> object:
    """The journal keeps nanoseconds since the epoch."""
    return datetime.fromtimestamp(value / 1e9, UTC) if isinstance(value, int) else value


Moment = Annotated[datetime, BeforeValidator(_moment)]


# ------------------------------------------------------------------------------------------- requests


class _Taken(BaseModel):
    # A field nobody reads could mean something to the next reader, so an unknown one is refused.
    model_config = ConfigDict(extra="forbid", strict=True)


class ToolRef(_Taken):
    """A tool by its two names."""

    upstream: str = Field(min_length=1, max_length=63, examples=["bank"])
    name: str = Field(min_length=1, max_length=256, examples=["pay"])


class CallRequest(_Taken):
    """A tool and the arguments to use it with."""

    tool: Annotated[str, Field(pattern=r"^[^/]+/.+$", max_length=320)] | ToolRef = Field(
        description="'upstream/name', or both names apart.", examples=["bank/pay"]
    )
    arguments: dict[str, Any] = Field(
        default_factory=dict, description="What the tool's schema asks for.", examples=[{"amount": 5}]
    )
    thread: str = Field(
        "",
        max_length=128,
        description="The caller's own thread of work, for loop detection.",
        examples=["t-7"],
    )

    def names(self) -> tuple[str, str]:
        """``(upstream, name)``."""
        if isinstance(self.tool, ToolRef):
            return self.tool.upstream, self.tool.name
        upstream, _, name = self.tool.partition("/")
        return upstream, name


class DecideRequest(CallRequest):
    """A tool that somebody else is about to run, and the arguments to run it with."""

    via: Literal["http", "hook"] = Field("http", description="Who asks, for metrics and records.")


Reported = Literal["ok", "tool_error", "failed", "not_sent", "unknown"]


class SettleRequest(_Taken):
    """What became of a call that was decided. Name the decision in exactly one of two ways."""

    model_config = ConfigDict(
        json_schema_extra={"oneOf": [{"required": ["decision_id"]}, {"required": ["idempotency_key"]}]}
    )

    decision_id: str = Field("", min_length=1, max_length=64, examples=[CALL_ID])
    idempotency_key: str = Field(
        "", min_length=1, max_length=MAX_KEY, description="The key the decision was asked for with."
    )
    outcome: Reported = Field(
        description="ok: it was done. tool_error: the tool ran and answered with an error. failed: the tool "
        "says it did nothing. not_sent: it was never run. unknown: nobody knows.",
        examples=["ok"],
    )
    result: Any = Field(
        None, description="What the tool answered; judged by the result policy.", examples=[{"paid": True}]
    )

    @model_validator(mode="after")
    def _one_name(self) -> SettleRequest:
        if bool(self.decision_id) == bool(self.idempotency_key):
            raise ValueError("give exactly one of decision_id and idempotency_key")
        return self


# -------------------------------------------------------------------------------------------- answers


class CallProblem(Problem):
    """A refusal, or a call without a result that may be shown (RFC 9457)."""

    code: str = Field(description="Reason code.", examples=["no_rule_allows"])
    effect: Effect = Field(
        "none",
        description="Whether the call had its effect: none, nothing was done; done, it was made, and must "
        "not be made again for its result; unknown, nobody knows.",
    )
    decision_id: str | None = Field(None, description="Look it up under /v1/decisions.", examples=[CALL_ID])
    retryable: bool = Field(False, description="The identical request may succeed later.")
    retry_after_ms: int | None = Field(None, examples=[1000])
    rule: str | None = Field(None, description="Module that refused.", examples=["payments.limit"])
    approval_id: str | None = Field(None, description="The approval this call waits for.")
    because: list[str] = Field(default_factory=list, description="Further reason codes.")


class MandateCallProblem(CallProblem):
    """A mandate that cannot be given, with all that is wrong with it."""

    faults: list[MandateFault] = Field(default_factory=list)


class Note(BaseModel):
    """What a rule in warn mode has to say."""

    code: str
    message: str
    rule: str = ""
    remedy: str = ""


class Observed(BaseModel):
    """The verdict where policy is only observed."""

    verdict: Literal["deny", "escalate"]
    code: str


class CallAnswer(BaseModel):
    """The tool was run and answered."""

    decision_id: str = Field(examples=[CALL_ID])
    action: Literal["allow", "modify"] = Field(description="modify: policy changed the arguments.")
    outcome: Literal["ok", "tool_error", "rpc_error"] = Field(
        description="tool_error: the result says that the tool failed. rpc_error: see error.", examples=["ok"]
    )
    result: Any = Field(None, description="As the tool server gave it, after the result policy.")
    error: Any = Field(None, description="The tool server's own error.")
    notes: list[Note] = Field(default_factory=list)
    observed: Observed | None = None


class Obligation(BaseModel):
    """What must also happen. The gateway has changed the arguments where that is what it takes."""

    kind: Literal["redact", "cap", "label", "cost", "notify"]
    value: Any = Field(None, description="Not shown for redact: it would tell what is looked for.")


class DecideAnswer(BaseModel):
    """The call may be made, once, with exactly these arguments; then say what became of it."""

    decision_id: str = Field(examples=[CALL_ID])
    action: Literal["allow", "modify"] = Field(description="modify: policy changed the arguments.")
    verdict: Literal["allow", "deny", "escalate"] = Field(
        description="Of policy; anything but allow only where policy is observed."
    )
    arguments: dict[str, Any] = Field(description="What the tool must be run with.")
    obligations: list[Obligation] = Field(default_factory=list)
    result_wanted: bool = Field(description="The result must be reported, and only what comes back be shown.")
    settle_by: datetime = Field(description="Afterwards the outcome is in doubt.")
    settle_within_ms: int = Field(description="The same as a duration.", examples=[60_000])
    notes: list[Note] = Field(default_factory=list)
    observed: Observed | None = None


class Withheld(BaseModel):
    """Why a result may not be shown."""

    code: str
    message: str
    remedy: str = ""


class SettleAnswer(BaseModel):
    """What is on record now."""

    decision_id: str = Field(examples=[CALL_ID])
    outcome: Literal["ok", "tool_error", "failed", "not_sent", "in_doubt", "withheld"] = Field(
        description="withheld: done, and the result may not be shown.", examples=["ok"]
    )
    late: bool = Field(False, description="It came after the time was over, and resolved the doubt.")
    replayed: bool = Field(False, description="It had been settled with this outcome before.")
    result: Any = Field(None, description="What may be shown of the result.")
    withheld: Withheld | None = None


class ToolEntry(BaseModel):
    """A tool this agent may see."""

    tool: str = Field(examples=["bank/pay"])
    upstream: str = Field(examples=["bank"])
    name: str = Field(examples=["pay"])
    elsewhere: bool = Field(description="It runs elsewhere: ask /v1/decide instead of /v1/calls.")
    risk: Literal["read", "reversible", "compensable", "irreversible"]
    definition: Any = Field(None, description="As its server lists it, with the schema of its arguments.")


class ToolList(BaseModel):
    items: list[ToolEntry]


class Decision(BaseModel):
    """One call of this agent."""

    model_config = ConfigDict(extra="ignore")

    decision_id: str = Field(validation_alias=AliasChoices("decision_id", "call_id"), examples=[CALL_ID])
    at: Moment = Field(validation_alias=AliasChoices("at", "at_ns"))
    surface: str | None = Field(None, examples=["http"])
    target: str | None = Field(None, examples=["bank/pay"])
    risk: str | None = Field(None, examples=["irreversible"])
    action: str | None = Field(None, description="What was done.", examples=["allow"])
    code: str | None = Field(None, description="Reason code.", examples=["read_only_allowed"])
    status: str | None = Field(None, description="What became of it.", examples=["ok"])
    outcome_code: str | None = Field(None, description="Reason code when that was not ok.")
    end_phase: str | None = Field(None, description="The last step on record.", examples=["result"])
    verification: str | None = Field(
        None,
        description="What a read found out after the answer: verified, refuted or unknown; null when nothing "
        "is on record.",
        examples=["verified"],
    )


class DecisionList(BaseModel):
    items: list[Decision]
    cursor: str | None = Field(None, description="Pass it on to get the next page; null on the last.")
