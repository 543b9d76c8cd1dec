"""Finding out what became of calls in doubt, where their tool's manifest says how (``reconcile``).

Once in a while every call in doubt whose tool has such a read is looked at: the read is made in the name of
the agent that made the call, like the reads of ``verification.py``, and what it says is written into the
journal exactly as a person's word is. Everything follows from that record: the effect is freed or kept, the
session's reservation is settled, and an approval that waits in doubt is resolved by its own sweeper, under
its own rules. A person can say it at any time; whoever is first is right, and the other is told.

*Done* is believed at once. *Not done* only when an effect that was merely slow would have appeared by then
(``late_s``), because it frees the effect key: believed too early, it is how a payment happens twice.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from typing import Final

import msgspec

from gateway.config import LimitsConfig
from gateway.digest import new_id
from gateway.limits import InFlight
from gateway.model import Call, Reconcile
from gateway.ports import Approvals, Parts
from gateway.sessions.reconcile import Found, filled, judged
from gateway.sessions.verify import Unfillable
from gateway.verification import read_back

logger = logging.getLogger("wardgate.reconcile")

SWEEP_S: Final = 2.0
AT_ONCE: Final = 4
LONGEST_S: Final = 3_600.0
"""The longest wait between two reads about one call, in seconds."""


class Doubt(msgspec.Struct, frozen=True, kw_only=True):
    """A call whose outcome nobody knows, and since when."""

    call_id: str
    target: str
    since_ns: int


class _Look:
    """How far the reads about one call have come, in this process."""

    __slots__ = ("next_at", "reads")

    def __init__(self, next_at: float) -> None:
        self.reads = 0
        self.next_at = next_at


class Reconciler:
    """``run`` looks for ever; all methods run on the event loop's thread.

    ``doubts`` lists the calls in doubt of the tools it is given (blocking). ``recall`` gives the call with
    its arguments as they were sent, or ``None`` when they are not kept (blocking). ``say`` writes a verdict
    into the journal (blocking), and is ``False`` when somebody else has said it. ``told`` counts.
    """

    def __init__(
        self,
        parts: Callable[[], Parts],
        *,
        approvals: Approvals,
        doubts: Callable[[Sequence[str]], Sequence[Doubt]],
        recall: Callable[[str], Call | None],
        say: Callable[[str, bool, str], bool],
        told: Callable[[Found], None],
    ) -> None:
        self._parts = parts
        self._approvals = approvals
        self._doubts = doubts
        self._recall = recall
        self._say = say
        self._told = told
        self._limits = InFlight(LimitsConfig(in_flight=AT_ONCE, in_flight_per_agent=AT_ONCE))
        self._looks: dict[str, _Look] = {}

    async def run(self) -> None:
        while True:
            await asyncio.sleep(SWEEP_S)
            try:
                await self.sweep()
            except Exception as error:  # noqa: BLE001 - nothing may stop it: what it would find out comes later
                logger.warning("calls in doubt not looked at: %s", error)

    async def sweep(self) -> None:
        """One round: a read about each call in doubt that it is time for."""
        parts = self._parts()
        hooks = {
            tool.target: tool.manifest.reconcile
            for tool in parts.catalog.tools("tool")
            if tool.manifest.reconcile is not None and not tool.elsewhere
        }
        doubts = await asyncio.to_thread(self._doubts, sorted(hooks)) if hooks else ()
        # What is in doubt no more is forgotten, and what comes into doubt again begins anew.
        known = {each.call_id for each in doubts}
        self._looks = {call_id: look for call_id, look in self._looks.items() if call_id in known}
        turn = asyncio.Semaphore(AT_ONCE)
        now = parts.clock.monotonic()
        due = []
        for doubt in doubts:
            hook = hooks[doubt.target]
            assert hook is not None
            look = self._looks.setdefault(doubt.call_id, _Look(now))
            if look.reads < hook.attempts and now >= look.next_at:
                due.append(self._one(doubt, hook, look, turn))
        for failed in await asyncio.gather(*due, return_exceptions=True):
            if isinstance(failed, BaseException):
                logger.error("a call in doubt could not be looked at", exc_info=failed)

    async def _one(self, doubt: Doubt, hook: Reconcile, look: _Look, turn: asyncio.Semaphore) -> None:
        async with turn:
            clock = self._parts().clock
            look.reads += 1
            wait = min(hook.every_s * 2 ** (look.reads - 1), LONGEST_S)
            look.next_at = clock.monotonic() + wait
            left_s = hook.late_s - (clock.now_ns() - doubt.since_ns) / 1e9
            found, why, read = await self._found_out(doubt, hook)
            if found == "not_done" and left_s > 0:
                # Not yet is not never; the read that counts is the one after that.
                look.reads -= 1
                look.next_at = clock.monotonic() + max(min(left_s, wait), SWEEP_S)
                return
            if found == "unknown":
                logger.info("call %s is in doubt still: %s", doubt.call_id, why)
                if look.reads >= hook.attempts:
                    logger.warning("call %s stays in doubt; a person has to find out: %s", doubt.call_id, why)
                    self._told("unknown")
                return
            said = f"{doubt.target.partition('/')[0]}/{hook.tool} says so (call {read})"
            if await asyncio.to_thread(self._say, doubt.call_id, found == "done", said):
                self._told(found)
                logger.info("call %s was in doubt and is %s: %s", doubt.call_id, found, said)

    async def _found_out(self, doubt: Doubt, hook: Reconcile) -> tuple[Found, str, str]:
        """What one read says, why nothing is known, and the id of the read."""
        call = await asyncio.to_thread(self._recall, doubt.call_id)
        if call is None:
            return "unknown", "its arguments are not kept", ""
        try:
            wanted = filled(hook, call.args)
        except Unfillable as missing:
            return "unknown", str(missing), ""
        parts = msgspec.structs.replace(
            self._parts(), limits=self._limits, approvals=self._approvals, verifications=None
        )
        read_id = new_id()
        answer = await read_back(parts, call, wanted.tool, wanted.arguments, read_id)
        if isinstance(answer, str):
            return "unknown", answer, ""
        outcome = answer.outcome
        if answer.refusal is not None and (outcome is None or outcome.status == "withheld"):
            return "unknown", f"the read was refused: {answer.refusal.code}", read_id
        if outcome is None or outcome.status != "ok":
            became = (outcome.code or outcome.status) if outcome is not None else "nothing"
            return "unknown", f"the read failed: {became}", read_id
        found = judged(wanted, outcome.result_json)
        return found, "the read fits neither 'done' nor 'not_done' alone", read_id
