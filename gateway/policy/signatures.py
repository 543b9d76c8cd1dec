"""``.signatures.json``: who vouches for a bundle, as OPA defines it.

One JWT whose payload lists every file with the SHA-256 of its content. JSON and YAML documents are hashed by
their meaning, in an order of OPA's own that keeps numbers as they are written; everything else by its bytes.
What is accepted is decided by the configuration, never by the token: the algorithm belongs to the key.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from hashlib import sha256, sha384, sha512
from typing import Any, Final, Literal, get_args

import jwt
import msgspec
import yaml
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from gateway import strictjson
from gateway.errors import Refused
from gateway.policy.archive import DATA, MANIFEST, SIGNATURES, Archive, BadBundle

Algorithm = Literal[
    "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA", "HS256",
    "HS384", "HS512",
]  # fmt: skip
ALGORITHMS: Final[tuple[Algorithm, ...]] = get_args(Algorithm)

MAX_BYTES: Final = 8 * 1024 * 1024
LEAST_RSA: Final = 2048  # bits
LEAST_SECRET: Final = 32  # bytes
_LEEWAY_S: Final = 30
_HASHES: Final = {"SHA-256": sha256, "SHA-384": sha384, "SHA-512": sha512}
_CURVES: Final = {"ES256": "secp256r1", "ES384": "secp384r1", "ES512": "secp521r1"}


class Key(msgspec.Struct, frozen=True, kw_only=True):
    """One key that may vouch for bundles: its name, the one algorithm it is for, PEM or shared secret."""

    name: str
    algorithm: Algorithm
    material: bytes


class Vouched(msgspec.Struct, frozen=True, kw_only=True):
    """What a checked signature says."""

    key: str
    algorithm: str
    issuer: str = ""
    scope: str = ""
    issued_s: int | None = None
    expires_s: int | None = None


class BadSignature(BadBundle):
    """A bundle nobody vouches for; ``code`` is one word for metrics."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class _File(msgspec.Struct, frozen=True):
    name: str
    hash: str
    algorithm: str


class _Claims(msgspec.Struct, frozen=True, kw_only=True):
    files: tuple[_File, ...]
    keyid: str = ""
    scope: str = ""
    iss: str = ""
    iat: int | None = None
    exp: int | None = None
    nbf: int | None = None


class _Signatures(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    signatures: tuple[str, ...]
    plugin: str = ""


def verify(archive: Archive, keys: Mapping[str, Key], *, scope: str = "", now_s: float) -> Vouched:
    """Check that a known key vouches for exactly these files, now; raises ``BadSignature``."""
    claims, key = _claims(archive, keys)
    if claims.exp is not None and now_s > claims.exp + _LEEWAY_S:
        raise BadSignature("expired", f"the signature of key '{key.name}' has expired; sign the bundle again")
    early = max(claims.nbf or 0, claims.iat or 0)
    if now_s < early - _LEEWAY_S:
        raise BadSignature("not_yet_valid", "the signature is from the future; check the clocks")
    # A bundle signed for another place, such as a test environment, must not decide here.
    if claims.scope != scope:
        raise BadSignature(
            "wrong_scope", f"signed for the scope '{claims.scope}', and this gateway verifies for '{scope}'"
        )
    listed: dict[str, _File] = {}
    for file in claims.files:
        name = file.name.removeprefix("/")
        if name in listed:
            raise BadSignature("malformed", f"{SIGNATURES}: lists {name} twice")
        listed[name] = file
    present = set(archive.files) - {SIGNATURES}
    if extra := sorted(present - set(listed)):
        raise BadSignature("file_extra", f"{', '.join(extra[:5])}: not covered by the signature; sign again")
    if missing := sorted(set(listed) - present):
        raise BadSignature("file_missing", f"{', '.join(missing[:5])}: signed, and not in the bundle")
    for name, file in listed.items():
        digest = _HASHES.get(file.algorithm)
        if digest is None:
            raise BadSignature("malformed", f"{name}: hashed with {file.algorithm!r}; use SHA-256")
        if file_hash(name, archive.files[name], file.algorithm) != file.hash.lower():
            raise BadSignature("tampered", f"{name}: is not the file that was signed")
    return Vouched(
        key=key.name, algorithm=key.algorithm, issuer=claims.iss, scope=claims.scope,
        issued_s=claims.iat, expires_s=claims.exp,
    )  # fmt: skip


def sign(files: Mapping[str, bytes], key: Key, *, scope: str = "", issued_s: int, **claims: Any) -> bytes:
    """The content of ``.signatures.json`` for these files, as ``opa sign`` makes it."""
    listed = [
        {"name": name, "hash": file_hash(name, files[name]), "algorithm": "SHA-256"}
        for name in sorted(files) if name != SIGNATURES
    ]  # fmt: skip
    payload = {"files": listed, "keyid": key.name, "iat": issued_s, "iss": "wardgate", **claims}
    if scope:
        payload["scope"] = scope
    signer = _private(key)
    token = jwt.encode(payload, signer, algorithm=key.algorithm, headers={"kid": key.name})
    return json.dumps({"signatures": [token]}).encode()


def file_hash(name: str, content: bytes, algorithm: str = "SHA-256") -> str:
    """Hex digest of a file: of its meaning for data and the manifest, of its bytes for all else."""
    digest = _HASHES[algorithm]()
    if name.rpartition("/")[2] in (*DATA, MANIFEST):
        try:
            digest.update(_canonical(_document(name, content)).encode("utf-8", "surrogatepass"))
        except (ValueError, RecursionError, Refused, yaml.YAMLError) as error:
            raise BadSignature("malformed", f"{name}: cannot be read: {_one_line(error)}") from error
    else:
        digest.update(content)
    return digest.hexdigest()


def check_key(key: Key, *, private: bool = False) -> None:
    """Raise ``BadBundle`` for a key that cannot do what its algorithm says, or is too weak."""
    if key.algorithm.startswith("HS"):
        if len(key.material) < LEAST_SECRET:
            raise BadBundle(f"key '{key.name}': a secret needs at least {LEAST_SECRET} bytes")
        return
    load = _private if private else _public
    found = load(key)
    kind: Any = {"R": rsa, "P": rsa}.get(key.algorithm[0])
    if kind is not None:
        fits = isinstance(found, rsa.RSAPublicKey | rsa.RSAPrivateKey)
    elif key.algorithm == "EdDSA":
        fits = isinstance(found, ed25519.Ed25519PublicKey | ed25519.Ed25519PrivateKey)
    else:
        fits = isinstance(found, ec.EllipticCurvePublicKey | ec.EllipticCurvePrivateKey) and (
            found.curve.name == _CURVES[key.algorithm]
        )
    if not fits:
        raise BadBundle(f"key '{key.name}': is no key for {key.algorithm}")
    if isinstance(found, rsa.RSAPublicKey | rsa.RSAPrivateKey) and found.key_size < LEAST_RSA:
        raise BadBundle(f"key '{key.name}': an RSA key needs at least {LEAST_RSA} bits")


def _claims(archive: Archive, keys: Mapping[str, Key]) -> tuple[_Claims, Key]:
    """The payload of the one token, its signature checked."""
    raw = archive.files.get(SIGNATURES)
    if raw is None:
        raise BadSignature("unsigned", f"there is no {SIGNATURES}; sign it: 'wardgate policy sign'")
    if len(raw) > MAX_BYTES:
        raise BadSignature("malformed", f"{SIGNATURES}: larger than {MAX_BYTES} bytes")
    try:
        said = msgspec.convert(strictjson.parse(raw), _Signatures, strict=True)
        if len(said.signatures) != 1:
            raise BadSignature("malformed", f"{SIGNATURES}: {len(said.signatures)} signatures; give one")
        token = said.signatures[0]
        header = jwt.get_unverified_header(token)
    except (Refused, msgspec.ValidationError, jwt.PyJWTError) as error:
        raise BadSignature("malformed", f"{SIGNATURES}: {_one_line(error)}") from error
    kid = header.get("kid")
    # Without a name in the header, OPA's way is a name in the payload; only a name is taken from it.
    named = kid if isinstance(kid, str) else _unproven_keyid(token)
    key = keys.get(named) if named else next(iter(keys.values())) if len(keys) == 1 else None
    if key is None:
        known = ", ".join(sorted(keys)) or "none"
        raise BadSignature("unknown_key", f"signed with the key '{named or ''}'; known are {known}")
    # The algorithm is the key's: a public key must not be taken for a shared secret, nor 'none' for one.
    if header.get("alg") != key.algorithm:
        raise BadSignature(
            "wrong_algorithm",
            f"signed with {header.get('alg')!r}, and key '{key.name}' is for {key.algorithm}",
        )
    try:
        payload = jwt.PyJWS().decode(token, _public(key), algorithms=[key.algorithm])
        claims = msgspec.convert(strictjson.parse(payload), _Claims, strict=True)
    except jwt.InvalidSignatureError as error:
        raise BadSignature("bad_signature", f"the signature is not one of key '{key.name}'") from error
    except (Refused, msgspec.ValidationError, jwt.PyJWTError) as error:
        raise BadSignature("malformed", f"{SIGNATURES}: {_one_line(error)}") from error
    return claims, key


def claimed_key(archive: Archive) -> str:
    """The name of the key a signature says it is of, which proves nothing; "" when it says none."""
    try:
        token = json.loads(archive.files[SIGNATURES])["signatures"][0]
        kid = jwt.get_unverified_header(token).get("kid")
        return kid if isinstance(kid, str) else _unproven_keyid(token)
    except (KeyError, IndexError, TypeError, ValueError, jwt.PyJWTError):
        return ""


def _unproven_keyid(token: str) -> str:
    payload = jwt.PyJWS().decode(token, options={"verify_signature": False})
    found = json.loads(payload).get("keyid") if payload[:1] == b"{" else None
    return found if isinstance(found, str) else ""


def _public(key: Key) -> Any:
    if key.algorithm.startswith("HS"):
        return key.material
    try:
        return serialization.load_pem_public_key(key.material)
    except (ValueError, UnsupportedAlgorithm) as error:
        raise BadBundle(f"key '{key.name}': no public key in PEM") from error


def _private(key: Key) -> Any:
    if key.algorithm.startswith("HS"):
        return key.material
    try:
        return serialization.load_pem_private_key(key.material, None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise BadBundle(f"key '{key.name}': no unencrypted private key in PEM") from error


class _Written(str):
    """A number as it stands in the document: OPA hashes ``1.0`` and ``1`` apart."""


def _document(name: str, content: bytes) -> Any:
    text = content.decode("utf-8-sig")
    try:
        return json.loads(text, parse_int=_Written, parse_float=_Written, parse_constant=_no_constant)
    except ValueError:
        if name.endswith((".yaml", ".yml")):
            return yaml.safe_load(text)
        raise


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is no JSON")


def _canonical(value: Any) -> str:
    """As OPA's ``hash.go`` writes it: keys by code point, no space, the escapes of Go's encoder."""
    if isinstance(value, dict):
        return "{" + ",".join(f"{_text(k)}:{_canonical(value[k])}" for k in sorted(value)) + "}"
    if isinstance(value, list):
        return "[" + ",".join(map(_canonical, value)) + "]"
    if isinstance(value, _Written):
        return str(value)
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, float):
        return _go_float(value)
    return json.dumps(value)


_ESCAPED: Final = re.compile('[\x00-\x1f"\\\\\u2028\u2029\ud800-\udfff]')
_SHORT: Final = {'"': '\\"', "\\": "\\\\", "\n": "\\n", "\r": "\\r", "\t": "\\t", "\b": "\\b", "\f": "\\f"}


def _text(value: str) -> str:
    def escape(match: re.Match[str]) -> str:
        char = match[0]
        if "\ud800" <= char <= "\udfff":
            return "\ufffd"  # what Go makes of a lone surrogate
        return _SHORT.get(char) or f"\\u{ord(char):04x}"

    return f'"{_ESCAPED.sub(escape, value)}"'


def _go_float(value: float) -> str:
    """A YAML float as Go turns it into JSON: without exponent between 1e-6 and 1e21."""
    text = repr(value)
    if value == int(value) and abs(value) < 1e21:
        return str(int(value))
    if "e" in text and 1e-6 <= abs(value) < 1e21:
        return f"{value:.20f}".rstrip("0")
    return re.sub(r"e([+-])0+", r"e\1", text)


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())
