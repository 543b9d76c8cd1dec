"""``wardgate hook``."""

from __future__ import annotations

import os
import sys
from typing import Annotated

import typer

from gateway.cli import pretool


def hook(
    url: Annotated[
        str, typer.Option(envvar="WARDGATE_HOOK_URL", help="Address of the gateway, without a path.")
    ] = "http://127.0.0.1:8700",
    upstream: Annotated[
        str,
        typer.Option(
            envvar="WARDGATE_HOOK_UPSTREAM", help="The upstream with 'elsewhere: true' to ask about."
        ),
    ] = "claude-code",
    timeout_s: Annotated[
        float,
        typer.Option(
            envvar="WARDGATE_HOOK_TIMEOUT_S",
            help="Seconds to wait for the gateway; shorter than the client waits for this command.",
        ),
    ] = 10.0,
    grant: Annotated[
        bool,
        typer.Option(
            "--grant", envvar="WARDGATE_HOOK_GRANT", help="An allow also skips the client's own prompt."
        ),
    ] = False,
    key_env: Annotated[
        str, typer.Option(help="Environment variable that holds the agent key.")
    ] = "WARDGATE_KEY",
) -> None:
    """Decide a tool use of Claude Code (or of a client with the same contract) and report its outcome.

    Reads one PreToolUse, PostToolUse or PostToolUseFailure event from stdin. When the gateway cannot be
    asked, it exits with 2 and the tool does not run. It starts faster without options: use the environment.
    """
    settings = pretool.Settings(
        url=url, key=os.environ.get(key_env, "").strip(), upstream=upstream, timeout_s=timeout_s, grant=grant
    )
    try:
        code = pretool.run(settings, sys.stdin.buffer.read(), sys.stdout)
    except pretool.Stop as stop:
        sys.stderr.write(f"wardgate: {stop}.\n")
        code = pretool.BLOCK
    raise typer.Exit(code)
