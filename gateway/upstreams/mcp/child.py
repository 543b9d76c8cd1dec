"""A child process that speaks lines: started in its own process group, ended with everything it started.

The command comes from the operator's configuration only, and is run without a shell. The child sees a
minimal environment, never the gateway's own secrets.
"""

from __future__ import annotations

import asyncio
import logging
import os
import re
import signal
from collections import deque
from collections.abc import Mapping
from pathlib import Path
from typing import Final, Protocol, cast

from gateway.errors import NotSent

logger = logging.getLogger("wardgate.upstreams")

STDERR_LINES: Final = 200  # kept of each child, for ``doctor``
STDERR_CHARS: Final = 500  # of each line
STDERR_LOGGED: Final = 20  # lines a second that reach the log
HIDDEN_CHARS: Final = 6  # a shorter secret is in too many words to be masked
STDIN_BYTES: Final = 16 * 1024 * 1024  # not yet taken by the child before new requests are refused
_POLITE_S: Final = 0.5  # between closing stdin and TERM
_TERM_S: Final = 2.0  # between TERM and KILL
_BEGINNING: Final = 1024
_INHERITED: Final = ("PATH", "HOME", "LANG")
_ANSI: Final = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)?|.)")
_CONTROL: Final = re.compile(r"[\x00-\x08\x0a-\x1f\x7f-\x9f\u2028\u2029]")


class Listener(Protocol):
    """Who hears a child. Called on the event loop; must not block."""

    def line(self, line: bytes) -> None: ...

    def oversized(self, beginning: bytes) -> None:
        """A line beyond the limit was dropped; ``beginning`` is how it starts."""

    def exited(self, child: Child) -> None: ...


class Child(asyncio.SubprocessProtocol):
    def __init__(self, name: str, listener: Listener, max_line: int) -> None:
        self._name = name
        self._listener = listener
        self._max_line = max_line
        self._line = bytearray()
        self._skipping = False  # inside a line that is too long
        self._stderr_rest = b""
        self._transport: asyncio.SubprocessTransport | None = None
        self._stdin: asyncio.WriteTransport | None = None
        self._gone = asyncio.Event()
        self._log_second = 0.0
        self._logged = 0
        self._hidden: tuple[bytes, ...] = ()
        self.stderr: deque[str] = deque(maxlen=STDERR_LINES)
        self.pid = 0

    @classmethod
    async def start(
        cls,
        name: str,
        command: tuple[str, ...],
        env: Mapping[str, str],
        cwd: Path | None,
        listener: Listener,
        max_line: int,
        hidden: tuple[str, ...] = (),
    ) -> Child:
        """Run ``command``; raises ``NotSent`` when it cannot be started.

        ``hidden`` is masked where the child writes it to stderr, as some do with their environment.
        """
        inherited = {key: os.environ[key] for key in _INHERITED if key in os.environ}
        loop = asyncio.get_running_loop()
        child = cls(name, listener, max_line)
        child._hidden = tuple(
            line.encode() for value in hidden for line in value.splitlines() if len(line) >= HIDDEN_CHARS
        )
        try:
            await loop.subprocess_exec(
                lambda: child, *command, env={**inherited, **env}, cwd=cwd, start_new_session=True
            )
        except (OSError, ValueError) as error:
            raise NotSent("upstream_unavailable", f"{command[0]}: {error}") from None
        logger.info("upstream %s: started process %d", name, child.pid)
        return child

    @property
    def alive(self) -> bool:
        return not self._gone.is_set()

    def write(self, line: bytes) -> None:
        """Hand one line to the child; raises ``NotSent`` when that is known to be impossible."""
        if self._stdin is None or self._stdin.is_closing() or not self.alive:
            raise NotSent("upstream_unavailable", "the process has ended")
        if self._stdin.get_write_buffer_size() > STDIN_BYTES:
            raise NotSent("overloaded", "the process does not read its input")
        self._stdin.write(line + b"\n")

    def kill(self) -> None:
        """End the whole process group at once."""
        self._signal(signal.SIGKILL)

    async def close(self) -> None:
        """Close stdin, then TERM, then KILL to the whole group; returns when it is gone."""
        if self._stdin is not None:
            self._stdin.close()
        await self._wait(_POLITE_S)
        # The leader may be gone and have left children behind: the group is what has to end.
        if self._signal(signal.SIGTERM):
            await self._wait(_TERM_S)
            self._signal(signal.SIGKILL)
            await self._wait(_TERM_S)
        if self._transport is not None:
            self._transport.close()

    async def _wait(self, seconds: float) -> None:
        """Until the process has been reaped and nothing of its group is left, or time is up."""
        loop = asyncio.get_running_loop()
        end = loop.time() + seconds
        while loop.time() < end and (self.alive or self._signal(0)):  # noqa: ASYNC110 - a group has no event
            await asyncio.sleep(0.02)

    def _signal(self, number: int) -> bool:
        """Whether there was anybody to signal."""
        if not self.pid:
            return False
        try:
            os.killpg(self.pid, number)
        except (ProcessLookupError, PermissionError):
            return False
        return True

    # ------------------------------------------------------------------- asyncio.SubprocessProtocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports have the methods of these classes, not the classes themselves as ancestors.
        self._transport = cast("asyncio.SubprocessTransport", transport)
        self.pid = self._transport.get_pid()
        self._stdin = cast("asyncio.WriteTransport", self._transport.get_pipe_transport(0))

    def pipe_data_received(self, fd: int, data: bytes) -> None:
        if fd == 2:
            self._stderr(data)
            return
        *complete, rest = data.split(b"\n")
        for part in complete:
            self._extend(part)
            line, skipping = bytes(self._line), self._skipping
            self._line.clear()
            self._skipping = False
            if not skipping and line.strip():
                self._listener.line(line)
        self._extend(rest)

    def _extend(self, part: bytes) -> None:
        if self._skipping:
            return
        self._line += part
        if len(self._line) > self._max_line:
            beginning = bytes(self._line[:_BEGINNING])
            self._line.clear()
            self._skipping = True
            self._listener.oversized(beginning)

    def process_exited(self) -> None:
        # Whatever the leader started has lost its reason to be.
        self._signal(signal.SIGKILL)
        code = self._transport.get_returncode() if self._transport is not None else None
        logger.info("upstream %s: process %d ended with %s", self._name, self.pid, code)

    def connection_lost(self, exc: Exception | None) -> None:
        # Called after exit *and* after the pipes are drained, so an answer written just before is read.
        self._gone.set()
        self._listener.exited(self)

    def _stderr(self, data: bytes) -> None:
        said = self._stderr_rest + data
        for secret in self._hidden:  # before anything is cut off, which could leave half of one
            said = said.replace(secret, b"***")
        *complete, rest = said.split(b"\n")
        self._stderr_rest = rest[-4 * STDERR_CHARS :]
        now = asyncio.get_running_loop().time()
        if now - self._log_second >= 1.0:
            self._log_second, self._logged = now, 0
        for raw in complete:
            text = clean(raw.decode(errors="replace"))[:STDERR_CHARS]
            self.stderr.append(text)
            self._logged += 1
            if self._logged <= STDERR_LOGGED:
                logger.info("upstream %s: %s", self._name, text)


def clean(text: str) -> str:
    """``text`` without escape sequences and control characters: it must not forge log lines."""
    return _CONTROL.sub("", _ANSI.sub("", text))
