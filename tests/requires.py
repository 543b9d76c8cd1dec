"""What a test needs that pip does not bring.

On a developer's machine a test whose service is absent is skipped and says why. In CI, where ``.ci/run``
installs them all, absence is a failure: a test that silently never runs protects nobody.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest


def requires(*commands: str) -> pytest.MarkDecorator:
    """Mark a test, class or module as needing commands on the path: ``@requires("strace")``."""
    missing = [command for command in commands if shutil.which(command) is None]
    if missing and os.environ.get("CI") == "true":
        # Raised while the tests are collected, which fails the run.
        raise RuntimeError(f"CI lacks {', '.join(missing)}: have .ci/run install what tests need")
    return pytest.mark.skipif(bool(missing), reason=f"needs {', '.join(missing)} on the path")


def requires_folder(variable: str) -> pytest.MarkDecorator:
    """Mark a test as needing a folder that a variable names: ``requires_folder("OPA_CASES")``."""
    there = Path(os.environ.get(variable) or "/nowhere").is_dir()
    if not there and os.environ.get("CI") == "true":
        raise RuntimeError(f"CI lacks the folder {variable} names: have .ci/run set it")
    return pytest.mark.skipif(not there, reason=f"needs {variable} to name a folder")
