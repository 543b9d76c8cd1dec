"""What the admin API answers, as published in its OpenAPI description."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from pydantic import AliasChoices, BaseModel, BeforeValidator, ConfigDict, Field

CALL_ID = "0193a5b2-7c1e-7d4e-9f2a-3b1c5d7e9f01"


def _moment(value: object) -> object:
    """The journal keeps nanoseconds since the epoch."""
    return datetime.fromtimestamp(value / 1e9, UTC) if isinstance(value, int) else value


def _milliseconds(value: object) -> object:
    return round(value / 1e6, 3) if isinstance(value, int) else value


Moment = Annotated[datetime, BeforeValidator(_moment)]
Milliseconds = Annotated[float, BeforeValidator(_milliseconds)]


class _Model(BaseModel):
    model_config = ConfigDict(extra="ignore")  # a column of the journal is shown when it is declared here


class Alive(_Model):
    status: Literal["ok"] = "ok"


class Readiness(_Model):
    """Ready means that calls can be decided and recorded."""

    ready: bool = Field(examples=[True])
    parts: dict[str, Literal["ok", "degraded", "down"]] = Field(
        description="State of each part.",
        examples=[{"policy": "ok", "journal": "ok", "upstream:git": "degraded"}],
    )


class Part(_Model):
    state: Literal["ok", "degraded", "down"]
    essential: bool = Field(description="Whether the gateway is not ready when this part is down.")
    detail: str = ""


class StatusAnswer(_Model):
    """What is in force."""

    version: str = Field(examples=["0.1.0"])
    mode: str = Field(description="The gateway's own mode.", examples=["enforce"])
    started: datetime
    uptime_s: float = Field(examples=[3601.5])
    in_flight: int = Field(description="Calls under way.", examples=[3])
    revisions: dict[str, str] = Field(
        description="Of configuration, keys, policy and catalog; every record names them.",
        examples=[{"config": "9f2c", "keys": "17", "policy": "a41d", "catalog": "c0ff"}],
    )
    controls: list[str] = Field(examples=[["policy:embedded", "breakers:absent"]])
    parts: dict[str, Part]


class Decision(_Model):
    """One call, in short; or a request that never became one, which has only a code."""

    call_id: str = Field(examples=[CALL_ID])
    at: Moment = Field(validation_alias=AliasChoices("at", "at_ns"), description="When it was decided.")
    agent: str | None = Field(None, examples=["release-bot"])
    session: str | None = Field(None, examples=["s-41"])
    surface: str | None = Field(None, examples=["mcp"])
    target: str | None = Field(None, examples=["git/git_log"])
    risk: str | None = Field(None, examples=["read"])
    verdict: str | None = Field(None, description="What policy said.", examples=["allow"])
    action: str | None = Field(None, description="What was done.", examples=["allow"])
    mode: str | None = Field(None, examples=["enforce"])
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


class DecisionList(_Model):
    items: list[Decision]
    cursor: str | None = Field(None, description="Pass it on to get the next page; null on the last.")


class Step(_Model):
    """One record of a call."""

    phase: str = Field(examples=["intent"])
    at: Moment = Field(validation_alias=AliasChoices("at", "at_ns"))
    status: str | None = None
    outcome_code: str | None = None
    detail: str | None = Field(None, description="For operators.")
    upstream_ms: Milliseconds | None = Field(
        None,
        validation_alias=AliasChoices("upstream_ms", "upstream_ns"),
        description="Time waited for the upstream.",
    )
    operator: str | None = Field(None, description="Who resolved or erased it.")
    verifier: str | None = Field(None, description="Of a verification: the tool that was read.")
    read: str | None = Field(None, description="Of a verification: the call id of the last read.")
    result: Any = Field(None, description="What the result policy said.")


class DecisionDetail(Decision):
    """One call with everything its records say. Arguments and results are not shown here."""

    tenant: str
    subject: str | None = None
    chain: list[str] = Field(default_factory=list, description="Delegation, root first.")
    thread: str | None = None
    traceparent: str | None = None
    digest: str | None = Field(None, description="SHA-256 of what was decided and sent.")
    modified_from: str | None = Field(None, description="Digest before an obligation changed the arguments.")
    effect_key: str | None = None
    findings: list[Any] = Field(default_factory=list, description="The reasons of the verdict.")
    obligations: list[Any] = Field(default_factory=list)
    notes: list[Any] = Field(default_factory=list, description="Of modules in warn mode.")
    observed: list[Any] = Field(default_factory=list, description="What modules in observe mode would say.")
    labels: list[str] = Field(default_factory=list)
    facts: Any = Field(None, description="What policy saw beside the call itself.")
    in_force: Any = Field(None, description="Engine, entry, rules, controls and revisions.")
    agent_snapshot: Any = Field(None, description="The agent as it was.")
    tool_snapshot: Any = Field(None, description="The tool and its manifest as they were.")
    history: list[Step] = Field(default_factory=list, description="Each record, oldest first.")


class ShadowChange(_Model):
    """Calls that would have fared otherwise, together."""

    change: str = Field(description="tightened, loosened, changed or error.", examples=["tightened"])
    rule: str = Field(description="The module the difference is owed to.", examples=["payments.limit"])
    target: str = Field(examples=["bank/pay"])
    calls: int = Field(examples=[14])


class ShadowDifference(_Model):
    """One call that would have fared otherwise."""

    at: Moment = Field(validation_alias=AliasChoices("at", "at_ns"))
    call_id: str = Field(examples=[CALL_ID])
    agent: str = Field(examples=["release-bot"])
    target: str = Field(examples=["bank/pay"])
    change: str = Field(examples=["tightened"])
    verdict: str = Field(description="What was decided.", examples=["allow"])
    code: str = Field(examples=["within_limit"])
    candidate_verdict: str = Field(examples=["escalate"])
    candidate_code: str = Field(examples=["amount_over_limit"])
    rule: str = Field(examples=["payments.limit"])
    active: str = Field(description="Revision that decided.")
    candidate: str = Field(description="Revision that was tried.")


class ShadowView(_Model):
    """The policy that decides, and the candidate that is tried beside it."""

    active_revision: str
    active_origin: str = Field(examples=["/etc/wardgate/policies"])
    active_part: Literal["configured", "promoted"]
    candidate_revision: str = Field(description="Empty when none is tried.")
    candidate_origin: str
    percent: int = Field(description="Share of calls that are tried.", examples=[10])
    failure: str = Field(description="Why it is no longer tried.")
    counts: dict[str, int] = Field(
        description="Calls tried since the process tries this candidate, by result.",
        examples=[{"same": 9189, "tightened": 14, "loosened": 0, "changed": 0, "error": 0, "dropped": 0}],
    )
    recorded: dict[str, int] = Field(
        description="How the calls recorded last fared when the active policy was loaded, by result; those "
        "whose arguments are not kept count as not_kept. Empty when it was loaded at the start.",
        examples=[{"same": 986, "tightened": 12, "loosened": 2, "changed": 0, "error": 0, "not_kept": 0}],
    )
    changes: list[ShadowChange]
    differences: list[ShadowDifference] = Field(description="The newest.")


class ToolView(_Model):
    """One tool and what the operator says of it."""

    target: str = Field(examples=["git/git_log"])
    kind: str = Field(examples=["tool"])
    upstream: str = Field(examples=["git"])
    name: str = Field(examples=["git_log"])
    risk: str = Field(examples=["read"])
    effects: list[str] = Field(examples=[["write"]])
    domain: str = Field(examples=["general"])
    source: str = Field(
        description="Where the risk comes from: operator, hint or default.", examples=["operator"]
    )
    mode: str = Field(examples=["enforce"])
    deadline_s: float = Field(examples=[60.0])
    schema_hash: str = Field(description="SHA-256 of its definition.")
    pin: str = Field(
        description="pinned, or how its definition differs: new, changed, returned, rejected.",
        examples=["changed"],
    )
    flags: list[str] = Field(
        description="Of suspicious, shadowing, same_name and renamed.", examples=[["suspicious"]]
    )
    quarantined: bool = Field(description="Offered to nobody and not called.")


class AcceptTool(_Model):
    """Which definition is accepted."""

    model_config = ConfigDict(extra="forbid")

    upstream: str = Field(max_length=63, examples=["git"])
    kind: Literal["tool", "prompt", "resource", "template"] = "tool"
    name: str = Field(max_length=2048, examples=["git_log"])
    hash: str = Field(pattern="^[0-9a-f]{64}$", description="The whole `schema_hash` of `GET /v1/tools`.")


class AcceptedTool(_Model):
    target: str = Field(examples=["git/git_log"])
    hash: str
    accepted_by: str = Field(examples=["ada"])


class ToolList(_Model):
    revision: str = Field(description="Of the catalog.")
    items: list[ToolView]
    cursor: str | None = None


class CredentialsView(_Model):
    """Secrets for an upstream, counted by how they do; their values and owners are not shown."""

    ok: int
    kept: int = Field(description="The source fails, and the last good secret is used for a while.")
    unavailable: int = Field(description="Calls that need one of these are refused as not sent.")
    age_s: float = Field(description="Since the stalest source in use was last seen good.")


class UpstreamView(_Model):
    name: str = Field(examples=["git"])
    transport: Literal["http", "stdio", "openapi", "python", "elsewhere"]
    state: Literal["ok", "degraded", "down", "unknown"]
    mode: str = Field(examples=["enforce"])
    tools: int = Field(description="Tools listed.", examples=[12])
    detail: str = ""
    credentials: CredentialsView | None = Field(None, description="When some are configured.")


class KeySet(_Model):
    """A JSON Web Key Set (RFC 7517)."""

    keys: list[dict[str, str]] = Field(
        examples=[[{"kty": "OKP", "crv": "Ed25519", "kid": "…", "x": "…", "alg": "EdDSA", "use": "sig"}]]
    )


class UpstreamList(_Model):
    items: list[UpstreamView]


class IssuerView(_Model):
    """One issuer whose tokens are believed."""

    name: str = Field(examples=["corp"])
    issuer: str = Field(description="The `iss` of its tokens.")
    state: Literal["empty", "fresh", "stale", "unusable"]
    keys: int = Field(description="Keys in use; 0 refuses every token of it.", examples=[2])
    fetched: Moment | None = Field(
        None, validation_alias=AliasChoices("fetched", "fetched_ns"), description="The last good fetch."
    )
    detail: str = Field("", description="Why keys could not be fetched, or are not used.")


class IssuerList(_Model):
    items: list[IssuerView]


class RevocationView(_Model):
    """Tokens that are refused although their issuer stands by them."""

    id: str = Field(examples=["9f0c2c9a41b7d3e8"])
    kind: Literal["token", "subject", "agent"] = Field(description="What `value` names.")
    issuer: str = Field(description="Name in the configuration; empty for an agent, whoever issued.")
    value: str = Field(description="A jti, a sub, or the name of an agent.", examples=["release-bot"])
    issued_before: Moment | None = Field(
        None,
        validation_alias=AliasChoices("issued_before", "issued_before_ns"),
        description="Tokens issued up to then; null for all.",
    )
    created: Moment = Field(validation_alias=AliasChoices("created", "created_ns"))
    note: str = ""


class RevocationList(_Model):
    items: list[RevocationView]


class ReasonView(_Model):
    """One reason code of the gateway itself; bundles declare more."""

    code: str = Field(examples=["no_rule_allows"])
    title: str = Field(examples=["No rule allows this"])
    message: str = Field(description="What the agent is told.")
    remedy: str
    party: str = Field(description="Who can do something about it.", examples=["operator"])
    retryable: bool = Field(description="The same call may succeed later without any change.")


class ReasonList(_Model):
    items: list[ReasonView]


class Reloaded(_Model):
    """The revisions now in force."""

    revisions: dict[str, str]
