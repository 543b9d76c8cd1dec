"""Runs the real command line in a process of its own, and what it is pointed at."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

WARDGATE = (sys.executable, "-m", "gateway.cli")


def wardgate(
    *arguments: str | Path, env: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run one command to its end."""
    command = [*WARDGATE, *map(str, arguments)]
    clean = {name: value for name, value in os.environ.items() if not name.startswith("WARDGATE_")}
    return subprocess.run(command, capture_output=True, text=True, timeout=60, env={**clean, **(env or {})})


def wardgate_json(*arguments: str | Path) -> Any:
    done = wardgate(*arguments, "--json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@contextmanager
def announced(*arguments: str | Path, env: Mapping[str, str] | None = None) -> Iterator[dict[str, Any]]:
    """Run a server that says on its first line, as JSON, where it listens; stop it at the end."""
    process = subprocess.Popen(
        [sys.executable, *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, **(env or {})},
    )
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        if not line:
            _, errors = process.communicate(timeout=10)
            raise AssertionError(f"it did not start: {errors}")
        yield json.loads(line)
    finally:
        process.terminate()
        process.communicate(timeout=15)


def office(state: Path) -> Any:
    """The demo's office server: a real MCP server that speaks both eras."""
    return announced("-m", "gateway.demo.office", "--state", state)
