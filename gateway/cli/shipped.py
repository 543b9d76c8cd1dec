"""The policy packs that come with the gateway: in a checkout at the top, in a wheel inside the package."""

from __future__ import annotations

from pathlib import Path

import gateway
from gateway.cli.output import NOT_FOUND, fail


def pack(name: str) -> Path:
    """The folder of a shipped pack, such as ``starter``; raises ``Failure`` for an unknown one."""
    package = Path(gateway.__file__).parent
    for packs in (package / "_policies" / "packs", package.parent / "policies" / "packs"):
        if (packs / name).is_dir():
            return packs / name
    fail(f"There is no shipped policy pack '{name}'.", "The shipped packs are starter and strict.", NOT_FOUND)
