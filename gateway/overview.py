"""What operators see of a running gateway: readiness part by part, what is in force, upstreams, decisions."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, Literal, Protocol

import msgspec
from msgspec import structs

from gateway import __version__
from gateway.catalog.names import shown
from gateway.config import Config
from gateway.config_console import OidcConfig
from gateway.config_upstream import RouteConfig
from gateway.desk import Desk
from gateway.errors import Refused, Unauthenticated
from gateway.guarded import Guarded
from gateway.identity.authenticator import Authenticator
from gateway.identity.directory import Directory
from gateway.journal.journal import Journal
from gateway.journal.query import Filter, Query
from gateway.ledger import RecordedCalls, readable
from gateway.limits import InFlight
from gateway.model import Operator, Revisions, Tool
from gateway.outside import Outside
from gateway.pins import waiting
from gateway.policy import schema
from gateway.policy.opa import OpaPolicy
from gateway.policy.policy import EmbeddedPolicy
from gateway.ports import Parts
from gateway.reviewed import Reviewed
from gateway.rollout import Rollout
from gateway.state.memory import MemoryState
from gateway.storage.console import EndedSignIns
from gateway.storage.database import Database
from gateway.storage.idempotency import IdempotencyKeys
from gateway.storage.pins import Pins
from gateway.storage.revocations import TokenRevocations
from gateway.surfaces.admin.deps import (
    Accepted,
    AdminDeps,
    CredentialsState,
    DecisionFilter,
    DecisionPage,
    InForce,
    IssuerState,
    PartState,
    ShadowState,
    UpstreamState,
)
from gateway.surfaces.console.deps import ConsoleDeps, Look, People, Terms
from gateway.surfaces.console.signin import SignIn
from gateway.surfaces.http import HttpDeps
from gateway.telemetry.metrics import CredentialStats, RecordStats, SessionStats
from gateway.telemetry.telemetry import Telemetry
from gateway.trusted import Trusted
from gateway.upstreams.secrets.credentials import CredentialState


class Running(Protocol):
    """What there is to see of a gateway; what a reload replaces is looked up at each request."""

    config: Config
    authenticator: Authenticator
    directory: Directory
    database: Database
    desk: Desk
    guarded: Guarded
    reviewed: Reviewed
    trusted: Trusted
    idempotency: IdempotencyKeys
    journal: Journal
    limits: InFlight
    outside: Outside
    parts: Parts
    pins: Pins
    policy: EmbeddedPolicy
    reload_failure: str
    revocations: TokenRevocations
    rollout: Rollout
    started_ns: int
    telemetry: Telemetry

    def revisions(self) -> Revisions: ...

    def people(self) -> People | None: ...

    async def reload(self) -> Mapping[str, str]: ...

    async def pins_changed(self) -> None: ...


_NAMED: Final = 5


def admin_deps(gateway: Running) -> AdminDeps:
    """Everything the admin API calls."""
    return AdminDeps(
        version=__version__,
        allowed_hosts=gateway.config.server.allowed_hosts,
        authenticate=gateway.directory.operator,
        refused=gateway.telemetry.refused,
        ready=lambda: ready(gateway),
        metrics=gateway.telemetry.metrics.render,
        status=lambda: _in_force(gateway),
        tools=lambda: _tools(gateway),
        upstreams=lambda: _upstreams(gateway),
        issuers=lambda tenant: _issuers(gateway, tenant),
        revocations=lambda tenant: _revocations(gateway, tenant),
        policy_schema=schema.published,
        shadow=lambda tenant: _shadow(gateway, tenant),
        decisions=RecordedDecisions(Query(gateway.database)),
        sessions=gateway.desk,
        breakers=gateway.guarded.desk,
        envelopes=gateway.reviewed.glass,
        trust=lambda: gateway.trusted.desk if gateway.config.trust.enabled else None,
        scores=gateway.guarded.scores.take,
        accept=lambda accepted: _accept(gateway, accepted),
        reload=gateway.reload,
        jwks=lambda: gateway.outside.registry.jwks(),
        approvals=gateway.reviewed.desk,
    )


def console_deps(gateway: Running, admin: AdminDeps, look: Look, key: bytes) -> ConsoleDeps:
    """Everything the console calls beside the admin API."""

    def terms() -> Terms:
        said = gateway.config.console
        return Terms(url=said.url, life_s=said.hours * 3600, idle_s=said.idle_minutes * 60)

    return ConsoleDeps(
        admin=admin,
        key=key,
        now_ns=gateway.directory.now_ns,
        terms=terms,
        holder=lambda found: holder(gateway.directory, gateway.config.console.oidc, found),
        people=lambda: gateway.people(),
        sign_ins=EndedSignIns(gateway.database),
        look=look,
    )


def holder(directory: Directory, oidc: OidcConfig | None, found: SignIn) -> Operator:
    """Who has signed in, as their keys and the configuration are now; raises ``Unauthenticated``."""
    if not found.person:
        return directory.holder(found.credential)
    value = found.credential.removeprefix("oidc:")
    # Whom the configuration does not let in any more is out at the next click, as with a revoked key.
    if oidc is None or (oidc.tenant, oidc.named(value)) != (found.tenant, found.person):
        raise Unauthenticated("revoked_credential", "console.oidc does not name them any more")
    return directory.person(found.tenant, found.person, found.credential)


def http_deps(gateway: Running) -> HttpDeps:
    """Everything the HTTP front for agents calls."""
    return HttpDeps(
        version=__version__,
        server=gateway.config.server,
        parts=lambda: gateway.parts,
        authenticate=gateway.authenticator.agent,
        limits=lambda: gateway.config.limits,
        routes=lambda upstream: _routes(gateway.config, upstream),
        elsewhere=lambda: gateway.outside.catalog.elsewhere,
        keys=gateway.idempotency,
        ledger=RecordedCalls(gateway.database),
        sessions=gateway.desk,
        open_decisions=lambda count: _opened(gateway, count),
        waiting=gateway.reviewed.desk,
    )


def _routes(config: Config, upstream: str) -> Sequence[RouteConfig] | None:
    found = config.upstreams.get(upstream)
    return found.routes if found is not None and found.routes else None


def _opened(gateway: Running, count: int) -> None:
    gateway.telemetry.metrics.open_decisions[()] = count


class RecordedDecisions:
    """The journal's read side as the admin API asks for it: one tenant, and cursors that are text."""

    def __init__(self, query: Query) -> None:
        self._query = query

    def list(self, which: DecisionFilter, limit: int, cursor: str | None) -> DecisionPage:
        after = int(cursor) if cursor is not None else None
        if after is not None and not 0 < after < 1 << 63:
            raise ValueError("no cursor of ours")
        with readable():
            page = self._query.list_decisions(Filter(**structs.asdict(which)), limit=limit, cursor=after)
        return DecisionPage(items=page.decisions, cursor=str(page.cursor) if page.cursor else None)

    def show(self, tenant: str, call_id: str) -> Mapping[str, Any] | None:
        with readable():
            shown = self._query.show(call_id)
        if shown is None or shown.records[0]["tenant"] != tenant:
            return None
        checked = [record["status"] for record in shown.records if record["phase"] == "verified"]
        first, last = shown.records[0], [each for each in shown.records if each["phase"] != "verified"][-1]
        steps = [step | (step.get("end") or {}) for step in shown.records]
        became: dict[str, Any] = {name: last[name] for name in ("status", "outcome_code") if name in last}
        if checked:
            became["verification"] = checked[-1]
        return {**first, **became, "end_phase": last["phase"], "history": steps}


def ready(gateway: Running) -> Mapping[str, PartState]:
    """Ready means that calls can be decided and recorded; an upstream that is down only degrades."""
    parts = {
        "policy": _policy(gateway),
        "journal": PartState(
            state="ok" if gateway.journal.writable else "down",
            essential=True,
            detail=f"{gateway.journal.depth} records waiting",
        ),
        "intake": PartState(
            state="down" if gateway.limits.closing else "ok",
            essential=True,
            detail="draining" if gateway.limits.closing else "",
        ),
    }
    if isinstance(gateway.policy, OpaPolicy) and gateway.policy.trouble:
        parts["policy"] = PartState(
            state="down", essential=True, detail=f"OPA does not decide: {gateway.policy.trouble}"
        )
    parts["pins"] = _pins(gateway)
    if broken := sorted(gateway.guarded.guard.breakers.broken):
        # What they would have stopped is not stopped any more, and somebody has to know.
        parts["detectors"] = PartState(
            state="degraded", detail=f"taken out after an error, see the log: {', '.join(broken)}"
        )
    for upstream in _upstreams(gateway):
        parts[f"upstream:{upstream.name}"] = PartState(
            state="ok" if upstream.state == "ok" else "degraded", detail=upstream.detail
        )
    for issuer in gateway.authenticator.issuers.values():
        ring = issuer.keyring
        parts[f"issuer:{issuer.name}"] = PartState(
            state="ok" if ring.state() == "fresh" and ring.usable else "degraded", detail=ring.failure
        )
    return parts


def _policy(gateway: Running) -> PartState:
    """Essential, and never down: whatever is wrong with the next policy, the last good one decides."""
    rollout = gateway.rollout
    wrong = gateway.reload_failure or rollout.failure
    said = [f"the last good one decides: {wrong}"] if wrong else []
    if rollout.freshness is not None and (age := rollout.freshness.age) != "fresh":
        said.append(f"its source has not been verified for too long ({age})")
    if rollout.shadow is not None and rollout.shadow.failure:
        said.append(f"the candidate is no longer tried: {rollout.shadow.failure}")
    if said:
        return PartState(state="degraded", essential=True, detail="; ".join(said))
    return PartState(state="ok", essential=True, detail=f"revision {gateway.policy.revision}")


def _shadow(gateway: Running, tenant: str) -> ShadowState:
    rollout = gateway.rollout
    shadow = rollout.shadow
    with readable():
        parts = rollout.store.parts()
        counted = rollout.store.counted(tenant=tenant)
        differences = rollout.store.differences(tenant=tenant)
    found = rollout.in_force
    active = parts.get("active")
    return ShadowState(
        active_revision=gateway.policy.revision,
        active_origin=found.label if found is not None else "",
        active_part="promoted" if active is not None else "configured",
        candidate_revision=(shadow.revision if shadow is not None else "")
        or (parts["candidate"].revision if "candidate" in parts else ""),
        candidate_origin=parts["candidate"].origin if "candidate" in parts else "",
        percent=shadow.percent if shadow is not None else 0,
        failure=shadow.failure if shadow is not None else "",
        counts=dict(shadow.counts) if shadow is not None else {},
        recorded=rollout.replay,
        changes=counted,
        differences=[structs.asdict(each) for each in differences],
    )


def quarantined(gateway: Running) -> Mapping[tuple[str, str], int]:
    """How many entries are in quarantine, by upstream and state; none for every configured upstream too."""
    counted = {(name, "changed"): 0 for name in gateway.outside.catalog.upstreams}
    for tool in gateway.outside.catalog.held():
        key = (tool.upstream, tool.pin.state)
        counted[key] = counted.get(key, 0) + 1
    return counted


def _pins(gateway: Running) -> PartState:
    held = [tool for tool in gateway.outside.catalog.held() if waiting(tool.pin)]
    if not held:
        return PartState(state="ok")
    named = ", ".join(shown(tool.target) for tool in held[:_NAMED])
    more = f" and {len(held) - _NAMED} more" if len(held) > _NAMED else ""
    return PartState(state="degraded", detail=f"in quarantine: {named}{more}; see 'wardgate tools diff'")


async def _accept(gateway: Running, accepted: Accepted) -> None:
    """Accept one definition for an operator, and put it in force."""

    def write() -> bool:
        _, rows = gateway.pins.load()
        # A template is a resource everywhere but here.
        kinds = ("resource", "template") if accepted.kind == "resource" else (accepted.kind,)
        named = {row.kind: row for row in rows if row.target == f"{accepted.upstream}/{accepted.name}"}
        row = next((named[kind] for kind in kinds if kind in named and named[kind].listed), None)
        if row is None:
            raise Refused("not_found", shown(accepted.name))
        exactly = msgspec.structs.replace(row, listed_hash=accepted.hash)
        return gateway.pins.accept(exactly, accepted.by)

    if not await asyncio.to_thread(write):
        raise Refused("definition_changed", shown(accepted.name))
    await gateway.pins_changed()


def issuer_stats(authenticator: Authenticator) -> Iterator[tuple[str, int, float]]:
    for issuer in authenticator.issuers.values():
        yield issuer.name, issuer.keyring.usable, issuer.keyring.fetched_ns / 1e9


def record_stats(journal: Journal) -> RecordStats:
    return RecordStats(
        written=journal.written,
        dropped={"overflow": journal.dropped},
        queue_length=journal.depth,
        last_write_s=journal.last_write_ns / 1e9,
    )


def session_stats(state: MemoryState) -> SessionStats:
    sessions = state.sessions
    return SessionStats(live=len(sessions), opened=sessions.opened, exceeded=state.exceeded)


def credential_stats(outside: Outside) -> Sequence[CredentialStats]:
    return [
        CredentialStats(
            upstream=found.upstream,
            states={"ok": found.ok, "kept": found.kept, "unavailable": found.unavailable},
            verified_s=time.time() - found.age_s if found.age_s else 0.0,
            results=found.results,
            refused=found.refused - found.sent_again,
            sent_again=found.sent_again,
        )
        for found in outside.registry.credentials()
    ]


def _in_force(gateway: Running) -> InForce:
    return InForce(
        revisions=msgspec.structs.asdict(gateway.revisions()),
        started_ns=gateway.started_ns,
        in_flight=gateway.limits.total,
        mode=gateway.config.mode,
        controls=gateway.parts.controls,
    )


def _health(up: bool, credentials: CredentialState | None) -> Literal["ok", "degraded", "down"]:
    if not up:
        return "down"
    return "degraded" if credentials is not None and (credentials.kept or credentials.unavailable) else "ok"


def _shown(found: CredentialState | None) -> CredentialsState | None:
    if found is None:
        return None
    return CredentialsState(
        ok=found.ok, kept=found.kept, unavailable=found.unavailable, age_s=round(found.age_s, 1)
    )


def _tools(gateway: Running) -> Sequence[Tool]:
    catalog = gateway.outside.catalog
    offered = (*catalog.tools("tool"), *catalog.tools("prompt"), *catalog.tools("resource"))
    return [*offered, *catalog.elsewhere, *catalog.held()]


def _issuers(gateway: Running, tenant: str) -> Sequence[IssuerState]:
    return [
        IssuerState(
            name=issuer.name,
            issuer=issuer.config.issuer,
            state=issuer.keyring.state(),
            keys=issuer.keyring.usable,
            fetched_ns=issuer.keyring.fetched_ns or None,
            detail="; ".join(filter(None, (issuer.keyring.failure, *issuer.keyring.set.dropped))),
        )
        for issuer in gateway.authenticator.issuers.values()
        if issuer.config.tenant == tenant
    ]


def _revocations(gateway: Running, tenant: str) -> Sequence[Mapping[str, Any]]:
    with readable():
        return [structs.asdict(each) for each in gateway.revocations.list(tenant=tenant)]


def _upstreams(gateway: Running) -> Sequence[UpstreamState]:
    catalog, registry = gateway.outside.catalog, gateway.outside.registry
    stale = set(catalog.stale)
    credentials = {found.upstream: found for found in registry.credentials()}
    elsewhere = [
        UpstreamState(
            name=name,
            transport="elsewhere",
            state="ok",  # nothing is sent there, so nothing of it can be down
            mode=config.mode,
            tools=len(catalog.tools("tool", name)),
        )
        for name, config in gateway.config.upstreams.items()
        if config.elsewhere
    ]
    return [
        UpstreamState(
            name=status.upstream,
            transport=status.transport,
            state=_health(
                status.connected and status.upstream not in stale, credentials.get(status.upstream)
            ),
            mode=gateway.config.upstreams[status.upstream].mode,
            tools=len(catalog.tools("tool", status.upstream)),
            detail=status.last_error,
            credentials=_shown(credentials.get(status.upstream)),
        )
        for status in registry.status()
    ] + elsewhere
