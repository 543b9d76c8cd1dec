"""Who calls: the one place that looks at what a caller presents and says whose principal that is.

    an API key          → directory.py     looked up, compared in constant time
    a token (JWT)       → tokens.py        verified against its issuer's keys, then remembered
    a trusted proxy's   → proxy.py         only where ``identity.proxy`` is configured
    client certificate

Every failure raises ``Unauthenticated``; there is no default identity to fall back to.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from typing import NamedTuple

import httpx

from gateway.config import Config, expand
from gateway.config_identity import IssuerConfig
from gateway.errors import Unauthenticated
from gateway.identity import fetch
from gateway.identity.directory import Directory
from gateway.identity.jws import MAX_BYTES
from gateway.identity.keyring import Keyring
from gateway.identity.proxy import Proxy
from gateway.identity.resource import Resource
from gateway.identity.revocations import Revocations
from gateway.identity.tokens import Issuer, Lacking, Tokens
from gateway.model import Presented, Principal
from gateway.storage.credentials import Credential
from gateway.storage.revocations import TokenRevocation


class Stored(NamedTuple):
    """What the database says of credentials, as of one moment."""

    keys: Iterable[Credential]
    revocations: Iterable[TokenRevocation] = ()


class Authenticator:
    """Authenticates agents. Lasts as long as the gateway; ``load`` swaps what it judges by."""

    def __init__(self, directory: Directory) -> None:
        self.directory = directory
        self.tokens = Tokens(directory.now_ns)
        self.resource = Resource(Config())
        self.revision = "empty"
        self.issuers: dict[str, Issuer] = {}  # by name
        self._proxy: Proxy | None = None
        self._other_ways = False
        self._revoked = ""
        self._clients: dict[Path | None, httpx.AsyncClient] = {}  # by ca_file

    def load(self, stored: Stored, config: Config) -> None:
        """Judge by these from now on. Nothing is awaited, so no request sees half of it.

        Keys that were fetched are kept where a reload changed nothing about how.
        """
        issuers: dict[str, Issuer] = {}
        for name, each in config.identity.issuers.items():
            before = self.issuers.get(name)
            keep = before is not None and _source_of(before.config) == _source_of(each)
            ring = before.keyring if keep and before is not None else self._keyring(name, each)
            issuers[name] = Issuer(name, each, ring)
        settings = config.identity.proxy
        secret = None if settings.secret is None else expand(settings.secret, "identity.proxy.secret")
        proxy = Proxy(settings, secret, config.agents, config.mode) if settings.networks else None
        resource = Resource(config)
        revocations = list(stored.revocations)

        # Everything that could fail has been made: from here on it is in force as a whole.
        self.directory.load(stored.keys, config.agents, config.mode)
        self.tokens.load(
            {issuer.config.issuer: issuer for issuer in issuers.values()},
            config.agents,
            config.mode,
            Revocations(revocations),
        )
        gone = {id(issuer.keyring): issuer.keyring for issuer in self.issuers.values()}
        for issuer in issuers.values():
            gone.pop(id(issuer.keyring), None)
            issuer.keyring.start()
        for ring in gone.values():
            ring.stop()
        self.issuers, self._proxy, self.resource = issuers, proxy, resource
        self._other_ways = bool(issuers) or proxy is not None
        self._revoked = repr(sorted(each.id for each in revocations))
        self._revise()

    async def agent(self, presented: Presented) -> Principal:
        """The agent behind a request. Suspends only where the keys of an issuer have to be fetched."""
        authorization = presented.authorization
        # An API key has no dot, and every token has two.
        if self._other_ways and (self._proxy is not None or authorization is None or b"." in authorization):
            return await self._other(presented)
        return self.directory.authenticate(authorization)

    async def _other(self, presented: Presented) -> Principal:
        authorization = presented.authorization
        certified = None
        if self._proxy is not None:
            certified = self._proxy.principal(presented.headers, presented.peer)
        if authorization is None:
            if certified is None:
                raise self._no_credential(presented)
            return certified
        if b"." in authorization:
            who = await self._by_token(authorization, presented.path)
        else:
            who = self.directory.authenticate(authorization)
        # A key or token used from another agent's machine is stolen, or lent.
        if certified is not None and certified.agent != who.agent:
            raise Unauthenticated("bad_credential", f"a credential of {who.agent}, sent by {certified.agent}")
        return who

    async def _by_token(self, authorization: bytes, path: str) -> Principal:
        scheme, _, token = authorization.partition(b" ")
        token = token.strip(b" ")
        if scheme.lower() != b"bearer" or len(token) > MAX_BYTES:
            raise Unauthenticated("bad_credential", "no bearer token of bounded size")
        try:
            return self.tokens.remembered(token) or await self.tokens.verify(token)
        except Lacking as lacking:
            # Only a client that came with a token can come back with a better one.
            lacking.challenge = self.resource.insufficient(path, lacking.needed)
            raise
        except Unauthenticated as refused:
            # A new token would not help while the issuer's keys cannot be had.
            if self.resource and refused.code != "issuer_unavailable" and self.tokens.advertises(token):
                refused.challenge = self.resource.unauthenticated(path, "invalid_token")
            raise

    def _no_credential(self, presented: Presented) -> Unauthenticated:
        challenge = self.resource.unauthenticated(presented.path, "") if self.resource else ""
        return Unauthenticated("no_credential", challenge=challenge)

    async def close(self) -> None:
        """Stop fetching keys."""
        for issuer in self.issuers.values():
            issuer.keyring.stop()
        for client in self._clients.values():
            with suppress(httpx.HTTPError):
                await client.aclose()

    def documents(self) -> Mapping[str, bytes]:
        """Resource metadata by path, as of now."""
        return self.resource.documents

    def _keyring(self, name: str, config: IssuerConfig) -> Keyring:
        now_ns = self.directory.now_ns
        if config.secret is not None:
            secret = expand(config.secret, f"identity.issuers.{name}.secret")
            return Keyring.shared(name, config, secret.encode(), now_ns)
        return Keyring(
            name,
            config,
            fetch.source(config, lambda: self._client(config.ca_file)),
            now_ns,
            self._keys_changed,
        )

    def _client(self, ca_file: Path | None) -> httpx.AsyncClient:
        if ca_file not in self._clients:
            self._clients[ca_file] = fetch.client(ca_file)
        return self._clients[ca_file]

    def _keys_changed(self, keyring: Keyring) -> None:
        self.tokens.keys_changed(keyring)
        self._revise()

    def _revise(self) -> None:
        """Name what is in force, for records: API keys, revocations and keys of issuers."""
        if not self.issuers:
            self.revision = self.directory.revision
            return
        rings = sorted((name, issuer.keyring.revision) for name, issuer in self.issuers.items())
        self.revision = sha256(repr((self.directory.revision, self._revoked, rings)).encode()).hexdigest()[
            :16
        ]


def _source_of(config: IssuerConfig) -> object:
    """What must be equal in two configurations for the same fetched keys to serve both."""
    return (
        config.issuer, config.jwks_url, config.jwks_file, config.ca_file, config.secret, config.algorithms,
        config.refresh_s, config.refresh_least_s, config.stale_s, config.timeout_s,
    )  # fmt: skip
