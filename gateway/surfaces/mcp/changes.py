"""Telling clients what changed: lists that look different to them now, and resources they subscribed to.

A legacy client hears it on its session's stream, a modern one on a ``subscriptions/listen``; both have an
``Outbox``. A message says only *that* something changed, so one that is waiting already need not wait twice,
and an outbox is as small as what its client subscribed to.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import Final, NamedTuple

import orjson

from gateway import pipeline, visible
from gateway.model import Answer, Ask, Kind, Principal
from gateway.ports import Parts, Subscriber
from gateway.surfaces.mcp.envelope import Rejected

LISTS: Final[dict[str, Kind]] = {"tools": "tool", "prompts": "prompt", "resources": "resource"}
"""The lists whose changes are told, by their name in methods and capabilities."""

MAX_URIS: Final = 256
"""Resources that one client may subscribe to."""


class _Subscribed(NamedTuple):
    who: Subscriber
    upstream: str
    uri: str


class _Shared:
    """One subscription at an upstream, and who hears of it."""

    __slots__ = ("ending", "outboxes", "taken")

    def __init__(self) -> None:
        self.outboxes: set[Outbox] = set()
        self.taken = False  # the upstream knows of it
        self.ending: asyncio.Task[None] | None = None  # nobody wants it, and the upstream is being told


class Outbox:
    """What one client has yet to be told, in order, each thing once."""

    def __init__(
        self, principal: Principal, upstream: str | None, thread: str = "", subscription: object = None
    ) -> None:
        self.principal = principal
        self.thread = thread
        self.session = ""  # the piece of work its client names
        self.capabilities: dict[str, bytes] = {}  # of its client, as each upstream is told
        self.upstream = upstream  # of the endpoint; None for all of them
        self.lists: frozenset[str] = frozenset()
        self.uris: dict[str, _Subscribed] = {}
        self.closed = False  # its client hears no more
        self._subscription = subscription  # id of a modern ``subscriptions/listen``
        self._waiting: dict[bytes, None] = {}
        self._filled = asyncio.Event()
        self._seen: dict[str, object] = {}

    def list_changed(self, name: str) -> None:
        self._put(f"notifications/{name}/list_changed", {})

    def updated(self, uri: str) -> None:
        self._put("notifications/resources/updated", {"uri": uri})

    def task(self, task_json: bytes) -> None:
        """A task of its client changed; the whole of it is told, as the bytes it is made of."""
        meta = orjson.dumps({"io.modelcontextprotocol/subscriptionId": self._subscription})
        params = b'{"_meta":' + meta + b"," + task_json[1:]
        self._waiting[b'{"jsonrpc":"2.0","method":"notifications/tasks","params":' + params + b"}"] = None
        self._filled.set()

    def message(self, method: str, params: dict[str, object]) -> bytes:
        """A notification as this client gets it."""
        if self._subscription is not None:
            params = {"_meta": {"io.modelcontextprotocol/subscriptionId": self._subscription}, **params}
        told: dict[str, object] = {"jsonrpc": "2.0", "method": method}
        if params:
            told["params"] = params
        return orjson.dumps(told)

    def _put(self, method: str, params: dict[str, object]) -> None:
        self._waiting[self.message(method, params)] = None
        self._filled.set()

    async def wait(self) -> None:
        await self._filled.wait()

    def take(self) -> list[bytes]:
        taken = list(self._waiting)
        self._waiting.clear()
        self._filled.clear()
        return taken

    def subscriber(self, upstream: str) -> Subscriber:
        """Who this client is to an upstream; as in ``upstreams.peer.owner_of``."""
        principal = self.principal
        known = self.capabilities.get(upstream, b"")
        return Subscriber(
            principal.tenant, principal.agent, principal.credential, principal.subject or "",
            self.thread if known else "", known,
        )  # fmt: skip

    def notice(self, name: str, shown: object) -> bool:
        """Whether a list looks different from when this was asked last."""
        before = self._seen.get(name)
        self._seen[name] = shown
        return before is not None and before != shown


class Changes:
    """Knows which outbox wants what, and ends at an upstream what nobody here wants any more."""

    def __init__(self, parts: Callable[[], Parts]) -> None:
        self._parts = parts
        self._open: set[Outbox] = set()
        self._subscribed: dict[_Subscribed, _Shared] = {}

    def add(self, outbox: Outbox, lists: Iterable[str]) -> None:
        """Tell this client of changes of these lists from now on."""
        outbox.lists = frozenset(lists)
        self._open.add(outbox)
        self._look(outbox, {})

    def remove(self, outbox: Outbox) -> None:
        """Its client hears no more; what only it subscribed to is ended."""
        outbox.closed = True
        self._open.discard(outbox)
        for uri in tuple(outbox.uris):
            self.unsubscribe(outbox, uri)

    def __len__(self) -> int:
        return len(self._open)

    # ------------------------------------------------------------------------------------- lists

    def became(self, outbox: Outbox, principal: Principal) -> None:
        """The client's agent was changed by an operator, so it may be shown other lists from now on."""
        outbox.principal = principal
        for name in self._look(outbox, {}):
            outbox.list_changed(name)

    def catalog_changed(self) -> None:
        """Lists or policy may have changed: tell those whose lists look different to them now."""
        hashes: dict[int, tuple[object, int]] = {}
        for outbox in self._open:
            for name in self._look(outbox, hashes):
                outbox.list_changed(name)

    def _look(self, outbox: Outbox, hashes: dict[int, tuple[object, int]]) -> list[str]:
        parts = self._parts()
        changed = []
        for name in sorted(outbox.lists):
            shown = visible.listed(parts, outbox.principal, LISTS[name], outbox.upstream, outbox.session)
            # Most clients are shown the same list, which is hashed once; held, so that its id stays its own.
            known = hashes.get(id(shown))
            if known is None:
                known = shown, hash(tuple((tool.target, tool.schema_hash) for tool in shown))
                hashes[id(shown)] = known
            if outbox.notice(name, known[1]):
                changed.append(name)
        return changed

    # --------------------------------------------------------------------------------- resources

    async def subscribe(self, outbox: Outbox, upstream: str, uri: str) -> Answer:
        """Subscribe for one client; it holds when the answer is ``taken``.

        Every subscription is a governed call, also one that another client of the principal has already.
        """
        if len(outbox.uris) >= MAX_URIS and uri not in outbox.uris:
            raise Rejected("overloaded", f"At most {MAX_URIS} subscriptions.", status=200)
        principal = outbox.principal
        ask = Ask(
            principal=principal,
            surface="mcp",
            kind="subscription",
            upstream=upstream,
            name=uri,
            args={},
            session=outbox.session,
            thread=outbox.thread,
            capabilities_json=outbox.capabilities.get(upstream, b""),
        )
        key = _Subscribed(outbox.subscriber(upstream), upstream, uri)
        while (shared := self._subscribed.setdefault(key, _Shared())).ending is not None:
            # On the wire the end could otherwise come after the beginning.
            await asyncio.wait((shared.ending,))
        # Before the call, so that another client's unsubscribing does not end it under this one.
        shared.outboxes.add(outbox)
        accepted = False
        try:
            answer = await pipeline.call(self._parts(), ask)
            accepted = taken(answer)
        finally:
            if accepted:
                shared.taken = True
                before, outbox.uris[uri] = outbox.uris.get(uri), key
                if before is not None and before != key:  # its client looks different to the upstream now
                    self._leave(before, outbox)
                if outbox.closed:  # while it was asked
                    self.unsubscribe(outbox, uri)
            elif outbox.uris.get(uri) != key:
                self._leave(key, outbox)
        return answer

    def unsubscribe(self, outbox: Outbox, uri: str) -> None:
        key = outbox.uris.pop(uri, None)
        if key is not None:
            self._leave(key, outbox)

    def _leave(self, key: _Subscribed, outbox: Outbox) -> None:
        shared = self._subscribed[key]
        shared.outboxes.discard(outbox)
        if shared.outboxes or shared.ending is not None:
            return
        if not shared.taken:
            del self._subscribed[key]
            return
        shared.taken = False
        shared.ending = asyncio.ensure_future(self._parts().upstreams.unsubscribe(*key))
        shared.ending.add_done_callback(lambda _: self._ended(key, shared))

    def _ended(self, key: _Subscribed, shared: _Shared) -> None:
        shared.ending = None
        if not shared.outboxes and self._subscribed.get(key) is shared:
            del self._subscribed[key]

    def updated(self, upstream: str, who: Subscriber, uri: str) -> None:
        """An upstream says that a resource changed which this subscriber wanted to know of."""
        shared = self._subscribed.get(_Subscribed(who, upstream, uri))
        for outbox in shared.outboxes if shared is not None else ():
            outbox.updated(uri)

    async def renew(self) -> None:
        """Subscribe again at upstreams that were replaced; what policy no longer allows is dropped."""
        for key, shared in tuple(self._subscribed.items()):
            for outbox in tuple(shared.outboxes):
                if outbox.uris.get(key.uri) != key:
                    continue  # ended, or only being asked for
                if taken(await self.subscribe(outbox, key.upstream, key.uri)):
                    outbox.updated(key.uri)  # what happened in between was not heard
                else:
                    # The upstream that knew of it is gone, so it need not be told by the last one.
                    shared.taken = shared.taken and len(shared.outboxes) > 1
                    self.unsubscribe(outbox, key.uri)


def taken(answer: Answer) -> bool:
    """Whether the upstream has taken a subscription."""
    return answer.refusal is None and not answer.error_json
