"""Who is signed in: a sealed cookie that names the sign-in and the credential behind it, and nothing secret.

Each request looks the credential up as it is now, so a revoked key or another role holds at the next click.
The cookie is ``HttpOnly``, ``SameSite=Strict``, short-lived, and ``Secure`` where the browser says https.
"""

from __future__ import annotations

import base64
import binascii
import os
import secrets
from typing import Final

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from starlette.requests import Request
from starlette.responses import Response

COOKIE: Final = "wardgate_console"
PATH: Final = "/console"
_NONCE: Final = 12
_S: Final = 1_000_000_000
_MAX: Final = 2048
_RENEW_S: Final = 60.0


class SignIn(msgspec.Struct, frozen=True, kw_only=True):
    """One person in one browser. Times are nanoseconds since the epoch."""

    id: str
    credential: str  # id of an operator key, or how an identity provider calls the person
    began_ns: int
    seen_ns: int
    person: str = ""  # an operator by name, when a provider vouches for them
    tenant: str = ""
    secure: bool = False  # whether they signed in over https: their cookie never becomes one for http


_decode: Final = msgspec.json.Decoder(SignIn).decode


def begin(credential: str, now_ns: int, *, person: str = "", tenant: str = "") -> SignIn:
    return SignIn(
        id=secrets.token_hex(16), credential=credential, began_ns=now_ns, seen_ns=now_ns, person=person,
        tenant=tenant,
    )  # fmt: skip


class Seal:
    """Seals what browsers keep; AES-256-GCM, bound to what it is for."""

    def __init__(self, key: bytes) -> None:
        self._cipher = AESGCM(key)

    def close(self, what: bytes, use: bytes) -> str:
        nonce = os.urandom(_NONCE)
        return base64.urlsafe_b64encode(nonce + self._cipher.encrypt(nonce, what, use)).decode()

    def open(self, text: str, use: bytes) -> bytes | None:
        """``None`` for everything that we did not seal for this use."""
        if len(text) > _MAX:
            return None
        try:
            raw = base64.b64decode(text, altchars=b"-_", validate=True)
            return self._cipher.decrypt(raw[:_NONCE], raw[_NONCE:], use)
        except (binascii.Error, ValueError, InvalidTag):
            return None


class SignInCookies:
    """Reads and writes the cookie; ``life_s`` and ``idle_s`` come with each question."""

    def __init__(self, seal: Seal) -> None:
        self._seal = seal

    def read(self, request: Request, *, now_ns: int, life_s: float, idle_s: float) -> SignIn | None:
        text = request.cookies.get(COOKIE)
        raw = self._seal.open(text, b"sign-in") if text else None
        if raw is None:
            return None
        try:
            found = _decode(raw)
        except msgspec.MsgspecError:
            return None
        over = now_ns - found.began_ns > life_s * _S or now_ns - found.seen_ns > idle_s * _S
        return None if over else found

    def renewed(self, found: SignIn, now_ns: int) -> SignIn | None:
        """The same with a later moment, when it is worth a new cookie."""
        if now_ns - found.seen_ns < _RENEW_S * _S:
            return None
        return msgspec.structs.replace(found, seen_ns=now_ns)

    def write(self, response: Response, found: SignIn, *, life_s: float) -> None:
        left = max(1, int(life_s - (found.seen_ns - found.began_ns) / _S))
        response.set_cookie(
            COOKIE, self._seal.close(msgspec.json.encode(found), b"sign-in"), max_age=left, path=PATH,
            secure=found.secure, httponly=True, samesite="strict",
        )  # fmt: skip

    @staticmethod
    def forget(response: Response) -> None:
        response.delete_cookie(COOKIE, path=PATH, httponly=True, samesite="strict")


def inside(following: str | None) -> str:
    """A page of ours to go to; anything else could lead elsewhere."""
    text = following or ""
    fine = text.startswith(f"{PATH}/") and "\\" not in text and "//" not in text and text.isprintable()
    return text if fine and not text.startswith(f"{PATH}/log") else f"{PATH}/queue"
