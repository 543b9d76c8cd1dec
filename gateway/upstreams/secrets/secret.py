"""Where a secret comes from: an environment variable, a file or a command, all named by the operator.

What is wrong with a source is said without quoting what it gave: a helper's error text, or half a key in a
file that is being written, is as secret as the secret.
"""

from __future__ import annotations

import asyncio
import errno
import os
import signal
import stat
from collections.abc import Mapping
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Final, Literal, NamedTuple, Protocol

import msgspec

from gateway.config_upstream import SecretConfig

MAX_BYTES: Final = 16 * 1024  # more than any header value a server accepts
_INHERITED: Final = ("PATH", "HOME", "LANG")
_REAP_S: Final = 2.0

Stamp = tuple[int, ...]
"""What differs when a file was written, replaced or given another mode."""


class Unusable(Exception):
    """A source without a usable secret; the text is for operators and quotes nothing of it."""


class Reading(NamedTuple):
    """A secret and when it ends, in nanoseconds since the epoch."""

    value: str
    expires_ns: int | None = None
    warning: str = ""  # usable, and something about the source deserves attention


class Source(Protocol):
    kind: Literal["env", "file", "command"]

    async def read(self) -> Reading:
        """Raises ``Unusable``."""


class FromEnvironment:
    kind: Literal["env", "file", "command"] = "env"

    def __init__(self, name: str, environ: Mapping[str, str] = os.environ) -> None:
        self._name = name
        self._environ = environ

    async def read(self) -> Reading:
        if self._name not in self._environ:
            raise Unusable(f"environment variable {self._name} is not set")
        return Reading(self._environ[self._name])


class FromFile:
    kind: Literal["env", "file", "command"] = "file"

    def __init__(self, path: Path) -> None:
        self.path = path

    async def read(self) -> Reading:
        return await asyncio.to_thread(self.read_now)

    def read_now(self) -> Reading:
        try:
            # Not blocking: a named pipe would wait for a writer for ever.
            descriptor = os.open(self.path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as error:
            raise Unusable(f"the file cannot be opened: {error.strerror}") from None
        try:
            # Of the open file, so that it cannot be exchanged between the check and the read.
            before = os.fstat(descriptor)
            if not stat.S_ISREG(before.st_mode):
                raise Unusable("not a regular file")
            # Who can write it decides as whom the gateway calls.
            if before.st_mode & stat.S_IWOTH:
                raise Unusable(f"the file has mode {before.st_mode & 0o777:04o}: everybody can write it")
            raw = b""
            while len(raw) <= MAX_BYTES and (more := os.read(descriptor, MAX_BYTES + 1 - len(raw))):
                raw += more
            # A file written in place may have been read half; a file that is replaced never is.
            if _stamp(os.fstat(descriptor)) != _stamp(before):
                raise Unusable("the file was written while it was read")
        except OSError as error:
            raise Unusable(f"the file cannot be read: {error.strerror}") from None
        finally:
            os.close(descriptor)
        # Kubernetes mounts secrets 0644 unless told otherwise, in a file system only the pod can see.
        exposed = f"the file has mode {before.st_mode & 0o777:04o}: everybody on this machine can read it"
        return Reading(_text(raw), warning=exposed if before.st_mode & stat.S_IROTH else "")

    def stamp(self) -> Stamp | None:
        """``None`` while there is no file. Follows links, so the swap of a mounted folder is seen."""
        try:
            return _stamp(self.path.stat())
        except OSError as error:
            return (-(error.errno or errno.EIO),) if error.errno != errno.ENOENT else None


class FromCommand:
    """Run without a shell, with a minimal environment; whatever it started ends with it."""

    kind: Literal["env", "file", "command"] = "command"

    def __init__(self, command: tuple[str, ...], pass_env: tuple[str, ...], timeout_s: float) -> None:
        self._command = command
        self._pass = pass_env
        self._timeout_s = timeout_s

    async def read(self) -> Reading:
        env = {name: os.environ[name] for name in (*_INHERITED, *self._pass) if name in os.environ}
        try:
            process = await asyncio.create_subprocess_exec(
                *self._command,
                env=env,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                # Helpers quote tokens and requests in their errors; what is not read cannot be logged.
                stderr=asyncio.subprocess.DEVNULL,
                start_new_session=True,
            )
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else "not a valid command"
            raise Unusable(f"the command cannot be run: {reason}") from None
        try:
            async with asyncio.timeout(self._timeout_s):
                assert process.stdout is not None
                raw = await _bounded(process.stdout)
                code = await process.wait()
        except TimeoutError:
            raise Unusable(f"the command did not end within {self._timeout_s:g} s") from None
        finally:
            await _end(process)
        if code:
            raise Unusable(f"the command ended with {code}; run it by hand to see why")
        return _printed(_text(raw))


def source_of(config: SecretConfig) -> Source | None:
    """The source a section names; ``None`` when it names none."""
    if config.env is not None:
        return FromEnvironment(config.env)
    if config.file is not None:
        return FromFile(config.file)
    if config.command is not None:
        return FromCommand(config.command, config.pass_env, config.timeout_s)
    return None


# ---------------------------------------------------------------------------------------- what it says


def header_value(value: str) -> str:
    """``value`` if it can stand in a header field; raises ``Unusable``."""
    if not value.isascii() or not value.isprintable() or value != value.strip():
        raise Unusable("not printable ASCII on one line, so it is no header value")
    return value


def variable_value(value: str) -> str:
    """``value`` if it can stand in an environment; several lines, such as a PEM key, are fine."""
    if "\0" in value:
        raise Unusable("a NUL byte, so it is no environment variable")
    return value


class _Status(msgspec.Struct):
    token: str = ""
    expires: str | None = msgspec.field(name="expirationTimestamp", default=None)


class _Printed(msgspec.Struct):
    """Our own form, or that of Kubernetes' exec credential plugins."""

    token: str = ""
    expires_at: int | float | str | None = None
    status: _Status | None = None


def _printed(text: str) -> Reading:
    """A token as it is, or a JSON object with ``token`` and ``expires_at``."""
    if not text.startswith("{"):
        return Reading(text)
    try:
        printed = msgspec.json.decode(text, type=_Printed)
    except (msgspec.DecodeError, RecursionError):
        raise Unusable("the output begins like JSON, and is not {token, expires_at}") from None
    token, expires = printed.token, printed.expires_at
    if not token and printed.status is not None:
        token, expires = printed.status.token, printed.status.expires
    if not token:
        raise Unusable("the output has no token")
    return Reading(token, _moment(expires))


def _moment(at: float | str | None) -> int | None:
    if at is None:
        return None
    try:
        if isinstance(at, str):
            parsed = datetime.fromisoformat(at)
            if parsed.tzinfo is None:
                raise Unusable("expires_at has no time zone")
            at = parsed.timestamp()
        return int(at * 1_000_000_000)
    except (ValueError, OverflowError):
        raise Unusable("expires_at is no time") from None


def _text(raw: bytes) -> str:
    """The text without its final line end; empty, huge and binary content is refused."""
    if len(raw) > MAX_BYTES:
        raise Unusable(f"more than {MAX_BYTES} bytes")
    try:
        text = raw.decode().rstrip("\r\n")
    except UnicodeDecodeError:
        raise Unusable("not text in UTF-8") from None
    if not text.strip():
        raise Unusable("empty")
    return text


def _stamp(found: os.stat_result) -> Stamp:
    # The change time too: it tells writes within one tick of the modification time, and changes of mode.
    return found.st_dev, found.st_ino, found.st_mode, found.st_size, found.st_mtime_ns, found.st_ctime_ns


async def _bounded(stream: asyncio.StreamReader) -> bytes:
    """All of it, up to one byte too many."""
    raw = b""
    while len(raw) <= MAX_BYTES and (more := await stream.read(MAX_BYTES + 1 - len(raw))):
        raw += more
    if len(raw) > MAX_BYTES:
        raise Unusable(f"the command printed more than {MAX_BYTES} bytes")
    return raw


async def _end(process: asyncio.subprocess.Process) -> None:
    """Nothing of its group stays, however the run ended."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    with suppress(TimeoutError):
        async with asyncio.timeout(_REAP_S):
            await process.wait()
