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
from rich.box import SIMPLE
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
    parser.add_argument(
        "--leg", action="append", choices=suite.LEGS, metavar="LEG",
        help=f"only this one; may be repeated: {', '.join(suite.LEGS)}",
    )  # fmt: skip
    parser.add_argument("--scenario", help="only this one")
    parser.add_argument("--direct", action="store_true", help="the fixture without the gateway")
    parser.add_argument("--verbose", action="store_true", help="each failure with its whole message")
    options = parser.parse_args()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _interrupted)
    console = Console(width=110)  # the same in a terminal and in a log of CI
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
    wanted = options.leg or (installed.legs_of(options.scenario) if options.scenario else suite.LEGS)
    if options.direct:
        wanted = [leg for leg in wanted if leg in suite.DIRECT]
    work = BUILD / "conformance" / "results"
    work.mkdir(parents=True, exist_ok=True)
    legs = []
    for upstream in dict.fromkeys(suite.parts(leg)[1] for leg in wanted):
        with ExitStack() as running:
            section, url, key = {}, "", ""
            if upstream:
                log = work / f"fixture-{upstream}.log"
                section = running.enter_context(processes.upstream(upstream, log))
                url = section.get("url", "")
            if upstream and not options.direct:
                scratch = running.enter_context(tempfile.TemporaryDirectory(prefix="wardgate-conformance-"))
                log = work / f"gateway-{upstream}.log"
                url, key = running.enter_context(processes.gateway(Path(scratch) / "gateway", section, log))
            for leg in wanted:
                if suite.parts(leg)[1] == upstream:
                    legs.append(_leg(installed, leg, url, key, work, expected.get(leg, {}), options.scenario))
    return legs


def _leg(
    installed: suite.Suite,
    leg: str,
    url: str,
    key: str,
    work: Path,
    expected: dict[str, str],
    scenario: str | None,
) -> results.Leg:
    found, seconds = suite.run(installed, leg, url, work, key=key, scenario=scenario)
    scored = installed.requirements(leg).scored
    return results.judge(leg, found, expected, required=scored, seconds=seconds, partial=scenario is not None)


def _show(console: Console, report: Report, *, verbose: bool) -> None:
    table = Table(box=SIMPLE, title=f"MCP conformance {report.suite}, {report.target}", title_justify="left")
    for heading in ("leg", "scenarios", "checks", "warnings", "expected", "not scored", "seconds"):
        table.add_column(heading, justify="left" if heading == "leg" else "right", no_wrap=True)
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
