"""``python -m tests.bench [--quick] [--rounds N] [--profile [read|write]]``; what ``make bench`` calls."""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

import msgspec
from rich.console import Console

from tests.bench import plan, profiling, report, servers
from tests.bench.rounds import Wrong

TARGET = servers.ROOT / "build" / "bench.json"


def main() -> int:
    options = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    options.add_argument("--quick", action="store_true", help="half a minute, for a first impression")
    options.add_argument("--rounds", type=int, help="interleaved rounds of each experiment")
    options.add_argument(
        "--profile", choices=("read", "write"), nargs="?", const="read", help="only show where the time goes"
    )
    options.add_argument("--output", type=Path, default=TARGET, help="where the figures go, as JSON")
    chosen = options.parse_args()
    console, progress = Console(width=160, emoji=False), Console(stderr=True)
    size = plan.QUICK if chosen.quick else plan.FULL
    if chosen.rounds:
        size = msgspec.structs.replace(size, rounds=chosen.rounds)
    with tempfile.TemporaryDirectory(prefix="wardgate-bench-") as work:
        try:
            if chosen.profile:
                profiling.show(plan.profile(Path(work), writes=chosen.profile == "write"), console)
                return 0
            figures = plan.run(size, Path(work), lambda step: progress.print(f"[dim]{step} …"))
        except (Wrong, servers.DidNotStart) as problem:
            progress.print(f"The benchmark did not measure anything: {problem}", style="red", markup=False)
            return 2
    report.show(figures, console)
    report.write(figures, chosen.output)
    console.print(f"written to {chosen.output}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
