"""The processes of the benchmark: started on free loopback ports, pinned, ended by their process id.

The server under test has a core for itself as far as the machine allows; the upstream and the client share
the rest. Ratios of CPU time per call do not depend on that, latencies and calls per second do.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import msgspec

from tests.bench.load import Job, Load

ROOT = Path(__file__).parents[2]
_CORES = sorted(os.sched_getaffinity(0))
TESTED = {_CORES[0]}
OTHERS = set(_CORES[1:]) or TESTED
_PATIENCE_S = 60.0


class Server(msgspec.Struct, frozen=True, kw_only=True):
    """A process that listens."""

    name: str
    pid: int
    port: int
    key: str = ""
    path: str = "/mcp"

    @property
    def rss_mb(self) -> float:
        """Resident memory."""
        for line in Path(f"/proc/{self.pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) / 1024
        raise ValueError(f"{self.name} has no resident memory")


class DidNotStart(Exception):
    """A server ended, or did not listen in time; the message is the end of what it wrote."""


@contextmanager
def running(
    name: str,
    command: Sequence[str],
    port: int,
    work: Path,
    *,
    env: Mapping[str, str] | None = None,
    cpus: set[int] = TESTED,
    key: str = "",
    path: str = "/mcp",
) -> Iterator[Server]:
    """Start a command and wait until its port answers; on leaving, end it with SIGTERM, then SIGKILL."""
    log = work / f"{name}.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, cwd=ROOT, env={**os.environ, **(env or {})}, stdout=output, stderr=subprocess.STDOUT
        )
    os.sched_setaffinity(process.pid, cpus)
    try:
        _wait_for(process, port, log)
        yield Server(name=name, pid=process.pid, port=port, key=key, path=path)
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def uvicorn(app: str, port: int) -> list[str]:
    """The command of an ASGI application, with the settings ``wardgate serve`` uses."""
    return [
        sys.executable, "-m", "uvicorn", app, "--host", "127.0.0.1", "--port", str(port),
        "--loop", "uvloop", "--http", "httptools", "--no-access-log", "--log-level", "warning",
        "--no-proxy-headers", "--no-server-header", "--lifespan", "off",
    ]  # fmt: skip


@contextmanager
def upstream(work: Path, tools: int) -> Iterator[Server]:
    port = free_port()
    env = {"BENCH_TOOLS": str(tools)}
    with running(
        "upstream", uvicorn("tests.bench.upstream:app", port), port, work, env=env, cpus=OTHERS
    ) as up:
        yield up


@contextmanager
def relay(work: Path, target: Server) -> Iterator[Server]:
    port = free_port()
    env = {"BENCH_UPSTREAM": f"http://127.0.0.1:{target.port}/mcp"}
    with running("relay", uvicorn("tests.bench.relay:app", port), port, work, env=env) as server:
        yield server


@contextmanager
def empty(work: Path) -> Iterator[Server]:
    port = free_port()
    with running("empty", uvicorn("tests.bench.relay:empty", port), port, work) as server:
        yield server


def load(job: Job) -> Load:
    """Run the client as a process of its own."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.bench.load"],
        cwd=ROOT,
        input=msgspec.json.encode(job),
        stdout=subprocess.PIPE,
        check=True,
        preexec_fn=lambda: os.sched_setaffinity(0, OTHERS),
    )
    return msgspec.json.decode(done.stdout, type=Load)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _wait_for(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    deadline = time.monotonic() + _PATIENCE_S
    while time.monotonic() < deadline:
        if process.poll() is not None:
            break
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    raise DidNotStart(f"{process.args!r}:\n{log.read_text(errors='replace')[-4000:]}")
