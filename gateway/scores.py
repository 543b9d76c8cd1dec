"""Scores that a detector elsewhere posts: signed, fresh, once, bounded, about agents of its tenant only.

    POST /v1/scores/<name>        s1=<hex HMAC-SHA256 over "s1:<seconds>:" and the body>
    {"id": "run-7/14", "agent": "release-bot", "session": "s-4f…", "score": 0.97, "sentence": "strange"}

A score is an opinion: below ``first`` nothing happens, from there on writes wait for a person, from ``stop``
on the agent is stopped, as far as ``enforce_percent`` says. The trip names who posted it.
"""

from __future__ import annotations

import hmac
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping
from typing import Annotated, Any, Final

import msgspec

from gateway import strictjson
from gateway.approvals.notify import TOLERANCE_S, sign
from gateway.errors import Overloaded, Refused, Unauthenticated
from gateway.guard import Guard

VERSION: Final = "s1"
MOST_IDS: Final = 10_000
"""Remembered for as long as they could come again; beyond it a party waits rather than an id is forgotten."""

_Name = Annotated[str, msgspec.Meta(min_length=1, max_length=200)]


class Party(msgspec.Struct, frozen=True, kw_only=True):
    """One detector elsewhere."""

    name: str
    secret: bytes
    key_id: str
    tenant: str
    first: float
    stop: float
    per_minute: int


class Posted(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """About an agent in a domain, or about one of its sessions."""

    id: _Name
    agent: _Name
    domain: _Name = "general"
    session: Annotated[str, msgspec.Meta(max_length=200)] = ""
    score: Annotated[float, msgspec.Meta(ge=0, le=1)]
    sentence: Annotated[str, msgspec.Meta(max_length=300)] = ""


class Scores:
    """Takes scores in. All methods run on the event loop's thread."""

    def __init__(
        self,
        guard: Guard,
        now_ns: Callable[[], int],
        known: Callable[[str, str, str], Awaitable[bool]],
    ) -> None:
        """``now_ns`` is the wall clock; ``known``: whether a tenant has this agent, and it this session."""
        self._guard = guard
        self._now_ns = now_ns
        self._known = known
        self._began_s = now_ns() // 1_000_000_000
        self._parties: dict[str, Party] = {}
        self._ids: dict[
            str, OrderedDict[str, int]
        ] = {}  # by party: id → when it may be forgotten, in seconds
        self._left: dict[str, tuple[float, float]] = {}  # by party: how many are left, and when that was

    def configure(self, parties: Mapping[str, Party]) -> None:
        self._parties = dict(parties)

    async def take(self, name: str, key_id: str, at: str, signature: str, body: bytes) -> dict[str, Any]:
        """What became of a score. Raises ``Unauthenticated``, ``Refused`` or ``Overloaded``."""
        party = self._parties.get(name)
        now_s = self._now_ns() / 1e9
        if party is None or not self._signed(party, key_id, at, signature, body, now_s):
            raise Unauthenticated("bad_credential", f"scores {name[:64]}")
        self._spend(party, now_s)
        try:
            said = msgspec.json.decode(strictjson.canonical(strictjson.parse(body)), type=Posted)
        except (msgspec.MsgspecError, Refused):
            raise Refused("invalid_request", "not a score") from None
        # A detector that makes agents and sessions up must not fill the memory, nor speak of other tenants'.
        if not await self._known(party.tenant, said.agent, said.session):
            raise Refused("not_found", said.agent)
        if not self._new(party, said.id, now_s):
            return {"id": said.id, "repeated": True, "trips": []}
        level = 2 if said.score >= party.stop else 1 if said.score >= party.first else 0
        if not level:
            return {"id": said.id, "repeated": False, "trips": []}
        trips = self._guard.scored(
            party.name, tenant=party.tenant, agent=said.agent, domain=said.domain, session=said.session,
            stops=level == 2, score=said.score, threshold=party.stop if level == 2 else party.first,
            sentence=said.sentence, by=f"{party.name} (key {party.key_id})", post=said.id,
        )  # fmt: skip
        return {"id": said.id, "repeated": False, "trips": trips}

    def _signed(self, party: Party, key_id: str, at: str, signature: str, body: bytes, now_s: float) -> bool:
        if key_id != party.key_id or not (at.isascii() and at.isdigit() and len(at) <= 12):
            return False
        # What was taken before this process began is not remembered, so it could be sent again.
        if abs(now_s - int(at)) > TOLERANCE_S or int(at) < self._began_s:
            return False
        return hmac.compare_digest(sign(party.secret, int(at), body, VERSION).encode(), signature.encode())

    def _spend(self, party: Party, now_s: float) -> None:
        left, then = self._left.get(party.name, (float(party.per_minute), now_s))
        left = min(left + max(now_s - then, 0) * party.per_minute / 60, float(party.per_minute))
        if left < 1:
            raise Overloaded(retry_after=60 / party.per_minute)
        self._left[party.name] = (left - 1, now_s)

    def _new(self, party: Party, post: str, now_s: float) -> bool:
        ids = self._ids.setdefault(party.name, OrderedDict())
        while ids and next(iter(ids.values())) < now_s:
            ids.popitem(last=False)
        if post in ids:
            return False
        if len(ids) >= MOST_IDS:
            raise Overloaded(retry_after=60.0)
        ids[post] = int(now_s) + 2 * TOLERANCE_S + 1
        return True
