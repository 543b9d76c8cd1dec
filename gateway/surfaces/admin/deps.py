"""What the admin API needs from the gateway, as plain callables that ``app.py`` fills in."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Annotated, Any, Literal, Protocol, cast

import msgspec
from fastapi import Depends, Request

from gateway.model import Operator, Tool
from gateway.surfaces.sessions import Sessions


class PartState(msgspec.Struct, frozen=True, kw_only=True):
    """How one part does. The gateway is ready while every ``essential`` part is not ``down``."""

    state: Literal["ok", "degraded", "down"]
    essential: bool = False  # policy and journal: without them every call is refused
    detail: str = ""  # for operators only


class InForce(msgspec.Struct, frozen=True, kw_only=True):
    """What is in force."""

    revisions: Mapping[str, str]  # of config, keys, policy and catalog
    started_ns: int
    in_flight: int
    mode: str
    controls: tuple[str, ...] = ()  # as in every record: what runs and what is not there


class CredentialsState(msgspec.Struct, frozen=True, kw_only=True):
    """How many secrets of an upstream do how; never whose or what."""

    ok: int
    kept: int
    unavailable: int
    age_s: float


class UpstreamState(msgspec.Struct, frozen=True, kw_only=True):
    """One configured upstream."""

    name: str
    transport: Literal["http", "stdio", "openapi", "python", "elsewhere"]
    state: Literal["ok", "degraded", "down", "unknown"]
    mode: str
    tools: int
    detail: str = ""
    credentials: CredentialsState | None = None


class Accepted(msgspec.Struct, frozen=True, kw_only=True):
    """One definition that an operator accepts, named by its hash so that it cannot be another one."""

    upstream: str
    kind: str  # tool, prompt, resource or template
    name: str
    hash: str
    by: str  # the operator


class IssuerState(msgspec.Struct, frozen=True, kw_only=True):
    """One configured issuer of tokens."""

    name: str
    issuer: str
    state: Literal["empty", "fresh", "stale", "unusable"]
    keys: int  # in use
    fetched_ns: int | None = None  # the last good fetch
    detail: str = ""  # why keys could not be fetched, or are not used


class ShadowState(msgspec.Struct, frozen=True, kw_only=True):
    """The policy that decides, the candidate beside it, and where they differ."""

    active_revision: str
    active_origin: str
    active_part: Literal["configured", "promoted"]
    candidate_revision: str  # "" when none is tried
    candidate_origin: str
    percent: int
    failure: str  # why the trial has ended
    counts: Mapping[str, int]  # since this process tries it, of all tenants
    recorded: Mapping[str, int]  # how calls on record fared when the active policy was loaded
    changes: Sequence[Mapping[str, Any]]  # differences on record of one tenant, by change, rule and tool
    differences: Sequence[Mapping[str, Any]]  # the newest of them


class DecisionFilter(msgspec.Struct, frozen=True, kw_only=True):
    """Which decisions are asked for; ``None`` does not restrict. Times are nanoseconds since the epoch."""

    tenant: str  # the operator's own: an operator never sees another tenant's calls
    agent: str | None = None
    tool: str | None = None  # "upstream/name", or "upstream/" for all of one
    verdict: str | None = None
    action: str | None = None
    code: str | None = None
    session: str | None = None
    since_ns: int | None = None
    until_ns: int | None = None
    in_doubt: bool = False  # only calls whose outcome nobody knows


class DecisionPage(msgspec.Struct, frozen=True, kw_only=True):
    """Decisions, newest first; ``cursor`` asks for the next page and is ``None`` on the last."""

    items: Sequence[Mapping[str, Any]]
    cursor: str | None = None


class Decisions(Protocol):
    """Reads of the journal. They block, so they are called in a worker thread.

    Keys of an item are the fields of ``models.Decision``; others are ignored. Both raise ``JournalError``
    when the journal cannot be read, and ``list`` raises ``ValueError`` for a cursor that is not its own.
    """

    def list(self, which: DecisionFilter, limit: int, cursor: str | None) -> DecisionPage: ...

    def show(self, tenant: str, call_id: str) -> Mapping[str, Any] | None:
        """One decision with its whole history, or ``None``."""


class Reviewing(Protocol):
    """What reviewers do. Answers are plain data; see ``models.Approval`` for their fields.

    Every write raises ``ApprovalError`` with the approval as it is, or ``Refused`` with ``not_found``.
    """

    async def listed(
        self, operator: Operator, states: Sequence[str], agent: str | None, target: str | None, limit: int,
        after: str | None,
    ) -> Sequence[Mapping[str, Any]]: ...  # fmt: skip

    async def show(self, operator: Operator, approval_id: str) -> Mapping[str, Any] | None: ...

    async def vote(
        self, operator: Operator, approval_id: str, decision: Literal["approve", "reject"], version: int,
        digest: str, *, reason_code: str = "", reason: str = "",
    ) -> Mapping[str, Any]: ...  # fmt: skip

    async def bulk(
        self, operator: Operator, decision: Literal["approve", "reject"],
        items: Sequence[tuple[str, int, str]], *, reason_code: str, reason: str,
    ) -> Sequence[Mapping[str, Any]]: ...  # fmt: skip

    async def edit(
        self, operator: Operator, approval_id: str, version: int, digest: str, arguments: Any
    ) -> Mapping[str, Any]: ...

    async def ask(
        self, operator: Operator, approval_id: str, version: int, digest: str, question: str
    ) -> Mapping[str, Any]: ...

    async def cancel(
        self, operator: Operator, approval_id: str, version: int, digest: str, reason: str
    ) -> Mapping[str, Any]: ...

    async def resolve(
        self, operator: Operator, approval_id: str, version: int, digest: str, *, executed: bool, note: str
    ) -> Mapping[str, Any]: ...

    async def grant(
        self, operator: Operator, approval_id: str, version: int, digest: str, *, fields: Sequence[str],
        minutes: int, uses: int, budget_micro_usd: int, any_session: bool,
    ) -> Mapping[str, Any]: ...  # fmt: skip

    async def plant(
        self, operator: Operator, approval_id: str, digest: str, arguments: Any, note: str
    ) -> Mapping[str, Any]: ...

    async def incident(
        self, operator: Operator, approval_id: str, digest: str, note: str
    ) -> Mapping[str, Any]: ...

    async def measures(self, operator: Operator) -> Mapping[str, Any]: ...

    async def changes(
        self, operator: Operator, after: int | None, wait_s: float
    ) -> tuple[Sequence[Mapping[str, Any]], int]: ...

    async def granted(self, operator: Operator) -> Sequence[Mapping[str, Any]]: ...

    async def revoke(self, operator: Operator, grant_id: str) -> Mapping[str, Any]: ...

    async def called_back(
        self, name: str, key_id: str, at: str, signature: str, body: bytes
    ) -> Mapping[str, Any]: ...


class AdminDeps(msgspec.Struct, frozen=True, kw_only=True):
    """Everything the admin API calls."""

    version: str
    allowed_hosts: tuple[str, ...]  # host names accepted beside loopback names and IP addresses
    authenticate: Callable[[bytes | None], Operator]  # the Authorization header; raises Unauthenticated
    refused: Callable[[str, str], None]  # telemetry: (code, surface)
    ready: Callable[[], Mapping[str, PartState]]
    metrics: Callable[[str], tuple[str, bytes]]  # Accept header → content type and body
    status: Callable[[], InForce]
    tools: Callable[[], Sequence[Tool]]
    upstreams: Callable[[], Sequence[UpstreamState]]
    issuers: Callable[[str], Sequence[IssuerState]]  # of a tenant
    revocations: Callable[[str], Sequence[Mapping[str, Any]]]  # of a tenant, in force; blocks
    shadow: Callable[[str], ShadowState]  # differences of a tenant; blocks
    decisions: Decisions
    sessions: Sessions
    breakers: Any = None  # see ``breakers.BreakerDesk``
    envelopes: Any = None  # see ``envelopes.Glass``
    trust: Callable[[], Any] = lambda: None  # see ``trust.TrustDesk``; ``None`` while no trust is kept
    scores: Any = None  # see ``gateway.scores.Scores.take``
    accept: Callable[[Accepted], Awaitable[None]]  # raises Refused: not_found, definition_changed
    reload: Callable[[], Awaitable[Mapping[str, str]]]  # the new revisions; raises ConfigError or PolicyError
    approvals: Reviewing | None = None
    policy_schema: Callable[[], Mapping[str, Any]] = dict  # JSON Schema of the policy input
    jwks: Callable[[], Mapping[str, Any]] = lambda: {"keys": []}  # public keys of assertions


async def _deps(request: Request) -> AdminDeps:
    return cast(AdminDeps, request.app.state.deps)


Deps = Annotated[AdminDeps, Depends(_deps)]
"""How a route gets them."""
