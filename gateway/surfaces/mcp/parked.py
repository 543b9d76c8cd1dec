"""Calls of modern clients that wait for an answer to a legacy upstream's question.

A legacy server asks in the middle of a call and keeps it open; a modern client cannot be asked in between. So
the call is parked: the client gets ``input_required`` with a sealed claim on it, and its next round finds the
same call, hands over the answers and waits on. It stays one call with one record. What is parked lives in
this process and ends with it; the claim then leads nowhere and the outcome is recorded as any other.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable, Coroutine
from typing import Any, Final

import orjson

from gateway.model import Answer, Ask, Outcome
from gateway.surfaces.mcp import protocol
from gateway.surfaces.mcp.callers import ModernCaller
from gateway.surfaces.mcp.envelope import Rejected
from gateway.surfaces.mcp.rounds import binding
from gateway.surfaces.mcp.seal import Seal

MAX_PARKED: Final = 1024
LINGER_S: Final = 60.0
"""How long the answer of a call is kept for a client that has not come back for it yet, in seconds."""

_NO_ANSWER: Final = Outcome(status="failed", code="client_declined", detail="no answer in time")
_STOPPING: Final = Outcome(status="not_sent", code="shutting_down", detail="nobody can come back for it")


class _Question:
    __slots__ = ("answer", "method", "params_json")

    def __init__(self, method: str, params_json: bytes) -> None:
        self.method = method
        self.params_json = params_json
        self.answer: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()


class ParkedCaller:
    """Implements ``ports.Caller`` for a call whose client comes and goes."""

    rounds = False

    def __init__(self, timeout_s: float) -> None:
        self._timeout_s = timeout_s
        self._cancel: Callable[[], None] | None = None
        self._number = 0
        self.here: ModernCaller | None = None  # the request that waits for this call right now
        self.questions: dict[str, _Question] = {}
        self.asked = asyncio.Event()
        self.closing = False

    def wants(self, message: bytes) -> bool:
        return self.here is not None and self.here.wants(message)

    async def notify(self, message: bytes) -> None:
        if self.here is not None:
            await self.here.notify(message)

    async def ask(self, method: str, params_json: bytes) -> Outcome:
        if self.closing:
            return _STOPPING
        self._number += 1
        key = f"q{self._number}"
        question = self.questions[key] = _Question(method, params_json)
        self.asked.set()
        try:
            async with asyncio.timeout(self._timeout_s):
                return await question.answer
        except TimeoutError:
            return _NO_ANSWER
        finally:
            del self.questions[key]

    def open(self) -> dict[str, Any]:
        """The questions that wait for an answer, as a client gets them."""
        return {
            key: {"method": question.method, "params": orjson.Fragment(question.params_json)}
            for key, question in self.questions.items()
            if not question.answer.done()
        }

    def close(self) -> None:
        """Nobody will answer any more."""
        self.closing = True
        for question in self.questions.values():
            if not question.answer.done():
                question.answer.set_result(_STOPPING)

    def attach(self, cancel: Callable[[], None]) -> None:
        self._cancel = cancel
        if self.here is not None:
            self.here.attach(cancel)

    def arrive(self, here: ModernCaller) -> None:
        """A request of the client waits for the call from now on."""
        self.here = here
        if self._cancel is not None:
            here.attach(self._cancel)

    def leave(self) -> None:
        if self.here is not None:
            self.here.done()
            self.here = None

    def answered(self, responses: dict[str, Any]) -> None:
        for key, question in self.questions.items():
            if question.answer.done():
                continue
            if key in responses:
                question.answer.set_result(Outcome(status="ok", result_json=orjson.dumps(responses[key])))
            else:
                self.asked.set()  # what is still missing is asked again


class Parked:
    """The calls that are parked, by a random name that only their sealed claim knows."""

    def __init__(self, seal: Seal, now_ns: Callable[[], int], timeout_s: float) -> None:
        self._seal = seal
        self._now_ns = now_ns
        self._timeout_s = timeout_s
        self._calls: dict[str, tuple[ParkedCaller, asyncio.Task[Answer]]] = {}

    def __len__(self) -> int:
        return len(self._calls)

    async def begin(
        self, ask: Ask, carry: Callable[[ParkedCaller], Coroutine[Any, Any, Answer]], here: ModernCaller
    ) -> Answer | dict[str, Any]:
        """Start a call; its ``Answer``, or the members of an ``input_required`` result."""
        if len(self._calls) >= MAX_PARKED:
            raise Rejected("overloaded", status=200)
        caller = ParkedCaller(self._timeout_s)
        caller.arrive(here)
        task = asyncio.ensure_future(carry(caller))
        name = secrets.token_urlsafe(16)
        self._calls[name] = (caller, task)
        task.add_done_callback(lambda _: self._forget_later(name))
        return await self._turn(name, ask, caller, task)

    async def resume(
        self, ask: Ask, responses: dict[str, Any], name: str, here: ModernCaller
    ) -> Answer | dict[str, Any]:
        """Go on with the call that a claim names. Raises ``Rejected`` when it is gone."""
        found = self._calls.get(name)
        if found is None:
            raise Rejected(
                "bad_request_state", "The call that asked is over; start it again.",
                status=200, rpc=protocol.INVALID_PARAMS,
            )  # fmt: skip
        caller, task = found
        if caller.here is not None:
            raise Rejected("bad_request_state", "Another request waits for this call.")
        caller.arrive(here)
        caller.answered(responses)
        return await self._turn(name, ask, caller, task)

    async def _turn(
        self, name: str, ask: Ask, caller: ParkedCaller, task: asyncio.Task[Answer]
    ) -> Answer | dict[str, Any]:
        """Until the call is over or asks something."""
        questions: dict[str, Any] = {}
        try:
            while not task.done() and not questions:
                asked = asyncio.ensure_future(caller.asked.wait())
                try:
                    await asyncio.wait((task, asked), return_when=asyncio.FIRST_COMPLETED)
                finally:
                    asked.cancel()
                caller.asked.clear()
                questions = caller.open()  # empty when what was asked is no longer waited for
        except asyncio.CancelledError:
            self._calls.pop(name, None)
            task.cancel()  # the process stops; the pipeline records what it must
            raise
        finally:
            caller.leave()
        if task.done():
            self._calls.pop(name, None)
            return task.result()
        return {
            "resultType": "input_required",
            "inputRequests": questions,
            "requestState": self._seal.close({"parked": name}, binding(ask), self._now_ns()),
        }

    def close(self) -> None:
        """The process stops and the claims end with it: let calls end rather than be cut off in doubt."""
        for caller, _ in self._calls.values():
            caller.close()

    def _forget_later(self, name: str) -> None:
        """A client that never comes back must not keep its answer in memory."""
        found = self._calls.get(name)
        if found is not None and found[0].here is None:  # else its request is about to take the answer
            asyncio.get_running_loop().call_later(LINGER_S, self._calls.pop, name, None)
