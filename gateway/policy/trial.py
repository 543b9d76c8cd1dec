"""The gateway's side of ``worker.py``: a policy loaded in a process of its own, asked in batches.

Blocking; used from threads. A process that takes too long is killed, and whatever becomes of it is said in a
sentence and never raised as something of our own.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Final, Self

import msgspec

from gateway.model import Call, Facts, Tool
from gateway.policy.archive import BadBundle
from gateway.policy.module import Bundle, Module
from gateway.policy.worker import Asked, Batch, Examined, Load, Said, asked, put_together, receive, send

EXAMINE_S: Final = 120.0
BATCH_S: Final = 30.0
_KEPT_TOOLS: Final = 4096
_PASSED: Final = ("PATH", "HOME", "LANG", "LC_ALL", "PYTHONPATH", "PYTHONPYCACHEPREFIX", "VIRTUAL_ENV")


class Trial:
    """One worker. ``with`` ends it; one thread at a time talks to it."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "gateway.policy.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            cwd=Path(__file__).resolve().parents[2],
            env={name: os.environ[name] for name in _PASSED if name in os.environ},
        )
        assert self._process.stdin is not None and self._process.stdout is not None, "asked for pipes"
        self._in, self._out = self._process.stdin, self._process.stdout
        self._tools: dict[int, tuple[Tool, int]] = {}
        self._numbers = 0
        self._late = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def kill(self) -> None:
        """End the process now, from any thread; whoever waits for an answer gets ``BadBundle``."""
        self._process.kill()

    def close(self) -> None:
        self.kill()
        for pipe in (self._in, self._out):
            try:
                pipe.close()
            except OSError:  # what was still to be written to a process that is gone
                continue
        self._process.wait()

    def load(self, wanted: Load, within_s: float = EXAMINE_S) -> tuple[Examined, Bundle | None]:
        """Parse, gate and test; raises ``BadBundle`` with every reason why it must not be used."""
        with _Deadline(self, within_s):
            try:
                send(self._in, wanted)
                examined = receive(self._out, Examined)
                bundle = None
                if examined.modules:
                    rest = receive(self._out, Bundle)
                    bundle = put_together(rest, [receive(self._out, Module) for _ in range(examined.modules)])
            except (EOFError, OSError, msgspec.DecodeError) as error:
                raise BadBundle(self._ended(within_s)) from error
        if examined.problems:
            raise BadBundle("\n".join(examined.problems))
        return examined, bundle

    def decide(self, calls: Sequence[tuple[Call, Facts]], within_s: float = BATCH_S) -> list[Said]:
        """What the policy says of each; raises ``BadBundle`` when the process does not answer."""
        fresh = len(self._tools) > _KEPT_TOOLS
        if fresh:
            self._tools.clear()
        new: list[tuple[int, Tool]] = []
        numbered: list[Asked] = []
        for call, facts in calls:
            known = self._tools.get(id(call.tool))
            if known is None or known[0] is not call.tool:
                self._numbers += 1
                known = self._tools[id(call.tool)] = (call.tool, self._numbers)
                # A definition can be large, and a rule does not see it.
                new.append((self._numbers, msgspec.structs.replace(call.tool, definition_json=b"")))
            numbered.append(asked(call, facts, known[1]))
        with _Deadline(self, within_s):
            try:
                send(self._in, Batch(fresh=fresh, tools=tuple(new), calls=tuple(numbered)))
                return receive(self._out, list[Said])
            except (EOFError, OSError, msgspec.DecodeError) as error:
                raise BadBundle(self._ended(within_s)) from error

    def _ended(self, within_s: float) -> str:
        if self._late:
            return f"took longer than {within_s:g} s; make the rules or their tests cheaper"
        return f"the process that tried it ended with {self._process.wait()}; was it out of memory?"

    def _kill_late(self) -> None:
        self._late = True
        self._process.kill()


class _Deadline:
    """Kills the worker when the work inside takes too long."""

    def __init__(self, trial: Trial, within_s: float) -> None:
        self._timer = threading.Timer(within_s, trial._kill_late)
        self._timer.daemon = True

    def __enter__(self) -> None:
        self._timer.start()

    def __exit__(self, *_: object) -> None:
        self._timer.cancel()
