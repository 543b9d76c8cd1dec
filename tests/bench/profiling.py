"""Where the time goes: ``wardgate`` under cProfile, and the functions that took most of it.

cProfile charges every Python call with about as much again as it costs, so its figures rank and do not add
up; C extensions come out too cheap next to Python code. The ratios are measured without it.
"""

from __future__ import annotations

import cProfile
import os
import pstats
import signal
import sys
from pathlib import Path
from types import FrameType
from typing import NamedTuple, NoReturn

from rich.console import Console
from rich.table import Table

from tests.bench.servers import Server


class Hot(NamedTuple):
    """One function, per governed call."""

    place: str
    calls: float
    own_us: float
    total_us: float  # with what it calls


def hottest(path: Path, calls: int, top: int = 40) -> list[Hot]:
    """The ``top`` functions by own time."""
    stats = pstats.Stats(str(path)).stats  # type: ignore[attr-defined]  # not in typeshed
    rows = [
        Hot(_place(place), count / calls, own / calls * 1e6, total / calls * 1e6)
        for place, (_, count, own, total, _) in stats.items()
    ]
    return sorted(rows, key=lambda row: -row.own_us)[:top]


def show(rows: list[Hot], console: Console) -> None:
    table = Table("function", "calls", "own µs", "with callees µs", title="Per governed call, under cProfile")
    for row in rows:
        table.add_row(row.place, f"{row.calls:.1f}", f"{row.own_us:.1f}", f"{row.total_us:.1f}")
    console.print(table)


def _place(place: tuple[str, int, str]) -> str:
    file, line, function = place
    short = "/".join(Path(file).parts[-2:])
    return function if line == 0 else f"{short}:{line}:{function}"


def start(server: Server) -> None:
    """Begin to count, now that the server has started and is warm."""
    os.kill(server.pid, signal.SIGUSR1)


def main() -> None:
    """``python -m tests.bench.profiling FILE COMMAND…``: run ``wardgate COMMAND…``."""
    target, *arguments = sys.argv[1:]
    profile = cProfile.Profile()

    def leave(number: int, frame: FrameType | None) -> NoReturn:
        raise SystemExit(0)

    # The server takes SIGTERM itself while it runs; one that comes before must not lose the profile.
    signal.signal(signal.SIGTERM, leave)
    signal.signal(signal.SIGUSR1, lambda number, frame: profile.enable())
    sys.argv = ["wardgate", *arguments]
    from gateway.cli import main as wardgate

    try:
        wardgate()
    except SystemExit:
        pass  # how command lines end
    finally:
        profile.disable()
        profile.dump_stats(target)


if __name__ == "__main__":
    main()
