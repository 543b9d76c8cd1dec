"""Facts of one process, in memory: a fold of the journal.

What exists today are the effects under way, in doubt and done, and plain counters of the session. Trust
tiers, breakers, mandates, budgets and labels are not here yet: their facts are absent rather than
invented, and each record says so in its ``controls``.

An effect key names what must happen at most once. It is reserved here before the intent is written, kept
while the outcome is unknown, and released only when it is proven that nothing was sent.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from typing import Final, Literal, NamedTuple

from gateway.model import Action, Call, Facts, Outcome, Principal

Effect = Literal["in_flight", "in_doubt", "done"]

MAX_SESSIONS: Final = 20_000
MAX_DONE: Final = 100_000
_MAY_HAVE_WORKED: Final = ("ok", "withheld", "unobserved")


class LiveEffect(NamedTuple):
    """An effect the journal knows of, handed in at start by recovery."""

    tenant: str
    key: str
    digest: str
    state: Literal["in_doubt", "done"]
    idempotent: bool = False


class _Session:
    __slots__ = ("calls", "denials", "errors", "irreversible", "started_ns", "writes")

    def __init__(self, started_ns: int) -> None:
        self.started_ns = started_ns
        self.calls = 0
        self.writes = 0
        self.irreversible = 0
        self.denials = 0
        self.errors = 0


class MemoryState:
    """Implements ``ports.State`` for one process. All methods run on the event loop's thread."""

    def __init__(self, live: Iterable[LiveEffect] = ()) -> None:
        self._sessions: OrderedDict[tuple[str, str], _Session] = OrderedDict()
        self._effects: dict[tuple[str, str], Effect] = {}
        self._done: OrderedDict[tuple[str, str], None] = OrderedDict()
        self._doubtful: dict[tuple[str, str], int] = {}  # (tenant, digest) → how many are in doubt
        self._reserved: dict[str, tuple[str, str]] = {}  # call id → effect key it holds
        for effect in live:
            key = (effect.tenant, effect.key)
            if effect.state == "done":
                self._finish(key)
                continue
            self._effects[key] = "in_doubt"
            if not effect.idempotent:
                self._doubt((effect.tenant, effect.digest))

    def resolve(self, effect: LiveEffect, *, done: bool) -> None:
        """Take in what a person found out about an effect in doubt; ``done`` keeps its key held.

        Only this effect changes: everything else here may be newer than what the journal could tell.
        """
        key = (effect.tenant, effect.key)
        if self._effects.get(key) == "in_doubt":
            del self._effects[key]
            if done:
                self._finish(key)
        digest = (effect.tenant, effect.digest)
        left = 0 if effect.idempotent else self._doubtful.pop(digest, 0) - 1
        if left > 0:
            self._doubtful[digest] = left

    async def begin(self, call: Call) -> Facts:
        tenant = call.principal.tenant
        session = self._session(tenant, call)
        effect: Literal["free", "in_flight", "in_doubt", "done"] = "free"
        if call.tool.writes:
            key = (tenant, call.effect_key)
            if key in self._effects and not call.tool.manifest.idempotent:
                effect = self._effects[key]
            elif (tenant, call.digest) in self._doubtful and not call.tool.manifest.idempotent:
                effect = "in_doubt"
            else:
                self._effects[key] = "in_flight"
                self._reserved[call.id] = key
        return Facts(
            fast={
                "session": {
                    "id": call.session,
                    "age_s": (call.received_ns - session.started_ns) // 1_000_000_000,
                    "calls": session.calls,
                    "writes": session.writes,
                    "irreversible": session.irreversible,
                    "denials": session.denials,
                    "errors": session.errors,
                }
            },
            effect=effect,
        )

    async def settle(self, call: Call, action: Action, outcome: Outcome | None) -> None:
        session = self._session(call.principal.tenant, call)
        if outcome is None:
            # Counted from the refusal, not the verdict: observed verdicts refuse nothing.
            session.denials += action in ("block", "hold")
        else:
            session.calls += 1
            session.writes += call.tool.writes
            session.irreversible += call.tool.manifest.risk == "irreversible"
            session.errors += outcome.status not in (*_MAY_HAVE_WORKED, "input_required")
        key = self._reserved.pop(call.id, None)
        if key is None:
            return
        if outcome is None or outcome.status in ("not_sent", "failed"):
            self._effects.pop(key, None)
        elif outcome.status == "in_doubt":
            self._effects[key] = "in_doubt"
            if not call.tool.manifest.idempotent:
                self._doubt((call.principal.tenant, call.modified_from or call.digest))
        else:
            # Only templates name an effect beyond its own call; a call id never comes twice. A tool that
            # answers with an error, or with a question, says that its effect did not happen, so the key is
            # free again. A call nobody watches is taken to have happened: its key was given out, and never
            # is twice.
            self._effects.pop(key, None)
            if call.tool.manifest.effect_key is not None and outcome.status in _MAY_HAVE_WORKED:
                self._finish(key)

    def slow(self, principal: Principal) -> Facts:
        return _NO_FACTS

    def _session(self, tenant: str, call: Call) -> _Session:
        key = (tenant, call.session)
        session = self._sessions.get(key)
        if session is None:
            session = self._sessions[key] = _Session(call.received_ns)
            if len(self._sessions) > MAX_SESSIONS:
                self._sessions.popitem(last=False)
        return session

    def _doubt(self, digest: tuple[str, str]) -> None:
        self._doubtful[digest] = self._doubtful.get(digest, 0) + 1

    def _finish(self, key: tuple[str, str]) -> None:
        self._effects[key] = "done"
        self._done[key] = None
        if len(self._done) > MAX_DONE:
            oldest, _ = self._done.popitem(last=False)
            if self._effects.get(oldest) == "done":
                del self._effects[oldest]


_NO_FACTS: Final = Facts()
