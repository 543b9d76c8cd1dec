"""A bundle over HTTP: asked for with what is already here, so that nothing new costs almost nothing.

Only the URL of the configuration is asked. No redirect is followed, because it would carry the token and
the choice of server elsewhere; no proxy of the environment is used; an answer is bounded in size and time.
"""

from __future__ import annotations

import asyncio
import ssl
from typing import NamedTuple

import httpx

from gateway.config_policy import SourceConfig
from gateway.policy.archive import MAX_PACKED, BadBundle


class Fetched(NamedTuple):
    raw: bytes
    etag: str  # "" when the server gives none


class Remote:
    """One URL and the client that asks it, made once: making one takes 20 ms."""

    def __init__(self, config: SourceConfig, token: str | None) -> None:
        assert config.url is not None, "only a url is asked"
        self.of = config
        self.url = config.url
        self._timeout_s = config.timeout_s
        authorities = config.ca_file
        try:
            verify = True if authorities is None else ssl.create_default_context(cafile=authorities)
        except OSError as error:  # ssl.SSLError is one
            said = error.strerror or type(error).__name__
            raise BadBundle(f"policy.source.ca_file {authorities}: {said}") from error
        headers = {"accept": "application/gzip, application/octet-stream", "user-agent": "wardgate"}
        if token:
            headers["authorization"] = f"Bearer {token}"
        self._http = httpx.AsyncClient(
            verify=verify,
            follow_redirects=False,
            trust_env=False,
            headers={**headers, "accept-encoding": "identity"},
            limits=httpx.Limits(max_connections=2, max_keepalive_connections=0),
        )

    async def fetch(self, etag: str = "") -> Fetched | None:
        """The bundle, or ``None`` when the server says it is still the one of ``etag``."""
        try:
            async with asyncio.timeout(self._timeout_s):
                return await self._get(etag)
        except TimeoutError:
            raise BadBundle(f"{self.url}: no whole answer within {self._timeout_s:g} s") from None
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise BadBundle(f"{self.url}: {type(error).__name__}{_about_tls(error)}") from error

    async def _get(self, etag: str) -> Fetched | None:
        conditional = {"if-none-match": etag} if etag else {}
        # The whole has a deadline, so parts have none: a server that drips must not be waited for for ever.
        async with self._http.stream("GET", self.url, headers=conditional, timeout=None) as response:
            if response.status_code == 304 and etag:
                return None
            if response.status_code != 200:
                raise BadBundle(f"{self.url}: HTTP {response.status_code}{_hint(response.status_code)}")
            if response.headers.get("content-encoding", "identity").lower() != "identity":
                raise BadBundle(f"{self.url}: answered compressed once more; serve the file as it is")
            body = bytearray()
            async for chunk in response.aiter_raw():
                body += chunk
                if len(body) > MAX_PACKED:
                    raise BadBundle(f"{self.url}: more than {MAX_PACKED} bytes")
            return Fetched(bytes(body), response.headers.get("etag", "")[:200])

    async def close(self) -> None:
        await self._http.aclose()


def _hint(status: int) -> str:
    if 300 <= status < 400:
        return ": redirects are not followed; configure the final url"
    if status in (401, 403):
        return ": check policy.source.token"
    return ""


def _about_tls(error: BaseException | None) -> str:
    """What is wrong with a certificate, which is deep inside; it quotes nothing that was received."""
    while error is not None:
        if isinstance(error, ssl.SSLCertVerificationError):
            return f": {error.verify_message}"
        error = error.__cause__ or error.__context__
    return ""
