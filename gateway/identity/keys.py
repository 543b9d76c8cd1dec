"""API keys: how one is made, taken apart and compared.

A key is ``wgk_<id>_<secret>`` for an agent and ``wgo_<id>_<secret>`` for an operator. The id is public and
names the key in records; the secret (256 random bits) is shown once and kept only as its SHA-256.
"""

from __future__ import annotations

import hmac
import secrets
from typing import Final, NamedTuple

from gateway.storage.credentials import Credential, CredentialKind, Credentials, Role, hash_secret

_PREFIX: Final[dict[CredentialKind, str]] = {"agent": "wgk", "operator": "wgo"}
_KIND: Final[dict[str, CredentialKind]] = {prefix: kind for kind, prefix in _PREFIX.items()}
_MAX_HEADER: Final = 128


class Minted(NamedTuple):
    """A new key: ``token`` is shown once and then forgotten."""

    token: str
    credential: Credential


class Presented(NamedTuple):
    """A key as somebody sent it; nothing about it is proven."""

    kind: CredentialKind
    key_id: str
    secret: bytes


def mint(
    store: Credentials,
    *,
    kind: CredentialKind,
    tenant: str,
    name: str,
    role: Role | None = None,
    expires_ns: int | None = None,
    note: str = "",
) -> Minted:
    """Issue a key and store what is needed to recognise it."""
    secret = _new_secret()
    credential = store.insert(
        kind=kind, tenant=tenant, name=name, secret=secret, role=role, expires_ns=expires_ns, note=note
    )
    return Minted(_token(credential, secret), credential)


def rotate(
    store: Credentials, key_id: str, *, overlap_s: float = 0, expires_ns: int | None = None
) -> Minted | None:
    """Issue the successor of a key, which ends after ``overlap_s``; ``None`` when there is none to rotate."""
    secret = _new_secret()
    credential = store.rotate(key_id, secret, overlap_s=overlap_s, expires_ns=expires_ns)
    return None if credential is None else Minted(_token(credential, secret), credential)


def present(authorization: bytes) -> Presented | None:
    """Take an ``Authorization`` header apart; ``None`` for anything that is not one of our keys."""
    if len(authorization) > _MAX_HEADER or not authorization.isascii():
        return None
    scheme, _, token = authorization.decode("ascii").partition(" ")
    if scheme.lower() != "bearer":
        return None
    parts = token.strip().split("_", 2)
    if len(parts) != 3 or parts[0] not in _KIND:
        return None
    return Presented(_KIND[parts[0]], parts[1], parts[2].encode())


def matches(presented: Presented, secret_hash: bytes) -> bool:
    """Compare over the whole hash in constant time; a cache keyed by a prefix would let two keys meet."""
    return hmac.compare_digest(hash_secret(presented.secret), secret_hash)


def _new_secret() -> bytes:
    return secrets.token_urlsafe(32).encode()


def _token(credential: Credential, secret: bytes) -> str:
    return f"{_PREFIX[credential.kind]}_{credential.id}_{secret.decode()}"
