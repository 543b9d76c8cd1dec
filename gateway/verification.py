"""Finding out whether calls had the effect they were made for, after they were answered.

A call whose manifest has a ``verify`` and that ended well is followed by a read of the same upstream. The
read is a call of its own, made by the same principal in the same session through the same pipeline: decided,
recorded, charged and redacted like any other, with the surface ``verify`` by which rules, budgets and
detectors tell it from what the agent does itself. What it says becomes a record of the verified call:

    verified   the read returned what was expected
    refuted    it returned something else, and so did the last attempt
    unknown    nobody can say: the read was refused, failed, took too long or could not be read

Nothing here is on the way of an answer, and nothing here can change one: the answer has been given out. How
many verifications wait and run is bounded, in all and for each agent; what does not fit is ``unknown``. A
gateway that is killed loses those that were waiting. Their calls have no such record, which says the same.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Final

import msgspec

from gateway import pipeline
from gateway.config import LimitsConfig
from gateway.digest import new_id
from gateway.errors import Refused
from gateway.limits import InFlight
from gateway.model import VERIFY, Answer, Ask, Call, Json, Outcome, Verified, Verify
from gateway.ports import Approvals, Parts
from gateway.sessions.verify import Unfillable, differs, fill, matches

logger = logging.getLogger("wardgate.verification")

MAX_WAITING: Final = 1000
MAX_WAITING_OF_AGENT: Final = 250
AT_ONCE: Final = 8
LEAST_WAIT_S: Final = 0.25
"""Before the second read; doubled for each one after that."""

_STOPPING: Final = "the gateway was stopping"


class _Said(msgspec.Struct, frozen=True):
    """What one read said. ``final``: another one would not say anything else."""

    found: Verified
    final: bool = False


class Verifications:
    """Implements ``ports.Verifications``. All methods run on the event loop's thread.

    ``parts`` are asked for at each read, so that a reload holds for it; ``approvals`` stands in for theirs,
    because no person is bothered for a verification. ``told`` hear of each one that is over, in order.
    """

    def __init__(
        self,
        parts: Callable[[], Parts],
        *,
        approvals: Approvals,
        told: Sequence[Callable[[Verified], None]],
        at_once: int = AT_ONCE,
        waiting: int = MAX_WAITING,
    ) -> None:
        self._parts = parts
        self._approvals = approvals
        self._told = tuple(told)
        self._most = waiting
        self._turn = asyncio.Semaphore(at_once)
        # A bound of their own: its reads never take an agent's place, and a drain lets them pass.
        self._limits = InFlight(LimitsConfig(in_flight=at_once, in_flight_per_agent=at_once))
        self._tasks: set[asyncio.Task[None]] = set()
        self._agents: dict[tuple[str, str], int] = {}
        self._draining = asyncio.Event()
        self._closed = False

    @property
    def waiting(self) -> int:
        """Verifications that are not over."""
        return len(self._tasks)

    def answered(self, call: Call, outcome: Outcome) -> None:
        """See ``ports.Verifications``."""
        verify = call.tool.manifest.verify
        if verify is None or call.surface == VERIFY:
            return
        agent = (call.principal.tenant, call.principal.agent)
        mine = self._agents.get(agent, 0)
        if self._closed:
            self._tell(_unknown(call, _STOPPING))
        elif len(self._tasks) >= self._most or mine >= min(MAX_WAITING_OF_AGENT, self._most):
            # An agent that writes faster than it can be verified must not take the gateway's memory.
            self._tell(_unknown(call, "too many verifications were waiting"))
        else:
            self._agents[agent] = mine + 1
            task = asyncio.get_running_loop().create_task(self._run(call, verify, outcome.result_json))
            self._tasks.add(task)
            task.add_done_callback(lambda done: self._over(done, agent))

    async def drain(self, seconds: float) -> None:
        """End all within ``seconds``: each that waits reads at once, once, and the rest is ``unknown``."""
        self._draining.set()
        if self._tasks and seconds > 0:
            await asyncio.wait(set(self._tasks), timeout=seconds)
        self._closed = True
        left = list(self._tasks)
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)

    def _over(self, task: asyncio.Task[None], agent: tuple[str, str]) -> None:
        self._tasks.discard(task)
        left = self._agents[agent] - 1
        if left:
            self._agents[agent] = left
        else:
            del self._agents[agent]

    async def _run(self, call: Call, verify: Verify, result_json: bytes) -> None:
        try:
            found = await self._found_out(call, verify, result_json)
        except asyncio.CancelledError:
            self._tell(_unknown(call, _STOPPING))
            raise
        except Exception:
            logger.exception("call %s could not be verified", call.id)
            found = _unknown(call, "a fault inside the gateway")
        self._tell(found)

    def _tell(self, found: Verified) -> None:
        for hear in self._told:
            try:
                hear(found)
            except Exception:  # one listener must not keep the others from hearing it
                logger.exception("what became of verifying call %s was not taken in", found.call_id)

    async def _found_out(self, call: Call, verify: Verify, result_json: bytes) -> Verified:
        try:
            filled = fill(verify, call.args, result_json)
        except Unfillable as error:
            return _unknown(call, str(error))
        loop = asyncio.get_running_loop()
        until = loop.time() + verify.within_s
        wait = verify.after_s
        last = _unknown(call, "no read was made in time")
        for attempt in range(verify.attempts):
            if loop.time() + wait >= until:
                break
            waited = await self._pause(wait)
            try:
                async with asyncio.timeout_at(until), self._turn:
                    said = await self._read(call, filled, attempt + 1)
            except TimeoutError:
                return _unknown(call, f"no answer within {verify.within_s:g} s", last)
            last = said.found
            if said.final or last.result == "verified":
                break
            if self._draining.is_set() and (not waited or attempt + 1 < verify.attempts):
                # It may only have been too early.
                return _unknown(call, _STOPPING, last)
            wait = max(verify.after_s, LEAST_WAIT_S) * 2**attempt
        return last

    async def _pause(self, seconds: float) -> bool:
        """Wait; ``False`` when that was cut short because the gateway stops."""
        if seconds <= 0:
            return True
        try:
            await asyncio.wait_for(self._draining.wait(), seconds)
        except TimeoutError:
            return True
        return False

    async def _read(self, call: Call, verify: Verify, attempt: int) -> _Said:
        """One read, and what it says."""
        parts = self._parts()
        read = Verified(
            call_id=call.id, principal=call.principal, tool=call.tool, session=call.session, result="unknown",
            read=new_id(), reads=attempt, made=call,
        )  # fmt: skip
        own = msgspec.structs.replace(
            parts, limits=self._limits, approvals=self._approvals, verifications=None
        )
        answer = await read_back(own, call, verify.tool, verify.arguments, read.read)
        if isinstance(answer, str):
            return _Said(_unknown(call, answer), final=True)
        outcome = answer.outcome
        if answer.refusal is not None and (outcome is None or outcome.status == "withheld"):
            said = msgspec.structs.replace(read, detail=f"the read was refused: {answer.refusal.code}")
            return _Said(said, final=not answer.refusal.retryable)
        if outcome is None or outcome.status != "ok":
            became = (outcome.code or outcome.status) if outcome is not None else "nothing"
            return _Said(msgspec.structs.replace(read, detail=f"the read failed: {became}"))
        # What the upstream said, not what policy lets an agent see of it: nobody is shown either.
        holds = matches(verify, outcome.result_json)
        if holds is None:
            return _Said(msgspec.structs.replace(read, detail="what the read returned is no JSON"))
        if holds:
            return _Said(msgspec.structs.replace(read, result="verified"))
        where = ", ".join(pointer or "(all)" for pointer in differs(verify, outcome.result_json))
        return _Said(msgspec.structs.replace(read, result="refuted", detail=f"not as expected: {where}"))


async def read_back(
    parts: Parts, call: Call, tool_name: str, arguments: Mapping[str, Json], read_id: str
) -> Answer | str:
    """A read about a call, made in the name of whoever made the call; or in words why it cannot be made.

    Its principal is as it was then. It is decided by policy as it is now, and shown to nobody.
    """
    try:
        tool = parts.catalog.resolve("tool", call.tool.upstream, tool_name)
    except Refused as error:
        return f"{tool_name}: {error.code}"
    if tool.writes or tool.elsewhere:  # the pipeline holds it against this once more
        return f"{tool.target} is not a read that can be made here"
    ask = Ask(
        principal=call.principal,
        surface=VERIFY,
        kind="tool",
        upstream=call.tool.upstream,
        name=tool_name,
        args=dict(arguments),
        # A token that delegates one piece of work says itself which session it is for.
        session="" if call.principal.mandate_json else call.session,
        traceparent=call.traceparent,
        call_id=read_id,
    )
    return await pipeline.call(parts, ask)


def _unknown(call: Call, detail: str, last: Verified | None = None) -> Verified:
    """Nothing is known; ``last`` is a read that said something all the same."""
    return Verified(
        call_id=call.id,
        principal=call.principal,
        tool=call.tool,
        session=call.session,
        result="unknown",
        detail=detail,
        read=last.read if last is not None else "",
        reads=last.reads if last is not None else 0,
        made=call,
    )
