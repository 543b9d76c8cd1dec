"""``make conformance``: the official suite against wardgate with the fixture behind it.

Writes ``build/conformance.json``. Ends with 1 when something failed that was not expected to, or did not fail
that was; with 2 when the suite could not be run.
"""

from __future__ import annotations

import argparse
import signal
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path
from types import FrameType

import msgspec
from rich.console import Console
from rich.table import Table

from gateway import __version__
from tests.conformance import processes, results, suite

BUILD = Path(__file__).parents[2] / "build"
EXPECTED = Path(__file__).with_name("expected.yaml")


class Report(msgspec.Struct, frozen=True):
    """``build/conformance.json``."""

    suite: str
    wardgate: str
    target: str
    legs: list[results.Leg]
    right: bool


def main() -> int:
    parser = argparse.ArgumentParser(prog="make conformance", description=__doc__.partition("\n")[0])
    parser.add_argument("--leg", action="append", choices=suite.LEGS, help="only this one; may be repeated")
    parser.add_argument("--scenario", help="only this one")
    parser.add_argument("--direct", action="store_true", help="the fixture without the gateway")
    parser.add_argument("--verbose", action="store_true", help="each failure with its whole message")
    options = parser.parse_args()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _interrupted)
    console = Console(soft_wrap=True)
    try:
        expected = results.expectations(EXPECTED, suite.LEGS)
        installed = suite.install(BUILD / "conformance")
        legs = _run(installed, {} if options.direct else expected, options)
    except (suite.CannotRun, results.BadResults, results.BadExpectations) as error:
        print(f"conformance: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("conformance: interrupted", file=sys.stderr)
        return 130
    right = all(leg.right for leg in legs)
    target = "fixture" if options.direct else "gateway"
    report = Report(installed.version, __version__, target, legs, right)
    path = BUILD / "conformance.json"
    path.write_bytes(msgspec.json.format(msgspec.json.encode(report), indent=2) + b"\n")
    _show(console, report, verbose=options.verbose)
    console.print(f"Written to {path.relative_to(BUILD.parent)}")
    return 0 if right else 1


def _run(
    installed: suite.Suite, expected: dict[str, dict[str, str]], options: argparse.Namespace
) -> list[results.Leg]:
    work = BUILD / "conformance" / "results"
    wanted = options.leg or (installed.legs_of(options.scenario) if options.scenario else suite.LEGS)
    legs = []
    with ExitStack() as running:
        scratch = Path(running.enter_context(tempfile.TemporaryDirectory(prefix="wardgate-conformance-")))
        work.mkdir(parents=True, exist_ok=True)
        url, key = running.enter_context(processes.fixture(work / "fixture.log")), ""
        if not options.direct:
            url, key = running.enter_context(processes.gateway(scratch / "gateway", url))
        for leg in wanted:
            found, seconds = suite.run(installed, leg, url, work, key=key, scenario=options.scenario)
            legs.append(
                results.judge(
                    leg,
                    found,
                    expected.get(leg, {}),
                    required=installed.requirements(leg).scored,
                    seconds=seconds,
                    partial=options.scenario is not None,
                )
            )
    return legs


def _show(console: Console, report: Report, *, verbose: bool) -> None:
    table = Table(title=f"MCP conformance {report.suite}, {report.target}", title_justify="left")
    for heading in ("leg", "scenarios", "checks", "warnings", "expected", "not scored", "seconds"):
        table.add_column(heading, justify="left" if heading == "leg" else "right")
    for leg in report.legs:
        checks = leg.checks["passed"] + leg.checks["failed"]
        known = {failure.scenario for failure in leg.failures if failure.expected}
        table.add_row(
            leg.name, f"{leg.scored['ok']}/{leg.scored['total']}", f"{leg.checks['passed']}/{checks}",
            str(leg.checks["warnings"]), str(len(known)),
            f"{leg.unscored['ok']}/{leg.unscored['total']}", str(leg.seconds),
        )  # fmt: skip
    console.print(table)
    for leg in report.legs:
        for failure in leg.failures if verbose else leg.unexpected:
            why = f"expected: {failure.expected}" if failure.expected else "not expected"
            _say(leg, failure, why if failure.scored else "not scored", verbose)
        for warning in leg.warnings if verbose else ():
            _say(leg, warning, "warning", verbose)
        for entry in leg.stale:
            print(f"{leg.name}  {entry}  is expected to fail and does not: remove it from {EXPECTED.name}")
        for name in leg.not_run:
            print(f"{leg.name}  {name}  was not run")


def _say(leg: results.Leg, found: results.Finding, why: str, verbose: bool) -> None:
    message = found.message if verbose else found.message.partition("\n")[0][:160]
    print(f"{leg.name}  {found.scenario}:{found.check}  ({why})  {message}")


def _interrupted(_number: int, _frame: FrameType | None) -> None:
    """End what was started, which is bounded in time; a second signal must not stop that half-way."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
