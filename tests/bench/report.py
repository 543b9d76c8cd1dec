"""``build/bench.json`` and the table people read."""

from __future__ import annotations

import os
import platform
import time
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import msgspec
from rich.console import Console
from rich.table import Table

from tests.bench.rounds import Rounds, Spread

_PACKAGES = (
    "uvicorn",
    "uvloop",
    "httptools",
    "aiohttp",
    "orjson",
    "msgspec",
    "gordon-to-regorus",
    "sqlalchemy",
)

# What was promised, per figure of ``Report``: the bound and whether it is an upper one.
PROMISED = {
    "cpu_ratio": (1.6, "at most"),
    "cpu_ratio_write": (1.8, "at most"),
    "rps_ratio_c16": (0.6, "at least"),
    "added_p99_ms": (5.0, "at most"),
    "policy_p50_us": (120.0, "at most"),
    "flatness_tools": (1.1, "at most"),
    "flatness_modules": (1.1, "at most"),
    "rss_mb_1000_tools": (250.0, "at most"),
}


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """One contender under one load."""

    name: str
    reference: str  # what the ratios are to
    connections: int
    calls_per_s: Spread
    p50_ms: Spread
    p95_ms: Spread
    p99_ms: Spread
    cpu_us: Spread
    cpu_ratio: Spread  # to the reference in the same round
    rps_ratio: Spread


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """The benchmark's result. Figures named in ``spreads`` are medians of it."""

    cpu_ratio: float  # governed read to bare relay, starter pack, 16 connections
    cpu_ratio_write: float
    cpu_ratio_strict: float
    cpu_ratio_strict_write: float
    rps_ratio_c16: float
    added_p99_ms: float  # at half of the gateway's own calls per second
    added_p99_relay_pace_ms: float  # at half of the relay's
    policy_p50_us: float
    policy_miss_p50_us: float  # when no memo knows the tool
    memo_miss_cpu_ratio: float  # whole call, misses to hits
    flatness_tools: float  # CPU per call, many to few
    flatness_modules: float
    rss_mb_1000_tools: float
    stages_us: dict[str, float]  # of a read
    stages_write_us: dict[str, float]
    stages_target_us: dict[str, float]
    measured_us: dict[str, float]  # "read", "write": under load, to hold against the sums of the stages
    spreads: dict[str, Spread]
    rows: list[Row]
    size: dict[str, object]
    environment: dict[str, str]


def rows(rounds: Rounds, connections: int, reference: str = "relay", suffix: str = "") -> list[Row]:
    """One ``Row`` for each contender, in the order they ran; ratios are to ``reference``."""
    return [
        Row(
            name=name + suffix,
            reference=reference,
            connections=connections,
            calls_per_s=rounds.spread(name, "calls_per_s"),
            p50_ms=rounds.spread(name, "p50_ms"),
            p95_ms=rounds.spread(name, "p95_ms"),
            p99_ms=rounds.spread(name, "p99_ms"),
            cpu_us=rounds.spread(name, "cpu_us"),
            cpu_ratio=rounds.ratio(name, "cpu_us", reference),
            rps_ratio=rounds.ratio(name, "calls_per_s", reference),
        )
        for name in rounds.runs
    ]


def environment() -> dict[str, str]:
    """What the figures depend on beside the code."""
    found = {
        "date": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "cores": str(len(os.sched_getaffinity(0))),
        "load_average": f"{os.getloadavg()[0]:.2f}",
        "python": platform.python_version(),
        "kernel": platform.release(),
    }
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "absent"
    return found


def write(report: Report, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(msgspec.json.format(msgspec.json.encode(report), indent=2) + b"\n")


def show(report: Report, console: Console) -> None:
    """Print the tables."""
    for table in (_loads(report), _budget(report), _promises(report)):
        console.print(table)


def _loads(report: Report) -> Table:
    figures = ("calls/s", "p50 ms", "p95 ms", "p99 ms", "CPU µs/call", "CPU ratio", "calls/s ratio")
    table = Table("", "conn.", *figures, title="Load, interleaved rounds: median (lowest–highest)")
    for row in report.rows:
        table.add_row(
            row.name,
            str(row.connections),
            _text(row.calls_per_s, 0),
            _text(row.p50_ms, 2),
            _text(row.p95_ms, 2),
            _text(row.p99_ms, 2),
            _text(row.cpu_us, 0),
            _text(row.cpu_ratio, 2),
            _text(row.rps_ratio, 2),
        )
    return table


def _budget(report: Report) -> Table:
    table = Table("stage", "target", "read", "write", title="CPU µs per allowed call, starter pack")
    for stage, target in report.stages_target_us.items():
        read, write = report.stages_us[stage], report.stages_write_us[stage]
        table.add_row(stage, f"{target:.0f}", f"{read:.0f}", f"{write:.0f}")
    columns = (report.stages_target_us, report.stages_us, report.stages_write_us)
    table.add_section()
    table.add_row("sum", *(f"{sum(column.values()):.0f}" for column in columns))
    table.add_row("under load", "", *(f"{us:.0f}" for us in report.measured_us.values()))
    return table


def _promises(report: Report) -> Table:
    table = Table("figure", "promised", "measured", "lowest–highest", "", title="Promises")
    for name, (bound, sense) in PROMISED.items():
        value: float = getattr(report, name)
        kept = value <= bound if sense == "at most" else value >= bound
        spread = report.spreads.get(name)
        table.add_row(
            name,
            f"{sense} {bound:g}",
            f"{value:.2f}",
            f"{spread.low:.2f}–{spread.high:.2f}" if spread else "",
            "kept" if kept else "[bold red]not kept",
        )
    return table


def _text(spread: Spread, digits: int) -> str:
    return f"{spread.median:.{digits}f} ({spread.low:.{digits}f}–{spread.high:.{digits}f})"
