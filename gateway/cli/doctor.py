"""``wardgate doctor``."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Annotated

import typer

from gateway.cli.output import (
    DEFAULT_CONFIG,
    FOUND_SOMETHING,
    NOT_DONE,
    AsJson,
    ConfigPath,
    print_json,
    printable,
    say,
)

if TYPE_CHECKING:
    from gateway.cli.findings import Finding

_SIGN = {"ok": "✓", "warning": "!", "problem": "✗"}


def doctor(
    config: ConfigPath = DEFAULT_CONFIG,
    strict: Annotated[bool, typer.Option("--strict", help="Exit 1 when there are warnings.")] = False,
    as_json: AsJson = False,
) -> None:
    """Look at everything the gateway needs, and say what to do about what is wrong.

    Exits 2 when there are problems, and with --strict 1 when there are warnings.
    """
    from gateway.cli import (
        checks_approvals,
        checks_credentials,
        checks_identity,
        checks_local,
        checks_parts,
        checks_trust,
        envfile,
    )
    from gateway.cli.findings import ok, problem
    from gateway.config import load
    from gateway.errors import ConfigError

    found: list[Finding] = []
    try:
        envfile.apply(config)
        loaded = load(config)
    except ConfigError as error:
        what, why = str(error), "The gateway would not start."
        found.append(problem("config", what, why, "Mend the file; 'wardgate config schema' has every key."))
    else:
        found.append(ok("config", f"{config} is valid."))
        checks: tuple[Callable[[], Iterator[Finding]], ...] = (
            lambda: checks_local.files(config, loaded),
            lambda: checks_local.ports(loaded),
            checks_local.clock,
            lambda: checks_local.storage(loaded),
            lambda: checks_credentials.credentials(loaded),
            lambda: checks_credentials.assertions(loaded),
            lambda: checks_identity.issuers(loaded),
            lambda: checks_identity.exposure(loaded),
            lambda: checks_parts.policy(loaded),
            lambda: checks_parts.opa(loaded),
            lambda: checks_approvals.approvals(loaded),
            lambda: checks_approvals.channels(loaded),
            lambda: checks_parts.upstreams(loaded),
            lambda: checks_trust.trust(loaded),
        )
        for check in checks:
            found.extend(check())
    levels = [finding.level for finding in found]
    if as_json:
        import msgspec

        print_json(msgspec.to_builtins(found))
    else:
        _tell(found)
    if "problem" in levels:
        raise typer.Exit(NOT_DONE)
    if strict and "warning" in levels:
        raise typer.Exit(FOUND_SOMETHING)


def _tell(found: list[Finding]) -> None:
    for finding in found:
        say(f"{_SIGN[finding.level]} {finding.area:<9} {printable(finding.what)}")
        if finding.why:
            say(f"    {finding.why}")
        if finding.todo:
            say(f"    → {printable(finding.todo)}")
    problems = sum(finding.level == "problem" for finding in found)
    warnings = sum(finding.level == "warning" for finding in found)
    say()
    say(f"{problems} problem(s), {warnings} warning(s)." if problems or warnings else "All is well.")
