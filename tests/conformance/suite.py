"""The official suite: installed once from the lock beside it, then run as a process of bounded time.

It needs npm. It brings its own Node where there is one for this platform, because the suite wants 22 or
newer; elsewhere the machine's is used. No install script runs.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import msgspec

from tests.conformance import results

HERE: Final = Path(__file__).parent / "suite"
REVISIONS: Final = ("2025-11-25", "2026-07-28")
HEADERS: Final = ("http-header-validation", "http-custom-header-server-validation")
DIRECT: Final = (*REVISIONS, "headers")
UPSTREAMS: Final = ("legacy", "modern", "stdio-legacy", "stdio-modern")
LEGS: Final = (*DIRECT, *(f"{revision}/{upstream}" for upstream in UPSTREAMS for revision in REVISIONS))
"""What is run, and behind a slash the upstream meanwhile; of both eras and over HTTP where none is named."""

_PRELOAD: Final = "bearer.mjs"
_LOCKED: Final = ("package.json", "package-lock.json", ".npmrc")
_INSTALL_S: Final = 300
_LEG_S: Final = 300
_SCENARIO_MS: Final = 15_000
_NODE: Final = 22  # the oldest the suite runs on


class CannotRun(Exception):
    """The suite is not here or did not run to its end; the message says what to do."""


class Suite(msgspec.Struct, frozen=True):
    """An installed suite."""

    folder: Path
    node: str

    @property
    def package(self) -> Path:
        return self.folder / "node_modules" / "@modelcontextprotocol" / "conformance"

    @property
    def version(self) -> str:
        version: str = msgspec.json.decode((self.package / "package.json").read_bytes())["version"]
        return version

    def requirements(self, leg: str, side: str = "server") -> results.Requirements:
        kind, _ = parts(leg)
        if kind not in REVISIONS:
            return results.Requirements(list(HEADERS), [])
        return results.requirements(self.package / "requirements" / f"{kind}.yaml", side)

    def legs_of(self, scenario: str) -> list[str]:
        """The legs that run a scenario."""
        found = [
            leg
            for leg in LEGS
            if scenario in (wanted := self.requirements(leg)).scored or scenario in wanted.unscored
        ]
        if not found:
            raise CannotRun(f"no leg runs a scenario '{scenario}'")
        return found


def parts(leg: str) -> tuple[str, str]:
    """The kind of a leg, and its upstream."""
    kind, _, upstream = leg.partition("/")
    return kind, upstream or "both"


def install(build: Path) -> Suite:
    """What the lock names, in ``build``; nothing is done when it is there already."""
    files = {name: (HERE / name).read_bytes() for name in _LOCKED}
    digest = hashlib.sha256(b"\0".join(files.values())).hexdigest()
    folder = build / "suite"
    stamp = folder / "installed"
    if not stamp.exists() or stamp.read_text() != digest:
        npm = shutil.which("npm")
        if npm is None:
            raise CannotRun("npm is not on the path; install it (Debian: apt-get install npm)")
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        for name, data in files.items():
            (folder / name).write_bytes(data)
        code, said = bounded(
            [npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund"], folder, {}, _INSTALL_S
        )
        if code != 0:
            raise CannotRun(f"npm ci failed:\n{said[-2000:]}")
        stamp.write_text(digest)
    # Beside the packages, so that it finds the suite's own undici.
    shutil.copyfile(HERE / _PRELOAD, folder / _PRELOAD)
    return Suite(folder, _node(folder))


def _node(folder: Path) -> str:
    ours = folder / "node_modules" / ".bin" / "node"
    node = str(ours) if ours.exists() else shutil.which("node")
    if node is None:
        raise CannotRun(f"there is no Node for this platform in the lock; install Node {_NODE} or newer")
    said = subprocess.run([node, "--version"], capture_output=True, text=True, timeout=30).stdout
    major = re.match(r"v(\d+)\.", said)
    if major is None or int(major[1]) < _NODE:
        raise CannotRun(f"{node} is {said.strip() or 'no Node'}; the suite needs Node {_NODE} or newer")
    return node


def run(
    suite: Suite, leg: str, url: str, work: Path, *, key: str = "", scenario: str | None = None
) -> tuple[list[results.Scenario], float]:
    """Run a leg against a server; returns what was found and the seconds it took."""
    output = work / leg.replace("/", "-to-")
    shutil.rmtree(output, ignore_errors=True)
    output.mkdir(parents=True)
    env, preload = {}, []
    if key:
        place = urlsplit(url)
        env = {"CONFORMANCE_BEARER": key, "CONFORMANCE_ORIGIN": f"{place.scheme}://{place.netloc}"}
        preload = ["--import", str(suite.folder / _PRELOAD)]
    began = time.monotonic()
    said = ""
    for arguments in _arguments(leg, scenario):
        command = [
            suite.node, *preload, str(suite.package / "dist" / "index.js"), "server", "--url", url,
            *arguments, "--timeout", str(_SCENARIO_MS), "--output-dir", str(output),
        ]  # fmt: skip
        # The exit code is the suite's own verdict, which knows nothing of what is expected here.
        _, more = bounded(command, suite.folder, env, _LEG_S)
        said += more
    output.with_suffix(".log").write_text(said)
    found = results.read(output, None if scenario else suite.requirements(leg).scored)
    if not found:
        raise CannotRun(f"the suite wrote no results for {leg}:\n{said[-2000:]}")
    return found, time.monotonic() - began


def _arguments(leg: str, scenario: str | None) -> list[list[str]]:
    kind, _ = parts(leg)
    if kind == "headers":
        return [["--scenario", name] for name in ([scenario] if scenario else HEADERS)]
    if scenario:
        return [["--scenario", scenario, "--spec-version", kind]]
    return [["--requirements", kind]]


def bounded(
    command: Sequence[str], folder: Path, env: Mapping[str, str], timeout_s: float
) -> tuple[int, str]:
    """Exit code and output of a command. When time is up it ends, and with it what it started."""
    process = subprocess.Popen(
        command, cwd=folder, env={**os.environ, **env}, start_new_session=True,
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    try:
        said, _ = process.communicate(timeout=timeout_s)
    except subprocess.TimeoutExpired:
        raise CannotRun(f"{command[0]} did not end within {timeout_s:.0f} s") from None
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
    return process.returncode, said
