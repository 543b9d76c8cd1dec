"""``wardgate demo``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from gateway.cli.output import UNREACHABLE, fail


def demo(
    folder: Annotated[
        Path | None,
        typer.Option("--dir", help="A new folder for the demo's files; a temporary one by default."),
    ] = None,
    keep: Annotated[bool, typer.Option("--keep", help="Leave it running until Ctrl-C.")] = False,
) -> None:
    """Run the gateway in front of real tool servers and show what three agents may and may not do.

    Exits 1 when anything happens that the story does not say. The folder stays, so that the decisions can be
    looked at afterwards.
    """
    import asyncio
    import importlib.util
    import tempfile

    if importlib.util.find_spec("mcp") is None:
        fail("The demo needs the official MCP client.", "pip install 'wardgate[demo]'", UNREACHABLE)

    from rich.console import Console

    from gateway.demo.gitserver import Unavailable
    from gateway.demo.show import run

    if folder is None:
        folder = Path(tempfile.mkdtemp(prefix="wardgate-demo-"))
    elif folder.exists():
        fail(f"{folder} exists already.", "Name a folder that does not.")
    else:
        folder.mkdir(parents=True)
    console = Console()
    if not console.is_terminal:
        console = Console(width=160)
    try:
        code = asyncio.run(run(folder.resolve(), console, keep=keep))
    except Unavailable as error:
        fail(f"The demo could not be set up: {error}.", f"What was written is in {folder}.", UNREACHABLE)
    raise typer.Exit(code)
