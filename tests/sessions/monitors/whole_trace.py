"""The templates evaluated over a whole trace, as their formulas say: slow, without state, and written apart
from the automata. Definitions are the plain values a file holds."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

from gateway.sessions.monitors import Event

GOOD = ("ok",)
S = 1_000_000_000


class Trace:
    """Committed events of a session, with times that never go back."""

    def __init__(self) -> None:
        self.events: list[tuple[int, Event]] = []
        self.now = 0

    def commit(self, event: Event) -> None:
        self.now = max(self.now, event.at_ns)
        self.events.append((self.now, event))


def violated(definition: dict[str, Any], trace: Trace, event: Event) -> bool | None:
    """Whether the call would violate; ``None`` when the monitor is not about it."""
    (template,) = definition.keys() & TEMPLATES.keys()
    body = definition[template]
    now = max(trace.now, event.at_ns)
    return TEMPLATES[template](body, trace.events, event, now)


def matches(matcher: dict[str, Any], event: Event, good: bool) -> bool:
    if "tools" in matcher and not any(glob(pattern, event.target) for pattern in matcher["tools"]):
        return False
    if "risks" in matcher and event.risk not in matcher["risks"]:
        return False
    if "effects" in matcher and not set(matcher["effects"]) & set(event.effects):
        return False
    if "labels" in matcher and not set(matcher["labels"]) & set(event.labels):
        return False
    if event.status:
        statuses = matcher.get("status")
        if statuses is None:
            return event.status == "ok" if good else event.status not in ("failed", "not_sent")
        return event.status in statuses
    return True


def glob(pattern: str, target: str) -> bool:
    """Only what the tests use: a name, 'upstream/*' or '*'."""
    return pattern in ("*", target) or (pattern.endswith("/*") and target.startswith(pattern[:-1]))


def key(body: dict[str, Any], matcher: dict[str, Any], event: Event) -> str | None:
    """Exact where a call makes another one right; elsewhere letters and digits in one case."""
    values = [event.args.get(pointer[1:]) for pointer in matcher.get("by", body.get("by", ()))]
    if None in values:
        return None
    if "then" not in body or body.get("apart"):
        values = ["".join(ch for ch in str(value).lower() if ch.isalnum()) for value in values]
    return json.dumps(values)


def same(ours: str | None, theirs: str | None) -> bool:
    """For what speaks against a call: an unknown key may be any."""
    return ours is None or theirs is None or ours == theirs


def must_precede(body: Any, past: Any, event: Event, now: int) -> bool | None:
    if not matches(body["then"], event, good=False):
        return None
    ours = key(body, body["then"], event)
    return ours is None or not any(
        matches(body["first"], e, good=True) and key(body, body["first"], e) == ours for _, e in past
    )


def within(body: Any, past: Any, event: Event, now: int) -> bool | None:
    if not matches(body["then"], event, good=False):
        return None
    ours = key(body, body["then"], event)
    return ours is None or not any(
        matches(body["first"], e, good=True)
        and key(body, body["first"], e) == ours
        and ("seconds" not in body or now - t <= body["seconds"] * S)
        and ("calls" not in body or len(past) - number <= body["calls"])
        for number, (t, e) in enumerate(past)
    )


def never_after(body: Any, past: Any, event: Event, now: int) -> bool | None:
    if not matches(body["match"], event, good=False):
        return None
    if set(body["after"]) == {"labels"} and matches(body["after"], event, good=False):
        return True
    ours = key(body, body["match"], event)
    return any(
        matches(body["after"], e, good=False) and same(ours, key(body, body["after"], e)) for _, e in past
    )


def cannot_follow_without(body: Any, past: Any, event: Event, now: int) -> bool | None:
    if not matches(body["match"], event, good=False):
        return None
    ours = key(body, body["match"], event)
    # For an unknown key: is any key pending. 'unless' helps only the key it is known to be about.
    keys = {ours} if ours is not None else {key(body, body["after"], e) for _, e in past} | {
        key(body, body["match"], e) for _, e in past
    } | {key(body, body["unless"], e) for _, e in past} | {"another"}  # fmt: skip
    return any(pending(body, past, each) for each in keys if each is not None)


def pending(body: Any, past: Any, ours: str) -> bool:
    for _, e in reversed(past):
        if matches(body["after"], e, good=False) and same(ours, key(body, body["after"], e)):
            return True
        if matches(body["unless"], e, good=True) and key(body, body["unless"], e) == ours:
            return False
    return False


def mutually_exclusive(body: Any, past: Any, event: Event, now: int) -> bool | None:
    mine = [m for m in body["sets"] if matches(m, event, good=False)]
    if not mine:
        return None
    return any(
        other is not own
        and matches(other, e, good=False)
        and same(key(body, own, event), key(body, other, e))
        for own in mine
        for other in body["sets"]
        for _, e in (*past, (now, event))
    )


def separation_of_actors(body: Any, past: Any, event: Event, now: int) -> bool | None:
    body = {**body, "apart": True}
    if not matches(body["then"], event, good=False):
        return None
    ours = key(body, body["then"], event)
    return any(
        matches(body["first"], e, good=False)
        and same(ours, key(body, body["first"], e))
        and (not e.actor or not event.actor or e.actor == event.actor)
        for _, e in past
    )


def counted(body: Any, past: Any, event: Event) -> list[tuple[int, Event]]:
    ours = key(body, body["match"], event)
    return [
        (t, e) for t, e in past
        if matches(body["match"], e, good=False) and same(ours, key(body, body["match"], e))
    ]  # fmt: skip


def at_most_n(body: Any, past: Any, event: Event, now: int) -> bool | None:
    if not matches(body["match"], event, good=False):
        return None
    window = body.get("within_s")
    before = [t for t, _ in counted(body, past, event) if window is None or now - t < window * S]
    return key(body, body["match"], event) is None or len(before) + 1 > body["n"]


def in_slots(window_s: int, past: list[tuple[int, Event]], now: int) -> list[tuple[int, Event]]:
    slot = -(-window_s * S // 12)
    return [(t, e) for t, e in past if t // slot >= now // slot - 12]


def rate_limit(body: Any, past: Any, event: Event, now: int) -> bool | None:
    if not matches(body["match"], event, good=False):
        return None
    before = in_slots(body["per_s"], counted(body, past, event), now)
    return key(body, body["match"], event) is None or len(before) + 1 > body["n"]


def amount(body: Any, event: Event) -> Decimal | None:
    value = event.args.get(body["amount"][1:])
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        found = Decimal(str(value))
        exact = found == round(found, body.get("decimals", 2))
    except ArithmeticError:
        return None
    return found if found >= 0 and exact else None


def at_most_total(body: Any, past: Any, event: Event, now: int) -> bool | None:
    if not matches(body["match"], event, good=False):
        return None
    before = counted(body, past, event)
    if "within_s" in body:
        before = in_slots(body["within_s"], before, now)
    amounts = [amount(body, e) for _, e in (*before, (now, event))]
    if key(body, body["match"], event) is None or None in amounts:
        return True
    return sum(filter(None, amounts)) > Decimal(str(body["limit"]))


TEMPLATES = {
    each.__name__: each
    for each in (
        must_precede, within, never_after, cannot_follow_without, mutually_exclusive, separation_of_actors,
        at_most_n, rate_limit, at_most_total,
    )
}  # fmt: skip
