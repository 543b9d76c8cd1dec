"""``python -m tests.evaluation [--only NAME]``; what ``make eval`` calls. Writes build/eval.json.

Exit code 0: every aim is reached by the combined configuration; 1: one is missed; 2: nothing was measured.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Final

import yaml
from rich.console import Console

from tests.evaluation import cases, report
from tests.evaluation.configurations import COMBINED, FRONTIER
from tests.evaluation.gateway import Broken
from tests.evaluation.run import run

TARGET: Final = Path(__file__).parents[2] / "build" / "eval.json"
REACHED: Final = Path(__file__).with_name("reached.yaml")


def main() -> int:
    options = argparse.ArgumentParser(prog="python -m tests.evaluation", description=__doc__)
    options.add_argument(
        "--only", action="append", choices=[each.name for each in FRONTIER], help="a configuration"
    )
    options.add_argument("--output", type=Path, default=TARGET, help="where the figures go, as JSON")
    options.add_argument(
        "--case", action="append", help="only cases whose 'suite/id' holds this; shows every call"
    )
    options.add_argument("--held-out", action="store_true", help="name the cases of the held-out half, too")
    options.add_argument(
        "--reached", action="store_true", help="fail only where a figure is worse than in reached.yaml"
    )
    chosen = options.parse_args()
    console, progress = Console(width=190, emoji=False), Console(stderr=True)
    started = time.monotonic()
    suites = cases.load()
    if chosen.case:
        suites = cases.only(suites, chosen.case)
    picked = [each for each in FRONTIER if not chosen.only or each.name in chosen.only]
    with tempfile.TemporaryDirectory(prefix="wardgate-eval-") as work:
        try:
            results = [
                run(suites, each, Path(work) / each.name, lambda step: progress.print(f"[dim]{step} …"))
                for each in picked
            ]
        except (Broken, AssertionError) as problem:
            progress.print(f"The evaluation did not measure anything: {problem}", style="red", markup=False)
            return 2
    seed = yaml.safe_load((cases.FOLDER / "split.yaml").read_text())["seed"]
    found = report.figures(results, COMBINED, time.monotonic() - started, seed, named=chosen.held_out)
    if chosen.case:
        report.trace(results, console)
        return 0
    report.show(results, COMBINED, console)
    chosen.output.parent.mkdir(exist_ok=True)
    chosen.output.write_text(json.dumps(found, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    console.print(f"written to {chosen.output}")
    if chosen.reached:
        lost = report.worse(found, yaml.safe_load(REACHED.read_text()))
        for each in lost:
            console.print(f"worse: {each}", style="red", markup=False)
        return 1 if lost else 0
    return 1 if found["missed"] else 0


if __name__ == "__main__":
    sys.exit(main())
