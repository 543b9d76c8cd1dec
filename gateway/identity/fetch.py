"""Where an issuer's keys come from: its discovery document and JWK Set, a file, or the configuration.

Only URLs the operator wrote are asked, and what they name only on the issuer's own origin: an issuer, or
whoever speaks in its place, must not be able to send the gateway to addresses of their choice. No redirect
is followed, no proxy of the environment used, and an answer is bounded in size and time.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Awaitable, Callable
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any, Final, NamedTuple

import httpx

from gateway import strictjson
from gateway.config_identity import IssuerConfig, secure_url
from gateway.errors import Refused

MAX_BYTES: Final = 256 * 1024
_WELL_KNOWN: Final = "/.well-known/openid-configuration"


class NotFetched(Exception):
    """The keys could not be had; says why in words for operators."""


class Fetched(NamedTuple):
    """A JWK Set as it was published; ``server_s`` is the publisher's clock, when it said it."""

    document: bytes
    server_s: float | None = None


Fetch = Callable[[], Awaitable[Fetched]]


def client(ca_file: Path | None = None) -> httpx.AsyncClient:
    """What fetches; made once, because making one takes 20 ms. ``NotFetched`` for a bad ``ca_file``."""
    try:
        verify = True if ca_file is None else ssl.create_default_context(cafile=ca_file)
    except OSError as error:  # ssl.SSLError is one
        raise NotFetched(f"ca_file {ca_file}: {error.strerror or type(error).__name__}") from error
    return httpx.AsyncClient(
        verify=verify,
        follow_redirects=False,
        trust_env=False,
        headers={"accept": "application/json", "accept-encoding": "identity", "user-agent": "wardgate"},
        limits=httpx.Limits(max_connections=32, max_keepalive_connections=0),
    )


def source(config: IssuerConfig, http: Callable[[], httpx.AsyncClient]) -> Fetch:
    """How the keys of an issuer are fetched, within its ``timeout_s``; the result raises ``NotFetched``."""

    async def fetch() -> Fetched:
        try:
            async with asyncio.timeout(config.timeout_s):
                if config.jwks_file is not None:
                    return Fetched(await asyncio.to_thread(_read, config.jwks_file))
                url = config.jwks_url or await _discovered(config.issuer, http())
                return await get(url, http())
        except TimeoutError:
            raise NotFetched(f"no answer within {config.timeout_s:g} s") from None

    return fetch


def discovery_url(issuer: str) -> str:
    """OpenID Connect Discovery 1.0, section 4."""
    return issuer.rstrip("/") + _WELL_KNOWN


async def _discovered(issuer: str, http: httpx.AsyncClient) -> str:
    """The ``jwks_uri`` of an issuer's own metadata."""
    where = discovery_url(issuer)
    document = (await get(where, http)).document
    try:
        said: Any = strictjson.parse(document, 16)
    except Refused as refused:
        raise NotFetched(f"{where}: not valid JSON ({refused.code})") from None
    # Metadata of somebody else, such as another tenant of the same provider (OIDC Discovery, 4.3).
    if not isinstance(said, dict) or said.get("issuer") != issuer:
        raise NotFetched(f"{where}: its 'issuer' is not the configured one")
    uri = said.get("jwks_uri")
    try:
        parts = secure_url(uri) if isinstance(uri, str) else None
    except ValueError:
        parts = None
    if parts is None or not isinstance(uri, str):
        raise NotFetched(f"{where}: its 'jwks_uri' is missing or not https")
    own = secure_url(issuer)
    # Metadata that points at an internal address would make the gateway ask there.
    if (parts.scheme, parts.hostname, parts.port) != (own.scheme, own.hostname, own.port):
        raise NotFetched(
            f"{where}: its 'jwks_uri' is on another origin; if it is right, set it as 'jwks_url'"
        )
    return uri


async def get(url: str, http: httpx.AsyncClient) -> Fetched:
    """One document, bounded; raises ``NotFetched``. The caller's deadline holds."""
    try:
        async with http.stream("GET", url, timeout=None) as response:  # the caller's deadline holds
            if response.status_code != 200:
                raise NotFetched(f"{url}: HTTP {response.status_code}")
            # A few compressed bytes can unfold to gigabytes.
            if response.headers.get("content-encoding", "identity").lower() != "identity":
                raise NotFetched(f"{url}: answered compressed")
            body = bytearray()
            async for chunk in response.aiter_raw():
                body += chunk
                if len(body) > MAX_BYTES:
                    raise NotFetched(f"{url}: more than {MAX_BYTES} bytes")
            return Fetched(bytes(body), _server_clock(response))
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise NotFetched(f"{url}: {type(error).__name__}{_about_tls(error)}") from error


def _about_tls(error: BaseException | None) -> str:
    """What is wrong with a certificate, which is deep inside; it quotes nothing that was received."""
    while error is not None:
        if isinstance(error, ssl.SSLCertVerificationError):
            return f": {error.verify_message}"
        error = error.__cause__ or error.__context__
    return ""


def _server_clock(response: httpx.Response) -> float | None:
    try:
        return parsedate_to_datetime(response.headers["date"]).timestamp()
    except (KeyError, ValueError, TypeError):
        return None


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise NotFetched(f"{path}: {error.strerror}") from error
    if len(data) > MAX_BYTES:
        raise NotFetched(f"{path}: more than {MAX_BYTES} bytes")
    return data
