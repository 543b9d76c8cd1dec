"""What the pipeline needs from the world, one small protocol each.

Implementations are named in ``app.py`` only. Methods that a remote implementation must await are
``async`` here even where today's never suspends; the rest are plain, because a plain call is what makes
the path of a call readable and cheap.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple, Protocol

import msgspec

if TYPE_CHECKING:
    from gateway.model import (
        Action,
        Answer,
        Ask,
        Call,
        Decision,
        Facts,
        Finding,
        Json,
        Kind,
        Outcome,
        Principal,
        Refusal,
        Settled,
        Tool,
        Verified,
    )


class Clock(Protocol):
    """Time, so that no other part reads it."""

    def now_ns(self) -> int:
        """Wall clock, nanoseconds since the epoch."""

    def monotonic(self) -> float:
        """Seconds that never go backwards."""


class Catalog(Protocol):
    """Which tools there are, and what the operator says of them."""

    @property
    def revision(self) -> str:
        """Of everything that can be resolved."""

    def resolve(self, kind: Kind, upstream: str, name: str) -> Tool:
        """Raise ``Refused`` with ``unknown_upstream`` or ``unknown_tool``."""

    def tools(self, kind: Kind, upstream: str | None = None) -> Sequence[Tool]:
        """All that are offered, in the upstream's order; of one upstream or of all.

        Of all means: of all that calls can be sent to. Tools that run elsewhere are listed by their upstream.
        """

    def held(self) -> Sequence[Tool]:
        """What is in quarantine: resolved like everything else, offered to nobody, and never called."""


class Shown(msgspec.Struct, frozen=True):
    """What the agent is about to be shown of a result, and which labels policy puts on it."""

    content_json: bytes = b""
    seen: bool = False  # whether the agent sees anything of it, here or where the tool runs
    labels: tuple[str, ...] = ()  # raised by policy
    lowered: tuple[str, ...] = ()  # taken off by a rule that may
    cost_micro_usd: int = 0  # charged by policy, besides what the manifest says


NOTHING_SHOWN: Final = Shown()


class State(Protocol):
    """Hot facts: sessions with their mandates, budgets and labels, effects under way."""

    async def enter(self, ask: Ask) -> str:
        """The id of the session a request belongs to; raises ``Refused`` for one it may not use."""

    async def begin(self, call: Call) -> Facts:
        """Gather the facts and reserve what the call may use. Idempotent by call id."""

    async def settle(
        self, call: Call, action: Action, outcome: Outcome | None, shown: Shown = NOTHING_SHOWN
    ) -> Settled:
        """Turn the reservation into what really happened; the mark goes on record. Idempotent by call id."""

    def slow(self, principal: Principal, session: str = "") -> Facts:
        """Only the facts that lists may depend on, of the session that the client names."""


class ResultDecision(msgspec.Struct, frozen=True, kw_only=True):
    """What the ``result`` entry point says: the decision and the result that may be shown."""

    decision: Decision
    result_json: bytes = b""
    error_json: bytes = b""


class Policy(Protocol):
    """The engine behind the four entry points. Every failure inside is a deny, never an exception."""

    revision: str

    async def call(self, call: Call, facts: Facts) -> Decision:
        """Decide a call before it happens."""

    def wants_result(self, call: Call) -> bool:
        """Whether any module is in scope of the call's result; when not, it is relayed untouched."""

    async def result(self, call: Call, facts: Facts, outcome: Outcome) -> ResultDecision:
        """Decide what of a result may be shown."""

    def visible(self, principal: Principal, tools: Sequence[Tool], facts: Facts) -> Sequence[Tool]:
        """The tools this principal may see; cached per revision, catalog and slow facts."""

    def sees(self, principal: Principal, tool: Tool, facts: Facts) -> bool:
        """Whether one tool is among the visible ones; cached like ``visible``."""

    def modify(self, call: Call, decision: Decision) -> Mapping[str, object] | None:
        """New arguments where obligations change them, or ``None``."""


class Permit(Protocol):
    """What people agreed to about one call: it discharges escalations, once, and binds to exact bytes.

    ``begin`` and ``end`` run in the transactions that write the intent and the outcome of the call.
    """

    @property
    def fact(self) -> Mapping[str, Json]:
        """``input.approval`` of the second decision."""

    @property
    def args(self) -> Mapping[str, Json] | None:
        """What to send instead of what was asked, after a reviewer's edit."""

    @property
    def traceparent(self) -> str:
        """Of the call that was held for it; "" where there is none, as behind a grant."""

    @property
    def taken(self) -> bool:
        """Whether ``begin`` has claimed it."""

    def discharges(self, call: Call, decision: Decision) -> bool:
        """Whether it was given for these bytes and for each of these escalations."""

    def bind(self, call: Call, decision: Decision, decided_at: float) -> None:
        """This call is what is carried out, decided at a moment of the monotonic clock."""

    def begin(self, connection: Any) -> None:
        """Claim it, or raise ``ApprovalError`` and leave everything as it is."""

    def end(self, connection: Any, outcome: Outcome | None) -> None:
        """Write what became of it; at any later time, and more than once."""


class Approvals(Protocol):
    """The queue of held calls."""

    async def hold(self, call: Call, facts: Facts, decision: Decision) -> Refusal | Permit:
        """Open or find the approval of an escalated call, or a grant that fits it."""

    async def renew(self, permit: Permit, call: Call, facts: Facts, decision: Decision) -> Refusal:
        """Decided again, policy wants more than was approved: that needs a new approval."""

    async def refused(self, permit: Permit, code: str) -> None:
        """Decided again, policy says no: whatever was approved is over."""

    async def wait(self, approval_id: str) -> bool:
        """Wait a short while for people; whether calling again would be answered otherwise."""

    async def may_send(self, permit: Permit) -> bool:
        """The last look before the wire."""

    def ended(self, permit: Permit) -> None:
        """The attempt is over, however it ended."""


class HeldCall(msgspec.Struct, frozen=True, kw_only=True):
    """A held call as its own agent may follow it. Times are nanoseconds since the epoch."""

    id: str  # of its approval; the first one, where an edit or a stricter policy put another in its place
    state: Literal["waiting", "ready", "under_way", "over", "cancelled"]
    message: str  # in words, for whoever waits
    opened_ns: int
    changed_ns: int
    until_ns: int  # after which nothing becomes of it any more
    ask: Ask | None = None  # the same call again; ``None`` when its arguments are not kept any more
    refusal: Refusal | None = None  # of one that is over: what the same call is answered


class HeldCalls(Protocol):
    """An agent's own held calls. All raise ``Refused`` with ``not_found`` for those of others."""

    @property
    def offered(self) -> bool:
        """Whether calls are held at all."""

    async def look(self, principal: Principal, approval_id: str) -> HeldCall: ...

    async def cancel(self, principal: Principal, approval_id: str) -> None:
        """Take back what nobody carries out yet; ``Refused`` with ``approval_closed`` when it is over, and
        with ``insufficient_scope`` for a token that may only look."""

    @property
    def paged(self) -> bool:
        """Whether there is a page where people decide."""

    async def page(self, principal: Principal, approval_id: str) -> str:
        """The address where the caller's own user may decide; "" when that user may not."""


class Journal(Protocol):
    """The append-only account of each call."""

    @property
    def writable(self) -> bool:
        """Whether a record can be made durable at this moment."""

    async def intent(
        self, call: Call, facts: Facts, decision: Decision, action: Action, code: str = "",
        settled: Settled | None = None, permit: Permit | None = None,
    ) -> None:  # fmt: skip
        """Record what is about to happen, or with which code it was refused and what that did to the session.

        For a call that may write this returns when the record is on disk, or raises ``JournalError``; for
        a read it returns when the record is queued. With a ``permit`` the record and its claim are one
        transaction, and ``ApprovalError`` says that there is neither.
        """

    async def settle(
        self, call: Call, decision: Decision, action: Action, outcome: Outcome | None,
        result: Decision | None, settled: Settled | None = None, permit: Permit | None = None,
    ) -> None:  # fmt: skip
        """Record what happened, or that nothing was sent, and what that did to the session.

        Same durability as ``intent``; for a read too when the mark asks for it.
        """

    def refused(self, code: str, surface: str, principal: Principal | None, detail: str) -> None:
        """Note a request that never became a call. Bounded in rate; never blocks, never raises."""

    def verified(self, found: Verified) -> None:
        """Record what became of verifying a call. Written behind, like a read; never blocks, never raises."""


class Verifications(Protocol):
    """Finds out whether calls had their effect."""

    def answered(self, call: Call, outcome: Outcome) -> None:
        """A call ended well and is on record; not every tool has a verifier. Never raises, never blocks."""


class Caller(Protocol):
    """The client of a call while it waits, as its surface can reach it."""

    @property
    def rounds(self) -> bool:
        """Whether it takes an ``input_required`` result and calls again with its answers."""

    def wants(self, message: bytes) -> bool:
        """Whether it asked for this notification."""

    async def notify(self, message: bytes) -> None:
        """Hand it one JSON-RPC notification (raw bytes), in order. A client that is gone is no error."""

    async def ask(self, method: str, params_json: bytes) -> Outcome:
        """Put a question to it: ``ok`` or ``rpc_error`` with its answer, else ``not_sent`` or ``failed``."""

    def attach(self, cancel: Callable[[], None]) -> None:
        """Take what is to be called, once, when the client gives the call up; at once if it already has."""


class Unanswered(Exception):  # an answer of its own kind, turned into JSON-RPC by the upstream's side
    """A question to the client that policy refused or the client did not answer; ``code`` says which."""

    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.code = code


class Dialogue(Protocol):
    """What an upstream may do with the client while it works on a call. Every message is decided first."""

    cancelled: bool  # the client has given the call up
    severable: bool  # and the call may then be cut off, though nobody learns what becomes of it
    hook: Callable[[], None] | None  # set by the upstream's side: what to do at that moment

    @property
    def rounds(self) -> bool:
        """As in ``Caller``."""

    async def notify(self, message: bytes) -> None:
        """One JSON-RPC notification of the upstream (raw bytes)."""

    async def ask(self, method: str, params_json: bytes) -> bytes:
        """The client's answer to one question as JSON; raises ``Unanswered``."""


class Subscriber(NamedTuple):
    """Whose subscription it is. Clients that an upstream cannot tell apart are one subscriber."""

    tenant: str
    agent: str
    credential: str
    subject: str
    thread: str = ""
    capabilities: bytes = b""


class Stand(msgspec.Struct, frozen=True, kw_only=True):
    """How the breakers stand to one call."""

    refusal: Refusal | None = None
    killed: bool = False  # by a person: refused in every mode
    guarded: Finding | None = None  # it may go when a person agrees
    facts: Mapping[str, Json] = {}  # ``input.breaker``; empty while everything is closed


class Breakers(Protocol):
    """What stops an agent, a tool or an upstream whose calls have gone wrong, and the kill switch."""

    def ask(self, call: Call, facts: Facts) -> Stand:
        """Whether a call may go. One that may is owed an ``ended``."""

    def killed(self, call: Call, cut: Callable[[], None] | None = None) -> Refusal | None:
        """Asked once more just before the wire; ``cut`` cuts the call off when a kill comes later."""

    def ended(
        self, call: Call, facts: Facts, action: Action, code: str, outcome: Outcome | None, cost: int = 0
    ) -> None:
        """What became of it; ``code`` is that of a refusal, ``cost`` in micro-USD. Never raises."""


class Unbroken:
    """No breakers: everything passes. Records say so."""

    def ask(self, call: Call, facts: Facts) -> Stand:
        return Stand()

    def killed(self, call: Call, cut: Callable[[], None] | None = None) -> Refusal | None:
        return None

    def ended(
        self, call: Call, facts: Facts, action: Action, code: str, outcome: Outcome | None, cost: int = 0
    ) -> None:
        return None


class Rank(msgspec.Struct, frozen=True, kw_only=True):
    """What an agent may do with one call, as far as it is trusted."""

    refusal: Refusal | None = None
    guarded: Finding | None = None  # it may go when a person agrees
    facts: Mapping[str, Json] = {}  # ``input.trust``; empty where no trust is kept


class Trust(Protocol):
    """What agents have earned by verified outcomes, and how far that goes."""

    def ask(self, call: Call, facts: Facts) -> Rank:
        """How far an agent may go with a call. One that is asked about is owed an ``ended``."""

    def ended(
        self, call: Call, action: Action, code: str, outcome: Outcome | None, approval: Mapping[str, Json]
    ) -> None:
        """What became of it; ``approval`` is the fact of what people agreed to, or empty. Never raises."""


class Unranked:
    """No trust is kept: everything passes. Records say so."""

    def ask(self, call: Call, facts: Facts) -> Rank:
        return _UNRANKED

    def ended(
        self, call: Call, action: Action, code: str, outcome: Outcome | None, approval: Mapping[str, Json]
    ) -> None:
        return None


_UNRANKED: Final = Rank()


class Upstreams(Protocol):
    """Where calls go out."""

    async def execute(self, call: Call, dialogue: Dialogue | None) -> Outcome:
        """Send the call and wait for its answer, up to the deadline of its manifest.

        Never raises for what an upstream does: a proven non-send is ``not_sent``, everything that is not
        an answer is ``in_doubt`` (``Outcome.code`` says which fault). ``dialogue`` is ``None`` when nobody
        listens: notifications are dropped and questions refused.
        """

    async def unsubscribe(self, who: Subscriber, upstream: str, uri: str) -> None:
        """End a subscription. Never raises."""

    def ended(self, thread: str) -> None:
        """A client is gone; what was opened for it alone can be closed."""


class Telemetry(Protocol):
    """Metrics and spans. Never raises, never blocks."""

    def call_started(self, call: Call) -> object:
        """Returns a token for ``call_ended``; holds the span when the call is sampled."""

    def call_ended(self, token: object, call: Call, answer: Answer | None) -> None:
        """``answer`` is ``None`` when the process stopped before there was one."""

    def waits(self, token: object) -> None:
        """The call is held, and from here on its caller waits for people."""

    def goes_on(self, token: object, call: Call, held: Answer, again: Call) -> object:
        """People decided: ``again`` is carried on with instead of ``call``. Returns its token."""

    def decided(
        self, call: Call, decision: Decision, action: Action, permit: Permit | None = None
    ) -> None: ...

    def inspected(self, call: Call, decision: Decision) -> None:
        """What the ``result`` entry point said of the call's result."""

    def settled(self, call: Call, outcome: Outcome) -> None:
        """What somebody else says became of a call that was only decided here."""

    def refused(self, code: str, surface: str) -> None: ...

    def unenforced(self, stage: str, reason: str) -> None:
        """Something that should have been enforced was not; counted, and alerted on."""

    def traceparent(self, token: object) -> str:
        """The W3C header to send on; valid also for calls that are not sampled."""


class Limits(Protocol):
    """Bounds on work in flight."""

    def decidable(self, args: Json, args_json: bytes) -> bool:
        """Whether arguments are small enough to be decided: an evaluation cannot be interrupted."""

    def enter(self, principal: Principal) -> None:
        """Raise ``Overloaded`` when the gateway or this agent has too much in flight."""

    def leave(self, principal: Principal) -> None: ...


class Parts(msgspec.Struct, frozen=True, kw_only=True):
    """Everything one call needs, put together by ``app.py`` and swapped as a whole on reload."""

    clock: Clock
    catalog: Catalog
    state: State
    policy: Policy
    approvals: Approvals
    journal: Journal
    upstreams: Upstreams
    telemetry: Telemetry
    limits: Limits
    breakers: Breakers = Unbroken()
    trust: Trust = Unranked()
    controls: tuple[str, ...]  # "breakers:absent" …: what ran and what is not there, in every record
    verifications: Verifications | None = None
