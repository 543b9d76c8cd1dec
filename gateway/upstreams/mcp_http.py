"""An MCP server over streamable HTTP, of either era behind one interface.

One POST per request; the answer is JSON or an event stream of which only the event with the request's id
is the answer. Nothing of the agent's own request headers comes near here: what authenticates the gateway
upstream is configured, and the agent's token is never passed on.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections import OrderedDict
from contextlib import suppress
from typing import Final

import msgspec

from gateway.config import UpstreamConfig, expand
from gateway.errors import InDoubt, NotSent, UpstreamError
from gateway.ports import Emit
from gateway.reasons import Party
from gateway.upstreams import era
from gateway.upstreams.credentials import Credentials
from gateway.upstreams.era import Info
from gateway.upstreams.headers import configured, mirrored
from gateway.upstreams.jsonrpc import (
    UNSUPPORTED_VERSION,
    Declined,
    Message,
    Request,
    Unauthorized,
    begins_as_answer,
    decode,
    nonsense,
    refused,
)
from gateway.upstreams.peer import GATEWAY, ListChanged, Owner, Status, is_list_changed, joined, pass_on
from gateway.upstreams.pool import Pool
from gateway.upstreams.sse import EventReader, EventTooLarge
from gateway.upstreams.wire import BodyTooLarge, Response, Stream

logger = logging.getLogger("wardgate.upstreams")

MAX_SESSIONS: Final = 1024  # legacy sessions held at once, one an owner
MAX_REFUSING: Final = 16  # requests of upstreams being refused at once; more are left unanswered
_CLOSE_S: Final = 2.0
_ENVELOPE_BYTES: Final = 4096  # what an answer may add around its result


class Session(msgspec.Struct, frozen=True):
    """A legacy session: what its requests say in their headers."""

    id: str  # "" with a server that keeps none
    headers: bytes
    owner: Owner = GATEWAY


class HttpPeer:
    def __init__(
        self,
        name: str,
        config: UpstreamConfig,
        *,
        result_bytes: int,
        list_changed: ListChanged,
        credentials: Credentials | None = None,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        assert config.url is not None
        self._name = name
        self._list_changed = list_changed
        self._max_bytes = result_bytes + _ENVELOPE_BYTES
        self._pool = Pool(config.url, connections=config.connections, body_bytes=self._max_bytes, tls=tls)
        where = f"upstreams.{name}.headers"
        headers = {key: expand(value, f"{where}.{key}") for key, value in config.headers.items()}
        self._fixed = b"%b HTTP/1.1\r\nhost: %b\r\naccept-encoding: identity\r\n%b" % (
            self._pool.path.encode(),
            self._pool.authority.encode(),
            configured(headers, where),
        )
        self._post = (
            b"POST "
            + self._fixed
            + b"accept: application/json, text/event-stream\r\ncontent-type: application/json\r\n"
        )
        self._credentials = credentials or Credentials(name, config)
        self._number = 0
        self._info: Info | None = None
        self._probing: asyncio.Task[Info] | None = None
        self._sessions: OrderedDict[Owner, Session] = OrderedDict()
        self._opening: dict[Owner, asyncio.Task[Session]] = {}
        self._refusing: set[asyncio.Task[None]] = set()
        self._last_error = ""

    # ----------------------------------------------------------------------------------------- port

    async def call(self, request: Request, owner: Owner, at: float, emit: Emit | None) -> Message:
        try:
            message = await self._call(request, owner, at, emit)
        except (Declined, BodyTooLarge):
            self._last_error = ""
            raise
        except UpstreamError as error:
            if error.reason.party is Party.UPSTREAM:  # our own bounds and secrets say nothing about it
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
            connections=self._pool.open,
        )

    async def close(self) -> None:
        """End legacy sessions where the server answers in time, then close the connections."""
        at = asyncio.get_running_loop().time() + _CLOSE_S
        ending = [self._end(session, at) for session in self._sessions.values() if session.id]
        self._sessions.clear()
        for task in self._refusing:
            task.cancel()
        await asyncio.gather(*ending)
        await self._pool.close()

    # ----------------------------------------------------------------------------------------- eras

    async def _call(self, request: Request, owner: Owner, at: float, emit: Emit | None) -> Message:
        info = self._info or await self._reach(at)
        if info.era == "legacy":
            return await self._in_session(request, owner, at, emit)
        message = await self._modern(request, owner, at, emit)
        # The server was replaced by one of another version, and said so before doing anything: one of the
        # answers after which the same call may be sent again.
        if message.error and message.error_code() == UNSUPPORTED_VERSION:
            self._info = None
            with suppress(NotSent):  # it was sent once, so that is no longer true
                if (await self._reach(at)).era == "legacy":
                    return await self._in_session(request, owner, at, emit)
        return message

    async def _in_session(self, request: Request, owner: Owner, at: float, emit: Emit | None) -> Message:
        session = await self._session(owner, at)
        try:
            return await self._legacy(request, session, at, emit)
        except Declined as declined:
            # 404 to a session id: the session is over and the request was not looked at (2025-11-25,
            # basic/transports: Session Management). Another answer after which a call is sent again.
            if declined.status != 404 or not session.id:
                raise
            if self._sessions.get(owner) is session:
                del self._sessions[owner]
            with suppress(NotSent):
                return await self._legacy(request, await self._session(owner, at), at, emit)
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
            before = self._sessions.pop(GATEWAY, None)
            self._sessions[GATEWAY] = session
            if before is not None and before.id:
                await self._end(before, at)
        else:
            self._sessions.clear()
        self._info = found
        self._last_error = ""
        return found

    def _probed(self, task: asyncio.Task[Info]) -> None:
        self._probing = None
        if not task.cancelled() and (error := task.exception()) is not None:
            self._last_error = str(error)

    async def _modern(self, request: Request, owner: Owner, at: float, emit: Emit | None) -> Message:
        headers = mirrored(era.MODERN, request.method, request.name)
        for name, value in request.param_headers:
            headers += f"{name}: {value}\r\n".encode("ascii")
        return await self._exchange(request, headers, owner, None, at, emit)

    async def _legacy(self, request: Request, session: Session, at: float, emit: Emit | None) -> Message:
        return await self._exchange(request, session.headers, session.owner, session, at, emit)

    # ------------------------------------------------------------------------------------- sessions

    async def _session(self, owner: Owner, at: float) -> Session:
        """The owner's session, opened when there is none; concurrent calls open one together."""
        session = self._sessions.get(owner)
        if session is not None:
            self._sessions.move_to_end(owner)
            return session
        task = self._opening.get(owner)
        if task is None:
            task = self._opening[owner] = asyncio.create_task(self._open(owner, at))
            task.add_done_callback(lambda done: self._opened(owner, done))
        try:
            return await joined(task, at)
        except NotSent:
            raise
        except UpstreamError as error:
            raise NotSent("upstream_unavailable", f"initialize failed: {error}") from None

    async def _open(self, owner: Owner, at: float) -> Session:
        _, session = await self._initialize(owner, at)
        self._sessions[owner] = session
        while len(self._sessions) > MAX_SESSIONS:
            _, oldest = self._sessions.popitem(last=False)
            if oldest.id:
                await self._end(oldest, at)
        return session

    def _opened(self, owner: Owner, task: asyncio.Task[Session]) -> None:
        self._opening.pop(owner, None)
        if not task.cancelled():
            task.exception()  # whoever waited has it; nobody may have

    async def _initialize(self, owner: Owner, at: float) -> tuple[Info, Session]:
        self._number += 1
        number = self._number
        response = await self._send(owner, b"", era.INITIALIZE.encode(number), at)
        message = await self._answer(response, number, None, at, None)
        if not message.result:
            raise nonsense("initialize was refused")
        info = era.initialized(message.result_json)
        if not response.session.isascii() or not response.session.isprintable():
            raise nonsense("a session id that is no header value")
        headers = f"mcp-protocol-version: {info.version}\r\n"
        if response.session:
            headers += f"mcp-session-id: {response.session}\r\n"
        session = Session(response.session, headers.encode("ascii"), owner)
        accepted = await self._send(owner, session.headers, era.INITIALIZED, at)
        if accepted.stream is not None:
            accepted.stream.abort()
        return info, session

    async def _end(self, session: Session, at: float) -> None:
        try:
            headers = self._credentials.headers(session.owner) + session.headers
            request = b"DELETE %b%bcontent-length: 0\r\n\r\n" % (self._fixed, headers)
            await self._pool.exchange(request, at)
        except UpstreamError as error:
            logger.debug("upstream %s: session not ended: %s", self._name, error)

    # ------------------------------------------------------------------------------------- exchange

    async def _exchange(
        self,
        request: Request,
        headers: bytes,
        owner: Owner,
        session: Session | None,
        at: float,
        emit: Emit | None,
    ) -> Message:
        """One request and its answer; ``session`` is ``None`` in the modern era."""
        self._number += 1
        number = self._number
        body = request.encode(number, era.STAMP if session is None else b"")
        response = await self._send(owner, request.headers + headers, body, at)
        if _declines(response.status):
            return self._refused(response, number, session)
        return await self._answer(response, number, session, at, emit)

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

    async def _send(self, owner: Owner, headers: bytes, body: bytes, at: float) -> Response:
        credential = self._credentials.headers(owner)
        request = b"%b%b%bcontent-length: %d\r\n\r\n%b"
        response = await self._pool.exchange(request % (self._post, credential, headers, len(body), body), at)
        if response.status != 401 or not self._credentials.given:
            return response
        if response.stream is not None:
            response.stream.abort()
        # 401 says that the request was not applied for want of a valid credential (RFC 9110, 15.5.2): the
        # last of the answers after which a call is sent again, once, and only with another credential.
        if await self._credentials.renewed(owner, credential, at):
            with suppress(NotSent):  # it was sent once, so that is no longer true
                credential = self._credentials.headers(owner)
                response = await self._pool.exchange(
                    request % (self._post, credential, headers, len(body), body), at
                )
        if response.status == 401:
            raise Unauthorized()
        return response

    async def _answer(
        self, response: Response, number: int, session: Session | None, at: float, emit: Emit | None
    ) -> Message:
        """The one message that answers request ``number``."""
        if response.stream is not None:
            return await self._answer_in(response.stream, number, session, at, emit)
        if response.status == 200 and response.media_type == b"application/json":
            message = decode(response.body)
            if message.method is not None or message.id != number:
                raise nonsense("an answer to a request that was not asked")
            return message
        if _declines(response.status):
            raise Declined(response.status)
        raise nonsense(f"HTTP {response.status} with {response.media_type[:80]!r}")

    async def _answer_in(
        self, stream: Stream, number: int, session: Session | None, at: float, emit: Emit | None
    ) -> Message:
        """Read events up to the answer; notifications before it go to ``emit``, in order."""
        reader = EventReader(self._max_bytes)
        try:
            while chunk := await stream.read():
                for data in reader.feed(chunk):
                    message = decode(data)
                    if message.method is None:
                        if message.id != number:
                            raise nonsense("an answer to a request that was not asked")
                        stream.leave()
                        return message
                    if message.id is not None:
                        self._asked(message, session, at)
                    elif is_list_changed(message):
                        self._list_changed(self._name)
                    elif emit is not None:
                        await pass_on(emit, data, at)
        except EventTooLarge as large:
            if begins_as_answer(large.beginning):
                raise BodyTooLarge(large.code, large.detail) from None
            raise nonsense(large.detail) from None
        finally:
            stream.abort()
        raise InDoubt("upstream_lost", "the stream ended without an answer")

    def _asked(self, message: Message, session: Session | None, at: float) -> None:
        """A request to the client: no capability was declared that would permit one, so it is refused."""
        if session is None or len(self._refusing) >= MAX_REFUSING:
            return
        task = asyncio.create_task(self._refuse(refused(message), session, at))
        self._refusing.add(task)
        task.add_done_callback(self._refusing.discard)

    async def _refuse(self, answer: bytes, session: Session, at: float) -> None:
        try:
            accepted = await self._send(session.owner, session.headers, answer, at)
        except UpstreamError as error:
            logger.debug("upstream %s: refusal not delivered: %s", self._name, error)
        else:
            if accepted.stream is not None:
                accepted.stream.abort()


def _declines(status: int) -> bool:
    """A 4xx says that the request was not carried out; 408 only that the server lost patience with it."""
    return 400 <= status < 500 and status != 408


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
