"""The storage key: what makes arguments and results unreadable to whoever has only the file.

One 32-byte key comes from the environment or a file. From it HKDF-SHA256 (RFC 5869) derives one sub-key
for each use: sealing payloads with AES-256-GCM, a new one every day so that random 96-bit nonces stay far
below the 2^32 messages of NIST SP 800-38D; payload MACs; and what clients hold for the gateway.
"""

from __future__ import annotations

import base64
import binascii
import os
import stat
from collections.abc import Mapping
from functools import lru_cache
from hashlib import blake2b
from pathlib import Path
from typing import Final, NamedTuple

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from gateway.errors import ConfigError

ENVIRONMENT: Final = "WARDGATE_STORAGE_KEY"
_DAY_NS: Final = 86_400 * 1_000_000_000


class Unreadable(Exception):
    """A payload that this key does not open: sealed with another key, or altered."""


class Sealed(NamedTuple):
    """An encrypted payload; ``key_id`` is ``<fingerprint>.<day>``."""

    key_id: str
    nonce: bytes
    ciphertext: bytes


class Sealer:
    """Encrypts payloads under the key of one day."""

    __slots__ = ("_cipher", "_key_id")

    def __init__(self, key_id: str, cipher: AESGCM) -> None:
        self._key_id = key_id
        self._cipher = cipher

    def seal(self, name: str, data: bytes) -> tuple[str, bytes, bytes]:
        """The fields of ``Sealed``. Bound to a name, so that rows cannot be swapped unnoticed."""
        nonce = os.urandom(12)
        return self._key_id, nonce, self._cipher.encrypt(nonce, data, name.encode())


class StorageKey:
    """Opens and fingerprints payloads, and hands out what seals them. Safe to use from several threads."""

    def __init__(self, key: bytes) -> None:
        if len(key) != 32:
            raise ConfigError(f"the storage key has {len(key)} bytes instead of 32. {_REMEDY}")
        if len(set(key)) == 1:
            raise ConfigError(f"the storage key is one byte repeated, so it is no secret. {_REMEDY}")
        self._key = key
        self._mac_key = self._derive(b"payload mac")
        self.fingerprint = self._derive(b"fingerprint")[:4].hex()
        self._cipher = lru_cache(maxsize=64)(self._make_cipher)

    def sealer(self, at_ns: int) -> Sealer:
        """What seals the payloads of a time; made for a batch, so that the day is looked up once."""
        key_id = f"{self.fingerprint}.{at_ns // _DAY_NS}"
        return Sealer(key_id, self._cipher(key_id))

    def open(self, name: str, sealed: Sealed) -> bytes:
        """Decrypt, or raise ``Unreadable`` saying why."""
        fingerprint = sealed.key_id.partition(".")[0]
        if fingerprint != self.fingerprint:
            raise Unreadable(
                f"sealed with storage key {fingerprint}, and this is {self.fingerprint}: use the key it was"
                " written with"
            )
        try:
            return self._cipher(sealed.key_id).decrypt(sealed.nonce, sealed.ciphertext, name.encode())
        except InvalidTag:
            raise Unreadable("altered since it was written: its authentication tag does not match") from None

    def mac(self, name: str, data: bytes) -> str:
        """Hex keyed BLAKE2b (RFC 7693), salted with a name: equal payloads of two calls look unequal.

        An HMAC-SHA256 would say the same at three times the cost.
        """
        return blake2b(b"%b\0%b" % (name.encode(), data), key=self._mac_key, digest_size=32).hexdigest()

    def derived(self, use: str) -> bytes:
        """32 bytes for another use of its own, named so that no two uses can meet."""
        return self._derive(b"use " + use.encode())

    def _make_cipher(self, key_id: str) -> AESGCM:
        return AESGCM(self._derive(b"payload encryption " + key_id.encode()))

    def _derive(self, purpose: bytes) -> bytes:
        return HKDF(SHA256(), 32, salt=None, info=b"wardgate " + purpose).derive(self._key)


def new_key() -> str:
    """A fresh key as it is written to a key file: base64 of 32 random bytes."""
    return base64.b64encode(os.urandom(32)).decode()


def load_key(key_file: Path | None, environ: Mapping[str, str] = os.environ) -> StorageKey:
    """The key from the environment or the file; anything weak or unclear is a ``ConfigError``."""
    value = environ.get(ENVIRONMENT)
    if value is not None and key_file is not None:
        raise ConfigError(f"both {ENVIRONMENT} and storage.key_file are set: remove one")
    if value is not None:
        return StorageKey(_decode(value, ENVIRONMENT))
    if key_file is None:
        raise ConfigError(f"there is no storage key: set storage.key_file or {ENVIRONMENT}. {_REMEDY}")
    try:
        with key_file.open("rb") as file:
            # Of the open file, so that it cannot be exchanged between the check and the read.
            mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
            content = file.read(1024)
    except OSError as error:
        raise ConfigError(f"storage.key_file {key_file}: {error.strerror}. {_REMEDY}") from error
    if mode & 0o077:
        raise ConfigError(
            f"storage.key_file {key_file} has mode {mode:04o}, so others can read it:"
            f" run 'chmod 600 {key_file}', and make a new key if others may have"
        )
    return StorageKey(_decode(content, f"storage.key_file {key_file}"))


def _decode(value: str | bytes, where: str) -> bytes:
    try:
        return base64.b64decode(value.strip(), validate=True)
    except (binascii.Error, ValueError):
        raise ConfigError(f"{where} is not base64. {_REMEDY}") from None


_REMEDY: Final = "'wardgate init' makes a key; so does 'head -c 32 /dev/urandom | base64'."
