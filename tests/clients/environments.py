"""Builds the clients' environments under ``build/clients/``, once for each content of a lock.

Nothing is installed that its lock does not name with a hash, and no package's own install script runs.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final

from tests.clients.clients import HERE, NODE, Client, Environment

BUILD: Final = HERE.parents[1] / "build" / "clients"


class NotBuilt(Exception):
    """An environment could not be installed; the message says why."""


def build(environment: Environment) -> Path:
    """The folder of the installed environment; installs it unless that was done for this very lock."""
    parts = [environment.lock.read_bytes(), sys.version.encode(), environment.name.encode()]
    folder = BUILD / f"{environment.name}-{hashlib.sha256(b'|'.join(parts)).hexdigest()[:12]}"
    done = folder / ".done"
    if not done.exists():
        # Half an installation of a run that was interrupted, and those of former locks.
        for old in BUILD.glob(f"{environment.name}-????????????"):
            shutil.rmtree(old)
        folder.mkdir(parents=True)
        (_npm if environment.npm else _python)(environment, folder)
        done.touch()
    return folder


def command(client: Client, url: str) -> list[str]:
    """How to start the client's driver; its environment must be built."""
    folder = build(client.environment)
    if client.environment.npm:
        # Modules are found beside the script, so it is laid next to them.
        driver = folder / client.driver
        for file in HERE.glob("*.mjs"):
            shutil.copy(file, folder)
        return [str(node()), str(driver), url, client.mode]
    return [str(folder / "bin" / "python"), str(HERE / client.driver), url, client.mode]


def node() -> Path:
    """The Node of the lock; where the registry has none for this kind of machine, the one on the path."""
    found = [*sorted(build(NODE).glob("node_modules/node-*/bin/node")), shutil.which("node")]
    if found[0] is None:
        raise NotBuilt("there is no Node for this kind of machine in tests/clients/npm/node, nor on the path")
    return Path(found[0])


def _python(environment: Environment, folder: Path) -> None:
    uv = None if os.environ.get("NO_UV") else shutil.which("uv")
    python = folder / "bin" / "python"
    if uv:
        _run(uv, "venv", "--quiet", "--python", sys.executable, "--allow-existing", str(folder))
        install = [uv, "pip", "install", "--quiet", "--python", str(python)]
    else:
        _run(sys.executable, "-m", "venv", str(folder))
        install = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    _run(*install, "--require-hashes", "--only-binary", ":all:", "-r", str(environment.lock))


def _npm(environment: Environment, folder: Path) -> None:
    npm = shutil.which("npm")
    if npm is None:
        raise NotBuilt("npm is not installed, and the clients written in TypeScript need it")
    for name in ("package.json", "package-lock.json"):
        shutil.copy(environment.lock.with_name(name), folder)
    _run(npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel", "error", cwd=folder)


def lock(environment: Environment) -> None:
    """Write the lock anew (needs uv, or npm)."""
    environment.lock.parent.mkdir(parents=True, exist_ok=True)
    if environment.npm:
        options = ["--package-lock-only", "--ignore-scripts", "--no-audit", "--no-fund", "--force",
                   "--omit-lockfile-registry-resolved"]  # fmt: skip
        environment.lock.unlink(missing_ok=True)
        _run("npm", "install", *options, cwd=environment.lock.parent)
        return
    options = ["--quiet", "--universal", "--python-version", "3.11", "--generate-hashes", "--upgrade",
               "--no-emit-index-url", "--no-annotate", "--custom-compile-command",
               "make lock-clients"]  # fmt: skip
    wanted = "".join(f"{requirement}\n" for requirement in environment.requires)
    _run("uv", "pip", "compile", *options, "-", "-o", str(environment.lock), stdin=wanted)


def _run(*words: str, cwd: Path | None = None, stdin: str | None = None) -> None:
    ours = ("VIRTUAL_ENV", "PYTHONPATH", "PYTHONDONTWRITEBYTECODE")
    env = {name: value for name, value in os.environ.items() if name not in ours}
    done = subprocess.run(words, cwd=cwd, input=stdin, capture_output=True, text=True, timeout=600, env=env)
    if done.returncode:
        raise NotBuilt(f"{' '.join(words[:4])} … failed:\n{(done.stderr or done.stdout)[-2000:]}")
