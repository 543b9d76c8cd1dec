"""The public keys of an issuer (RFC 7517), each with the algorithms it may be used with.

An algorithm must be allowed for the issuer and for the key: a token that says HS256 can never make a public
key serve as a shared secret, and a key published for encryption never checks a signature.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from hashlib import sha256
from typing import Any, Final, NamedTuple

import jwt
import orjson
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from jwt.algorithms import Algorithm, get_default_algorithms
from jwt.exceptions import PyJWTError

from gateway import strictjson
from gateway.errors import Refused

MAX_KEYS: Final = 64
_LEAST_RSA_BITS: Final = 2048
_LIBRARY: Final[dict[str, Algorithm]] = get_default_algorithms()
_FAMILY: Final[dict[tuple[str, str | None], frozenset[str]]] = {
    ("RSA", None): frozenset({"RS256", "RS384", "RS512", "PS256", "PS384", "PS512"}),
    ("EC", "P-256"): frozenset({"ES256"}),
    ("EC", "P-384"): frozenset({"ES384"}),
    ("OKP", "Ed25519"): frozenset({"EdDSA"}),
}
_PRIVATE: Final = frozenset({"d", "p", "q", "dp", "dq", "qi", "k", "oth"})


class BadKeys(Exception):
    """A document that is no set of keys."""


class Key(NamedTuple):
    """One key. Two are equal when they are the same key for the same use."""

    kid: str | None
    algorithms: frozenset[str]
    print: str  # SHA-256 of the published key
    public: Any

    def signed(self, algorithm: str, message: bytes, signature: bytes) -> bool:
        """Whether this key made the signature with this algorithm."""
        return algorithm in self.algorithms and bool(
            _LIBRARY[algorithm].verify(message, self.public, signature)
        )

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Key) and self[:3] == other[:3]

    def __hash__(self) -> int:
        return hash(self[:3])


class KeySet(NamedTuple):
    """The usable keys of one document, and why others are not."""

    keys: tuple[Key, ...] = ()
    dropped: tuple[str, ...] = ()

    def find(self, kid: str | None, algorithm: str) -> Key | None:
        """The one key that a token means. Without a kid there must be only one it can be."""
        fitting = [
            key for key in self.keys if algorithm in key.algorithms and (kid is None or key.kid == kid)
        ]
        return fitting[0] if len(fitting) == 1 else None


def shared(secret: bytes) -> KeySet:
    """The secret an issuer shares with us; its kid does not matter."""
    key = Key(None, frozenset({"HS256"}), sha256(secret).hexdigest(), secret)
    return KeySet((key,))


def parse(document: bytes, algorithms: Iterable[str]) -> KeySet:
    """Read a JWK Set. What cannot be used is dropped and named; raises ``BadKeys`` for what is no set."""
    try:
        published = strictjson.parse(document, 16)
    except Refused as refused:
        raise BadKeys(f"not valid JSON ({refused.code})") from None
    keys = published.get("keys") if isinstance(published, dict) else None
    if not isinstance(keys, list):
        raise BadKeys("not a JWK Set: no list 'keys'")
    if len(keys) > MAX_KEYS:
        raise BadKeys(f"more than {MAX_KEYS} keys")
    allowed = frozenset(algorithms) - {"HS256"}
    found: list[Key] = []
    dropped: list[str] = []
    for number, jwk in enumerate(keys):
        made = _key(jwk, allowed)
        if isinstance(made, Key):
            found.append(made)
        else:
            dropped.append(f"key {number}: {made}")
    return _unambiguous(found, dropped)


def _key(jwk: Any, allowed: frozenset[str]) -> Key | str:
    """The key, or why it is not used."""
    if not isinstance(jwk, dict):
        return "no object"
    kid, use, operations, alg = (jwk.get(name) for name in ("kid", "use", "key_ops", "alg"))
    kty, curve = jwk.get("kty"), jwk.get("crv")
    if kid is not None and not isinstance(kid, str):
        return "kid is no string"
    if not (isinstance(kty, str) and isinstance(curve, str | None)):
        return "kty or crv is no string"
    # A secret that is published is none, whatever it is for.
    if _PRIVATE & jwk.keys():
        return "its private part is published"
    if use not in (None, "sig") or (operations is not None and "verify" not in _words(operations)):
        return "not for signatures"
    family = _FAMILY.get((kty, curve if kty != "RSA" else None), frozenset())
    usable = family & allowed
    if alg is not None:
        usable = usable & {alg} if isinstance(alg, str) else frozenset()
    if not usable:
        return "none of the issuer's 'algorithms'"
    try:
        public = jwt.PyJWK(jwk, min(usable)).key
    except (PyJWTError, ValueError, TypeError, AttributeError) as error:
        return f"not a valid key ({type(error).__name__})"
    if isinstance(public, RSAPublicKey) and public.key_size < _LEAST_RSA_BITS:
        return f"RSA with fewer than {_LEAST_RSA_BITS} bits"
    essential = {name: jwk[name] for name in ("kty", "crv", "n", "e", "x", "y") if name in jwk}
    print_ = sha256(orjson.dumps(essential, option=orjson.OPT_SORT_KEYS)).hexdigest()
    return Key(kid, usable, print_, public)


def _words(operations: Any) -> Sequence[Any]:
    return operations if isinstance(operations, list) else ()


def _unambiguous(found: list[Key], dropped: list[str]) -> KeySet:
    """Without keys that share their kid: which one a token means must not depend on the order."""
    seen: dict[tuple[str, str], set[str]] = {}
    for key in found:
        for algorithm in key.algorithms:
            if key.kid is not None:
                seen.setdefault((key.kid, algorithm), set()).add(key.print)
    twice = {kid for (kid, _), prints in seen.items() if len(prints) > 1}
    dropped.extend(f"kid {kid[:40]!r}: used by several keys" for kid in sorted(twice))
    kept = dict.fromkeys(key for key in found if key.kid not in twice)
    return KeySet(tuple(kept), tuple(dropped))
