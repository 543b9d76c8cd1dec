"""``wardgate.env``: the secrets of ``wardgate.yaml``, beside it, readable by their owner only.

``NAME=value`` lines; a value may be a JSON string in double quotes. The real environment wins, so the file
can be replaced by whatever a deployment uses for its secrets.
"""

from __future__ import annotations

import json
import os
import re
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from gateway.errors import ConfigError

_LINE: Final = re.compile(r"(?:export\s+)?([A-Za-z_][A-Za-z0-9_]*)\s*=\s*(.*)")


def beside(config_path: Path) -> Path:
    return config_path.resolve().parent / "wardgate.env"


def apply(config_path: Path) -> Path | None:
    """Add what the file beside the configuration sets to the environment; the file, or ``None``."""
    path = beside(config_path)
    try:
        with path.open(encoding="utf-8") as file:
            mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
            text = file.read()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from error
    if mode & 0o077:
        raise ConfigError(
            f"{path} has mode {mode:04o}, so others can read its secrets: run 'chmod 600 {path}'"
        )
    for name, value in parse(text, path).items():
        os.environ.setdefault(name, value)
    return path


def parse(text: str, path: Path) -> dict[str, str]:
    """Variables that have a value; an empty one stays unset, so that its absence is reported by name."""
    values = {}
    for number, line in enumerate(text.splitlines(), 1):
        line = line.strip()
        if not line or line.startswith("#"):
            continue
        match = _LINE.fullmatch(line)
        if match is None:
            raise ConfigError(f"{path}:{number}: expected NAME=value")
        name, value = match[1], match[2].strip()
        if value.startswith('"'):
            try:
                value = str(json.loads(value))
            except ValueError:
                raise ConfigError(f"{path}:{number}: the quoted value of {name} is not valid") from None
        if value:
            values[name] = value
    return values


def render(values: Mapping[str, str]) -> str:
    lines = [
        "# Secrets of wardgate.yaml. Keep this file out of version control; its mode must stay 0600.",
        "# 'wardgate serve' reads it; variables that are already set win.",
    ]
    for name, value in sorted(values.items()):
        plain = re.fullmatch(r"[A-Za-z0-9_./:@+=,~-]*", value)
        lines.append(f"{name}={value if plain else json.dumps(value)}")
    return "\n".join(lines) + "\n"
