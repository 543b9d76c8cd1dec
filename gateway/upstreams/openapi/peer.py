"""An HTTP API as an upstream: its OpenAPI document says what there is, the configured URL where it is.

The document is a local file of the operator. ``servers`` in it are not looked at: a document says what an
API can do, never where requests and their credentials go. It is read off the event loop, and again when it
changed and the lists are asked for; a new one that cannot be used leaves the last good one in force.

Requests go out through the pool and the strict client of the MCP upstreams, so the rules on redirects,
proxies, compression, sizes and deadlines, and what is said to be sent, are the same.
"""

from __future__ import annotations

import asyncio
import logging
import re
from contextlib import suppress
from typing import Final
from urllib.parse import urlsplit

import msgspec
import orjson

from gateway import __version__
from gateway.config import expand
from gateway.config_upstream import UpstreamConfig
from gateway.errors import ConfigError, NotSent, UpstreamError
from gateway.model import Json
from gateway.ports import Dialogue
from gateway.reasons import Party
from gateway.upstreams.headers import configured
from gateway.upstreams.jsonrpc import METHOD_NOT_FOUND, Message, Request, Unauthorized
from gateway.upstreams.mcp import era
from gateway.upstreams.mcp.era import Info
from gateway.upstreams.openapi import document as openapi_document
from gateway.upstreams.openapi import operations as openapi_operations
from gateway.upstreams.openapi import request as openapi_request
from gateway.upstreams.openapi import response as openapi_response
from gateway.upstreams.openapi.document import BadDocument
from gateway.upstreams.openapi.operations import Api
from gateway.upstreams.peer import Owner, Status, Unusable, joined
from gateway.upstreams.pool import Pool
from gateway.upstreams.secrets.credentials import Credentials
from gateway.upstreams.wire import BodyTooLarge, Hold, Response

logger = logging.getLogger("wardgate.upstreams")

INVALID_PARAMS: Final = -32602
_TRACE: Final = re.compile(r"[0-9a-f-]{55}")
_SHOWN: Final = 20  # problems of a document that are logged


class OpenApiPeer:
    def __init__(
        self,
        name: str,
        config: UpstreamConfig,
        *,
        result_bytes: int,
        credentials: Credentials | None = None,
    ) -> None:
        assert config.url is not None and config.openapi is not None
        self._name = name
        self._path = config.openapi
        self._max_bytes = result_bytes
        if not self._path.is_file():
            raise ConfigError(f"upstreams.{name}.openapi: there is no file {self._path}")
        parts = urlsplit(config.url)
        if parts.query or parts.fragment:
            raise ConfigError(f"upstreams.{name}.url: the base of an API has no '?' and no '#'")
        self._pool = Pool(
            config.url,
            connections=config.connections,
            body_bytes=result_bytes,
            private=config.allow_private,
        )
        self._base = self._pool.path.rstrip("/")
        where = f"upstreams.{name}.headers"
        headers = {key: expand(value, f"{where}.{key}") for key, value in config.headers.items()}
        self._credentials = credentials or Credentials(name, config)
        self._own_headers = frozenset(
            (*map(str.lower, headers), config.credentials.header.lower(), "wardgate-assertion")
        )
        if "user-agent" not in self._own_headers:  # some APIs refuse requests without
            headers["user-agent"] = f"wardgate/{__version__}"
        self._fixed = b"host: %b\r\naccept-encoding: identity\r\n%b" % (
            self._pool.authority.encode(),
            configured(headers, where),
        )
        self._api: Api | None = None
        self._read_state: object = None
        self._loading: asyncio.Task[Info] | None = None
        self._info: Info | None = None
        self._fault = ""  # of the document as it is on disk
        self._last_error = ""

    # ----------------------------------------------------------------------------------------- port

    async def call(self, request: Request, owner: Owner, at: float, dialogue: Dialogue | None) -> Message:
        if request.method == "tools/list":
            await self._load(at)
            return self._list()
        if self._api is None:
            await self.info(at)
        if request.method != "tools/call":
            return _error(METHOD_NOT_FOUND, "Method not found")
        return await self._call(request, owner, at, dialogue)

    async def info(self, at: float) -> Info:
        if self._info is None:
            return await self._load(at)
        return self._info

    async def reach(self, at: float) -> None:
        """Connect and send nothing, for no request is known as harmless; raises ``NotSent``."""
        await self._pool.reach(at)

    def status(self) -> Status:
        return Status(
            upstream=self._name,
            transport="openapi",
            connected=self._api is not None and not self._fault and not self._last_error,
            info=self._info,
            last_error=self._fault or self._last_error,
            connections=self._pool.open,
            problems=self._api.problems if self._api is not None else (),
        )

    def ended(self, thread: str) -> None:
        """Nothing is kept for a client."""

    async def close(self) -> None:
        if self._loading is not None:
            self._loading.cancel()
        await self._pool.close()

    # ------------------------------------------------------------------------------------- document

    async def _load(self, at: float) -> Info:
        """Read the document when it is not the one in force; concurrent callers read it together."""
        if self._loading is None:
            self._loading = asyncio.create_task(self._reload())
            self._loading.add_done_callback(self._loaded)
        return await joined(self._loading, at)

    async def _reload(self) -> Info:
        try:
            stat = self._path.stat()
            state = (stat.st_mtime_ns, stat.st_size, stat.st_ino)
            if self._info is None or state != self._read_state:
                api = await asyncio.to_thread(self._read)
                self._put_in_force(api)
                self._read_state = state
        except (BadDocument, OSError) as error:
            raise Unusable("upstream_unavailable", str(error)) from None
        self._fault = ""
        assert self._info is not None
        return self._info

    def _read(self) -> Api:
        document = openapi_document.read(self._path)
        return openapi_operations.build(document, own_headers=self._own_headers)

    def _put_in_force(self, api: Api) -> None:
        self._api = api
        self._info = Info(
            era="modern",
            version=era.MODERN,
            name=self._name,
            title=api.title,
            server_version=api.version,
            capabilities={"tools": {}},
        )
        logger.info("upstream %s: %d operations in %s", self._name, len(api.operations), self._path.name)
        for problem in api.problems[:_SHOWN]:
            logger.warning("upstream %s: %s", self._name, problem)

    def _loaded(self, task: asyncio.Task[Info]) -> None:
        self._loading = None
        if not task.cancelled() and (error := task.exception()) is not None:
            self._fault = str(error)

    def _list(self) -> Message:
        assert self._api is not None
        listed = b",".join(each.definition_json for each in self._api.operations.values())
        return _result(b'{"tools":[%b]}' % listed)

    # ---------------------------------------------------------------------------------------- calls

    async def _call(self, request: Request, owner: Owner, at: float, dialogue: Dialogue | None) -> Message:
        assert self._api is not None
        params = orjson.loads(b"{%b}" % request.params_json)
        operation = self._api.operations.get(params["name"])
        if operation is None:
            return _error(INVALID_PARAMS, "Unknown tool")
        args: dict[str, Json] = params["arguments"]
        fixed = self._fixed + _trace(request.meta_json) + request.headers
        credential = self._credentials.headers(owner)
        raw = openapi_request.request(operation, args, self._base, fixed + credential)
        hold = Hold(dialogue is None or dialogue.severable)
        if dialogue is not None:
            dialogue.hook = hold.cancel
            if dialogue.cancelled:  # before the hook was there
                raise NotSent("cancelled")
        try:
            response = await self._pool.exchange(raw, at, hold)
            if response.status == 401 and self._credentials.given:
                # As for an MCP server: the one answer after which a call is sent again, once, and only with
                # another credential (RFC 9110, 15.5.2).
                if await self._credentials.renewed(owner, credential, at):
                    with suppress(NotSent):  # it was sent once, so that is no longer true
                        fixed += self._credentials.headers(owner)
                        raw = openapi_request.request(operation, args, self._base, fixed)
                        response = await self._pool.exchange(raw, at, hold)
                if response.status == 401:
                    raise Unauthorized()
            body = await self._body(response)
            result = openapi_response.result(operation, response, body)
        except BodyTooLarge:
            self._last_error = ""
            raise
        except UpstreamError as error:
            if error.reason.party is Party.UPSTREAM:
                self._last_error = str(error)
            raise
        finally:
            if dialogue is not None:
                dialogue.hook = None
            hold.drop()
        self._last_error = f"HTTP {response.status}" if response.status >= 500 else ""
        return _result(result)

    async def _body(self, response: Response) -> bytes:
        """The whole body, of an event stream too: it ends, or the deadline does."""
        stream = response.stream
        if stream is None:
            return response.body
        chunks: list[bytes] = []
        size = 0
        try:
            while chunk := await stream.read():
                chunks.append(chunk)
                size += len(chunk)
                if size > self._max_bytes:
                    raise BodyTooLarge("result_too_large", f"more than {self._max_bytes} bytes")
        finally:
            stream.abort()
        return b"".join(chunks)


def _trace(meta_json: bytes) -> bytes:
    """The trace this call belongs to, as a header; it is the gateway's own, never the client's."""
    said = orjson.loads(b"{%b}" % meta_json).get("traceparent") if meta_json else None
    if not isinstance(said, str) or not _TRACE.fullmatch(said):
        return b""
    return b"traceparent: %b\r\n" % said.encode()


def _result(result_json: bytes) -> Message:
    return Message(jsonrpc="2.0", id=0, result=msgspec.Raw(result_json))


def _error(code: int, message: str) -> Message:
    return Message(jsonrpc="2.0", id=0, error=msgspec.Raw(orjson.dumps({"code": code, "message": message})))
