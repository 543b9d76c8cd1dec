"""An upstream's questions to the client while one exchange is under way.

A legacy upstream asks in the middle of a call: a person may have to think, or a model to write. The deadline
of the call is for the upstream's own work, so it stands still until the client has answered, which its own
side bounds.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Final

from gateway.errors import UpstreamError
from gateway.ports import Dialogue, Unanswered
from gateway.upstreams import jsonrpc
from gateway.upstreams.jsonrpc import Message

logger = logging.getLogger("wardgate.upstreams")

AT_ONCE: Final = 8  # questions of one call that may wait for the client at the same time
IN_ALL: Final = 64  # questions of one call; a server that wants more is looping, or fishing
MAX_REPLIES: Final = 64  # answers that may be on their way to one upstream call at the same time
_LONG_S: Final = 3600.0  # stands for "no deadline" while the client is asked; its side ends sooner

REFUSED: Final = -1
"""The code a client gives when its user refuses (2025-11-25, client/sampling: Error Handling)."""

Reply = Callable[[bytes], Awaitable[None]]
Rearm = Callable[[float], None]


class Questions:
    """Of one exchange with deadline ``at``; ``rearm`` moves it, ``reply`` sends a message upstream."""

    def __init__(self, dialogue: Dialogue | None, at: float, rearm: Rearm, reply: Reply) -> None:
        self.dialogue = dialogue
        self.at = at
        self._rearm = rearm
        self._reply = reply
        self._asked = 0
        self._waiting = 0  # questions that a client has and has not answered
        self._left = 0.0
        self._tasks: set[asyncio.Task[None]] = set()

    def put(self, message: Message) -> None:
        """Take one question; the answer goes upstream when there is one."""
        if len(self._tasks) >= MAX_REPLIES:
            return  # asks faster than it takes answers: a flood must not become a flood of ours
        if self.dialogue is None or message.method == "ping":
            self._spawn(self._tell(jsonrpc.refused(message)))
            return
        self._asked += 1
        if self._asked > IN_ALL or self._waiting >= AT_ONCE:
            self._spawn(self._tell(jsonrpc.refused(message, REFUSED, "Too many questions.")))
            return
        if not self._waiting:
            now = asyncio.get_running_loop().time()
            self._left = self.at - now
            self._move(now + _LONG_S)
        self._waiting += 1
        self._spawn(self._ask(message, self.dialogue))

    def close(self) -> None:
        """The exchange is over, so nobody waits for answers any more."""
        for task in self._tasks:
            task.cancel()

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (fault := task.exception()) is not None:
            logger.error("a question to a client failed inside the gateway", exc_info=fault)

    def _move(self, at: float) -> None:
        self.at = at
        self._rearm(at)

    async def _ask(self, message: Message, dialogue: Dialogue) -> None:
        try:
            answer = jsonrpc.answer(message, await dialogue.ask(message.method or "", bytes(message.params)))
        except Unanswered as refused:
            answer = unanswered(message, refused)
        finally:
            self._waiting -= 1
            if not self._waiting:
                self._move(asyncio.get_running_loop().time() + self._left)
        await self._tell(answer)

    async def _tell(self, answer: bytes) -> None:
        try:
            await self._reply(answer)
        except UpstreamError as error:
            logger.debug("answer not delivered: %s", error)


def unanswered(message: Message, refused: Unanswered) -> bytes:
    """What an upstream is told of a question without an answer. Which rule said so is not its business."""
    if refused.code == "unknown_method":
        return jsonrpc.refused(message)
    return jsonrpc.refused(message, REFUSED, "The request was refused or not answered.")
