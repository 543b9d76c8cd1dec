"""An MCP server on stdio: supervised children, one for each principal unless the operator shares one.

A child that dies is started again by the next call that needs it, after a pause that doubles with every
failure. While it pauses calls are refused at once as not sent, so a crashing server costs nobody a wait.
"""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from typing import Any, Final

from gateway.config import expand
from gateway.config_upstream import UpstreamConfig
from gateway.errors import NotSent, UpstreamError
from gateway.ports import Dialogue
from gateway.reasons import Party
from gateway.upstreams import jsonrpc
from gateway.upstreams.jsonrpc import Message, Request, nonsense
from gateway.upstreams.mcp import era
from gateway.upstreams.mcp.child import Child
from gateway.upstreams.mcp.conversation import Conversation
from gateway.upstreams.mcp.era import Info
from gateway.upstreams.mcp.stdio_changes import Changes, Slot
from gateway.upstreams.peer import GATEWAY, SUBSCRIBE, UNSUBSCRIBE, Events, Lanes, Owner, Status, joined
from gateway.upstreams.secrets.credentials import Credentials

logger = logging.getLogger("wardgate.upstreams")

BACKOFF_S: Final = 0.2  # after the first failure; doubles
BACKOFF_MAX_S: Final = 30.0
HEALTHY_S: Final = 60.0  # a child that lived this long starts from the first pause again
PATIENCE_S: Final = 1.0  # a pause this short is waited for
IDLE_S: Final = 600.0
DISCOVER_S: Final = 10.0  # some legacy servers never answer what comes before ``initialize``
STDERR_SHOWN: Final = 20
FINISH_LOOK_S: Final = 0.05
_LINE_SLACK: Final = 4096


class StdioPeer:
    def __init__(
        self,
        name: str,
        config: UpstreamConfig,
        *,
        result_bytes: int,
        events: Events,
        credentials: Credentials | None = None,
    ) -> None:
        assert config.command is not None
        self._name = name
        self._command = config.command
        self._env = {key: expand(value, f"upstreams.{name}.env.{key}") for key, value in config.env.items()}
        self._credentials = credentials or Credentials(name, config)
        self._cwd = config.cwd
        self._shared = config.shared
        self._limit = config.children
        self._max_line = result_bytes + _LINE_SLACK
        self._events = events
        self._changes = Changes(name, events, lambda: self._info)
        self._slots: OrderedDict[Owner, Slot] = OrderedDict()
        self._lanes = Lanes()
        self._closing: set[asyncio.Task[Any]] = set()
        self._sweeper: asyncio.Task[None] | None = None
        self._info: Info | None = None
        self._legacy = False  # the last child was: the next one is not asked about the modern era
        self._closed = False
        self._last_error = ""
        self._restarts = 0
        self._stderr: tuple[str, ...] = ()  # the end of what the last child that died had to say

    # ----------------------------------------------------------------------------------------- port

    async def call(self, request: Request, owner: Owner, at: float, dialogue: Dialogue | None) -> Message:
        try:
            if request.method in (SUBSCRIBE, UNSUBSCRIBE):
                message = await self._subscription(request, owner, at)
            else:
                message = await self._ask(request, self._place(owner), at, dialogue)
        except UpstreamError as error:
            # Our own bounds, and a client that gives up, say nothing about the upstream.
            if error.reason.party is Party.UPSTREAM:
                self._last_error = str(error)
            raise
        self._last_error = ""
        return message

    def _place(self, owner: Owner) -> Owner:
        """Whose child it is."""
        if self._shared:
            return GATEWAY
        # A modern server asks nothing of its own accord, so its child can serve all clients of a principal.
        return owner if self._legacy else owner.principal

    async def _ask(self, request: Request, owner: Owner, at: float, dialogue: Dialogue | None) -> Message:
        owner = self._lanes.take(owner)
        try:
            conversation = await self._conversation(owner, at)
            if request.log_level and not conversation.modern:
                await self._set_level(conversation, request.log_level, at)
            return await conversation.ask(request, at, dialogue)
        finally:
            self._lanes.leave(owner)

    async def info(self, at: float) -> Info:
        if self._info is None:
            await self._conversation(GATEWAY, at)
        assert self._info is not None
        return self._info

    def status(self) -> Status:
        running = sum(1 for slot in self._slots.values() if slot.conversation is not None)
        return Status(
            upstream=self._name,
            transport="stdio",
            connected=self._info is not None and not self._last_error,
            info=self._info,
            last_error=self._last_error,
            children=running,
            restarts=self._restarts,
            stderr=self._stderr,
        )

    def ended(self, thread: str) -> None:
        for owner in [owner for owner in self._slots if owner.thread == thread]:
            self._retire(owner)

    async def close(self) -> None:
        self._closed = True
        if self._sweeper is not None:
            self._sweeper.cancel()
        for owner in tuple(self._slots):
            self._retire(owner)
        while self._closing:
            await asyncio.gather(*self._closing, return_exceptions=True)

    # -------------------------------------------------------------------------------------- children

    async def _conversation(self, owner: Owner, at: float) -> Conversation:
        """The owner's child, started when there is none."""
        loop = asyncio.get_running_loop()
        generation = self._credentials.generation(owner)
        slot = self._slots.get(owner)
        if slot is None:
            self._make_room()
            slot = self._slots[owner] = Slot(owner)
        self._slots.move_to_end(owner)
        slot.used = loop.time()
        # An environment is fixed when a process starts, so another credential takes another child.
        if slot.conversation is not None and slot.starting is None and slot.generation != generation:
            self._replace(slot)
        if slot.conversation is not None and slot.conversation.alive:
            return slot.conversation
        if slot.starting is None:
            pause = slot.not_before - loop.time()
            if pause > min(PATIENCE_S, at - loop.time()):
                raise NotSent("upstream_unavailable", f"restarting in {pause:.1f} s")
            slot.starting = asyncio.create_task(self._start(owner, slot, max(pause, 0.0), at))
            slot.starting.add_done_callback(lambda task: self._started(slot, task))
        try:
            return await joined(slot.starting, at)
        except NotSent:
            raise
        except UpstreamError as error:
            raise NotSent("upstream_unavailable", f"could not be started: {error}") from None

    async def _start(self, owner: Owner, slot: Slot, pause: float, at: float) -> Conversation:
        await asyncio.sleep(pause)
        if self._closed:
            raise NotSent("shutting_down")
        if slot.failures:
            self._restarts += 1
        if self._sweeper is None:
            self._sweeper = asyncio.create_task(self._sweep())
        slot.started = asyncio.get_running_loop().time()
        slot.generation = self._credentials.generation(owner)
        secret = self._credentials.variables(owner)
        conversation = Conversation(
            self._name,
            private=not self._shared,
            list_changed=lambda: self._events.list_changed(self._name),
            updated=lambda uri: self._changes.updated(slot, uri),
            exited=lambda ended: self._ended(slot, ended),
        )
        slot.conversation = conversation
        try:
            conversation.child = await Child.start(
                self._name,
                self._command,
                {**self._env, **secret},
                self._cwd,
                conversation,
                self._max_line,
                hidden=tuple(secret.values()),
            )
            await self._greet(conversation, owner, at)
            await self._changes.subscribe_again(slot, conversation, at)
        except BaseException:  # also a cancelled start must not leave a process behind
            self._failed(slot)
            if conversation.child is not None:
                self._end(conversation.child)
            raise
        logger.info(
            "upstream %s: ready for %s", self._name, "/".join(part for part in owner[:4] if part) or "all"
        )
        return conversation

    async def _greet(self, conversation: Conversation, owner: Owner, at: float) -> None:
        """Find the era of a new child, as the command may be another program than it was before."""
        if not self._legacy:
            found = await self._discover(conversation, at)
            if found is not None:
                self._info = found
                return
        message = await conversation.ask(era.initialize(owner.capabilities), at, None)
        self._legacy = bool(message.result)
        if not message.result:
            raise nonsense("initialize was refused")
        self._info = era.initialized(message.result_json, era.LEGACY_STDIO)
        conversation.tell(era.INITIALIZED)

    async def _discover(self, conversation: Conversation, at: float) -> Info | None:
        soon = min(at, asyncio.get_running_loop().time() + DISCOVER_S)
        conversation.modern = True
        try:
            message = await conversation.ask(era.DISCOVER, soon, None)
        except UpstreamError as error:
            if not conversation.alive:
                self._legacy = True  # it died of the question
                raise
            logger.debug("upstream %s: server/discover: %s", self._name, error)
        else:
            found = era.discovered(message.result_json) if message.result else None
            if found is not None:
                return found
        conversation.modern = False
        return None

    async def _set_level(self, conversation: Conversation, level: str, at: float) -> None:
        if level == conversation.level or self._info is None or "logging" not in self._info.capabilities:
            return
        conversation.level = level
        try:
            await conversation.ask(jsonrpc.plain("logging/setLevel", {"level": level}), at, None)
        except UpstreamError as error:  # log messages are a courtesy, the call is not
            logger.debug("upstream %s: log level not set: %s", self._name, error)

    # ------------------------------------------------------------------------------------- changes

    async def _subscription(self, request: Request, owner: Owner, at: float) -> Message:
        """``resources/subscribe`` and its opposite, in the server's own era."""
        place = self._place(owner)
        if request.method == UNSUBSCRIBE:
            slot = self._slots.get(place)
            return (
                jsonrpc.EMPTY if slot is None else await self._changes.unsubscribe(request, slot, owner, at)
            )
        conversation = await self._conversation(place, at)
        slot = self._slots.get(place)
        if slot is None:
            raise NotSent("shutting_down")
        return await self._changes.subscribe(request, slot, conversation, owner, at)

    async def _revive(self, slot: Slot) -> None:
        """A child that somebody listens to must not stay dead until the next call."""
        loop = asyncio.get_running_loop()
        try:
            while slot.uris:
                await asyncio.sleep(max(BACKOFF_S, slot.not_before - loop.time()))
                try:
                    await self._conversation(slot.owner, loop.time() + DISCOVER_S * 2)
                except UpstreamError as error:
                    logger.debug("upstream %s: not started again: %s", self._name, error)
                else:
                    return
        finally:
            slot.reviving = None

    def _started(self, slot: Slot, task: asyncio.Task[Conversation]) -> None:
        slot.starting = None
        if not task.cancelled() and (error := task.exception()) is not None:
            self._last_error = str(error)

    def _ended(self, slot: Slot, conversation: Conversation) -> None:
        """A child is gone; unless it was retired, that is a failure."""
        if slot.conversation is conversation:
            if conversation.child is not None:
                self._stderr = tuple(conversation.child.stderr)[-STDERR_SHOWN:]
            self._failed(slot)
            if slot.uris and self._slots.get(slot.owner) is slot and slot.reviving is None:
                slot.reviving = asyncio.create_task(self._revive(slot))

    def _failed(self, slot: Slot) -> None:
        now = asyncio.get_running_loop().time()
        if slot.conversation is None:
            return
        slot.conversation = None
        if now - slot.started >= HEALTHY_S:
            slot.failures = 0
        slot.not_before = now + min(BACKOFF_MAX_S, BACKOFF_S * 2 ** min(slot.failures, 16))
        slot.failures += 1

    def _replace(self, slot: Slot) -> None:
        """The next call starts another child; this one ends when it has answered what it was asked."""
        if slot.listening is not None:  # the next child is subscribed to the same
            slot.listening.cancel()
            slot.listening = None
        conversation, slot.conversation = slot.conversation, None
        if conversation is not None:
            task = asyncio.create_task(self._finish(conversation))
            self._closing.add(task)
            task.add_done_callback(self._closing.discard)

    async def _finish(self, conversation: Conversation) -> None:
        while conversation.in_flight and conversation.alive and not self._closed:  # noqa: ASYNC110
            await asyncio.sleep(FINISH_LOOK_S)
        if conversation.child is not None:
            await conversation.child.close()

    def _make_room(self) -> None:
        """Stay within the number of children: the longest unused one that is idle goes."""
        if len(self._slots) < self._limit:
            return
        if idle := [owner for owner, slot in self._slots.items() if self._idle(slot)]:
            # One that somebody listens to goes last: its client would hear no more.
            self._retire(min(idle, key=lambda owner: bool(self._slots[owner].uris)))
            return
        raise NotSent("overloaded", f"all {self._limit} children are busy")

    @staticmethod
    def _idle(slot: Slot) -> bool:
        busy = slot.conversation is not None and slot.conversation.in_flight
        return slot.starting is None and not busy

    def _retire(self, owner: Owner) -> None:
        slot = self._slots.pop(owner)
        for task in (slot.listening, slot.reviving):
            if task is not None:
                task.cancel()
        if slot.starting is not None:
            slot.starting.cancel()
            self._closing.add(slot.starting)
            slot.starting.add_done_callback(self._closing.discard)
        conversation, slot.conversation = slot.conversation, None
        if conversation is not None and conversation.child is not None:
            self._end(conversation.child)

    def _end(self, child: Child) -> None:
        task = asyncio.create_task(child.close())
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)

    async def _sweep(self) -> None:
        """End children that nobody has used for a while."""
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(IDLE_S / 10)
            for owner, slot in tuple(self._slots.items()):
                if not slot.uris and self._idle(slot) and loop.time() - slot.used > IDLE_S:
                    self._retire(owner)
