"""``wardgate policy check``, ``test`` and ``fmt``: what an author runs, and a build server."""

from __future__ import annotations

import fnmatch
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from gateway.cli.output import (
    DEFAULT_CONFIG,
    FOUND_SOMETHING,
    NOT_DONE,
    UNREACHABLE,
    AsJson,
    ConfigPath,
    fail,
    note,
    print_json,
    print_table,
    say,
)
from gateway.cli.policy_source import Folder, Pack, source_of

if TYPE_CHECKING:
    from gateway.policy.coverage import FileCoverage
    from gateway.policy.problem import Problem


def check(
    folder: Folder = None,
    pack: Pack = None,
    output: Annotated[
        Literal["text", "json", "sarif"], typer.Option("--format", help="How problems are written.")
    ] = "text",
    strict: Annotated[bool, typer.Option("--strict", help="Warnings count too.")] = False,
    config: ConfigPath = DEFAULT_CONFIG,
    as_json: AsJson = False,
) -> None:
    """Say everything that is wrong with a policy: syntax, METADATA, paths, types, built-ins, data, cases.

    Each problem has a file, a line, a kind and a remedy. Exits with 2 when the policy would not be loaded,
    with 1 when there are warnings and --strict is given.
    """
    from gateway.policy.check import check as look

    bundle, problems = look(*source_of(folder, config, pack))
    errors = [problem for problem in problems if not problem.warning]
    if output == "sarif":
        from gateway import __version__
        from gateway.policy.sarif import report

        print_json(report(problems, __version__, Path.cwd()))
    elif as_json or output == "json":
        print_json(
            {
                "valid": not errors,
                "revision": bundle.revision if bundle is not None else None,
                "problems": [_plain(problem) for problem in problems],
            }
        )
    else:
        from gateway.policy.problem import KINDS

        for problem in problems:
            say(f"{'warning' if problem.warning else 'error'}: {problem} [{problem.kind}]")
            say(f"    {KINDS[problem.kind].remedy}")
        warnings = len(problems) - len(errors)
        if bundle is not None:
            say(f"{len(bundle.rules)} rules, {warnings} warning(s), revision {bundle.revision[:12]}.")
        else:
            say(f"{len(errors)} error(s), {warnings} warning(s): this policy would not be loaded.")
    if errors:
        raise typer.Exit(NOT_DONE)
    if problems and strict:
        raise typer.Exit(FOUND_SOMETHING)


def _plain(problem: Problem) -> dict[str, object]:
    from gateway.policy.problem import KINDS

    return {
        "file": problem.file,
        "line": problem.line,
        "kind": problem.kind,
        "level": "warning" if problem.warning else "error",
        "message": problem.message,
        "remedy": KINDS[problem.kind].remedy,
    }


def test(
    folder: Folder = None,
    pack: Pack = None,
    run: Annotated[
        str, typer.Option("--run", help="Only tests and cases whose name fits this pattern ('*' and '?').")
    ] = "*",
    coverage: Annotated[bool, typer.Option("--coverage", help="Show which lines no test reached.")] = False,
    min_coverage: Annotated[
        float | None, typer.Option(min=0, max=100, help="Exit with 1 below this share of lines, in percent.")
    ] = None,
    junit: Annotated[Path | None, typer.Option(help="Also write the results here, as JUnit XML.")] = None,
    config: ConfigPath = DEFAULT_CONFIG,
    as_json: AsJson = False,
) -> None:
    """Load the policy as the gateway would, run its Rego tests and the cases of its YAML tables.

    Exits with 1 when one fails, when there are none, or when fewer lines are covered than asked for.
    """
    from gateway.policy import cases
    from gateway.policy.bundle import read_bundle
    from gateway.policy.coverage import Coverage, percent
    from gateway.policy.testing import run_tests

    path, chosen = source_of(folder, config, pack)
    bundle = read_bundle(path, chosen)
    seen = Coverage() if coverage or min_coverage is not None else None
    pattern = run if any(char in run for char in "*?[") else f"*{run}*"
    report = run_tests(
        bundle,
        cases.folder_cases(path, chosen),
        wanted=lambda name: fnmatch.fnmatch(name, pattern),
        coverage=seen,
    )
    files = list(seen.files(bundle)) if seen is not None else []
    files = [each for each in files if _ours(each, path)] or files
    share = percent(files) if seen is not None else None
    if junit is not None:
        from gateway.policy.junit import report as as_junit

        junit.write_text(as_junit(report), encoding="utf-8")
    if as_json:
        import msgspec

        measured = {"coverage": {"percent": share, "files": msgspec.to_builtins(files)}} if files else {}
        print_json({"passed": report.passed, **msgspec.to_builtins(report), **measured})
    else:
        for result in report.failed:
            say(f"✗ {result.name} ({result.file}:{result.line}): {result.detail}")
        passed = len(report.results) - len(report.failed)
        if coverage:
            _tell(files)
        said = f", {share:g} % of lines covered" if share is not None else ""
        say(f"{passed} passed, {len(report.failed)} failed{said}, revision {report.revision[:12]}.")
    if not report.passed:
        raise typer.Exit(FOUND_SOMETHING)
    if min_coverage is not None and share is not None and share < min_coverage:
        note(f"{share:g} % of lines are covered, and {min_coverage:g} % are asked for.")
        raise typer.Exit(FOUND_SOMETHING)


def _ours(file: FileCoverage, path: Path | None) -> bool:
    """Whether a file is of the folder that is tested."""
    return path is not None and file.file.startswith(f"{path}/")


def _tell(files: list[FileCoverage]) -> None:
    from gateway.policy.coverage import percent

    print_table(
        "",
        ["file", "covered", "lines no test reached"],
        [[each.file, f"{percent([each]):g} %", ", ".join(map(str, each.missed))] for each in files],
    )


def fmt(
    folder: Annotated[Path, typer.Argument(help="A policy folder or one file.")],
    verify: Annotated[
        bool, typer.Option("--check", help="Only say what is not formatted; exit with 1 when something is.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Format Rego as OPA does, with 'opa fmt'. Needs the 'opa' command.

    There is no formatter of our own: two that differ would undo each other's work.
    """
    opa = shutil.which("opa")
    if opa is None:
        fail(
            "There is no 'opa' command on this machine, and wardgate brings no formatter of its own.",
            "Install it: https://www.openpolicyagent.org/docs/latest/#1-download-opa",
            UNREACHABLE,
        )
    if not folder.exists():
        fail(f"There is no {folder}.")
    listed = _opa(opa, "fmt", "--list", str(folder))
    if not verify and listed:
        _opa(opa, "fmt", "--write", str(folder))
    if as_json:
        print_json({"changed": [] if verify else listed, "unformatted": listed if verify else []})
    else:
        for file in listed:
            say(f"{'not formatted' if verify else 'formatted'}: {file}")
        say(f"{len(listed)} file(s) {'to format' if verify else 'formatted'}.")
    if verify and listed:
        raise typer.Exit(FOUND_SOMETHING)


def _opa(*command: str) -> list[str]:
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)  # noqa: S603 (no shell)
    if done.returncode:
        fail(f"'opa fmt' failed: {done.stderr.strip()}", "Correct the syntax: 'wardgate policy check'.")
    return [line for line in done.stdout.splitlines() if line.strip()]
