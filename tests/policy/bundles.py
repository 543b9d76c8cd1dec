"""Bundles and keys for tests: signed by us, by ``opa``, and wrong in every way."""

from __future__ import annotations

import gzip
import io
import tarfile
import time
from collections.abc import Iterable, Mapping
from functools import cache
from typing import Any, Final

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from gateway.policy import archive, signatures
from gateway.policy.archive import Archive
from gateway.policy.signatures import Algorithm, Key
from tests.policy.helpers import rule

ALLOW: Final = rule("all", 'allow contains {"code": "fine", "message": "fine"}').encode()
FILES: Final[dict[str, bytes]] = {
    "rules/all.rego": ALLOW,
    "data.json": b'{"limits": {"pay": 1000, "ratio": 1.50, "big": 1e3, "text": "a\\u2028b<&>\\u00e9"}}',
    ".manifest": b'{"revision": "r1", "roots": [""], "rego_version": 1}',
}


@cache
def pair(algorithm: Algorithm, name: str = "release") -> tuple[Key, Key]:
    """A private and a public key."""
    if algorithm.startswith("HS"):
        key = Key(name=name, algorithm=algorithm, material=b"0123456789abcdef" * 4)
        return key, key
    private: Any
    if algorithm[0] in "RP":
        private = rsa.generate_private_key(65537, 2048)
    elif algorithm == "EdDSA":
        private = ed25519.Ed25519PrivateKey.generate()
    else:
        curves = {"ES256": ec.SECP256R1(), "ES384": ec.SECP384R1(), "ES512": ec.SECP521R1()}
        private = ec.generate_private_key(curves[algorithm])
    pem = private.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    public = private.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return (
        Key(name=name, algorithm=algorithm, material=pem),
        Key(name=name, algorithm=algorithm, material=public),
    )


def signed(
    files: Mapping[str, bytes] = FILES, algorithm: Algorithm = "ES256", *, scope: str = "", **claims: Any
) -> bytes:
    """A bundle as it is shipped."""
    private, _ = pair(algorithm)
    made = signatures.sign(files, private, scope=scope, issued_s=int(time.time()), **claims)
    return archive.write({**files, archive.SIGNATURES: made})


def public(algorithm: Algorithm = "ES256") -> dict[str, Key]:
    key = pair(algorithm)[1]
    return {key.name: key}


def verified(raw: bytes, algorithm: Algorithm = "ES256", scope: str = "") -> Archive:
    read = archive.read(raw)
    signatures.verify(read, public(algorithm), scope=scope, now_s=time.time())
    return read


def tarred(members: Iterable[tuple[tarfile.TarInfo, bytes]]) -> bytes:
    """A gzipped tar of any members, good or bad."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as tar:
        for member, content in members:
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return gzip.compress(packed.getvalue())


def member(name: str, content: bytes = b"x", kind: bytes = tarfile.REGTYPE, link: str = "") -> Any:
    info = tarfile.TarInfo(name)
    info.type = kind
    info.linkname = link
    return info, content
