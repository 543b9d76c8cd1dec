"""A signed statement about one call, for upstreams that refuse whatever did not come through the gateway.

A short-lived JWT (RFC 7519, EdDSA) says who calls what, under which policy, and the hash of the arguments
as they are sent. It goes in a header over HTTP and in ``_meta`` over stdio, to upstreams that ask for it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from hashlib import sha256
from typing import Any, Final

import msgspec
import orjson
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from gateway.config import AssertionConfig
from gateway.errors import ConfigError, NotSent
from gateway.model import Call
from gateway.ports import Clock
from gateway.upstreams.jsonrpc import Request
from gateway.upstreams.secrets import signing_keys
from gateway.upstreams.secrets.secret import FromFile, Stamp
from gateway.upstreams.secrets.signing_keys import SigningKey

logger = logging.getLogger("wardgate.assertions")

HEADER: Final = "wardgate-assertion"
META: Final = "dev.wardgate/assertion"


class Signer:
    """Signs for all upstreams, with the keys of one file, which is read again when it changes."""

    def __init__(self, config: AssertionConfig, clock: Clock) -> None:
        """Raises ``ConfigError`` when the keys cannot be used."""
        # Imported here: it takes a tenth of a second that a gateway which signs nothing saves.
        import jwt

        assert config.key_file is not None
        self._encode = jwt.encode
        self._path = config.key_file
        self._issuer = config.issuer
        self._lifetime_s = config.lifetime_s
        self._clock = clock
        self._keys = signing_keys.load(self._path)
        self._current: tuple[SigningKey, Ed25519PrivateKey] | None = None
        self._choose_again_s = 0.0
        self._reading: asyncio.Task[None] | None = None
        self._again = False
        self.stamp: Callable[[], Stamp | None] = FromFile(self._path).stamp

    def sign(self, call: Call, audience: str, policy: str, number: int = 0) -> str:
        """The assertion about ``call`` or its input round ``number``; ``NotSent`` while no key may sign."""
        now = self._clock.now_ns() // 1_000_000_000
        if now >= self._choose_again_s:
            self._choose(now)
        if self._current is None:
            raise NotSent("credential_unavailable", "no key of assertion.key_file may sign now")
        key, private = self._current
        principal = call.principal
        claims: dict[str, Any] = {
            "iss": self._issuer,
            "aud": audience,
            "iat": now,
            "exp": now + self._lifetime_s,
            "jti": f"{call.id}.{number}" if number else call.id,
            "tenant": principal.tenant,
            "agent": principal.agent,
            "owner": principal.owner,
            "session": call.session,
            "kind": call.tool.kind,
            "target": call.tool.target,
            "args_sha256": sha256(call.args_json).hexdigest(),
            "digest": call.digest,
            "policy": policy,
        }
        if principal.subject is not None:
            claims["subject"] = principal.subject
        if principal.chain:
            claims["chain"] = principal.chain
        return self._encode(claims, private, algorithm="EdDSA", headers={"kid": key.kid})

    def jwks(self) -> dict[str, Any]:
        return signing_keys.jwks(self._keys, self._clock.now_ns() / 1e9)

    # -- a file that is watched

    def changed(self) -> None:
        self._again = True  # a reading under way may have seen the file before
        if self._reading is None:
            self._reading = asyncio.create_task(self._read())

    def still_there(self, now: float) -> None:
        """Keys have no age."""

    async def _read(self) -> None:
        try:
            while self._again:
                self._again = False
                self._keys = await asyncio.to_thread(signing_keys.load, self._path)
                self._choose_again_s = 0.0
                logger.info("signing keys read again")
        except ConfigError as error:
            # One bad write must not stop every call. Taking a key back is writing a file without it.
            logger.error("the last good signing keys stay in use: %s", error)
        finally:
            self._reading = None

    def _choose(self, now: int) -> None:
        """Keep the key in hand until another may sign: making it from its bytes costs as much as signing."""
        key = signing_keys.signing(self._keys, now)
        if key is None:
            self._current, self._choose_again_s = None, 0.0
            return
        if self._current is None or self._current[0] != key:
            self._current = key, key.private()
        times = [time for each in self._keys for time in (each.nbf, each.exp) if time is not None]
        self._choose_again_s = min((time for time in times if time > now), default=float("inf"))


def in_header(request: Request, assertion: str) -> Request:
    """Over HTTP: in both eras, and before a server reads the body."""
    lines = request.headers + f"{HEADER}: {assertion}\r\n".encode("ascii")
    return msgspec.structs.replace(request, headers=lines)


def in_meta(request: Request, assertion: str) -> Request:
    """Over stdio there are no headers."""
    member = orjson.dumps(META) + b":" + orjson.dumps(assertion)
    meta = request.meta_json + b"," + member if request.meta_json else member
    return msgspec.structs.replace(request, meta_json=meta)
