"""What a session looks like from outside: plain values, for interfaces, the command line and the model."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final

from gateway.sessions import mandate as mandates
from gateway.sessions.labels import LEVELS
from gateway.sessions.mandate import Mandate
from gateway.sessions.session import Session

_S: Final = 1_000_000_000


def seen(session: Session, at_ns: int, budgets: Mapping[str, Any]) -> dict[str, Any]:
    """Everything there is to see of a session at a moment; ``budgets`` maps scopes to metrics to numbers."""
    whose, mandate, labels = session.whose, session.mandate, session.labels
    milestones = [each.name for each in mandate.milestones] if mandate is not None else ()
    return {
        "id": whose.id,
        "tenant": whose.tenant,
        "agent": whose.agent,
        "credential": whose.credential or None,
        "subject": whose.subject,
        "rolling": whose.rolling,
        "status": status(session, at_ns),
        "parent": whose.parent or None,
        "successor": session.successor.whose.id if session.successor is not None else None,
        "opened": moment(whose.opened_ns),
        "opened_by": whose.opened_by or None,
        "expires": expiry(mandate),
        "mandate": written(mandate) if mandate is not None else None,
        "calls": session.calls,
        "writes": session.writes,
        "irreversible": session.irreversible,
        "denials": session.denials,
        "errors": session.errors,
        "budgets": {scope: dict(metrics) for scope, metrics in budgets.items()},
        "integrity": "untrusted" if labels.untrusted else "trusted",
        "confidentiality": LEVELS[labels.confidentiality] or "public",
        "labels": labels.all(),
        "sources": list(labels.sources),
        "suspect_since": moment(session.suspect_ns) if session.suspects else None,
        "progress": session.progress.facts(at_ns, session.horizon, milestones)
        if session.horizon.bounds
        else None,
        "last": [
            {"target": step.target, "risk": step.risk, "status": step.status, "at": moment(step.at_ns)}
            for step in session.last
        ],
    }


def status(session: Session, at_ns: int) -> str:
    """``open``, ``expired`` or ``closed``; what is above it counts too."""
    for each in (session, *session.ancestors):
        if each.status == "closed":
            return "closed"
    for each in (session, *session.ancestors):
        until = each.mandate.expires_ns if each.mandate is not None else None
        if until is not None and at_ns >= until:
            return "expired"
    return "open"


def written(mandate: Mandate) -> dict[str, Any]:
    """A mandate as somebody would write it, with all that was completed and its ``id``."""
    plain = mandates.encode(mandate)
    plain.pop("expires_ns", None)
    found = {"id": mandate.id, "tools": list(mandate.tools), "reads": mandate.reads,
             "risks": list(mandate.risks), **plain}  # fmt: skip
    if (until := expiry(mandate)) is not None:
        found["expires"] = until
    return found


def expiry(mandate: Mandate | None) -> str | None:
    return moment(mandate.expires_ns) if mandate is not None and mandate.expires_ns is not None else None


def moment(ns: int) -> str:
    """RFC 3339 in UTC, to the millisecond."""
    try:
        at = datetime.fromtimestamp(ns // _S, UTC).replace(microsecond=ns % _S // 1000)
    except (OverflowError, ValueError, OSError):  # a session of a clock that was years off is still shown
        return f"{ns} ns"
    return at.isoformat(timespec="milliseconds").replace("+00:00", "Z")
