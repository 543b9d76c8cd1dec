"""The benchmark's own instruments: they see what happens, and refuse to measure what did not."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from tests.bench import servers
from tests.bench.load import Job, Load
from tests.bench.rounds import Rounds, Spread, Wrong, interleaved
from tests.bench.servers import Server
from tests.bench.traffic import requests


@pytest.fixture(scope="module")
def upstream(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with servers.upstream(tmp_path_factory.mktemp("upstream"), 4) as server:
        yield server


def _job(server: Server, **changes: object) -> Job:
    job = Job(port=server.port, pid=server.pid, key="none", tools=("lookup_0000",), calls=200, warmup=20)
    return msgspec.structs.replace(job, **changes)


def _load(cpu_us: float) -> Load:
    return Load(
        calls=1, failures=0, failure="", elapsed_s=1, calls_per_s=1, cpu_us=cpu_us, client_us=1, p50_ms=1,
        p95_ms=1, p99_ms=1,
    )  # fmt: skip


def test_every_call_is_answered_and_its_cost_is_seen(upstream: Server, tmp_path: Path) -> None:
    with servers.relay(tmp_path, upstream) as relay:
        direct = servers.load(_job(upstream, connections=4))
        relayed = servers.load(_job(relay, connections=4))
    assert (direct.failures, relayed.failures) == (0, 0)
    assert relayed.cpu_us > direct.cpu_us
    assert relayed.p50_ms <= relayed.p95_ms <= relayed.p99_ms


def test_an_open_loop_keeps_its_pace(upstream: Server) -> None:
    paced = servers.load(_job(upstream, connections=4, rate=400.0))
    assert paced.calls_per_s == pytest.approx(400, rel=0.25)


def test_answers_that_are_no_results_are_not_measured(upstream: Server) -> None:
    with pytest.raises(Wrong, match="Unknown tool"):
        interleaved({"wrong": _job(upstream, tools=("missing",))}, 1)


def test_a_ratio_compares_runs_of_the_same_round() -> None:
    # The second round ran on a machine half as fast; the ratio must not see it.
    rounds = Rounds({"slow": [_load(200), _load(400)], "fast": [_load(100), _load(200)]})
    assert rounds.ratio("slow", "cpu_us", "fast") == Spread(2.0, 2.0, 2.0)


def test_no_process_outlives_the_benchmark(tmp_path: Path) -> None:
    with servers.empty(tmp_path) as server:
        assert Path(f"/proc/{server.pid}").exists()
    assert not Path(f"/proc/{server.pid}").exists()


def test_a_server_that_does_not_start_says_why(tmp_path: Path) -> None:
    command = servers.uvicorn("tests.bench.relay:missing", port := servers.free_port())
    with (
        pytest.raises(servers.DidNotStart, match="missing"),
        servers.running("wrong", command, port, tmp_path),
    ):
        pass


def test_every_request_differs_and_has_the_same_length() -> None:
    request = requests("127.0.0.1:1", "/mcp", "key", ("a", "b"))
    made = {request(n) for n in range(100)}
    assert len(made) == 100
    assert {len(one) for one in made} == {len(request(0))}
    assert b"Mcp-Name: b" in request(1)
