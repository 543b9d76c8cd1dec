"""The keys that sign assertions: a JSON Web Key Set (RFC 7517) in a file only the gateway reads.

Each key says from when it signs (``nbf``) and until when it is published (``exp``). A new one is published
before it signs, and the old one after it has stopped, so that upstreams with a cached set verify all along.
"""

from __future__ import annotations

import os
import stat
import tempfile
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any, Final, Literal

import msgspec
import orjson
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from gateway.errors import ConfigError

MAX_KEYS: Final = 16
_MAX_BYTES: Final = 64 * 1024
_REMEDY: Final = "'wardgate assertion new' makes one."


class SigningKey(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One private JWK; times are seconds since the epoch."""

    kid: str  # from the thumbprint of the public key (RFC 7638)
    x: str
    d: str
    nbf: int
    exp: int | None = None
    kty: Literal["OKP"] = "OKP"
    crv: Literal["Ed25519"] = "Ed25519"

    def private(self) -> Ed25519PrivateKey:
        return Ed25519PrivateKey.from_private_bytes(_unb64(self.d))

    def public_jwk(self) -> dict[str, str]:
        return {
            "kty": "OKP", "crv": "Ed25519", "x": self.x, "kid": self.kid, "alg": "EdDSA", "use": "sig",
        }  # fmt: skip

    def state(self, now_s: float) -> Literal["next", "signs", "published", "ended"]:
        """Without regard to other keys; of several that could sign, the newest does."""
        if self.exp is not None and self.exp <= now_s:
            return "ended"
        if self.nbf > now_s:
            return "next"
        return "signs" if self.exp is None else "published"


class _File(msgspec.Struct, kw_only=True):
    keys: list[SigningKey]


def new(nbf: int) -> SigningKey:
    made = Ed25519PrivateKey.generate()
    x = _b64(made.public_key().public_bytes_raw())
    return SigningKey(kid=_thumbprint(x), x=x, d=_b64(made.private_bytes_raw()), nbf=nbf)


def rotated(keys: Sequence[SigningKey], now_s: int, lead_s: int, keep_s: int) -> list[SigningKey]:
    """A new key that signs after ``lead_s``; the others stay published ``keep_s`` longer than that."""
    begins = now_s + lead_s
    ends = begins + keep_s
    kept = [
        msgspec.structs.replace(key, exp=ends if key.exp is None else min(key.exp, ends))
        for key in keys
        if key.state(now_s) != "ended"
    ]
    return [*kept, new(begins)]


def signing(keys: Sequence[SigningKey], now_s: float) -> SigningKey | None:
    """The key that signs now: the newest that may."""
    usable = [key for key in keys if key.state(now_s) in ("signs", "published")]
    return max(usable, key=lambda key: key.nbf, default=None)


def jwks(keys: Sequence[SigningKey], now_s: float) -> dict[str, Any]:
    """What upstreams verify with: the public halves, also of the key that signs next."""
    return {"keys": [key.public_jwk() for key in keys if key.state(now_s) != "ended"]}


def load(path: Path) -> list[SigningKey]:
    """The keys of the file; anything weak or unclear is a ``ConfigError`` that quotes nothing of it."""
    try:
        with path.open("rb") as file:
            # Of the open file, so that it cannot be exchanged between the check and the read.
            mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
            raw = file.read(_MAX_BYTES + 1)
    except OSError as error:
        raise ConfigError(f"assertion.key_file {path}: {error.strerror}. {_REMEDY}") from None
    if mode & 0o077:
        raise ConfigError(
            f"assertion.key_file {path} has mode {mode:04o}, so others can read it:"
            f" run 'chmod 600 {path}', and rotate the keys if others may have"
        )
    try:
        keys = msgspec.json.decode(raw, type=_File).keys
        for key in keys:
            if _b64(key.private().public_key().public_bytes_raw()) != key.x or _thumbprint(key.x) != key.kid:
                raise ValueError
    except (msgspec.DecodeError, ValueError):
        raise ConfigError(f"assertion.key_file {path} is no set of Ed25519 keys. {_REMEDY}") from None
    if len(raw) > _MAX_BYTES or not 0 < len(keys) <= MAX_KEYS or len({key.kid for key in keys}) < len(keys):
        raise ConfigError(f"assertion.key_file {path} needs 1 to {MAX_KEYS} different keys. {_REMEDY}")
    return keys


def save(path: Path, keys: Sequence[SigningKey]) -> None:
    """Replace the file whole, so that a gateway that reads it now sees the old or the new."""
    content = msgspec.json.format(msgspec.json.encode(_File(keys=list(keys))), indent=2)
    descriptor, beside = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")  # mode 0600
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content + b"\n")
            file.flush()
            os.fsync(descriptor)
        Path(beside).replace(path)
    except OSError:
        Path(beside).unlink(missing_ok=True)
        raise


def _thumbprint(x: str) -> str:
    # In hex, since base64url may begin with "-" and an id is given to commands.
    return sha256(orjson.dumps({"crv": "Ed25519", "kty": "OKP", "x": x})).hexdigest()[:32]


def _b64(raw: bytes) -> str:
    return urlsafe_b64encode(raw).rstrip(b"=").decode()


def _unb64(text: str) -> bytes:
    return urlsafe_b64decode(text + "=" * (-len(text) % 4))
