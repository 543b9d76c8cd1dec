"""What passes between an upstream and the client while a call is under way.

Notifications carry the same data as the result, so where results are judged their texts are judged too, or
dropped. A question of the upstream (sampling, elicitation, roots) is a call the other way round: it goes the
whole way of a call, with its own decision and record, and the client's answer is its result.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Final

import msgspec
import orjson

from gateway import strictjson
from gateway.errors import Refused
from gateway.model import QUESTIONS, Answer, Ask, Call, Facts, Outcome, Principal
from gateway.ports import Caller, Limits, Parts, Unanswered
from gateway.ports import Dialogue as AnyDialogue

MAX_JUDGED: Final = 1000
"""Notifications of one call that are judged; each costs an evaluation, so the rest are dropped."""

Govern = Callable[[Parts, Ask], Awaitable[Answer]]


class Dialogue:
    """Implements ``ports.Dialogue`` for one call."""

    __slots__ = (
        "_ask", "_call", "_caller", "_facts", "_govern", "_judged", "_left", "_parts", "cancelled", "hook",
        "severable", "told",
    )  # fmt: skip

    def __init__(
        self, parts: Parts, ask: Ask, call: Call, facts: Facts, caller: Caller, judged: bool, govern: Govern
    ) -> None:
        self._parts = parts
        self._ask = ask
        self._call = call
        self._facts = facts
        self._caller = caller
        self._judged = judged
        self._govern = govern
        self._left = MAX_JUDGED
        self.cancelled = False
        self.told = False  # whether the agent's side was shown anything that the upstream put in words
        self.severable = call.tool.manifest.interruptible
        self.hook: Callable[[], None] | None = None

    @property
    def rounds(self) -> bool:
        return self._caller.rounds

    def cancel(self) -> None:
        """The client has given up."""
        if not self.cancelled:
            self.cancelled = True
            if self.hook is not None:
                self.hook()

    async def notify(self, message: bytes) -> None:
        if not self._caller.wants(message):
            return
        if self._judged:
            judged = await self._judge(message)
            if judged is None:
                return
            message = judged
        self.told = self.told or _speaks(message)
        await self._caller.notify(message)

    async def ask(self, method: str, params_json: bytes) -> bytes:
        if QUESTIONS.get(method) is None or method not in _declared(self._call.capabilities_json):
            # The client never said that it could; a server that asks all the same may be fishing.
            raise Unanswered("unknown_method")
        try:
            params = strictjson.parse(params_json or b"{}")
        except Refused as odd:
            # What two readers could read differently would be decided as one thing and shown as another.
            raise Unanswered(odd.code) from None
        answer = await self._govern(
            msgspec.structs.replace(
                self._parts, upstreams=_Client(self._caller), limits=_Counted(self._parts.limits)
            ),
            reverse(self._ask, method, params),
        )
        if answer.outcome is not None and params:
            self.told = True
        if answer.refusal is not None:
            raise Unanswered(answer.refusal.code)
        if not answer.result_json:
            raise Unanswered("client_declined")
        return answer.result_json

    async def _judge(self, message: bytes) -> bytes | None:
        """The notification as the result policy lets it be shown; ``None`` when it may not be."""
        try:
            note = strictjson.parse(message)
        except Refused:
            return None
        params = note.get("params") if isinstance(note, dict) else None
        if not isinstance(params, dict):
            return None  # what has another shape than the rules look at cannot be judged by them
        if note.get("method") == "notifications/progress" and "message" not in params:
            return message  # numbers alone tell nothing
        if not self._left:
            return None
        self._left -= 1
        raw = orjson.dumps(params)
        shown = await self._parts.policy.result(
            self._call, self._facts, Outcome(status="ok", result_json=raw)
        )
        if self._call.mode != "enforce":
            if shown.decision.verdict != "allow" or shown.result_json != raw:
                self._parts.telemetry.unenforced("result", self._call.mode)
            return message
        if shown.decision.verdict != "allow":
            return None
        return orjson.dumps({**note, "params": orjson.Fragment(shown.result_json)})


class _Counted:
    """The ``Limits`` port of a question: the call it belongs to is in flight, and counted, already.

    Else an agent at its bound could not finish what it began, nor a gateway that waits for the last calls.
    """

    def __init__(self, limits: Limits) -> None:
        self.decidable = limits.decidable

    def enter(self, principal: Principal) -> None:
        pass

    def leave(self, principal: Principal) -> None:
        pass


class _Client:
    """The ``Upstreams`` port of a question: the one who carries it out is the client."""

    def __init__(self, caller: Caller) -> None:
        self._caller = caller

    async def execute(self, call: Call, dialogue: AnyDialogue | None) -> Outcome:
        return await self._caller.ask(call.tool.name, call.args_json)


class Given:
    """The ``Upstreams`` port where the outcome is already there: a question shown, or an answer received."""

    def __init__(self, result_json: bytes) -> None:
        self._result_json = result_json
        self.args_json = b"{}"  # what was decided, once it was

    async def execute(self, call: Call, dialogue: AnyDialogue | None) -> Outcome:
        self.args_json = call.args_json
        return Outcome(status="ok", result_json=self._result_json)


def reverse(ask: Ask, method: str, params: Any) -> Ask:
    """The question ``method`` that the upstream puts while it works on ``ask``."""
    return msgspec.structs.replace(
        ask,
        kind=QUESTIONS[method],
        name=method,
        args=params,
        client_meta_json=b"",
        inputs_json=b"",
        capabilities_json=b"",
    )


def _speaks(message: bytes) -> bool:
    """Whether a notification has words; what cannot be read may have some."""
    try:
        note = orjson.loads(message)
        return note["method"] != "notifications/progress" or "message" in note["params"]
    except (orjson.JSONDecodeError, TypeError, KeyError):
        return True


def _declared(capabilities_json: bytes) -> frozenset[str]:
    """The questions a client with these capabilities takes."""
    if not capabilities_json:
        return frozenset()
    capabilities = orjson.loads(capabilities_json)
    return frozenset(method for method, kind in QUESTIONS.items() if kind in capabilities)
