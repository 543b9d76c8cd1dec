"""``wardgate stdio``: JSON-RPC lines on stdin and stdout, streamable HTTP to the gateway.

For clients that can only start a process. The bridge decides nothing: every message goes to the gateway as it
came, so a call takes the same way whether its client speaks HTTP or not. What it keeps is what HTTP needs and
stdio does not have: a session id, and which arguments a tool wants repeated in headers.

Both eras of MCP pass through. In the legacy era the bridge carries the session id, opens the stream for
messages of the server after ``notifications/initialized`` and ends the session on exit. In the modern era
(2026-07-28) each request stands alone, and cancelling one is closing its response.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from typing import Any, Final, NamedTuple

import httpx

from gateway.cli.tool_headers import ToolHeaders
from gateway.upstreams.headers import encode_value
from gateway.upstreams.mcp.sse import EventReader, EventTooLarge

VERSION_KEY: Final = "io.modelcontextprotocol/protocolVersion"
CAPABILITIES_KEY: Final = "io.modelcontextprotocol/clientCapabilities"
MAX_LINE: Final = 16 * 1024 * 1024
IN_FLIGHT: Final = 256
DRAIN_S: Final = 5.0
MAX_PAGES: Final = 200  # of a list of tools that the bridge fetches itself

PARSE_ERROR: Final = -32700
INVALID_REQUEST: Final = -32600
METHOD_NOT_FOUND: Final = -32601
HEADER_MISMATCH: Final = -32020
GATEWAY_UNREACHABLE: Final = 1503  # application codes lie outside JSON-RPC's own range
GATEWAY_REFUSED: Final = 1401
GATEWAY_BAD_ANSWER: Final = 1502

_NAMED: Final = {"tools/call": "name", "prompts/get": "name", "resources/read": "uri"}

Id = str | int
Message = dict[str, Any]
WriteLine = Callable[[bytes], Awaitable[None]]


class _UnderWay(NamedTuple):
    task: asyncio.Task[None]
    modern: bool
    lasting: bool  # a stream of changes: it has no end of its own


class Bridge:
    """One client on stdio, one gateway endpoint."""

    def __init__(self, url: str, key: str, write_line: WriteLine, complain: Callable[[str], None]) -> None:
        """``write_line`` sends one message to the client; ``complain`` tells the person on stderr."""
        self._url = url
        self._write = write_line
        self._complain = complain
        loopback = httpx.URL(url).host in {"127.0.0.1", "localhost", "::1"}
        self._http = httpx.AsyncClient(
            headers={"authorization": f"Bearer {key}", "accept": "application/json, text/event-stream"},
            # The gateway bounds each call by its own deadline; a shorter one here would only hide outcomes.
            timeout=httpx.Timeout(None, connect=10.0),
            limits=httpx.Limits(max_connections=IN_FLIGHT + 2, max_keepalive_connections=16),
            trust_env=not loopback,  # a proxy for the internet cannot reach this machine's loopback
            follow_redirects=False,  # the key goes to the configured address and nowhere else
        )
        self._session = ""
        self._version = ""  # negotiated by ``initialize``; legacy era only
        self._initialize: bytes = b""
        self._renewing = asyncio.Lock()
        self._stream: asyncio.Task[None] | None = None
        self._under_way: dict[Id, _UnderWay] = {}
        self._tools = ToolHeaders()
        self._listing = asyncio.Lock()
        self._slots = asyncio.Semaphore(IN_FLIGHT)

    async def run(self, lines: AsyncIterator[bytes]) -> None:
        """Serve until the client closes its end, then give calls under way a moment to answer."""
        async for line in lines:
            if line.strip():
                await self._accept(line)
        tasks = [each.task for each in self._under_way.values() if not each.lasting]
        if tasks:
            await asyncio.wait(tasks, timeout=DRAIN_S)

    async def close(self) -> None:
        """Drop what is under way and end the session."""
        tasks = [each.task for each in self._under_way.values()]
        if self._stream is not None:
            tasks.append(self._stream)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._session:
            with suppress(httpx.HTTPError):
                await self._http.delete(self._url, headers=self._headers({}), timeout=2.0)
        await self._http.aclose()

    # ------------------------------------------------------------------------ from the client

    async def _accept(self, line: bytes) -> None:
        """Take one line: requests run side by side, everything else keeps its order."""
        try:
            message = json.loads(line)
        except ValueError as error:
            await self._answer_error(None, PARSE_ERROR, f"The line is not valid JSON: {error}.")
            return
        if not isinstance(message, dict):
            await self._answer_error(None, INVALID_REQUEST, "Send one JSON-RPC object a line, no batches.")
            return
        request_id = message.get("id")
        if "method" in message and isinstance(request_id, str | int):
            if message["method"] == "initialize":
                self._initialize = line
                self._session = self._version = ""
                await self._request(request_id, message, line)  # nothing can be sent before its answer
                return
            await self._slots.acquire()
            task = asyncio.create_task(self._slotted(request_id, message, line))
            lasting = message["method"] == "subscriptions/listen"
            self._under_way[request_id] = _UnderWay(task, _version_of(message) != "", lasting)
            return
        if message.get("method") == "notifications/cancelled" and self._cancelled(message):
            return
        await self._send(message, line)
        if message.get("method") == "notifications/initialized" and self._session and self._stream is None:
            self._stream = asyncio.create_task(self._listen())

    def _cancelled(self, message: Message) -> bool:
        """Close the response of a cancelled modern request; the legacy era sends the notification on."""
        params = message.get("params")
        request_id = params.get("requestId") if isinstance(params, dict) else None
        found = self._under_way.get(request_id) if isinstance(request_id, str | int) else None
        if found is None or not found.modern:
            return False
        found.task.cancel()
        return True

    async def _slotted(self, request_id: Id, message: Message, line: bytes) -> None:
        try:
            await self._request(request_id, message, line)
        finally:
            self._slots.release()
            if (found := self._under_way.get(request_id)) and found.task is asyncio.current_task():
                del self._under_way[request_id]

    # ------------------------------------------------------------------------ to the gateway

    async def _request(self, request_id: Id, message: Message, line: bytes) -> None:
        """Send a request and pass on its answer; whatever goes wrong, the client gets exactly one."""
        try:
            session = self._session
            if message["method"] == "tools/call" and _version_of(message):
                name = message["params"].get("name")
                if isinstance(name, str) and not self._tools.knows(name):
                    await self._list_tools(message, name)
            answered = await self._post(request_id, message, line)
            # A restarted gateway does not know the session. It refused before anything became a call, so
            # asking again under a new session cannot do anything twice.
            if not answered and await self._renew(session):
                answered = await self._post(request_id, message, line)
            if not answered:
                text = "The gateway does not know this session any more. Start the client again."
                await self._answer_error(request_id, GATEWAY_REFUSED, text)
        except httpx.ConnectError as error:
            text = f"wardgate cannot be reached at {self._url} ({error}). Nothing was sent."
            self._complain(f"{text} Start it with 'wardgate serve'.")
            await self._answer_error(request_id, GATEWAY_UNREACHABLE, text)
        except (httpx.HTTPError, EventTooLarge) as error:
            text = f"The connection to wardgate broke ({type(error).__name__}); the outcome is unknown."
            self._complain(text)
            await self._answer_error(request_id, GATEWAY_BAD_ANSWER, text)

    async def _list_tools(self, message: Message, name: str = "") -> None:
        """Learn which headers tools want, for a client that has not listed them; ``name`` ends the search."""
        meta = message["params"]["_meta"]
        params: dict[str, Any] = {"_meta": {VERSION_KEY: meta[VERSION_KEY], CAPABILITIES_KEY: {}}}
        async with self._listing:
            for number in range(MAX_PAGES):
                if name and self._tools.knows(name):  # also because another call has just found it
                    return
                asked = {"jsonrpc": "2.0", "id": number, "method": "tools/list", "params": params}
                response = await self._http.post(
                    self._url, content=json.dumps(asked), headers=self._headers(asked)
                )
                answer = _parse(_whole(response))
                cursor = self._tools.learn(answer.get("result")) if answer is not None else None
                if cursor is None:
                    return
                params["cursor"] = cursor

    async def _post(self, request_id: Id, message: Message, line: bytes, again: bool = True) -> bool:
        """Whether the client has been answered; ``False`` only for a session the gateway forgot."""
        request = self._http.build_request("POST", self._url, content=line, headers=self._headers(message))
        response = await self._http.send(request, stream=True)
        try:
            if response.status_code == 200 and _is_stream(response):
                await self._relay_events(request_id, message, response)
                return True
            body = await response.aread()
            answer = _parse(body)
            if response.status_code == 404 and self._session and not _version_of(message):
                error = (answer or {}).get("error")
                if not isinstance(error, dict) or error.get("code") != METHOD_NOT_FOUND:
                    return False
            if again and _mismatched(message, response, answer):
                # A tool wants other headers than when it was listed. It was refused before it became a call.
                await self._list_tools(message)
                return await self._post(request_id, message, line, again=False)
            self._learn(message, answer)
            if answer is None or "method" in answer or not ("result" in answer or "error" in answer):
                await self._answer_error(request_id, *_explain(response, self._url))
                return True
            if message.get("method") == "initialize":
                self._negotiated(response, answer)
            if answer.get("id") != request_id:  # refused before its id was read: say whose it is
                body = json.dumps({**answer, "id": request_id}, ensure_ascii=False).encode()
            await self._write(_one_line(body))
            return True
        finally:
            await response.aclose()

    async def _relay_events(self, request_id: Id, message: Message, response: httpx.Response) -> None:
        async for data in _events(response):
            event = _parse(data)
            if event is None:
                continue
            if message.get("method") == "initialize" and "result" in event:
                self._negotiated(response, event)
            self._learn(message, event)
            await self._write(_one_line(data))
            if event.get("id") == request_id and "method" not in event:
                return
        text = "The gateway closed the stream before the answer; the outcome is unknown."
        await self._answer_error(request_id, GATEWAY_BAD_ANSWER, text)

    async def _send(self, message: Message, line: bytes) -> None:
        """Send a notification or an answer to the server; there is nobody to tell but the person."""
        try:
            response = await self._http.post(self._url, content=line, headers=self._headers(message))
        except httpx.HTTPError as error:
            self._complain(f"a notification was lost: {error}")
            return
        if response.status_code >= 400:
            self._complain(f"a notification was refused with HTTP {response.status_code}")

    async def _listen(self) -> None:
        """Pass on what the server sends by itself, for as long as the session lives."""
        while True:
            with suppress(httpx.HTTPError, EventTooLarge):
                session = self._session
                request = self._http.build_request("GET", self._url, headers=self._headers({}))
                response = await self._http.send(request, stream=True)
                try:
                    if response.status_code == 404 and await self._renew(session):
                        continue  # a restarted gateway does not know the session
                    if response.status_code != 200:
                        return  # the gateway offers no such stream, which is its right
                    async for data in _events(response):
                        if _parse(data) is not None:
                            await self._write(_one_line(data))
                finally:
                    await response.aclose()
            await asyncio.sleep(1.0)

    async def _renew(self, stale: str) -> bool:
        """Repeat the client's own handshake, once for all requests that met the forgotten session."""
        async with self._renewing:
            if self._session != stale:
                return bool(self._session)
            self._session = ""
            message = json.loads(self._initialize)
            response = await self._http.post(
                self._url, content=self._initialize, headers=self._headers(message)
            )
            answer = _parse(_whole(response))
            if response.status_code != 200 or answer is None or "result" not in answer:
                return False
            self._negotiated(response, answer)
            note = b'{"jsonrpc":"2.0","method":"notifications/initialized"}'
            await self._send({"method": "notifications/initialized"}, note)
            if self._session and self._stream is not None and self._stream.done():
                self._stream = asyncio.create_task(self._listen())
            return bool(self._session)

    # ------------------------------------------------------------------------ small things

    def _headers(self, message: Message) -> dict[str, str]:
        """Protocol headers for one message. In the modern era they must repeat the body."""
        headers = {"content-type": "application/json"}
        modern = _version_of(message)
        if modern:
            headers["mcp-protocol-version"] = modern
            headers["mcp-method"] = str(message.get("method", ""))
            name = message["params"].get(_NAMED.get(message.get("method", ""), ""))
            if isinstance(name, str):
                headers["mcp-name"] = encode_value(name)
            if message.get("method") == "tools/call":
                headers |= self._tools.of(message["params"])
            return headers
        if self._session:
            headers["mcp-session-id"] = self._session
        if self._version and message.get("method") != "initialize":
            headers["mcp-protocol-version"] = self._version
        return headers

    def _learn(self, message: Message, answer: Message | None) -> None:
        if answer is not None and message.get("method") == "tools/list" and _version_of(message):
            self._tools.learn(answer.get("result"))

    def _negotiated(self, response: httpx.Response, answer: Message) -> None:
        self._session = response.headers.get("mcp-session-id", "")
        result = answer.get("result")
        self._version = str(result.get("protocolVersion", "")) if isinstance(result, dict) else ""

    async def _answer_error(self, request_id: Id | None, code: int, text: str) -> None:
        error = {"jsonrpc": "2.0", "id": request_id, "error": {"code": code, "message": text}}
        await self._write(json.dumps(error, ensure_ascii=False).encode())


def _version_of(message: Message) -> str:
    """The modern protocol version a request names in its ``_meta``, or an empty string."""
    params = message.get("params")
    meta = params.get("_meta") if isinstance(params, dict) else None
    version = meta.get(VERSION_KEY) if isinstance(meta, dict) else None
    return version if isinstance(version, str) else ""


def _mismatched(message: Message, response: httpx.Response, answer: Message | None) -> bool:
    """Whether a modern call was refused for the headers that the bridge has written."""
    if response.status_code != 400 or message.get("method") != "tools/call" or not _version_of(message):
        return False
    error = (answer or {}).get("error")
    return isinstance(error, dict) and error.get("code") == HEADER_MISMATCH


def _is_stream(response: httpx.Response) -> bool:
    kind: str = response.headers.get("content-type", "")
    return kind.partition(";")[0].strip().lower() == "text/event-stream"


def _whole(response: httpx.Response) -> bytes:
    """The one message of an answer that has been read, in either form."""
    return (
        (EventReader(MAX_LINE).feed(response.content) or [b""])[-1]
        if _is_stream(response)
        else response.content
    )


async def _events(response: httpx.Response) -> AsyncIterator[bytes]:
    """The messages of an event stream, as they come."""
    reader = EventReader(MAX_LINE)
    async for chunk in response.aiter_bytes():
        for event in reader.feed(chunk):
            yield event


def _parse(data: bytes) -> Message | None:
    try:
        value = json.loads(data)
    except ValueError:
        return None
    return value if isinstance(value, dict) else None


def _one_line(data: bytes) -> bytes:
    """The same JSON on one line: a raw line end can only stand between tokens."""
    return data.replace(b"\r", b" ").replace(b"\n", b" ")


def _explain(response: httpx.Response, url: str) -> tuple[int, str]:
    """What an answer that is no JSON-RPC means."""
    if response.status_code in (401, 403):
        text = "wardgate refused the key. Ask an operator for a valid one: 'wardgate keys new'."
        return GATEWAY_REFUSED, text
    if response.status_code == 404:
        return GATEWAY_REFUSED, f"There is no MCP endpoint at {url}. It is usually …/mcp."
    return GATEWAY_BAD_ANSWER, f"wardgate answered HTTP {response.status_code} without a JSON-RPC message."
