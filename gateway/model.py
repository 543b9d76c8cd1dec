"""The words of a call, as frozen values that pass from one part to the next.

They are ``msgspec.Struct`` rather than dataclasses because a governed call makes about ten of them and a
frozen dataclass costs ten times as much to construct (2.4 against 0.23 µs for ten fields). Frozen means a
part can hand a value to another thread (the journal writer reads them there) without copying it.

Units: times ending in ``_ns`` are integers of nanoseconds since the epoch; durations ending in ``_s`` are
float seconds; money is integer micro-USD. ``bytes`` fields named ``*_json`` hold one JSON value.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final, Literal

import msgspec

Json = Any  # the result of parsing JSON: dict, list, str, int, float, bool or None

OWN: Final = "wardgate"
"""The built-in upstream, whose tools the gateway answers itself; none of the configuration has this name."""

OWN_TOOL: Final = "session"
HELD_TOOL: Final = "approval"
"""By which an agent follows its own held calls, and answers who asks about them."""

Kind = Literal[
    "tool", "prompt", "resource", "completion", "subscription", "sampling", "elicitation", "roots"
]  # fmt: skip
QUESTIONS: Final[Mapping[str, Kind]] = {
    "sampling/createMessage": "sampling",
    "elicitation/create": "elicitation",
    "roots/list": "roots",
}
"""What an upstream may ask of a client, by method, and the kind of call it is. Nothing else is passed on."""

Risk = Literal["read", "reversible", "compensable", "irreversible"]
Mode = Literal["observe", "warn", "enforce"]
Verdict = Literal["allow", "deny", "escalate"]
Action = Literal["allow", "block", "hold", "modify"]
Status = Literal[
    "ok", "tool_error", "rpc_error", "input_required", "failed", "in_doubt", "not_sent", "withheld",
    "unobserved",
]  # fmt: skip
"""``unobserved``: let through to somebody who was never going to say what became of it."""


# ---------------------------------------------------------------------------------------------- who


class Presented(msgspec.Struct, frozen=True):
    """What a caller shows of itself; nothing of it is proven."""

    authorization: bytes | None = None  # the header, when it came exactly once
    headers: Iterable[tuple[bytes, bytes]] = ()  # all of them; read only where a trusted proxy is configured
    peer: tuple[str, int] | None = None  # the other end of the TCP connection
    path: str = "/mcp"  # what was asked for; a challenge names its metadata


class Principal(msgspec.Struct, frozen=True, kw_only=True):
    """An authenticated agent. Only ``identity`` makes one; nothing in it comes from a request body."""

    tenant: str
    agent: str
    owner: str  # the human or team behind the agent; never approves its calls
    credential: str  # id of the credential, never the secret
    subject: str | None = None  # the verified end user, when there is one
    chain: tuple[str, ...] = ()  # delegation, root first
    labels: tuple[str, ...] = ()  # set by the operator, for the agent or for a scope of its token
    missing_scopes: tuple[str, ...] = ()  # what its token would need to call anything
    environment: str = "default"
    mandate_json: bytes = (
        b""  # what its token delegates: ``{"id": …, "mandate": {…}}``; "" when it says nothing
    )
    mode: Mode = "enforce"  # the gateway's own mode for this agent
    revision: str = ""  # changes when the agent's registration changes; part of memo keys
    build: str = ""  # hash of which model, prompt and tools it is; "" when nobody says
    attested: Literal["", "config", "credential", "conflict"] = ""  # who says so


class Operator(msgspec.Struct, frozen=True, kw_only=True):
    """A person or job that runs the gateway itself."""

    name: str
    tenant: str
    role: Literal["viewer", "approver", "policy-admin", "operator"]
    credential: str


# --------------------------------------------------------------------------------------------- what


VERIFY: Final = "verify"
"""Surface of the reads by which the gateway finds out what became of calls: not what an agent does itself."""


class Verify(msgspec.Struct, frozen=True, kw_only=True):
    """A read that says whether a call had its effect; ``sessions/verify.py`` checks, fills and matches it."""

    tool: str  # a read tool of the same upstream, by its name
    arguments: Mapping[str, Json] = {}  # templates over the arguments and the result of the call
    match: Mapping[str, Json] = {}  # JSON pointer into the result of the read → what must stand there
    after_s: float = 0.0  # before the first read
    attempts: int = 3
    within_s: float = 30.0  # from the answer of the call to the last word about it


class Reconcile(msgspec.Struct, frozen=True, kw_only=True):
    """A read that says what became of a call in doubt; see ``sessions/reconcile.py``."""

    tool: str  # a read tool of the same upstream, by its name
    arguments: Mapping[str, Json] = {}  # templates over the arguments of the call
    done: Mapping[str, Json]  # JSON pointer into the result of the read → what stands there after the effect
    not_done: Mapping[str, Json] = {}  # the same without it; empty when that cannot be told
    late_s: float = 60.0  # an effect may appear this long after the doubt began
    every_s: float = 30.0  # between two reads; doubled after each
    attempts: int = 10


class Cost(msgspec.Struct, frozen=True, kw_only=True):
    """Where a call says what it costs: a JSON pointer into one of the two."""

    arguments: str = ""
    result: str = ""
    unit_micro_usd: int = 1_000_000  # of one unit of the amount


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """What the operator says of a tool. A tool nobody described is ``irreversible``."""

    risk: Risk = "irreversible"
    effects: tuple[str, ...] = ()  # e.g. "write", "egress", "money", "delete"
    domain: str = "general"  # trust is earned per domain
    idempotent: bool = False  # the same call twice has one effect
    effect_key: str | None = None  # template such as "refund:{payment_id}"; default: the call id
    cost_micro_usd: int = 0
    cost: Cost | None = None  # besides ``cost_micro_usd``
    deadline_s: float = 60.0
    integrity: Literal["trusted", "untrusted"] = "untrusted"  # of its results
    confidentiality: int = 0  # 0–3, of its results
    trusted_fields: tuple[
        str, ...
    ] = ()  # JSON pointers into results, ``*`` for any member; no outsider fills them
    untrusted_fields: tuple[str, ...] = ()  # the same, of what an outsider can fill
    sinks: Mapping[
        str, str
    ] = {}  # JSON pointers into the arguments, ``*`` for any member → what stands there
    sensitive: tuple[str, ...] = ()  # JSON pointers into the arguments, redacted wherever they are shown
    polling: bool = False  # repeating it is normal
    interruptible: bool = True  # a call under way may be cut off when its client gives up
    verify: Verify | None = None  # a read that says whether a call had its effect
    reconcile: Reconcile | None = None  # a read that says what became of a call in doubt
    extra: Mapping[str, Json] = {}  # undo: read by later parts, shown to policy
    source: Literal["operator", "hint", "default"] = "default"  # where ``risk`` comes from


PinState = Literal["pinned", "new", "changed", "returned", "rejected", "removed"]


class Pin(msgspec.Struct, frozen=True, kw_only=True):
    """How a definition stands to the accepted one. What is in quarantine is not offered and not called."""

    state: PinState = "pinned"
    flags: tuple[str, ...] = ()  # "suspicious", "shadowing", "same_name", "renamed"
    quarantined: bool = False


class Tool(msgspec.Struct, frozen=True, kw_only=True):
    """One callable of an upstream. Prompts, resources and completions are tools of another ``kind``.

    So is what an upstream may ask of the client (``sampling``, ``elicitation``, ``roots``): a call the other
    way round, whose result is the client's answer.
    """

    kind: Kind
    upstream: str
    name: str
    target: str  # "upstream/name"
    manifest: Manifest
    schema_hash: str  # SHA-256 over the canonical definition, "" when the upstream publishes none
    definition_json: bytes = b""  # as the upstream lists it
    mode: Mode = "enforce"  # the gateway's own mode for this upstream
    pin: Pin = Pin()
    elsewhere: bool = False  # somebody else runs it; the gateway only decides and records

    @property
    def writes(self) -> bool:
        """Whether a call may have an effect, and so needs its intent on disk before the wire."""
        return self.manifest.risk != "read"


class Ask(msgspec.Struct, frozen=True, kw_only=True):
    """What a surface asks for, after it has parsed its protocol and authenticated the caller."""

    principal: Principal
    surface: str
    kind: Kind
    upstream: str
    name: str
    args: Json
    session: str = ""  # what the client names; "" for the session it has without asking
    mandate_json: bytes = b""  # what the client says it is delegated, to open the session it names
    thread: str = ""
    client_meta_json: bytes = b""
    inputs_json: bytes = b""
    capabilities_json: bytes = b""
    log_level: str = ""
    traceparent: str = ""
    http_traceparent: str = ""
    call_id: str = ""  # chosen beforehand where a request must be found again after a crash
    waits: bool = True  # a moment for people; not where its client is told at once how to follow a held call


class Call(msgspec.Struct, frozen=True, kw_only=True):
    """One attempt to use a tool. ``args_json`` is canonical: what policy sees is what is sent."""

    id: str  # UUIDv7
    principal: Principal
    tool: Tool
    args: Mapping[str, Json]
    args_json: bytes
    digest: str  # SHA-256 hex; see ``digest.py``
    session: str
    thread: str  # the client's own thread of work (MCP session or ``_meta`` key), for loop detection
    surface: str  # "mcp", "http", "extauthz", "hook" or "verify"
    effect_key: str
    received_ns: int
    client_meta_json: bytes = b""  # the caller's ``_meta`` without reserved keys, passed on, never decided on
    inputs_json: bytes = (
        b""  # ``inputResponses`` and ``requestState`` of a later round, an object; "" for none
    )
    capabilities_json: bytes = b""  # of the client, as far as policy lets upstreams know them; "" for none
    log_level: str = ""  # of the log messages the client wants; "" when it did not say
    mode: Mode = "enforce"  # the most lenient of the agent's and the upstream's
    traceparent: str = ""  # of the span this call is a child of; "" when there is none
    http_traceparent: str = ""  # of the HTTP request that carried it, when ``_meta`` names another parent
    modified_from: str = ""  # digest before an obligation changed the arguments
    asked_json: bytes = b""  # the arguments before that, canonical; on record, so that they can be replayed


class Facts(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a rule may need to know, gathered in one step; at most 4 KB as JSON.

    ``slow`` holds what changes rarely (tier, mandate, breaker state) and is part of memo keys through
    ``slow_revision``; ``fast`` holds counters and windows. Both map top-level keys of the policy input
    (``session``, ``budget``, ``trust``, ``breaker``, ``mandate`` …) to their values.
    """

    slow: Mapping[str, Json] = {}
    slow_revision: str = ""
    fast: Mapping[str, Json] = {}
    provenance: Mapping[
        str, Json
    ] = {}  # of the arguments, by JSON pointer: ``call.provenance`` of the policy input
    addressed: bool = True  # unless its tool takes a destination and the call gives none
    reserved: Mapping[str, int] = {}  # what the call may use, by metric; held while its outcome is unknown
    refusal: Refusal | None = (
        None  # what forbids the call whatever policy says: a budget, an end of the session
    )
    stale: tuple[str, ...] = ()  # which facts are older than they should be
    effect: Literal["free", "in_flight", "in_doubt", "done"] = "free"  # of this call's effect key


# ------------------------------------------------------------------------------------------ decision


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """One member of ``allow``, ``deny`` or ``escalate`` that a rule contributed."""

    code: str
    message: str
    rule: str = ""  # id of the module; "" when the gateway itself says so
    remedy: str = ""
    severity: str = ""
    chain: str = ""  # of an escalation: the approval chain asked for


class Obligation(msgspec.Struct, frozen=True, kw_only=True):
    """What must also happen: ``redact``, ``cap``, ``label``, ``cost``, ``notify``."""

    kind: str
    value: Json
    rule: str


class Observed(msgspec.Struct, frozen=True, kw_only=True):
    """What a module in observe mode would have said; it decides nothing."""

    rule: str
    verdict: Verdict | Literal["error"]
    findings: tuple[Finding, ...] = ()


class Decision(msgspec.Struct, frozen=True, kw_only=True):
    """The verdict and everything needed to understand and to replay it."""

    verdict: Verdict
    findings: tuple[Finding, ...]  # the reasons of this verdict
    obligations: tuple[Obligation, ...] = ()
    notes: tuple[Finding, ...] = ()  # from modules in warn mode, for the agent
    observed: tuple[Observed, ...] = ()
    labels: tuple[str, ...] = ()
    engine: str = ""  # "regorus 0.13.0"
    revision: str = ""  # of the bundle
    entry: str = ""
    rules: tuple[str, ...] = ()  # ids of the modules in scope
    memoised: int = 0  # how many of them were answered from memory
    elapsed_ns: int = 0

    @property
    def code(self) -> str:
        return self.findings[0].code if self.findings else ""


class Refusal(msgspec.Struct, frozen=True, kw_only=True):
    """Why an agent does not get what it asked for, in words it can act on."""

    code: str
    message: str
    remedy: str = ""
    rule: str = ""
    retryable: bool = False
    retry_after_ms: int | None = None
    approval: str | None = None  # id of a pending approval
    asks: bool = False  # its reviewer waits for an answer of the agent
    findings: tuple[Finding, ...] = ()


class Mark(msgspec.Struct, frozen=True, omit_defaults=True, gc=False, kw_only=True):
    """What a call did to its session and budgets: recorded with it, and done again after a restart.

    ``sessions/session.py`` says what each member does.
    """

    n: int  # counts the marks of this gateway, so that none is applied twice
    at_ns: int  # the gateway's steady time
    session: str
    call: str
    target: str
    risk: str
    status: str  # of the outcome; "refused" when there is none
    charged: Mapping[str, int] = {}  # by metric
    untrusted: bool = False
    confidentiality: int = 0
    raised: tuple[str, ...] = ()  # labels
    lowered: tuple[str, ...] = ()
    prints: bytes = b""  # of the values its result showed
    watched: Json = None  # what it means to the monitors: a ``sessions.monitors.Note``
    held: bool = False  # its outcome is unknown, so its reservation stays
    verified: tuple[str, ...] = ()  # milestones
    quiet: bool = False  # a read by which the gateway verified a call: charged, and no act of the agent


class Settled(msgspec.Struct, frozen=True):
    """A mark, and whether it must be on disk before anybody sees the result."""

    mark: Mark | None = None
    durable: bool = False


class Revisions(msgspec.Struct, frozen=True):
    """What was in force at one moment; every record names it."""

    config: str = ""
    keys: str = ""
    policy: str = ""
    catalog: str = ""


# ------------------------------------------------------------------------------------------- outcome


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """What became of a call on the wire."""

    status: Status
    code: str = ""  # reason code when ``status`` is not ``ok``
    detail: str = ""  # for operators
    remedy: str = ""  # for the agent: what of its arguments would be accepted
    answered: str = ""  # of a result that is withheld: the status policy was asked about
    result_json: bytes = b""  # the ``result`` of the answer exactly as the upstream sent it
    error_json: bytes = b""  # the ``error`` of the answer, when it was one
    started_ns: int = 0
    upstream_ns: int = 0  # time spent waiting for the upstream


class Verified(msgspec.Struct, frozen=True, kw_only=True):
    """What a read found out about a call that ended well, after it was answered."""

    call_id: str
    principal: Principal
    tool: Tool
    session: str
    result: Literal["verified", "refuted", "unknown"]
    detail: str = ""  # for operators; without values
    read: str = ""  # call id of the last read; "" when there was none
    reads: int = 0  # that were made
    made: Call | None = None  # the call itself


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """What a surface turns into its own protocol."""

    call_id: str
    action: Action
    decision: Decision | None = None
    outcome: Outcome | None = None
    refusal: Refusal | None = None
    result_json: bytes = b""  # to relay, after result policy; empty when refused
    error_json: bytes = b""
    approval: str = ""  # id of the approval or grant that let it through
    degraded: tuple[str, ...] = ()
