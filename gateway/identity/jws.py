"""Taking a signed token apart (RFC 7515, compact form), so that there is only one way to read it.

Written here rather than left to the library because a token must mean one thing to us and to whoever signed
it: canonical base64url only, duplicate keys refused, nothing understood by halves. The signature itself is
the library's work (``jwks.py``). Nothing here is proven yet.
"""

from __future__ import annotations

import base64
import binascii
from typing import Any, Final, NamedTuple

from gateway import strictjson
from gateway.errors import Refused, Unauthenticated

MAX_BYTES: Final = 16 * 1024
_MAX_DEPTH: Final = 16
_MAX_KID: Final = 256
_TYPES: Final = frozenset({"jwt", "at+jwt"})


class Jws(NamedTuple):
    """The parts of a token. Only ``signed`` and ``signature`` may be used before the signature is checked,
    and of the rest what is needed to find the key."""

    algorithm: str
    kid: str | None
    typ: str  # lower case, without "application/"; "" when there is none
    header: dict[str, Any]
    claims: dict[str, Any]
    signed: bytes
    signature: bytes


def take_apart(token: bytes) -> Jws:
    """Raises ``Unauthenticated`` with ``bad_credential``; its detail never quotes the token."""
    # Work before the signature is checked is work anybody can ask for.
    if len(token) > MAX_BYTES:
        raise malformed(f"longer than {MAX_BYTES} bytes")
    parts = token.split(b".")
    if len(parts) != 3:  # five would be an encrypted one
        raise malformed("not three parts")
    header = _object(parts[0], "header")
    claims = _object(parts[1], "claims")
    signature = _decoded(parts[2], "signature")
    for name in ("crit", "b64"):
        # What must be understood to be safe is not understood here.
        if name in header:
            raise malformed(f"header says '{name}'")
    algorithm, kid, typ = header.get("alg"), header.get("kid"), header.get("typ", "")
    if not isinstance(algorithm, str):
        raise malformed("no algorithm")
    if kid is not None and not (isinstance(kid, str) and len(kid) <= _MAX_KID):
        raise malformed("kid is no short string")
    typ = typ.lower().removeprefix("application/") if isinstance(typ, str) else None
    # A token made for another use, such as a logout token, must not be taken for an access token.
    if typ is None or (typ and typ not in _TYPES):
        raise malformed("typ is not of an access token")
    signed = token[: len(parts[0]) + 1 + len(parts[1])]
    return Jws(algorithm, kid, typ, header, claims, signed, signature)


def malformed(why: str) -> Unauthenticated:
    return Unauthenticated("bad_credential", f"token: {why}")


def _object(part: bytes, what: str) -> dict[str, Any]:
    try:
        value = strictjson.parse(_decoded(part, what), _MAX_DEPTH)
    except Refused as refused:
        if isinstance(refused, Unauthenticated):
            raise
        raise malformed(f"{what}: {refused.code}") from None  # its own words may quote the token
    if not isinstance(value, dict):
        raise malformed(f"{what} is no object")
    return value


def _decoded(part: bytes, what: str) -> bytes:
    try:
        data = base64.urlsafe_b64decode(part + b"=" * (-len(part) % 4))
    except (binascii.Error, ValueError):
        raise malformed(f"{what} is not base64url") from None
    # The decoder skips what it does not know: two spellings of one token would be two tokens to a cache.
    if base64.urlsafe_b64encode(data).rstrip(b"=") != part:
        raise malformed(f"{what} is not canonical base64url")
    return data
