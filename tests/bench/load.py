"""The client: keeps connections busy, checks every answer, measures.

A process of its own (``python -m tests.bench.load``): one ``Job`` as JSON on standard input, one ``Load`` as
JSON on standard output. It spends about 20 µs per call, so that it is never what is measured.

Closed loop (``rate`` 0): each connection sends its next request when the answer is there. Open loop: calls
are issued at a fixed rate whether or not the ones before are answered; a call that finds no free connection
waits, and the wait counts, so that a stall of the server is seen by all the calls that fell into it.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections import deque
from pathlib import Path
from typing import Any

import httptools
import msgspec

from tests.bench.traffic import requests

_TRAILING_S = 0.06  # what a server does behind an answer (journal of reads: 20 ms) belongs to its cost
_TICK_S = 0.001


class Job(msgspec.Struct, kw_only=True):
    """What to send, to whom."""

    port: int
    pid: int  # of the server under test, whose CPU time is read
    key: str
    tools: tuple[str, ...]
    path: str = "/mcp"
    connections: int = 1
    first: int = 0  # number of the first call; calls of a number are equal
    calls: int = 1000
    warmup: int = 200
    rate: float = 0.0  # calls per second; 0: as fast as answers come


class Load(msgspec.Struct, kw_only=True):
    """What came of it; milliseconds and microseconds as the names say."""

    calls: int
    failures: int  # answers that were not a result
    failure: str  # the first of them
    elapsed_s: float
    calls_per_s: float
    cpu_us: float  # of the server, all threads, per call
    client_us: float  # of this process, per call
    p50_ms: float
    p95_ms: float
    p99_ms: float


class _Run:
    """One run over one set of connections."""

    def __init__(self, job: Job, first: int, calls: int) -> None:
        self.request = requests(f"127.0.0.1:{job.port}", job.path, job.key, job.tools)
        self.issued = first
        self.last = first + calls
        self.open = calls
        self.paced = job.rate > 0
        self.waiting: deque[tuple[int, float]] = deque()
        self.free: list[_Connection] = []
        self.latencies: list[float] = []
        self.failures = 0
        self.failure = ""
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def next(self, connection: _Connection) -> None:
        """Give a connection its next call, if there is one."""
        if self.paced:
            if self.waiting:
                connection.call(*self.waiting.popleft())
            else:
                self.free.append(connection)
        elif self.issued < self.last:
            self.issued += 1
            connection.call(self.issued, time.perf_counter())

    def issue(self) -> None:
        """Open loop: a call is due now."""
        self.issued += 1
        due = (self.issued, time.perf_counter())
        if self.free:
            self.free.pop().call(*due)
        else:
            self.waiting.append(due)

    def answered(self, connection: _Connection, started: float, failure: str) -> None:
        self.latencies.append(time.perf_counter() - started)
        if failure:
            self.failures += 1
            self.failure = self.failure or failure
        self.open -= 1
        if self.open == 0:
            self.done.set_result(None)
        else:
            self.next(connection)

    def broken(self, why: str) -> None:
        if not self.done.done():
            self.done.set_exception(ConnectionError(why))


class _Connection(asyncio.Protocol):
    def __init__(self) -> None:
        self.run: _Run | None = None
        self.started = 0.0
        self.body = bytearray()
        self.parser = httptools.HttpResponseParser(self)

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def call(self, number: int, started: float) -> None:
        assert self.run is not None
        self.started = started
        self.transport.write(self.run.request(number))

    def data_received(self, data: bytes) -> None:
        self.parser.feed_data(data)

    def on_body(self, body: bytes) -> None:
        self.body += body

    def on_message_complete(self) -> None:
        assert self.run is not None
        status = self.parser.get_status_code()
        # A refusal is a result too (isError): a fast refusal must not pass for a fast call.
        good = status == 200 and b'"result":{"content"' in self.body and b'"isError":true' not in self.body
        failure = "" if good else f"HTTP {status}: {bytes(self.body[:600]).decode(errors='replace')}"
        self.body.clear()
        self.run.answered(self, self.started, failure)

    def connection_lost(self, exc: Exception | None) -> None:
        if self.run is not None:
            self.run.broken(f"the server closed a connection: {exc}")


async def drive(job: Job) -> Load:
    """Warm up, run, and read the server's CPU clock on both sides of the run."""
    loop = asyncio.get_running_loop()
    connections = [
        (await loop.create_connection(_Connection, "127.0.0.1", job.port))[1] for _ in range(job.connections)
    ]
    warm = msgspec.structs.replace(job, rate=0.0)
    if job.warmup:
        await _carry_out(_Run(warm, job.first, job.warmup), connections)
    await asyncio.sleep(_TRAILING_S)
    run = _Run(job, job.first + job.warmup, job.calls)
    cpu, own, started = cpu_s(job.pid), time.process_time(), time.perf_counter()
    await _carry_out(run, connections, job.rate)
    elapsed, own = time.perf_counter() - started, time.process_time() - own
    await asyncio.sleep(_TRAILING_S)
    cpu = cpu_s(job.pid) - cpu
    for connection in connections:
        connection.run = None
        connection.transport.close()
    latencies = sorted(run.latencies)
    return Load(
        calls=job.calls,
        failures=run.failures,
        failure=run.failure,
        elapsed_s=elapsed,
        calls_per_s=job.calls / elapsed,
        cpu_us=cpu / job.calls * 1e6,
        client_us=own / job.calls * 1e6,
        p50_ms=_quantile(latencies, 0.50) * 1e3,
        p95_ms=_quantile(latencies, 0.95) * 1e3,
        p99_ms=_quantile(latencies, 0.99) * 1e3,
    )


async def _carry_out(run: _Run, connections: list[_Connection], rate: float = 0.0) -> None:
    for connection in connections:
        connection.run = run
    for connection in connections:
        run.next(connection)
    if rate:
        started, first = time.perf_counter(), run.issued
        while run.issued < run.last:
            due = min(run.last, first + 1 + int((time.perf_counter() - started) * rate))
            while run.issued < due:
                run.issue()
            await asyncio.sleep(_TICK_S)
    await asyncio.wait_for(run.done, timeout=120)


def cpu_s(pid: int) -> float:
    """User and system time of a process with all its threads, in seconds, to the nanosecond.

    ``clock_getcpuclockid(3)`` makes this clock id of a process id; /proc/PID/stat counts in steps of 10 ms.
    """
    if sys.platform != "linux":
        raise SystemExit("the benchmark reads the CPU time of other processes as Linux offers it")
    return time.clock_gettime((~pid << 3) | 2)


def _quantile(ordered: list[float], q: float) -> float:
    return ordered[min(len(ordered) - 1, int(q * len(ordered)))]


def main() -> None:
    import uvloop

    job = msgspec.json.decode(Path("/dev/stdin").read_bytes(), type=Job)
    sys.stdout.buffer.write(msgspec.json.encode(uvloop.run(drive(job))))


if __name__ == "__main__":
    main()
