"""JSON-RPC with one child process: many requests at once over one pipe, told apart by our own ids."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Final

import msgspec
import orjson

from gateway.errors import InDoubt, UpstreamError
from gateway.ports import Emit
from gateway.upstreams import jsonrpc
from gateway.upstreams.child import Child
from gateway.upstreams.jsonrpc import Message, Request, begins_as_answer
from gateway.upstreams.peer import pass_on
from gateway.upstreams.wire import BodyTooLarge

logger = logging.getLogger("wardgate.upstreams")

GARBAGE_LINES: Final = 100  # lines that are no message, before the child is ended
NOTES: Final = 256  # notifications waiting for a slow client, beyond which they are dropped


class _Pending:
    """A request under way: what arrives for it, in order, ending with the answer or a fault."""

    __slots__ = ("notes", "queue", "token")

    def __init__(self, notes: bool) -> None:
        self.queue: asyncio.Queue[Message | bytes | UpstreamError] = asyncio.Queue()
        self.notes = notes
        self.token: str | int | None = None  # the client's own progress token


class Conversation:
    """Implements ``child.Listener``."""

    def __init__(
        self,
        name: str,
        *,
        private: bool,
        list_changed: Callable[[], None],
        exited: Callable[[Conversation], None],
    ) -> None:
        self._name = name
        self._private = private  # one principal's child: its log messages may go to that principal
        self._list_changed = list_changed
        self._exited = exited
        self._pending: dict[int, _Pending] = {}
        self._number = 0
        self.child: Child | None = None
        self.stamp = b""  # what the era of this child adds to ``_meta``
        self.garbage = 0

    @property
    def alive(self) -> bool:
        return self.child is not None and self.child.alive

    @property
    def in_flight(self) -> int:
        return len(self._pending)

    async def ask(self, request: Request, at: float, emit: Emit | None) -> Message:
        """Send ``request`` and wait until loop time ``at``; raises ``NotSent`` or ``InDoubt``."""
        assert self.child is not None
        self._number += 1
        number = self._number
        pending = _Pending(emit is not None)
        if b'"progressToken"' in request.meta_json:
            request, pending.token = _own_token(request, number)
        self._pending[number] = pending
        timer = asyncio.get_running_loop().call_at(at, self._expired, number)
        try:
            self.child.write(request.encode(number, self.stamp))
            while True:
                item = await pending.queue.get()
                if isinstance(item, Message):
                    return item
                if isinstance(item, UpstreamError):
                    raise item
                if emit is not None:
                    await pass_on(emit, item, at)
        finally:
            timer.cancel()
            self._pending.pop(number, None)

    def tell(self, line: bytes) -> None:
        """Send a notification or an answer."""
        assert self.child is not None
        self.child.write(line)

    def _expired(self, number: int) -> None:
        pending = self._pending.pop(number, None)
        if pending is None:
            return
        pending.queue.put_nowait(InDoubt("upstream_timeout", "no answer in time"))
        if self.alive:
            params: dict[str, object] = {"requestId": number, "reason": "deadline"}
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
            self._try_tell(jsonrpc.refused(message))
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

    def _noted(self, message: Message, line: bytes) -> None:
        method = message.method or ""
        if method.endswith("/list_changed"):
            self._list_changed()
        elif method == "notifications/progress":
            self._progress(message)
        elif self._private and self._pending:
            # Not tied to a request; in a private child any request of its one principal may carry it.
            self._note(next(iter(self._pending.values())), line)

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

    def _note(self, pending: _Pending, line: bytes) -> None:
        if pending.notes and pending.queue.qsize() < NOTES:
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
