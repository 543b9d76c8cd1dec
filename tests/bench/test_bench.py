"""The whole benchmark, as small as it gets: each experiment runs, its figures have the shape others read."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
from rich.console import Console

from tests.bench import plan, report, stages
from tests.bench.report import Report


@pytest.mark.slow  # it starts a dozen processes
def test_the_whole_benchmark_runs_and_writes_its_figures(tmp_path: Path) -> None:
    figures = plan.run(plan.TINY, tmp_path, lambda step: None)
    target = tmp_path / "bench.json"
    report.write(figures, target)
    read_back = msgspec.json.decode(target.read_bytes(), type=Report)  # the shape others read
    assert msgspec.json.encode(read_back) == msgspec.json.encode(figures)
    assert set(figures.stages_us) == set(figures.stages_write_us) == set(stages.SHARES)
    assert all(getattr(figures, name) > 0 for name in report.PROMISED if name != "added_p99_ms")
    assert figures.environment["cores"].isdigit()
    report.show(figures, Console(quiet=True))


def test_the_shares_of_the_budget_add_up_to_the_promise() -> None:
    assert sum(stages.SHARES.values()) == pytest.approx(report.PROMISED["cpu_ratio"][0])
