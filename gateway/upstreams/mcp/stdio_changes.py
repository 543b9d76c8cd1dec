"""What a child on stdio is subscribed to, on whose behalf, and the stream on which a modern one tells it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Final

from gateway.errors import NotSent, UpstreamError
from gateway.upstreams import jsonrpc
from gateway.upstreams.jsonrpc import Message, Request
from gateway.upstreams.mcp.conversation import Conversation
from gateway.upstreams.mcp.era import Info, wanted_changes
from gateway.upstreams.peer import GATEWAY, Events, Owner

logger = logging.getLogger("wardgate.upstreams")

LISTEN_S: Final = 10.0  # for a modern server to take a subscription
HEARD_AGAIN_S: Final = 1.0  # before a stream of changes that a modern server ended is asked for again
_EVER_S: Final = 30 * 86_400.0


class Slot:
    """The place of one owner's child, and how often it has failed."""

    __slots__ = (
        "changing", "conversation", "failures", "generation", "listening", "not_before", "owner", "reviving",
        "started", "starting", "uris", "used",
    )  # fmt: skip

    def __init__(self, owner: Owner) -> None:
        self.owner = owner
        self.conversation: Conversation | None = None
        self.starting: asyncio.Task[Conversation] | None = None
        self.failures = 0
        self.generation = 0  # of the credential its child was started with
        self.not_before = 0.0
        self.started = 0.0
        self.used = 0.0
        self.uris: dict[str, set[Owner]] = {}  # who subscribed to what; such a child is not idle
        self.listening: asyncio.Task[None] | None = None  # a modern server's stream of changes
        self.reviving: asyncio.Task[None] | None = None
        self.changing = asyncio.Lock()  # held by whoever changes ``uris`` and tells the server


class Changes:
    """Subscribes the children of one upstream, and passes on what they say."""

    def __init__(self, name: str, events: Events, info: Callable[[], Info | None]) -> None:
        self._name = name
        self._events = events
        self._info = info

    async def subscribe(
        self, request: Request, slot: Slot, conversation: Conversation, owner: Owner, at: float
    ) -> Message:
        """``resources/subscribe``, in the server's own era."""
        async with slot.changing:
            if not conversation.modern:
                message = await conversation.ask(request, at, None)
                if not message.error:
                    slot.uris.setdefault(request.name, set()).add(owner)
                return message
            if request.name in slot.uris:
                slot.uris[request.name].add(owner)
                return jsonrpc.EMPTY
            slot.uris[request.name] = {owner}
            if not await self._listen(slot, conversation, at):
                del slot.uris[request.name]
                raise NotSent("upstream_unavailable", "the subscription was not taken")
            return jsonrpc.EMPTY

    async def unsubscribe(self, request: Request, slot: Slot, owner: Owner, at: float) -> Message:
        owners = slot.uris.get(request.name)
        if owners is None:
            return jsonrpc.EMPTY
        owners.discard(owner)
        if owners:
            return jsonrpc.EMPTY  # others who share the child go on hearing of it
        del slot.uris[request.name]
        conversation = slot.conversation
        if conversation is None or not conversation.alive:
            return jsonrpc.EMPTY  # no child is started to be told that
        if not conversation.modern:
            return await conversation.ask(request, at, None)
        async with slot.changing:
            await self._listen(slot, conversation, at)
        return jsonrpc.EMPTY

    def updated(self, slot: Slot, uri: str) -> None:
        for owner in slot.uris.get(uri, ()):
            self._events.updated(self._name, owner, uri)

    async def subscribe_again(self, slot: Slot, conversation: Conversation, at: float) -> None:
        """A new child knows nothing of what the one before was told; what changed meanwhile was not heard."""
        if conversation.modern:
            _, taken = self._listening(slot, conversation)
            taken.add_done_callback(lambda _: self._missed(slot))
            return
        for uri in tuple(slot.uris):
            await conversation.ask(jsonrpc.subscribe(uri), at, None)
        self._missed(slot)

    def _missed(self, slot: Slot) -> None:
        for uri in slot.uris:
            self.updated(slot, uri)

    async def _listen(self, slot: Slot, conversation: Conversation, at: float) -> bool:
        """Have a modern server tell what is wanted now; the stream before ends when this one is taken."""
        before = slot.listening
        task, taken = self._listening(slot, conversation)
        accepted = False
        try:
            async with asyncio.timeout_at(min(at, asyncio.get_running_loop().time() + LISTEN_S)):
                accepted = await taken
        except TimeoutError:
            pass
        finally:
            if not accepted and slot.listening is task:
                slot.listening = before
            for ended in (before if accepted else task,):
                if ended is not None:
                    ended.cancel()
        return accepted

    def _listening(
        self, slot: Slot, conversation: Conversation
    ) -> tuple[asyncio.Task[None] | None, asyncio.Future[bool]]:
        """The new stream, and whether the server takes it."""
        taken: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        slot.listening = None
        wanted = wanted_changes(self._info(), slot.uris, lists=slot.owner == GATEWAY)
        if wanted:
            request = jsonrpc.plain("subscriptions/listen", {"notifications": wanted})
            slot.listening = asyncio.create_task(self._hear(conversation, request, taken))
        else:
            taken.set_result(True)
        return slot.listening, taken

    async def _hear(self, conversation: Conversation, request: Request, taken: asyncio.Future[bool]) -> None:
        """Listen for as long as the child lives; a server may end a stream in good order at any time."""
        loop = asyncio.get_running_loop()

        def acknowledged() -> None:
            if not taken.done():
                taken.set_result(True)

        try:
            while conversation.alive:
                message = await conversation.ask(request, loop.time() + _EVER_S, None, acknowledged)
                if message.error or not taken.done():
                    break
                await asyncio.sleep(HEARD_AGAIN_S)
        except UpstreamError as error:
            logger.debug("upstream %s: no stream of changes: %s", self._name, error)
        finally:
            if not taken.done():
                taken.set_result(False)
