"""What the registry needs of an upstream, whatever it is spoken to over."""

from __future__ import annotations

import asyncio
import logging
from typing import Literal, NamedTuple, Protocol, TypeVar

import msgspec

from gateway.errors import InDoubt, NotSent
from gateway.model import Call
from gateway.ports import Dialogue
from gateway.upstreams.jsonrpc import Message, Request
from gateway.upstreams.mcp.era import Era, Info

logger = logging.getLogger("wardgate.upstreams")

T = TypeVar("T")

_LIST_CHANGED = frozenset(f"notifications/{kind}/list_changed" for kind in ("tools", "prompts", "resources"))
UPDATED = "notifications/resources/updated"

SUBSCRIBE = "resources/subscribe"
UNSUBSCRIBE = "resources/unsubscribe"
"""Methods that every peer takes, whatever its era calls them."""


class Owner(NamedTuple):
    """Whose state a legacy session or a child process holds; never shared between two owners."""

    tenant: str = ""
    agent: str = ""
    credential: str = ""
    subject: str = ""
    thread: str = ""  # one client of that principal, where the upstream may ask it something
    capabilities: bytes = b""  # what it may be asked, as declared; "" for nothing
    lane: int = 0  # apart from other calls under way of a client that names no thread

    @property
    def principal(self) -> Owner:
        """The same without the client."""
        return self._replace(thread="", capabilities=b"", lane=0)


GATEWAY = Owner()
"""The gateway itself, for discovery and lists."""


def owner_of(call: Call) -> Owner:
    """A client that can be asked has a place of its own: nobody else must get its questions."""
    principal = call.principal
    subject = principal.subject or ""
    if not call.capabilities_json:
        return Owner(principal.tenant, principal.agent, principal.credential, subject)
    return Owner(
        principal.tenant, principal.agent, principal.credential, subject, call.thread, call.capabilities_json
    )


class Lanes:
    """Keeps calls apart whose client can be asked and does not say which client it is.

    A legacy server may ask without saying for which call. Where two clients look the same, each call under
    way gets a session or child of its own, so that no client is asked another one's question.
    """

    def __init__(self) -> None:
        self._taken: set[Owner] = set()

    def take(self, owner: Owner) -> Owner:
        if not owner.capabilities or owner.thread:
            return owner
        while owner in self._taken:
            owner = owner._replace(lane=owner.lane + 1)
        self._taken.add(owner)
        return owner

    def leave(self, owner: Owner) -> None:
        self._taken.discard(owner)


class Events(Protocol):
    """Who hears what upstreams say of themselves. Called on the event loop; must not block."""

    def list_changed(self, upstream: str) -> None:
        """One of its lists changed."""

    def updated(self, upstream: str, owner: Owner, uri: str) -> None:
        """A resource that this owner subscribed to changed."""


class Status(msgspec.Struct, frozen=True, kw_only=True):
    """How an upstream is doing, for readiness and ``doctor``."""

    upstream: str
    transport: Literal["http", "stdio", "openapi", "python"]
    connected: bool  # the last exchange, or the first contact, brought an answer
    info: Info | None = None
    last_error: str = ""
    connections: int = 0  # open now
    children: int = 0  # running now
    restarts: int = 0  # of children, since the start
    stderr: tuple[str, ...] = ()  # the last lines of the last child that died
    problems: tuple[str, ...] = ()  # what of its description is not offered, and why

    @property
    def era(self) -> Era | None:
        return self.info.era if self.info is not None else None


class Unusable(NotSent):
    """What describes an upstream cannot be used; at the start this is a fault of configuration."""


class Peer(Protocol):
    """Whatever answers MCP requests. ``at`` is a time of the event loop by which there must be an answer."""

    async def call(self, request: Request, owner: Owner, at: float, dialogue: Dialogue | None) -> Message:
        """The answer, a result or a JSON-RPC error.

        Raises ``NotSent``, ``InDoubt``, ``Declined`` or ``BodyTooLarge``.
        """

    async def info(self, at: float) -> Info:
        """What the server says of itself; asked once and remembered. Raises like ``call``."""

    def status(self) -> Status: ...

    def ended(self, thread: str) -> None:
        """A client is gone: what was opened for it alone can be closed."""

    async def close(self) -> None: ...


async def joined(task: asyncio.Task[T], at: float) -> T:
    """Wait for work that several callers share: one that gives up must not take it from the others."""
    try:
        async with asyncio.timeout_at(at):
            return await asyncio.shield(task)
    except TimeoutError:
        raise NotSent("upstream_unavailable", "not ready in time") from None
    except asyncio.CancelledError:
        if task.cancelled():  # the work was given up, not the caller
            raise NotSent("shutting_down") from None
        raise


async def pass_on(dialogue: Dialogue, data: bytes, at: float) -> None:
    """A client that does not read must not hold the exchange beyond its deadline."""
    try:
        async with asyncio.timeout_at(at):
            await dialogue.notify(data)
    except TimeoutError:
        raise InDoubt("upstream_timeout", "the client did not take the upstream's notifications") from None
    except Exception as error:  # noqa: BLE001 - however the client's end fails, the outcome must be learnt
        logger.debug("notification not delivered: %s", type(error).__name__)


def is_list_changed(message: Message) -> bool:
    return message.method in _LIST_CHANGED


def updated_uri(message: Message) -> str:
    """The resource a message says has changed; "" when it says nothing of the kind."""
    if message.method != UPDATED:
        return ""
    try:
        return _updated.decode(message.params).uri
    except msgspec.MsgspecError:
        return ""


class _Updated(msgspec.Struct):
    uri: str


_updated = msgspec.json.Decoder(_Updated)
