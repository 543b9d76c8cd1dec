"""JSON-RPC with one child process: many requests at once over one pipe, told apart by our own ids."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from functools import partial
from typing import Final

import msgspec
import orjson

from gateway.errors import InDoubt, NotSent, UpstreamError
from gateway.ports import Dialogue
from gateway.upstreams import jsonrpc
from gateway.upstreams.jsonrpc import Message, Request, begins_as_answer
from gateway.upstreams.mcp import era
from gateway.upstreams.mcp.child import Child
from gateway.upstreams.mcp.questions import Questions
from gateway.upstreams.peer import is_list_changed, pass_on, updated_uri
from gateway.upstreams.wire import BodyTooLarge

logger = logging.getLogger("wardgate.upstreams")

GARBAGE_LINES: Final = 100  # lines that are no message, before the child is ended
NOTES: Final = 256  # notifications waiting for a slow client, beyond which they are dropped
CANCEL_GRACE_S: Final = 2.0  # for a server that knows a call is cancelled to say what became of it


class _Pending:
    """A request under way: what arrives for it, in order, ending with the answer or a fault."""

    __slots__ = ("acknowledged", "cancelled", "questions", "queue", "timer", "token")

    def __init__(self, acknowledged: Callable[[], None] | None = None) -> None:
        self.acknowledged = acknowledged  # what to do when a stream of changes is taken
        self.queue: asyncio.Queue[Message | bytes | UpstreamError] = asyncio.Queue()
        self.token: str | int | None = None  # the client's own progress token
        self.questions: Questions | None = None  # None: nobody hears notes or answers questions
        self.timer: asyncio.TimerHandle | None = None
        self.cancelled = False


class Conversation:
    """Implements ``child.Listener``."""

    def __init__(
        self,
        name: str,
        *,
        private: bool,
        list_changed: Callable[[], None],
        updated: Callable[[str], None],
        exited: Callable[[Conversation], None],
    ) -> None:
        self._name = name
        self._private = private  # one principal's child: its log messages may go to that principal
        self._list_changed = list_changed
        self._updated = updated
        self._exited = exited
        self._pending: dict[int, _Pending] = {}
        self._number = 0
        self.child: Child | None = None
        self.modern = False  # whether requests carry what that era adds to ``_meta``
        self.level = ""  # of log messages, as a legacy server was told
        self.garbage = 0

    @property
    def alive(self) -> bool:
        return self.child is not None and self.child.alive

    @property
    def in_flight(self) -> int:
        return len(self._pending)

    async def ask(
        self,
        request: Request,
        at: float,
        dialogue: Dialogue | None,
        acknowledged: Callable[[], None] | None = None,
    ) -> Message:
        """Send ``request`` and wait until loop time ``at``; raises ``NotSent`` or ``InDoubt``."""
        assert self.child is not None
        self._number += 1
        number = self._number
        pending = _Pending(acknowledged)
        if b'"progressToken"' in request.meta_json:
            request, pending.token = _own_token(request, number)
        stamp = era.stamp(request.capabilities_json, request.log_level) if self.modern else b""
        if dialogue is not None:
            if dialogue.cancelled:
                raise NotSent("cancelled")
            rearm = partial(self._rearm, number)
            pending.questions = Questions(dialogue, at, rearm, self._reply)
            dialogue.hook = partial(self._cancel, number, dialogue.severable)
        self._pending[number] = pending
        self._rearm(number, at)
        try:
            self.child.write(request.encode(number, stamp))
            while True:
                item = await pending.queue.get()
                if isinstance(item, Message):
                    if item.method is None:
                        return item
                    if pending.questions is not None:
                        pending.questions.put(item)
                    continue
                if isinstance(item, UpstreamError):
                    raise item
                if dialogue is not None and pending.questions is not None:
                    await pass_on(dialogue, item, pending.questions.at)
        except asyncio.CancelledError:
            self._tell_cancelled(number, "given up by the gateway")
            raise
        finally:
            self._pending.pop(number, None)
            if pending.timer is not None:
                pending.timer.cancel()
            if dialogue is not None:
                dialogue.hook = None
            if pending.questions is not None:
                pending.questions.close()

    def tell(self, line: bytes) -> None:
        """Send a notification or an answer."""
        assert self.child is not None
        self.child.write(line)

    async def _reply(self, line: bytes) -> None:
        self.tell(line)

    def _rearm(self, number: int, at: float) -> None:
        pending = self._pending.get(number)
        if pending is None or pending.cancelled:
            return
        if pending.timer is not None:
            pending.timer.cancel()
        fault = InDoubt("upstream_timeout", "no answer in time")
        pending.timer = asyncio.get_running_loop().call_at(at, self._expired, number, fault)

    def _cancel(self, number: int, severable: bool) -> None:
        """Tell the server that nobody wants the answer; it has a moment to say what became of the call."""
        pending = self._pending.get(number)
        if pending is None:
            return
        self._tell_cancelled(number, "given up by the client")
        if not severable:
            return  # its outcome is waited for as long as any other's
        pending.cancelled = True
        if pending.timer is not None:
            pending.timer.cancel()
        loop = asyncio.get_running_loop()
        fault = InDoubt("cancelled", "given up by the client")
        pending.timer = loop.call_at(loop.time() + CANCEL_GRACE_S, self._expired, number, fault)

    def _expired(self, number: int, fault: UpstreamError) -> None:
        pending = self._pending.pop(number, None)
        if pending is None:
            return
        pending.queue.put_nowait(fault)
        if not pending.cancelled:
            self._tell_cancelled(number, "deadline")

    def _tell_cancelled(self, number: int, reason: str) -> None:
        if self.alive:
            params: dict[str, object] = {"requestId": number, "reason": reason}
            self._try_tell(jsonrpc.notification("notifications/cancelled", params))

    def _try_tell(self, line: bytes) -> None:
        try:
            self.tell(line)
        except UpstreamError as error:
            logger.debug("upstream %s: %s", self._name, error)

    # --------------------------------------------------------------------------------------- Listener

    def line(self, line: bytes) -> None:
        try:
            message = jsonrpc.decode(line)
        except UpstreamError:
            self._count_garbage()
            return
        if message.method is None:
            self._answered(message)
        elif message.id is not None:
            self._asked(message)
        else:
            self._noted(message, line)

    def oversized(self, beginning: bytes) -> None:
        """A line too long to be read: when it says whose answer it is, that call is told."""
        number = _leading_id(beginning)
        pending = self._pending.pop(number, None) if begins_as_answer(beginning) else None
        if pending is not None:
            pending.queue.put_nowait(BodyTooLarge("result_too_large", "a line beyond the limit"))
        else:
            self._count_garbage()

    def exited(self, child: Child) -> None:
        for pending in self._pending.values():
            pending.queue.put_nowait(
                InDoubt("upstream_lost", "the process ended while the call was under way")
            )
        self._pending.clear()
        self._exited(self)

    def _answered(self, message: Message) -> None:
        pending = self._pending.pop(message.id, None) if isinstance(message.id, int) else None
        if pending is not None:
            pending.queue.put_nowait(message)
        elif not isinstance(message.id, int) or not 0 < message.id <= self._number:
            self._count_garbage()  # an id that was never given; a late or second answer is dropped in silence

    def _asked(self, message: Message) -> None:
        """A question; a pipe does not say in which call, so the oldest one of this client carries it."""
        if self._private:
            for pending in self._pending.values():
                if pending.questions is not None:
                    pending.queue.put_nowait(message)  # in its turn: a question must not overtake a note
                    return
        self._try_tell(jsonrpc.refused(message))

    def _noted(self, message: Message, line: bytes) -> None:
        if is_list_changed(message):
            self._list_changed()
        elif uri := updated_uri(message):
            self._updated(uri)
        elif message.method == "notifications/progress":
            self._progress(message)
        elif message.method == "notifications/subscriptions/acknowledged":
            self._acknowledged(message)
        elif self._private:
            # Not tied to a request; in a private child any request of its one principal may carry it.
            for pending in self._pending.values():
                if pending.questions is not None:
                    self._note(pending, line)
                    return

    def _progress(self, message: Message) -> None:
        try:
            params = orjson.loads(bytes(message.params))
            pending = self._pending.get(params["progressToken"])
        except (orjson.JSONDecodeError, KeyError, TypeError):
            self._count_garbage()
            return
        if pending is not None and pending.token is not None:
            params["progressToken"] = pending.token
            self._note(pending, jsonrpc.notification("notifications/progress", params))

    def _acknowledged(self, message: Message) -> None:
        try:
            meta = orjson.loads(bytes(message.params))["_meta"]
            pending = self._pending.get(meta["io.modelcontextprotocol/subscriptionId"])
        except (orjson.JSONDecodeError, KeyError, TypeError):
            self._count_garbage()
            return
        if pending is not None and pending.acknowledged is not None:
            pending.acknowledged()

    def _note(self, pending: _Pending, line: bytes) -> None:
        if pending.questions is not None and pending.queue.qsize() < NOTES:
            pending.queue.put_nowait(line)

    def _count_garbage(self) -> None:
        self.garbage += 1
        if self.garbage == GARBAGE_LINES and self.child is not None:
            logger.warning("upstream %s: %d lines that are no message; ended", self._name, self.garbage)
            self.child.kill()


def _own_token(request: Request, number: int) -> tuple[Request, str | int | None]:
    """Replace the client's progress token by our id: two clients may use the same one."""
    meta = orjson.loads(b"{%b}" % request.meta_json)
    token = meta.get("progressToken")
    if not isinstance(token, str | int):
        return request, None
    meta["progressToken"] = number
    return msgspec.structs.replace(request, meta_json=orjson.dumps(meta)[1:-1]), token


def _leading_id(beginning: bytes) -> int:
    found = jsonrpc.ID.search(beginning)
    return int(found.group(1)) if found is not None else 0
