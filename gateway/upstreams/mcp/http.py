"""An MCP server over streamable HTTP, of either era behind one interface.

Nothing of the agent's own request headers comes near here: what authenticates the gateway upstream is
configured, and the agent's token is never passed on.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
from contextlib import suppress
from typing import Final

from gateway.config_upstream import UpstreamConfig
from gateway.errors import NotSent, UpstreamError
from gateway.ports import Dialogue
from gateway.reasons import Party
from gateway.upstreams import jsonrpc
from gateway.upstreams.headers import mirrored
from gateway.upstreams.jsonrpc import UNSUPPORTED_VERSION, Declined, Message, Request, decode, nonsense
from gateway.upstreams.mcp import era
from gateway.upstreams.mcp.channel import Channel
from gateway.upstreams.mcp.era import Info, wanted_changes
from gateway.upstreams.mcp.feeds import Feed, NoFeed, Opened
from gateway.upstreams.mcp.sessions import Session, Sessions
from gateway.upstreams.peer import GATEWAY, SUBSCRIBE, UNSUBSCRIBE, Events, Lanes, Owner, Status, joined
from gateway.upstreams.secrets.credentials import Credentials
from gateway.upstreams.wire import BodyTooLarge, Response

logger = logging.getLogger("wardgate.upstreams")

_CLOSE_S: Final = 2.0
_FEED_S: Final = 10.0  # for opening a stream of changes
_HEARD_S: Final = 1.0  # some servers begin that stream only when they have something to say


class HttpPeer:
    def __init__(
        self,
        name: str,
        config: UpstreamConfig,
        *,
        result_bytes: int,
        events: Events,
        credentials: Credentials | None = None,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._name = name
        self._events = events
        self._channel = Channel(
            name, config, events, result_bytes, tls, credentials or Credentials(name, config)
        )
        self._sessions = Sessions(self._open, self._ended)
        self._lanes = Lanes()
        self._number = 0
        self._info: Info | None = None
        self._probing: asyncio.Task[Info] | None = None
        self._feeds: dict[Owner, Feed] = {}
        self._ending: set[asyncio.Task[None]] = set()
        self._last_error = ""

    # ----------------------------------------------------------------------------------------- port

    async def call(self, request: Request, owner: Owner, at: float, dialogue: Dialogue | None) -> Message:
        try:
            message = await self._call(request, owner, at, dialogue)
        except (Declined, BodyTooLarge):
            self._last_error = ""
            raise
        except UpstreamError as error:
            # Our own bounds, and a client that gives up, say nothing about the upstream.
            if error.reason.party is Party.UPSTREAM:
                self._last_error = str(error)
            raise
        self._last_error = ""
        return message

    async def info(self, at: float) -> Info:
        if self._info is not None:
            return self._info
        if self._probing is None:
            self._probing = asyncio.create_task(self._probe(at))
            self._probing.add_done_callback(self._probed)
        return await joined(self._probing, at)

    def status(self) -> Status:
        return Status(
            upstream=self._name,
            transport="http",
            connected=self._info is not None and not self._last_error,
            info=self._info,
            last_error=self._last_error,
            connections=self._channel.pool.open,
        )

    def ended(self, thread: str) -> None:
        for owner, session in self._sessions.of_thread(thread):
            self._sessions.over(owner, session)
            self._ended(owner, session)

    async def close(self) -> None:
        """End legacy sessions where the server answers in time, then close the connections."""
        for feed in self._feeds.values():
            feed.stop()
        self._feeds.clear()
        at = asyncio.get_running_loop().time() + _CLOSE_S
        for session in self._sessions.clear():
            self._delete(session, at)
        await asyncio.gather(*self._ending)
        await self._channel.close()

    # ----------------------------------------------------------------------------------------- eras

    async def _call(self, request: Request, owner: Owner, at: float, dialogue: Dialogue | None) -> Message:
        info = self._info or await self._reach(at)
        if request.method in (SUBSCRIBE, UNSUBSCRIBE):
            return await self._subscription(request, owner, info, at)
        if info.era == "legacy":
            return await self._in_lane(request, owner, info, at, dialogue)
        message = await self._modern(request, owner, at, dialogue)
        # The server was replaced by one of another version, and said so before doing anything: one of the
        # answers after which the same call may be sent again.
        if message.error and message.error_code() == UNSUPPORTED_VERSION:
            self._info = None
            with suppress(NotSent):  # it was sent once, so that is no longer true
                info = await self._reach(at)
                if info.era == "legacy":
                    return await self._in_lane(request, owner, info, at, dialogue)
        return message

    async def _in_lane(
        self, request: Request, owner: Owner, info: Info, at: float, dialogue: Dialogue | None
    ) -> Message:
        owner = self._lanes.take(owner)
        try:
            return await self._in_session(request, owner, info, at, dialogue)
        finally:
            self._lanes.leave(owner)

    async def _in_session(
        self, request: Request, owner: Owner, info: Info, at: float, dialogue: Dialogue | None
    ) -> Message:
        session = await self._sessions.of(owner, at)
        await self._heard(owner, at)
        if request.log_level and request.log_level != session.level and "logging" in info.capabilities:
            await self._set_level(session, request.log_level, at)
        try:
            return await self._legacy(request, session, at, dialogue)
        except Declined as declined:
            # 404 to a session id: the session is over and the request was not looked at (2025-11-25,
            # basic/transports: Session Management). Another answer after which a call is sent again.
            if declined.status != 404 or not session.id:
                raise
            self._lost(owner, session)
            with suppress(NotSent):
                return await self._legacy(request, await self._sessions.of(owner, at), at, dialogue)
            raise

    async def _reach(self, at: float) -> Info:
        """``info`` for a call that is waiting: whatever fails, the call itself was not sent."""
        try:
            return await self.info(at)
        except NotSent:
            raise
        except UpstreamError as error:
            raise NotSent("upstream_unavailable", f"discovery failed: {error}") from None

    async def _probe(self, at: float) -> Info:
        """Ask ``server/discover``; anything but a modern answer leads to ``initialize``."""
        try:
            message = await self._modern(era.DISCOVER, GATEWAY, at, None)
            if era.offered(message.error_json):  # of several servers behind one name, an older one: once more
                message = await self._modern(era.DISCOVER, GATEWAY, at, None)
        except NotSent:
            raise
        except UpstreamError as error:
            # An outage says nothing about the era.
            if error.code in ("upstream_timeout", "upstream_lost"):
                raise
            found = None
        else:
            found = era.discovered(message.result_json) if message.result else None
        if found is None:
            found, session = await self._initialize(GATEWAY, at)
            self._sessions.put(GATEWAY, session)
        else:
            self._sessions.clear()
        self._info = found
        self._last_error = ""
        if wanted_changes(found, (), lists=True):
            feed = self._feed(GATEWAY)
            feed.none = False  # it may be another server than the one that said so
            feed.start()
        return found

    def _probed(self, task: asyncio.Task[Info]) -> None:
        self._probing = None
        if not task.cancelled() and (error := task.exception()) is not None:
            self._last_error = str(error)

    # ------------------------------------------------------------------------------------- requests

    async def _modern(self, request: Request, owner: Owner, at: float, dialogue: Dialogue | None) -> Message:
        self._number += 1
        body = request.encode(self._number, era.stamp(request.capabilities_json, request.log_level))
        headers = mirrored(era.MODERN, request.method, request.name)
        for name, value in request.param_headers:
            headers += f"{name}: {value}\r\n".encode("ascii")
        return await self._ask(owner, request.headers + headers, body, self._number, None, at, dialogue)

    async def _legacy(
        self, request: Request, session: Session, at: float, dialogue: Dialogue | None
    ) -> Message:
        self._number += 1
        body = request.encode(self._number)
        headers = request.headers + session.headers
        return await self._ask(session.owner, headers, body, self._number, session, at, dialogue)

    async def _ask(
        self,
        owner: Owner,
        headers: bytes,
        body: bytes,
        number: int,
        session: Session | None,
        at: float,
        dialogue: Dialogue | None,
    ) -> Message:
        answer = await self._channel.ask(owner, headers, body, number, session, at, dialogue)
        return answer if isinstance(answer, Message) else self._refused(answer, number, session)

    def _refused(self, response: Response, number: int, session: Session | None) -> Message:
        """An HTTP 4xx: the JSON-RPC error in it when there is one, else ``Declined``."""
        if session is not None and session.id and response.status == 404:
            raise Declined(404)
        message = _error_in(response, number)
        code = message.error_code() if message is not None else 0
        # The server may have been replaced by one of the other era: ask again before the next call.
        # Sessions stay until that is certain, or one agent's bad request would end everybody's.
        if response.status in (400, 404, 405) and (session is not None or code not in era.MODERN_CODES):
            self._info = None
        if message is None:
            raise Declined(response.status)
        return message

    # ------------------------------------------------------------------------------------- sessions

    async def _open(self, owner: Owner, at: float) -> Session:
        _, session = await self._initialize(owner, at)
        if owner.capabilities:
            self._feed(owner).start()  # where the server may ask what it asks of no call in particular
        return session

    async def _heard(self, owner: Owner, at: float) -> None:
        """Have the first call wait until what the server asks outside of calls can be heard.

        The official SDKs' servers drop a question, and wait for its answer, when nobody is listening yet.
        """
        feed = self._feeds.get(owner) if owner.capabilities else None
        if feed is None or feed.awaited:
            return
        await feed.wait(min(at, asyncio.get_running_loop().time() + _HEARD_S))
        feed.awaited = True

    async def _initialize(self, owner: Owner, at: float) -> tuple[Info, Session]:
        self._number += 1
        number = self._number
        response = await self._channel.send(owner, b"", era.initialize(owner.capabilities).encode(number), at)
        message = await self._channel.answer(response, number, at)
        if not message.result:
            raise nonsense("initialize was refused")
        info = era.initialized(message.result_json)
        if not response.session.isascii() or not response.session.isprintable():
            raise nonsense("a session id that is no header value")
        headers = f"mcp-protocol-version: {info.version}\r\n"
        if response.session:
            headers += f"mcp-session-id: {response.session}\r\n"
        session = Session(response.session, headers.encode("ascii"), owner)
        await self._channel.tell(owner, session.headers, era.INITIALIZED, at)
        return info, session

    async def _set_level(self, session: Session, level: str, at: float) -> None:
        """A client that is not asked shares its session with the principal's others: the last word counts."""
        session.level = level
        try:
            await self._legacy(jsonrpc.plain("logging/setLevel", {"level": level}), session, at, None)
        except UpstreamError as error:  # log messages are a courtesy, the call is not
            logger.debug("upstream %s: log level not set: %s", self._name, error)

    def _ended(self, owner: Owner, session: Session) -> None:
        """A session is not used any more."""
        feed = self._feeds.pop(owner, None)
        if feed is not None:
            feed.stop()
        if session.id:
            self._delete(session, asyncio.get_running_loop().time() + _CLOSE_S)

    def _delete(self, session: Session, at: float) -> None:
        if session.id:
            task = asyncio.create_task(self._channel.delete(session, at))
            self._ending.add(task)
            task.add_done_callback(self._ending.discard)

    # ------------------------------------------------------------------------------------- changes

    async def _subscription(self, request: Request, owner: Owner, info: Info, at: float) -> Message:
        """``resources/subscribe`` and its opposite, in the server's own era."""
        if request.method == UNSUBSCRIBE and owner not in self._feeds:
            return jsonrpc.EMPTY  # nothing is subscribed here, as after a reload
        feed = self._feed(owner)
        try:
            async with feed.changing:
                if info.era == "legacy":
                    return await self._subscribed_in_session(feed, request, owner, info, at)
                return await self._subscribed_by_listening(feed, request, at)
        finally:
            needed = feed.uris or owner == GATEWAY or (info.era == "legacy" and owner.capabilities)
            if not needed and self._feeds.get(owner) is feed:
                del self._feeds[owner]
                feed.stop()

    async def _subscribed_in_session(
        self, feed: Feed, request: Request, owner: Owner, info: Info, at: float
    ) -> Message:
        if request.method == UNSUBSCRIBE:
            feed.uris.discard(request.name)
            return await self._in_session(request, owner, info, at, None)
        feed.start()  # first, or what changes in between would not be heard
        await feed.wait(min(at, asyncio.get_running_loop().time() + _HEARD_S))
        message = await self._in_session(request, owner, info, at, None)
        if not message.error:
            feed.uris.add(request.name)
        return message

    async def _subscribed_by_listening(self, feed: Feed, request: Request, at: float) -> Message:
        before = set(feed.uris)
        feed.uris ^= {request.name} & before if request.method == UNSUBSCRIBE else {request.name} - before
        if not feed.uris:
            return jsonrpc.EMPTY
        taken = await feed.replace(min(at, asyncio.get_running_loop().time() + _FEED_S))
        if not taken and request.method == SUBSCRIBE:
            feed.uris = before
            raise NotSent("upstream_unavailable", "the subscription was not taken")
        return jsonrpc.EMPTY

    def _feed(self, owner: Owner) -> Feed:
        feed = self._feeds.get(owner)
        if feed is None:
            feed = self._feeds[owner] = Feed(
                lambda opened: self._listen(owner, opened), lambda: self._missed(owner)
            )
        return feed

    def _missed(self, owner: Owner) -> None:
        if owner == GATEWAY:
            self._events.list_changed(self._name)
        for uri in self._feeds[owner].uris if owner in self._feeds else ():
            self._events.updated(self._name, owner, uri)

    def _lost(self, owner: Owner, session: Session) -> None:
        """The server forgot a session, and what was subscribed in it."""
        self._sessions.over(owner, session)
        if owner != GATEWAY and (feed := self._feeds.get(owner)) is not None:
            feed.renew()

    async def _listen(self, owner: Owner, opened: Opened) -> None:
        feed = self._feeds.get(owner)
        if feed is None:
            raise NoFeed  # it was not needed any more
        at = asyncio.get_running_loop().time() + _FEED_S
        info = await self._reach(at)
        if info.era == "legacy":
            session = await self._sessions.of(owner, at)
            try:
                for uri in tuple(feed.uris) if feed.gap else ():  # a new session knows nothing of them
                    await self._legacy(jsonrpc.subscribe(uri), session, at, None)
                await self._channel.listen(session, owner, opened)
            except Declined as declined:
                if declined.status == 404 and session.id:
                    self._sessions.over(owner, session)  # the next attempt opens another
                raise
            return
        wanted = wanted_changes(info, feed.uris, lists=owner == GATEWAY)
        if not wanted:
            raise NoFeed
        self._number += 1
        request = jsonrpc.plain("subscriptions/listen", {"notifications": wanted})
        body = request.encode(self._number, era.stamp())
        headers = mirrored(era.MODERN, request.method, "")
        await self._channel.subscribe(headers, body, owner, opened)


def _error_in(response: Response, number: int) -> Message | None:
    if response.media_type != b"application/json":
        return None
    try:
        message = decode(response.body)
    except UpstreamError:
        return None
    # Servers that refuse before they have read the id answer with null or a word of their own.
    answers = message.id == number or not isinstance(message.id, int)
    return message if message.error and answers else None
