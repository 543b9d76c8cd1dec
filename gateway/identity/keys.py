"""API keys: how one is made, taken apart and compared.

A key is ``wgk_<id>_<secret>`` for an agent and ``wgo_<id>_<secret>`` for an operator. The id (60 random
bits) is public and names the key in records; the secret (256 random bits) is shown once and kept only as
its SHA-256. A slow password hash would add nothing: there is nothing to guess in 256 random bits.
"""

from __future__ import annotations

import hmac
import secrets
from hashlib import sha256
from typing import Final, Literal, NamedTuple

KeyKind = Literal["agent", "operator"]

_PREFIX: Final[dict[KeyKind, str]] = {"agent": "wgk", "operator": "wgo"}
_KIND: Final[dict[str, KeyKind]] = {prefix: kind for kind, prefix in _PREFIX.items()}
_ID_ALPHABET: Final = "abcdefghjkmnpqrstuvwxyz23456789"
_ID_LENGTH: Final = 12
_MAX_TOKEN: Final = 128


class Minted(NamedTuple):
    """A new key: ``token`` is shown once, ``secret_hash`` is stored."""

    key_id: str
    token: str
    secret_hash: str


class Presented(NamedTuple):
    """A key as somebody sent it; nothing about it is proven."""

    kind: KeyKind
    key_id: str
    secret: str


def mint(kind: KeyKind) -> Minted:
    key_id = "".join(secrets.choice(_ID_ALPHABET) for _ in range(_ID_LENGTH))
    secret = secrets.token_urlsafe(32)
    return Minted(key_id, f"{_PREFIX[kind]}_{key_id}_{secret}", hash_secret(secret))


def present(authorization: bytes | None) -> Presented | None:
    """Take an ``Authorization`` header apart; ``None`` for anything that is not one of our keys."""
    if authorization is None or len(authorization) > _MAX_TOKEN or not authorization.isascii():
        return None
    scheme, _, token = authorization.decode("ascii").partition(" ")
    if scheme.lower() != "bearer":
        return None
    parts = token.strip().split("_", 2)
    if len(parts) != 3 or parts[0] not in _KIND or len(parts[1]) != _ID_LENGTH:
        return None
    return Presented(_KIND[parts[0]], parts[1], parts[2])


def hash_secret(secret: str) -> str:
    return sha256(secret.encode()).hexdigest()


def matches(secret: str, secret_hash: str) -> bool:
    """Compare in constant time, over the whole hash: a cache or a prefix would let two keys meet."""
    return hmac.compare_digest(hash_secret(secret), secret_hash)
