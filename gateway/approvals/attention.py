"""Reviews in the database: measured with each vote, counted for the bound of an hour, summed up."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any, Final

import msgspec
import orjson
from sqlalchemy import Connection, func, insert, select

from gateway.approvals import fatigue, rows
from gateway.approvals.chain import Circle, known_as
from gateway.approvals.fatigue import HOUR_S, Kind, Review, Settings
from gateway.approvals.values import Approval, Blocked, Stored
from gateway.storage.tables import (
    approval_events,
    approval_incidents,
    approval_reviews,
    approvals,
    records,
)

EARNING: Final = ("T1", 1)
"""The tier whose every write is approved by a person, as evidence."""

MAX_REVIEWS: Final = 10_000
"""The newest that are measured, of one tenant."""

MAX_CALLS: Final = 100_000
AUTONOMY_S: Final = 86_400
_SECOND: Final = 1_000_000_000
_MILLISECOND: Final = 1_000_000


class Attention(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of the moment of a decision beside the decision."""

    looked_ns: int = 0  # when the person first looked at it; 0 when it is not known
    since_ns: int | None = None  # of a step of several: when the person could begin with it
    share: int = 1  # how many are decided in the step


class Autonomy(msgspec.Struct, frozen=True, kw_only=True):
    """Calls that may change something and were made, of the last day, by what let them through."""

    calls: int = 0
    by_person: int = 0
    by_grant: int = 0

    @property
    def share(self) -> float | None:
        """Of them, the part that went on without a person."""
        return 1 - min(self.by_person + self.by_grant, self.calls) / self.calls if self.calls else None


def kind_of(approval: Approval) -> Kind:
    """What a review of this approval is counted as."""
    if approval.canary is not None:
        return "canary"
    return _pretended(approval)


def rules_of(approval: Approval) -> list[str]:
    """The rules that ask for a person; where the gateway itself asks, its reason code."""
    said = orjson.loads(approval.reasons_json)
    return sorted({str(each.get("rule") or each.get("code", "")) for each in said} - {""})


def bounded(
    connection: Connection, found: Approval, by: str, everyone: Circle, settings: Settings, now: int
) -> None:
    """Whether a person may approve one more within the hour, under any of their names; else ``Blocked``.

    Only approvals are refused: a no is always welcome.
    """
    earning = _pretended(found) == "earning"
    kinds: tuple[Kind, ...] = ("earning",) if earning else ("normal", "canary")
    most = settings.earning_per_hour if earning else settings.per_hour
    query = select(func.count(), func.min(approval_reviews.c.at_ns)).where(
        approval_reviews.c.tenant == found.tenant,
        approval_reviews.c.principal.in_(_names(by, everyone)),
        approval_reviews.c.at_ns > now - HOUR_S * _SECOND,
        approval_reviews.c.at_ns <= now,
        approval_reviews.c.kind.in_(kinds),
    )
    done, first = connection.execute(query).one()
    if done >= most:
        wait = max(1, (first + HOUR_S * _SECOND - now) // (60 * _SECOND) + 1)
        raise Blocked("review_cap", found, f"{done} within the hour; again in {wait} min")


def last_decision(connection: Connection, tenant: str, by: str, everyone: Circle) -> int:
    """When a person decided anything last; 0 when never."""
    query = select(func.max(approval_reviews.c.at_ns)).where(
        approval_reviews.c.tenant == tenant, approval_reviews.c.principal.in_(_names(by, everyone))
    )
    return int(connection.execute(query).scalar() or 0)


def measure(
    connection: Connection, found: Approval, vote: Stored, everyone: Circle, seen: Attention
) -> Review:
    """Write what is measured of a vote, in its transaction."""
    before = seen.since_ns
    if before is None:
        before = last_decision(connection, found.tenant, vote.principal, everyone)
    # A clock that was set back would make a time negative.
    began = min(max(found.opened_ns, seen.looked_ns, before), vote.at_ns)
    review = Review(
        approval_id=found.id,
        principal=vote.principal,
        at_ns=vote.at_ns,
        decision=vote.decision,
        took_ms=(vote.at_ns - began) // _MILLISECOND // max(seen.share, 1),
        kind=kind_of(found),
        rules=tuple(rules_of(found)),
    )
    values = {**msgspec.structs.asdict(review), "rules": orjson.dumps(review.rules).decode()}
    connection.execute(insert(approval_reviews).values(number=vote.number, tenant=found.tenant, **values))
    return review


def reported(connection: Connection, found: Approval, now: int, by: str, note: str) -> None:
    """Somebody reports that an approved call turned out to be wrong."""
    note = note[: rows.MAX_TEXT]
    connection.execute(
        insert(approval_incidents).values(
            approval_id=found.id, tenant=found.tenant, at_ns=now, by=by, note=note
        )
    )
    rows.note(connection, found.id, now, "incident", by, note)


def summary(connection: Connection, tenant: str, settings: Settings, now: int) -> fatigue.Summary:
    """The measures of one tenant, worked out from what is stored; bounded by ``MAX_REVIEWS``."""
    since = now - settings.window_days * 86_400 * _SECOND
    table = approval_reviews
    found = connection.execute(
        select(table)
        .where(table.c.tenant == tenant, table.c.at_ns >= since, table.c.at_ns <= now)
        .order_by(table.c.at_ns.desc())
        .limit(MAX_REVIEWS)
    ).all()
    reviews = [_review(row) for row in reversed(found)]
    wrong = connection.execute(
        select(approval_incidents.c.approval_id).where(approval_incidents.c.tenant == tenant).distinct()
    ).scalars()
    return fatigue.summed(reviews, _of(reviews, wrong), settings, now_ns=now, since_ns=since)


def tenants(connection: Connection) -> list[str]:
    """Those anything was ever reviewed of."""
    return list(connection.execute(select(approval_reviews.c.tenant).distinct()).scalars())


def autonomy(connection: Connection, tenant: str, now: int) -> Autonomy:
    """Counted from the journal and the events of approvals, of the last day and at most ``MAX_CALLS``."""
    since = now - AUTONOMY_S * _SECOND
    newest = (
        select(*(records.c[name] for name in ("phase", "tenant", "risk", "action", "at_ns")))
        .order_by(records.c.seq.desc())
        .limit(MAX_CALLS)
        .subquery()
    )  # fmt: skip
    calls = connection.execute(
        select(func.count()).where(
            newest.c.phase == "intent",
            newest.c.tenant == tenant,
            newest.c.risk != "read",
            newest.c.action.in_(("allow", "modify")),
            newest.c.at_ns >= since,
        )
    ).scalar_one()
    counted = (
        select(approval_events.c.event, func.count())
        .join(approvals, approvals.c.id == approval_events.c.approval_id)
        .where(
            approval_events.c.event.in_(("claimed", "grant_used")),
            approval_events.c.at_ns >= since,
            approvals.c.tenant == tenant,
            approvals.c.risk != "read",
        )
        .group_by(approval_events.c.event)
    )
    let = {event: number for event, number in connection.execute(counted)}  # noqa: C416 - rows, not pairs
    return Autonomy(calls=calls, by_person=let.get("claimed", 0), by_grant=let.get("grant_used", 0))


def _pretended(approval: Approval) -> Kind:
    facts: Any = orjson.loads(approval.facts_json)
    trust = (facts.get("slow") or {}).get("trust") or (facts.get("fast") or {}).get("trust") or {}
    return "earning" if isinstance(trust, dict) and trust.get("tier") in EARNING else "normal"


def _names(by: str, everyone: Circle) -> list[str]:
    """The name and all others of the same person."""
    own = everyone.people.get(by)
    if own is None:
        return [by]
    names = known_as(own)
    return sorted({by} | {name for name, each in everyone.people.items() if names & known_as(each)})


def _of(reviews: Collection[Review], wrong: Iterable[str]) -> set[str]:
    return {each.approval_id for each in reviews} & set(wrong)


def _review(row: Any) -> Review:
    return Review(
        approval_id=row.approval_id,
        principal=row.principal,
        at_ns=row.at_ns,
        decision=row.decision,
        took_ms=row.took_ms,
        kind=row.kind,
        rules=tuple(orjson.loads(row.rules)),
    )
