"""Streams that are only listened to: a legacy session's GET, and a modern client's ``subscriptions/listen``.

They live long, so what was true when they began is looked at again while they do: whether the client is still
there, whether its session and its credential still hold, whether this process is stopping.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final

import orjson

from gateway.model import Principal
from gateway.ports import Parts
from gateway.surfaces.doors import Receive
from gateway.surfaces.mcp import envelope, protocol
from gateway.surfaces.mcp.changes import LISTS, MAX_URIS, Changes, Outbox
from gateway.surfaces.mcp.envelope import Rejected, Reply
from gateway.surfaces.mcp.sessions import Session, Sessions
from gateway.surfaces.mcp.stream import Exchange

KEEP_ALIVE_S: Final = 15.0
"""How often a silent stream says that it is alive, in seconds."""

CHECK_S: Final = 1.0
"""How often it is asked whether the client may still listen, in seconds."""

AGREE_S: Final = 20.0
"""After which no more resources are subscribed before a client gets its acknowledgement, in seconds."""

MAX_STREAMS: Final = 64
"""``subscriptions/listen`` streams of one principal."""

Holds = Callable[[], Awaitable[Principal | None]]
"""The principal that the credential of a stream makes now; ``None`` when it does not hold any more."""


class Listeners:
    """All streams that are open; ``life_s`` bounds each of them."""

    def __init__(self, sessions: Sessions, changes: Changes, life_s: float) -> None:
        self._sessions = sessions
        self._changes = changes
        self._life_s = life_s
        self._stopping = asyncio.Event()
        self._counts: dict[object, int] = {}

    def stop(self) -> None:
        """End all streams, so that the process can."""
        self._stopping.set()

    async def session(
        self, parts: Parts, key: bytes, session: Session, exchange: Exchange, receive: Receive, holds: Holds
    ) -> None:
        """Hold the one stream of a legacy session open until it has no more reason to be."""
        if session.listening:
            raise Rejected("invalid_request", "This session already has a stream.", status=409)
        session.listening = True
        self._changes.add(session.outbox, LISTS)

        async def alive() -> Principal | None:
            self._sessions.touch(key, session, parts.clock.monotonic())
            return await holds() if session.live else None

        try:
            await exchange.comment(b"listening")
            await self._drain(session.outbox, exchange, receive, alive)
            await exchange.end()
        finally:
            session.listening = False

    async def subscription(
        self,
        outbox: Outbox,
        wanted: dict[str, Any],
        resolve: Callable[[str], str | None],
        id_json: bytes,
        exchange: Exchange,
        receive: Receive,
        holds: Holds,
        tasks: Sequence[str] = (),
        watch: Callable[[], asyncio.Task[None]] | None = None,
    ) -> Reply:
        """Serve one ``subscriptions/listen``; the reply is its last message.

        ``resolve`` names the upstream a resource is read from; ``watch`` begins to tell of ``tasks``. What is
        refused is left out of the acknowledgement, as the specification has it.
        """
        if not exchange.accepts_stream:
            raise Rejected("invalid_request", "Accept text/event-stream.", status=406)
        who = (outbox.principal.tenant, outbox.principal.credential, outbox.principal.subject)
        if self._counts.get(who, 0) >= MAX_STREAMS:
            raise Rejected("overloaded", status=200)
        uris = wanted.get("resourceSubscriptions", ())
        if not isinstance(uris, list | tuple) or len(uris) > MAX_URIS:
            raise _invalid(f"'resourceSubscriptions' must be a list of at most {MAX_URIS} URIs.")
        if not all(isinstance(uri, str) for uri in uris):
            raise _invalid("'resourceSubscriptions' must hold URIs.")
        self._counts[who] = self._counts.get(who, 0) + 1
        watching = None
        try:
            lists = [name for name in LISTS if wanted.get(f"{name}ListChanged") is True]
            self._changes.add(outbox, lists)
            end = asyncio.get_running_loop().time() + AGREE_S
            for uri in uris:
                if asyncio.get_running_loop().time() >= end:
                    break  # an upstream that answers slowly must not keep the client waiting for ever
                upstream = resolve(uri)
                if upstream is not None:
                    await self._changes.subscribe(outbox, upstream, uri)
            agreed: dict[str, object] = {f"{name}ListChanged": True for name in lists}
            if outbox.uris:
                agreed["resourceSubscriptions"] = list(outbox.uris)
            if tasks:
                agreed["taskIds"] = list(tasks)
            acknowledged = "notifications/subscriptions/acknowledged"
            await exchange.push(outbox.message(acknowledged, {"notifications": agreed}))
            watching = watch() if tasks and watch is not None else None
            await self._drain(outbox, exchange, receive, holds)
        finally:
            if watching is not None:
                watching.cancel()
            self._changes.remove(outbox)
            left = self._counts[who] - 1
            if left:
                self._counts[who] = left
            else:
                del self._counts[who]
        ended = {"resultType": "complete", "_meta": {protocol.META_SUBSCRIPTION: orjson.Fragment(id_json)}}
        return Reply(envelope.result(id_json, orjson.dumps(ended)))

    async def _drain(self, outbox: Outbox, exchange: Exchange, receive: Receive, holds: Holds) -> None:
        """Pass on what the outbox holds until the client leaves or may not listen any more."""
        loop = asyncio.get_running_loop()
        end = loop.time() + self._life_s
        spoken = checked = loop.time()
        gone = asyncio.ensure_future(_gone(receive))
        stopping = asyncio.ensure_future(self._stopping.wait())
        filled: asyncio.Future[None] = asyncio.ensure_future(outbox.wait())
        try:
            while loop.time() < end:
                done, _ = await asyncio.wait(
                    (gone, stopping, filled), timeout=CHECK_S, return_when=asyncio.FIRST_COMPLETED
                )
                if gone in done or stopping in done:
                    return
                if loop.time() - checked >= CHECK_S:
                    checked = loop.time()
                    # A revoked key must not go on hearing what its successor may.
                    principal = await holds()
                    if principal is None:
                        return
                    if principal != outbox.principal:
                        self._changes.became(outbox, principal)
                if filled in done:
                    for message in outbox.take():
                        if not await exchange.push(message):
                            return
                    spoken = loop.time()
                    filled = asyncio.ensure_future(outbox.wait())
                elif loop.time() - spoken >= KEEP_ALIVE_S:
                    spoken = loop.time()
                    await exchange.comment(b"alive")
        finally:
            for task in (gone, stopping, filled):
                task.cancel()


def _invalid(message: str) -> Rejected:
    return Rejected("invalid_request", message, status=200, rpc=protocol.INVALID_PARAMS)


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
