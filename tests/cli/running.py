"""Runs the real command line and what it is pointed at.

``wardgate`` runs a command in this process, with the streams and environment of one of its own: starting an
interpreter takes longer than most commands. What must be a process is run as one.
"""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

from gateway.cli import main

WARDGATE = (sys.executable, "-m", "gateway.cli")


class Done(NamedTuple):
    returncode: int
    stdout: str
    stderr: str


def wardgate(*arguments: str | Path) -> Done:
    """Run one command to its end."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("WARDGATE_")}
    out, err = (io.TextIOWrapper(io.BytesIO(), encoding="utf-8", write_through=True) for _ in range(2))
    code: int | str | None = 0
    with (
        mock.patch.object(sys, "argv", ["wardgate", *map(str, arguments)]),
        mock.patch.dict(os.environ, clean, clear=True),
        redirect_stdout(out),
        redirect_stderr(err),
    ):
        try:
            main()
        except SystemExit as leaving:
            code = leaving.code
    texts = [stream.buffer.getvalue().decode() for stream in (out, err)]  # type: ignore[attr-defined] # a BytesIO
    return Done(code if isinstance(code, int) else 0 if code is None else 1, *texts)


def wardgate_json(*arguments: str | Path) -> Any:
    done = wardgate(*arguments, "--json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@contextmanager
def announced(*arguments: str | Path) -> Iterator[dict[str, Any]]:
    """Run a server that says on its first line, as JSON, where it listens; stop it at the end."""
    process = subprocess.Popen(
        [sys.executable, *map(str, arguments)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        if not line:
            _, errors = process.communicate(timeout=10)
            raise AssertionError(f"it did not start: {errors}")
        yield {**json.loads(line), "pid": process.pid}
    finally:
        process.terminate()
        process.communicate(timeout=15)


def office(state: Path, port: int = 0) -> Any:
    """The demo's office server: a real MCP server that speaks both eras."""
    return announced("-m", "gateway.demo.office", "--state", state, "--port", str(port))


def gateway(config: Path) -> Any:
    """``wardgate serve`` on a configuration."""
    return announced("-m", "gateway.cli", "serve", "--config", config, "--json")
