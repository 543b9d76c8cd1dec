"""Effects under way, in doubt and done: what must not be started a second time.

An effect key names what must happen at most once. It is reserved here before the intent is written, kept
while the outcome is unknown, and released only when it is proven that nothing was sent.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from typing import Final, Literal, NamedTuple

from gateway.model import Call, Outcome

Effect = Literal["in_flight", "in_doubt", "done"]
Found = Literal["free", "in_flight", "in_doubt", "done"]

MAX_DONE: Final = 100_000
MAY_HAVE_WORKED: Final = ("ok", "withheld", "unobserved")


class LiveEffect(NamedTuple):
    """An effect the journal knows of, handed in at start by recovery."""

    tenant: str
    key: str
    digest: str
    state: Literal["in_doubt", "done"]
    idempotent: bool = False


class Effects:
    """The effects of one process. All methods run on the event loop's thread."""

    def __init__(self, live: Iterable[LiveEffect] = ()) -> None:
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

    @property
    def in_doubt(self) -> int:
        """Calls of tools that are not idempotent whose outcome nobody knows; any thread may ask."""
        return sum(list(self._doubtful.values()))

    def begin(self, call: Call) -> Found:
        """Reserve the effect of a call that may write, or say what stands in its way."""
        if not call.tool.writes:
            return "free"
        tenant = call.principal.tenant
        key = (tenant, call.effect_key)
        if key in self._effects and not call.tool.manifest.idempotent:
            return self._effects[key]
        if (tenant, call.digest) in self._doubtful and not call.tool.manifest.idempotent:
            return "in_doubt"
        self._effects[key] = "in_flight"
        self._reserved[call.id] = key
        return "free"

    def settle(self, call: Call, outcome: Outcome | None) -> None:
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
            if call.tool.manifest.effect_key is not None and outcome.status in MAY_HAVE_WORKED:
                self._finish(key)

    def _doubt(self, digest: tuple[str, str]) -> None:
        self._doubtful[digest] = self._doubtful.get(digest, 0) + 1

    def _finish(self, key: tuple[str, str]) -> None:
        self._effects[key] = "done"
        self._done[key] = None
        if len(self._done) > MAX_DONE:
            oldest, _ = self._done.popitem(last=False)
            if self._effects.get(oldest) == "done":
                del self._effects[oldest]
