"""``wardgate policy build``, ``sign`` and ``verify``: policy as one signed file, in OPA's layout."""

from __future__ import annotations

import os
import stat
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gateway.cli.output import DEFAULT_CONFIG, NOT_FOUND, AsJson, ConfigPath, fail, print_json, say

if TYPE_CHECKING:
    from gateway.policy.archive import Archive
    from gateway.policy.signatures import Key

BundleFile = Annotated[Path, typer.Argument(help="A bundle (.tar.gz).")]
KeyId = Annotated[
    str, typer.Option("--key-id", help="Name of the key, as 'policy.source.verify.keys' has it.")
]
AlgorithmName = Annotated[
    str, typer.Option("--algorithm", help="RS, PS, ES or HS with 256, 384 or 512; or EdDSA.")
]
ForScope = Annotated[str, typer.Option("--scope", help="What the signature is for, such as production.")]


def build(
    folder: Annotated[
        Path | None, typer.Argument(help="A policy folder, instead of the configured one.")
    ] = None,
    output: Annotated[Path, typer.Option("--output", "-o", help="The file to write.")] = Path(
        "bundle.tar.gz"
    ),
    revision: Annotated[str, typer.Option("--revision", help="What people call it, such as a commit.")] = "",
    config: ConfigPath = DEFAULT_CONFIG,
    as_json: AsJson = False,
) -> None:
    """Put a policy folder, its pack and the shipped libraries into one bundle that needs nothing else.

    The same files make the same bytes. What the gateway would refuse is not built.
    """
    import orjson

    from gateway.policy import archive
    from gateway.policy.bundle import collect, read_bundle

    pack = None
    if folder is None:
        from gateway.cli.opened import configuration

        policy = configuration(config).policy
        folder, pack = policy.folder, policy.pack
        if folder is None:
            fail("The configured policy is a bundle already.", "Name the folder to build from.")
        if not folder.is_dir() and pack is not None:
            folder = None
    files = collect(folder, pack)
    manifest: dict[str, Any] = {"revision": revision, "roots": [""], "rego_version": 1}
    files[archive.MANIFEST] = orjson.dumps(manifest)
    raw = archive.write(files)
    if len(raw) > archive.MAX_PACKED:
        fail(f"The bundle would be larger than {archive.MAX_PACKED} bytes.", "Keep bulk data out of policy.")
    bundle = read_bundle(None, None, _read(raw, str(output)), label=str(folder or pack))
    _write(output, raw)
    done = {"file": str(output), "bytes": len(raw), "files": len(files), "revision": bundle.revision}
    if as_json:
        print_json(done)
    else:
        say(f"{output}: {len(files)} files, {len(raw)} bytes, policy revision {bundle.revision[:12]}.")


def sign(
    bundle: BundleFile,
    key: Annotated[Path, typer.Option("--key", help="Private key in PEM, or the shared secret; mode 0600.")],
    key_id: KeyId,
    algorithm: AlgorithmName = "ES256",
    scope: ForScope = "",
    days: Annotated[int, typer.Option("--days", min=0, help="Days until it expires; 0 for never.")] = 0,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Instead of the same file.")] = None,
    as_json: AsJson = False,
) -> None:
    """Sign a bundle: every file in it, so that none can be changed, added or left out."""
    from gateway.policy import archive, signatures

    read = _open(bundle)
    signer = _key(key, key_id, algorithm, private=True)
    now = int(time.time())
    expires = {"exp": now + days * 86_400} if days else {}
    files = dict(read.files)
    files[archive.SIGNATURES] = signatures.sign(files, signer, scope=scope, issued_s=now, **expires)
    raw = archive.write(files)
    _write(output or bundle, raw)
    done = {"file": str(output or bundle), "key": key_id, "algorithm": algorithm, "scope": scope, **expires}
    if as_json:
        print_json({**done, "digest": _read(raw, str(bundle)).digest})
    else:
        say(f"{output or bundle}: {len(files) - 1} files signed with key '{key_id}' ({algorithm}).")


def verify(
    bundle: BundleFile,
    key: Annotated[
        Path | None, typer.Option("--key", help="Public key in PEM, or the secret; else the configured keys.")
    ] = None,
    key_id: KeyId = "",
    algorithm: AlgorithmName = "ES256",
    scope: ForScope = "",
    config: ConfigPath = DEFAULT_CONFIG,
    as_json: AsJson = False,
) -> None:
    """Check a bundle as the gateway would: who vouches for it, then parse and gate. Exits 2 when bad."""
    import msgspec

    from gateway.policy import signatures
    from gateway.policy.bundle import read_bundle

    pack = None
    if key is not None:
        read = _open(bundle)
        # Without a name the key that was given is meant, whatever the signature calls it.
        one = _key(key, key_id or signatures.claimed_key(read) or "key", algorithm, private=False)
        keys = {one.name: one}
    else:
        from gateway.cli.opened import configuration
        from gateway.rollout import keys as configured

        policy = configuration(config).policy
        if not policy.source.verify.keys:
            fail("There is no key to verify with.", "Give --key, or set 'policy.source.verify.keys'.")
        keys, scope, pack = configured(policy.source), scope or policy.source.verify.scope, policy.pack
        read = _open(bundle)
    vouched = signatures.verify(read, keys, scope=scope, now_s=time.time())
    loaded = read_bundle(None, pack, read, label=str(bundle))
    done = {
        "file": str(bundle),
        "digest": read.digest,
        "revision": loaded.revision,
        "manifest_revision": read.manifest.revision,
        "files": len(read.files),
        "signature": msgspec.to_builtins(vouched),
    }
    if as_json:
        print_json(done)
    else:
        named = f" '{read.manifest.revision}'" if read.manifest.revision else ""
        say(
            f"{bundle}{named}: {len(read.files) - 1} files signed with key '{vouched.key}'"
            f" ({vouched.algorithm}), policy revision {loaded.revision[:12]}."
        )


def _open(bundle: Path) -> Archive:
    from gateway.policy.archive import read_file

    if not bundle.is_file():
        fail(f"There is no bundle {bundle}.", "'wardgate policy build' makes one.", NOT_FOUND)
    return read_file(bundle)


def _read(raw: bytes, label: str) -> Archive:
    from gateway.policy.archive import BadBundle, read

    try:
        return read(raw)
    except BadBundle as error:
        raise BadBundle(f"{label}: {error}") from error


def _key(path: Path, name: str, algorithm: str, *, private: bool) -> Key:
    from gateway.policy.signatures import ALGORITHMS, Key, check_key

    known = next((each for each in ALGORITHMS if each.lower() == algorithm.lower()), None)
    if known is None:
        fail(f"There is no algorithm '{algorithm}'.", f"Use one of {', '.join(ALGORITHMS)}.")
    try:
        with path.open("rb") as file:
            mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
            material = file.read(64 * 1024)
    except OSError as error:
        fail(f"The key {path} cannot be read: {error.strerror}.", code=NOT_FOUND)
    if private and mode & 0o077:
        fail(f"The key {path} has mode {mode:04o}, so others can read it.", f"Run 'chmod 600 {path}'.")
    key = Key(name=name, algorithm=known, material=material.strip() if known.startswith("HS") else material)
    check_key(key, private=private)
    return key


def _write(path: Path, raw: bytes) -> None:
    """Whole or not at all: a gateway may be reading it."""
    try:
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.", delete=False) as file:
            file.write(raw)
            file.flush()
            os.fsync(file.fileno())
            Path(file.name).chmod(0o644)
        Path(file.name).replace(path)
    except OSError as error:
        fail(f"{path} cannot be written: {error.strerror}.")
