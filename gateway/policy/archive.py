"""A bundle as one file: OPA's layout in a gzipped tar, read with bounds and written to the same bytes.

An archive comes from somebody else and is read before its signature is checked, so nothing in it is
believed: no links or devices, no name that leaves the root or is given twice, no more bytes unpacked than
agreed. Reading touches no disk. Names have no leading slash here; ``opa build`` writes one.
"""

from __future__ import annotations

import gzip
import io
import tarfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

import msgspec

from gateway import strictjson
from gateway.errors import ConfigError, Refused
from gateway.policy import monitors

MANIFEST: Final = ".manifest"
SIGNATURES: Final = ".signatures.json"
DATA: Final = ("data.json", "data.yaml", "data.yml")

MAX_PACKED: Final = 32 * 1024 * 1024
MAX_UNPACKED: Final = 64 * 1024 * 1024
MAX_FILES: Final = 10_000
MAX_NAME: Final = 500


class BadBundle(ConfigError):
    """An archive that is not used; says which file, what is wrong and what to do."""


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """OPA's ``.manifest``, as far as it has a meaning here. Members we do not know are metadata."""

    revision: str = ""
    roots: tuple[str, ...] = ("",)
    rego_version: int | None = None
    file_rego_versions: dict[str, int] = {}
    wasm: tuple[Any, ...] = ()
    metadata: dict[str, Any] = {}


class Archive(msgspec.Struct, frozen=True, kw_only=True):
    """A bundle as it was received. ``digest`` is the SHA-256 of its bytes."""

    raw: bytes
    files: Mapping[str, bytes]  # all of them, the manifest and the signatures too
    manifest: Manifest

    @property
    def digest(self) -> str:
        return sha256(self.raw).hexdigest()


def read(raw: bytes) -> Archive:
    """Unpack into memory; raises ``BadBundle``."""
    if len(raw) > MAX_PACKED:
        raise BadBundle(f"larger than {MAX_PACKED} bytes: a policy bundle holds rules, not bulk data")
    files = dict(_members(_unpacked(raw)))
    return Archive(raw=raw, files=files, manifest=manifest(files))


def read_file(path: Path) -> Archive:
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_PACKED + 1)
    except OSError as error:
        raise BadBundle(f"{path}: {error.strerror}") from error
    try:
        return read(raw)
    except BadBundle as error:
        raise BadBundle(f"{path}: {error}") from error


def write(files: Mapping[str, bytes]) -> bytes:
    """The same files give the same bytes, whenever and wherever: no times, owners or order of a disk."""
    packed = io.BytesIO()
    with (
        gzip.GzipFile(fileobj=packed, mode="wb", mtime=0, compresslevel=9) as zipped,
        tarfile.open(fileobj=zipped, mode="w", format=tarfile.USTAR_FORMAT) as tar,
    ):
        for name in sorted(files):
            member = tarfile.TarInfo(name)
            member.size = len(files[name])
            member.mode = 0o644
            tar.addfile(member, io.BytesIO(files[name]))
    return packed.getvalue()


def read_folder(root: Path, *, own: bool = False) -> dict[str, bytes]:
    """The files of a policy folder that belong into a bundle, by name. Hidden ones stay out.

    ``own``: refuse links that lead out of the folder, for a bundle that goes elsewhere.
    """
    if not root.is_dir():
        raise BadBundle(f"{root}: no such policy folder")
    files: dict[str, bytes] = {}
    for path in sorted(root.rglob("*")):
        name = path.relative_to(root).as_posix()
        wanted = path.suffix == ".rego" or path.name in DATA or name in (MANIFEST, SIGNATURES)
        wanted = wanted or monitors.is_file(name)
        if not wanted or any(part.startswith(".") for part in Path(name).parts[:-1]):
            continue
        if path.name.startswith(".") and name not in (MANIFEST, SIGNATURES):
            continue
        if own and path.is_symlink() and not path.resolve().is_relative_to(root.resolve()):
            raise BadBundle(f"{path}: links to a file outside of the folder; copy the file")
        if not path.is_file():
            continue
        try:
            files[name] = path.read_bytes()
        except OSError as error:
            raise BadBundle(f"{path}: {error.strerror}") from error
        if len(files) > MAX_FILES:
            raise BadBundle(f"{root}: more than {MAX_FILES} files; is this a policy folder?")
    return files


def _unpacked(raw: bytes) -> bytes:
    """The tar inside. A few kilobytes can unfold to gigabytes, so it stops at the bound, not after it."""
    unpack = zlib.decompressobj(wbits=31)
    try:
        tar = unpack.decompress(raw, MAX_UNPACKED)
    except zlib.error as error:
        raise BadBundle(f"not a gzipped tar ({error}); 'wardgate policy build' makes one") from error
    if unpack.unconsumed_tail:
        raise BadBundle(f"unpacks to more than {MAX_UNPACKED} bytes")
    if not unpack.eof:
        raise BadBundle("truncated: it ends in the middle; fetch or build it again")
    # What follows the first gzip member is read by some readers and not by others.
    if unpack.unused_data:
        raise BadBundle("has more data after its end; build it again")
    return tar


def _members(raw: bytes) -> Iterator[tuple[str, bytes]]:
    seen: set[str] = set()
    try:
        with tarfile.open(fileobj=io.BytesIO(raw), mode="r:") as tar:
            for number, member in enumerate(tar):
                if number >= MAX_FILES:
                    raise BadBundle(f"more than {MAX_FILES} files")
                if member.isdir():
                    continue
                name = _name(member.name)
                # A link could name any file of this machine; a device could be endless.
                if not member.isreg() or member.issparse():
                    raise BadBundle(f"{name}: a link or special file; a bundle holds plain files only")
                # Of two files of one name, the signature could be checked on one and the other be used.
                if name in seen:
                    raise BadBundle(f"{name}: given twice")
                seen.add(name)
                content = tar.extractfile(member)
                data = content.read() if content is not None else b""
                if len(data) != member.size:
                    raise BadBundle(f"{name}: truncated")
                yield name, data
    except (tarfile.TarError, EOFError, ValueError, OverflowError) as error:
        raise BadBundle(f"not a valid tar: {error}") from error
    if not seen:
        raise BadBundle("holds no file")


def _name(given: str) -> str:
    name = given.removeprefix("./").removeprefix("/")
    parts = name.split("/")
    odd = "\\" in name or "\0" in name or not name.isprintable() or len(name) > MAX_NAME
    # A name that climbs out would be another file to whoever unpacks the same archive to a disk.
    if odd or any(part in ("", ".", "..") for part in parts):
        raise BadBundle(f"{given[:MAX_NAME]!r}: not a plain relative name")
    return name


def manifest(files: Mapping[str, bytes]) -> Manifest:
    """The manifest among the files, or the one that says nothing; raises ``BadBundle``."""
    raw = files.get(MANIFEST)
    if "patch.json" in files:
        raise BadBundle("patch.json: a delta bundle; serve whole bundles")
    # OPA would decide by the compiled code, and this gateway by the text: the two may differ.
    if any(name.endswith(".wasm") for name in files):
        raise BadBundle("holds compiled policy (wasm); build it with the target 'rego'")
    if raw is None:
        return Manifest()
    try:
        found = msgspec.convert(strictjson.parse(raw), Manifest, strict=True)
    except Refused as error:
        raise BadBundle(f"{MANIFEST}: {error.reason.message} {error.detail}".strip()) from error
    except msgspec.ValidationError as error:
        raise BadBundle(f"{MANIFEST}: {error}") from error
    versions = [found.rego_version, *found.file_rego_versions.values()]
    # The same words mean other things in version 0 of the language.
    if any(version not in (None, 1) for version in versions):
        raise BadBundle(f"{MANIFEST}: built for Rego v0; build it with OPA 1.0 or later, without --v0-*")
    if found.wasm:
        raise BadBundle("names compiled policy (wasm); build it with the target 'rego'")
    return found


def outside_roots(roots: Sequence[str], path: Sequence[str]) -> bool:
    """Whether a package or a piece of data lies where the manifest does not say that the bundle is."""
    return not any(_below(root, path) for root in roots)


def _below(root: str, path: Sequence[str]) -> bool:
    parts = [part for part in root.split("/") if part]
    return list(path[: len(parts)]) == parts
