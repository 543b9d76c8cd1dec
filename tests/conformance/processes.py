"""The servers of a run: the fixture, and a real ``wardgate serve`` in front of it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from tests.conformance.eras import Era
from tests.e2e.gateway import ROOT, Wardgate

UPSTREAM: Final = "fixture"
_GRACE_S: Final = 10


def command(*, era: Era = "both", stdio: bool = False) -> list[str]:
    """How to start the fixture; for a gateway's configuration too."""
    return [
        sys.executable, "-m", "tests.conformance.server", "--era", era, *(["--stdio"] if stdio else []),
    ]  # fmt: skip


@contextmanager
def fixture(log: Path, *, era: Era = "both") -> Iterator[str]:
    """Serve the fixture over HTTP; yields its URL."""
    with log.open("wb") as output:
        process = subprocess.Popen(
            command(era=era),
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=output,
            start_new_session=True,
            text=True,
        )
    try:
        assert process.stdout is not None
        url = process.stdout.readline().strip()
        if not url:
            raise RuntimeError(f"the fixture did not start:\n{log.read_text()[-2000:]}")
        yield url
    finally:
        process.terminate()
        try:
            process.wait(_GRACE_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        if process.stdout is not None:
            process.stdout.close()


@contextmanager
def gateway(folder: Path, url: str) -> Iterator[tuple[str, str]]:
    """A gateway that allows everything in front of ``url``; yields its own URL for it and an agent's key."""
    wardgate = Wardgate(folder, {UPSTREAM: {"url": url, "tools": {"*": {"risk": "read"}}}})
    try:
        wardgate.start()
        yield f"{wardgate.agents_url}/mcp/{UPSTREAM}", wardgate.key()
        wardgate.stop()
    finally:
        wardgate.close()
