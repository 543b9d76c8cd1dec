"""A tool server nobody here wrote: ``mcp-server-git`` in an environment of its own, and a repository for it.

It is installed once into the user's cache, from a lock file with hashes, with uv where there is one and with
venv and pip where not. The folder is named after the lock's content, so a new lock is a new environment.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import sys
from hashlib import sha256
from pathlib import Path
from typing import Final

LOCK: Final = Path(__file__).with_name("git-server.lock")


class Unavailable(Exception):
    """A part of the demo that could not be set up; the message says which and why."""


def installed() -> Path:
    """The interpreter that can run ``-m mcp_server_git``; installs it on first use (10 to 40 s)."""
    name = sha256(LOCK.read_bytes() + sys.version.encode()).hexdigest()[:12]
    home = _cache() / f"mcp-server-git-{name}"
    python = home / "venv" / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    done = home / "installed"
    home.mkdir(parents=True, exist_ok=True)
    with (home / "lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)  # two demos at once must not install over each other
        if not done.exists():
            shutil.rmtree(home / "venv", ignore_errors=True)
            _install(home / "venv", python)
            done.touch()
    return python


def repository(folder: Path) -> Path:
    """A small repository with a history, made with the git command."""
    folder.mkdir()
    _git(folder, "init", "--quiet", "--initial-branch=main")
    for number, (name, text) in enumerate(
        (
            ("README.md", "# Invoice service\n"),
            ("rates.py", "VAT = 0.19\n"),
            ("rates.py", "VAT = 0.19\nREDUCED_VAT = 0.07\n"),
        ),
        1,
    ):
        (folder / name).write_text(text)
        _git(folder, "add", name)
        _git(folder, "commit", "--quiet", "-m", f"Change {number}: {name}")
    (folder / "rates.py").write_text("VAT = 0.19\nREDUCED_VAT = 0.07\nBOOKS_VAT = REDUCED_VAT\n")
    return folder


def commits(folder: Path) -> int:
    """How many commits the repository really has."""
    return int(_git(folder, "rev-list", "--count", "HEAD"))


def _install(venv: Path, python: Path) -> None:
    uv = shutil.which("uv")
    if uv is not None:
        _run([uv, "venv", "--quiet", "--python", sys.executable, str(venv)])
        install = [uv, "pip", "install", "--quiet", "--compile-bytecode", "--python", str(python)]
        _run([*install, "--require-hashes", "-r", str(LOCK)])
        return
    _run([sys.executable, "-m", "venv", str(venv)])
    _run([str(python), "-m", "pip", "install", "--quiet", "--require-hashes", "-r", str(LOCK)])


def _git(folder: Path, *arguments: str) -> str:
    identity = {
        "GIT_AUTHOR_NAME": "Demo", "GIT_AUTHOR_EMAIL": "demo@example.com",
        "GIT_COMMITTER_NAME": "Demo", "GIT_COMMITTER_EMAIL": "demo@example.com",
        "GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_SYSTEM": os.devnull,
    }  # fmt: skip
    return _run(["git", "-C", str(folder), *arguments], env={**os.environ, **identity})


def _run(command: list[str], env: dict[str, str] | None = None) -> str:
    try:
        done = subprocess.run(command, check=True, capture_output=True, text=True, env=env)
    except FileNotFoundError:
        raise Unavailable(f"the command '{command[0]}' is not installed") from None
    except subprocess.CalledProcessError as error:
        last = (error.stderr or error.stdout or "").strip().splitlines()[-3:]
        raise Unavailable(f"'{' '.join(command[:4])} …' failed: {' / '.join(last)}") from None
    return done.stdout


def _cache() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "wardgate"
