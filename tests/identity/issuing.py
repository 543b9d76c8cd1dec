"""A real OIDC issuer on loopback, for tests: it signs tokens, publishes keys, and misbehaves on request."""

from __future__ import annotations

import asyncio
import json
import ssl
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import jwt
from aiohttp import web
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, SECP384R1, generate_private_key
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key as generate_rsa
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm

AUDIENCE = "https://gateway.example.com/mcp"


class SigningKey:
    """A private key of the issuer, and how it is published."""

    def __init__(self, kid: str | None, algorithm: str = "EdDSA", *, bits: int = 2048) -> None:
        self.kid = kid
        self.algorithm = algorithm
        self.private: Any
        if algorithm == "EdDSA":
            self.private, library = Ed25519PrivateKey.generate(), OKPAlgorithm
        elif algorithm.startswith("ES"):
            curve = SECP256R1() if algorithm == "ES256" else SECP384R1()
            self.private, library = generate_private_key(curve), ECAlgorithm
        else:
            self.private, library = generate_rsa(65537, bits), RSAAlgorithm
        self.jwk: dict[str, Any] = library.to_jwk(self.private.public_key(), as_dict=True)  # type: ignore[attr-defined]
        self.jwk.pop("key_ops", None)
        if kid is not None:
            self.jwk["kid"] = kid
        self.jwk |= {"alg": algorithm, "use": "sig"}

    def sign(self, claims: dict[str, Any], **header: Any) -> str:
        headers = {"kid": self.kid, "typ": "at+jwt", **header}
        headers = {name: value for name, value in headers.items() if value is not None}
        # The lower layer, which signs whatever it is given.
        return jwt.PyJWS().encode(json.dumps(claims).encode(), self.private, self.algorithm, headers)


KEY = SigningKey("k1")
OTHER = SigningKey("k2")


class Idp:
    """The issuer: ``keys`` are published, ``answers`` replace what a path answers, ``asked`` is who came."""

    def __init__(self, url: str, keys: list[SigningKey] | None = None) -> None:
        self.url = url
        self.keys = [KEY] if keys is None else keys
        self.asked: list[str] = []
        self.answers: dict[str, Callable[[], web.Response]] = {}
        self.delay_s = 0.0
        self.metadata: dict[str, Any] = {"issuer": url, "jwks_uri": f"{url}/jwks"}

    def token(
        self, key: SigningKey | None = None, *, header: dict[str, Any] | None = None, **claims: Any
    ) -> str:
        """A good token, but for what ``claims`` say; ``None`` leaves a claim out."""
        return (key or self.keys[0]).sign(self.claims(**claims), **(header or {}))

    def claims(self, **claims: Any) -> dict[str, Any]:
        now = int(time.time())
        usual = {
            "iss": self.url, "aud": AUDIENCE, "sub": "user-1", "azp": "bot", "iat": now, "exp": now + 300,
            "jti": "t1",
        }  # fmt: skip
        return {name: value for name, value in {**usual, **claims}.items() if value is not None}

    async def handle(self, request: web.Request) -> web.StreamResponse:
        self.asked.append(request.path)
        await asyncio.sleep(self.delay_s)
        if request.path in self.answers:
            return self.answers[request.path]()
        if request.path == "/.well-known/openid-configuration":
            return web.json_response(self.metadata)
        if request.path == "/jwks":
            return web.json_response({"keys": [key.jwk for key in self.keys]})
        return web.Response(status=404)

    @property
    def fetches(self) -> int:
        return self.asked.count("/jwks")


@asynccontextmanager
async def issuing(
    keys: list[SigningKey] | None = None, tls: ssl.SSLContext | None = None
) -> AsyncIterator[Idp]:
    idp = Idp("", keys)
    app = web.Application()

    async def handle(request: web.Request) -> web.StreamResponse:
        return await idp.handle(request)  # looked up late: a test may replace it

    app.router.add_route("*", "/{path:.*}", handle)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls)
    await site.start()
    port = site._server.sockets[0].getsockname()[1]  # type: ignore[union-attr]  # aiohttp has no other way
    idp.url = f"https://localhost:{port}" if tls else f"http://127.0.0.1:{port}"
    idp.metadata = {"issuer": idp.url, "jwks_uri": f"{idp.url}/jwks"}
    try:
        yield idp
    finally:
        await runner.cleanup()
