"""A real OPA for tests, on a Unix socket or a loopback port, and one that can be told to misbehave."""

from __future__ import annotations

import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from gateway.policy.opa_target import Target

PATIENCE_S = 20.0


class Opa:
    """One OPA process that can be killed and started again at the same address."""

    def __init__(self, folder: Path, *arguments: str, tcp: bool = False, scheme: str = "http") -> None:
        self.port = free_port() if tcp else 0
        self.socket = None if tcp else folder / "opa.sock"
        self.url = f"{scheme}://127.0.0.1:{self.port}" if tcp else ""
        self._address = f"127.0.0.1:{self.port}" if tcp else f"unix://{self.socket}"
        self._arguments = arguments
        self._log = folder / "opa.log"
        self._process: subprocess.Popen[bytes] | None = None

    def target(self, deadline_s: float = 5.0, **more: object) -> Target:
        return Target(url=self.url, socket=self.socket, deadline_s=deadline_s, **more)  # type: ignore[arg-type]

    def start(self) -> None:
        command = [
            "opa",
            "run",
            "--server",
            "--addr",
            self._address,
            "--log-level",
            "error",
            "--disable-telemetry",
        ]
        with self._log.open("ab") as log:
            self._process = subprocess.Popen([*command, *self._arguments], stdout=log, stderr=log)
        self._await()

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None
        if self.socket is not None:
            self.socket.unlink(missing_ok=True)

    def _await(self) -> None:
        until = time.monotonic() + PATIENCE_S
        while time.monotonic() < until:
            assert self._process is not None and self._process.poll() is None, self._log.read_text()
            family = socket.AF_INET if self.socket is None else socket.AF_UNIX
            at = ("127.0.0.1", self.port) if self.socket is None else str(self.socket)
            with socket.socket(family) as probe:
                if probe.connect_ex(at) == 0:  # type: ignore[arg-type]
                    return
            time.sleep(0.02)
        raise AssertionError(self._log.read_text())


@contextmanager
def opa(folder: Path, *arguments: str, tcp: bool = False, scheme: str = "http") -> Iterator[Opa]:
    server = Opa(folder, *arguments, tcp=tcp, scheme=scheme)
    server.start()
    try:
        yield server
    finally:
        server.kill()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
