"""One request to an MCP server over streamable HTTP and the one message that answers it.

Every answer is JSON or an event stream of which only the event with the request's id is the answer. What else
comes on the stream belongs to the client of the call (notifications, questions) or to the gateway (changes of
lists). Streams that are only listened to have connections of their own, since they last; and so has what is
said in the middle of a call, or calls that hold all connections would wait for answers that wait for one.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
from contextlib import suppress
from functools import partial
from typing import Final

from gateway.config import expand
from gateway.config_upstream import UpstreamConfig
from gateway.errors import InDoubt, NotSent, UpstreamError
from gateway.ports import Dialogue
from gateway.upstreams import jsonrpc
from gateway.upstreams.headers import configured
from gateway.upstreams.jsonrpc import Declined, Message, Unauthorized, begins_as_answer, decode, nonsense
from gateway.upstreams.mcp.feeds import NoFeed, Opened
from gateway.upstreams.mcp.questions import Questions
from gateway.upstreams.mcp.sessions import Session
from gateway.upstreams.mcp.sse import EventReader, EventTooLarge
from gateway.upstreams.peer import Events, Owner, is_list_changed, pass_on, updated_uri
from gateway.upstreams.pool import Pool
from gateway.upstreams.secrets.credentials import Credentials
from gateway.upstreams.wire import BodyTooLarge, Hold, Response, Stream

logger = logging.getLogger("wardgate.upstreams")

CANCEL_GRACE_S: Final = 2.0
"""Time a legacy server has, once it knows that a call is cancelled, to say what became of it."""

RESUMED: Final = 100
"""Streams one answer may be spread over."""

LISTEN_S: Final = 3600.0  # after which a stream of changes is opened anew, should its end have been lost
EVENT_ID_BYTES: Final = 1024  # of an id that is sent back to resume a stream
ASIDE: Final = 2048
_REPLY_S: Final = 10.0
_ENVELOPE_BYTES: Final = 4096  # what an answer may add around its result


class Channel:
    """The HTTP of one upstream; knows nothing of eras but what a ``Session`` says."""

    def __init__(
        self,
        name: str,
        config: UpstreamConfig,
        events: Events,
        result_bytes: int,
        tls: ssl.SSLContext | None,
        credentials: Credentials,
    ) -> None:
        assert config.url is not None
        self._name = name
        self._events = events
        self._credentials = credentials
        self._max_bytes = result_bytes + _ENVELOPE_BYTES
        self.pool = Pool(config.url, connections=config.connections, body_bytes=self._max_bytes, tls=tls)
        self._aside = Pool(config.url, connections=ASIDE, body_bytes=self._max_bytes, tls=tls)
        where = f"upstreams.{name}.headers"
        headers = {key: expand(value, f"{where}.{key}") for key, value in config.headers.items()}
        self._fixed = b"%b HTTP/1.1\r\nhost: %b\r\naccept-encoding: identity\r\n%b" % (
            self.pool.path.encode(),
            self.pool.authority.encode(),
            configured(headers, where),
        )
        self._post = (
            b"POST "
            + self._fixed
            + b"accept: application/json, text/event-stream\r\ncontent-type: application/json\r\n"
        )
        self._tasks: set[asyncio.Task[None]] = set()

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await self._aside.close()
        await self.pool.close()

    # ------------------------------------------------------------------------------------- sending

    async def send(
        self,
        owner: Owner,
        headers: bytes,
        body: bytes,
        at: float,
        hold: Hold | None = None,
        pool: Pool | None = None,
    ) -> Response:
        """Send one POST with the owner's credential; ``pool`` is the one of the calls unless given."""
        pool = pool or self.pool
        credential = self._credentials.headers(owner)
        response = await pool.exchange(self._request(credential, headers, body), at, hold)
        if response.status != 401 or not self._credentials.given:
            return response
        if response.stream is not None:
            response.stream.abort()
        # 401 says that the request was not applied for want of a valid credential (RFC 9110, 15.5.2): the
        # last of the answers after which a call is sent again, once, and only with another credential.
        if await self._credentials.renewed(owner, credential, at):
            with suppress(NotSent):  # it was sent once, so that is no longer true
                credential = self._credentials.headers(owner)
                response = await pool.exchange(self._request(credential, headers, body), at, hold)
        if response.status == 401:
            raise Unauthorized()
        return response

    def _request(self, credential: bytes, headers: bytes, body: bytes) -> bytes:
        return b"%b%b%bcontent-length: %d\r\n\r\n%b" % (self._post, credential, headers, len(body), body)

    async def tell(self, owner: Owner, headers: bytes, body: bytes, at: float | None = None) -> None:
        """Send a notification, or an answer to a question; nothing is said in return."""
        if at is None:
            at = asyncio.get_running_loop().time() + _REPLY_S
        accepted = await self.send(owner, headers, body, at, pool=self._aside)
        if accepted.stream is not None:
            accepted.stream.abort()

    async def delete(self, session: Session, at: float) -> None:
        """End a legacy session, if the server wants to know."""
        try:
            headers = self._credentials.headers(session.owner) + session.headers
            await self.pool.exchange(b"DELETE %b%bcontent-length: 0\r\n\r\n" % (self._fixed, headers), at)
        except UpstreamError as error:
            logger.debug("upstream %s: session not ended: %s", self._name, error)

    # ------------------------------------------------------------------------------------- a request

    async def ask(
        self,
        owner: Owner,
        headers: bytes,
        body: bytes,
        number: int,
        session: Session | None,
        at: float,
        dialogue: Dialogue | None,
    ) -> Response | Message:
        """The answer to request ``number``; a ``Response`` when it is an HTTP 4xx.

        ``session`` is ``None`` in the modern era, where a server asks nothing and ending the exchange is what
        cancels a call. A legacy server is told, and given time to say what became of it.
        """
        hold = Hold(dialogue is None or dialogue.severable)
        questions = None
        if session is not None:
            questions = Questions(dialogue, at, hold.rearm, partial(self.tell, owner, headers))
            session.running.append(questions)
        if dialogue is not None:
            dialogue.hook = hold.cancel if session is None else partial(self._cancel, number, session, hold)
            if dialogue.cancelled:  # before the hook was there
                hold.cancel()
        try:
            response = await self.send(owner, headers, body, at, hold)
            if declines(response.status):
                return response
            return await self.answer(response, number, at, dialogue, questions, session, hold)
        finally:
            hold.drop()
            if dialogue is not None:
                dialogue.hook = None
            if session is not None and questions is not None:
                questions.close()
                session.running.remove(questions)

    def _cancel(self, number: int, session: Session, hold: Hold) -> None:
        if not hold.sent:
            hold.cancel()
            return
        task = asyncio.ensure_future(self._cancel_in(session, number, hold))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _cancel_in(self, session: Session, number: int, hold: Hold) -> None:
        params: dict[str, object] = {"requestId": number, "reason": "given up by the client"}
        end = asyncio.get_running_loop().time() + CANCEL_GRACE_S
        try:
            note = jsonrpc.notification("notifications/cancelled", params)
            await self.tell(session.owner, session.headers, note, end)
        except UpstreamError as error:
            logger.debug("upstream %s: cancellation not delivered: %s", self._name, error)
        await asyncio.sleep(end - asyncio.get_running_loop().time())
        hold.cancel()

    async def answer(
        self,
        response: Response,
        number: int,
        at: float,
        dialogue: Dialogue | None = None,
        questions: Questions | None = None,
        session: Session | None = None,
        hold: Hold | None = None,
    ) -> Message:
        """The one message that answers request ``number``."""
        if response.stream is not None:
            return await self._answer_in(response.stream, number, at, dialogue, questions, session, hold)
        if response.status == 200 and response.media_type == b"application/json":
            message = decode(response.body)
            if message.method is not None or message.id != number:
                raise nonsense("an answer to a request that was not asked")
            return message
        if declines(response.status):
            raise Declined(response.status)
        raise nonsense(f"HTTP {response.status} with {response.media_type[:80]!r}")

    async def _answer_in(
        self,
        stream: Stream,
        number: int,
        at: float,
        dialogue: Dialogue | None,
        questions: Questions | None,
        session: Session | None,
        hold: Hold | None,
    ) -> Message:
        """Read streams up to the answer.

        A legacy server that numbers its events may close the stream and keep the answer for a client that
        comes back (2025-11-25, basic/transports: Resumability). Nothing is sent again by that.
        """
        reader = EventReader(self._max_bytes)
        for _ in range(RESUMED):
            lost = InDoubt("upstream_lost", "the stream ended without an answer")
            try:
                message = await self._read(stream, reader, number, at, dialogue, questions, session)
                if message is not None:
                    return message
            except InDoubt as error:
                if error.code != "upstream_lost":
                    raise
                lost = error
            if not reader.last_id or session is None:
                raise lost
            by = questions.at if questions is not None else at
            stream = await self._resumed(session, reader, by, hold, lost)
            reader = EventReader(self._max_bytes, reader.last_id)
        raise InDoubt("upstream_lost", "the stream ended too often")

    async def _resumed(
        self, session: Session, reader: EventReader, at: float, hold: Hold | None, lost: InDoubt
    ) -> Stream:
        """The stream that goes on where another one ended; raises ``lost`` when there is none."""
        shown = reader.last_id.isascii() and reader.last_id.decode().isprintable()
        if not shown or len(reader.last_id) > EVENT_ID_BYTES:
            raise lost  # it would not survive a header
        left = at - asyncio.get_running_loop().time()
        await asyncio.sleep(min(reader.retry_s, max(0.0, left)))
        if reader.retry_s >= left:
            raise InDoubt(
                "upstream_timeout", "the server wants to be asked for the answer after the deadline"
            )
        try:
            headers = self._credentials.headers(session.owner) + session.headers
            request = b"GET %baccept: text/event-stream\r\nlast-event-id: %b\r\n%b\r\n" % (
                self._fixed,
                reader.last_id,
                headers,
            )
            response = await self._aside.exchange(request, at, hold)
        except NotSent as error:  # the call itself was sent, whatever becomes of this request
            raise (hold.fault if hold is not None and hold.fault is not None else lost) from error
        if response.stream is None:
            raise lost
        return response.stream

    async def _read(
        self,
        stream: Stream,
        reader: EventReader,
        number: int,
        at: float,
        dialogue: Dialogue | None,
        questions: Questions | None,
        session: Session | None,
    ) -> Message | None:
        """Events up to the answer; notifications before it go to the client, in order."""
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
                        if questions is not None:
                            questions.put(message)
                    elif is_list_changed(message):
                        self._events.list_changed(self._name)
                    elif session is not None and (uri := updated_uri(message)):
                        self._events.updated(self._name, session.owner, uri)
                    elif dialogue is not None:
                        await pass_on(dialogue, data, at if questions is None else questions.at)
        except EventTooLarge as large:
            if begins_as_answer(large.beginning):
                raise BodyTooLarge(large.code, large.detail) from None
            raise nonsense(large.detail) from None
        finally:
            stream.abort()
        return None

    # ------------------------------------------------------------------------------------- listening

    async def listen(self, session: Session, owner: Owner, opened: Opened) -> None:
        """Hear what a legacy server says outside of calls, until the stream ends."""
        at = asyncio.get_running_loop().time() + LISTEN_S
        headers = self._credentials.headers(session.owner) + session.headers
        request = b"GET %baccept: text/event-stream\r\n%b\r\n" % (self._fixed, headers)
        response = await self._aside.exchange(request, at)
        if response.stream is None:
            if response.status == 404 and session.id:
                raise Declined(404)  # the session is over
            raise no_stream(response)
        opened()
        await self._hear(response.stream, owner, session)

    async def subscribe(self, headers: bytes, body: bytes, owner: Owner, opened: Opened) -> None:
        """Hear what a modern server says of changes, until the stream ends (``subscriptions/listen``)."""
        at = asyncio.get_running_loop().time() + LISTEN_S
        credential = self._credentials.headers(owner)
        response = await self._aside.exchange(self._request(credential, headers, body), at)
        if response.stream is None:
            raise no_stream(response)
        await self._hear(response.stream, owner, None, opened)

    async def _hear(
        self, stream: Stream, owner: Owner, session: Session | None, opened: Opened | None = None
    ) -> None:
        """``opened`` is called with the first message, which acknowledges a modern subscription."""
        reader = EventReader(self._max_bytes)
        try:
            while chunk := await stream.read():
                for data in reader.feed(chunk):
                    message = decode(data)
                    if message.method is None:
                        if message.error:
                            raise NoFeed
                        return  # the server ends it in good order
                    if opened is not None:
                        opened()
                        opened = None
                    if is_list_changed(message):
                        self._events.list_changed(self._name)
                    elif uri := updated_uri(message):
                        self._events.updated(self._name, owner, uri)
                    elif session is not None:
                        await self._stray(session, message, data)
        except EventTooLarge as large:
            raise nonsense(large.detail) from None
        finally:
            stream.abort()

    async def _stray(self, session: Session, message: Message, data: bytes) -> None:
        """Something for the client that does not say for which call: the oldest one under way carries it."""
        running = session.running[0] if session.running else None
        if message.id is None:
            if running is not None and running.dialogue is not None:
                await pass_on(running.dialogue, data, running.at)
        elif running is not None:
            running.put(message)
        else:
            await self.tell(session.owner, session.headers, jsonrpc.refused(message))


def no_stream(response: Response) -> Exception:
    """What an answer without a stream says: that there is none, or only that there is none at the moment."""
    final = response.status < 500 or response.status == 501
    if final and response.status not in (408, 425, 429):
        return NoFeed()
    return InDoubt("upstream_unavailable", f"HTTP {response.status}")


def declines(status: int) -> bool:
    """A 4xx says that the request was not carried out; 408 only that the server lost patience with it."""
    return 400 <= status < 500 and status != 408
