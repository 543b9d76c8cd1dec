"""The HTTP side of OPA: ``opa-python-client`` with what a decision on the way of a call needs.

What differs from the client as it comes: a deadline of our own and no retries (it repeats a POST that OPA
answered with 500, which is also how OPA reports an error of evaluation), bodies of errors are read, no
redirects, strict built-in errors as in the embedded engine, a Unix socket, a CA of one's own, and a bound on
what is read.
"""

from __future__ import annotations

import os
import ssl
from collections.abc import Mapping
from typing import Final
from urllib.parse import quote, urlsplit

import aiohttp
import orjson
from opa_client.opa_async import AsyncOpaClient
from yarl import URL

from gateway.policy.opa_modules import Pushed
from gateway.policy.opa_target import EvaluationError, OpaFault, Target

_MAX_ANSWER: Final = 8 * 1024 * 1024
_CONNECTIONS: Final = 256
_PUSH_S: Final = 30.0
_CONNECT_S: Final = 2.0
_JSON: Final = {"Content-Type": "application/json"}


class OpaClient(AsyncOpaClient):  # type: ignore[misc]  # the package has no types
    """One pool of connections to one OPA. Made and used on one event loop."""

    def __init__(self, target: Target) -> None:
        super().__init__(retries=0, timeout=_PUSH_S)
        self.target = target
        base = "http://localhost" if target.socket is not None else target.url.rstrip("/")
        self.root_url = f"{base}/v1"
        self.ssl = urlsplit(base).scheme == "https"
        self._asked: dict[str, URL] = {}
        self._json: Mapping[str, str] = _JSON

    async def start(self) -> None:
        """Open the pool; ``OpaFault`` when the CA or the token cannot be read."""
        try:
            await self._init_session()
        except (OSError, ssl.SSLError) as error:
            raise OpaFault("policy_unavailable", f"{self.target.ca_file}: {error}") from error

    def read_token(self) -> None:
        """Read the token again."""
        token = _token(self.target)
        self._json = {**_JSON, "Authorization": f"Bearer {token}"} if token else _JSON

    async def _init_session(self) -> None:
        target = self.target
        if target.socket is not None:
            self._connector: aiohttp.BaseConnector = aiohttp.UnixConnector(
                str(target.socket), limit=_CONNECTIONS
            )
        else:
            context = ssl.create_default_context(cafile=target.ca_file) if self.ssl else True
            self._connector = aiohttp.TCPConnector(ssl=context, limit=_CONNECTIONS)
        self._session = aiohttp.ClientSession(
            connector=self._connector,
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(total=self.timeout, sock_connect=_CONNECT_S),
            trust_env=False,  # a proxy of the environment would read every argument
        )

    async def ask(self, path: str, body: bytes, traceparent: str = "") -> bytes:
        """The body of OPA's answer to one query; raises ``EvaluationError`` or ``OpaFault``.

        The caller sets the deadline: one call may need several questions within one.
        """
        url = self._asked.get(path)
        if url is None:
            url = self._asked[path] = URL(f"{self.root_url}/data/{path}?strict-builtin-errors=true")
        status, answer = await self._send("POST", url, body, traceparent)
        if status == 200:
            return answer
        raise _fault(status, answer)

    async def push(self, pushed: Pushed) -> None:
        """Put a bundle beside what is there: data first, the entry last, so that half of it never answers."""
        await self._put(f"data/{pushed.root}", orjson.dumps(pushed.data))
        for name, text in pushed.modules:
            await self._put(f"policies/{quote(name)}", text.encode(), "text/plain")

    async def remove(self, pushed: Pushed) -> None:
        """Take a bundle away again, the entry first."""
        for name, _ in reversed(pushed.modules):
            await self._send("DELETE", URL(f"{self.root_url}/policies/{quote(name)}"))
        await self._send("DELETE", URL(f"{self.root_url}/data/{pushed.root}"))

    async def _put(self, path: str, body: bytes, kind: str = "application/json") -> None:
        status, answer = await self._send("PUT", URL(f"{self.root_url}/{path}"), body, kind=kind)
        if status not in (200, 204):
            raise _fault(status, answer)

    async def _send(
        self,
        method: str,
        url: URL,
        body: bytes = b"",
        traceparent: str = "",
        kind: str = "",
    ) -> tuple[int, bytes]:
        if self._session is None:
            raise OpaFault("policy_unavailable", "the connection to OPA is closed")
        headers = self._json
        if traceparent or kind:
            headers = {**headers, "Content-Type": kind or "application/json"}
            if traceparent:
                headers["traceparent"] = traceparent
        try:
            # A redirect would send arguments, and the token, to a place nobody configured.
            async with self._session.request(
                method, url, data=body, headers=headers, allow_redirects=False
            ) as response:
                read = bytearray()
                async for chunk in response.content.iter_any():
                    read += chunk
                    # An endless answer would take the memory of the gateway.
                    if len(read) > _MAX_ANSWER:
                        raise OpaFault("policy_bad_shape", f"an answer of more than {_MAX_ANSWER} bytes")
                return response.status, bytes(read)
        except (aiohttp.ClientError, OSError) as error:  # TimeoutError of the pool is one of these
            raise OpaFault("policy_unavailable", f"{self.target}: {error or type(error).__name__}") from error


def _fault(status: int, body: bytes) -> Exception:
    """What an answer that is none means. OPA's errors of evaluation have codes that say so."""
    try:
        said = orjson.loads(body)
    except orjson.JSONDecodeError:
        said = None
    said = said if isinstance(said, dict) else {}
    errors = said.get("errors")
    first = errors[0] if isinstance(errors, list) and errors and isinstance(errors[0], dict) else {}
    message = f"{first.get('message') or said.get('message') or body[:200].decode(errors='replace')}"
    if status == 500 and str(first.get("code", "")).startswith("eval_"):
        place = first.get("location")
        place = place if isinstance(place, dict) else {}
        line = place.get("row")
        return EvaluationError(str(place.get("file", "")), line if isinstance(line, int) else 0, message)
    return OpaFault("policy_unavailable", f"OPA answered {status}: {message}")


def _token(target: Target) -> str:
    if target.token_file is not None:
        try:
            return target.token_file.read_text(encoding="utf-8").strip()
        except OSError as error:
            raise OpaFault("policy_unavailable", f"{target.token_file}: {error.strerror}") from error
    return os.environ.get(target.token_env, "") if target.token_env is not None else ""
