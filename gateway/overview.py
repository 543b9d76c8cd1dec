"""What operators see of a running gateway: readiness part by part, what is in force, upstreams, decisions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import msgspec
from msgspec import structs

from gateway import __version__
from gateway.config import Config, RouteConfig
from gateway.identity.directory import Directory
from gateway.journal.journal import Journal
from gateway.journal.query import Filter, Query
from gateway.ledger import RecordedCalls, readable
from gateway.limits import InFlight
from gateway.model import Revisions, Tool
from gateway.outside import Outside
from gateway.policy.policy import EmbeddedPolicy
from gateway.ports import Parts
from gateway.storage.database import Database
from gateway.storage.idempotency import IdempotencyKeys
from gateway.surfaces.admin.deps import (
    AdminDeps,
    DecisionFilter,
    DecisionPage,
    InForce,
    PartState,
    UpstreamState,
)
from gateway.surfaces.http import HttpDeps
from gateway.telemetry.metrics import RecordStats
from gateway.telemetry.telemetry import Telemetry


class Running(Protocol):
    """What there is to see of a gateway; what a reload replaces is looked up at each request."""

    config: Config
    directory: Directory
    database: Database
    idempotency: IdempotencyKeys
    journal: Journal
    limits: InFlight
    outside: Outside
    parts: Parts
    policy: EmbeddedPolicy
    reload_failure: str
    started_ns: int
    telemetry: Telemetry

    def revisions(self) -> Revisions: ...

    async def reload(self) -> Mapping[str, str]: ...


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
        decisions=RecordedDecisions(Query(gateway.database)),
        reload=gateway.reload,
    )


def http_deps(gateway: Running) -> HttpDeps:
    """Everything the HTTP front for agents calls."""
    return HttpDeps(
        version=__version__,
        server=gateway.config.server,
        parts=lambda: gateway.parts,
        authenticate=gateway.directory.authenticate,
        limits=lambda: gateway.config.limits,
        routes=lambda upstream: _routes(gateway.config, upstream),
        elsewhere=lambda: gateway.outside.catalog.elsewhere,
        keys=gateway.idempotency,
        ledger=RecordedCalls(gateway.database),
        open_decisions=lambda count: _opened(gateway, count),
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
        first, last = shown.records[0], shown.records[-1]
        steps = [step | (step.get("end") or {}) for step in shown.records]
        became: dict[str, Any] = {name: last[name] for name in ("status", "outcome_code") if name in last}
        return {**first, **became, "end_phase": last["phase"], "history": steps}


def ready(gateway: Running) -> Mapping[str, PartState]:
    """Ready means that calls can be decided and recorded; an upstream that is down only degrades."""
    parts = {
        "policy": PartState(
            state="degraded" if gateway.reload_failure else "ok",
            essential=True,
            detail=f"last reload refused, the last good one decides: {gateway.reload_failure}"
            if gateway.reload_failure
            else f"revision {gateway.policy.revision}",
        ),
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
    for upstream in _upstreams(gateway):
        parts[f"upstream:{upstream.name}"] = PartState(
            state="ok" if upstream.state == "ok" else "degraded", detail=upstream.detail
        )
    return parts


def record_stats(journal: Journal) -> RecordStats:
    return RecordStats(
        written=journal.written,
        dropped={"overflow": journal.dropped},
        queue_length=journal.depth,
        last_write_s=journal.last_write_ns / 1e9,
    )


def _in_force(gateway: Running) -> InForce:
    return InForce(
        revisions=msgspec.structs.asdict(gateway.revisions()),
        started_ns=gateway.started_ns,
        in_flight=gateway.limits.total,
        mode=gateway.config.mode,
        controls=gateway.parts.controls,
    )


def _tools(gateway: Running) -> Sequence[Tool]:
    catalog = gateway.outside.catalog
    return [*catalog.tools("tool"), *catalog.elsewhere, *catalog.tools("prompt"), *catalog.tools("resource")]


def _upstreams(gateway: Running) -> Sequence[UpstreamState]:
    catalog, registry = gateway.outside.catalog, gateway.outside.registry
    stale = set(catalog.stale)
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
            state="ok" if status.connected and status.upstream not in stale else "down",
            mode=gateway.config.upstreams[status.upstream].mode,
            tools=len(catalog.tools("tool", status.upstream)),
            detail=status.last_error,
        )
        for status in registry.status()
    ] + elsewhere
