"""What the registry needs of an upstream, whatever it is spoken to over."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Literal, NamedTuple, Protocol, TypeVar

import msgspec

from gateway.errors import InDoubt, NotSent
from gateway.model import Principal
from gateway.ports import Emit
from gateway.upstreams.era import Era, Info
from gateway.upstreams.jsonrpc import Message, Request

logger = logging.getLogger("wardgate.upstreams")

T = TypeVar("T")

ListChanged = Callable[[str], None]
"""Called with the upstream's name when it says that one of its lists changed."""

_LIST_CHANGED = frozenset(f"notifications/{kind}/list_changed" for kind in ("tools", "prompts", "resources"))


class Owner(NamedTuple):
    """Whose state a legacy session or a child process holds; never shared between two owners."""

    tenant: str = ""
    agent: str = ""
    credential: str = ""
    subject: str = ""


GATEWAY = Owner()
"""The gateway itself, for discovery and lists."""


def owner_of(principal: Principal) -> Owner:
    return Owner(principal.tenant, principal.agent, principal.credential, principal.subject or "")


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

    async def call(self, request: Request, owner: Owner, at: float, emit: Emit | None) -> Message:
        """The answer, a result or a JSON-RPC error.

        Raises ``NotSent``, ``InDoubt``, ``Declined`` or ``BodyTooLarge``.
        """

    async def info(self, at: float) -> Info:
        """What the server says of itself; asked once and remembered. Raises like ``call``."""

    def status(self) -> Status: ...

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


async def pass_on(emit: Emit, data: bytes, at: float) -> None:
    """A client that does not read must not hold the exchange beyond its deadline."""
    try:
        async with asyncio.timeout_at(at):
            await emit(data)
    except TimeoutError:
        raise InDoubt("upstream_timeout", "the client did not take the upstream's notifications") from None
    except Exception as error:  # noqa: BLE001 - however the client's end fails, the outcome must be learnt
        logger.debug("notification not delivered: %s", type(error).__name__)


def is_list_changed(message: Message) -> bool:
    return message.method in _LIST_CHANGED
