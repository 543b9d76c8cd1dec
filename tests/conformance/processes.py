"""The servers of a run: the fixture, and a real ``wardgate serve`` in front of it."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, cast

from tests.conformance.eras import Era
from tests.e2e.gateway import ROOT, Wardgate

UPSTREAM: Final = "fixture"
_GRACE_S: Final = 10
_BYTECODE: Final = ROOT / "build" / "conformance" / "bytecode"  # kept: compiling is half of a start


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
def upstream(name: str, log: Path) -> Iterator[dict[str, Any]]:
    """The fixture as a section of a gateway's configuration: ``both``, ``legacy``, ``stdio-modern`` …"""
    transport, _, era = name.rpartition("-")
    if transport == "stdio":
        yield {"command": command(era=cast("Era", era), stdio=True), "cwd": str(ROOT)}
        return
    with fixture(log, era=cast("Era", era)) as url:
        yield {"url": url}


@contextmanager
def gateway(folder: Path, section: Mapping[str, Any], log: Path) -> Iterator[tuple[str, str]]:
    """A gateway that allows everything in front of one upstream; yields its URL and an agent's key."""
    wardgate = Wardgate(folder, {UPSTREAM: {**section, "tools": {"*": {"risk": "read"}}}})
    wardgate.env["PYTHONPYCACHEPREFIX"] = str(_BYTECODE)
    try:
        wardgate.start()
        yield f"{wardgate.agents_url}/mcp/{UPSTREAM}", wardgate.key()
        wardgate.stop()
    finally:
        wardgate.close()
        if wardgate.log_path.exists():
            shutil.copyfile(wardgate.log_path, log)
