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
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import msgspec

from tests.conformance import results

ROOT: Final = Path(__file__).parents[2]
HERE: Final = Path(__file__).parent / "suite"
REVISIONS: Final = ("2025-11-25", "2026-07-28")
HEADERS: Final = ("http-header-validation", "http-custom-header-server-validation")
DIRECT: Final = (*REVISIONS, "headers")
CLIENT: Final = {
    "client-2025-11-25": (
        "initialize", "tools_call", "elicitation-sep1034-client-defaults", "sse-retry",
        "json-schema-2020-12-preservation",
    ),
    "client-2026-07-28": (
        "tools_call", "request-metadata", "sep-2322-client-request-state", "http-standard-headers",
        "http-custom-headers", "http-invalid-tool-headers", "json-schema-ref-no-deref",
        "json-schema-2020-12-preservation",
    ),
}  # fmt: skip
"""The scenarios that test a client, run on what the gateway sends upstream. Those of ``auth/`` are left out:
the gateway sends an upstream the credentials of its configuration and fetches none."""
UPSTREAMS: Final = ("legacy", "modern", "stdio-legacy", "stdio-modern")
LEGS: Final = (
    *DIRECT,
    *(f"{revision}/{upstream}" for upstream in UPSTREAMS for revision in REVISIONS),
    *CLIENT,
)
"""What is run, and behind a slash the upstream meanwhile; of both eras and over HTTP where none is named."""

_PRELOAD: Final = "bearer.mjs"
_LOCKED: Final = ("package.json", "package-lock.json", ".npmrc")
_INSTALL_S: Final = 300
_LEG_S: Final = 300
_SCENARIO_MS: Final = 15_000
_CLIENT_MS: Final = 60_000  # a gateway is started meanwhile
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

    def requirements(self, leg: str) -> results.Requirements:
        kind, _ = parts(leg)
        if kind in REVISIONS:
            return results.requirements(self.package / "requirements" / f"{kind}.yaml", "server")
        return results.Requirements(list(CLIENT.get(kind, HEADERS)), [])

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
    """The kind of a leg and its upstream, which is none where the suite is the upstream."""
    kind, _, upstream = leg.partition("/")
    return kind, upstream or ("" if kind in CLIENT else "both")


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
    """Run a leg, as a rule against the server at ``url``; returns what was found and the seconds it took."""
    output = work / leg.replace("/", "-to-")
    shutil.rmtree(output, ignore_errors=True)
    output.mkdir(parents=True)
    env, preload = {"PYTHONPATH": str(ROOT)}, []
    if key:
        place = urlsplit(url)
        env |= {"CONFORMANCE_BEARER": key, "CONFORMANCE_ORIGIN": f"{place.scheme}://{place.netloc}"}
        preload = ["--import", str(suite.folder / _PRELOAD)]
    began = time.monotonic()
    found: list[results.Scenario] = []
    with output.with_suffix(".log").open("w") as log:
        for name, arguments in _commands(leg, url, scenario):
            command = [
                suite.node, *preload, str(suite.package / "dist" / "index.js"), *arguments,
                "--output-dir", str(output),
            ]  # fmt: skip
            code, said = bounded(command, suite.folder, env, _LEG_S)
            log.write(said)
            found = results.read(output, None if name else suite.requirements(leg).scored)
            ran = [each for each in found if each.scored and name in (None, each.name)]
            # Its exit code is the suite's own verdict, which knows nothing of what is expected here; but when
            # it fails without a check that does, it crashed, or the client under test did.
            if not ran or (code != 0 and not any(each.failed for each in ran)):
                raise CannotRun(f"{leg} {name or ''} ended with {code} and no result:\n{said[-4000:]}")
    return found, time.monotonic() - began


def _commands(leg: str, url: str, scenario: str | None) -> list[tuple[str | None, list[str]]]:
    """The runs of a leg: the scenario each is of, if it is one, and the suite's arguments."""
    kind, _ = parts(leg)
    server = ["server", "--url", url, "--timeout", str(_SCENARIO_MS)]
    if kind == "headers":
        return [(name, [*server, "--scenario", name]) for name in HEADERS if scenario in (None, name)]
    if kind in CLIENT:
        revision = kind.removeprefix("client-")
        driver = f"{sys.executable} -m tests.conformance.behind"
        client = ["client", "--command", driver, "--spec-version", revision, "--timeout", str(_CLIENT_MS)]
        return [(name, [*client, "--scenario", name]) for name in CLIENT[kind] if scenario in (None, name)]
    if scenario:
        return [(scenario, [*server, "--scenario", scenario, "--spec-version", kind])]
    return [(None, [*server, "--requirements", kind])]


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
        # Also when it ended by itself: a client that took too long was left behind by the suite.
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
    return process.returncode, said
