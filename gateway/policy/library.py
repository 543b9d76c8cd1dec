"""Where the shipped policies are: beside the package in a checkout, inside it in an installed wheel."""

from __future__ import annotations

from pathlib import Path

from gateway.errors import ConfigError


def library_path() -> Path:
    """The folder that holds ``lib/`` and ``packs/``."""
    package = Path(__file__).resolve().parent.parent
    for candidate in (package / "_policies", package.parent / "policies"):
        if (candidate / "lib").is_dir():
            return candidate
    raise ConfigError("the shipped policies are missing from this installation; install wardgate again")


def packs() -> tuple[str, ...]:
    """Names of the shipped packs."""
    return tuple(sorted(path.name for path in (library_path() / "packs").iterdir() if path.is_dir()))
