"""The client of a call while it is under way: what can be sent to it, asked of it, and when it gives up.

A legacy client is asked on the stream of its own request and answers with a request of its own; it gives up
with a notification. A modern client is never asked in between (it takes ``input_required`` and calls again),
and gives up by closing the stream.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Final

import orjson

from gateway.model import Outcome
from gateway.surfaces.doors import Receive
from gateway.surfaces.mcp.envelope import Rejected
from gateway.surfaces.mcp.stream import Exchange

WATCH_AFTER_S: Final = 0.025
"""A call that lasts this long, and at most twice as long, is watched for its client leaving."""

MAX_ASKED: Final = 64
"""Questions that one session may have open."""

_NO_ANSWER: Final = Outcome(status="failed", code="client_declined", detail="no answer in time")
_NOBODY: Final = (None, None)
_NO_WAY: Final = Outcome(status="not_sent", code="client_declined", detail="the client cannot be asked")


class Watch:
    """Finds the calls that last.

    Most are over at once and must not pay for a task or a timer of their own, so there is one timer for all.
    """

    def __init__(self) -> None:
        self._new: set[ModernCaller] = set()
        self._old: set[ModernCaller] = set()
        self._ticking = False

    def add(self, caller: ModernCaller) -> None:
        self._new.add(caller)
        if not self._ticking:
            self._ticking = True
            asyncio.get_running_loop().call_later(WATCH_AFTER_S, self._tick)

    def remove(self, caller: ModernCaller) -> None:
        self._new.discard(caller)
        self._old.discard(caller)

    def _tick(self) -> None:
        for caller in self._old:
            caller.watch()
        self._old, self._new = self._new, set()
        self._ticking = bool(self._old)
        if self._ticking:
            asyncio.get_running_loop().call_later(WATCH_AFTER_S, self._tick)


class ModernCaller:
    """Implements ``ports.Caller`` for one request of revision 2026-07-28."""

    __slots__ = ("_cancel", "_exchange", "_receive", "_task", "_watch")

    rounds = True

    def __init__(self, exchange: Exchange, receive: Receive, watch: Watch) -> None:
        self._exchange = exchange
        self._receive = receive
        self._watch = watch
        self._cancel: Callable[[], None] | None = None
        self._task: asyncio.Task[None] | None = None

    def wants(self, message: bytes) -> bool:
        return self._exchange.wants(message)

    async def notify(self, message: bytes) -> None:
        await self._exchange.push(message)

    async def ask(self, method: str, params_json: bytes) -> Outcome:
        return _NO_WAY

    def attach(self, cancel: Callable[[], None]) -> None:
        self._cancel = cancel
        self._watch.add(self)

    def done(self) -> None:
        """The call is over, so nobody can give it up any more."""
        self._watch.remove(self)
        if self._task is not None:
            self._task.cancel()

    def watch(self) -> None:
        """From now on a client that leaves is noticed at once."""
        self._task = asyncio.ensure_future(self._gone())

    async def _gone(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
        if self._cancel is not None:
            self._cancel()


class Conversation:
    """What passes between the gateway and a legacy client besides requests and their answers."""

    __slots__ = ("_asked", "_closed", "_number", "running")

    def __init__(self) -> None:
        self._number = 0
        self._asked: dict[str, tuple[asyncio.Future[Outcome], LegacyCaller]] = {}
        self._closed = False
        self.running: dict[bytes, LegacyCaller] = {}  # by the id of their request

    async def ask(self, caller: LegacyCaller, method: str, params_json: bytes, timeout_s: float) -> Outcome:
        """Put one question on the stream of ``caller`` and wait for its answer."""
        exchange = caller.exchange
        if self._closed or caller.given_up or len(self._asked) >= MAX_ASKED or not exchange.accepts_stream:
            return _NO_WAY
        self._number += 1
        # Ids are the gateway's own and belong to this session: an answer cannot reach another one's question.
        key = f"wardgate-{self._number}"
        answer: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        self._asked[key] = answer, caller
        try:
            sent = await exchange.push(
                b'{"jsonrpc":"2.0","id":%b,"method":%b,"params":%b}'
                % (orjson.dumps(key), orjson.dumps(method), params_json)
            )
            if not sent:
                return _NO_WAY
            async with asyncio.timeout(timeout_s):
                return await answer
        except TimeoutError:
            return _NO_ANSWER
        finally:
            del self._asked[key]

    def answered(self, message: dict[str, Any]) -> bool:
        """Take a client's answer; false when nothing (or nothing any more) waits for it."""
        key = message.get("id")
        waiting, _ = self._asked.get(key, _NOBODY) if isinstance(key, str) else _NOBODY
        if waiting is None or waiting.done():
            return False
        failed = "error" in message
        said = message.get("error" if failed else "result")
        if (failed and "result" in message) or not isinstance(said, dict):
            raise Rejected("invalid_request", "An answer needs either a result or an error, an object.")
        if failed:
            waiting.set_result(Outcome(status="rpc_error", error_json=orjson.dumps(said)))
        else:
            waiting.set_result(Outcome(status="ok", result_json=orjson.dumps(said)))
        return True

    def cancelled(self, request_id: object) -> None:
        """The client gives a request up; one that is unknown or over is none of ours."""
        if isinstance(request_id, str | int) and not isinstance(request_id, bool):
            caller = self.running.get(orjson.dumps(request_id))
            if caller is not None:
                caller.give_up()

    def unask(self, caller: LegacyCaller) -> None:
        """A request was given up: what was asked for it will not be answered."""
        for waiting, asker in self._asked.values():
            if asker is caller and not waiting.done():
                waiting.set_result(_NO_WAY)

    def close(self) -> None:
        """The session ends: nobody will answer, and nobody waits for answers."""
        self._closed = True
        for caller in tuple(self.running.values()):
            caller.give_up()


class LegacyCaller:
    """Implements ``ports.Caller`` for one request of a session."""

    __slots__ = ("_cancel", "_conversation", "_id", "_timeout_s", "exchange", "given_up")

    rounds = False

    def __init__(
        self, conversation: Conversation, exchange: Exchange, id_json: bytes, timeout_s: float
    ) -> None:
        if id_json in conversation.running:
            # Two answers under one id could be taken for each other.
            raise Rejected("invalid_request", "A request with this id is under way in this session.")
        conversation.running[id_json] = self
        self._conversation = conversation
        self._id = id_json
        self._timeout_s = timeout_s
        self._cancel: Callable[[], None] | None = None
        self.exchange = exchange
        self.given_up = False

    def wants(self, message: bytes) -> bool:
        return self.exchange.wants(message)

    async def notify(self, message: bytes) -> None:
        await self.exchange.push(message)

    async def ask(self, method: str, params_json: bytes) -> Outcome:
        return await self._conversation.ask(self, method, params_json, self._timeout_s)

    def attach(self, cancel: Callable[[], None]) -> None:
        self._cancel = cancel
        if self.given_up:  # while the call was still being decided
            cancel()

    def give_up(self) -> None:
        """The client does not want the answer any more."""
        self.given_up = True
        self._conversation.unask(self)
        if self._cancel is not None:
            self._cancel()

    def done(self) -> None:
        """The call is over, so nobody can give it up any more."""
        self._conversation.running.pop(self._id, None)
